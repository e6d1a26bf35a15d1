//! What flows are told apart by.

use std::net::IpAddr;
use std::sync::Arc;

use mutua_identity::{Negotiated, SpiffeId};

use crate::connections::{Connection, Direction, Outcome};
use crate::reasons::{Reason, Refusal};

/// What the connections of a flow have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Which way.
    pub direction: Direction,
    /// The address at the other end: who opened it (inbound), or who was to be reached (outbound). `None` where there are
    /// too many.
    pub peer: Option<IpAddr>,
    /// The identity that the other end proved, or claimed when it was refused.
    pub peer_id: Option<Arc<str>>,
    /// The host of the service; empty when none.
    pub service: Arc<str>,
    /// The port that the connection was opened to; 0 where there are too many.
    pub port: u16,
    /// What it was; `None` where it ended before that was decided.
    pub outcome: Option<Outcome>,
    /// Why connections of it were refused or cut; `None` for those that were served.
    pub reason: Option<Reason>,
    /// TLS that this sidecar took part in.
    pub protection: Option<Protection>,
}

/// What a handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Protection {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite by its IANA name.
    pub cipher: Arc<str>,
    /// The key-exchange group.
    pub group: Arc<str>,
}

impl Protection {
    fn of(tls: &Negotiated) -> Self {
        Self { version: tls.version, cipher: tls.cipher_suite.as_str().into(), group: tls.group.as_str().into() }
    }
}

impl FlowKey {
    /// The key of a connection as far as it is known, or of its refusal.
    #[must_use]
    pub fn of(connection: &Connection, refusal: Option<&Refusal>) -> Self {
        let details = connection.details();
        let tls = details.tls.as_deref();
        let proved = tls.and_then(|tls| tls.peer_id.as_ref()).map(SpiffeId::to_string);
        let claimed = || refusal.and_then(|refusal| refusal.peer_identity.clone());
        let peer = match connection.direction {
            Direction::Inbound => connection.peer,
            Direction::Outbound => details.endpoint.unwrap_or(connection.original),
        };
        Self {
            direction: connection.direction,
            peer: Some(peer.ip()),
            peer_id: proved.or_else(claimed).map(Arc::from),
            service: details.service.unwrap_or_default(),
            port: connection.original.port(),
            outcome: details.outcome,
            reason: refusal.map(|refusal| refusal.reason),
            protection: tls.map(Protection::of),
        }
    }

    /// The key that stands for all that are too many: direction, outcome and reason stay.
    #[must_use]
    pub fn folded(self) -> Self {
        Self { peer: None, peer_id: None, service: Arc::default(), port: 0, protection: None, ..self }
    }
}
