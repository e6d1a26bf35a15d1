//! Certificates: who gets one ([`service`]), the join tokens that prove it the first time ([`tokens`]), what was
//! issued ([`issued`]), and the control plane's own ([`own`]). [`rotation`] keeps a change of the root, [`reroot`] leads it.

pub mod issued;
pub mod own;
pub mod remembered;
pub mod reroot;
mod root_files;
pub mod rotation;
pub mod service;
pub mod tokens;
