//! DestinationRules: which one a client uses for a service ([`RuleIndex::rule`]), and what it says about TLS ([`tls`]).

mod merge;
mod search;
pub(crate) mod tls;

use std::collections::HashMap;
use std::sync::Arc;

use mutua_model::{DestinationRule, Labels, Mesh, Subset, TrafficPolicy};

use self::merge::RuleSet;
use crate::host;

/// `exportTo` entries: public.
const PUBLIC: &str = "*";
/// `exportTo` entries: the rule's own namespace.
const PRIVATE: &str = ".";

/// A policy with the rule it was written in.
#[derive(Clone, Debug)]
pub(crate) struct Written<T> {
    pub(crate) rule: Arc<DestinationRule>,
    /// The field path of the value within the rule.
    pub(crate) path: String,
    pub(crate) value: T,
}

/// Rules of one host and namespace, merged.
#[derive(Clone, Debug)]
pub(crate) struct MergedRule {
    pub(crate) namespace: String,
    /// The rules it was made of, oldest first.
    pub(crate) rules: Vec<Arc<DestinationRule>>,
    /// The top-level traffic policy: the first that is written.
    pub(crate) policy: Option<Written<TrafficPolicy>>,
    /// Subsets of all rules; the first of a name counts.
    pub(crate) subsets: Vec<Written<Subset>>,
    /// Where each subset stands.
    subset_at: HashMap<String, usize>,
    export_to: Vec<String>,
    selector: Option<Labels>,
}

impl MergedRule {
    fn exported_to(&self, namespace: &str) -> bool {
        self.export_to.is_empty() || self.export_to.iter().any(|to| to == PUBLIC || to == namespace)
    }

    /// Whether it is for clients with certain labels only.
    pub(crate) fn selects(&self) -> bool {
        self.selector.is_some()
    }

    /// The subset of that name.
    pub(crate) fn subset(&self, name: &str) -> Option<&Written<Subset>> {
        self.subset_at.get(name).map(|at| &self.subsets[*at])
    }
}

/// All rules, as Istio indexes them (`setDestinationRules`).
#[derive(Debug, Default)]
pub(crate) struct RuleIndex {
    root: String,
    /// Rules of a namespace that its own clients see.
    local: HashMap<String, RuleSet>,
    /// Rules of a namespace that others may see.
    exported: HashMap<String, RuleSet>,
    /// Rules of the root namespace that only its own clients see.
    root_local: RuleSet,
}

impl RuleIndex {
    pub(crate) fn new(mesh: &Mesh) -> Self {
        let mut index = Self { root: mesh.config.root_namespace.clone(), ..Self::default() };
        let private_by_default = mesh.config.default_destination_rule_export_to.iter().any(|to| to == PRIVATE);
        let mut sorted: Vec<_> = mesh.destination_rules.iter().collect();
        sorted.sort_by(|a, b| {
            (a.workload_selector.is_none(), a.meta.age_order()).cmp(&(b.workload_selector.is_none(), b.meta.age_order()))
        });
        for rule in sorted {
            index.add(rule, &mesh.config.cluster_domain, private_by_default);
        }
        index
    }

    fn add(&mut self, rule: &Arc<DestinationRule>, domain: &str, private_by_default: bool) {
        let namespace = rule.meta.namespace();
        let host = host::resolve_short(&rule.host, namespace, domain);
        // A rule with a selector never leaves its namespace.
        let mut export_to = if rule.workload_selector.is_some() { vec![PRIVATE.to_owned()] } else { rule.export_to.clone() };
        export_to.sort();
        export_to.dedup();
        let names = |names: &[&str]| export_to.iter().any(|to| names.contains(&to.as_str()));
        if export_to.is_empty() || names(&[PUBLIC, PRIVATE, namespace]) {
            self.local.entry(namespace.to_owned()).or_default().add(&host, rule, &export_to);
        }
        let private_only =
            if export_to.is_empty() { private_by_default } else { export_to.len() == 1 && names(&[PRIVATE, namespace]) };
        if !private_only {
            self.exported.entry(namespace.to_owned()).or_default().add(&host, rule, &export_to);
        } else if namespace == self.root {
            self.root_local.add(&host, rule, &export_to);
        }
    }

    /// The rule that a client in `namespace` with these labels uses for a service. The first place with a result counts,
    /// however unspecific: the client's namespace, the service's, the root namespace.
    pub(crate) fn rule(&self, client: (&str, &Labels), service: (&str, &str)) -> Option<&MergedRule> {
        let found = self.candidates(client.0, service);
        let mut fallback = None;
        for rule in found {
            match &rule.selector {
                None => fallback = Some(rule),
                Some(selector) if rule.namespace == client.0 && selects(selector, client.1) => return Some(rule),
                Some(_) => {}
            }
        }
        fallback
    }

    /// Whether any rule that clients of `namespace` may use looks at their labels.
    pub(crate) fn selects_in(&self, namespace: &str) -> bool {
        self.local.get(namespace).is_some_and(RuleSet::has_selectors)
    }

    /// The rules of the first stage that has any: those among which clients of a namespace choose, by their labels.
    pub(crate) fn candidates(&self, client: &str, (name, namespace): (&str, &str)) -> Vec<&MergedRule> {
        for stage in self.stages(client, namespace) {
            let found = stage.rules.best(name).into_iter().flatten();
            let found: Vec<_> = found.filter(|rule| stage.own || rule.exported_to(client)).collect();
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    /// Where a client looks, in this order.
    fn stages<'i>(&'i self, client: &str, namespace: &str) -> impl Iterator<Item = Stage<'i>> + use<'i> {
        let own = if client == self.root { Some(&self.root_local) } else { self.local.get(client) };
        let others = [self.exported.get(namespace), self.exported.get(&self.root)].into_iter().flatten();
        let own = own.map(|rules| Stage { rules, own: true });
        own.into_iter().chain(others.map(|rules| Stage { rules, own: false }))
    }
}

/// A place where rules are looked up.
struct Stage<'i> {
    rules: &'i RuleSet,
    /// The client's own namespace, whose rules need not be exported.
    own: bool,
}

fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
