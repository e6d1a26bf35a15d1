//! What a client's sidecar knows of: `exportTo` of services, and the `Sidecar` resource.

use std::collections::HashMap;
use std::sync::Arc;

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

/// Whether a service is exported to a namespace.
pub(crate) fn exported(service: &Service, namespace: &str) -> bool {
    service.export_to.iter().any(|to| match to.as_str() {
        "*" => true,
        "." => service.namespace == namespace,
        named => named == namespace,
    })
}

/// Whether a service is exported to its own namespace and no other.
pub(crate) fn private(service: &Service) -> bool {
    !service.export_to.is_empty() && service.export_to.iter().all(|to| *to == "." || *to == service.namespace)
}

/// Whether a Sidecar lets a service's port through; without one, or without an egress section, everything passes.
pub(crate) fn imported(sidecar: Option<&Arc<Sidecar>>, client_namespace: &str, service: &Service, port: u16) -> bool {
    let Some(egress) = sidecar.and_then(|sidecar| sidecar.egress.as_ref()) else { return true };
    let listeners = egress.iter().filter(|listener| listener.port == 0 || listener.port == port);
    listeners.flat_map(|listener| &listener.hosts).any(|pattern| matches(pattern, client_namespace, service))
}

fn matches(pattern: &str, client_namespace: &str, service: &Service) -> bool {
    let (namespace, name) = pattern.split_once('/').unwrap_or(("*", pattern));
    let in_namespace = match namespace {
        "*" => true,
        "." => service.namespace == client_namespace,
        "~" => false,
        named => service.namespace == named,
    };
    in_namespace && host::covers(name, &service.host)
}
