#![doc = env!("CARGO_PKG_DESCRIPTION")]
//!
//! The way of a change: a [`source`] yields a reading of the configuration → [`configure`] puts it into force →
//! [`world`] holds it as an immutable snapshot with a generation number, [`rollout`] leads it through its stages → [`compile`] turns it into resources per proxy
//! → [`distribute`] sends each proxy what changed and keeps its answers in the [`registry`].
//!
//! Beside that: [`sign`] issues certificates, [`report`] takes what proxies tell, [`traffic`] keeps what they saw pass, [`api`] shows everything to people,
//! [`listen`] is the door for proxies (TLS only), [`state`] the folder that survives a restart, [`start`] puts all
//! together. [`run`] is the whole standalone control plane; [`ControlPlane`] the same with its addresses, for tests.

pub mod api;
mod clock;
pub mod compile;
pub mod configure;
pub mod distribute;
mod fetch;
pub mod listen;
pub mod metrics;
pub mod names;
pub mod registry;
pub mod report;
pub mod revision;
pub mod rollout;
pub mod settings;
pub mod sign;
pub mod source;
pub mod start;
pub mod state;
pub mod traffic;
pub mod world;

pub use settings::Settings;
pub use start::{ControlPlane, Parts, StartError, run, run_on};
