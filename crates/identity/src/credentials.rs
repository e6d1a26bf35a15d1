//! What a workload or the control plane shows of itself: a key and the certificate chain that belongs to it.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;

use crate::bundle::pem;
use crate::tls::provider;
use crate::{CertificateInfo, IdentityError, PrivateKey, SpiffeId, certificate};

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
