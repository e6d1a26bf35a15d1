#![doc = env!("CARGO_PKG_DESCRIPTION")]
//!
//! [`discovery`] is Envoy's delta discovery service, [`certificate`] Istio's certificate service, [`mesh`] what
//! our own proxies are told and report. `proto/` holds the sources; `cargo test -p mutua-wire --features codegen`
//! compares `src/generated` with them, and rewrites it when `UPDATE_GENERATED=1` is set.

#[cfg(feature = "codegen")]
pub mod codegen;
pub mod node;
mod resource;

pub use resource::{MeshResource, UnpackError, content_version};

/// Envoy's delta discovery service (`envoy.service.discovery.v3`), trimmed.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod discovery {
    include!("generated/envoy.service.discovery.v3.rs");
}

/// Istio's certificate service (`istio.v1.auth`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod certificate {
    include!("generated/istio.v1.auth.rs");
}

/// Mutua's own resources and reports (`mutua.mesh.v1`).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod mesh {
    include!("generated/mutua.mesh.v1.rs");
}

impl std::fmt::Debug for mesh::Credential {
    /// What it holds is printed nowhere.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("problem", &self.problem).finish_non_exhaustive()
    }
}
