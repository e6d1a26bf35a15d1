//! Trees to typed objects. Conversion never fails: what a field cannot hold counts as absent, and the checks have said
//! so where it matters.

mod authorization_policy;
mod destination_rule;
mod istio;
mod peer_authentication;
mod protocol;
mod secret;
mod service;
mod service_entry;
mod sidecar;
mod workload;

pub use authorization_policy::authorization_policy;
pub use destination_rule::destination_rule;
pub use istio::{istio, mesh_config};
pub use peer_authentication::peer_authentication;
#[cfg(test)]
pub use protocol::of_service_port;
pub use secret::secret;
pub use service::{endpoint_slice, service};
pub use service_entry::{service_entry, workload_entry};
pub use sidecar::sidecar;
pub use workload::{controller, pod};

use super::object::labels;
use super::tree::Node;
use crate::Labels;

/// Labels, `None` when there are none at all.
fn labels_if_any(node: &Node) -> Option<Labels> {
    Some(labels(node)).filter(|labels| !labels.is_empty())
}
