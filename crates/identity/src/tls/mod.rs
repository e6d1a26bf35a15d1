//! TLS as the mesh speaks it. [`ServerConfig`] and [`ClientConfig`] are built once per change of certificate, roots or
//! policy; a [`Session`] is made from one per connection.
//!
//! Session resumption is off on both ends: other stacks resumed sessions without checking the peer against roots that
//! had changed meanwhile (CVE-2022-21654, CVE-2025-68121).

mod client;
mod compliance;
mod error;
mod known;
mod negotiated;
pub(crate) mod provider;
mod record;
mod secrets;
mod server;
mod session;
mod step;
pub(crate) mod verify;

pub use client::{ClientConfig, Origination, PeerExpectation, Roots};
pub use compliance::Compliance;
pub use error::{TlsError, TlsErrorKind};
pub use negotiated::Negotiated;
pub use provider::{Algorithms, MinVersion};
pub use record::FRAGMENT;
pub use server::{ServerConfig, ServerPolicy};
pub use session::Session;
