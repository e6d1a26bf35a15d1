#![doc = env!("CARGO_PKG_DESCRIPTION")]
//!
//! [`Engine::new`] indexes a snapshot once: [`workload`]s, [`service`]s with their endpoints, [`peer_authentication`] and
//! [`destination_rule`] policies. Every question goes the same way: the client's decision ([`client`]), then what it means
//! for one [`endpoint`], then what the server does with it ([`outcome`]). [`inbound`] and [`outbound`] are those answers
//! for a proxy, [`Engine::service_locks`] for a console, [`explain`] the same for people, with the trace of what decided. [`findings`] tells what is wrong with
//! resources that are each valid by themselves.

mod allocate;
mod client;
mod client_class;
pub mod compare;
mod credential;
mod decisions;
mod destination_rule;
mod endpoint;
mod engine;
pub mod explain;
pub mod findings;
mod host;
mod inbound;
pub mod injection;
mod locks;
mod names;
mod outbound;
mod outcome;
mod peer_authentication;
mod rule_views;
mod service;
mod shared_endpoints;
mod trace;
mod visibility;
mod workload;

pub use client::ClientDecision;
pub use client_class::ClientClass;
pub use credential::{Credential, NoCredential};
pub use decisions::{Decisions, PortDecision, Work};
pub use engine::{Engine, QueryError};
pub use explain::{ClientAnswer, ConnectionAnswer, ConnectionQuery, EndpointAnswer, ServerFirst, WorkloadAnswer};
pub use inbound::{Inbound, InboundPort, ServiceRef};
pub use locks::{Lock, PortLock, ServiceLocks};
pub use outbound::{Destination, DestinationEndpoint, DestinationPort, TlsSettings};
pub use outcome::Outcome;
pub use trace::{Step, Verdict};
pub use workload::Workload;

#[cfg(test)]
mod tests;
