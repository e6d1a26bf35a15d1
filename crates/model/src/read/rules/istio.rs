//! The `Istio` resource of the Sail operator.

use super::field::Field;
use super::{mesh_config, names};
use crate::read::report::Report;

/// Checks a `spec`.
pub fn check(spec: &Field<'_>, report: &mut Report) {
    let namespace = spec.get("namespace");
    if namespace.has_text() && !names::is_label(namespace.text()) {
        namespace.error_once(report, format!("{:?} is no name of a namespace", namespace.text()));
    }
    let expected = if namespace.has_text() { namespace.text() } else { "istio-system" };
    let values = spec.get("values");
    let written = values.get("global").get("istioNamespace");
    if written.is_given() && written.text() != expected {
        let text = "spec.values.global.istioNamespace must match spec.namespace";
        written.error(report, format!("{text} ({:?} is not {expected:?})", written.text()));
    }
    mesh_config::check(&values.get("meshConfig"), report);
}
