//! What can be asked of a running sidecar: everything over the socket in its state folder, metrics and readiness over TCP.

mod pages;
mod serve;

use std::sync::Arc;

use mutua_identity::TrustBundle;

use crate::certificate::{Certificates, Status};
use crate::settings::Workload;
use crate::sidecar::Sidecar;

pub use serve::{bind_socket, serve_connection, serve_tcp, serve_unix};

/// What the pages show.
#[derive(Clone)]
pub struct Admin {
    /// The sidecar.
    pub sidecar: Arc<Sidecar>,
    /// Where its certificate and configuration come from.
    pub origin: Origin,
    /// Cancelled once the sidecar stops; it is not ready then.
    pub stopping: tokio_util::sync::CancellationToken,
}

/// Where a sidecar's certificate and configuration come from.
#[derive(Clone)]
pub enum Origin {
    /// A control plane.
    ControlPlane(Arc<Certificates>),
    /// A static file, for this workload.
    Static(Workload),
}

impl Origin {
    /// The workload that the sidecar stands for.
    #[must_use]
    pub fn workload(&self) -> &Workload {
        match self {
            Self::ControlPlane(certificates) => &certificates.workload,
            Self::Static(workload) => workload,
        }
    }

    /// What the renewals of the certificate came to; there are none of a static one.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::ControlPlane(certificates) => certificates.status(),
            Self::Static(_) => Status::default(),
        }
    }

    /// Where what is in force came from: `control-plane`, `state` (kept over a restart, and the control plane has not spoken
    /// since), `file`, or `nowhere` yet.
    #[must_use]
    pub fn source(&self) -> &'static str {
        match self {
            Self::Static(_) => "file",
            Self::ControlPlane(certificates) if certificates.world.kept().is_some() => "state",
            Self::ControlPlane(certificates) if certificates.world.bundle().is_none() => "nowhere",
            Self::ControlPlane(_) => "control-plane",
        }
    }

    /// The roots to begin with.
    fn roots(&self) -> Option<TrustBundle> {
        match self {
            Self::ControlPlane(certificates) => Some(certificates.control_plane.roots.clone()),
            Self::Static(_) => None,
        }
    }
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
