//! Configuration and registry at one moment, with everything derived from them.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use mutua_identity::{SpiffeId, TrustBundle, TrustDomain};
use mutua_model::Mesh;
use mutua_policy::Engine;
use mutua_wire::mesh::WorkloadLabels;

use super::{AuthorityError, Trust};
use crate::names::WorkloadName;

/// The service account of the control plane itself, for which nobody ever gets a token or a certificate.
pub const CONTROL_PLANE_ACCOUNT: &str = "istiod";

/// One workload that a proxy can stand for.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: WorkloadName,
    /// Its position among the engine's workloads.
    pub position: usize,
    /// Its service account.
    pub account: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether it is expected to have a sidecar.
    pub sidecar: bool,
    /// What metrics say about it.
    pub labels: WorkloadLabels,
}

/// Configuration and registry at one moment, with everything derived from them.
#[derive(Debug)]
pub struct Snapshot {
    /// The content of the reading that it is made of.
    pub content: String,
    /// Its number: each change has a higher one, also across restarts.
    pub generation: u64,
    /// When it came into force here.
    pub since: SystemTime,
    /// The decisions.
    pub engine: Engine,
    /// The mesh's own CA, by which callers of the control plane are known.
    pub trust: Trust,
    /// Whom proxies trust: the mesh's own CA and those that the mesh configuration names.
    pub bundle: TrustBundle,
    /// The mesh's own trust domain.
    pub trust_domain: TrustDomain,
    mesh: Arc<Mesh>,
    members: HashMap<WorkloadName, Arc<Member>>,
    by_address: HashMap<IpAddr, Arc<Member>>,
    /// Namespaces and service accounts that some workload runs as.
    accounts: HashSet<(String, String)>,
}

impl Snapshot {
    /// Derives everything from `mesh`.
    ///
    /// # Errors
    /// Trust domains or roots of the mesh configuration are none.
    pub fn new(generation: u64, mesh: Arc<Mesh>, content: &str, trust: Trust) -> Result<Self, AuthorityError> {
        let trust_domain = TrustDomain::new(&mesh.config.trust_domain)?;
        let bundle = super::authorities::bundle(&trust.roots, &mesh.config)?;
        let engine = Engine::new(Arc::clone(&mesh));
        let members: HashMap<_, _> =
            crate::compile::decide::members(&engine).into_iter().map(|member| (member.name.clone(), Arc::new(member))).collect();
        let mut by_address = HashMap::new();
        for member in members.values() {
            by_address.extend(member.addresses.iter().map(|address| (*address, Arc::clone(member))));
        }
        let account = |member: &Arc<Member>| (member.name.namespace().to_owned(), member.account.clone());
        let accounts = members.values().map(account).collect();
        let content = content.to_owned();
        Ok(Self {
            content,
            generation,
            since: SystemTime::now(),
            engine,
            trust,
            bundle,
            trust_domain,
            mesh,
            members,
            by_address,
            accounts,
        })
    }

    /// The configuration and registry.
    #[must_use]
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// The workload of that name, if a proxy can stand for it.
    #[must_use]
    pub fn member(&self, name: &WorkloadName) -> Option<&Arc<Member>> {
        self.members.get(name)
    }

    /// All workloads that a proxy can stand for.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values().map(AsRef::as_ref)
    }

    /// The workload at an address.
    #[must_use]
    pub fn member_at(&self, address: IpAddr) -> Option<&Member> {
        self.by_address.get(&address).map(AsRef::as_ref)
    }

    /// Whether an identity of this trust domain belongs to the mesh.
    #[must_use]
    pub fn trusts(&self, domain: &TrustDomain) -> bool {
        *domain == self.trust_domain || self.mesh.config.trust_domain_aliases.iter().any(|alias| alias == domain.as_str())
    }

    /// The identity of a workload of the mesh.
    ///
    /// # Errors
    /// A namespace or service account that no SPIFFE id can hold, or the control plane's own account.
    pub fn identity_of(&self, member: &Member) -> Result<SpiffeId, NoIdentity> {
        let namespace = member.name.namespace();
        if self.is_control_plane(namespace, &member.account) {
            return Err(NoIdentity::ControlPlane(member.name.clone()));
        }
        Ok(SpiffeId::new(self.trust_domain.clone(), namespace, &member.account)?)
    }

    /// The identity under which the mesh knows whoever proved to be `identity`: the same account, in the mesh's own trust
    /// domain also where the proof is of an alias.
    ///
    /// # Errors
    /// Another trust domain, an account that no workload of the mesh runs as, or the control plane's own.
    pub fn known_as(&self, identity: &SpiffeId) -> Result<SpiffeId, NoIdentity> {
        let (namespace, account) = (identity.namespace(), identity.service_account());
        if !self.trusts(identity.trust_domain()) {
            let own = self.trust_domain.clone();
            return Err(NoIdentity::TrustDomain { identity: identity.clone(), own });
        }
        if self.is_control_plane(namespace, account) || !self.accounts.contains(&(namespace.to_owned(), account.to_owned())) {
            return Err(NoIdentity::Nobody(identity.clone()));
        }
        Ok(SpiffeId::new(self.trust_domain.clone(), namespace, account)?)
    }

    /// Whether this is the account of the control plane.
    #[must_use]
    pub fn is_control_plane(&self, namespace: &str, account: &str) -> bool {
        account == CONTROL_PLANE_ACCOUNT && namespace == self.mesh.config.root_namespace
    }
}

/// Why a workload gets no certificate.
#[derive(Debug, thiserror::Error)]
pub enum NoIdentity {
    /// It runs as the control plane's account.
    #[error("{0} runs as the control plane's own service account: no token and no certificate is issued for it")]
    ControlPlane(WorkloadName),
    /// Its certificate is of a trust domain that is not the mesh's.
    #[error(
        "the certificate shown is of {identity}, and its trust domain is neither the mesh's ({own}) nor among \
         meshConfig.trustDomainAliases: list it there until all workloads have new certificates, or join anew with a token"
    )]
    TrustDomain {
        /// The identity.
        identity: SpiffeId,
        /// The mesh's trust domain.
        own: TrustDomain,
    },
    /// Nobody runs as this identity.
    #[error("no workload of the mesh runs as {0}")]
    Nobody(SpiffeId),
    /// Its names fit into no SPIFFE id.
    #[error(transparent)]
    Form(#[from] mutua_identity::SpiffeIdError),
}
