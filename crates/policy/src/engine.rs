//! The engine: a snapshot, indexed once, that answers every question.

use std::sync::Arc;

use mutua_model::{Labels, Mesh, MtlsMode, OutboundPolicy};

use crate::client::{self, ClientDecision, Question};
use crate::client_class::{ClientClass, Views};
use crate::credential::Secrets;
use crate::destination_rule::{MergedRule, RuleIndex};
use crate::names::{self, Names};
use crate::peer_authentication::{Effective, PeerPolicies, Scope, decided_by};
use crate::service::{self, Endpoint, Service};
use crate::trace::Step;
use crate::visibility::{self, Sidecars};
use crate::workload::{self, Workload};

/// A question that cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// A name that is not of the form asked for.
    #[error("{given:?}: {expected}")]
    Malformed {
        /// What was given.
        given: String,
        /// What is expected.
        expected: &'static str,
    },
    /// No workload has that name.
    #[error("no workload {name}{hint}")]
    UnknownWorkload {
        /// The name.
        name: String,
        /// What there is instead.
        hint: String,
    },
    /// Several kinds have a workload of that name.
    #[error("{name} is {}: write KIND/NAMESPACE/NAME", kinds.join(" and "))]
    Ambiguous {
        /// The name.
        name: String,
        /// The kinds.
        kinds: Vec<String>,
    },
    /// The service has no such port.
    #[error("{service} has no port {port}; it declares {}", list(declared))]
    UnknownPort {
        /// The service.
        service: String,
        /// The port asked for.
        port: u16,
        /// The ports there are.
        declared: Vec<u16>,
    },
    /// The subset is not declared by the rule that applies.
    #[error("{service} has no subset {subset:?} in the DestinationRule that the client uses{hint}")]
    UnknownSubset {
        /// The service.
        service: String,
        /// The subset asked for.
        subset: String,
        /// The subsets there are.
        hint: String,
    },
}

fn list(ports: &[u16]) -> String {
    if ports.is_empty() {
        return "none".to_owned();
    }
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A snapshot of the mesh with its indexes. What a later snapshot has in common with it is shared ([`Engine::next`]).
#[derive(Clone, Debug)]
pub struct Engine {
    mesh: Arc<Mesh>,
    workloads: Arc<Vec<Workload>>,
    pub(crate) services: Arc<Vec<Service>>,
    pub(crate) names: Arc<Names>,
    pub(crate) policies: Arc<PeerPolicies>,
    pub(crate) rules: Arc<RuleIndex>,
    pub(crate) sidecars: Arc<Sidecars>,
    pub(crate) secrets: Arc<Secrets>,
    views: Arc<Views>,
    /// What each workload accepts.
    effective: Vec<Arc<Effective>>,
}

impl Engine {
    /// Indexes a snapshot.
    #[must_use]
    pub fn new(mesh: Arc<Mesh>) -> Self {
        let workloads = workload::all(&mesh);
        let services = service::all(&mesh, &workloads);
        let policies = PeerPolicies::new(&mesh);
        let effective = effective(&policies, &workloads);
        let (rules, sidecars) = (RuleIndex::new(&mesh), Sidecars::new(&mesh));
        Self {
            views: Arc::new(Views::new(&mesh, &services, &rules, &sidecars)),
            names: Arc::new(Names::new(&workloads, &services)),
            rules: Arc::new(rules),
            secrets: Arc::new(Secrets::new(&mesh)),
            sidecars: Arc::new(sidecars),
            workloads: Arc::new(workloads),
            services: Arc::new(services),
            policies: Arc::new(policies),
            mesh,
            effective,
        }
    }

    /// The engine of the next snapshot. When nothing but PeerAuthentications differ, only the workloads that they can be
    /// about are looked at again; objects are taken for the same when the snapshots share them.
    #[must_use]
    pub fn next(&self, mesh: Arc<Mesh>) -> Self {
        self.next_with_scope(mesh).0
    }

    /// The same, and where decisions may have changed.
    pub(crate) fn next_with_scope(&self, mesh: Arc<Mesh>) -> (Self, Scope) {
        if !self.mesh.differs_in_policies_only(&mesh) {
            return (Self::new(mesh), Scope::Everywhere);
        }
        let policies = PeerPolicies::new(&mesh);
        let scope = policies.changed_since(&self.policies);
        let mut next = Self { mesh, ..self.clone() };
        match &scope {
            Scope::Everywhere => next.effective = effective(&policies, &next.workloads),
            Scope::Namespaces(changed) => {
                for namespace in changed {
                    let range = names::of_namespace(&next.workloads, namespace);
                    let own = effective(&policies, &next.workloads[range.clone()]);
                    next.effective.splice(range, own);
                }
            }
        }
        next.policies = Arc::new(policies);
        (next, scope)
    }

    /// The snapshot.
    #[must_use]
    pub fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }

    /// All workloads, by namespace, name and kind.
    #[must_use]
    pub fn workloads(&self) -> &[Workload] {
        &self.workloads
    }

    /// The workload of that name: `NAMESPACE/NAME` among pods and WorkloadEntries, then controllers, or
    /// `KIND/NAMESPACE/NAME`.
    ///
    /// # Errors
    /// No such name, or a workload of several kinds has it.
    pub fn workload(&self, name: &str) -> Result<&Workload, QueryError> {
        self.position(name).map(|at| &self.workloads[at])
    }

    pub(crate) fn position(&self, name: &str) -> Result<usize, QueryError> {
        names::position(&self.workloads, name)
    }

    /// What happens to destinations that the workload's sidecar does not know.
    #[must_use]
    pub fn outbound_policy(&self, workload: &Workload) -> OutboundPolicy {
        self.sidecars.outbound_policy(workload)
    }

    /// What the workload at a position accepts.
    pub(crate) fn accepts(&self, at: usize) -> &Arc<Effective> {
        &self.effective[at]
    }

    /// What an endpoint accepts, whether it is a workload of the mesh or not.
    pub(crate) fn endpoint_accepts(&self, endpoint: &Endpoint) -> Arc<Effective> {
        match endpoint.workload {
            Some(at) => Arc::clone(&self.effective[at]),
            None => Arc::new(self.policies.effective(&endpoint.namespace, &endpoint.labels)),
        }
    }

    /// Whether a sidecar stands before an endpoint.
    pub(crate) fn has_sidecar(&self, endpoint: &Endpoint) -> bool {
        endpoint.workload.map_or_else(|| workload::is_istio(&endpoint.tls_mode), |at| self.workloads[at].sidecar)
    }

    /// What workloads of a namespace accept that no policy singles out, and the object that decided it, or `default`.
    #[must_use]
    pub fn namespace_mode(&self, namespace: &str) -> (MtlsMode, String) {
        let effective = self.policies.effective(namespace, &Labels::default());
        (effective.mode, decided_by(&effective.by))
    }

    /// The services that a workload is an endpoint of, oldest first, with the endpoint.
    pub(crate) fn services_of(&self, at: usize) -> impl Iterator<Item = (&Service, &Endpoint)> {
        let own = self.names.services_of(at);
        own.map(|(service, endpoint)| (&self.services[service], &self.services[service].endpoints[endpoint]))
    }

    /// The services of exactly that host; Kubernetes' before ServiceEntries, oldest first.
    pub(crate) fn services_of_exact_host(&self, host: &str) -> Vec<&Service> {
        self.names.of_host(host).iter().map(|at| &self.services[*at]).collect()
    }

    /// The services whose wildcard host covers a name, the most specific first.
    pub(crate) fn services_covering(&self, host: &str) -> Vec<&Service> {
        let wild = self.names.wildcards().iter().map(|at| &self.services[*at]);
        let mut covering: Vec<&Service> = wild.filter(|one| crate::host::covers(&one.host, host)).collect();
        covering.sort_by(|a, b| crate::host::by_specificity(&a.host, &b.host));
        covering
    }

    /// The services that are reached at an address.
    pub(crate) fn services_at(&self, address: &str) -> impl Iterator<Item = &Service> {
        self.names.at_address(address).iter().map(|at| &self.services[*at])
    }

    /// Of all services with one host the one that a client's sidecar takes for a port.
    pub(crate) fn visible<'e>(&'e self, client: &Workload, candidates: &[&'e Service], port: u16) -> Option<&'e Service> {
        visibility::providing(self.sidecars.of(client), &client.namespace, candidates, port)
    }

    /// The DestinationRule that a client uses for a service.
    pub(crate) fn rule(&self, client: &Workload, service: &Service) -> Option<&MergedRule> {
        self.rules.rule((&client.namespace, &client.labels), (&service.host, &service.namespace))
    }

    /// The rules among which clients of a namespace choose for a service, by their labels.
    pub(crate) fn candidates(&self, namespace: &str, service: &Service) -> Vec<&MergedRule> {
        self.rules.candidates(namespace, (&service.host, &service.namespace))
    }

    /// The client's decision for a service port (position and number).
    pub(crate) fn decide(
        &self,
        service: &Service,
        rule: Option<&MergedRule>,
        port: (usize, u16),
        subset: Option<&str>,
    ) -> ClientDecision {
        self.decide_as(service, rule, port, subset, false)
    }

    /// The same with its reasons.
    pub(crate) fn decide_with_reasons(
        &self,
        service: &Service,
        rule: Option<&MergedRule>,
        port: (usize, u16),
        subset: Option<&str>,
    ) -> ClientDecision {
        self.decide_as(service, rule, port, subset, true)
    }

    fn decide_as(
        &self,
        service: &Service,
        rule: Option<&MergedRule>,
        port: (usize, u16),
        subset: Option<&str>,
        reasons: bool,
    ) -> ClientDecision {
        let (mesh, policies, secrets) = (&*self.mesh, &*self.policies, &*self.secrets);
        client::decide(&Question { mesh, policies, secrets, service, port, subset, rule, reasons })
    }

    /// The decision of a client for a port of a service of exactly that host, without reasons. `None` when the client's
    /// sidecar knows no such service or the service no such port.
    #[must_use]
    pub fn client_decision(&self, client: &Workload, host: &str, port: u16) -> Option<ClientDecision> {
        let candidates = self.services_of_exact_host(host);
        let service = self.visible(client, &candidates, port)?;
        let (position, _) = service.port(port)?;
        Some(self.decide(service, self.rule(client, service), (position, port), None))
    }

    /// Every rule that covers a service, in the order in which a client looks at them.
    pub(crate) fn search(&self, client: &Workload, service: &Service, used: Option<&MergedRule>) -> Vec<Step> {
        self.rules.search((&client.namespace, &client.labels), (&service.host, &service.namespace), used)
    }

    /// The class of a client: those of one class get the same destinations.
    #[must_use]
    pub fn client_class(&self, client: &Workload) -> ClientClass {
        self.views.class(client)
    }
}

fn effective(policies: &PeerPolicies, workloads: &[Workload]) -> Vec<Arc<Effective>> {
    policies.effective_of_all(workloads.iter().map(|one| (one.namespace.as_str(), &*one.labels)))
}
