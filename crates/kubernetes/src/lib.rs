#![doc = env!("CARGO_PKG_DESCRIPTION")]
//!
//! [`cluster`] finds the API server. `kinds` says what is watched and `shapes` what of it is kept, `watch` follows
//! each kind, `store` holds the objects, and [`source`] makes readings of them for the control plane; [`run()`] puts
//! all together.
//!
//! [`inject`] puts the sidecar into pods: a pure transform that `mutua inject` and the webhook share.

pub mod cluster;
pub mod inject;
mod kinds;
mod object;
mod run;
mod shapes;
pub mod source;
mod store;
mod watch;

pub use cluster::{Cluster, ClusterError};
pub use run::{RunError, run};
pub use source::KubernetesSource;
