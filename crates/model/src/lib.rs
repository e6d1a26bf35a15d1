#![doc = env!("CARGO_PKG_DESCRIPTION")]
//!
//! In goes text ([`read`]: files, folders, standard input); out comes a [`Mesh`] of typed, checked objects
//! whose every field knows the file, line and column it was written in, and a list of [`Diagnostic`]s.
//! Nothing here knows how objects act together: that is `mutua-policy`.

mod apply;
pub mod authority;
pub mod authorization_policy;
pub mod destination_rule;
pub mod diagnostic;
pub mod discovery;
pub mod istio;
mod list;
pub mod mesh;
pub mod meta;
pub mod origin;
pub mod peer_authentication;
pub mod read;
pub mod secret;
pub mod service;
pub mod sidecar;
pub mod workload;

pub use authority::{Authorities, Certificate};
pub use authorization_policy::AuthorizationPolicy;
pub use destination_rule::{ClientTls, ClientTlsMode, DestinationRule, Subset, TrafficPolicy};
pub use diagnostic::{Diagnostic, Severity};
pub use discovery::LabelSelector;
pub use istio::{Istio, MeshAuthority, MeshConfig, OutboundPolicy, TlsVersion};
pub use list::List;
pub use mesh::Mesh;
pub use meta::{Kind, Labels, Meta, ObjectRef};
pub use origin::{Place, Places};
pub use peer_authentication::{MtlsMode, PeerAuthentication};
pub use secret::{Secret, SecretText, SecretValue};
pub use service::{AppProtocol, EndpointSlice, Resolution, Service, ServiceEntry, ServicePort};
pub use sidecar::Sidecar;
pub use workload::{Controller, Namespace, Pod, Unenforced, WorkloadEntry};
