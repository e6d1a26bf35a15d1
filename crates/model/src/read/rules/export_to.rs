//! `exportTo` (`validateExportTo`).

use std::collections::BTreeSet;

use super::field::Field;
use super::names;
use crate::read::report::Report;

/// For whom an `exportTo` speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Exporter {
    /// A `ServiceEntry`, which may be exported to no one.
    ServiceEntry,
    /// A `DestinationRule` without workloadSelector.
    Rule,
    /// A `DestinationRule` with workloadSelector.
    RuleWithSelector,
}

/// Checks an `exportTo` of an object in `namespace`.
pub fn check(export_to: &Field<'_>, namespace: &str, exporter: Exporter, report: &mut Report) {
    let items: Vec<_> = export_to.items().collect();
    let mut seen = BTreeSet::new();
    for item in &items {
        let written = item.text();
        let meant = if written == "." { namespace } else { written };
        if seen.contains(meant) {
            let message = if meant == written {
                format!("duplicate entries in exportTo for entry {written}")
            } else {
                format!("duplicate entries in exportTo: . and current namespace {namespace}")
            };
            item.error(report, message);
        } else if let Err(message) = visibility(meant, exporter) {
            item.error_once(report, message);
        } else {
            seen.insert(meant);
        }
    }
    if exporter == Exporter::RuleWithSelector && !seen.is_empty() {
        if !seen.contains(namespace) {
            export_to.error(report, "destination rule with workload selector cannot have exportTo beyond current namespace");
        } else if seen.len() > 1 {
            export_to.error(report, "destination rule with workload selector cannot have multiple entries in exportTo");
        }
    }
    if seen.contains("*") && items.len() > 1 {
        export_to.error(report, "cannot have both public (*) and non-public exportTo values for a resource");
    }
    if seen.contains("~") && items.len() > 1 {
        export_to.error(report, "cannot export service entry to no one (~) and someone");
    }
}

fn visibility(entry: &str, exporter: Exporter) -> Result<(), String> {
    match entry {
        "." | "*" => Ok(()),
        "~" if exporter == Exporter::ServiceEntry => Ok(()),
        "~" => Err("exportTo ~ (none) is not allowed for Istio configuration objects".to_owned()),
        namespace if names::is_label(namespace) => Ok(()),
        _ => Err("only .,*, or a valid DNS 1123 label is allowed as exportTo entry".to_owned()),
    }
}
