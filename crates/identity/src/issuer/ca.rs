//! The certificate authority: one signing key, and what it issues.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{CertificateRequest, files};
use crate::bundle::{is_signed_by, pem};
use crate::certificate::{self, CertificateInfo};
use crate::{Credentials, IdentityError, PrivateKey, SpiffeId, TrustBundle, TrustDomain};

/// The life of a leaf when none is asked for (Istio's `DEFAULT_WORKLOAD_CERT_TTL`).
pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);
/// The longest life a leaf may have (Istio's `MAX_WORKLOAD_CERT_TTL`).
pub const MAX_TTL: Duration = Duration::from_secs(90 * 24 * 3600);
/// How far a leaf's start lies in the past, against clocks that differ.
const BACKDATED: Duration = Duration::from_secs(120);
/// The life of a self-signed root, ten years.
const ROOT_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);

/// A certificate that was issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The leaf, each intermediate, and the roots as one last element (the form of `IstioCertificateResponse`).
    pub chain_pem: Vec<String>,
    /// Its serial number, lower-case hex.
    pub serial: String,
    /// Its end.
    pub not_after: SystemTime,
}

/// A signing CA: self-signed, or an intermediate of somebody else's.
#[derive(Clone)]
pub struct Ca {
    issuer: Arc<Issuer<'static, KeyPair>>,
    signer: CertificateInfo,
    intermediates: Vec<String>,
    /// The roots that the signer hangs on, PEM.
    anchors: Vec<String>,
    /// From then on nothing that it signs counts.
    end: SystemTime,
    bundle: TrustBundle,
}

impl Ca {
    /// The CA whose files stand in `folder`; when there are none, a new self-signed ECDSA P-256 root is made and kept
    /// there, its key readable by the owner only.
    ///
    /// # Errors
    /// Files that are incomplete or do not fit each other, or a folder that cannot be written.
    pub fn load_or_create(folder: &Path, trust_domain: &TrustDomain) -> Result<Self, IdentityError> {
        Self::load_or_create_at(folder, trust_domain, SystemTime::now())
    }

    /// As [`Ca::load_or_create`]; a root that has to be made begins its life at `now`. Files that were being written when
    /// the process died are completed: a key without a certificate has signed nothing yet.
    ///
    /// # Errors
    /// As [`Ca::load_or_create`].
    pub fn load_or_create_at(folder: &Path, trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, IdentityError> {
        let begun = files::begun_root(folder)?;
        if begun.is_some() || !files::exists(folder) {
            let key = begun.as_ref().map_or_else(PrivateKey::generate, |(key, _)| PrivateKey::from_pem(key))?;
            let certificate = match begun.and_then(|(_, certificate)| certificate) {
                Some(certificate) => certificate,
                None => self_signed(&key, trust_domain, now)?,
            };
            files::write_root(folder, &key.to_pkcs8_pem(), &certificate)?;
        }
        Self::from_dir(folder)
    }

    /// The signing CA whose files stand in `folder` under Istio's names (`ca-cert.pem`, `ca-key.pem`, `root-cert.pem`,
    /// `cert-chain.pem`), or those of a TLS secret (`tls.crt`, `tls.key`, `ca.crt`); `ca-crl.pem`, which may be missing,
    /// holds the revocation lists of all of them.
    ///
    /// # Errors
    /// Files that are incomplete, malformed or do not fit each other.
    pub fn from_dir(folder: &Path) -> Result<Self, IdentityError> {
        let texts = files::read(folder)?;
        let unusable = |path: &Path, reason: String| IdentityError::UnusableCa { path: path.to_owned(), reason };
        let key = PrivateKey::from_pem(&texts.key).map_err(|error| unusable(&texts.key_path, error.to_string()))?;
        let bundle = TrustBundle::from_pem(&texts.root).map_err(|error| unusable(&texts.root_path, error.to_string()))?;
        let at_certificate = |reason: String| unusable(&texts.certificate_path, reason);
        let ders = certificates(&texts.certificate).map_err(|error| at_certificate(error.to_string()))?;
        let signer_der = ders.first().ok_or_else(|| at_certificate("no PEM certificate".to_owned()))?;
        let signer = CertificateInfo::from_der(signer_der).map_err(|error| at_certificate(error.to_string()))?;
        if !signer.is_ca {
            return Err(at_certificate("certificate is not authorized to sign other certificates".to_owned()));
        }
        if certificate::parse(signer_der)?.public_key().raw != key.public_der() {
            return Err(unusable(&texts.key_path, "the private key does not belong to the certificate".to_owned()));
        }
        let chain = certificates(&texts.chain).map_err(|error| at_certificate(error.to_string()))?;
        let intermediates = path_to_root(signer_der, &ders[1..], &chain, &bundle)
            .ok_or_else(|| at_certificate(format!("it does not chain to a root of {}", texts.root_path.display())))?;
        let bundle = with_revocations(bundle, &texts, signer_der, &intermediates)?;
        let pair = KeyPair::from_pem(&texts.key).map_err(|_| unusable(&texts.key_path, "unusable key".to_owned()))?;
        let issuer = Issuer::from_ca_cert_der(signer_der, pair).map_err(|error| at_certificate(error.to_string()))?;
        let anchors = bundle.above(ders[0].as_ref(), &intermediates);
        let end = end(&signer, &intermediates, &anchors);
        Ok(Self { issuer: Arc::new(issuer), signer, intermediates, anchors, end, bundle })
    }

    /// The same CA, handing out further roots beside its own: both are trusted while one takes the other's place.
    #[must_use]
    pub fn trusting(mut self, further: &TrustBundle) -> Self {
        self.bundle = self.bundle.union(further);
        self
    }

    /// The roots that are handed out: those that leaves of this CA chain to, and further ones that are trusted.
    #[must_use]
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// Whether the revocation lists also go with the roots of another bundle: lists are told apart by the names of their CAs,
    /// so one that bears the name of another CA would be held against that.
    ///
    /// # Errors
    /// A list that bears the name of a root of `others` whose key has not signed it.
    pub fn check_revocations(&self, others: &TrustBundle) -> Result<(), IdentityError> {
        let checked = self.bundle.revocations().check(&[], others.roots(), SystemTime::now());
        checked.map_err(|reason| IdentityError::malformed("ca-crl.pem", reason))
    }

    /// The roots that leaves of this CA chain to, PEM.
    #[must_use]
    pub fn anchors(&self) -> &[String] {
        &self.anchors
    }

    /// What the signing certificate says.
    #[must_use]
    pub fn signer(&self) -> &CertificateInfo {
        &self.signer
    }

    /// From when on nothing that this CA signs counts: its certificate has ended, one above it, or the last of its roots.
    #[must_use]
    pub fn end(&self) -> SystemTime {
        self.end
    }

    /// Issues a leaf for `id` to the owner of the request's key. Nothing but the public key is taken from the request.
    /// A `ttl` of zero is [`DEFAULT_TTL`]; the leaf never outlives the signing certificate or those above it.
    ///
    /// # Errors
    /// A request that is malformed, not signed by its key or of a weak key; a `ttl` over [`MAX_TTL`]; a signing
    /// certificate, or one above it, that has ended.
    pub fn sign(&self, csr_pem: &str, id: &SpiffeId, ttl: Duration) -> Result<Issued, IdentityError> {
        self.sign_at(SystemTime::now(), csr_pem, id, ttl)
    }

    /// As [`Ca::sign`], at another time than now: a CA's clock may be wrong.
    ///
    /// # Errors
    /// As [`Ca::sign`].
    pub fn sign_at(&self, now: SystemTime, csr_pem: &str, id: &SpiffeId, ttl: Duration) -> Result<Issued, IdentityError> {
        self.issue(now, &CertificateRequest::from_pem(csr_pem)?, id, ttl)
    }

    /// As [`Ca::sign`], for a request that was read already.
    ///
    /// # Errors
    /// A `ttl` over [`MAX_TTL`], or a signing certificate that has ended.
    pub fn sign_request(&self, request: &CertificateRequest, id: &SpiffeId, ttl: Duration) -> Result<Issued, IdentityError> {
        self.issue(SystemTime::now(), request, id, ttl)
    }

    fn issue(
        &self,
        now: SystemTime,
        request: &CertificateRequest,
        id: &SpiffeId,
        ttl: Duration,
    ) -> Result<Issued, IdentityError> {
        let (leaf, not_after) = self.leaf(now, request.public_key(), id, &[], ttl)?;
        let serial = CertificateInfo::from_pem(&leaf)?.serial;
        let chain_pem = std::iter::once(leaf).chain(self.intermediates.iter().cloned()).chain([self.bundle.to_pem()]).collect();
        Ok(Issued { chain_pem, serial, not_after })
    }

    /// A new key with a leaf for `id` that also holds the DNS names and IP addresses `names`: the control plane's own.
    ///
    /// # Errors
    /// A name that cannot stand in a certificate, or as [`Ca::sign`].
    pub fn sign_server(&self, id: &SpiffeId, names: &[String], ttl: Duration) -> Result<Credentials, IdentityError> {
        let key = PrivateKey::generate()?;
        let (leaf, _) = self.leaf(SystemTime::now(), key.pair(), id, names, ttl)?;
        let chain: Vec<String> = std::iter::once(leaf).chain(self.intermediates.iter().cloned()).collect();
        Credentials::new(&key, &chain)
    }

    fn leaf(
        &self,
        now: SystemTime,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        names: &[String],
        ttl: Duration,
    ) -> Result<(String, SystemTime), IdentityError> {
        let ttl = if ttl.is_zero() { DEFAULT_TTL } else { ttl };
        if ttl > MAX_TTL {
            return Err(IdentityError::TtlTooLong { requested: ttl.as_secs(), allowed: MAX_TTL.as_secs() });
        }
        if self.end <= now {
            return Err(IdentityError::SignerExpired(self.end));
        }
        let not_after = (now + ttl).min(self.end);
        let params = leaf_params(id, names, now - BACKDATED, not_after)?;
        let signed = params.signed_by(key, &*self.issuer).map_err(|error| IdentityError::Crypto(error.to_string()))?;
        Ok((pem("CERTIFICATE", signed.der()), not_after))
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("signer", &self.signer).finish_non_exhaustive()
    }
}

fn leaf_params(id: &SpiffeId, names: &[String], start: SystemTime, end: SystemTime) -> Result<CertificateParams, IdentityError> {
    let crypto = |error: rcgen::Error| IdentityError::Crypto(error.to_string());
    let mut params = CertificateParams::new(names.to_vec()).map_err(crypto)?;
    params.subject_alt_names.insert(0, SanType::URI(id.to_string().try_into().map_err(crypto)?));
    params.distinguished_name = DistinguishedName::new();
    params.not_before = start.into();
    params.not_after = end.into();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(serial()?);
    Ok(params)
}

/// When the signing certificate ends, the first of those above it, or the last of the roots.
fn end(signer: &CertificateInfo, intermediates: &[String], anchors: &[String]) -> SystemTime {
    let ends = |all: &[String]| -> Vec<SystemTime> {
        all.iter().filter_map(|pem| CertificateInfo::from_pem(pem).ok()).map(|info| info.not_after).collect()
    };
    ends(intermediates).into_iter().chain(ends(anchors).into_iter().max()).fold(signer.not_after, SystemTime::min)
}

/// A random positive number of 128 bits at most.
fn serial() -> Result<SerialNumber, IdentityError> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| IdentityError::Crypto("the system gives no randomness".to_owned()))?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn self_signed(key: &PrivateKey, trust_domain: &TrustDomain, now: SystemTime) -> Result<String, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, trust_domain.as_str());
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + ROOT_LIFE).into();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial()?);
    let signed = params.self_signed(key.pair()).map_err(|error| IdentityError::Crypto(error.to_string()))?;
    Ok(pem("CERTIFICATE", signed.der()))
}

/// The bundle with the revocation lists of the CA's files, when they can be relied on for what this CA signs.
fn with_revocations(
    bundle: TrustBundle,
    texts: &files::Texts,
    signer: &CertificateDer<'_>,
    intermediates: &[String],
) -> Result<TrustBundle, IdentityError> {
    let Some(lists) = &texts.revocations else { return Ok(bundle) };
    let unusable = |reason: String| IdentityError::UnusableCa { path: texts.revocations_path.clone(), reason };
    let bundle = bundle.with_revocations(Some(lists)).map_err(|error| unusable(error.to_string()))?;
    let mut signing = certificates(&intermediates.concat())?;
    let top = signing.last().cloned().unwrap_or_else(|| signer.clone().into_owned());
    signing.extend(bundle.roots().iter().filter(|root| **root == top || is_signed_by(&top, root)).cloned());
    signing.dedup();
    bundle.revocations().check(&signing, bundle.roots(), SystemTime::now()).map_err(unusable)?;
    Ok(bundle)
}

fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| IdentityError::malformed("certificate", error))
}

/// The intermediates from the signer (itself included, unless it is a root) up to, but without, a root of the bundle,
/// each link checked by its signature. `None` when the signer does not get there.
fn path_to_root(
    signer: &CertificateDer<'_>,
    beside: &[CertificateDer<'static>],
    chain: &[CertificateDer<'static>],
    bundle: &TrustBundle,
) -> Option<Vec<String>> {
    let mut path = Vec::new();
    let mut current = signer.as_ref();
    // Each step takes another certificate of the files, so the walk ends.
    for _ in 0..=beside.len() + chain.len() {
        if bundle.holds(current) {
            return Some(path);
        }
        path.push(pem("CERTIFICATE", current));
        if bundle.signed(current) {
            return Some(path);
        }
        let above = beside.iter().chain(chain).find(|der| der.as_ref() != current && is_signed_by(current, der))?;
        current = above.as_ref();
    }
    None
}
