#![doc = env!("CARGO_PKG_DESCRIPTION")]
//!
//! The way of a connection: [`capture`] tells where it wanted to go; [`inbound`] and [`outbound`] decide with what
//! [`detect`] sees in the first bytes and what [`world`] knows; [`tls`] proves who is there; [`relay`] copies, and [`observe`] looks on. Beside it:
//! [`dns`] tells the mesh's names, [`probes`] asks the application for the kubelet, [`discovery`] and [`certificate`] keep the world current, [`kept`] over a restart,
//! [`drain`] ends what it no longer allows, and
//! [`connections`], [`flows`], [`telemetry`], [`admin`] and [`report`] tell what happens.

pub mod access_log;
pub mod admin;
pub mod capacity;
pub mod capture;
pub mod certificate;
pub mod connections;
pub mod control_plane;
pub mod detect;
pub mod discovery;
pub mod dns;
pub mod drain;
pub mod flows;
pub mod handover;
pub mod inbound;
pub mod kept;
pub mod limits;
mod listeners;
mod notify;
pub mod observe;
pub mod outbound;
pub mod peers;
pub mod probes;
pub mod reasons;
pub mod redirect;
pub mod relay;
pub mod report;
mod run;
mod service;
pub mod settings;
pub mod sidecar;
pub mod static_file;
pub mod telemetry;
pub mod tls;
mod workers;
pub mod world;

/// The version and, in brackets, the fingerprint of the sidecar's sources: programs with the same hold the same sidecar.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("MUTUA_SIDECAR_SOURCES"), ")");

pub use run::{StartError, keep_memory_small, run};
pub use settings::Settings;
