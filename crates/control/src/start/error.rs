//! Why a control plane does not run.

use std::net::SocketAddr;

use crate::api;
use crate::sign::jwks::JwksError;
use crate::sign::own::OwnError;
use crate::sign::rotation;
use crate::source::{LeaderError, Rejected};
use crate::state::StateError;
use crate::world::ApplyError;

/// Why the control plane does not run. Each says what to do in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The lead cannot be asked for, or was lost.
    #[error(transparent)]
    Leader(#[from] LeaderError),
    /// Nobody said where the configuration is.
    #[error("where is the configuration? --config DIR names a folder of YAML, --kubernetes a cluster")]
    NoConfiguration,
    /// Invalid configuration, and no state from before that could be kept.
    #[error("{}", describe(.0))]
    Config(Rejected),
    /// The configuration cannot be put into force.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The signing CA.
    #[error("the signing CA: {0}")]
    Ca(#[from] mutua_identity::IdentityError),
    /// The trust domain of the mesh configuration.
    #[error("meshConfig.trustDomain: {0}")]
    TrustDomain(#[from] mutua_identity::SpiffeIdError),
    /// The control plane's own certificate.
    #[error(transparent)]
    Own(#[from] OwnError),
    /// The address for proxies.
    #[error("the control plane cannot listen on {address}: {source} (--listen chooses another address)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The API.
    #[error(transparent)]
    Api(#[from] api::BindError),
    /// The root of the state folder, or the change of it that was under way.
    #[error("the root in the state folder: {0}")]
    Rotation(#[from] rotation::RotationError),
    /// The keys for JWT callers.
    #[error("--jwks: {0}")]
    Jwks(#[from] JwksError),
    /// `--leaf-ttl` is out of bounds.
    #[error("--leaf-ttl: a certificate lives between 2s and 90 days")]
    LeafTtl,
    /// A listener failed while running.
    #[error("{what}: {reason}")]
    Stopped {
        /// Which part.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

fn describe(rejected: &Rejected) -> String {
    let mut text = rejected.summary.clone();
    for error in rejected.errors.iter().take(20) {
        text.push_str(&format!("\n  {}: {}", error.place, error.message));
    }
    text
}
