#![doc = env!("CARGO_PKG_DESCRIPTION")]
//!
//! [`inject`] puts the sidecar into pods: a pure transform that `mutua inject` and the webhook share.

pub mod inject;
