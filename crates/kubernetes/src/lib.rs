#![doc = env!("CARGO_PKG_DESCRIPTION")]
//!
//! [`cluster`] finds the API server. `kinds` says what is watched and `shapes` what of it is kept, `watch` follows
//! each kind, `store` holds the objects, and [`source`] makes readings of them for the control plane; [`run()`] puts
//! all together. One of several leads by a [`lease`]; [`authority`] keeps the CA in Secrets, and [`roots`] its roots in every
//! namespace.
//!
//! [`inject`] puts the sidecar into pods: a pure transform that `mutua inject` and the webhook share.

pub mod authority;
pub mod cluster;
pub mod inject;
mod kinds;
pub mod lease;
mod object;
pub mod roots;
mod run;
mod shapes;
pub mod source;
mod store;
mod watch;

pub use cluster::{Cluster, ClusterError};
pub use run::{RunError, run};
pub use source::KubernetesSource;
