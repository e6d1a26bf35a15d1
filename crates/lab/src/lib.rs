//! One machine as a network, for the demo and for tests that need the true capture rules.
//!
//! - [`privilege`]: root, or a user namespace of our own.
//! - [`Network`]: one network namespace per host, all on a bridge that stands in a namespace of its own, so that the
//!   machine's firewall is never crossed. Nothing is entered into `/run/netns`: a namespace lives as long as we hold its
//!   descriptor or a process runs in it.
//! - [`Door`]: what listens on loopback in a host, at an address of the machine.
//! - [`Process`]: a program inside such a host; the kernel ends it when we end, however we end.
//! - [`Sniffer`]: every frame on the bridge, searched for the markers that requests carry.
//! - [`services`]: small real programs to be called, and the callers.
//! - [`folder::StateFolder`]: where all of it keeps its files; what a killed run left is removed by the next.

mod door;
pub mod error;
pub mod folder;
pub mod marker;
mod namespace;
mod network;
pub mod privilege;
mod process;
pub mod services;
mod sniffer;

pub use door::Door;
pub use error::LabError;
pub use marker::Marker;
pub use namespace::Namespace;
pub use network::{GATEWAY, Host, Network, RUN, SENTINEL, Service};
pub use process::{Ending, Process};
pub use sniffer::{Flow, Sightings, Sniffer};
