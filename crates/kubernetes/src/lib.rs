#![doc = env!("CARGO_PKG_DESCRIPTION")]
//!
//! [`cluster`] finds the API server. `kinds` says what is watched and `shapes` what of it is kept, `watch` follows
//! each kind, `store` holds the objects, and [`source`] makes readings of them for the control plane; [`run()`] puts
//! all together; [`read()`] reads a cluster once, for commands. One of several leads by a [`lease`]; [`authority`] keeps the CA in Secrets, and [`roots`] its roots in every
//! namespace; [`review`] asks whose a workload's token is, [`statuses`] tells policies what became of them.
//!
//! [`inject`] puts the sidecar into pods: a pure transform that `mutua inject` and the webhook share. [`webhook`] serves it
//! to API servers, with the checks of resources; [`ports`] is what a control plane listens on for them and for others, and
//! [`install`] are its manifests.

pub mod authority;
pub mod cluster;
pub mod inject;
pub mod install;
mod kinds;
pub mod lease;
mod object;
pub mod ports;
mod read;
pub mod review;
pub mod roots;
mod run;
mod shapes;
pub mod source;
pub mod statuses;
mod store;
mod watch;
pub mod webhook;

pub use cluster::{Cluster, ClusterError};
pub use read::read;
pub use run::{RunError, run};
pub use source::KubernetesSource;
