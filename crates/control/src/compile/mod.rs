//! From the model's decisions to what travels to proxies.

pub mod convert;
pub mod labels;
pub mod union;
