//! Groups Resources and Process: what the machine does.

use mutua_proxy::reasons::Reason;

use super::{Case, PROCESS, RESOURCES, refused, told};

pub(super) const CASES: &[Case] = &[
    told(
        RESOURCES,
        "few_descriptors",
        "TOO_MANY_CONNECTIONS beyond what fits; the admin socket answers",
        "64 file descriptors, 200 connections.",
    ),
    told(
        RESOURCES,
        "little_memory",
        "TOO_MANY_CONNECTIONS beyond what fits; never killed",
        "32 MB of memory, 2,000 connections.",
    ),
    told(RESOURCES, "full_disk", "served and renewed all the same", "State folder and log on a full disk."),
    told(
        RESOURCES,
        "read_only_disk",
        "served and renewed all the same; a start there says what is missing",
        "The state folder becomes read-only.",
    ),
    told(RESOURCES, "little_cpu", "slow, and right", "Ten milliseconds of CPU a second."),
    told(RESOURCES, "no_ephemeral_ports", "APPLICATION_UNREACHABLE, and served again afterwards", "All local ports taken."),
    told(
        RESOURCES,
        "full_conntrack",
        "open connections go on, new ones are served again afterwards",
        "The kernel drops what would be a new entry.",
    ),
    told(
        PROCESS,
        "killed_mid_transfer",
        "the far application sees a reset, never a shorter whole",
        "kill -9 of the caller's sidecar in a transfer.",
    ),
    told(
        PROCESS,
        "control_plane_killed",
        "connections and policy stay; followed again afterwards",
        "kill -9 of the control plane.",
    ),
    told(
        PROCESS,
        "stopped_with_live_connections",
        "open ones go on for --drain, then SHUTDOWN; exit code 0",
        "SIGTERM with live connections.",
    ),
    told(
        PROCESS,
        "restart_without_control_plane",
        "served as before by what is kept below --state, followed again without a gap; kept state that is damaged or that others may write is refused",
        "kill -9 of control plane and sidecars; the sidecars start alone.",
    ),
    refused(PROCESS, "panic_in_one_connection", Reason::InternalError, "The sidecar panics on one connection."),
    told(PROCESS, "upgrade_under_load", "no connection is refused", "The binary is replaced under load."),
    told(
        PROCESS,
        "two_on_one_port",
        "the second says which address is taken, exit code 2; the first goes on",
        "A second sidecar on the same ports.",
    ),
];
