//! Decisions for people: one connection, or what a workload accepts, with the trace of what decided.

mod connection;
mod endpoints;
mod help;
mod target;
mod workload;
mod workload_help;

pub use connection::{ClientAnswer, ConnectionAnswer, ConnectionQuery, EndpointAnswer};
pub use workload::{ServerFirst, WorkloadAnswer};
