//! Certificate requests: nothing but the public key is taken from them, and only when its owner signed the request.

use std::fmt;

use rcgen::{PublicKeyData, SubjectPublicKeyInfo};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as ParsedKey;

use crate::{IdentityError, certificate};

/// The largest request that is read, bytes of PEM.
const MAX_REQUEST: usize = 16 * 1024;
/// The smallest RSA key that is certified, bits.
const MIN_RSA_BITS: usize = 2048;
/// Elliptic curves that are certified, by their object identifiers (RFC 5480 §2.1.1.1): P-256 and P-384. Other curves
/// have coordinates of the same size.
const CURVES: [&str; 2] = ["1.2.840.10045.3.1.7", "1.3.132.0.34"];

/// A certificate request that its key has signed. It holds nothing but the public key.
pub struct CertificateRequest(SubjectPublicKeyInfo);

impl CertificateRequest {
    /// Reads a PEM request.
    ///
    /// # Errors
    /// A request that is too large, malformed, of a weak or unknown key, or not signed by it.
    pub fn from_pem(csr_pem: &str) -> Result<Self, IdentityError> {
        if csr_pem.len() > MAX_REQUEST {
            return Err(request(format!("{} bytes are more than the {MAX_REQUEST} that are read", csr_pem.len())));
        }
        let block = pem::parse(csr_pem).map_err(|error| request(error.to_string()))?;
        if !matches!(block.tag(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
            return Err(request(format!("PEM holds {:?}, not CERTIFICATE REQUEST", block.tag())));
        }
        // The key as it is written, never as the request's signature lets it be guessed: a P-384 key may sign with SHA-256.
        let key = check(block.contents())?;
        Ok(Self(SubjectPublicKeyInfo::from_der(&key).map_err(|error| request(error.to_string()))?))
    }

    /// SHA-256 of the public key, hex: tells whether two requests are for the same key.
    #[must_use]
    pub fn key_digest(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.0.subject_public_key_info());
        certificate::hex(digest.as_ref())
    }

    pub(super) fn public_key(&self) -> &SubjectPublicKeyInfo {
        &self.0
    }
}

impl fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CertificateRequest").field(&self.key_digest()).finish()
    }
}

/// The public key, DER (SubjectPublicKeyInfo). The signature proves that the caller holds the private key; the key must be
/// strong enough.
fn check(der: &[u8]) -> Result<Vec<u8>, IdentityError> {
    let (rest, parsed) = X509CertificationRequest::from_der(der).map_err(|error| request(error.to_string()))?;
    if !rest.is_empty() {
        return Err(request("bytes after its end".to_owned()));
    }
    let info = &parsed.certification_request_info.subject_pki;
    let key = info.parsed().map_err(|error| request(error.to_string()))?;
    let curve =
        || info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok()).map(|oid| oid.to_id_string());
    match key {
        ParsedKey::RSA(rsa) if rsa.key_size() >= MIN_RSA_BITS => {}
        ParsedKey::RSA(rsa) => {
            return Err(request(format!("RSA key of {} bits, at least {MIN_RSA_BITS} are required", rsa.key_size())));
        }
        ParsedKey::EC(_) if curve().is_some_and(|curve| CURVES.contains(&curve.as_str())) => {}
        _ => return Err(request("key is none of RSA, ECDSA P-256, ECDSA P-384".to_owned())),
    }
    parsed.verify_signature().map_err(|_| request("its signature does not fit its key".to_owned()))?;
    Ok(info.raw.to_vec())
}

fn request(reason: String) -> IdentityError {
    IdentityError::Request(reason)
}
