//! PeerAuthentication (`pilot/pkg/model/authentication.go`, `policy_applier.go`): what a workload accepts, and what clients take a namespace for.

use std::sync::Arc;

use mutua_model::{Labels, Mesh, MtlsMode, PeerAuthentication};

/// Oldest first, no timestamp before any, then by name, then by namespace.
fn oldest_first(mesh: &Mesh) -> Vec<Arc<PeerAuthentication>> {
    let mut all: Vec<_> = mesh.peer_authentications.iter().cloned().collect();
    all.sort_by_key(|policy| (policy.meta.created, policy.meta.name().to_owned(), policy.meta.namespace().to_owned()));
    all
}

/// The one policy without selector that counts in a namespace.
fn wide(mesh: &Mesh, namespace: &str) -> Option<Arc<PeerAuthentication>> {
    oldest_first(mesh).into_iter().find(|policy| policy.meta.namespace() == namespace && policy.selector.is_empty())
}

/// The mode of a workload, on a port or in general.
pub(super) fn accepts(mesh: &Mesh, namespace: &str, labels: &Labels, port: Option<u16>) -> MtlsMode {
    let root = &mesh.config.root_namespace;
    let mut mode = MtlsMode::Permissive;
    mode = wide(mesh, root).and_then(|policy| policy.mode).unwrap_or(mode);
    if namespace == root {
        // A selector in the root namespace is ignored, and its policy without selector is the mesh's.
        return mode;
    }
    mode = wide(mesh, namespace).and_then(|policy| policy.mode).unwrap_or(mode);
    let Some(own) = of_workload(mesh, namespace, labels) else { return mode };
    mode = own.mode.unwrap_or(mode);
    match port.and_then(|port| own.ports.get(&port)) {
        Some(Some(of_port)) => *of_port,
        _ => mode,
    }
}

/// Of all that match a workload the oldest counts whole.
fn of_workload(mesh: &Mesh, namespace: &str, labels: &Labels) -> Option<Arc<PeerAuthentication>> {
    oldest_first(mesh).into_iter().find(|policy| {
        let selector = &policy.selector;
        policy.meta.namespace() == namespace && !selector.is_empty() && super::holds(labels, selector)
    })
}

/// The ports that have a mode of their own at a workload.
pub(super) fn ports_of(mesh: &Mesh, namespace: &str, labels: &Labels) -> Vec<u16> {
    if *namespace == mesh.config.root_namespace {
        return Vec::new();
    }
    of_workload(mesh, namespace, labels).map(|policy| policy.ports.keys().copied().collect()).unwrap_or_default()
}

/// What clients take a namespace for.
pub(super) fn hint(mesh: &Mesh, namespace: &str) -> MtlsMode {
    let of = |namespace: &str| wide(mesh, namespace).and_then(|policy| policy.mode);
    of(namespace).or_else(|| of(&mesh.config.root_namespace)).unwrap_or(MtlsMode::Permissive)
}
