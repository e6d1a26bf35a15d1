//! Certificates: who gets one ([`service`]), the join tokens ([`tokens`]) and service accounts' tokens ([`accounts`],
//! [`jwks`]) that prove it the first time, what was issued ([`issued`]), and the control plane's own ([`own`]). [`rotation`] keeps a change of the root, [`reroot`] leads it.

pub mod accounts;
pub mod issued;
pub mod jwks;
pub mod own;
pub mod remembered;
pub mod reroot;
mod root_files;
pub mod rotation;
pub mod service;
pub mod signers;
pub mod tokens;
