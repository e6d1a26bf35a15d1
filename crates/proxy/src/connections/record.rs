//! What is said of one connection.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{Connection, Direction};
use crate::reasons::Reason;

/// What a connection was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Mutual TLS with mesh identities, ended or begun here.
    Mtls,
    /// TLS: originated here towards a server outside the mesh, or passed through.
    Tls,
    /// Without TLS.
    Plaintext,
    /// Not served.
    Refused,
}

impl Outcome {
    /// `mtls`, `tls`, `plaintext` or `refused`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Tls => "tls",
            Self::Plaintext => "plaintext",
            Self::Refused => "refused",
        }
    }
}

/// One connection, as `/connections` and the access log show it.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Unique within the life of the process.
    pub id: u64,
    /// `inbound` or `outbound`.
    pub direction: Direction,
    /// `open` or `closed`.
    pub state: &'static str,
    /// Who opened it.
    pub peer_address: String,
    /// Where it wanted to go.
    pub original_destination: String,
    /// The host of the service.
    pub service: Option<String>,
    /// The address that was dialled.
    pub endpoint: Option<String>,
    /// What it was; an empty text while it is not decided.
    #[serde(serialize_with = "decided")]
    pub outcome: Option<Outcome>,
    /// Why it was refused or cut.
    pub reason: Option<Reason>,
    /// What was expected and what was seen.
    pub message: Option<String>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub tls_version: Option<&'static str>,
    /// The cipher suite by its IANA name.
    pub cipher: Option<String>,
    /// The key-exchange group.
    pub group: Option<String>,
    /// The application protocol agreed on in the handshake.
    pub alpn: Option<String>,
    /// The identity that this sidecar showed.
    pub local_id: Option<String>,
    /// The identity that the peer proved, or claimed when it was refused.
    pub peer_id: Option<String>,
    /// The serial number of the peer's certificate.
    pub peer_serial: Option<String>,
    /// Bytes from the one who opened it, without TLS.
    pub received_bytes: u64,
    /// Bytes to the one who opened it, without TLS.
    pub sent_bytes: u64,
    /// When it was accepted, Unix milliseconds.
    pub start: u64,
    /// When it ended, Unix milliseconds.
    pub end: Option<u64>,
}

impl Record {
    /// What is known of `connection` now; `end` when it has ended.
    #[must_use]
    pub fn of(connection: &Connection, end: Option<SystemTime>) -> Self {
        let details = connection.details();
        let (received_bytes, sent_bytes) = connection.bytes();
        let tls = details.tls.as_deref();
        let proved = tls.and_then(|tls| tls.peer_id.as_ref()).map(ToString::to_string);
        let claimed = details.refusal.as_ref().and_then(|refusal| refusal.peer_identity.clone());
        Self {
            id: connection.id,
            direction: connection.direction,
            state: if end.is_some() { "closed" } else { "open" },
            peer_address: connection.peer.to_string(),
            original_destination: connection.original.to_string(),
            service: details.service.as_deref().map(str::to_owned),
            endpoint: details.endpoint.map(|address| address.to_string()),
            outcome: details.outcome,
            reason: details.refusal.as_ref().map(|refusal| refusal.reason),
            message: details.refusal.as_ref().map(|refusal| refusal.message.clone()),
            tls_version: tls.map(|tls| tls.version),
            cipher: tls.map(|tls| tls.cipher_suite.clone()),
            group: tls.map(|tls| tls.group.clone()),
            alpn: tls.and_then(|tls| tls.alpn.clone()),
            local_id: details.local_identity.clone(),
            peer_id: proved.or(claimed),
            peer_serial: tls.and_then(|tls| tls.peer_serial.clone()),
            received_bytes,
            sent_bytes,
            start: milliseconds(connection.started),
            end: end.map(milliseconds),
        }
    }
}

fn decided<S: serde::Serializer>(outcome: &Option<Outcome>, serializer: S) -> Result<S::Ok, S::Error> {
    match outcome {
        Some(outcome) => outcome.serialize(serializer),
        None => serializer.serialize_str(""),
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
