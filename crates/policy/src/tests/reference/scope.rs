//! What a client's sidecar knows of: `exportTo` of services, and the `Sidecar` (`pilot/pkg/model/sidecar.go`).

use std::sync::Arc;

use mutua_model::{Labels, Mesh, OutboundPolicy, Sidecar};

use super::registry::Registered;

/// The Sidecar of a workload: the oldest of its namespace that selects it, else the oldest of its namespace without
/// selector, else that of the root namespace.
pub(super) fn sidecar(mesh: &Mesh, namespace: &str, labels: &Labels) -> Option<Arc<Sidecar>> {
    let mut all: Vec<_> = mesh.sidecars.iter().cloned().collect();
    all.sort_by_key(|sidecar| (sidecar.meta.created, sidecar.meta.name().to_owned()));
    let of = |namespace: &str| all.iter().filter(|sidecar| sidecar.meta.namespace() == namespace).cloned().collect::<Vec<_>>();
    let own = of(namespace);
    let selecting = own.iter().find(|one| one.workload_selector.as_ref().is_some_and(|selector| super::holds(labels, selector)));
    let without = |list: &[Arc<Sidecar>]| list.iter().find(|one| one.workload_selector.is_none()).cloned();
    selecting.cloned().or_else(|| without(&own)).or_else(|| without(&of(&mesh.config.root_namespace)))
}

pub(super) fn outbound_policy(mesh: &Mesh, namespace: &str, labels: &Labels) -> OutboundPolicy {
    let own = sidecar(mesh, namespace, labels).and_then(|sidecar| sidecar.outbound_policy);
    own.unwrap_or(mesh.config.outbound_policy)
}

/// Whether the sidecar of a client knows a port of a service.
pub(super) fn knows(mesh: &Mesh, (namespace, labels): (&str, &Labels), service: &Registered, port: u16) -> bool {
    if !exported(service, namespace) {
        return false;
    }
    let Some(egress) = sidecar(mesh, namespace, labels).and_then(|sidecar| sidecar.egress.clone()) else { return true };
    egress.iter().any(|listener| {
        let named = |excluding: bool| listener.hosts.iter().any(|host| pattern_names(host, excluding, namespace, service));
        (listener.port == 0 || listener.port == port) && named(false) && !named(true)
    })
}

/// `*` is everybody, `~` nobody, `.` the service's own namespace.
fn exported(service: &Registered, namespace: &str) -> bool {
    let says = |to: &str| service.export_to.iter().any(|one| one == to);
    if says("*") {
        return true;
    }
    !says("~") && (says(namespace) || (says(".") && service.namespace == namespace))
}

/// `namespace/host`; with `~` before the namespace the host is left out.
fn pattern_names(pattern: &str, excluding: bool, client: &str, service: &Registered) -> bool {
    let (namespace, host) = pattern.split_once('/').expect("generated with a namespace");
    let (namespace, leaves_out) = match namespace.strip_prefix('~') {
        Some(rest) => (rest, true),
        None => (namespace, false),
    };
    let of_namespace = match namespace {
        // `~/*` names nothing.
        "" => leaves_out,
        "*" => true,
        "." => service.namespace == client,
        named => named == service.namespace,
    };
    let of_host = host == service.host || host.strip_prefix('*').is_some_and(|end| service.host.ends_with(end));
    leaves_out == excluding && of_namespace && of_host
}
