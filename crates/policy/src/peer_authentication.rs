//! PeerAuthentication: what a workload accepts, port by port, and what clients take a namespace for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mutua_model::{Labels, Mesh, MtlsMode, PeerAuthentication};

use crate::trace::{Step, Verdict};

const MODE: &str = "spec/mtls/mode";

/// The policies of a mesh by scope, oldest first. Of those without selector only the first of a namespace counts.
#[derive(Debug, Default)]
pub(crate) struct PeerPolicies {
    root: String,
    /// Without selector, by namespace; those of the root namespace are mesh-wide.
    wide: ByNamespace,
    /// With a selector, by namespace; those of the root namespace count nowhere.
    selecting: ByNamespace,
}

type ByNamespace = HashMap<String, Vec<Arc<PeerAuthentication>>>;

/// Where a change can be noticed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// In the whole mesh.
    Everywhere,
    /// In these namespaces.
    Namespaces(BTreeSet<String>),
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
    /// Everything that was looked at, in order.
    considered: Vec<Considered>,
}

/// The policy and field that decided; `None` is Istio's default.
pub(crate) type Decided = Option<(Arc<PeerAuthentication>, String)>;

/// A policy that was looked at.
#[derive(Clone, Debug)]
enum Considered {
    Applied(&'static str, Arc<PeerAuthentication>),
    /// Not used, because an older one of its scope counts.
    Younger(&'static str, Arc<PeerAuthentication>, Arc<PeerAuthentication>),
    /// A selector in the root namespace.
    InRoot(Arc<PeerAuthentication>),
}

/// The object that decided, as users name it; `default` when none did.
pub(crate) fn decided_by(decided: &Decided) -> String {
    decided.as_ref().map_or_else(|| "default".to_owned(), |(policy, _)| policy.meta.object.to_string())
}

impl PeerPolicies {
    pub(crate) fn new(mesh: &Mesh) -> Self {
        let mut sorted: Vec<_> = mesh.peer_authentications.iter().collect();
        sorted.sort_by(|a, b| a.meta.age_order().cmp(&b.meta.age_order()));
        let mut policies = Self { root: mesh.config.root_namespace.clone(), ..Self::default() };
        for policy in sorted {
            let scope = if policy.selector.is_empty() { &mut policies.wide } else { &mut policies.selecting };
            scope.entry(policy.meta.namespace().to_owned()).or_default().push(Arc::clone(policy));
        }
        policies
    }

    fn mesh_wide(&self) -> &[Arc<PeerAuthentication>] {
        self.wide.get(&self.root).map(Vec::as_slice).unwrap_or_default()
    }

    fn of_namespace(&self, namespace: &str) -> &[Arc<PeerAuthentication>] {
        if namespace == self.root {
            return &[];
        }
        self.wide.get(namespace).map(Vec::as_slice).unwrap_or_default()
    }

    /// Policies of a namespace whose selector matches, oldest first.
    fn matching<'p>(&'p self, namespace: &str, labels: &'p Labels) -> impl Iterator<Item = &'p Arc<PeerAuthentication>> {
        let all = self.selecting.get(namespace).into_iter().flatten();
        all.filter(|policy| policy.selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
    }

    /// What each of these workloads (namespace and labels) accepts. Equal answers are shared.
    pub(crate) fn effective_of_all<'w>(&self, workloads: impl Iterator<Item = (&'w str, &'w Labels)>) -> Vec<Arc<Effective>> {
        let mut known: HashMap<(&str, Vec<*const PeerAuthentication>), Arc<Effective>> = HashMap::new();
        let one = |(namespace, labels): (&'w str, &'w Labels)| {
            let selecting = [namespace, &self.root].into_iter().flat_map(|namespace| self.matching(namespace, labels));
            let key = (namespace, selecting.map(Arc::as_ptr).collect());
            Arc::clone(known.entry(key).or_insert_with(|| Arc::new(self.effective(namespace, labels))))
        };
        workloads.map(one).collect()
    }

    /// What a workload with these labels accepts.
    pub(crate) fn effective(&self, namespace: &str, labels: &Labels) -> Effective {
        let mut effective = Effective { mode: MtlsMode::Permissive, by: None, ports: BTreeMap::new(), considered: Vec::new() };
        effective.apply_first(("peer-authentication.mesh", "peer-authentication.mesh-ignored"), self.mesh_wide().iter());
        let own = self.of_namespace(namespace).iter();
        effective.apply_first(("peer-authentication.namespace", "peer-authentication.namespace-ignored"), own);
        if namespace != self.root {
            let rules = ("peer-authentication.workload", "peer-authentication.workload-ignored");
            effective.apply_first(rules, self.matching(namespace, labels));
        }
        effective.considered.extend(self.matching(&self.root, labels).map(Arc::clone).map(Considered::InRoot));
        effective
    }

    /// What clients take the mode of a namespace's services for: workload and port policies do not count here
    /// (`GetNamespaceMutualTLSMode`).
    pub(crate) fn namespace_mode(&self, namespace: &str) -> MtlsMode {
        let scopes = [self.of_namespace(namespace), self.mesh_wide()];
        scopes.into_iter().find_map(|policies| policies.first()?.mode).unwrap_or(MtlsMode::Permissive)
    }

    /// Why [`PeerPolicies::namespace_mode`] is what it is.
    pub(crate) fn namespace_mode_steps(&self, namespace: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        let scopes = [("auto-mtls.namespace", self.of_namespace(namespace)), ("auto-mtls.mesh", self.mesh_wide())];
        for (rule, policies) in scopes {
            let Some(policy) = policies.first() else { continue };
            if let Some(mode) = policy.mode {
                let sent = if mode == MtlsMode::Disable { "plaintext" } else { "mutual TLS" };
                let effect = format!("clients take namespace {namespace} for {mode} and send {sent}");
                steps.push(Step::of(rule, &policy.meta, MODE, effect));
                break;
            }
            steps.push(Step::of(rule, &policy.meta, MODE, "mode UNSET: inherited").but(Verdict::Overridden));
        }
        steps
    }

    /// Where workloads may accept something else than by `old`. Policies are the same when they are shared.
    pub(crate) fn changed_since(&self, old: &Self) -> Scope {
        fn differing<'p>(a: &'p ByNamespace, b: &ByNamespace) -> impl Iterator<Item = &'p String> {
            let differs = |namespace: &String, list: &[Arc<PeerAuthentication>]| {
                let other = b.get(namespace).map(Vec::as_slice).unwrap_or_default();
                list.len() != other.len() || list.iter().zip(other).any(|(one, other)| !Arc::ptr_eq(one, other))
            };
            a.iter().filter(move |(namespace, list)| differs(namespace, list)).map(|(namespace, _)| namespace)
        }
        let scopes = [(&self.wide, &old.wide), (&self.selecting, &old.selecting)];
        let both_ways = scopes.into_iter().flat_map(|(new, old)| differing(new, old).chain(differing(old, new)));
        let namespaces: BTreeSet<String> = both_ways.cloned().collect();
        // Those with a selector in the root namespace count nowhere, but workloads are told so.
        if self.root != old.root || namespaces.contains(&self.root) {
            return Scope::Everywhere;
        }
        Scope::Namespaces(namespaces)
    }
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

    /// The whole inheritance, for the workload's mode.
    pub(crate) fn trace(&self) -> Vec<Step> {
        let default = Step::of_default("peer-authentication.default", "mode PERMISSIVE, unless a policy says otherwise");
        let verdict = if self.by.is_some() { Verdict::Overridden } else { Verdict::Decided };
        let mut steps = vec![default.but(verdict)];
        steps.extend(self.considered.iter().map(|one| one.step(self.by.as_ref().map(|(policy, _)| policy))));
        steps
    }

    /// What a port's own mode adds to [`Effective::trace`].
    pub(crate) fn port_step(&self, port: u16) -> Option<Step> {
        let (mode, decided) = self.ports.get(&port)?;
        let (policy, path) = decided.as_ref()?;
        Some(Step::of("peer-authentication.port", &policy.meta, path, format!("port {port}: mode {mode}")))
    }

    /// The inheritance down to a port.
    pub(crate) fn trace_of(&self, port: u16) -> Vec<Step> {
        let mut steps = self.trace();
        if let Some(of_port) = self.port_step(port) {
            for step in steps.iter_mut().filter(|step| step.verdict == Verdict::Decided) {
                step.verdict = Verdict::Overridden;
                step.effect.push_str(&format!("; port {port} has its own"));
            }
            steps.push(of_port);
        }
        steps
    }

    /// Applies the first of a scope; the others are only remembered.
    fn apply_first<'p>(
        &mut self,
        (applied, ignored): (&'static str, &'static str),
        mut policies: impl Iterator<Item = &'p Arc<PeerAuthentication>>,
    ) {
        let Some(first) = policies.next() else { return };
        if let Some(mode) = first.mode {
            self.mode = mode;
            self.by = Some((Arc::clone(first), MODE.to_owned()));
        }
        if !first.selector.is_empty() {
            self.apply_ports(first);
        }
        self.considered.push(Considered::Applied(applied, Arc::clone(first)));
        let younger = |later: &Arc<PeerAuthentication>| Considered::Younger(ignored, Arc::clone(later), Arc::clone(first));
        self.considered.extend(policies.map(younger));
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

impl Considered {
    /// `deciding` is the policy whose mode counts.
    fn step(&self, deciding: Option<&Arc<PeerAuthentication>>) -> Step {
        match self {
            Self::Applied(rule, policy) => match (policy.mode, deciding) {
                (None, _) => {
                    let ports: Vec<String> = policy.ports.keys().map(ToString::to_string).collect();
                    let only =
                        if ports.is_empty() { String::new() } else { format!("; of its own are the ports {}", ports.join(", ")) };
                    let effect = format!("mode UNSET: inherited{only}");
                    Step::of(rule, &policy.meta, MODE, effect).but(Verdict::Overridden)
                }
                (Some(mode), Some(winner)) if !Arc::ptr_eq(policy, winner) => {
                    let effect = format!("mode {mode}; {} is narrower and counts before it", winner.meta.object);
                    Step::of(rule, &policy.meta, MODE, effect).but(Verdict::Overridden)
                }
                (Some(mode), _) => Step::of(rule, &policy.meta, MODE, format!("mode {mode}")),
            },
            Self::Younger(rule, policy, winner) => {
                let same_age = policy.meta.created == winner.meta.created;
                let why = if same_age { "is of the same age and comes first by name" } else { "is older" };
                let effect = format!("not used: {} {why}, and counts whole", winner.meta.object);
                Step::of(rule, &policy.meta, "", effect).but(Verdict::Unused)
            }
            Self::InRoot(policy) => {
                let effect = "not used: a selector in the root namespace selects nothing";
                Step::of("peer-authentication.root-selector", &policy.meta, "spec/selector", effect).but(Verdict::Unused)
            }
        }
    }
}
