//! What becomes of a connection: the client's transport against the server's mode (Istio's inbound filter chains).

use mutua_model::MtlsMode;
use serde::{Deserialize, Serialize};

use crate::endpoint::Transport;

/// What becomes of a connection, or of those to several endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Encrypted, both ends proven.
    Mtls,
    /// Encrypted; the server alone is proven, or neither.
    Tls,
    /// In clear.
    Plaintext,
    /// It fails.
    Refused,
    /// It depends on the endpoint.
    Mixed,
}

impl Outcome {
    /// The word of the JSON form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Tls => "tls",
            Self::Plaintext => "plaintext",
            Self::Refused => "refused",
            Self::Mixed => "mixed",
        }
    }

    /// The outcome of all of them: without any, nothing answers.
    pub(crate) fn of_all(outcomes: impl IntoIterator<Item = Self>) -> Self {
        let mut outcomes = outcomes.into_iter();
        let Some(first) = outcomes.next() else { return Self::Refused };
        if outcomes.all(|other| other == first) { first } else { Self::Mixed }
    }
}

/// What a server does with a connection.
pub(crate) struct Server {
    /// The mode of the port; `None` without a sidecar.
    pub(crate) mode: Option<MtlsMode>,
    /// Whether the port is declared HTTP.
    pub(crate) http: bool,
}

/// The outcome, and why when that is not plain from the modes.
pub(crate) fn outcome(transport: Transport, server: &Server) -> (Outcome, &'static str) {
    let Some(mode) = server.mode else { return without_sidecar(transport) };
    match (transport, mode) {
        (Transport::Plaintext, MtlsMode::Strict) => (Outcome::Refused, "plaintext to a STRICT port is refused"),
        (Transport::Plaintext, MtlsMode::Permissive) => (Outcome::Plaintext, "a PERMISSIVE port accepts plaintext"),
        (Transport::Plaintext, MtlsMode::Disable) => (Outcome::Plaintext, "a DISABLE port takes plaintext"),
        (Transport::IstioMutual, MtlsMode::Disable) => {
            (Outcome::Refused, "the server's sidecar is in DISABLE mode: its application gets TLS bytes")
        }
        (Transport::IstioMutual, _) => (Outcome::Mtls, "mutual TLS, and the port accepts it"),
        (Transport::Mutual, MtlsMode::Strict) => (Outcome::Mtls, "the client's files are taken to be mesh certificates"),
        (Transport::Simple, MtlsMode::Strict) => (Outcome::Refused, "a STRICT port requires a client certificate of the mesh"),
        (Transport::Simple | Transport::Mutual, _) if server.http => {
            (Outcome::Refused, "TLS that is not the mesh's on a port declared HTTP is refused")
        }
        (Transport::Simple | Transport::Mutual, _) => (Outcome::Tls, "TLS is passed through to the application"),
    }
}

fn without_sidecar(transport: Transport) -> (Outcome, &'static str) {
    match transport {
        Transport::Plaintext => (Outcome::Plaintext, "the server has no sidecar"),
        Transport::IstioMutual => (Outcome::Refused, "the server has no sidecar to answer mutual TLS"),
        Transport::Simple | Transport::Mutual => (Outcome::Tls, "the server itself answers TLS"),
    }
}
