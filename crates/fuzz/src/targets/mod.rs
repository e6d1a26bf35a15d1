//! Everything that reads hostile bytes.

pub mod client_hello;
pub mod first_bytes;

use crate::Target;

/// All targets.
pub const ALL: &[&Target] = &[&first_bytes::TARGET, &client_hello::TARGET];
