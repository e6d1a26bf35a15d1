//! What a workload or the control plane shows of itself: a key and the certificate chain that belongs to it.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;

use crate::bundle::pem;
use crate::tls::verify::{Accept, ServerVerifier};
use crate::tls::{TlsError, provider};
use crate::{CertificateInfo, IdentityError, PrivateKey, SpiffeId, TrustBundle, certificate};

/// A private key with its certificate chain, checked to belong together. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    inner: Arc<Inner>,
}

struct Inner {
    key_pem: String,
    chain: Vec<CertificateDer<'static>>,
    info: CertificateInfo,
    id: Option<SpiffeId>,
    certified: Arc<CertifiedKey>,
}

impl Credentials {
    /// Key and chain; `chain_pem` holds the leaf first, then intermediates (roots may follow).
    ///
    /// # Errors
    /// A chain without certificate, a malformed one, or a key that belongs to another certificate.
    pub fn new(key: &PrivateKey, chain_pem: &[String]) -> Result<Self, IdentityError> {
        let text = chain_pem.concat();
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| IdentityError::malformed("certificate", error))?;
        let leaf = chain.first().ok_or_else(|| IdentityError::malformed("certificate", "no PEM certificate"))?;
        if certificate::parse(leaf)?.public_key().raw != key.public_der() {
            return Err(IdentityError::KeyMismatch);
        }
        let info = CertificateInfo::from_der(leaf)?;
        let id = certificate::spiffe_id(leaf).ok();
        let signer = provider::plain()
            .key_provider
            .load_private_key(key.der())
            .map_err(|error| IdentityError::Crypto(error.to_string()))?;
        let certified = Arc::new(CertifiedKey::new(chain.clone(), signer));
        Ok(Self { inner: Arc::new(Inner { key_pem: key.to_pkcs8_pem(), chain, info, id, certified }) })
    }

    /// The SPIFFE id, when the leaf has exactly one.
    #[must_use]
    pub fn id(&self) -> Option<&SpiffeId> {
        self.inner.id.as_ref()
    }

    /// The leaf's serial number, lower-case hex.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.inner.info.serial
    }

    /// What the leaf says.
    #[must_use]
    pub fn info(&self) -> &CertificateInfo {
        &self.inner.info
    }

    /// Start of the leaf's validity.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.inner.info.not_before
    }

    /// End of the leaf's validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.inner.info.not_after
    }

    /// Whether a peer that trusts `roots` accepts the chain at `now`, and would up to the leaf's last second: a leaf that
    /// ends later than one of its issuers is dead before it says so. The identity is not looked at.
    ///
    /// # Errors
    /// What a peer would say of the chain, or which issuer ends too early.
    pub fn check_chain(&self, roots: &TrustBundle, now: SystemTime) -> Result<(), IdentityError> {
        let chain = &self.inner.chain;
        let unfit = |reason: String| IdentityError::malformed("certificate chain", reason);
        let (leaf, rest) = chain.split_first().ok_or_else(|| unfit("it is empty".to_owned()))?;
        if self.not_after() <= now {
            return Err(unfit("it has ended".to_owned()));
        }
        let verifier = ServerVerifier::of_mesh(roots.checks()?, Accept::Chain);
        let nobody = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
        let since = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|error| unfit(error.to_string()))?;
        let verified = verifier.verify_server_cert(leaf, rest, &nobody, &[], UnixTime::since_unix_epoch(since));
        verified.map_err(|error| unfit(TlsError::from(error).detail))?;
        let mut issuers = rest.iter().filter_map(|der| CertificateInfo::from_der(der).ok()).collect::<Vec<_>>();
        let names: Vec<_> = issuers.iter().chain([&self.inner.info]).map(|info| info.issuer.clone()).collect();
        // Roots of one name may follow each other; the last of them counts.
        let root = roots.infos().into_iter().filter(|root| names.contains(&root.subject)).max_by_key(|root| root.not_after);
        issuers.extend(root);
        match issuers.iter().find(|issuer| issuer.not_after < self.not_after()) {
            Some(early) => Err(unfit(format!("it ends later than its issuer {} ({})", early.subject, early.serial))),
            None => Ok(()),
        }
    }

    /// The chain, leaf first, PEM.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.inner.chain.iter().map(|der| pem("CERTIFICATE", der)).collect()
    }

    /// The private key as PKCS#8 PEM, for a file that only its owner can read.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.inner.key_pem
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.inner.certified)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("id", &self.inner.id).field("serial", &self.inner.info.serial).finish_non_exhaustive()
    }
}
