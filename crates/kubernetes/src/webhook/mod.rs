//! The webhooks that an API server asks: `/inject` puts the sidecar into pods, `/validate` checks resources of Istio.
//!
//! [`review`] answers AdmissionReviews, [`serve`] is the server, [`bundle`] tells API servers by which roots it is known.

pub mod bundle;
pub mod patch;
pub mod review;
mod serve;

use std::sync::Arc;

use mutua_control::world::World;

use crate::inject::Injector;

pub use serve::{MAX_BODY, serve};

/// What the webhooks answer from.
pub struct Hooks {
    /// The mesh.
    pub world: Arc<World>,
    /// Injection.
    pub injector: Injector,
}
