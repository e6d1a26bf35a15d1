//! Checks on Sidecars.

use std::collections::BTreeMap;

use mutua_model::{Labels, Sidecar};

use super::Findings;
use super::index::Index;
use super::peer::shown;

const SELECTOR: &str = "spec/workloadSelector";

/// KIA0002, KIA0003 and KIA0004.
pub(super) fn check(index: &Index<'_>, out: &mut Findings) {
    let mut sidecars: Vec<&Sidecar> = index.mesh.sidecars.iter().map(AsRef::as_ref).collect();
    sidecars.sort_by(|a, b| a.meta.age_order().cmp(&b.meta.age_order()));
    let mut wide: BTreeMap<&str, Vec<&Sidecar>> = BTreeMap::new();
    let mut by_workload: BTreeMap<usize, Vec<&Sidecar>> = BTreeMap::new();
    for sidecar in sidecars {
        let namespace = sidecar.meta.namespace();
        let Some(selector) = sidecar.workload_selector.as_ref().filter(|selector| !selector.is_empty()) else {
            wide.entry(namespace).or_default().push(sidecar);
            continue;
        };
        let selected = index.selected(namespace, selector);
        if selected.is_empty() {
            nothing_selected(sidecar, selector, out);
        }
        for (workload, _) in selected {
            by_workload.entry(workload).or_default().push(sidecar);
        }
    }
    for (namespace, list) in wide.into_iter().filter(|(_, list)| list.len() > 1) {
        for sidecar in &list {
            let message = format!("{} Sidecars of namespace {namespace} have no workloadSelector; one counts", list.len());
            out.add("KIA0002", &sidecar.meta, SELECTOR, message, "keep one".to_owned());
        }
    }
    for list in by_workload.values().filter(|list| list.len() > 1) {
        for sidecar in list {
            let message = "a workload that this Sidecar selects is selected by another too; one counts".to_owned();
            out.add("KIA0003", &sidecar.meta, SELECTOR, message, "make the selectors exclude each other".to_owned());
        }
    }
}

fn nothing_selected(sidecar: &Sidecar, selector: &Labels, out: &mut Findings) {
    let message = format!("no workload of namespace {} has the labels {}", sidecar.meta.namespace(), shown(selector));
    let fix = "write labels that the pods have".to_owned();
    out.add("KIA0004", &sidecar.meta, "spec/workloadSelector/labels", message, fix);
}
