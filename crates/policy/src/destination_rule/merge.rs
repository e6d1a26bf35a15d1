//! Rules of one namespace by host, merged as Istio's `mergeDestinationRule` does with
//! `ENABLE_ENHANCED_DESTINATIONRULE_MERGE`, its default.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use mutua_model::{DestinationRule, TrafficPolicy};

use super::{MergedRule, Written};
use crate::host;

/// The rules of one namespace.
#[derive(Debug, Default)]
pub(super) struct RuleSet {
    exact: HashMap<String, Vec<MergedRule>>,
    /// Most specific first.
    wildcards: Vec<(String, Vec<MergedRule>)>,
}

impl RuleSet {
    pub(super) fn add(&mut self, host: &str, rule: &Arc<DestinationRule>, export_to: &[String]) {
        let rules = self.entry(host);
        if rules.is_empty() || merge_into(rules, rule, export_to) {
            rules.push(single(rule, export_to));
        }
    }

    /// The rules of the most specific host that covers `name`.
    pub(super) fn best(&self, name: &str) -> Option<&[MergedRule]> {
        if let Some(rules) = self.exact.get(name) {
            return Some(rules);
        }
        self.wildcards.iter().find(|(pattern, _)| host::covers(pattern, name)).map(|(_, rules)| rules.as_slice())
    }

    /// The rules of every host that covers `name`, most specific first.
    pub(super) fn covering<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s [MergedRule]> {
        let wild = self.wildcards.iter().filter(move |(pattern, _)| host::covers(pattern, name));
        self.exact.get(name).into_iter().chain(wild.map(|(_, rules)| rules)).map(Vec::as_slice)
    }

    pub(super) fn has_selectors(&self) -> bool {
        let all = self.exact.values().chain(self.wildcards.iter().map(|(_, rules)| rules));
        all.flatten().any(|rule| rule.selector.is_some())
    }

    fn entry(&mut self, host: &str) -> &mut Vec<MergedRule> {
        if !host::is_wildcard(host) {
            return self.exact.entry(host.to_owned()).or_default();
        }
        let at = match self.wildcards.binary_search_by(|(known, _)| host::by_specificity(known, host)) {
            Ok(at) => at,
            Err(at) => {
                self.wildcards.insert(at, (host.to_owned(), Vec::new()));
                at
            }
        };
        &mut self.wildcards[at].1
    }
}

/// Merges `rule` into the entries it fits; returns whether it also stands for itself. Each entry overwrites that
/// answer, so the last one decides.
fn merge_into(rules: &mut [MergedRule], rule: &Arc<DestinationRule>, export_to: &[String]) -> bool {
    let mut separate = true;
    for entry in rules {
        let superset = entry.export_to.iter().all(|to| export_to.contains(to));
        if entry.export_to == export_to {
            separate = false;
        } else if !entry.export_to.is_empty() && superset {
            separate = true;
        } else {
            separate = true;
            continue;
        }
        match (&entry.selector, &rule.workload_selector) {
            (Some(known), Some(new)) if known != new => {
                separate = true;
                continue;
            }
            (None, None) | (Some(_), Some(_)) => separate = false,
            _ => {}
        }
        absorb(entry, rule);
    }
    separate
}

/// Adds subsets of new names, and the traffic policy if there is none yet; nothing is merged field by field.
fn absorb(entry: &mut MergedRule, rule: &Arc<DestinationRule>) {
    entry.rules.push(Arc::clone(rule));
    if entry.policy.is_none() {
        entry.policy = policy(rule);
    }
    add_subsets(entry, rule);
}

fn single(rule: &Arc<DestinationRule>, export_to: &[String]) -> MergedRule {
    let mut single = MergedRule {
        namespace: rule.meta.namespace().to_owned(),
        rules: vec![Arc::clone(rule)],
        policy: policy(rule),
        subsets: Vec::new(),
        subset_at: HashMap::new(),
        export_to: export_to.to_vec(),
        selector: rule.workload_selector.clone(),
    };
    add_subsets(&mut single, rule);
    single
}

fn policy(rule: &Arc<DestinationRule>) -> Option<Written<TrafficPolicy>> {
    let value = rule.policy.clone()?;
    Some(Written { rule: Arc::clone(rule), path: "spec/trafficPolicy".to_owned(), value })
}

fn add_subsets(entry: &mut MergedRule, rule: &Arc<DestinationRule>) {
    for (at, subset) in rule.subsets.iter().enumerate() {
        if let Entry::Vacant(place) = entry.subset_at.entry(subset.name.clone()) {
            place.insert(entry.subsets.len());
            let path = format!("spec/subsets[{at}]");
            entry.subsets.push(Written { rule: Arc::clone(rule), path, value: subset.clone() });
        }
    }
}
