//! Who a peer is allowed to be. The library checks chain, time and use; the identity is checked here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme};

use super::error::Refused;
use super::known::Known;
use super::{TlsError, TlsErrorKind, provider};
use crate::anchor::Anchors;
use crate::bundle::{Checks, Verifiers};
use crate::{TrustDomain, certificate};

/// Longest chain that is looked at, leaf included: bounds the work before a peer is authenticated.
const MAX_CHAIN: usize = 10;
/// Most bytes of certificates that are looked at: the longest chain of RSA certificates with 4096 bits has 20 KB. The library
/// reads handshake messages of up to 64 KB.
const MAX_CHAIN_BYTES: usize = 32 * 1024;

/// Which peers are accepted once their chain is good.
#[derive(Clone, Debug)]
pub(crate) enum Accept {
    /// One SPIFFE id of one of these trust domains; of these ids only, unless the list is empty.
    Mesh { trust_domains: Vec<TrustDomain>, ids: Vec<String> },
    /// One of these names, to the letter (DNS, URI or IP address).
    Names(Vec<String>),
    /// The name the connection was made for.
    ServerName,
    /// Anybody whose chain is good.
    Chain,
}

impl Accept {
    /// Checks the identity of a leaf whose chain is good.
    fn check(&self, leaf: &CertificateDer<'_>) -> Result<(), TlsError> {
        match self {
            Self::Mesh { trust_domains, ids } => check_mesh(leaf, trust_domains, ids),
            Self::Names(names) if names.iter().any(|name| certificate::has_name(leaf, name)) => Ok(()),
            Self::Names(names) => {
                let seen = crate::CertificateInfo::from_der(leaf).map(|info| info.uris.join(", ")).unwrap_or_default();
                Err(wrong(&seen, &format!("one of {}", names.join(", "))))
            }
            Self::ServerName | Self::Chain => Ok(()),
        }
    }
}

fn check_mesh(leaf: &CertificateDer<'_>, trust_domains: &[TrustDomain], ids: &[String]) -> Result<(), TlsError> {
    let id = certificate::spiffe_id(leaf)
        .map_err(|error| TlsError::new(TlsErrorKind::NoIdentity, format!("peer certificate: {error}")))?;
    let text = id.to_string();
    if !ids.is_empty() {
        // Names that the service's accounts or the rule's subjectAltNames allow, byte for byte.
        return if ids.contains(&text) { Ok(()) } else { Err(wrong(&text, &format!("one of {}", ids.join(", ")))) };
    }
    if trust_domains.contains(id.trust_domain()) {
        return Ok(());
    }
    let expected: Vec<&str> = trust_domains.iter().map(TrustDomain::as_str).collect();
    let detail = format!("peer is {text}, its trust domain is none of {}", expected.join(", "));
    Err(TlsError { kind: TlsErrorKind::TrustDomain, detail, peer: Some(text) })
}

fn wrong(seen: &str, expected: &str) -> TlsError {
    let detail = format!("peer is {}, expected {expected}", if seen.is_empty() { "nobody with a matching name" } else { seen });
    TlsError { kind: TlsErrorKind::WrongIdentity, detail, peer: (!seen.is_empty()).then(|| seen.to_owned()) }
}

fn refuse(error: TlsError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused(error)))))
}

fn check_size(leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<(), Error> {
    let bytes = leaf.len() + rest.iter().map(|certificate| certificate.len()).sum::<usize>();
    if rest.len() < MAX_CHAIN && bytes <= MAX_CHAIN_BYTES {
        return Ok(());
    }
    let detail = format!("peer sent {} certificates of {bytes} bytes, more than are looked at", rest.len() + 1);
    Err(refuse(TlsError::new(TlsErrorKind::BadCertificate, detail)))
}

thread_local! {
    /// Whose certificate the library refused last on this thread. The library makes the alert from its own error, which has
    /// no place for the name; session and verifier run in one call.
    static CLAIMED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Who the peer whose certificate the library has just refused claimed to be.
pub(super) fn claimed() -> Option<String> {
    CLAIMED.take()
}

/// Notes who the peer claimed to be, for the record of the refusal.
fn noted(error: Error, leaf: &CertificateDer<'_>) -> Error {
    CLAIMED.set(certificate::spiffe_id(leaf).ok().map(|id| id.to_string()));
    error
}

/// The verifiers under the roots of the trust domain that `leaf` claims to be of, where that has roots of its own: those of
/// another domain do not vouch for it.
fn of<'a>(domains: &'a BTreeMap<TrustDomain, Verifiers>, leaf: &CertificateDer<'_>) -> Option<&'a Verifiers> {
    if domains.is_empty() {
        return None;
    }
    domains.get(certificate::spiffe_id(leaf).ok()?.trust_domain())
}

/// Refuses a chain that the library found good where nothing but the root's own time is against it.
fn check_root(anchors: &Anchors, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
    let Some(root) = anchors.ended(leaf, rest, now) else { return Ok(()) };
    let detail = format!("peer certificate: the root that it chains to, {root}, has ended");
    let peer = certificate::spiffe_id(leaf).ok().map(|id| id.to_string());
    Err(refuse(TlsError { kind: TlsErrorKind::Expired, detail, peer }))
}

/// Checks servers: chain, time and use by the library, then [`Accept`].
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    inner: Arc<WebPkiServerVerifier>,
    /// For identities of trust domains that have roots of their own.
    domains: Arc<BTreeMap<TrustDomain, Verifiers>>,
    anchors: Arc<Anchors>,
    accept: Accept,
    known: Known,
}

impl ServerVerifier {
    /// For peers of the mesh.
    pub(crate) fn of_mesh(checks: &Checks, accept: Accept) -> Self {
        let (inner, domains) = (Arc::clone(&checks.roots.of_servers), Arc::clone(&checks.domains));
        Self { inner, domains, anchors: Arc::clone(&checks.anchors), accept, known: Known::until(checks.until) }
    }

    /// For servers outside the mesh.
    pub(crate) fn new(
        roots: RootCertStore,
        crls: Vec<CertificateRevocationListDer<'static>>,
        accept: Accept,
    ) -> Result<Self, TlsError> {
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider::plain()).with_crls(crls);
        // Only certificates whose issuer has a list here can be found revoked, as Envoy and Istio do it.
        let inner = builder.allow_unknown_revocation_status().build();
        let inner = inner.map_err(|error| TlsError::new(TlsErrorKind::Configuration, error.to_string()))?;
        // A list that has ended still counts here.
        Ok(Self { inner, domains: Arc::default(), anchors: Arc::default(), accept, known: Known::until(u64::MAX) })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_size(leaf, rest)?;
        let chain = Known::name(leaf, rest);
        // Where the server's name counts, a chain that was good for one name says nothing of another.
        let by_name = matches!(self.accept, Accept::ServerName);
        if !by_name && self.known.knows(&chain, now) {
            return Ok(ServerCertVerified::assertion());
        }
        let inner = of(&self.domains, leaf).map_or(&self.inner, |verifiers| &verifiers.of_servers);
        match inner.verify_server_cert(leaf, rest, name, ocsp, now) {
            Ok(_) => {}
            // The library checks the name last, when the chain is good; whose name counts is ours to say.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !by_name => {}
            Err(error) => return Err(noted(error, leaf)),
        }
        check_root(&self.anchors, leaf, rest, now)?;
        self.accept.check(leaf).map_err(refuse)?;
        if !by_name {
            self.known.remember(chain, leaf, rest, now, self.anchors.next_end(now));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss).map_err(|error| noted(error, cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss).map_err(|error| noted(error, cert))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Accepts any server: `insecureSkipVerify`.
#[derive(Debug)]
pub(crate) struct NoVerification;

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &provider::plain().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &provider::plain().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::plain().signature_verification_algorithms.supported_schemes()
    }
}

/// Checks clients: as [`ServerVerifier`], with the use for clients.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    domains: Arc<BTreeMap<TrustDomain, Verifiers>>,
    anchors: Arc<Anchors>,
    accept: Accept,
    mandatory: bool,
    known: Known,
}

impl ClientVerifier {
    pub(crate) fn new(checks: &Checks, accept: Accept, mandatory: bool) -> Self {
        let (inner, domains) = (Arc::clone(&checks.roots.of_clients), Arc::clone(&checks.domains));
        Self { inner, domains, anchors: Arc::clone(&checks.anchors), accept, mandatory, known: Known::until(checks.until) }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check_size(leaf, rest)?;
        let chain = Known::name(leaf, rest);
        if self.known.knows(&chain, now) {
            return Ok(ClientCertVerified::assertion());
        }
        let inner = of(&self.domains, leaf).map_or(&self.inner, |verifiers| &verifiers.of_clients);
        inner.verify_client_cert(leaf, rest, now).map_err(|error| noted(error, leaf))?;
        check_root(&self.anchors, leaf, rest, now)?;
        self.accept.check(leaf).map_err(refuse)?;
        self.known.remember(chain, leaf, rest, now, self.anchors.next_end(now));
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss).map_err(|error| noted(error, cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss).map_err(|error| noted(error, cert))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
