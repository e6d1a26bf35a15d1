//! The schemas of Istio's kinds, as their CustomResourceDefinitions publish them.

mod mesh_config;
mod networking;
mod providers;
mod proxy_config;
mod security;
mod services;
mod traffic;

pub use mesh_config::MESH_CONFIG;

use super::types::Object;
use crate::Kind;

/// The schema of a kind's `spec`; `None` for kinds that are read leniently.
pub fn spec(kind: Kind) -> Option<&'static Object> {
    match kind {
        Kind::PeerAuthentication => Some(&security::PEER_AUTHENTICATION),
        Kind::AuthorizationPolicy => Some(&security::AUTHORIZATION_POLICY),
        Kind::DestinationRule => Some(&networking::DESTINATION_RULE),
        Kind::Sidecar => Some(&networking::SIDECAR),
        Kind::ServiceEntry => Some(&services::SERVICE_ENTRY),
        Kind::WorkloadEntry => Some(&services::WORKLOAD_ENTRY),
        Kind::WorkloadGroup => Some(&services::WORKLOAD_GROUP),
        Kind::Istio => Some(&mesh_config::ISTIO),
        _ => None,
    }
}
