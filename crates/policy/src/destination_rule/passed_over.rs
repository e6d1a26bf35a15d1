//! The rules that cover a service's host and are not used, and why.

use std::sync::Arc;

use mutua_model::{DestinationRule, Labels};

use super::{MergedRule, RuleIndex, selects};
use crate::trace::Step;

const RULE: &str = "destination-rule.not-used";

impl RuleIndex {
    /// Why the other rules that cover the service do not count, in the order in which they were looked at. `used` is
    /// the answer of [`RuleIndex::rule`] for the same question.
    pub(crate) fn passed_over(&self, client: (&str, &Labels), service: (&str, &str), used: Option<&MergedRule>) -> Vec<Step> {
        let mut told: Vec<*const DestinationRule> = used.iter().flat_map(|used| &used.rules).map(Arc::as_ptr).collect();
        let mut steps = Vec::new();
        let mut ended = false;
        for stage in self.stages(client.0, service.1) {
            let mut best: Option<&MergedRule> = None;
            let mut found = false;
            for rules in stage.rules.covering(service.0) {
                for rule in rules {
                    let visible = stage.own || rule.exported_to(client.0);
                    found |= visible && best.is_none();
                    let Some(first) = rule.rules.first().filter(|first| !told.contains(&Arc::as_ptr(first))) else { continue };
                    told.extend(rule.rules.iter().map(Arc::as_ptr));
                    let why = match best {
                        _ if ended => ended_by(used),
                        Some(best) => format!("{} has the more specific host", name(best)),
                        None if !visible => format!("it is not exported to namespace {}", client.0),
                        None => unselected(rule, client.1, used),
                    };
                    steps.push(Step::of(RULE, &first.meta, "spec/host", format!("not used: {why}")));
                }
                best = best.or(rules.first());
            }
            ended |= found;
        }
        steps
    }
}

fn name(rule: &MergedRule) -> String {
    rule.rules.first().map(|first| first.meta.object.to_string()).unwrap_or_default()
}

fn ended_by(used: Option<&MergedRule>) -> String {
    match used {
        Some(used) => format!("the search ended in namespace {}, with {}", used.namespace, name(used)),
        None => "the search ended in an earlier namespace".to_owned(),
    }
}

fn unselected(rule: &MergedRule, labels: &Labels, used: Option<&MergedRule>) -> String {
    match (&rule.selector, used) {
        (Some(selector), _) if !selects(selector, labels) => "its workloadSelector does not match the client".to_owned(),
        (Some(_), Some(used)) if used.selector.is_none() => "its workloadSelector counts in its own namespace only".to_owned(),
        (_, Some(used)) if used.selector.is_some() => format!("{} selects the client", name(used)),
        (_, Some(used)) => format!("{} counts for this host", name(used)),
        (_, None) => "it selects other clients".to_owned(),
    }
}

impl MergedRule {
    /// What became of the rules that were merged into one.
    pub(crate) fn merge_steps(&self) -> Vec<Step> {
        let Some((first, merged)) = self.rules.split_first() else { return Vec::new() };
        let winner = self.policy.as_ref().map(|policy| &policy.rule);
        let step = |rule: &Arc<DestinationRule>| {
            let effect = match winner {
                Some(winner) if Arc::ptr_eq(winner, rule) => {
                    format!("merged into {}: its trafficPolicy counts", first.meta.object)
                }
                _ if rule.policy.is_none() => format!("merged into {}: its subsets are added", first.meta.object),
                Some(winner) => {
                    format!("merged into {}: the trafficPolicy of {} counts whole", first.meta.object, winner.meta.object)
                }
                None => format!("merged into {}", first.meta.object),
            };
            Step::of("destination-rule.merged", &rule.meta, "spec/host", effect)
        };
        merged.iter().map(step).collect()
    }
}
