//! Checks on Sidecars.

use std::collections::BTreeMap;

use mutua_model::{Labels, Sidecar};

use super::Findings;
use super::index::Index;
use super::paste;
use super::peer::shown;

const SELECTOR: &str = "spec/workloadSelector";

/// KIA0002, KIA0003, KIA0004 and IST0101.
pub(super) fn check(index: &Index<'_>, out: &mut Findings) {
    let mut sidecars: Vec<&Sidecar> = index.mesh.sidecars.iter().map(AsRef::as_ref).collect();
    sidecars.sort_by(|a, b| a.meta.age_order().cmp(&b.meta.age_order()));
    let none = Labels::new();
    let selectors: Vec<(&str, &Labels)> =
        sidecars.iter().map(|sidecar| (sidecar.meta.namespace(), sidecar.workload_selector.as_ref().unwrap_or(&none))).collect();
    let mut wide: BTreeMap<&str, Vec<&Sidecar>> = BTreeMap::new();
    for (sidecar, (namespace, selector)) in sidecars.iter().zip(&selectors) {
        if selector.is_empty() {
            wide.entry(namespace).or_default().push(sidecar);
        } else if index.selected(namespace, selector).is_empty() {
            nothing_selected(index, sidecar, selector, out);
        }
    }
    for (namespace, list) in wide.into_iter().filter(|(_, list)| list.len() > 1) {
        let objects: Vec<_> = list.iter().map(|sidecar| &sidecar.meta.object).collect();
        for (at, sidecar) in list.iter().enumerate() {
            let first = &list[0].meta.object;
            let message =
                format!("{} Sidecars of namespace {namespace} have no workloadSelector; only {first} counts", list.len());
            out.add("KIA0002", &sidecar.meta, SELECTOR, message, paste::keep_first(&objects, at));
        }
    }
    for (at, clash) in index.clashes(&selectors) {
        let meta = &sidecars[at].meta;
        // Kiali compares only in namespaces that have workloads.
        if !index.has_workloads(meta.namespace()) {
            continue;
        }
        let others: Vec<_> = clash.others.iter().map(|other| sidecars[*other].meta.object.to_string()).collect();
        let message = clash.tell(meta.namespace(), &others.join(", "), "the oldest counts");
        out.add("KIA0003", meta, SELECTOR, message, "make the selectors exclude each other".to_owned());
    }
}

/// KIA0004 and IST0101. Of an input without any workload the latter says nothing: the pods stand elsewhere.
fn nothing_selected(index: &Index<'_>, sidecar: &Sidecar, selector: &Labels, out: &mut Findings) {
    let message = format!("no workload of namespace {} has the labels {}", sidecar.meta.namespace(), shown(selector));
    let fix = "write labels that the pods have".to_owned();
    if index.has_any_workloads() {
        out.add("IST0101", &sidecar.meta, "spec/workloadSelector/labels", message.clone(), fix.clone());
    }
    out.add("KIA0004", &sidecar.meta, "spec/workloadSelector/labels", message, fix);
}
