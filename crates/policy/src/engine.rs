//! The engine: a snapshot, indexed once, that answers every question.

use std::collections::HashMap;
use std::sync::Arc;

use mutua_model::{Kind, Mesh, OutboundPolicy};

use crate::client::{self, ClientDecision, Question};
use crate::client_class::{ClientClass, Views};
use crate::destination_rule::{MergedRule, RuleIndex};
use crate::peer_authentication::{Effective, PeerPolicies};
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

/// A snapshot of the mesh with its indexes.
#[derive(Debug)]
pub struct Engine {
    mesh: Arc<Mesh>,
    workloads: Vec<Workload>,
    pub(crate) services: Vec<Service>,
    pub(crate) policies: PeerPolicies,
    rules: RuleIndex,
    pub(crate) sidecars: Sidecars,
    views: Views,
    /// What each workload accepts.
    effective: Vec<Arc<Effective>>,
    by_name: HashMap<(String, String), Vec<usize>>,
    by_host: HashMap<String, Vec<usize>>,
    wildcard_hosts: Vec<usize>,
    by_address: HashMap<String, Vec<usize>>,
    /// Workload positions by address.
    pub(crate) workload_at: HashMap<std::net::IpAddr, usize>,
    /// Services (and their endpoint's position) by workload.
    selecting: HashMap<usize, Vec<(usize, usize)>>,
}

impl Engine {
    /// Indexes a snapshot.
    #[must_use]
    pub fn new(mesh: Arc<Mesh>) -> Self {
        let workloads = workload::all(&mesh);
        let services = service::all(&mesh, &workloads);
        let policies = PeerPolicies::new(&mesh);
        let effective = policies.effective_of_all(workloads.iter().map(|one| (one.namespace.as_str(), &one.labels)));
        let (rules, sidecars) = (RuleIndex::new(&mesh), Sidecars::new(&mesh));
        let mut engine = Self {
            views: Views::new(&mesh, &services, &rules, &sidecars),
            rules,
            sidecars,
            by_name: HashMap::new(),
            by_host: HashMap::new(),
            wildcard_hosts: Vec::new(),
            by_address: HashMap::new(),
            workload_at: HashMap::new(),
            selecting: HashMap::new(),
            mesh,
            workloads,
            services,
            policies,
            effective,
        };
        engine.index();
        engine
    }

    fn index(&mut self) {
        for (at, workload) in self.workloads.iter().enumerate() {
            self.by_name.entry((workload.namespace.clone(), workload.name.clone())).or_default().push(at);
            for address in &workload.addresses {
                self.workload_at.entry(*address).or_insert(at);
            }
        }
        for (at, service) in self.services.iter().enumerate() {
            self.by_host.entry(service.host.clone()).or_default().push(at);
            if crate::host::is_wildcard(&service.host) {
                self.wildcard_hosts.push(at);
            }
            for address in &service.addresses {
                self.by_address.entry(address.clone()).or_default().push(at);
            }
            for (position, endpoint) in service.endpoints.iter().enumerate() {
                if let Some(workload) = endpoint.workload {
                    self.selecting.entry(workload).or_default().push((at, position));
                }
            }
        }
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
        let parts: Vec<&str> = name.split('/').collect();
        let (kind, namespace, short) = match parts[..] {
            [namespace, short] => (None, namespace, short),
            [kind, namespace, short] => (Some(kind), namespace, short),
            _ => {
                let expected = "a workload is written NAMESPACE/NAME or KIND/NAMESPACE/NAME";
                return Err(QueryError::Malformed { given: name.to_owned(), expected });
            }
        };
        let named = self.by_name.get(&(namespace.to_owned(), short.to_owned())).map(Vec::as_slice).unwrap_or_default();
        let of_kind = |at: &usize| kind.is_none_or(|kind| kind.eq_ignore_ascii_case(self.workloads[*at].kind.as_str()));
        let found: Vec<usize> = named.iter().copied().filter(of_kind).collect();
        let itself = |at: &usize| matches!(self.workloads[*at].kind, Kind::Pod | Kind::WorkloadEntry);
        let first: Vec<usize> = found.iter().copied().filter(itself).collect();
        let found = if first.is_empty() { found } else { first };
        match found[..] {
            [one] => Ok(one),
            [] => Err(QueryError::UnknownWorkload { name: name.to_owned(), hint: self.hint(namespace, short) }),
            _ => {
                let kinds = found.iter().map(|at| format!("a {}", self.workloads[*at].kind.as_str())).collect();
                Err(QueryError::Ambiguous { name: name.to_owned(), kinds })
            }
        }
    }

    fn hint(&self, namespace: &str, name: &str) -> String {
        let same_name = self.workloads.iter().find(|one| one.name == name && one.namespace != namespace);
        if let Some(other) = same_name {
            return format!("; did you mean {}?", other.full_name());
        }
        let mut there: Vec<&str> =
            self.workloads.iter().filter(|one| one.namespace == namespace).map(|one| one.name.as_str()).collect();
        there.dedup();
        match there.len() {
            0 => format!("; namespace {namespace} has none"),
            _ => format!("; namespace {namespace} has {}", there.iter().take(10).copied().collect::<Vec<_>>().join(", ")),
        }
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

    /// The services that a workload is an endpoint of, oldest first, with the endpoint.
    pub(crate) fn services_of(&self, at: usize) -> impl Iterator<Item = (&Service, &Endpoint)> {
        let selecting = self.selecting.get(&at).into_iter().flatten();
        selecting.map(|(service, endpoint)| (&self.services[*service], &self.services[*service].endpoints[*endpoint]))
    }

    /// The services of exactly that host; Kubernetes' before ServiceEntries, oldest first.
    pub(crate) fn services_of_exact_host(&self, host: &str) -> Vec<&Service> {
        self.by_host.get(host).into_iter().flatten().map(|at| &self.services[*at]).collect()
    }

    /// The services whose wildcard host covers a name, the most specific first.
    pub(crate) fn services_covering(&self, host: &str) -> Vec<&Service> {
        let wild = self.wildcard_hosts.iter().map(|at| &self.services[*at]);
        let mut covering: Vec<&Service> = wild.filter(|one| crate::host::covers(&one.host, host)).collect();
        covering.sort_by(|a, b| crate::host::by_specificity(&a.host, &b.host));
        covering
    }

    /// The services that are reached at an address.
    pub(crate) fn services_at(&self, address: &str) -> impl Iterator<Item = &Service> {
        self.by_address.get(address).into_iter().flatten().map(|at| &self.services[*at])
    }

    /// Of several services with one host the one a client sees: what is private to its namespace, else the first (those
    /// of Kubernetes before ServiceEntries, then the oldest); with a Sidecar's egress section its own namespace's.
    pub(crate) fn visible<'e>(&'e self, client: &Workload, candidates: &[&'e Service], port: u16) -> Option<&'e Service> {
        let sidecar = self.sidecars.of(client);
        let sees = |service: &&&Service| {
            visibility::exported(service, &client.namespace) && visibility::imported(sidecar, &client.namespace, service, port)
        };
        let limited = sidecar.is_some_and(|sidecar| sidecar.egress.is_some());
        let comes_first =
            |service: &&&Service| service.namespace == client.namespace && (limited || visibility::private(service));
        let first = candidates.iter().filter(sees).find(comes_first);
        first.or_else(|| candidates.iter().find(sees)).copied()
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
        client::decide(&Question { mesh: &self.mesh, policies: &self.policies, service, port, subset, rule })
    }

    /// Why the other rules that cover a service do not count for a client, and what was merged into the one that does.
    pub(crate) fn other_rules(&self, client: &Workload, service: &Service, used: Option<&MergedRule>) -> Vec<Step> {
        let mut steps = used.map(MergedRule::merge_steps).unwrap_or_default();
        steps.extend(self.rules.passed_over((&client.namespace, &client.labels), (&service.host, &service.namespace), used));
        steps
    }

    /// The class of a client: those of one class get the same destinations.
    #[must_use]
    pub fn client_class(&self, client: &Workload) -> ClientClass {
        self.views.class(client)
    }
}
