//! Services as clients see them, whatever they were written as, with their endpoints.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use mutua_model::service::{Endpoint as Inline, TargetPort};
use mutua_model::{AppProtocol, EndpointSlice, Kind, Labels, Mesh, Meta, Resolution, ServicePort};

use crate::allocate::{self, Allocated};
use crate::shared_endpoints;
use crate::workload::{self, Workload};

/// Annotation of a Service: where it is visible.
const EXPORT_TO: &str = "networking.istio.io/exportTo";
/// Annotation of a Service: accounts of its own namespace that it runs as.
const KUBERNETES_ACCOUNTS: &str = "alpha.istio.io/kubernetes-serviceaccounts";
/// Annotation of a Service: full identities that it runs as.
pub(crate) const CANONICAL_ACCOUNTS: &str = "alpha.istio.io/canonical-serviceaccounts";
/// Label of an EndpointSlice: its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) host: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) meta: Arc<Meta>,
    pub(crate) ports: Vec<ServicePort>,
    /// Resolution of a ServiceEntry; `None` for Kubernetes' own.
    pub(crate) resolution: Option<Resolution>,
    /// The labels of its workloads.
    pub(crate) selector: Option<Labels>,
    /// Captured addresses or prefixes.
    pub(crate) addresses: Vec<String>,
    /// A ServiceEntry without addresses whose host can be given one.
    pub(crate) wants_address: bool,
    /// What it was given; captured too, and told by the sidecar's DNS.
    pub(crate) allocated: Option<Allocated>,
    /// A Kubernetes Service without a cluster address.
    pub(crate) headless: bool,
    /// The original address is dialled (ServiceEntry resolution NONE).
    pub(crate) undirected: bool,
    /// A ServiceEntry that is outside the mesh.
    pub(crate) external: bool,
    /// Written as a ServiceEntry.
    pub(crate) entry: bool,
    pub(crate) export_to: Vec<String>,
    /// Identities it names itself.
    pub(crate) accounts: Vec<String>,
    /// The identities that its endpoints may show, in every trust domain.
    pub(crate) identities: Arc<[String]>,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// One endpoint of a service.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// Its position among the workloads; `None` for an inline endpoint.
    pub(crate) workload: Option<usize>,
    pub(crate) namespace: String,
    pub(crate) address: Option<String>,
    pub(crate) labels: Arc<Labels>,
    pub(crate) service_account: String,
    pub(crate) tls_mode: Cow<'static, str>,
    /// Workload port by position of the Service's ports; `None` when it does not serve that port.
    pub(crate) ports: Vec<Option<u16>>,
    /// Whether it is reached; a controller whose pods are in the input only knows its ports by it.
    pub(crate) counts: bool,
}

impl Endpoint {
    /// Whether its account is one of its service's: it has one, and serves some port.
    pub(crate) fn gives_account(&self) -> bool {
        self.counts && !self.service_account.is_empty() && self.ports.iter().any(Option::is_some)
    }
}

impl Service {
    /// Whether DNS finds its endpoints.
    pub(crate) fn resolved_by_name(&self) -> bool {
        self.resolution.is_some_and(by_name)
    }

    /// The declared port of that number.
    pub(crate) fn port(&self, number: u16) -> Option<(usize, &ServicePort)> {
        self.ports.iter().enumerate().find(|(_, port)| port.number == number && port.protocol != AppProtocol::Udp)
    }

    /// Whether the original address is dialled, so that endpoints cannot be told apart by the client's TLS.
    pub(crate) fn original_destination(&self) -> bool {
        self.headless || self.undirected
    }

    /// The endpoints that serve a port (by position), with their own port.
    pub(crate) fn serving(&self, position: usize) -> impl Iterator<Item = (&Endpoint, u16)> {
        let counting = self.endpoints.iter().filter(|endpoint| endpoint.counts);
        counting.filter_map(move |endpoint| Some((endpoint, (*endpoint.ports.get(position)?)?)))
    }
}

/// All services of the mesh; oldest first among those of one host.
pub(crate) fn all(mesh: &Mesh, workloads: &[Workload]) -> Vec<Service> {
    let lookup = Lookup::new(mesh, workloads);
    let mut services: Vec<Service> = mesh
        .services
        .iter()
        .filter(|service| service.external_name.is_none())
        .map(|service| of_service(mesh, service, &lookup))
        .collect();
    for entry in &mesh.service_entries {
        let meta = Arc::new(entry.meta.clone());
        services.extend(entry.hosts.iter().map(|host| of_entry(mesh, entry, &meta, host, &lookup)));
    }
    services.sort_by(|a, b| (a.entry, a.meta.age_order(), &a.host).cmp(&(b.entry, b.meta.age_order(), &b.host)));
    allocate::allocate(&mut services);
    shared_endpoints::share(&mut services, &mesh.config.trust_domain);
    for service in &mut services {
        service.identities = identities(mesh, service);
    }
    services
}

/// Workloads by what selectors and addresses ask for.
struct Lookup<'m> {
    workloads: &'m [Workload],
    by_namespace: HashMap<&'m str, Vec<usize>>,
    by_label: HashMap<(&'m str, &'m str, &'m str), Vec<usize>>,
    by_address: HashMap<(&'m str, String), usize>,
    pods: HashMap<(&'m str, &'m str), usize>,
    slices: HashMap<(&'m str, &'m str), Vec<&'m Arc<EndpointSlice>>>,
}

impl<'m> Lookup<'m> {
    fn new(mesh: &'m Mesh, workloads: &'m [Workload]) -> Self {
        let mut lookup = Self {
            workloads,
            by_namespace: HashMap::new(),
            by_label: HashMap::new(),
            by_address: HashMap::new(),
            pods: HashMap::new(),
            slices: HashMap::new(),
        };
        let asked = asked_for(mesh);
        for (at, workload) in workloads.iter().enumerate() {
            lookup.by_namespace.entry(&workload.namespace).or_default().push(at);
            for (key, value) in workload.labels.iter().filter(|(key, _)| asked.contains(key.as_str())) {
                lookup.by_label.entry((&workload.namespace, key, value)).or_default().push(at);
            }
            // The rest is for the endpoints that slices list.
            if mesh.endpoint_slices.is_empty() {
                continue;
            }
            for address in &workload.addresses {
                lookup.by_address.entry((&workload.namespace, address.to_string())).or_insert(at);
            }
            if workload.kind == Kind::Pod {
                lookup.pods.insert((&workload.namespace, &workload.name), at);
            }
        }
        for slice in &mesh.endpoint_slices {
            if let Some(service) = slice.meta.labels.get(SERVICE_NAME) {
                lookup.slices.entry((slice.meta.namespace(), service)).or_default().push(slice);
            }
        }
        lookup
    }

    /// The workloads of a namespace that have all these labels, in order.
    fn selected(&self, namespace: &str, selector: &Labels) -> Vec<usize> {
        let candidates = match selector.iter().next() {
            Some((key, value)) => self.by_label.get(&(namespace, key.as_str(), value.as_str())),
            None => self.by_namespace.get(namespace),
        };
        let fits = |at: &&usize| selector.iter().all(|(key, value)| self.workloads[**at].labels.get(key) == Some(value));
        candidates.into_iter().flatten().filter(fits).copied().collect()
    }

    fn endpoint(&self, at: usize, ports: Vec<Option<u16>>) -> Endpoint {
        let workload = &self.workloads[at];
        Endpoint {
            workload: Some(at),
            namespace: workload.namespace.clone(),
            address: workload.address(),
            labels: Arc::clone(&workload.labels),
            service_account: workload.service_account.clone(),
            tls_mode: workload.tls_mode.clone(),
            ports,
            counts: workload.counts,
        }
    }
}

/// The first key of every selector: the labels by which workloads are looked up.
fn asked_for(mesh: &Mesh) -> HashSet<&str> {
    let services = mesh.services.iter().filter_map(|service| service.selector.as_ref());
    let entries = mesh.service_entries.iter().filter_map(|entry| entry.workload_selector.as_ref());
    services.chain(entries).filter_map(|selector| selector.keys().next()).map(String::as_str).collect()
}

fn of_service(mesh: &Mesh, service: &mutua_model::Service, lookup: &Lookup<'_>) -> Service {
    let (name, namespace) = (service.meta.name(), service.meta.namespace());
    let endpoints = match service.selector.as_ref().filter(|selector| !selector.is_empty()) {
        Some(selector) => {
            let of =
                |at: usize| lookup.endpoint(at, service.ports.iter().map(|port| target(&lookup.workloads[at], port)).collect());
            // Headless services select pods only.
            let selectable = |at: &usize| !service.headless || lookup.workloads[*at].kind != Kind::WorkloadEntry;
            lookup.selected(namespace, selector).into_iter().filter(selectable).map(of).collect()
        }
        None => of_slices(service, lookup),
    };
    let addresses = service.cluster_ips.iter().chain(&service.external_ips).map(ToString::to_string).collect();
    Service {
        host: format!("{name}.{namespace}.svc.{}", mesh.config.cluster_domain),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        ports: service.ports.clone(),
        resolution: None,
        selector: service.selector.clone(),
        addresses,
        wants_address: false,
        allocated: None,
        headless: service.headless,
        undirected: false,
        external: false,
        entry: false,
        export_to: annotated_export(&service.meta).unwrap_or_else(|| mesh.config.default_service_export_to.clone()),
        accounts: annotated_accounts(mesh, &service.meta),
        identities: Arc::default(),
        endpoints,
        meta: Arc::new(service.meta.clone()),
    }
}

/// The workload port behind a Service port. Of a WorkloadEntry a number yields to its port of the Service port's name,
/// and a name has to be one of its ports (`serviceInstanceFromWorkloadInstance`).
fn target(workload: &Workload, port: &ServicePort) -> Option<u16> {
    let of_entry = |name: &str| workload.entry_ports.iter().find(|(known, _)| known == name).map(|(_, number)| *number);
    match &port.target {
        TargetPort::Number(number) => Some(of_entry(&port.name).unwrap_or(*number)),
        TargetPort::Named(name) if workload.kind == Kind::WorkloadEntry => of_entry(name),
        TargetPort::Named(name) => workload.ports.iter().find(|known| known.tcp && known.name == *name).map(|known| known.number),
    }
}

fn of_slices(service: &mutua_model::Service, lookup: &Lookup<'_>) -> Vec<Endpoint> {
    let key = (service.meta.namespace(), service.meta.name());
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for slice in lookup.slices.get(&key).into_iter().flatten() {
        let ports: Vec<Option<u16>> = service.ports.iter().map(|port| slice_port(slice, port)).collect();
        for listed in slice.endpoints.iter().filter(|listed| listed.ready) {
            for address in &listed.addresses {
                // Slices of one address may list different ports.
                if let Some(known) = places.get(address.as_str()).and_then(|at| endpoints.get_mut(*at)) {
                    known.ports.iter_mut().zip(&ports).for_each(|(known, more)| *known = known.or(*more));
                    continue;
                }
                places.insert(address, endpoints.len());
                let pod = listed.pod.as_ref().and_then(|(space, name)| lookup.pods.get(&(space.as_str(), name.as_str())));
                // Without a reference the address tells, within the namespace.
                let at_address = || lookup.by_address.get(&(key.0, address.clone()));
                endpoints.push(match pod.or_else(at_address) {
                    Some(at) => Endpoint { address: Some(address.clone()), ..lookup.endpoint(*at, ports.clone()) },
                    None => stranger(service.meta.namespace(), address, ports.clone()),
                });
            }
        }
    }
    endpoints
}

fn slice_port(slice: &EndpointSlice, port: &ServicePort) -> Option<u16> {
    slice.ports.iter().find(|(name, _)| *name == port.name).map(|(_, number)| *number)
}

/// An address that no workload of the mesh has.
fn stranger(namespace: &str, address: &str, ports: Vec<Option<u16>>) -> Endpoint {
    Endpoint {
        workload: None,
        namespace: namespace.to_owned(),
        address: Some(address.to_owned()),
        labels: Arc::default(),
        service_account: String::new(),
        tls_mode: workload::entry_tls_mode(&Labels::new(), ""),
        ports,
        counts: true,
    }
}

fn of_entry(mesh: &Mesh, entry: &mutua_model::ServiceEntry, meta: &Arc<Meta>, host: &str, lookup: &Lookup<'_>) -> Service {
    let namespace = entry.meta.namespace();
    let numbers = |named: &[(String, u16)]| entry.ports.iter().map(|port| Some(entry_port(named, port))).collect();
    let mut endpoints: Vec<Endpoint> = match &entry.workload_selector {
        Some(selector) => {
            let of = |at: usize| lookup.endpoint(at, numbers(&lookup.workloads[at].entry_ports));
            lookup.selected(namespace, selector).into_iter().map(of).collect()
        }
        None => entry.endpoints.iter().map(|inline| of_inline(namespace, inline, numbers(&inline.ports))).collect(),
    };
    let named = by_name(entry.resolution);
    if endpoints.is_empty() && entry.workload_selector.is_none() && (named || entry.resolution == Resolution::None) {
        endpoints.push(stranger(namespace, host, numbers(&[])));
    }
    let export_to = if entry.export_to.is_empty() { &mesh.config.default_service_export_to } else { &entry.export_to };
    Service {
        host: host.to_owned(),
        name: host.to_owned(),
        namespace: namespace.to_owned(),
        ports: entry.ports.clone(),
        resolution: Some(entry.resolution),
        selector: entry.workload_selector.clone(),
        addresses: allocate::captured(entry),
        wants_address: allocate::wants_address(entry, host),
        allocated: None,
        headless: false,
        undirected: entry.resolution == Resolution::None,
        external: !entry.mesh_internal,
        entry: true,
        export_to: export_to.clone(),
        accounts: entry.subject_alt_names.clone(),
        identities: Arc::default(),
        endpoints,
        meta: Arc::clone(meta),
    }
}

fn by_name(resolution: Resolution) -> bool {
    matches!(resolution, Resolution::Dns | Resolution::DnsRoundRobin | Resolution::DynamicDns)
}

fn of_inline(namespace: &str, inline: &Inline, ports: Vec<Option<u16>>) -> Endpoint {
    Endpoint {
        workload: None,
        namespace: namespace.to_owned(),
        address: Some(inline.address.clone()),
        labels: Arc::new(inline.labels.clone()),
        service_account: inline.service_account.clone(),
        tls_mode: workload::entry_tls_mode(&inline.labels, &inline.service_account),
        ports,
        counts: true,
    }
}

fn entry_port(named: &[(String, u16)], port: &ServicePort) -> u16 {
    let by_name = named.iter().find(|(name, _)| *name == port.name).map(|(_, number)| *number);
    by_name.unwrap_or(match port.target {
        TargetPort::Number(number) => number,
        TargetPort::Named(_) => port.number,
    })
}

fn annotated_export(meta: &Meta) -> Option<Vec<String>> {
    let list: Vec<String> = meta.annotations.get(EXPORT_TO)?.split(',').map(|to| to.trim().to_owned()).collect();
    (!list.iter().all(String::is_empty)).then_some(list)
}

fn annotated_accounts(mesh: &Mesh, meta: &Meta) -> Vec<String> {
    let list = |key: &str| meta.annotations.get(key).map(String::as_str).unwrap_or_default().split(',').map(str::trim);
    let own = list(KUBERNETES_ACCOUNTS).filter(|name| !name.is_empty());
    let own = own.map(|name| identity(&mesh.config.trust_domain, meta.namespace(), name));
    own.chain(list(CANONICAL_ACCOUNTS).filter(|name| !name.is_empty()).map(str::to_owned)).collect()
}

/// A SPIFFE id; `@` of a trust domain becomes `.`.
pub(crate) fn identity(trust_domain: &str, namespace: &str, account: &str) -> String {
    format!("spiffe://{}/ns/{namespace}/sa/{account}", trust_domain.replace('@', "."))
}

/// The identities that a service's endpoints may show: its accounts and those it names, each in every trust domain.
fn identities(mesh: &Mesh, service: &Service) -> Arc<[String]> {
    let domain = &mesh.config.trust_domain;
    let counting = service.endpoints.iter().filter(|endpoint| endpoint.gives_account());
    let accounts: BTreeSet<(&str, &str)> =
        counting.map(|endpoint| (endpoint.namespace.as_str(), endpoint.service_account.as_str())).collect();
    let known = accounts.into_iter().map(|(namespace, account)| identity(domain, namespace, account));
    let mut all = BTreeSet::new();
    for name in known.chain(service.accounts.iter().cloned()) {
        if let ["spiffe:", "", _, "ns", namespace, "sa", account] = name.split('/').collect::<Vec<_>>()[..] {
            let aliases = mesh.config.trust_domain_aliases.iter();
            // As it is written: only identities that Istio makes replace `@` (`ExpandWithTrustDomains`).
            all.extend(aliases.map(|alias| format!("spiffe://{alias}/ns/{namespace}/sa/{account}")));
        }
        all.insert(name);
    }
    all.into_iter().collect()
}
