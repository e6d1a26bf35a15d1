#![doc = env!("CARGO_PKG_DESCRIPTION")]
//!
//! A workload's identity is a [`SpiffeId`] in an X.509 certificate. [`PrivateKey`] and [`certificate_request`] make the
//! request, the [`issuer`] answers it, [`Credentials`] hold key and chain, and a [`TrustBundle`] the roots of the peers.
//! From these come [`ServerConfig`] and [`ClientConfig`], and from those, per connection, a sans-IO [`Session`]: bytes in,
//! bytes out, no socket. [`stream`] wraps a session's library counterpart for gRPC. No type of the TLS library appears in
//! any signature.

mod anchor;
mod bundle;
mod certificate;
mod credentials;
mod error;
#[cfg(feature = "issuer")]
pub mod issuer;
mod key;
mod revocation;
pub mod schedule;
mod spiffe;
pub mod stream;
pub mod tls;

pub use anchor::AnchorName;
pub use bundle::TrustBundle;
pub use certificate::CertificateInfo;
pub use credentials::Credentials;
pub use error::IdentityError;
#[cfg(feature = "issuer")]
pub use issuer::{Ca, Issued};
pub use key::{PrivateKey, certificate_request};
pub use revocation::{CertificateName, MAX_REVOCATIONS, RevocationInfo};
pub use spiffe::{SpiffeId, SpiffeIdError, TrustDomain};
pub use tls::{
    Algorithms, ClientConfig, Compliance, MinVersion, Negotiated, Origination, PeerExpectation, ServerConfig, ServerPolicy,
    Session, TlsError, TlsErrorKind,
};
