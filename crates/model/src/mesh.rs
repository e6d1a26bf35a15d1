//! Everything that was read, as one immutable value.

use crate::list::List;
use crate::{
    Authorities, AuthorizationPolicy, Controller, DestinationRule, EndpointSlice, MeshConfig, Meta, Namespace,
    PeerAuthentication, Pod, Secret, Service, ServiceEntry, Sidecar, Unenforced, WorkloadEntry,
};

/// A snapshot of configuration and registry. Lists and objects are shared, so a changed snapshot costs only what changed.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    /// The mesh configuration in force, defaults filled in.
    pub config: MeshConfig,
    /// Namespaces that were given; a namespace that is only mentioned exists too, without labels.
    pub namespaces: List<Namespace>,
    /// ServiceAccounts.
    pub service_accounts: List<Meta>,
    /// Services.
    pub services: List<Service>,
    /// EndpointSlices.
    pub endpoint_slices: List<EndpointSlice>,
    /// ServiceEntries.
    pub service_entries: List<ServiceEntry>,
    /// Pods.
    pub pods: List<Pod>,
    /// Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs.
    pub controllers: List<Controller>,
    /// WorkloadEntries.
    pub workload_entries: List<WorkloadEntry>,
    /// PeerAuthentications.
    pub peer_authentications: List<PeerAuthentication>,
    /// DestinationRules.
    pub destination_rules: List<DestinationRule>,
    /// Secrets and ConfigMaps, with what a `credentialName` can take from them.
    pub secrets: List<Secret>,
    /// Certificates of authorities that Secrets and ConfigMaps show.
    pub authorities: List<Authorities>,
    /// Sidecars.
    pub sidecars: List<Sidecar>,
    /// AuthorizationPolicies; they are among [`Self::unenforced`] too.
    pub authorization_policies: List<AuthorizationPolicy>,
    /// Objects of kinds that are read but not enforced.
    pub unenforced: List<Unenforced>,
    /// How many objects of unknown kinds were passed over.
    pub passed_over: usize,
}

impl Mesh {
    /// Whether another snapshot has the same configuration and shares all lists but that of the PeerAuthentications.
    #[must_use]
    pub fn differs_in_policies_only(&self, other: &Self) -> bool {
        // Every list by name, so that a new one cannot be forgotten here.
        let Self {
            config,
            namespaces,
            service_accounts,
            services,
            endpoint_slices,
            service_entries,
            pods,
            controllers,
            workload_entries,
            peer_authentications: _,
            destination_rules,
            secrets,
            authorities,
            sidecars,
            authorization_policies,
            unenforced,
            passed_over,
        } = self;
        *config == other.config
            && namespaces.shares_all_with(&other.namespaces)
            && service_accounts.shares_all_with(&other.service_accounts)
            && services.shares_all_with(&other.services)
            && endpoint_slices.shares_all_with(&other.endpoint_slices)
            && service_entries.shares_all_with(&other.service_entries)
            && pods.shares_all_with(&other.pods)
            && controllers.shares_all_with(&other.controllers)
            && workload_entries.shares_all_with(&other.workload_entries)
            && destination_rules.shares_all_with(&other.destination_rules)
            && secrets.shares_all_with(&other.secrets)
            && authorities.shares_all_with(&other.authorities)
            && sidecars.shares_all_with(&other.sidecars)
            && authorization_policies.shares_all_with(&other.authorization_policies)
            && unenforced.shares_all_with(&other.unenforced)
            && *passed_over == other.passed_over
    }
}
