//! Reading certificates: identity, serial number, validity. Never used to build a path; the TLS library does that.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{IdentityError, SpiffeId, SpiffeIdError};

/// What people and programs want to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateInfo {
    /// Its URI names, in order.
    pub uris: Vec<String>,
    /// Serial number, lower-case hex.
    pub serial: String,
    /// The subject's distinguished name, empty for workloads.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// Whether it may sign others.
    pub is_ca: bool,
}

impl CertificateInfo {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// No PEM certificate, or one that is no X.509.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let der =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| IdentityError::malformed("certificate", error))?;
        Self::from_der(&der)
    }

    pub(crate) fn from_der(der: &[u8]) -> Result<Self, IdentityError> {
        let certificate = parse(der)?;
        Ok(Self {
            uris: uris(&certificate).into_iter().map(str::to_owned).collect(),
            serial: hex(certificate.raw_serial()),
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            not_before: time(certificate.validity().not_before.timestamp()),
            not_after: time(certificate.validity().not_after.timestamp()),
            is_ca: certificate.is_ca(),
        })
    }
}

/// The one SPIFFE id of a certificate. Names of other kinds are ignored and never give identity.
pub(crate) fn spiffe_id(der: &[u8]) -> Result<SpiffeId, SpiffeIdError> {
    spiffe_id_of(&parse(der).map_err(|_| SpiffeIdError::NotOne(0))?)
}

/// As [`spiffe_id`], of a certificate that was read already.
pub(crate) fn spiffe_id_of(certificate: &X509Certificate<'_>) -> Result<SpiffeId, SpiffeIdError> {
    match uris(certificate)[..] {
        [uri] => uri.parse(),
        ref uris => Err(SpiffeIdError::NotOne(uris.len())),
    }
}

/// Whether one of the certificate's names (DNS, URI, IP address) is `name`, to the letter.
pub(crate) fn has_name(der: &[u8], name: &str) -> bool {
    let Ok(certificate) = parse(der) else { return false };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|general| match general {
        GeneralName::DNSName(dns) => dns.eq_ignore_ascii_case(name),
        GeneralName::URI(uri) => *uri == name,
        GeneralName::IPAddress(bytes) => address(bytes).is_some_and(|ip| ip.to_string() == name),
        _ => false,
    })
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, IdentityError> {
    match X509Certificate::from_der(der) {
        // An INTEGER has at least one byte (X.690 §8.3.1); the parser takes none for a number that nothing could name.
        Ok(([], certificate)) if certificate.raw_serial().is_empty() => {
            Err(IdentityError::malformed("certificate", "its serial number has no bytes"))
        }
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(IdentityError::malformed("certificate", "bytes after its end")),
        Err(error) => Err(IdentityError::malformed("certificate", error)),
    }
}

fn uris<'a>(certificate: &X509Certificate<'a>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for extension in certificate.extensions() {
        let x509_parser::extensions::ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            continue;
        };
        for name in &names.general_names {
            if let GeneralName::URI(uri) = name {
                found.push(*uri);
            }
        }
    }
    found
}

fn address(bytes: &[u8]) -> Option<std::net::IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(Into::into)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let significant = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len().saturating_sub(1));
    let digits = bytes[significant..].iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

pub(crate) fn time(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { SystemTime::UNIX_EPOCH - since } else { SystemTime::UNIX_EPOCH + since }
}
