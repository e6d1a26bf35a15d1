//! One call, and everything that shows what became of it: the caller's own outcome, what both sidecars recorded, what
//! passed in clear on the bridge, and what `explain` says about it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use mutua_lab::services::Outcome;
use mutua_lab::{Marker, SENTINEL, Sightings};
use serde::Deserialize;

use super::Stop;
use super::ask::Explained;
use super::scenario::{By, CERTIFICATE_OF, Row, TRUST_DOMAIN, Workload, callee, workload};
use super::world::{World, address};
use crate::api_client::Api;

/// What was seen of one call.
#[derive(Debug)]
pub(crate) struct Seen {
    pub outcome: Outcome,
    /// Where the marker passed in clear.
    pub clear: Sightings,
    /// The datagram after the call was heard: so was everything before it.
    pub heard: bool,
    /// What the caller's sidecar recorded.
    pub client: Option<Record>,
    /// What the sidecar of who was called recorded.
    pub server: Option<Record>,
    /// What `explain` says about the pair; not asked about callers that speak TLS themselves.
    pub explained: Option<Explained>,
    pub caller: &'static Workload,
    pub callee: &'static Workload,
}

/// One connection in a sidecar's list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    pub direction: String,
    pub peer_address: String,
    pub original_destination: String,
    /// Empty while it is not decided.
    pub outcome: String,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub tls_version: Option<String>,
    pub cipher: Option<String>,
    pub group: Option<String>,
    pub local_id: Option<String>,
    pub peer_id: Option<String>,
    /// Milliseconds since 1970.
    pub start: u64,
}

/// How long the sidecars may take to list a connection that has just ended.
const LISTED_WITHIN: Duration = Duration::from_secs(3);

/// Makes one call and gathers the evidence.
pub(crate) fn make(world: &World, row: &Row, stop: &Stop) -> anyhow::Result<Seen> {
    let caller = workload(row.from).with_context(|| format!("{} is no workload of the scenario", row.from))?;
    let (callee, port) = callee(row.to).with_context(|| format!("{} is no service of the scenario", row.to))?;
    let (marker, sentinel) = (Marker::random(), Marker::random());
    let begun = now();
    let outcome = call(world, row, &marker, &sentinel)?;
    let heard = world.sniffer.wait_for(&sentinel, Duration::from_secs(5));
    let by_itself = matches!(row.by, By::Tls | By::Tls12);
    let client = match outcome.local {
        Some(local) if caller.sidecar => {
            let sought = |record: &Record| {
                record.direction == "outbound" && record.peer_address == local.to_string() && record.start >= begun
            };
            find(world, caller, stop, sought)?
        }
        _ => None,
    };
    let server = if callee.sidecar {
        let original = SocketAddr::from((address(callee.number), port)).to_string();
        let from = address(caller.number);
        let sought = |record: &Record| {
            record.direction == "inbound"
                && record.original_destination == original
                && peer(record) == Some(from)
                && record.start >= begun
        };
        find(world, callee, stop, sought)?
    } else {
        None
    };
    let explained = if by_itself { None } else { Some(world.control.explain(row.from, row.to)?) };
    Ok(Seen { outcome, clear: world.sniffer.sightings(&marker), heard, client, server, explained, caller, callee })
}

fn call(world: &World, row: &Row, marker: &Marker, sentinel: &Marker) -> anyhow::Result<Outcome> {
    let scheme = match row.by {
        By::Http => "http",
        By::Tcp => "tcp",
        By::Tls | By::Tls12 => "mesh",
    };
    let url = format!("{scheme}://{}/", row.to);
    let mut command = world.lab(&["call", &url, "--marker", marker.as_str()]);
    command.args(["--sentinel", &SENTINEL.to_string(), "--sentinel-marker", sentinel.as_str()]);
    if matches!(row.by, By::Tls | By::Tls12) {
        let state = world.sidecar_state(CERTIFICATE_OF);
        command.arg("--certificate").arg(state.join("cert-chain.pem")).arg("--key").arg(state.join("key.pem"));
        command.arg("--roots").arg(world.roots()).args(["--trust-domain", TRUST_DOMAIN]);
    }
    if row.by == By::Tls12 {
        command.arg("--tls12");
    }
    let printed = world.network.host(row.from)?.namespace.run(&mut command)?;
    serde_json::from_str(&printed).context("what mutua lab call prints")
}

/// The newest connection that fits; none when the sidecar does not list one in time.
fn find(world: &World, of: &Workload, stop: &Stop, sought: impl Fn(&Record) -> bool) -> anyhow::Result<Option<Record>> {
    let socket = world.sidecar_state(of.name).join("admin.sock").to_string_lossy().into_owned();
    let admin = Api { api: Some(socket), state: None };
    let deadline = Instant::now() + LISTED_WITHIN;
    loop {
        let listed: Vec<Record> = admin.get("/connections").with_context(|| format!("asking the sidecar of {}", of.name))?;
        let fitting = listed.into_iter().filter(|record| !record.outcome.is_empty() && sought(record));
        if let Some(record) = fitting.max_by_key(|record| record.start) {
            return Ok(Some(record));
        }
        if Instant::now() > deadline || stop.asked() {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn peer(record: &Record) -> Option<Ipv4Addr> {
    match record.peer_address.parse::<SocketAddr>().ok()?.ip() {
        std::net::IpAddr::V4(address) => Some(address),
        std::net::IpAddr::V6(address) => address.to_ipv4_mapped(),
    }
}

fn now() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
}
