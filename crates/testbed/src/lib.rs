#![doc = env!("CARGO_PKG_DESCRIPTION")]
//!
//! - [`mesh`]: sidecars over loopback, with the capture rules' answer given by the test, and applications behind them.
//! - [`wire`]: resources as the control plane would send them.
//! - [`plane`]: a control plane that does what the test says, over the true protocols; [`member`]: a sidecar that follows it.
//! - [`envoy`]: stock Envoy. [`grpc`]: a gRPC server and its callers.
//! - [`kubernetes`]: a small API server of Kubernetes over HTTP.
//! - [`swarm`]: thousands of simulated proxies over the true protocols, each with what it holds.
//! - [`pki`]: a plugged-in CA with revocation lists, by openssl.
//! - [`jwt`]: an issuer of service account tokens, by openssl; [`documents`]: a web server for what it publishes.
//! - [`peers`]: callers, of the mesh and foreign; [`hello`]: ClientHellos that no library would send.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

pub mod cases;
pub mod documents;
pub mod envoy;
pub mod grpc;
pub mod hello;
pub mod jwt;
pub mod kubernetes;
pub mod member;
pub mod mesh;
pub mod peers;
pub mod pki;
pub mod plane;
pub mod swarm;
pub mod wire;

pub use pki::Pki;

pub use mesh::{App, Authority, CLIENT, PATIENCE, Running, SERVER, Wanted, read_exactly, read_to_end};
