//! Trust bundles: the roots that a peer's certificate must chain to, and what their CAs have taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::anchor::{AnchorName, Anchors};
#[cfg(feature = "issuer")]
use crate::certificate;
use crate::revocation::{CertificateName, RevocationInfo, Revocations};
use crate::tls::provider;
use crate::{CertificateInfo, IdentityError, Negotiated, TrustDomain};

/// A set of root certificates, at least one, without duplicates, in a fixed order, with the revocation lists of CAs.
///
/// As in Envoy and ztunnel a list that has ended is not relied on: whoever is below its CA is refused. A certificate whose
/// CA has no list here counts as not revoked (ztunnel; Envoy refuses it), so that a CA of a foreign mesh needs none.
///
/// Identities of some trust domains may be bound to roots of their own ([`TrustBundle::with_domain`]): these vouch for nobody
/// else, and nobody else for them.
#[derive(Clone)]
pub struct TrustBundle {
    roots: Vec<CertificateDer<'static>>,
    domains: Arc<BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>>,
    revocations: Arc<Revocations>,
    /// Made once, of roots and lists, and shared by every configuration.
    checks: Arc<OnceLock<Checks>>,
}

/// The library's verifiers of chains.
#[derive(Clone)]
pub(crate) struct Checks {
    pub(crate) roots: Verifiers,
    /// For identities of these trust domains.
    pub(crate) domains: Arc<BTreeMap<TrustDomain, Verifiers>>,
    pub(crate) anchors: Arc<Anchors>,
    /// The last second since 1970 in which all revocation lists count.
    pub(crate) until: u64,
}

/// The library's verifiers under one set of roots.
#[derive(Clone, Debug)]
pub(crate) struct Verifiers {
    pub(crate) of_servers: Arc<WebPkiServerVerifier>,
    pub(crate) of_clients: Arc<dyn ClientCertVerifier>,
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
        Ok(Self::new(roots, Arc::default(), Arc::default()))
    }

    /// The same, with `roots` alone vouching for identities of `domain`.
    #[must_use]
    pub fn with_domain(self, domain: TrustDomain, roots: &Self) -> Self {
        let mut domains = (*self.domains).clone();
        domains.insert(domain, roots.roots.clone());
        Self::new(self.roots, Arc::new(domains), self.revocations)
    }

    /// The trust domains that have roots of their own, with those roots, PEM, one text each.
    pub fn domains(&self) -> impl Iterator<Item = (&TrustDomain, Vec<String>)> {
        self.domains.iter().map(|(domain, roots)| (domain, roots.iter().map(|der| pem("CERTIFICATE", der)).collect()))
    }

    /// The same roots, with the revocation lists of a PEM text instead of those before; without text none.
    ///
    /// # Errors
    /// Text without a list, over [`crate::MAX_REVOCATIONS`] bytes, or with one that is malformed or of a kind that is not served
    /// (delta and indirect lists).
    pub fn with_revocations(self, pem: Option<&str>) -> Result<Self, IdentityError> {
        let revocations = pem.map(Revocations::from_pem).transpose()?.unwrap_or_default();
        let with = Self::new(self.roots, self.domains, Arc::new(revocations));
        with.checks()?;
        Ok(with)
    }

    fn new(
        mut roots: Vec<CertificateDer<'static>>,
        domains: Arc<BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>>,
        revocations: Arc<Revocations>,
    ) -> Self {
        roots.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        roots.dedup();
        Self { roots, domains, revocations, checks: Arc::default() }
    }

    /// Roots and revocation lists of both; a list of `other` takes the place of one of the same CA, its roots of a trust
    /// domain that of those here.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let roots = self.roots.iter().chain(&other.roots).cloned().collect();
        let domains = self.domains.iter().chain(other.domains.iter()).map(|(domain, roots)| (domain.clone(), roots.clone()));
        Self::new(roots, Arc::new(domains.collect()), Arc::new(self.revocations.union(&other.revocations)))
    }

    /// The revocation lists as PEM, one text each.
    #[must_use]
    pub fn revocations_pem(&self) -> Vec<String> {
        self.revocations.to_pem()
    }

    /// What the revocation lists say of themselves.
    #[must_use]
    pub fn revocation_infos(&self) -> Vec<RevocationInfo> {
        self.revocations.infos().cloned().collect()
    }

    /// Whether one of these certificates is revoked.
    #[must_use]
    pub fn revokes(&self, certificates: &[CertificateName]) -> bool {
        self.revocations.hold(certificates)
    }

    /// Whether the peer of a connection has shown a certificate that is revoked, or is below one that is.
    #[must_use]
    pub fn revokes_peer(&self, negotiated: &Negotiated) -> bool {
        self.revokes(&negotiated.peer_path)
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

    /// What the roots say of themselves, those of trust domains left out.
    #[must_use]
    pub fn infos(&self) -> Vec<CertificateInfo> {
        self.roots.iter().filter_map(|der| CertificateInfo::from_der(der).ok()).collect()
    }

    /// What the roots of trust domains say of themselves that are not among the others.
    #[must_use]
    pub fn domain_infos(&self) -> Vec<(TrustDomain, CertificateInfo)> {
        let further = |(domain, roots): (&TrustDomain, &Vec<CertificateDer<'static>>)| {
            let roots = roots.iter().filter(|root| !self.roots.contains(root));
            let infos = roots.filter_map(|root| CertificateInfo::from_der(root).ok());
            infos.map(|info| (domain.clone(), info)).collect::<Vec<_>>()
        };
        self.domains.iter().flat_map(further).collect()
    }

    /// The trust anchors that the roots are, those of trust domains left out.
    #[must_use]
    pub fn anchors(&self) -> BTreeSet<AnchorName> {
        self.roots.iter().filter_map(|der| AnchorName::of(der).ok()).collect()
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

    /// The roots themselves.
    #[cfg(feature = "issuer")]
    pub(crate) fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The lists.
    #[cfg(feature = "issuer")]
    pub(crate) fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    pub(crate) fn checks(&self) -> Result<&Checks, IdentityError> {
        if let Some(made) = self.checks.get() {
            return Ok(made);
        }
        let made = self.make_checks()?;
        Ok(self.checks.get_or_init(|| made))
    }

    fn make_checks(&self) -> Result<Checks, IdentityError> {
        let of_domain = |(domain, roots): (&TrustDomain, &Vec<_>)| Ok((domain.clone(), self.verifiers(roots)?));
        let domains = self.domains.iter().map(of_domain).collect::<Result<_, IdentityError>>()?;
        let until = self.revocations.infos().map(last_second).min().unwrap_or(u64::MAX);
        let anchors = Arc::new(Anchors::new(&self.roots, &self.domains)?);
        Ok(Checks { roots: self.verifiers(&self.roots)?, domains: Arc::new(domains), anchors, until })
    }

    fn verifiers(&self, roots: &[CertificateDer<'static>]) -> Result<Verifiers, IdentityError> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.clone()).map_err(|error| IdentityError::malformed("root bundle", error))?;
        }
        let (store, lists) = (Arc::new(store), || self.revocations.ders());
        let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(&store), provider::plain());
        let servers = servers.with_crls(lists().cloned()).allow_unknown_revocation_status();
        let clients = WebPkiClientVerifier::builder_with_provider(store, provider::plain());
        let clients = clients.with_crls(lists().cloned()).allow_unknown_revocation_status();
        let unusable = |error: rustls::server::VerifierBuilderError| IdentityError::malformed("trust bundle", error);
        Ok(Verifiers {
            of_servers: servers.enforce_revocation_expiration().build().map_err(unusable)?,
            of_clients: clients.enforce_revocation_expiration().build().map_err(unusable)?,
        })
    }
}

impl PartialEq for TrustBundle {
    fn eq(&self, other: &Self) -> bool {
        self.roots == other.roots && self.domains == other.domains && self.revocations == other.revocations
    }
}

impl Eq for TrustBundle {}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.infos().into_iter().map(|root| (root.subject, root.serial)).collect();
        f.debug_struct("TrustBundle").field("roots", &names).field("revocations", &self.revocation_infos()).finish()
    }
}

/// A list counts until just before the next one is due; one that says nothing of the next never does.
fn last_second(list: &RevocationInfo) -> u64 {
    let next = list.next_update.and_then(|next| next.duration_since(UNIX_EPOCH).ok());
    next.map_or(0, |next| next.as_secs().saturating_sub(1))
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
