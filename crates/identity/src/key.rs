//! Private keys, and the requests for certificates that they sign.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::PrivateKeyDer;

use crate::IdentityError;

/// A private key. It shows nothing of itself: no `Debug`, `Display` or error holds its bytes.
pub struct PrivateKey(KeyPair);

impl PrivateKey {
    /// A new ECDSA P-256 key.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| IdentityError::Crypto(error.to_string()))?;
        Ok(Self(key))
    }

    /// Reads a PEM key (PKCS#8, SEC1 or PKCS#1).
    ///
    /// # Errors
    /// Text that is no private key; the error does not repeat it.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        // The library's error could quote its input, so it is not passed on.
        KeyPair::from_pem(pem)
            .map(Self)
            .map_err(|_| IdentityError::malformed("private key", "no PEM private key of a known kind"))
    }

    /// The key as PKCS#8 PEM, to be written to a file that only its owner can read.
    #[must_use]
    pub fn to_pkcs8_pem(&self) -> String {
        self.0.serialize_pem()
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.0
    }

    pub(crate) fn der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.0.serialize_der().into())
    }

    pub(crate) fn public_der(&self) -> Vec<u8> {
        rcgen::PublicKeyData::subject_public_key_info(&self.0)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A certificate request (PKCS#10, PEM) for `key`. It names nobody: the CA derives the name from the caller.
///
/// # Errors
/// The key cannot sign.
pub fn certificate_request(key: &PrivateKey) -> Result<String, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(key.pair()).and_then(|request| request.pem());
    request.map_err(|error| IdentityError::Crypto(error.to_string()))
}
