//! Everything that was read, as one immutable value.

use std::sync::Arc;

use crate::{
    AuthorizationPolicy, Controller, DestinationRule, EndpointSlice, MeshConfig, Meta, Namespace, PeerAuthentication, Pod,
    Service, ServiceEntry, Sidecar, Unenforced, WorkloadEntry,
};

/// A snapshot of configuration and registry. Objects are shared, so a changed snapshot costs only what changed.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    /// The mesh configuration in force, defaults filled in.
    pub config: MeshConfig,
    /// Namespaces that were given; a namespace that is only mentioned exists too, without labels.
    pub namespaces: Vec<Arc<Namespace>>,
    /// ServiceAccounts.
    pub service_accounts: Vec<Arc<Meta>>,
    /// Services.
    pub services: Vec<Arc<Service>>,
    /// EndpointSlices.
    pub endpoint_slices: Vec<Arc<EndpointSlice>>,
    /// ServiceEntries.
    pub service_entries: Vec<Arc<ServiceEntry>>,
    /// Pods.
    pub pods: Vec<Arc<Pod>>,
    /// Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs.
    pub controllers: Vec<Arc<Controller>>,
    /// WorkloadEntries.
    pub workload_entries: Vec<Arc<WorkloadEntry>>,
    /// PeerAuthentications.
    pub peer_authentications: Vec<Arc<PeerAuthentication>>,
    /// DestinationRules.
    pub destination_rules: Vec<Arc<DestinationRule>>,
    /// Secrets: only their metadata; values are read where they are needed.
    pub secrets: Vec<Arc<Meta>>,
    /// Sidecars.
    pub sidecars: Vec<Arc<Sidecar>>,
    /// AuthorizationPolicies; they are among [`Self::unenforced`] too.
    pub authorization_policies: Vec<Arc<AuthorizationPolicy>>,
    /// Objects of kinds that are read but not enforced.
    pub unenforced: Vec<Arc<Unenforced>>,
    /// How many objects of unknown kinds were passed over.
    pub passed_over: usize,
}
