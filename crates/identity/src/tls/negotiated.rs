//! What a handshake came to.

use std::time::SystemTime;

use rustls::pki_types::UnixTime;
use rustls::{CommonState, ProtocolVersion};

use crate::anchor::Anchors;
use crate::{AnchorName, CertificateName, SpiffeId, certificate};

/// What both ends agreed on, and who the peer proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite by its IANA name.
    pub cipher_suite: String,
    /// The key-exchange group (`X25519MLKEM768`, `X25519`, `secp256r1` …).
    pub group: String,
    /// The application protocol, when one was agreed on.
    pub alpn: Option<String>,
    /// The peer's SPIFFE id, when its certificate has exactly one.
    pub peer_id: Option<SpiffeId>,
    /// The serial number of the peer's certificate, lower-case hex.
    pub peer_serial: Option<String>,
    /// The names of the peer's certificate and of those between it and its root.
    pub peer_path: Vec<CertificateName>,
    /// The end of the peer's certificate.
    pub peer_not_after: Option<SystemTime>,
    /// Of a mesh peer: the trust anchor that its chain leads to, where that can be told.
    pub peer_anchor: Option<AnchorName>,
}

impl Negotiated {
    /// As the library knows it; `None` before the handshake is done.
    pub(super) fn of(common: &CommonState, anchors: Option<&Anchors>) -> Option<Self> {
        let chain = common.peer_certificates().unwrap_or_default();
        let leaf = chain.first();
        let peer = leaf.and_then(|leaf| certificate::parse(leaf).ok());
        let peer_id = peer.as_ref().and_then(|peer| certificate::spiffe_id_of(peer).ok());
        let suite = common.negotiated_cipher_suite()?.suite().as_str().unwrap_or_default();
        Some(Self {
            version: match common.protocol_version()? {
                ProtocolVersion::TLSv1_3 => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher_suite: suite.replacen("TLS13_", "TLS_", 1),
            group: common.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name())).unwrap_or_default(),
            alpn: common.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
            peer_anchor: chain.split_first().and_then(|(leaf, rest)| anchors?.above(leaf, rest, UnixTime::now())),
            peer_id,
            peer_serial: peer.as_ref().map(|peer| certificate::hex(peer.raw_serial())),
            peer_path: CertificateName::path(chain),
            peer_not_after: peer.as_ref().map(|peer| certificate::time(peer.validity().not_after.timestamp())),
        })
    }
}
