//! Trust anchors: a CA's name and key, whatever certificate says so (RFC 5280 §6.1.1 (d)).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;

use crate::tls::provider;
use crate::{IdentityError, TrustDomain, certificate};

/// What tells one trust anchor from another: a digest of the CA's name and key, so that a root which was made anew over the
/// same key is the same anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnchorName([u8; 32]);

impl AnchorName {
    pub(crate) fn of(root: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let root = certificate::parse(root)?;
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        context.update(root.subject().as_raw());
        context.update(root.public_key().raw);
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Ok(Self(digest))
    }
}

/// Lower-case hexadecimal.
impl fmt::Display for AnchorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The anchors of a bundle, to tell which of them a peer's chain leads to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Anchors {
    of_mesh: Vec<Anchor>,
    domains: BTreeMap<TrustDomain, Vec<Anchor>>,
}

#[derive(Clone, Debug)]
struct Anchor {
    name: AnchorName,
    /// The CA's distinguished name, DER.
    subject: Vec<u8>,
    /// Nothing but this root.
    alone: Arc<RootCertStore>,
}

impl Anchors {
    pub(crate) fn new(
        roots: &[CertificateDer<'static>],
        domains: &BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>,
    ) -> Result<Self, IdentityError> {
        let of_domain = |(domain, roots): (&TrustDomain, &Vec<_>)| Ok((domain.clone(), anchors(roots)?));
        let domains = domains.iter().map(of_domain).collect::<Result<_, IdentityError>>()?;
        Ok(Self { of_mesh: anchors(roots)?, domains })
    }

    /// The anchor that a chain which was found good leads to, the leaf of `domain` first; `None` where that cannot be told.
    /// The library does not say which root it came to. Where only one bears the name of an issuer it was that one; else the
    /// chain is looked at once more, under each alone.
    pub(crate) fn above(&self, chain: &[CertificateDer<'_>], domain: Option<&TrustDomain>, now: UnixTime) -> Option<AnchorName> {
        let anchors = domain.and_then(|domain| self.domains.get(domain)).unwrap_or(&self.of_mesh);
        if let [anchor] = &anchors[..] {
            return Some(anchor.name);
        }
        let parsed: Vec<_> = chain.iter().filter_map(|der| certificate::parse(der).ok()).collect();
        let named = |anchor: &&Anchor| parsed.iter().any(|one| one.issuer().as_raw() == anchor.subject);
        let candidates: Vec<&Anchor> = anchors.iter().filter(named).collect();
        let (first, others) = candidates.split_first()?;
        if others.iter().all(|other| other.name == first.name) {
            return Some(first.name);
        }
        candidates.into_iter().find(|anchor| leads_to(chain, &anchor.alone, now)).map(|anchor| anchor.name)
    }
}

fn anchors(roots: &[CertificateDer<'static>]) -> Result<Vec<Anchor>, IdentityError> {
    roots.iter().map(anchor).collect()
}

fn anchor(root: &CertificateDer<'static>) -> Result<Anchor, IdentityError> {
    let mut alone = RootCertStore::empty();
    alone.add(root.clone()).map_err(|error| IdentityError::malformed("root bundle", error))?;
    let subject = certificate::parse(root)?.subject().as_raw().to_vec();
    Ok(Anchor { name: AnchorName::of(root)?, subject, alone: Arc::new(alone) })
}

fn leads_to(chain: &[CertificateDer<'_>], root: &RootCertStore, now: UnixTime) -> bool {
    let Some((leaf, rest)) = chain.split_first() else { return false };
    let algorithms = provider::plain().signature_verification_algorithms.all;
    ParsedCertificate::try_from(leaf)
        .is_ok_and(|leaf| verify_server_cert_signed_by_trust_anchor(&leaf, root, rest, now, algorithms).is_ok())
}
