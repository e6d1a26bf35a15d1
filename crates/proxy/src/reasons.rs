//! Why a connection was refused or cut: codes that stay the same from version to version.

use std::fmt;

use mutua_identity::TlsErrorKind;
use serde::{Serialize, Serializer};

macro_rules! reasons {
    ($($variant:ident $code:literal $meaning:literal $remedy:literal;)*) => {
        /// A stable code for a connection that was not served, or not to its end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $variant,)*
        }

        impl Reason {
            /// Every reason, in the order of `docs/reasons.md`.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as logs, metrics and the API show it.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// What happened, in one sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// What an operator looks at first.
            #[must_use]
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }
        }
    };
}

reasons! {
    PlaintextOnStrictPort "PLAINTEXT_ON_STRICT_PORT"
        "The caller sent plaintext, or waits in silence for the server to speak first, on a port that accepts mutual TLS only."
        "Give the caller a sidecar, or look why its side sends plaintext: mutua explain --from CALLER --to HOST:PORT.";
    NonMeshTlsOnHttpPort "NON_MESH_TLS_ON_HTTP_PORT"
        "The caller sent TLS that is not the mesh's own to a PERMISSIVE port that is declared HTTP."
        "Let the caller send plaintext or use ISTIO_MUTUAL, or declare the port tcp or https.";
    TlsOnPlaintextHttpPort "TLS_ON_PLAINTEXT_HTTP_PORT"
        "The caller sent TLS to a port of mode DISABLE that is declared HTTP."
        "Set the DestinationRule's tls mode to DISABLE, or the port's mode to PERMISSIVE or STRICT.";
    NoClientCertificate "NO_CLIENT_CERTIFICATE"
        "The caller opened TLS without showing a certificate."
        "Only callers with a mesh certificate reach this port; a caller with SIMPLE TLS needs ISTIO_MUTUAL.";
    UntrustedCertificate "UNTRUSTED_CERTIFICATE"
        "The peer's certificate does not chain to a trusted root, or is malformed."
        "Compare the roots of both ends (mutua certs); after a change of root both must be trusted for a while.";
    CertificateExpired "CERTIFICATE_EXPIRED"
        "The peer's certificate has ended or is not valid yet."
        "Look at the peer's renewals (mutua proxy-status) and at the clocks of both machines.";
    CertificateRevoked "CERTIFICATE_REVOKED"
        "The peer's certificate, or one above it, is on the revocation list of its CA, or the peer says so of ours; a running connection is closed when the list comes."
        "The message says whose. A workload that is to go on needs a new certificate by a new join token: mutua token create.";
    RevocationListUnusable "REVOCATION_LIST_UNUSABLE"
        "The revocation list of the peer's CA has ended, so that nobody can say whether the peer's certificate is revoked."
        "Put a new list into ca-crl.pem, beside the CA's other files.";
    CertificateWithoutIdentity "CERTIFICATE_WITHOUT_IDENTITY"
        "The peer's certificate does not hold exactly one SPIFFE id."
        "Issue the certificate with exactly one URI name of the form spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT.";
    ForeignTrustDomain "FOREIGN_TRUST_DOMAIN"
        "The peer's identity is of a trust domain that is not trusted here."
        "Add the domain to trustDomainAliases if its workloads are to be trusted.";
    PeerIdentityMismatch "PEER_IDENTITY_MISMATCH"
        "The server proved an identity that is none of the service's accounts."
        "Something else answers at the endpoint's address, or subjectAltNames of the DestinationRule is wrong.";
    TlsVersionTooLow "TLS_VERSION_TOO_LOW"
        "The two ends have no TLS version in common."
        "meshMTLS.minProtocolVersion asks for more than the other end speaks.";
    NoCommonCryptography "NO_COMMON_CRYPTOGRAPHY"
        "The two ends have no cipher suite, key-exchange group or signature scheme in common."
        "Widen meshMTLS.cipherSuites, or update the other end.";
    TlsProtocolError "TLS_PROTOCOL_ERROR"
        "The bytes of the TLS connection are malformed or cannot be decrypted."
        "Something between the two ends changes the bytes, or the other end does not speak TLS on this port.";
    PeerRefusedTls "PEER_REFUSED_TLS"
        "The other end refused the TLS connection with an alert."
        "The other end's log says why; the message here holds the alert.";
    PeerClosedInHandshake "PEER_CLOSED_IN_HANDSHAKE"
        "The other end closed the connection before the TLS handshake was complete."
        "The other end does not speak TLS on this port, or refused without an alert.";
    PeerClosedBeforeAnswer "PEER_CLOSED_BEFORE_ANSWER"
        "The other end took bytes and closed the connection without answering one."
        "The usual cause: plaintext to a port in mode STRICT; the other end's log says so.";
    HandshakeTimeout "HANDSHAKE_TIMEOUT"
        "The peer did not complete the TLS handshake in time."
        "A slow or overloaded peer.";
    ClientHelloTooLarge "CLIENT_HELLO_TOO_LARGE"
        "The first TLS message is larger than any client of good faith sends."
        "Look at what the caller sends.";
    NotReady "NOT_READY"
        "The sidecar has not received its first complete configuration, or has no certificate yet."
        "Look whether the sidecar reaches the control plane (mutua proxy-status).";
    UnknownDestination "UNKNOWN_DESTINATION"
        "The destination is in no service, and outboundTrafficPolicy is REGISTRY_ONLY."
        "Add a ServiceEntry for the destination.";
    NoEndpoint "NO_ENDPOINT"
        "The service has no endpoint for this port."
        "Look at the service's selector and at its pods or WorkloadEntries.";
    UpstreamConnectFailed "UPSTREAM_CONNECT_FAILED"
        "No endpoint of the destination could be connected to."
        "The endpoints are down or not reachable from this workload.";
    ApplicationUnreachable "APPLICATION_UNREACHABLE"
        "The local application does not accept connections on this port."
        "Look whether the application listens on the port, and on all addresses.";
    OriginUnknown "ORIGINAL_DESTINATION_UNKNOWN"
        "The connection reached the sidecar without having been captured."
        "Callers dial the application's address, never the sidecar's ports; check with mutua redirect check.";
    Loop "CONNECTION_LOOP"
        "The original destination is the sidecar's own port."
        "Check the capture rules: mutua redirect check.";
    TooManyConnections "TOO_MANY_CONNECTIONS"
        "The sidecar has as many connections open as it serves at once."
        "Look for a client that leaks connections, or raise --max-connections.";
    TooManyFromSource "TOO_MANY_CONNECTIONS_FROM_SOURCE"
        "The caller's address has as many connections open as one source may have."
        "Look for a client that leaks connections; a gateway that speaks for many may need a higher --max-connections-per-source.";
    TooManyHandshakes "TOO_MANY_HANDSHAKES"
        "The caller's turn for its TLS handshake did not come in time: too many others are at theirs."
        "Look who opens so many connections (mutua proxy-status); --max-handshakes raises the bound.";
    HandshakeTooLarge "HANDSHAKE_TOO_LARGE"
        "The peer sent more bytes than are read of anybody who has not proved who it is."
        "Look at the length of the peer's certificate chain; --max-handshake-bytes raises the bound.";
    InternalError "INTERNAL_ERROR"
        "The sidecar failed on this connection and closed it; no other connection is touched."
        "A fault of the sidecar: report it with the lines of its log.";
    TlsSettings "TLS_SETTINGS_UNUSABLE"
        "The TLS settings of the destination cannot be used: a file is missing, unreadable, outside --tls-dir or malformed, or there is nothing usable behind credentialName."
        "The message names the file, or the Secret and what it lacks.";
    HostMissing "HOST_NAME_MISSING"
        "TLS takes the server's name from the HTTP Host header, and the request has none."
        "Set sni in the DestinationRule.";
    PolicyChanged "POLICY_CHANGED"
        "The connection was allowed when it was opened; policy changed, and the time for draining is over."
        "Nothing: the application opens a new connection under the new policy.";
    Shutdown "SHUTDOWN"
        "The sidecar is stopping, and the time for draining is over."
        "Nothing, or a longer --drain for connections that live longer.";
    Truncated "TRUNCATED"
        "The TLS connection ended without its closing message, so bytes may be missing."
        "The other end, or something between, died; the application sees a reset.";
}

impl From<TlsErrorKind> for Reason {
    fn from(kind: TlsErrorKind) -> Self {
        match kind {
            TlsErrorKind::NoCertificate => Self::NoClientCertificate,
            TlsErrorKind::UnknownIssuer | TlsErrorKind::BadCertificate => Self::UntrustedCertificate,
            TlsErrorKind::Revoked => Self::CertificateRevoked,
            TlsErrorKind::RevocationList => Self::RevocationListUnusable,
            TlsErrorKind::Expired | TlsErrorKind::NotYetValid => Self::CertificateExpired,
            TlsErrorKind::NoIdentity => Self::CertificateWithoutIdentity,
            TlsErrorKind::TrustDomain => Self::ForeignTrustDomain,
            TlsErrorKind::WrongIdentity => Self::PeerIdentityMismatch,
            TlsErrorKind::Version => Self::TlsVersionTooLow,
            TlsErrorKind::NothingInCommon => Self::NoCommonCryptography,
            TlsErrorKind::AlertReceived | TlsErrorKind::NoApplicationProtocol => Self::PeerRefusedTls,
            TlsErrorKind::Closed => Self::PeerClosedInHandshake,
            TlsErrorKind::Configuration => Self::TlsSettings,
            _ => Self::TlsProtocolError,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// A refusal: its reason and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code.
    pub reason: Reason,
    /// What was expected and what was seen.
    pub message: String,
    /// The identity that the peer showed, even when it was not accepted.
    pub peer_identity: Option<String>,
}

impl Refusal {
    /// A refusal with its message.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), peer_identity: None }
    }
}

/// `docs/reasons.md`.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(
        "# Reasons\n\nWhy a sidecar refused a connection, or cut it. The codes stand in the access log, in `/connections` of the \
         admin socket, in the control plane's API and in metrics, and stay the same from version to version.\n\n\
         Made from the table in `crates/proxy/src/reasons.rs`; do not edit.\n",
    );
    for reason in Reason::ALL {
        text.push_str(&format!("\n## {}\n\n{}\n\n{}\n", reason.code(), reason.meaning(), reason.remedy()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_every_reason() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reasons.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), document(), "run with UPDATE_DOCS=1");
    }

    #[test]
    fn codes_are_unique_and_stable_in_form() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert!(codes.iter().all(|code| code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')));
    }
}
