//! Trust bundles: the roots that a peer's certificate must chain to.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

#[cfg(feature = "issuer")]
use crate::certificate;
use crate::{CertificateInfo, IdentityError};

/// A set of root certificates, at least one, without duplicates, in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    roots: Vec<CertificateDer<'static>>,
}

impl TrustBundle {
    /// Reads one or more PEM certificates.
    ///
    /// # Errors
    /// Text that holds no certificate, a malformed one, or one that is no CA.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let mut roots = Vec::new();
        for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let der = der.map_err(|error| IdentityError::malformed("root bundle", error))?;
            let info = CertificateInfo::from_der(&der)?;
            if !info.is_ca {
                return Err(IdentityError::malformed("root bundle", format!("certificate {} is no CA", info.serial)));
            }
            roots.push(der);
        }
        if roots.is_empty() {
            return Err(IdentityError::malformed("root bundle", "no PEM certificate"));
        }
        roots.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        roots.dedup();
        Ok(Self { roots })
    }

    /// The roots of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut roots: Vec<_> = self.roots.iter().chain(&other.roots).cloned().collect();
        roots.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        roots.dedup();
        Self { roots }
    }

    /// The roots as PEM, one text each.
    #[must_use]
    pub fn roots_pem(&self) -> Vec<String> {
        self.roots.iter().map(|der| pem("CERTIFICATE", der)).collect()
    }

    /// The roots as one PEM text.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.roots_pem().concat()
    }

    /// What the roots say of themselves.
    #[must_use]
    pub fn infos(&self) -> Vec<CertificateInfo> {
        self.roots.iter().filter_map(|der| CertificateInfo::from_der(der).ok()).collect()
    }

    /// Whether `der` is one of the roots.
    #[cfg(feature = "issuer")]
    pub(crate) fn holds(&self, der: &[u8]) -> bool {
        self.roots.iter().any(|root| root.as_ref() == der)
    }

    /// The roots, PEM, that a signer hangs on: itself, or those that signed the last of its chain.
    #[cfg(feature = "issuer")]
    pub(crate) fn above(&self, signer: &[u8], chain_pem: &[String]) -> Vec<String> {
        let last = chain_pem.last().and_then(|text| CertificateDer::from_pem_slice(text.as_bytes()).ok());
        let last = last.as_deref().unwrap_or(signer);
        let of = |root: &&CertificateDer<'static>| root.as_ref() == signer || is_signed_by(last, root);
        self.roots.iter().filter(of).map(|root| pem("CERTIFICATE", root)).collect()
    }

    /// Whether one of the roots signed `der`.
    #[cfg(feature = "issuer")]
    pub(crate) fn signed(&self, der: &[u8]) -> bool {
        self.roots.iter().any(|root| is_signed_by(der, root))
    }

    pub(crate) fn store(&self) -> Result<RootCertStore, IdentityError> {
        let mut store = RootCertStore::empty();
        for root in &self.roots {
            store.add(root.clone()).map_err(|error| IdentityError::malformed("root bundle", error))?;
        }
        Ok(store)
    }
}

/// DER as PEM.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}

/// Whether the key of the CA certificate `parent` signed the certificate `child`.
#[cfg(feature = "issuer")]
pub(crate) fn is_signed_by(child: &[u8], parent: &[u8]) -> bool {
    let (Ok(child), Ok(parent)) = (certificate::parse(child), certificate::parse(parent)) else { return false };
    parent.is_ca() && child.issuer() == parent.subject() && child.verify_signature(Some(parent.public_key())).is_ok()
}
