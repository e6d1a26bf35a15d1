//! What can be asked of a running sidecar: everything over the socket in its state folder, metrics and readiness over TCP.

mod pages;
mod serve;

use std::sync::Arc;

use crate::certificate::Certificates;
use crate::sidecar::Sidecar;

pub use serve::{bind_socket, serve_tcp, serve_unix};

/// What the pages show.
#[derive(Clone)]
pub struct Admin {
    /// The sidecar.
    pub sidecar: Arc<Sidecar>,
    /// Its certificate.
    pub certificates: Arc<Certificates>,
    /// Cancelled once the sidecar stops; it is not ready then.
    pub stopping: tokio_util::sync::CancellationToken,
}

/// Which pages a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// All of them, for the owner of the socket.
    All,
    /// `/stats/prometheus`.
    Metrics,
    /// `/healthz/ready`.
    Readiness,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}
