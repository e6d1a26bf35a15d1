//! Which namespaces may use rules of their own for a service. All others see it alike, so that a decision is made once
//! for them, however many there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use mutua_model::{Labels, Mesh};

use crate::destination_rule::MergedRule;
use crate::engine::Engine;
use crate::host::Hosts;
use crate::service::Service;

/// A namespace that no rule speaks of and no rule stands in: how all the others see a service.
pub(crate) const STRANGER: &str = "";

/// For each service the namespaces that rules for it stand in or are exported to by name.
#[derive(Debug)]
pub(crate) struct RuleViews {
    named: Vec<BTreeSet<Arc<str>>>,
}

/// The rule that clients of some namespaces use.
pub(crate) struct RuleView<'e> {
    /// Empty stands for all namespaces that no view names.
    pub(crate) namespaces: Vec<Arc<str>>,
    pub(crate) rule: Option<&'e MergedRule>,
}

impl RuleViews {
    pub(crate) fn new(mesh: &Mesh, services: &[Service]) -> Self {
        let hosts = Hosts::new(services);
        let mut named = vec![BTreeSet::new(); services.len()];
        for rule in &mesh.destination_rules {
            let listed = rule.export_to.iter().map(String::as_str).filter(|to| !matches!(*to, "*" | "." | "~"));
            let namespaces: Vec<Arc<str>> = listed.chain([rule.meta.namespace()]).map(Arc::from).collect();
            for at in hosts.covered(rule, &mesh.config.cluster_domain) {
                named[at].extend(namespaces.iter().cloned());
            }
        }
        Self { named }
    }

    /// The namespaces that may see the service (by position) in their own way.
    pub(crate) fn named(&self, service: usize) -> &BTreeSet<Arc<str>> {
        &self.named[service]
    }

    /// The rules that clients without special labels use for a service, that of the strangers first.
    pub(crate) fn of<'e>(&self, engine: &'e Engine, service: usize) -> Vec<RuleView<'e>> {
        let labels = Labels::new();
        let asked = &engine.services[service];
        let rule = |namespace: &str| engine.rules.rule((namespace, &labels), (&asked.host, &asked.namespace));
        let mut views = vec![RuleView { namespaces: Vec::new(), rule: rule(STRANGER) }];
        for namespace in self.named(service) {
            let own = rule(namespace);
            let same = |view: &RuleView<'_>| view.rule.map(std::ptr::from_ref) == own.map(std::ptr::from_ref);
            // Whoever uses the strangers' rule needs no view.
            match views.iter_mut().position(|view| same(view)) {
                Some(0) => {}
                Some(at) => views[at].namespaces.push(Arc::clone(namespace)),
                None => views.push(RuleView { namespaces: vec![Arc::clone(namespace)], rule: own }),
            }
        }
        views
    }
}
