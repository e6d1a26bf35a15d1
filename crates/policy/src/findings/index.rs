//! Lists of the mesh by namespace and label, so that the checks stay linear.

use std::collections::{BTreeMap, HashMap};

use mutua_model::service::TargetPort;
use mutua_model::workload::PodSpec;
use mutua_model::{DestinationRule, Labels, Mesh, MtlsMode, PeerAuthentication, Service};

/// A workload as the checks see it.
pub(super) struct Workload<'m> {
    pub(super) name: &'m str,
    pub(super) labels: &'m Labels,
    pub(super) spec: Option<&'m PodSpec>,
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
    services: HashMap<&'m str, Vec<&'m Service>>,
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
            services: HashMap::new(),
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
        for pod in mesh.pods.iter().filter(|pod| !pod.ended) {
            self.add(pod.meta.namespace(), Workload { name: pod.meta.name(), labels: &pod.meta.labels, spec: Some(&pod.spec) });
        }
        for controller in &mesh.controllers {
            let (namespace, name) = (controller.meta.namespace(), controller.meta.name());
            self.add(namespace, Workload { name, labels: &controller.labels, spec: Some(&controller.spec) });
        }
        for entry in &mesh.workload_entries {
            self.add(entry.meta.namespace(), Workload { name: entry.meta.name(), labels: &entry.endpoint.labels, spec: None });
        }
    }

    fn add(&mut self, namespace: &'m str, workload: Workload<'m>) {
        let position = self.workloads.len();
        for (key, value) in workload.labels {
            self.by_label.entry((namespace, key, value)).or_default().push(position);
        }
        self.workloads.push(workload);
    }

    /// The workloads of a namespace that a non-empty selector matches, with their positions.
    pub(super) fn selected(&self, namespace: &str, selector: &Labels) -> Vec<(usize, &Workload<'m>)> {
        let lists = selector.iter().map(|(key, value)| self.by_label.get(&(namespace, key, value)).map_or(&[][..], |l| l));
        let Some(shortest) = lists.min_by_key(|list| list.len()) else { return Vec::new() };
        let fits = |position: &usize| covers(selector, self.workloads[*position].labels);
        shortest.iter().copied().filter(fits).map(|position| (position, &self.workloads[position])).collect()
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

    /// Whether a workload of any namespace has these labels.
    pub(super) fn selected_anywhere(&self, selector: &Labels) -> bool {
        self.workloads.iter().any(|workload| covers(selector, workload.labels))
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
