//! PeerAuthentication: what a workload accepts, port by port, and what clients take a namespace for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mutua_model::{Labels, Mesh, MtlsMode, PeerAuthentication};

use crate::trace::Step;

/// The policies of a mesh by scope, oldest first.
#[derive(Debug, Default)]
pub(crate) struct PeerPolicies {
    root: String,
    mesh: Option<Arc<PeerAuthentication>>,
    namespaces: HashMap<String, Arc<PeerAuthentication>>,
    workloads: HashMap<String, Vec<Arc<PeerAuthentication>>>,
}

/// What a workload accepts, and why.
#[derive(Clone, Debug)]
pub(crate) struct Effective {
    /// On every port that is not listed.
    pub(crate) mode: MtlsMode,
    /// What decided it.
    pub(crate) by: Decided,
    /// Ports with a mode of their own.
    pub(crate) ports: BTreeMap<u16, (MtlsMode, Decided)>,
    /// The whole inheritance, for the workload's mode.
    pub(crate) trace: Vec<Step>,
}

/// The policy and field that decided; `None` is Istio's default.
pub(crate) type Decided = Option<(Arc<PeerAuthentication>, String)>;

/// The object that decided, as users name it; `default` when none did.
pub(crate) fn decided_by(decided: &Decided) -> String {
    decided.as_ref().map_or_else(|| "default".to_owned(), |(policy, _)| policy.meta.object.to_string())
}

impl Effective {
    /// The mode of a port.
    pub(crate) fn on(&self, port: u16) -> MtlsMode {
        self.ports.get(&port).map_or(self.mode, |(mode, _)| *mode)
    }

    /// What decided the mode of a port.
    pub(crate) fn decided(&self, port: u16) -> &Decided {
        self.ports.get(&port).map_or(&self.by, |(_, by)| by)
    }

    /// The inheritance down to a port.
    pub(crate) fn trace_of(&self, port: u16) -> Vec<Step> {
        let mut trace = self.trace.clone();
        if let Some((mode, Some((policy, path)))) = self.ports.get(&port) {
            trace.push(Step::of("peer-authentication.port", &policy.meta, path, format!("port {port}: mode {mode}")));
        }
        trace
    }
}

impl PeerPolicies {
    pub(crate) fn new(mesh: &Mesh) -> Self {
        let root = mesh.config.root_namespace.clone();
        let mut sorted: Vec<_> = mesh.peer_authentications.iter().collect();
        sorted.sort_by(|a, b| a.meta.age_order().cmp(&b.meta.age_order()));
        let mut policies = Self { root, ..Self::default() };
        for policy in sorted {
            policies.add(policy);
        }
        policies
    }

    /// The oldest policy without selector counts per namespace; a selector in the root namespace is ignored everywhere.
    fn add(&mut self, policy: &Arc<PeerAuthentication>) {
        let namespace = policy.meta.namespace();
        match (namespace == self.root, policy.selector.is_empty()) {
            (true, true) => drop(self.mesh.get_or_insert_with(|| Arc::clone(policy))),
            (true, false) => {}
            (false, true) => drop(self.namespaces.entry(namespace.to_owned()).or_insert_with(|| Arc::clone(policy))),
            (false, false) => self.workloads.entry(namespace.to_owned()).or_default().push(Arc::clone(policy)),
        }
    }

    /// What a workload with these labels accepts.
    pub(crate) fn effective(&self, namespace: &str, labels: &Labels) -> Effective {
        let mut effective = Effective {
            mode: MtlsMode::Permissive,
            by: None,
            ports: BTreeMap::new(),
            trace: vec![Step::of_default("peer-authentication.default", "mode PERMISSIVE, unless a policy says otherwise")],
        };
        if let Some(policy) = &self.mesh {
            effective.apply("peer-authentication.mesh", policy);
        }
        if let Some(policy) = self.namespaces.get(namespace) {
            effective.apply("peer-authentication.namespace", policy);
        }
        let matching =
            |policy: &&Arc<PeerAuthentication>| policy.selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        let mut matching = self.workloads.get(namespace).into_iter().flatten().filter(matching);
        if let Some(policy) = matching.next() {
            effective.apply("peer-authentication.workload", policy);
            effective.apply_ports(policy);
            effective.trace.extend(matching.map(|later| {
                let effect = format!("not used: {} is older and counts whole", policy.meta.object);
                Step::of("peer-authentication.workload-ignored", &later.meta, "", effect)
            }));
        }
        effective
    }

    /// What clients take the mode of a namespace's services for: workload and port policies do not count here
    /// (`GetNamespaceMutualTLSMode`).
    pub(crate) fn namespace_mode(&self, namespace: &str) -> (MtlsMode, Vec<Step>) {
        let own = (namespace != self.root).then(|| self.namespaces.get(namespace)).flatten();
        for (rule, policy) in [("peer-authentication.namespace", own), ("peer-authentication.mesh", self.mesh.as_ref())] {
            let Some(policy) = policy else { continue };
            if let Some(mode) = policy.mode {
                return (mode, vec![Step::of(rule, &policy.meta, "spec/mtls/mode", format!("clients take mode {mode}"))]);
            }
        }
        (MtlsMode::Permissive, Vec::new())
    }
}

impl Effective {
    fn apply(&mut self, rule: &'static str, policy: &Arc<PeerAuthentication>) {
        let path = "spec/mtls/mode";
        let Some(mode) = policy.mode else {
            self.trace.push(Step::of(rule, &policy.meta, path, "mode UNSET: inherited"));
            return;
        };
        self.mode = mode;
        self.by = Some((Arc::clone(policy), path.to_owned()));
        self.trace.push(Step::of(rule, &policy.meta, path, format!("mode {mode}")));
    }

    fn apply_ports(&mut self, policy: &Arc<PeerAuthentication>) {
        for (port, mode) in &policy.ports {
            let path = format!("spec/portLevelMtls/{port}/mode");
            let entry = match mode {
                Some(mode) => (*mode, Some((Arc::clone(policy), path))),
                None => (self.mode, self.by.clone()),
            };
            self.ports.insert(*port, entry);
        }
    }
}
