//! What can be wrong with keys, certificates and bundles.

use std::path::PathBuf;

use crate::SpiffeIdError;

/// A key, certificate, request or bundle that cannot be used. No variant ever holds key material.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Text that should be PEM of a certain kind is not.
    #[error("{what}: {reason}")]
    Malformed {
        /// What was read (`certificate`, `private key`, `certificate request`, `root bundle`).
        what: &'static str,
        /// Why it could not be read.
        reason: String,
    },
    /// The key does not belong to the certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// The certificate's identity is no SPIFFE id, or there is none, or more than one.
    #[error("certificate identity: {0}")]
    Identity(#[from] SpiffeIdError),
    /// A file could not be read or written.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// A signing CA's files are not all there.
    #[error("incomplete signing CA bundle detected in {}: {missing} is missing", folder.display())]
    IncompleteCa {
        /// The folder.
        folder: PathBuf,
        /// The missing file names.
        missing: String,
    },
    /// A signing CA's files do not fit each other.
    #[error("{}: {reason}", path.display())]
    UnusableCa {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The signing certificate has ended.
    #[error("the signing certificate, or one above it, ended at {}", rfc3339(*.0))]
    SignerExpired(std::time::SystemTime),
    /// The request asks for more life than allowed (semantics of Istio's `MAX_WORKLOAD_CERT_TTL`).
    #[error("requested TTL {requested}s is greater than the max allowed TTL {allowed}s")]
    TtlTooLong {
        /// Seconds asked for.
        requested: u64,
        /// Seconds allowed.
        allowed: u64,
    },
    /// The certificate request is not acceptable.
    #[error("certificate request: {0}")]
    Request(String),
    /// The cryptography library refused.
    #[error("{0}")]
    Crypto(String),
}

impl IdentityError {
    pub(crate) fn malformed(what: &'static str, reason: impl Into<Box<dyn std::error::Error>>) -> Self {
        Self::Malformed { what, reason: reason.into().to_string() }
    }
}

fn rfc3339(time: std::time::SystemTime) -> String {
    let format = time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::from(time).format(&format).unwrap_or_else(|_| "an unknown time".to_owned())
}
