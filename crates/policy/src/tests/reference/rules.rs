//! Which DestinationRule a client uses, and what it says (`pilot/pkg/model/push_context.go`, `destination_rule.go`,
//! `sidecar.go`).

use std::collections::BTreeSet;
use std::sync::Arc;

use mutua_model::{ClientTls, ClientTlsMode, DestinationRule, Labels, Mesh, Subset, TrafficPolicy};

/// A rule after merging (`mergeDestinationRule`).
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) selector: Option<Labels>,
    namespace: String,
    export: BTreeSet<String>,
    policy: Option<TrafficPolicy>,
    subsets: Vec<Subset>,
}

/// A host without a dot belongs to the rule's namespace.
fn full(rule: &DestinationRule, mesh: &Mesh) -> String {
    let host = &rule.host;
    if host == "*" || host.contains('.') {
        return host.clone();
    }
    format!("{host}.{}.svc.{}", rule.meta.namespace(), mesh.config.cluster_domain)
}

/// With a workloadSelector forced to `.`.
fn export_of(rule: &DestinationRule) -> BTreeSet<String> {
    if rule.workload_selector.is_some() {
        return BTreeSet::from([".".to_owned()]);
    }
    rule.export_to.iter().cloned().collect()
}

fn private_only(rule: &DestinationRule, mesh: &Mesh) -> bool {
    let export: Vec<String> = export_of(rule).into_iter().collect();
    match &export[..] {
        [] => mesh.config.default_destination_rule_export_to == ["."],
        [only] => only == "." || only == rule.meta.namespace(),
        _ => false,
    }
}

fn local(rule: &DestinationRule) -> bool {
    let export = export_of(rule);
    export.is_empty() || ["*", ".", rule.meta.namespace()].iter().any(|to| export.contains(*to))
}

/// All rules, those with a workloadSelector first, then by age.
fn sorted(mesh: &Mesh) -> Vec<Arc<DestinationRule>> {
    let mut rules: Vec<_> = mesh.destination_rules.iter().cloned().collect();
    rules.sort_by_key(|rule| {
        let meta = &rule.meta;
        (rule.workload_selector.is_none(), meta.created, meta.name().to_owned(), meta.namespace().to_owned())
    });
    rules
}

/// The entries of one host in one index, merged in order.
fn entries(mesh: &Mesh, host: &str, namespace: &str, belongs: &dyn Fn(&DestinationRule) -> bool) -> Vec<Entry> {
    let mut merged: Vec<Entry> = Vec::new();
    for rule in sorted(mesh).iter().filter(|rule| rule.meta.namespace() == namespace && full(rule, mesh) == host && belongs(rule))
    {
        let export = export_of(rule);
        let mut append = true;
        for entry in &mut merged {
            let superset = entry.export.is_subset(&export);
            if export == entry.export {
                append = false;
            } else if !entry.export.is_empty() && superset {
                append = true;
            } else {
                append = true;
                continue;
            }
            let both = rule.workload_selector.is_some() && entry.selector.is_some();
            if both && rule.workload_selector != entry.selector {
                append = true;
                continue;
            }
            if rule.workload_selector == entry.selector {
                append = false;
            }
            entry.policy = entry.policy.clone().or_else(|| rule.policy.clone());
            for subset in &rule.subsets {
                if entry.subsets.iter().all(|known| known.name != subset.name) {
                    entry.subsets.push(subset.clone());
                }
            }
        }
        if append || merged.is_empty() {
            merged.push(Entry {
                selector: rule.workload_selector.clone(),
                namespace: namespace.to_owned(),
                export,
                policy: rule.policy.clone(),
                subsets: rule.subsets.clone(),
            });
        }
    }
    merged
}

/// An exact key first, else the longest wildcard that covers the service's host, ties alphabetical.
fn best(mesh: &Mesh, host: &str, namespace: &str, belongs: &dyn Fn(&DestinationRule) -> bool) -> Vec<Entry> {
    let mut keys: Vec<String> = mesh
        .destination_rules
        .iter()
        .filter(|rule| rule.meta.namespace() == namespace && belongs(rule))
        .map(|rule| full(rule, mesh))
        .filter(|key| key == host || key.strip_prefix('*').is_some_and(|end| host.ends_with(end)))
        .collect();
    keys.sort_by_key(|key| (key != host, usize::MAX - key.len(), key.clone()));
    keys.first().map(|key| entries(mesh, key, namespace, belongs)).unwrap_or_default()
}

/// The rule that a client in a namespace, with these labels, uses for a service.
pub(super) fn used(mesh: &Mesh, (client, labels): (&str, &Labels), (host, namespace): (&str, &str)) -> Option<Entry> {
    let root = mesh.config.root_namespace.as_str();
    let mut found =
        if client == root { best(mesh, host, root, &|rule| private_only(rule, mesh)) } else { best(mesh, host, client, &local) };
    for owner in [namespace, root] {
        if found.is_empty() {
            found = best(mesh, host, owner, &|rule| !private_only(rule, mesh));
            found.retain(|entry| entry.export.is_empty() || ["*", client].iter().any(|to| entry.export.contains(*to)));
        }
    }
    let selects = |entry: &&Entry| {
        entry.namespace == client && entry.selector.as_ref().is_some_and(|selector| super::holds(labels, selector))
    };
    found.iter().find(selects).or_else(|| found.iter().rev().find(|entry| entry.selector.is_none())).cloned()
}

impl Entry {
    pub(super) fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().find(|subset| subset.name == name)
    }

    fn of_subset(&self, name: Option<&str>) -> Option<&TrafficPolicy> {
        name.and_then(|name| self.subset(name)).and_then(|subset| subset.policy.as_ref())
    }

    /// TLS as built into the cluster (`MergeTrafficPolicy`).
    pub(super) fn of_cluster(&self, port: u16, subset: Option<&str>) -> Option<ClientTls> {
        let entry =
            |policy: &TrafficPolicy| policy.ports.iter().find(|(number, _)| *number == port).map(|(_, entry)| entry.clone());
        let outer = self.policy.as_ref().and_then(|policy| match entry(policy) {
            Some(whole) => whole.tls,
            None => policy.tls.clone(),
        });
        let Some(inner) = self.of_subset(subset) else { return outer };
        match entry(inner) {
            Some(whole) => whole.tls,
            None => inner.tls.clone().or(outer),
        }
    }

    /// The mode that marks endpoints; a port's entry counts only with tls.
    pub(super) fn of_endpoint(&self, port: u16, subset: Option<&str>) -> Option<ClientTlsMode> {
        let level = |policy: &TrafficPolicy| {
            let mut with_tls =
                policy.ports.iter().filter(|(number, _)| *number == port).filter_map(|(_, entry)| entry.tls.clone());
            with_tls.next().or_else(|| policy.tls.clone()).map(|tls| tls.mode)
        };
        self.of_subset(subset).and_then(level).or_else(|| self.policy.as_ref().and_then(level))
    }

    /// PASSTHROUGH in the unmerged policy; for a subset's cluster only in the subset's own.
    pub(super) fn asks_every_endpoint(&self, subset: Option<&str>) -> bool {
        if subset.is_some() {
            return self.of_subset(subset).is_some_and(|policy| policy.passthrough);
        }
        self.policy.as_ref().is_some_and(|policy| policy.passthrough)
    }

    /// Whether the cluster is of type ORIGINAL_DST by its load balancer. A subset's cluster starts as that of the
    /// service, and changes when the subset's own policy, or its entry for the port, says PASSTHROUGH.
    pub(super) fn dials_original(&self, port: u16, subset: Option<&str>) -> bool {
        let entry =
            |policy: &TrafficPolicy| policy.ports.iter().find(|(number, _)| *number == port).map(|(_, entry)| entry.passthrough);
        let outer = self.policy.as_ref().is_some_and(|policy| entry(policy).unwrap_or(policy.passthrough));
        let inner = self.of_subset(subset).is_some_and(|policy| policy.passthrough || entry(policy).unwrap_or(false));
        outer || inner
    }
}
