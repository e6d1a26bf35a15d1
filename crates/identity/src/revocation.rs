//! Revocation lists (RFC 5280 §5): which certificates their CAs have taken back.

use std::collections::HashSet;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::bundle::pem;
use crate::{CertificateInfo, IdentityError, certificate};

/// The most text of revocation lists that is read, bytes: what a Kubernetes Secret or ConfigMap can hold.
pub const MAX_REVOCATIONS: usize = 1 << 20;

/// What names one certificate: a digest of its issuer and serial number (RFC 5280 §4.1.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CertificateName([u8; 32]);

impl CertificateName {
    fn new(issuer: &[u8], serial: &[u8]) -> Self {
        let significant = serial.iter().position(|byte| *byte != 0).unwrap_or(serial.len());
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        context.update(issuer);
        context.update(&serial[significant..]);
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Self(digest)
    }

    /// The names of a leaf, the first of a chain, and of the certificates between it and its root, in whatever order the peer
    /// sent them.
    pub(crate) fn path(chain: &[CertificateDer<'_>]) -> Vec<Self> {
        let mut sent: Vec<_> = chain.iter().filter_map(|der| certificate::parse(der).ok()).collect();
        let (mut names, mut next) = (Vec::new(), (!sent.is_empty()).then_some(0));
        while let Some(at) = next {
            let one = sent.swap_remove(at);
            let issuer = one.issuer().as_raw();
            names.push(Self::new(issuer, one.raw_serial()));
            next = sent.iter().position(|above| above.subject().as_raw() == issuer);
        }
        names
    }
}

/// What people want to know of a revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationInfo {
    /// The CA's distinguished name.
    pub issuer: String,
    /// When it was made.
    pub issued: SystemTime,
    /// When the next one is due; from then on nobody relies on this one, and who is under this CA is refused.
    pub next_update: Option<SystemTime>,
    /// How many certificates it takes back.
    pub revoked: usize,
}

/// Revocation lists, in a fixed order without duplicates.
#[derive(Clone, Default)]
pub(crate) struct Revocations {
    lists: Vec<(CertificateRevocationListDer<'static>, RevocationInfo)>,
    revoked: HashSet<CertificateName>,
}

impl Revocations {
    /// Reads PEM lists. Text without any list is a mistake: without one nothing is ever found revoked.
    pub(crate) fn from_pem(text: &str) -> Result<Self, IdentityError> {
        let (mut all, mut revoked) = (Vec::new(), HashSet::new());
        for der in lists(text).map_err(malformed)? {
            let list = parse(&der)?;
            let info = RevocationInfo {
                issuer: list.issuer().to_string(),
                issued: certificate::time(list.last_update().timestamp()),
                next_update: list.next_update().map(|next| certificate::time(next.timestamp())),
                revoked: list.iter_revoked_certificates().count(),
            };
            revoked.extend(names(&list));
            all.push((der, info));
        }
        Ok(Self::new(all, revoked))
    }

    fn new(mut lists: Vec<(CertificateRevocationListDer<'static>, RevocationInfo)>, revoked: HashSet<CertificateName>) -> Self {
        lists.sort_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()));
        lists.dedup_by(|(a, _), (b, _)| a == b);
        Self { lists, revoked }
    }

    /// The lists of both; one of `other` takes the place of one of the same CA.
    pub(crate) fn union(&self, other: &Self) -> Self {
        let kept = self.lists.iter().filter(|(_, one)| other.infos().all(|list| list.issuer != one.issuer));
        let lists: Vec<_> = kept.chain(&other.lists).cloned().collect();
        let revoked = lists.iter().filter_map(|(der, _)| parse(der).ok()).flat_map(|list| names(&list)).collect();
        Self::new(lists, revoked)
    }

    pub(crate) fn ders(&self) -> impl Iterator<Item = &CertificateRevocationListDer<'static>> {
        self.lists.iter().map(|(der, _)| der)
    }

    pub(crate) fn infos(&self) -> impl Iterator<Item = &RevocationInfo> {
        self.lists.iter().map(|(_, info)| info)
    }

    pub(crate) fn to_pem(&self) -> Vec<String> {
        self.ders().map(|der| pem("X509 CRL", der)).collect()
    }

    /// Whether one of these certificates is taken back.
    pub(crate) fn hold(&self, names: &[CertificateName]) -> bool {
        names.iter().any(|name| self.revoked.contains(name))
    }

    /// Whether peers could rely on the lists for what is signed below `authorities`, a signer and the CAs above it, and
    /// for the further CAs `known`, at `now`; else what is wrong.
    ///
    /// Every CA that signs must have a list: stock Envoy refuses whatever is below a CA without one.
    #[cfg(feature = "issuer")]
    pub(crate) fn check(
        &self,
        authorities: &[CertificateDer<'_>],
        known: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<(), String> {
        for der in self.ders() {
            let list = parse(der).map_err(|error| error.to_string())?;
            for authority in authorities.iter().chain(known) {
                signed_by(&list, authority)?;
            }
        }
        if let Some(ended) = self.infos().find(|info| info.next_update.is_some_and(|next| next <= now)) {
            return Err(format!("the list of {} has ended: its next one was due at {}", ended.issuer, shown(ended.next_update)));
        }
        for authority in authorities {
            let info = CertificateInfo::from_der(authority).map_err(|error| error.to_string())?;
            if self.infos().filter(|list| list.issuer == info.subject).count() != 1 {
                return Err(format!("it must hold exactly one list of {}, which is among those that sign", info.subject));
            }
            if self.hold(&CertificateName::path(std::slice::from_ref(authority))) {
                let (subject, serial) = (info.subject, info.serial);
                return Err(format!("it revokes {subject} ({serial}), which is to sign: nobody would accept what it signs"));
            }
        }
        Ok(())
    }
}

impl PartialEq for Revocations {
    fn eq(&self, other: &Self) -> bool {
        self.ders().eq(other.ders())
    }
}

/// Lists are told apart by the name of their CA: one that bears the name of a CA must be signed by that CA's key.
#[cfg(feature = "issuer")]
fn signed_by(list: &CertificateRevocationList<'_>, authority: &[u8]) -> Result<(), String> {
    let Ok(authority) = certificate::parse(authority) else { return Ok(()) };
    if authority.subject().as_raw() != list.issuer().as_raw() {
        return Ok(());
    }
    let name = list.issuer();
    list.verify_signature(authority.public_key()).map_err(|_| format!("the list of {name} is not signed by that CA"))?;
    let may = authority.key_usage().ok().flatten().is_none_or(|usage| usage.value.crl_sign());
    if may { Ok(()) } else { Err(format!("the certificate of {name} does not allow it to sign lists (key usage cRLSign)")) }
}

#[cfg(feature = "issuer")]
fn shown(time: Option<SystemTime>) -> String {
    time.map_or_else(String::new, |time| time::OffsetDateTime::from(time).to_string())
}

/// The names of what a list takes back.
fn names(list: &CertificateRevocationList<'_>) -> Vec<CertificateName> {
    let issuer = list.issuer().as_raw();
    list.iter_revoked_certificates().map(|one| CertificateName::new(issuer, one.raw_serial())).collect()
}

fn parse<'a>(der: &'a CertificateRevocationListDer<'_>) -> Result<CertificateRevocationList<'a>, IdentityError> {
    match CertificateRevocationList::from_der(der.as_ref()) {
        Ok(([], list)) => Ok(list),
        Ok(_) => Err(malformed("bytes after its end".to_owned())),
        Err(error) => Err(malformed(error.to_string())),
    }
}

/// The lists of a PEM text; else what is wrong with it.
pub(crate) fn lists(text: &str) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    if text.len() > MAX_REVOCATIONS {
        return Err(format!("{} bytes are more than the {MAX_REVOCATIONS} that are read", text.len()));
    }
    let lists = CertificateRevocationListDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let lists = lists.map_err(|error| pem_fault(&error))?;
    if lists.is_empty() { Err("no PEM list in it".to_owned()) } else { Ok(lists) }
}

/// What is wrong with PEM, where the library's own text shows bytes as numbers.
pub(crate) fn pem_fault(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::MissingSectionEnd { end_marker } => {
            format!("cut off: END {} is missing", String::from_utf8_lossy(end_marker))
        }
        other => other.to_string(),
    }
}

fn malformed(reason: String) -> IdentityError {
    IdentityError::malformed("certificate revocation list", reason)
}
