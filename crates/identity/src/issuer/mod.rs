//! The signing side: reading requests, the signing key and its files, the certificates that are issued, and the tokens
//! by which callers prove who they are.

mod ca;
mod files;
mod jwt;
mod request;

pub use ca::{Ca, DEFAULT_TTL, Issued, MAX_TTL};
pub use jwt::{
    Account, JWT_LEEWAY, JwtAlgorithm, JwtError, JwtExpectation, KeySet, KeySetError, MAX_JWT, MAX_KEY_SET, verify_jwt,
};
pub use request::CertificateRequest;

#[cfg(test)]
mod tests;
