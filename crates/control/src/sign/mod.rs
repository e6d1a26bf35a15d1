//! Certificates: who gets one ([`service`]), the join tokens that prove it the first time ([`tokens`]), what was
//! issued ([`issued`]), and the control plane's own ([`own`]).

pub mod issued;
pub mod own;
pub mod service;
pub mod tokens;
