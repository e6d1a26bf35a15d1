//! The rules that cover a service's host in the order in which they are looked at: which is used, and why the others are
//! not.

use std::sync::Arc;

use mutua_model::{DestinationRule, Labels};

use super::{MergedRule, RuleIndex, selects};
use crate::trace::{Step, Verdict};

const RULE: &str = "destination-rule.not-used";
const USED: &str = "destination-rule.used";

impl RuleIndex {
    /// Every rule that covers the service, in the order in which they are looked at. `used` is the answer of
    /// [`RuleIndex::rule`] for the same question.
    pub(crate) fn search(&self, client: (&str, &Labels), service: (&str, &str), used: Option<&MergedRule>) -> Vec<Step> {
        let is_used = |rule: &MergedRule| used.is_some_and(|used| std::ptr::eq(used, rule));
        let mut told: Vec<*const DestinationRule> = Vec::new();
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
                    if is_used(rule) {
                        let place = self.place(client.0, service.1, &rule.namespace);
                        let effect = format!("used: it covers {}, and the search ends in {place}", service.0);
                        steps.push(Step::of(USED, &first.meta, "spec/host", effect));
                        steps.extend(rule.merge_steps());
                        continue;
                    }
                    let why = match best {
                        _ if ended => ended_by(used),
                        Some(best) => format!("{} has the more specific host", name(best)),
                        None if !visible => format!("it is not exported to namespace {}", client.0),
                        None => unselected(rule, client.1, used),
                    };
                    let step = Step::of(RULE, &first.meta, "spec/host", format!("not used: {why}"));
                    steps.push(step.but(Verdict::Unused));
                }
                best = best.or_else(|| rules.iter().find(|rule| is_used(rule)).or(rules.first()));
            }
            ended |= found;
        }
        steps
    }
}

impl RuleIndex {
    /// A namespace by what it is to the question.
    fn place(&self, client: &str, service: &str, namespace: &str) -> String {
        let role = match namespace {
            _ if namespace == client => "the client's",
            _ if namespace == service => "the service's",
            _ if namespace == self.root => "the root",
            _ => "its",
        };
        format!("{role} namespace, {namespace}")
    }
}

fn name(rule: &MergedRule) -> String {
    rule.rules.first().map(|first| first.meta.object.to_string()).unwrap_or_default()
}

fn ended_by(used: Option<&MergedRule>) -> String {
    match used {
        Some(used) => format!("{} is found before it, in namespace {}", name(used), used.namespace),
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
    fn merge_steps(&self) -> Vec<Step> {
        let Some((first, merged)) = self.rules.split_first() else { return Vec::new() };
        let winner = self.policy.as_ref().map(|policy| &policy.rule);
        let step = |rule: &Arc<DestinationRule>| {
            let into = &first.meta.object;
            let (verdict, what) = match winner {
                Some(winner) if Arc::ptr_eq(winner, rule) => (Verdict::Decided, "its trafficPolicy counts".to_owned()),
                _ if rule.policy.is_none() => (Verdict::Decided, "its subsets are added".to_owned()),
                Some(winner) => {
                    (Verdict::Overridden, format!("the trafficPolicy of {} comes first and counts whole", winner.meta.object))
                }
                None => (Verdict::Decided, "it adds nothing".to_owned()),
            };
            let effect = format!("merged into {into}, which is for the same host: {what}");
            Step::of("destination-rule.merged", &rule.meta, "spec/host", effect).but(verdict)
        };
        merged.iter().map(step).collect()
    }
}
