#![doc = env!("CARGO_PKG_DESCRIPTION")]
//!
//! The parts that need neither the reader of configuration nor the TLS library: the folder that survives a restart
//! ([`state`]), watching and keeping configuration ([`source`]), the order of changes and their stages ([`revision`]),
//! what receivers accept during a change ([`compile::union`]), the bookkeeping of delta discovery ([`distribute`]), what is
//! known of the proxies ([`registry`]), join tokens ([`sign`]), and the API's guard ([`api`]).

pub mod api;
pub mod compile;
pub mod distribute;
pub mod metrics;
pub mod names;
pub mod registry;
pub mod revision;
pub mod settings;
pub mod sign;
pub mod source;
pub mod state;

pub use settings::Settings;
