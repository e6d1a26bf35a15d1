//! The schema of Istio's kinds, as data, and the check of a tree against it.

mod check;
mod duration;
mod suggest;
mod tables;
mod types;

pub use check::{check_mesh_config, check_object};
pub use duration::milliseconds;
pub use suggest::nearest;

#[cfg(test)]
mod tests;
