//! Why a TLS session failed, as data: the proxy makes its reason codes from the kind, never from a text.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::verify::claimed;

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// The peer showed no certificate where one is required.
    NoCertificate,
    /// The peer's certificate does not chain to a trusted root.
    UnknownIssuer,
    /// The peer's certificate has ended.
    Expired,
    /// The peer's certificate is not valid yet.
    NotYetValid,
    /// The peer's certificate or one above it is revoked; or the peer says so of ours.
    Revoked,
    /// The revocation list of the peer's CA has ended or cannot be used: nobody can say whether the peer is revoked.
    RevocationList,
    /// The peer's certificate is malformed, too large, or not fit for its use.
    BadCertificate,
    /// The peer's certificate does not hold exactly one SPIFFE id.
    NoIdentity,
    /// The peer's identity is of a trust domain that is not trusted here.
    TrustDomain,
    /// The peer is somebody else than expected.
    WrongIdentity,
    /// No protocol version in common.
    Version,
    /// No cipher suite, group or signature scheme in common.
    NothingInCommon,
    /// No application protocol in common.
    NoApplicationProtocol,
    /// The peer sent a fatal alert.
    AlertReceived,
    /// Bytes that are not TLS, or a broken protocol order.
    Malformed,
    /// A record that cannot be decrypted.
    Decrypt,
    /// The session ended without close_notify, or was used after its end.
    Closed,
    /// A configuration that cannot be used.
    Configuration,
}

/// A TLS failure.
#[derive(Clone, Debug)]
pub struct TlsError {
    /// Its kind.
    pub kind: TlsErrorKind,
    /// What was seen, for people.
    pub detail: String,
    /// What the peer showed as its identity, as far as it was read.
    pub peer: Option<String>,
}

impl TlsError {
    pub(crate) fn new(kind: TlsErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), peer: None }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for TlsError {}

/// Why our own verifier refused a peer; travels through the library as `CertificateError::Other`.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) TlsError);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Refused {}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        if let Error::InvalidCertificate(CertificateError::Other(other)) = &error
            && let Some(Refused(refused)) = other.0.downcast_ref::<Refused>()
        {
            return refused.clone();
        }
        let detail = match &error {
            Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => {
                "the peer sent a handshake message of more than 64 KB, more than certificates need".to_owned()
            }
            Error::InvalidCertificate(fault) => {
                words(fault).map_or_else(|| error.to_string(), |words| format!("peer certificate: {words}"))
            }
            Error::InvalidCertRevocationList(fault) => format!("the revocation list of the peer's CA cannot be used: {fault:?}"),
            Error::AlertReceived(AlertDescription::CertificateRevoked) => {
                "the peer says that the certificate shown to it, or one above it, is revoked".to_owned()
            }
            _ => error.to_string(),
        };
        let peer =
            if matches!(error, Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_)) { claimed() } else { None };
        Self { kind: kind(&error), detail, peer }
    }
}

/// What is wrong with a certificate, where the library's own text is the name of a Rust value.
fn words(error: &CertificateError) -> Option<&'static str> {
    match error {
        CertificateError::UnknownIssuer => Some("it chains to none of the trusted roots"),
        CertificateError::BadEncoding => Some("it is malformed"),
        CertificateError::BadSignature => Some("its signature, or that of one above it, is wrong"),
        CertificateError::Revoked => Some("it, or one above it, is revoked"),
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            Some("the revocation list of its CA, or of one above it, has ended, so that nobody can say whether it is revoked")
        }
        CertificateError::UnhandledCriticalExtension => Some(UNKNOWN_EXTENSION),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Some("its extended key usage says that it is not for this use")
        }
        CertificateError::Other(other) => match format!("{other:?}") {
            // The path builder's errors are of a crate that is not ours to name.
            text if text.contains("UnsupportedCriticalExtension") => Some(UNKNOWN_EXTENSION),
            text if text.contains("CaUsedAsEndEntity") => Some("a CA certificate is shown as a leaf"),
            text if text.contains("Exceeded") => Some("its chain asks for more work to check than is done for a stranger"),
            _ => None,
        },
        _ => None,
    }
}

fn kind(error: &Error) -> TlsErrorKind {
    match error {
        Error::NoCertificatesPresented => TlsErrorKind::NoCertificate,
        Error::InvalidCertificate(error) => certificate_kind(error),
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) | Error::NoApplicationProtocol => {
            TlsErrorKind::NoApplicationProtocol
        }
        Error::AlertReceived(AlertDescription::ProtocolVersion) => TlsErrorKind::Version,
        Error::AlertReceived(AlertDescription::CloseNotify) => TlsErrorKind::Closed,
        Error::AlertReceived(AlertDescription::CertificateRevoked) => TlsErrorKind::Revoked,
        Error::InvalidCertRevocationList(_) => TlsErrorKind::RevocationList,
        Error::AlertReceived(_) => TlsErrorKind::AlertReceived,
        Error::PeerIncompatible(error) => incompatible_kind(error),
        Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => TlsErrorKind::Version,
        Error::DecryptError => TlsErrorKind::Decrypt,
        Error::General(_) | Error::InconsistentKeys(_) => TlsErrorKind::Configuration,
        _ => TlsErrorKind::Malformed,
    }
}

fn certificate_kind(error: &CertificateError) -> TlsErrorKind {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsErrorKind::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsErrorKind::NotYetValid,
        CertificateError::Revoked => TlsErrorKind::Revoked,
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            TlsErrorKind::RevocationList
        }
        CertificateError::UnknownIssuer => TlsErrorKind::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => TlsErrorKind::WrongIdentity,
        _ => TlsErrorKind::BadCertificate,
    }
}

fn incompatible_kind(error: &PeerIncompatible) -> TlsErrorKind {
    match error {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls13RequiredForQuic => TlsErrorKind::Version,
        _ => TlsErrorKind::NothingInCommon,
    }
}

const UNKNOWN_EXTENSION: &str = "it has a critical extension that is not known";
