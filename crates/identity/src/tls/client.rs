//! The calling side: to a mesh peer, to a TLS server outside the mesh, and to the control plane.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::SingleCertAndKey;

use super::secrets::Tap;
use super::server::checks;
use super::verify::{Accept, NoVerification, ServerVerifier};
use super::{Algorithms, Compliance, MinVersion, TlsError, TlsErrorKind, provider};
use crate::anchor::Anchors;
use crate::revocation::{lists, pem_fault};
use crate::{Credentials, PrivateKey, SpiffeId, TrustBundle, TrustDomain};

/// Who a mesh peer has to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerExpectation {
    /// The SPIFFE ids of which the peer must show one; empty: any identity of the trust domains.
    pub ids: Vec<String>,
    /// The trust domains that count when `ids` is empty.
    pub trust_domains: Vec<TrustDomain>,
}

/// The roots for TLS to a server outside the mesh.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Roots {
    /// PEM certificates (`caCertificates`).
    Pem(String),
    /// The roots of the operating system.
    System,
}

/// TLS to a server outside the mesh: `SIMPLE`, or `MUTUAL` with a client certificate.
#[derive(Clone, Debug)]
pub struct Origination {
    /// Client certificate chain and key, both PEM, for `MUTUAL`.
    pub client: Option<(String, Arc<PrivateKey>)>,
    /// Whom the server's chain must end at.
    pub roots: Roots,
    /// Names of which the server's certificate must hold one (`subjectAltNames`).
    pub names: Vec<String>,
    /// Without `names`: check the certificate against the server name of the connection. Istio does so only when the
    /// name came from the request itself, not when the rule gives `sni`.
    pub verify_server_name: bool,
    /// `caCrl`, PEM.
    pub crl: Option<String>,
    /// `insecureSkipVerify`.
    pub insecure_skip_verify: bool,
    /// Suites, groups and `COMPLIANCE_POLICY`.
    pub algorithms: Algorithms,
}

/// Where Linux distributions keep the operating system's roots.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A client's TLS, cheap to clone.
#[derive(Clone)]
pub struct ClientConfig {
    pub(crate) inner: Arc<rustls::ClientConfig>,
    /// To a mesh peer: whom its chain may lead to.
    pub(crate) anchors: Option<Arc<Anchors>>,
}

impl ClientConfig {
    /// To a mesh peer, with our mesh certificate (`ISTIO_MUTUAL`).
    ///
    /// # Errors
    /// Roots that cannot be used.
    pub fn mesh(credentials: &Credentials, bundle: &TrustBundle, peer: &PeerExpectation) -> Result<Self, TlsError> {
        Self::mesh_under(credentials, bundle, peer, Compliance::None)
    }

    /// As [`ClientConfig::mesh`], with what a `COMPLIANCE_POLICY` leaves.
    ///
    /// # Errors
    /// As [`ClientConfig::mesh`].
    pub fn mesh_under(
        credentials: &Credentials,
        bundle: &TrustBundle,
        peer: &PeerExpectation,
        compliance: Compliance,
    ) -> Result<Self, TlsError> {
        let versions = compliance.versions(MinVersion::Tls12);
        let config = Self::build(provider::mesh_client(compliance), versions, mesh_peer(bundle, peer)?, Some(credentials))?;
        Ok(Self { anchors: Some(Arc::clone(&checks(bundle)?.anchors)), ..config })
    }

    /// As [`ClientConfig::mesh`], with TLS 1.2 as the newest version it offers: an old client, to probe a server's floor.
    ///
    /// # Errors
    /// As [`ClientConfig::mesh`].
    pub fn mesh_tls12(credentials: &Credentials, bundle: &TrustBundle, peer: &PeerExpectation) -> Result<Self, TlsError> {
        Self::build(provider::plain(), &[&rustls::version::TLS12], mesh_peer(bundle, peer)?, Some(credentials))
    }

    /// To a server outside the mesh (`SIMPLE`, `MUTUAL`).
    ///
    /// # Errors
    /// A certificate, key, root bundle or revocation list that cannot be used, or no roots of the operating system.
    pub fn origination(settings: &Origination) -> Result<Self, TlsError> {
        let client = match &settings.client {
            Some((chain, key)) => {
                Some(Credentials::new(key, std::slice::from_ref(chain)).map_err(|error| configuration(&error))?)
            }
            None => None,
        };
        let provider = provider::outside(&settings.algorithms)?;
        let versions = settings.algorithms.compliance.versions(MinVersion::Tls12);
        if settings.insecure_skip_verify {
            return Self::build(provider, versions, Arc::new(NoVerification), client.as_ref());
        }
        let accept = match (settings.names.is_empty(), settings.verify_server_name) {
            (false, _) => Accept::Names(settings.names.clone()),
            (true, true) => Accept::ServerName,
            (true, false) => Accept::Chain,
        };
        let crls = settings
            .crl
            .as_deref()
            .map_or(Ok(Vec::new()), lists)
            .map_err(|reason| TlsError::new(TlsErrorKind::Configuration, format!("certificate revocation list: {reason}")))?;
        let verifier = ServerVerifier::new(origination_roots(&settings.roots)?, crls, accept)?;
        Self::build(provider, versions, Arc::new(verifier), client.as_ref())
    }

    /// To the control plane, which must show one of the ids `expected` whatever name was dialled.
    ///
    /// # Errors
    /// Roots that cannot be used.
    pub fn control_plane(
        credentials: Option<&Credentials>,
        bundle: &TrustBundle,
        expected: &[SpiffeId],
    ) -> Result<Self, TlsError> {
        let accept = Accept::Mesh { trust_domains: Vec::new(), ids: expected.iter().map(ToString::to_string).collect() };
        let verifier = ServerVerifier::of_mesh(checks(bundle)?, accept);
        let (provider, versions) = (provider::plain(), MinVersion::Tls12.versions());
        let mut config = Self::build(provider, versions, Arc::new(verifier), credentials)?;
        Arc::make_mut(&mut config.inner).alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    fn build(
        provider: Arc<rustls::crypto::CryptoProvider>,
        versions: &[&'static rustls::SupportedProtocolVersion],
        verifier: Arc<dyn rustls::client::danger::ServerCertVerifier>,
        client: Option<&Credentials>,
    ) -> Result<Self, TlsError> {
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| TlsError::new(TlsErrorKind::Configuration, error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match client {
            Some(credentials) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from((*credentials.certified()).clone())))
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.enable_secret_extraction = true;
        config.key_log = Arc::new(Tap);
        Ok(Self { inner: Arc::new(config), anchors: None })
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientConfig(..)")
    }
}

fn mesh_peer(bundle: &TrustBundle, peer: &PeerExpectation) -> Result<Arc<ServerVerifier>, TlsError> {
    let accept = Accept::Mesh { trust_domains: peer.trust_domains.clone(), ids: peer.ids.clone() };
    Ok(Arc::new(ServerVerifier::of_mesh(checks(bundle)?, accept)))
}

/// Roots of foreign servers may be any certificate that the user names, so they are read without the mesh's own rules.
fn origination_roots(roots: &Roots) -> Result<rustls::RootCertStore, TlsError> {
    let pem = match roots {
        Roots::Pem(pem) => pem.clone(),
        Roots::System => SYSTEM_ROOTS.iter().find_map(|path| std::fs::read_to_string(path).ok()).ok_or_else(|| {
            TlsError::new(TlsErrorKind::Configuration, "no roots of the operating system: install ca-certificates")
        })?,
    };
    let broken = |reason: String| TlsError::new(TlsErrorKind::Configuration, format!("root bundle: {reason}"));
    let certificates: Vec<CertificateDer<'_>> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|error| broken(pem_fault(&error)))?;
    let mut store = rustls::RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(broken("no PEM certificate that can be a root".to_owned()));
    }
    Ok(store)
}

fn configuration(error: &crate::IdentityError) -> TlsError {
    TlsError::new(TlsErrorKind::Configuration, error.to_string())
}
