//! Selectors of workloads, and the labels of workloads.

use super::field::Field;
use super::names;
use crate::read::report::Report;

/// What Istio says of a selector without labels.
const WITHOUT_LABELS: &str = "workload selector specified without labels";

/// A `selector` or `workloadSelector` with its labels below `key`. `prefix` and `suffix` surround the warning of a
/// selector without labels.
pub fn check(selector: &Field<'_>, key: &str, (prefix, suffix): (&str, &str), report: &mut Report) {
    if !selector.is_given() {
        return;
    }
    let labels = selector.get(key);
    for (name, value) in labels.entries() {
        let pair = format!("{name}={}", value.text());
        if name.is_empty() {
            value.error(report, format!("empty key is not supported in selector: {pair:?} (key must not be empty)"));
        }
        if pair.contains('*') {
            let side = if name.contains('*') { "key" } else { "value" };
            let text = format!("wildcard is not supported in selector: {pair:?} (wildcard not allowed in label {side} match)");
            value.error(report, text);
        }
    }
    if labels.is_empty() {
        selector.warning(report, format!("{prefix}{WITHOUT_LABELS}{suffix}"));
    }
}

/// Labels that workloads carry.
pub fn check_labels(labels: &Field<'_>, report: &mut Report) {
    for (name, value) in labels.entries() {
        if let Err(message) = names::label_key(name) {
            value.error_once(report, message);
        }
        value.expect(report, names::label_value);
    }
}
