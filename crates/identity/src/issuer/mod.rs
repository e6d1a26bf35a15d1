//! The signing side: reading requests, the signing key and its files, and the certificates that are issued.

mod ca;
mod files;
mod request;

pub use ca::{Ca, DEFAULT_TTL, Issued, MAX_TTL};
pub use request::public_key_digest;

#[cfg(test)]
mod tests;
