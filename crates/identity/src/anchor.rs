//! Trust anchors: a CA's name and key, whatever certificate says so (RFC 5280 §6.1.1 (d)). That their certificates end is
//! checked here: the library looks at the time of everything below a root only.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};

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
    /// The same, for people.
    shown: String,
    /// The last second since 1970 in which its certificate counts.
    not_after: u64,
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

    /// The anchor that a chain which was found good leads to; `None` where that cannot be told. The library does not say
    /// which root it came to. Where only one bears the name of an issuer it was that one; else the chain is looked at once
    /// more, under each alone.
    pub(crate) fn above(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], now: UnixTime) -> Option<AnchorName> {
        let anchors = self.of(leaf);
        if let [anchor] = anchors {
            return Some(anchor.name);
        }
        let candidates = named(anchors, leaf, rest);
        let (first, others) = candidates.split_first()?;
        if others.iter().all(|other| other.name == first.name) {
            return Some(first.name);
        }
        candidates.into_iter().find(|anchor| anchor.leads_to(leaf, rest, now)).map(|anchor| anchor.name)
    }

    /// Where a chain that was found good leads to roots alone whose certificates have ended: the name of one.
    pub(crate) fn ended(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], now: UnixTime) -> Option<&str> {
        let anchors = self.of(leaf);
        if anchors.iter().all(|anchor| anchor.counts(now)) {
            return None;
        }
        let candidates = named(anchors, leaf, rest);
        let ended = candidates.iter().find(|anchor| !anchor.counts(now))?;
        let living = candidates.iter().any(|anchor| anchor.counts(now) && anchor.leads_to(leaf, rest, now));
        (!living).then_some(&ended.shown)
    }

    /// The last second in which all roots count that count now.
    pub(crate) fn next_end(&self, now: UnixTime) -> u64 {
        let all = self.of_mesh.iter().chain(self.domains.values().flatten());
        all.filter(|anchor| anchor.counts(now)).map(|anchor| anchor.not_after).min().unwrap_or(u64::MAX)
    }

    /// The anchors of the trust domain that a leaf claims to be of.
    fn of(&self, leaf: &CertificateDer<'_>) -> &[Anchor] {
        if self.domains.is_empty() {
            return &self.of_mesh;
        }
        let id = certificate::spiffe_id(leaf).ok();
        id.and_then(|id| self.domains.get(id.trust_domain())).unwrap_or(&self.of_mesh)
    }
}

/// Those that bear the name of an issuer of the chain.
fn named<'a>(anchors: &'a [Anchor], leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Vec<&'a Anchor> {
    let chain: Vec<_> = std::iter::once(leaf).chain(rest).filter_map(|der| certificate::parse(der).ok()).collect();
    anchors.iter().filter(|anchor| chain.iter().any(|one| one.issuer().as_raw() == anchor.subject)).collect()
}

impl Anchor {
    fn counts(&self, now: UnixTime) -> bool {
        now.as_secs() <= self.not_after
    }

    /// Whether the chain is good under this root alone, for a server or else for a client.
    fn leads_to(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], now: UnixTime) -> bool {
        let (provider, root) = (provider::plain(), Arc::clone(&self.alone));
        let algorithms = provider.signature_verification_algorithms.all;
        let of_server = |leaf| verify_server_cert_signed_by_trust_anchor(&leaf, &root, rest, now, algorithms).is_ok();
        if ParsedCertificate::try_from(leaf).is_ok_and(of_server) {
            return true;
        }
        let of_clients = WebPkiClientVerifier::builder_with_provider(root, Arc::clone(&provider)).build();
        of_clients.is_ok_and(|of_clients| of_clients.verify_client_cert(leaf, rest, now).is_ok())
    }
}

fn anchors(roots: &[CertificateDer<'static>]) -> Result<Vec<Anchor>, IdentityError> {
    roots.iter().map(anchor).collect()
}

fn anchor(root: &CertificateDer<'static>) -> Result<Anchor, IdentityError> {
    let mut alone = RootCertStore::empty();
    alone.add(root.clone()).map_err(|error| IdentityError::malformed("root bundle", error))?;
    let parsed = certificate::parse(root)?;
    let (subject, shown) = (parsed.subject().as_raw().to_vec(), parsed.subject().to_string());
    let not_after = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    Ok(Anchor { name: AnchorName::of(root)?, subject, shown, not_after, alone: Arc::new(alone) })
}
