//! What a client's sidecar knows of: `exportTo` of services, and the `Sidecar` resource.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mutua_model::sidecar::Egress;
use mutua_model::{Mesh, OutboundPolicy, Sidecar};

use crate::host;
use crate::service::Service;
use crate::workload::Workload;

/// The Sidecars by namespace, oldest first, those with a selector before the others.
#[derive(Debug, Default)]
pub(crate) struct Sidecars {
    root: String,
    default: OutboundPolicy,
    by_namespace: HashMap<String, Vec<Arc<Sidecar>>>,
}

impl Sidecars {
    pub(crate) fn new(mesh: &Mesh) -> Self {
        let mut sorted: Vec<_> = mesh.sidecars.iter().collect();
        sorted.sort_by(|a, b| {
            (a.workload_selector.is_none(), a.meta.age_order()).cmp(&(b.workload_selector.is_none(), b.meta.age_order()))
        });
        let mut by_namespace: HashMap<String, Vec<Arc<Sidecar>>> = HashMap::new();
        for sidecar in sorted {
            by_namespace.entry(sidecar.meta.namespace().to_owned()).or_default().push(Arc::clone(sidecar));
        }
        Self { root: mesh.config.root_namespace.clone(), default: mesh.config.outbound_policy, by_namespace }
    }

    /// The Sidecar of a workload: its own, its namespace's, or the root namespace's default.
    pub(crate) fn of(&self, workload: &Workload) -> Option<&Arc<Sidecar>> {
        let selects = |sidecar: &&Arc<Sidecar>| {
            let selector = sidecar.workload_selector.as_ref();
            selector.is_none_or(|selector| selector.iter().all(|(key, value)| workload.labels.get(key) == Some(value)))
        };
        let own = self.by_namespace.get(&workload.namespace).and_then(|list| list.iter().find(selects));
        let root = || self.by_namespace.get(&self.root)?.iter().find(|sidecar| sidecar.workload_selector.is_none());
        own.or_else(root)
    }

    /// Whether the root namespace has a Sidecar for every namespace that has none.
    pub(crate) fn for_all(&self) -> bool {
        self.by_namespace.get(&self.root).is_some_and(|list| list.iter().any(|sidecar| sidecar.workload_selector.is_none()))
    }

    /// Whether any Sidecar of a namespace looks at labels.
    pub(crate) fn selects_in(&self, namespace: &str) -> bool {
        self.by_namespace.get(namespace).is_some_and(|list| list.iter().any(|sidecar| sidecar.workload_selector.is_some()))
    }

    /// What happens to destinations that the workload's sidecar does not know.
    pub(crate) fn outbound_policy(&self, workload: &Workload) -> OutboundPolicy {
        self.of(workload).and_then(|sidecar| sidecar.outbound_policy).unwrap_or(self.default)
    }
}

/// Whether a service is exported to a namespace: `*` beats everything, `~` everything else (`initServiceRegistry`).
pub(crate) fn exported(service: &Service, namespace: &str) -> bool {
    let to = |wanted: &str| service.export_to.iter().any(|to| to == wanted);
    to("*") || (!to("~") && (to(namespace) || (to(".") && service.namespace == namespace)))
}

/// Of services with one host, the one that a client's sidecar takes for a port (`SidecarScope`). `candidates` are all
/// that have the host, those of Kubernetes first.
pub(crate) fn providing<'e>(
    sidecar: Option<&Arc<Sidecar>>,
    namespace: &str,
    candidates: &[&'e Service],
    port: u16,
) -> Option<&'e Service> {
    let listeners = sidecar.and_then(|sidecar| sidecar.egress.as_deref());
    if let [only] = candidates {
        let passes = |listener: &Egress| listener.takes(port) && imports(listener, namespace, only);
        let imported = listeners.is_none_or(|listeners| listeners.iter().any(passes));
        return Some(*only).filter(|only| only.port(port).is_some() && exported(only, namespace) && imported);
    }
    let mut visible: Vec<&Service> = candidates.iter().copied().filter(|service| exported(service, namespace)).collect();
    visible.sort_by_key(|service| (service.export_to.iter().any(|to| to == "*"), age(service)));
    let mut known = Known::default();
    match listeners {
        None => known.import(&visible, namespace, (0, false)),
        Some(listeners) => listeners.iter().for_each(|listener| {
            let has_port = |service: &Service| listener.port == 0 || service.port(listener.port).is_some();
            let imported = |service: &&Service| imports(listener, namespace, service) && has_port(service);
            let imported: Vec<_> = visible.iter().copied().filter(imported).collect();
            known.import(&imported, namespace, (listener.port, is_exact(listener)));
        }),
    }
    known.ports.get(&port).copied()
}

/// Services of one host are of the same age by name: their namespaces decide.
fn age(service: &Service) -> (Option<i64>, &str, &str) {
    (service.meta.created, &service.namespace, service.meta.name())
}

/// What a sidecar takes one host for.
#[derive(Default)]
struct Known<'e> {
    first: Option<&'e Service>,
    ports: BTreeMap<u16, &'e Service>,
}

impl<'e> Known<'e> {
    /// Adds what one listener imports: services of one namespace, the client's own if there is one, else that of a
    /// Kubernetes Service, else the first (`selectServices`).
    fn import(&mut self, services: &[&'e Service], client: &str, (port, exact): (u16, bool)) {
        let mut chosen: Option<&Service> = None;
        for service in services {
            let better = match chosen {
                None => true,
                Some(_) if service.namespace == client => true,
                Some(known) => known.entry && !service.entry && known.namespace != client,
            };
            if better {
                chosen = Some(service);
            }
        }
        let Some(chosen) = chosen else { return };
        let of_namespace = services.iter().copied().filter(|service| service.namespace == chosen.namespace);
        // Where all hosts are exact they are looked up, and only one service of a namespace is found.
        let kubernetes = exact.then(|| of_namespace.clone().find(|service| !service.entry)).flatten();
        let most = if exact { 1 } else { usize::MAX };
        for service in kubernetes.into_iter().chain(of_namespace).take(most) {
            self.add(service, port);
        }
    }

    /// Kubernetes' services come before all others; what is alike is merged port by port (`appendSidecarServices`).
    fn add(&mut self, service: &'e Service, only: u16) {
        match self.first {
            Some(first) if !first.entry && service.entry => return,
            Some(first) if first.entry && !service.entry => self.ports.clear(),
            Some(first) if !std::ptr::eq(first, service) && !alike(first, service) => return,
            _ => {}
        }
        if self.first.is_none_or(|first| first.entry && !service.entry) {
            self.first = Some(service);
        }
        for port in service.ports.iter().filter(|port| only == 0 || port.number == only) {
            self.ports.entry(port.number).or_insert(service);
        }
    }
}

/// Whether two services of one host are taken for one (`canMergeServices`).
fn alike(a: &Service, b: &Service) -> bool {
    let export = |service: &'_ Service| service.export_to.iter().cloned().collect::<BTreeSet<_>>();
    a.namespace == b.namespace
        && a.resolution == b.resolution
        && a.meta.labels == b.meta.labels
        && a.selector == b.selector
        && export(a) == export(b)
}

/// Whether a listener of a Sidecar names a service. Hosts of namespaces that begin with `~` are left out.
fn imports(listener: &Egress, client: &str, service: &Service) -> bool {
    let split = |pattern: &'_ String| -> (String, String) {
        let (namespace, name) = pattern.split_once('/').unwrap_or(("*", pattern));
        (namespace.to_owned(), name.to_owned())
    };
    let of = |namespace: &str| match namespace {
        "*" | "" => true,
        "." => service.namespace == client,
        named => service.namespace == named,
    };
    let covered = |excluding: bool| {
        listener.hosts.iter().map(split).any(|(namespace, name)| {
            let left_out = namespace.strip_prefix('~');
            left_out.is_some() == excluding && of(left_out.unwrap_or(&namespace)) && host::covers(&name, &service.host)
        })
    };
    covered(false) && !covered(true)
}

/// Whether a listener names all its services one by one.
fn is_exact(listener: &Egress) -> bool {
    let wide =
        |pattern: &&String| pattern.starts_with("*/") || pattern.split_once('/').is_some_and(|(_, name)| host::is_wildcard(name));
    !listener.hosts.iter().filter(|pattern| !pattern.starts_with('~')).any(|pattern| wide(&pattern))
}
