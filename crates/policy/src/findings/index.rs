//! Lists of the mesh by namespace and label, so that the checks stay linear.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use mutua_model::service::TargetPort;
use mutua_model::workload::PodSpec;
use mutua_model::{DestinationRule, Labels, Mesh, Meta, MtlsMode, PeerAuthentication, Service};

use crate::credential::Secrets;
use crate::injection;

/// What a pod says of its injection, as label or annotation.
const INJECT: &str = "sidecar.istio.io/inject";
/// The pod label that says whether it speaks the mesh's TLS.
pub(super) const TLS_MODE: &str = "security.istio.io/tlsMode";

/// A workload as the checks see it.
pub(super) struct Workload<'m> {
    pub(super) namespace: &'m str,
    pub(super) name: &'m str,
    pub(super) labels: &'m Labels,
    pub(super) spec: Option<&'m PodSpec>,
    /// Whether istioctl takes it for a part of the mesh.
    pub(super) in_mesh: bool,
}

/// The mesh, sorted and indexed.
pub(super) struct Index<'m> {
    pub(super) mesh: &'m Mesh,
    /// In Istio's order of age.
    pub(super) policies: Vec<&'m PeerAuthentication>,
    /// In Istio's order of age.
    pub(super) rules: Vec<&'m DestinationRule>,
    /// Rules by host as written, oldest first.
    by_host: HashMap<&'m str, Vec<&'m DestinationRule>>,
    /// Policies without selector by namespace, oldest first.
    wide: BTreeMap<&'m str, Vec<&'m PeerAuthentication>>,
    workloads: Vec<Workload<'m>>,
    by_label: HashMap<(&'m str, &'m str, &'m str), Vec<usize>>,
    /// Namespaces with workloads.
    inhabited: HashSet<&'m str>,
    /// Namespaces with workloads of the mesh.
    meshed: HashSet<&'m str>,
    /// Of all namespaces together.
    by_label_anywhere: HashMap<(&'m str, &'m str), Vec<usize>>,
    services: HashMap<&'m str, Vec<&'m Service>>,
    pub(super) secrets: Secrets,
}

impl<'m> Index<'m> {
    pub(super) fn new(mesh: &'m Mesh) -> Self {
        let mut policies: Vec<_> = mesh.peer_authentications.iter().map(AsRef::as_ref).collect();
        policies.sort_by(|a, b| a.meta.age_order().cmp(&b.meta.age_order()));
        let mut rules: Vec<_> = mesh.destination_rules.iter().map(AsRef::as_ref).collect();
        rules.sort_by(|a, b| a.meta.age_order().cmp(&b.meta.age_order()));
        let mut index = Self {
            mesh,
            policies,
            rules,
            by_host: HashMap::new(),
            wide: BTreeMap::new(),
            workloads: Vec::new(),
            by_label: HashMap::new(),
            inhabited: HashSet::new(),
            meshed: HashSet::new(),
            by_label_anywhere: HashMap::new(),
            services: HashMap::new(),
            secrets: Secrets::new(mesh),
        };
        for rule in &index.rules {
            index.by_host.entry(&rule.host).or_default().push(rule);
        }
        for policy in index.policies.iter().filter(|policy| policy.selector.is_empty()) {
            index.wide.entry(policy.meta.namespace()).or_default().push(policy);
        }
        for service in &mesh.services {
            index.services.entry(service.meta.namespace()).or_default().push(service);
        }
        index.add_workloads();
        index
    }

    fn add_workloads(&mut self) {
        let mesh = self.mesh;
        let namespaces: HashMap<&str, &Labels> = mesh.namespaces.iter().map(|one| (one.meta.name(), &one.meta.labels)).collect();
        let in_mesh = |namespace: &str, labels: &Labels, annotations: &Labels, spec: &PodSpec| {
            let asked = labels.get(INJECT).or_else(|| annotations.get(INJECT)).map(|value| value == "true");
            let by_namespace = || namespaces.get(namespace).is_some_and(|labels| injection::is_asked_for(labels));
            let runs = spec.containers.iter().any(|name| name == "istio-proxy");
            runs || labels.get(TLS_MODE).is_some_and(|mode| mode == "istio") || asked.unwrap_or_else(by_namespace)
        };
        for pod in mesh.pods.iter().filter(|pod| !pod.ended) {
            let (meta, labels) = (&pod.meta, &pod.meta.labels);
            self.add(meta, labels, Some(&pod.spec), in_mesh(meta.namespace(), labels, &meta.annotations, &pod.spec));
        }
        for controller in &mesh.controllers {
            let (meta, labels, spec) = (&controller.meta, &controller.labels, &controller.spec);
            self.add(meta, labels, Some(spec), in_mesh(meta.namespace(), labels, &controller.annotations, spec));
        }
        for entry in &mesh.workload_entries {
            self.add(&entry.meta, &entry.endpoint.labels, None, true);
        }
    }

    fn add(&mut self, meta: &'m Meta, labels: &'m Labels, spec: Option<&'m PodSpec>, in_mesh: bool) {
        let (namespace, name) = (meta.namespace(), meta.name());
        let position = self.workloads.len();
        self.inhabited.insert(namespace);
        for (key, value) in labels {
            self.by_label.entry((namespace, key, value)).or_default().push(position);
            self.by_label_anywhere.entry((key, value)).or_default().push(position);
        }
        if in_mesh {
            self.meshed.insert(namespace);
        }
        self.workloads.push(Workload { namespace, name, labels, spec, in_mesh });
    }

    /// The workloads of a namespace that a non-empty selector matches, with their positions.
    pub(super) fn selected(&self, namespace: &str, selector: &Labels) -> Vec<(usize, &Workload<'m>)> {
        let lists = selector.iter().map(|(key, value)| self.by_label.get(&(namespace, key.as_str(), value.as_str())));
        self.covered(selector, lists)
    }

    /// Whether a namespace has workloads.
    pub(super) fn has_workloads(&self, namespace: &str) -> bool {
        self.inhabited.contains(namespace)
    }

    /// Whether any namespace has workloads.
    pub(super) fn has_any_workloads(&self) -> bool {
        !self.workloads.is_empty()
    }

    /// Whether a namespace has workloads of the mesh.
    pub(super) fn has_mesh_workloads(&self, namespace: &str) -> bool {
        self.meshed.contains(namespace)
    }

    /// As [`Self::selected`], of any namespace.
    pub(super) fn selected_anywhere(&self, selector: &Labels) -> Vec<(usize, &Workload<'m>)> {
        let lists = selector.iter().map(|(key, value)| self.by_label_anywhere.get(&(key.as_str(), value.as_str())));
        self.covered(selector, lists)
    }

    /// Those of the shortest list that have all labels.
    fn covered<'l>(&self, selector: &Labels, lists: impl Iterator<Item = Option<&'l Vec<usize>>>) -> Vec<(usize, &Workload<'m>)> {
        let shortest = lists.map(|list| list.map_or(&[][..], Vec::as_slice)).min_by_key(|list| list.len()).unwrap_or_default();
        let fits = |position: &usize| covers(selector, self.workloads[*position].labels);
        shortest.iter().copied().filter(fits).map(|position| (position, &self.workloads[position])).collect()
    }

    /// Objects of one namespace whose non-empty selectors match one workload, of whatever namespace. The answer is by
    /// position, with the others ([`MOST`] of them) and an example.
    pub(super) fn clashes(&self, selectors: &[(&str, &Labels)]) -> BTreeMap<usize, Clash<'_, 'm>> {
        let mut by_namespace: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, (namespace, _)) in selectors.iter().enumerate().filter(|(_, (_, selector))| !selector.is_empty()) {
            by_namespace.entry(namespace).or_default().push(at);
        }
        let mut found: BTreeMap<usize, Clash<'_, 'm>> = BTreeMap::new();
        for list in by_namespace.into_values().filter(|list| list.len() > 1) {
            let mut by_workload: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for at in list {
                for (workload, _) in self.selected_anywhere(selectors[at].1) {
                    by_workload.entry(workload).or_default().push(at);
                }
            }
            for (workload, several) in by_workload.iter().filter(|(_, several)| several.len() > 1) {
                for at in several {
                    let example = &self.workloads[*workload];
                    let clash = found.entry(*at).or_insert_with(|| Clash { others: BTreeSet::new(), example });
                    let room = MOST.saturating_sub(clash.others.len());
                    clash.others.extend(several.iter().filter(|other| *other != at).take(room));
                    if example.namespace == selectors[*at].0 && clash.example.namespace != example.namespace {
                        clash.example = example;
                    }
                }
            }
        }
        found
    }

    /// Rules written for exactly this host, oldest first.
    pub(super) fn rules_for(&self, host: &str) -> &[&'m DestinationRule] {
        self.by_host.get(host).map_or(&[], Vec::as_slice)
    }

    /// Policies without selector of a namespace, oldest first.
    pub(super) fn wide(&self, namespace: &str) -> &[&'m PeerAuthentication] {
        self.wide.get(namespace).map_or(&[], Vec::as_slice)
    }

    /// All lists of policies without selector.
    pub(super) fn wide_lists(&self) -> impl Iterator<Item = (&&'m str, &Vec<&'m PeerAuthentication>)> {
        self.wide.iter()
    }

    /// Mesh-wide policies, oldest first.
    pub(super) fn mesh_policies(&self) -> &[&'m PeerAuthentication] {
        self.wide(&self.mesh.config.root_namespace)
    }

    /// The host that stands for all services of a namespace.
    pub(super) fn namespace_host(&self, namespace: &str) -> String {
        format!("*.{namespace}.svc.{}", self.mesh.config.cluster_domain)
    }

    /// The mode clients assume for a namespace: of the namespace, else of the mesh.
    pub(super) fn client_view(&self, namespace: &str) -> Option<MtlsMode> {
        let own = self.wide(namespace).first().and_then(|policy| policy.mode);
        own.or_else(|| self.mesh_policies().first().and_then(|policy| policy.mode))
    }

    /// Services of a namespace.
    pub(super) fn services_in(&self, namespace: &str) -> &[&'m Service] {
        self.services.get(namespace).map_or(&[], Vec::as_slice)
    }

    /// Services of a namespace that select a workload.
    pub(super) fn services_of<'a>(
        &'a self,
        namespace: &str,
        workload: &'a Workload<'m>,
    ) -> impl Iterator<Item = &'a &'m Service> {
        let services = self.services.get(namespace).map_or(&[][..], |l| l);
        services.iter().filter(|service| {
            service.selector.as_ref().is_some_and(|selector| !selector.is_empty() && covers(selector, workload.labels))
        })
    }
}

/// Selectors that match the same workload.
pub(super) struct Clash<'a, 'm> {
    /// The positions of the others.
    pub(super) others: BTreeSet<usize>,
    /// One such workload, of the namespace itself if there is one.
    pub(super) example: &'a Workload<'m>,
}

impl Clash<'_, '_> {
    /// What happens, given the names of the others and what becomes of a workload that several select.
    pub(super) fn tell(&self, namespace: &str, others: &str, outcome: &str) -> String {
        let Workload { namespace: theirs, name, .. } = self.example;
        if *theirs == namespace {
            return format!("workload {theirs}/{name} is selected by {others} too; {outcome}");
        }
        format!(
            "labels such as those of workload {theirs}/{name} are selected by {others} too; for a workload of {namespace} {outcome}"
        )
    }
}

/// How many other objects a finding names: where thousands clash, each naming all would be too much to print.
pub(super) const MOST: usize = 20;

/// The number of a target port on a workload, `None` when its name is not known there.
pub(super) fn target_number(target: &TargetPort, workload: &Workload<'_>) -> Option<u16> {
    match target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Named(name) => {
            let ports = workload.spec.map_or(&[][..], |spec| &spec.ports);
            ports.iter().find(|port| port.name == *name).map(|port| port.number)
        }
    }
}

fn covers(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
