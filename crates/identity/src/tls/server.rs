//! The accepting side: a sidecar's inbound ports, and the control plane's own port.

use std::fmt;
use std::sync::Arc;

use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::secrets::Tap;
use super::verify::{Accept, ClientVerifier};
use super::{Compliance, MinVersion, TlsError, TlsErrorKind, provider};
use crate::anchor::Anchors;
use crate::bundle::Checks;
use crate::{Credentials, TrustBundle, TrustDomain};

/// What a sidecar asks of its callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerPolicy {
    /// Callers must be of one of these trust domains.
    pub trust_domains: Vec<TrustDomain>,
    /// `meshMTLS.minProtocolVersion`.
    pub min_version: MinVersion,
    /// `meshMTLS.cipherSuites`, OpenSSL's or IANA's names; they limit TLS 1.2 only. Empty: Istio's default.
    pub cipher_suites: Vec<String>,
    /// `COMPLIANCE_POLICY`, over all of the above.
    pub compliance: Compliance,
}

/// A server's TLS, cheap to clone.
#[derive(Clone)]
pub struct ServerConfig {
    /// Advertises no application protocol.
    pub(crate) plain: Arc<rustls::ServerConfig>,
    /// Advertises `h2` and `http/1.1`.
    pub(crate) http: Arc<rustls::ServerConfig>,
    /// Of a sidecar: whom its callers' chains may lead to.
    pub(crate) anchors: Option<Arc<Anchors>>,
}

impl ServerConfig {
    /// A sidecar's inbound side: a client certificate of the mesh is always required.
    ///
    /// # Errors
    /// Roots that cannot be used, or a list of cipher suites of which none can be served under a TLS 1.2 floor.
    pub fn mesh(credentials: &Credentials, bundle: &TrustBundle, policy: &ServerPolicy) -> Result<Self, TlsError> {
        let accept = Accept::Mesh { trust_domains: policy.trust_domains.clone(), ids: Vec::new() };
        let verifier = ClientVerifier::new(checks(bundle)?, accept, true);
        let provider = provider::mesh_server(&policy.cipher_suites, policy.min_version, policy.compliance)?;
        let config = Self::build(credentials, verifier, policy.compliance.versions(policy.min_version), provider)?;
        Ok(Self { anchors: Some(Arc::clone(&checks(bundle)?.anchors)), ..config })
    }

    /// The control plane's port: a client certificate is optional (a workload that joins has none yet), and must be
    /// good when there is one.
    ///
    /// # Errors
    /// Roots that cannot be used.
    pub fn control_plane(credentials: &Credentials, bundle: &TrustBundle) -> Result<Self, TlsError> {
        let verifier = ClientVerifier::new(checks(bundle)?, Accept::Chain, false);
        let mut config = Self::build(credentials, verifier, MinVersion::Tls12.versions(), provider::plain())?;
        let h2 = Arc::make_mut(&mut config.http);
        h2.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// A server for clients that show no certificate, over HTTP/2 or HTTP/1.1: they know it by its DNS names.
    ///
    /// # Errors
    /// The certificate cannot be used.
    pub fn https(credentials: &Credentials) -> Result<Self, TlsError> {
        let builder = rustls::ServerConfig::builder_with_provider(provider::plain())
            .with_protocol_versions(MinVersion::Tls12.versions())
            .map_err(|error| TlsError::new(TlsErrorKind::Configuration, error.to_string()))?;
        let mut plain = builder.with_no_client_auth().with_cert_resolver(one_certificate(&credentials.certified()));
        plain.session_storage = Arc::new(NoServerSessionStorage {});
        plain.send_tls13_tickets = 0;
        let mut http = plain.clone();
        http.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { plain: Arc::new(plain), http: Arc::new(http), anchors: None })
    }

    fn build(
        credentials: &Credentials,
        verifier: ClientVerifier,
        versions: &[&'static rustls::SupportedProtocolVersion],
        provider: Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let builder = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| TlsError::new(TlsErrorKind::Configuration, error.to_string()))?;
        let mut plain =
            builder.with_client_cert_verifier(Arc::new(verifier)).with_cert_resolver(one_certificate(&credentials.certified()));
        plain.session_storage = Arc::new(NoServerSessionStorage {});
        plain.send_tls13_tickets = 0;
        plain.enable_secret_extraction = true;
        plain.key_log = Arc::new(Tap);
        let mut http = plain.clone();
        http.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { plain: Arc::new(plain), http: Arc::new(http), anchors: None })
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerConfig(..)")
    }
}

pub(crate) fn one_certificate(certified: &CertifiedKey) -> Arc<dyn ResolvesServerCert> {
    Arc::new(SingleCertAndKey::from(certified.clone()))
}

pub(crate) fn checks(bundle: &TrustBundle) -> Result<&Checks, TlsError> {
    bundle.checks().map_err(|error| TlsError::new(TlsErrorKind::Configuration, error.to_string()))
}
