//! Configuration and registry at one moment, with everything derived from them.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use mutua_identity::{SpiffeId, TrustDomain};
use mutua_model::Mesh;
use mutua_policy::Engine;
use mutua_wire::mesh::WorkloadLabels;

use super::Trust;
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
    /// Its number: each change has a higher one, also across restarts.
    pub generation: u64,
    /// When it came into force here.
    pub since: SystemTime,
    /// The decisions.
    pub engine: Engine,
    /// Whom everybody trusts.
    pub trust: Trust,
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
    /// The trust domain of the mesh configuration is none.
    pub fn new(generation: u64, mesh: Arc<Mesh>, trust: Trust) -> Result<Self, mutua_identity::SpiffeIdError> {
        let trust_domain = TrustDomain::new(&mesh.config.trust_domain)?;
        let engine = Engine::new(Arc::clone(&mesh));
        let members: HashMap<_, _> =
            crate::compile::decide::members(&engine).into_iter().map(|member| (member.name.clone(), Arc::new(member))).collect();
        let mut by_address = HashMap::new();
        for member in members.values() {
            by_address.extend(member.addresses.iter().map(|address| (*address, Arc::clone(member))));
        }
        let account = |member: &Arc<Member>| (member.name.namespace().to_owned(), member.account.clone());
        let accounts = members.values().map(account).collect();
        Ok(Self { generation, since: SystemTime::now(), engine, trust, trust_domain, mesh, members, by_address, accounts })
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

    /// Whether some workload of the mesh runs as this identity.
    #[must_use]
    pub fn has_identity(&self, identity: &SpiffeId) -> bool {
        let account = (identity.namespace().to_owned(), identity.service_account().to_owned());
        *identity.trust_domain() == self.trust_domain && self.accounts.contains(&account)
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
    /// Its names fit into no SPIFFE id.
    #[error(transparent)]
    Form(#[from] mutua_identity::SpiffeIdError),
}
