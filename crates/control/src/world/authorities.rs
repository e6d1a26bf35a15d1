//! Whom proxies trust: the mesh's own CA, and the roots of others that the mesh configuration names, each for its trust
//! domains.

use std::collections::{BTreeMap, BTreeSet};

use mutua_identity::{IdentityError, SpiffeIdError, TrustBundle, TrustDomain};
use mutua_model::MeshConfig;

/// Why the roots of a mesh configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Text that holds no usable roots.
    #[error("{path}: {error}")]
    Roots {
        /// The field.
        path: String,
        /// What is wrong.
        error: IdentityError,
    },
    /// A trust domain that is none.
    #[error("trust domain: {0}")]
    TrustDomain(#[from] SpiffeIdError),
}

/// The bundle of every proxy. `caCertificates` without trust domains vouch for everybody. Those with trust domains vouch for
/// identities of these alone; and for such a domain the mesh's own CA vouches only when it is the mesh's own or an alias.
pub(super) fn bundle(own: &TrustBundle, config: &MeshConfig) -> Result<TrustBundle, AuthorityError> {
    let (mut everybody, mut of) = (own.clone(), BTreeMap::<TrustDomain, Vec<TrustBundle>>::new());
    let mut general = Vec::new();
    for authority in &config.authorities {
        let roots = TrustBundle::from_pem(&authority.pem)
            .map_err(|error| AuthorityError::Roots { path: authority.path.clone(), error })?;
        if authority.trust_domains.is_empty() {
            everybody = everybody.union(&roots);
            general.push(roots);
            continue;
        }
        for domain in &authority.trust_domains {
            of.entry(TrustDomain::new(domain)?).or_default().push(roots.clone());
        }
    }
    let domains = std::iter::once(&config.trust_domain).chain(&config.trust_domain_aliases);
    let ours = domains.map(|domain| TrustDomain::new(domain)).collect::<Result<BTreeSet<_>, _>>()?;
    for (domain, mut roots) in of {
        roots.extend(general.iter().cloned());
        roots.extend(ours.contains(&domain).then(|| own.clone()));
        let Some(together) = roots.into_iter().reduce(|all, more| all.union(&more)) else { continue };
        everybody = everybody.with_domain(domain, &together);
    }
    Ok(everybody)
}
