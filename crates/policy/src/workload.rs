//! What runs: pods, WorkloadEntries, and controllers by their templates.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use mutua_model::workload::ContainerPort;
use mutua_model::{Kind, Labels, Mesh, Meta};

use crate::injection;

/// The label that says whether a workload speaks the mesh's TLS.
const TLS_MODE: &str = "security.istio.io/tlsMode";
/// Its one value with a meaning.
const ISTIO: &str = "istio";
/// What Istio takes when nothing is said.
const DISABLED: &str = "disabled";

/// A workload of the mesh.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Pod, WorkloadEntry, or the controller's kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account; empty for a WorkloadEntry that names none.
    pub service_account: String,
    /// Its labels; a controller's are its template's.
    pub labels: Arc<Labels>,
    /// Its addresses; none for a controller.
    pub addresses: Vec<IpAddr>,
    /// Whether it has a sidecar.
    pub sidecar: bool,
    /// Container ports.
    pub ports: Vec<ContainerPort>,
    /// `security.istio.io/tlsMode` as Istio sees it: `istio`, `disabled`, or what somebody wrote.
    pub(crate) tls_mode: Cow<'static, str>,
    /// A WorkloadEntry's address as written.
    pub(crate) entry_address: Option<String>,
    /// A WorkloadEntry's named ports.
    pub(crate) entry_ports: Vec<(String, u16)>,
    /// Whether it stands for itself; controllers whose pods, or whose own controller, are in the input do not.
    pub(crate) counts: bool,
}

impl Workload {
    /// `NAMESPACE/NAME`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The address others reach it at.
    pub(crate) fn address(&self) -> Option<String> {
        self.addresses.first().map(ToString::to_string).or_else(|| self.entry_address.clone())
    }
}

/// What Istio takes an endpoint's tlsMode for (`WorkloadEntry`, inline endpoint): its label, else by its account.
pub(crate) fn entry_tls_mode(labels: &Labels, service_account: &str) -> Cow<'static, str> {
    labelled_tls_mode(labels, if service_account.is_empty() { DISABLED } else { ISTIO })
}

/// The label's value, else `otherwise`; the two usual values are not copied.
fn labelled_tls_mode(labels: &Labels, otherwise: &'static str) -> Cow<'static, str> {
    match labels.get(TLS_MODE).map(String::as_str) {
        None => Cow::Borrowed(otherwise),
        Some(ISTIO) => Cow::Borrowed(ISTIO),
        Some(DISABLED) => Cow::Borrowed(DISABLED),
        Some(other) => Cow::Owned(other.to_owned()),
    }
}

/// Whether a tlsMode means "speaks the mesh's TLS".
pub(crate) fn is_istio(tls_mode: &str) -> bool {
    tls_mode == ISTIO
}

/// Whether a tlsMode is exactly `disabled`.
pub(crate) fn is_disabled(tls_mode: &str) -> bool {
    tls_mode == DISABLED
}

/// All workloads of the mesh, in an order that does not depend on the order of the input.
pub(crate) fn all(mesh: &Mesh) -> Vec<Workload> {
    let mut workloads: Vec<Workload> = mesh.pods.iter().filter(|pod| !pod.ended).map(|pod| of_pod(pod)).collect();
    workloads.extend(mesh.workload_entries.iter().map(|entry| of_entry(entry)));
    let namespaces: HashMap<&str, &Labels> = mesh.namespaces.iter().map(|one| (one.meta.name(), &one.meta.labels)).collect();
    let owners = owners(mesh);
    let none = Labels::new();
    workloads.extend(mesh.controllers.iter().map(|controller| {
        let labels = namespaces.get(controller.meta.namespace()).copied().unwrap_or(&none);
        let mut workload = of_controller(controller, labels);
        workload.counts = !owners.replaced.contains(&key(&controller.meta)) && !owners.owned.contains(&key(&controller.meta));
        workload
    }));
    workloads.sort_by(|a, b| (&a.namespace, &a.name, a.kind).cmp(&(&b.namespace, &b.name, b.kind)));
    workloads
}

fn of_pod(pod: &mutua_model::Pod) -> Workload {
    let tls_mode = labelled_tls_mode(&pod.meta.labels, DISABLED);
    Workload {
        kind: Kind::Pod,
        namespace: pod.meta.namespace().to_owned(),
        name: pod.meta.name().to_owned(),
        service_account: pod.spec.service_account.clone(),
        labels: Arc::new(pod.meta.labels.clone()),
        addresses: pod.ips.clone(),
        sidecar: is_istio(&tls_mode),
        ports: pod.spec.ports.clone(),
        tls_mode,
        entry_address: None,
        entry_ports: Vec::new(),
        counts: true,
    }
}

fn of_entry(entry: &mutua_model::WorkloadEntry) -> Workload {
    let endpoint = &entry.endpoint;
    let tls_mode = entry_tls_mode(&endpoint.labels, &endpoint.service_account);
    Workload {
        kind: Kind::WorkloadEntry,
        namespace: entry.meta.namespace().to_owned(),
        name: entry.meta.name().to_owned(),
        service_account: endpoint.service_account.clone(),
        labels: Arc::new(endpoint.labels.clone()),
        addresses: endpoint.address.parse().into_iter().collect(),
        sidecar: is_istio(&tls_mode),
        ports: Vec::new(),
        tls_mode,
        entry_address: (!endpoint.address.is_empty()).then(|| endpoint.address.clone()),
        entry_ports: endpoint.ports.clone(),
        counts: true,
    }
}

fn of_controller(controller: &mutua_model::Controller, namespace: &Labels) -> Workload {
    let injected = injection::injected(controller, namespace);
    let tls_mode = if injected { labelled_tls_mode(&controller.labels, ISTIO) } else { Cow::Borrowed(DISABLED) };
    Workload {
        kind: controller.meta.object.kind,
        namespace: controller.meta.namespace().to_owned(),
        name: controller.meta.name().to_owned(),
        service_account: controller.spec.service_account.clone(),
        labels: Arc::new(controller.labels.clone()),
        addresses: Vec::new(),
        sidecar: is_istio(&tls_mode),
        ports: controller.spec.ports.clone(),
        tls_mode,
        entry_address: None,
        entry_ports: Vec::new(),
        counts: true,
    }
}

type Key<'m> = (&'m str, &'m str, &'m str);

fn key(meta: &Meta) -> Key<'_> {
    (meta.namespace(), meta.object.kind.as_str(), meta.name())
}

struct Owners<'m> {
    /// Controllers of which a pod is in the input, directly or through another controller.
    replaced: HashSet<Key<'m>>,
    /// Controllers that belong to another controller of the input.
    owned: HashSet<Key<'m>>,
}

fn owners(mesh: &Mesh) -> Owners<'_> {
    let controllers: HashMap<Key<'_>, &Meta> = mesh.controllers.iter().map(|one| (key(&one.meta), &one.meta)).collect();
    let mut replaced = HashSet::new();
    let live = mesh.pods.iter().filter(|pod| !pod.ended);
    let mut left: Vec<Key<'_>> = live.flat_map(|pod| owner_keys(&pod.meta).chain(owners_owner(&pod.meta))).collect();
    while let Some(owner) = left.pop() {
        if let Some(meta) = controllers.get(&owner)
            && replaced.insert(owner)
        {
            left.extend(owner_keys(meta));
        }
    }
    let owned = mesh.controllers.iter().map(|one| &one.meta);
    let owned = owned.filter(|meta| owner_keys(meta).any(|owner| controllers.contains_key(&owner))).map(key).collect();
    Owners { replaced, owned }
}

/// Pods and controllers that belong to no controller of the input, with their (or their template's) labels.
pub(crate) fn topmost(mesh: &Mesh) -> Vec<(&Meta, &Labels)> {
    let controllers: HashSet<Key<'_>> = mesh.controllers.iter().map(|one| key(&one.meta)).collect();
    let owned = |meta: &Meta| owner_keys(meta).chain(owners_owner(meta)).any(|owner| controllers.contains(&owner));
    let pods = mesh.pods.iter().filter(|pod| !pod.ended).map(|pod| (&pod.meta, &pod.meta.labels));
    let templates = mesh.controllers.iter().map(|one| (&one.meta, &one.labels));
    pods.chain(templates).filter(|(meta, _)| !owned(meta)).collect()
}

fn owner_keys(meta: &Meta) -> impl Iterator<Item = Key<'_>> {
    meta.owners.iter().map(|owner| (meta.namespace(), owner.kind.as_str(), owner.name.as_str()))
}

/// The Deployment or CronJob behind a pod whose ReplicaSet or Job is not in the input, by the names Kubernetes gives
/// those: the Deployment's and the label `pod-template-hash`, the CronJob's and the minute it was due.
fn owners_owner(meta: &Meta) -> impl Iterator<Item = Key<'_>> {
    meta.owners.iter().filter_map(|owner| {
        let (name, end) = owner.name.rsplit_once('-')?;
        match owner.kind.as_str() {
            "ReplicaSet" if meta.labels.get("pod-template-hash").is_some_and(|hash| hash == end) => {
                Some((meta.namespace(), "Deployment", name))
            }
            "Job" if !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some((meta.namespace(), "CronJob", name))
            }
            _ => None,
        }
    })
}
