//! Istio's own rules, beyond the schemas, with the texts of its webhook (`pkg/config/validation`) and of the
//! validation rules in its CustomResourceDefinitions.

mod authorization_policy;
mod ciphers;
mod destination_rule;
mod export_to;
mod field;
mod istio;
mod mesh_config;
mod names;
mod peer_authentication;
mod pools;
mod selector;
mod service_entry;
mod sidecar;
mod tls;
mod workload;

use self::field::Field;
use super::report::Report;
use super::tree::Node;
use crate::Kind;

/// Checks an object; of kinds that are read leniently nothing is checked.
pub fn check_object(kind: Kind, node: &Node, report: &mut Report) {
    let spec = Field::root(node).get("spec");
    if kind.group().ends_with(".istio.io") {
        dry_run(kind, node, report);
    }
    if !spec.is_given() {
        return;
    }
    match kind {
        Kind::PeerAuthentication => peer_authentication::check(&spec, report),
        Kind::DestinationRule => destination_rule::check(&spec, report),
        Kind::ServiceEntry => service_entry::check(&spec, &Field::root(node).get("metadata").get("labels"), report),
        Kind::WorkloadEntry => workload::check_entry(&spec, report),
        Kind::WorkloadGroup => workload::check_group(&spec, report),
        Kind::Sidecar => sidecar::check(&spec, report),
        Kind::AuthorizationPolicy => authorization_policy::check(&spec, report),
        Kind::Istio => istio::check(&spec, report),
        _ => {}
    }
}

/// The annotation that tries a policy without enforcing it (`checkDryRunAnnotation`).
fn dry_run(kind: Kind, node: &Node, report: &mut Report) {
    const NAME: &str = "istio.io/dry-run";
    let annotation = Field::root(node).get("metadata").get("annotations").get(NAME);
    if !annotation.is_given() {
        return;
    }
    let action = node.get("spec").get("action").text().unwrap_or("ALLOW");
    let problem = match kind {
        Kind::AuthorizationPolicy if !matches!(action, "" | "ALLOW" | "DENY") => {
            format!("the annotation {NAME} currently only supports action ALLOW/DENY, found action {action}")
        }
        Kind::AuthorizationPolicy => {
            // The words of Go's `strconv.ParseBool`.
            let words = ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"];
            if words.contains(&annotation.text()) {
                return;
            }
            format!("annotation {NAME} with invalid value ({}); allowed: true, false", annotation.text())
        }
        _ => format!("unsupported annotation {NAME}, please remove the annotation"),
    };
    annotation.error(report, problem);
}

/// Checks a `MeshConfig` that stands at `path` of its object.
pub fn check_mesh_config(node: &Node, path: &str, report: &mut Report) {
    mesh_config::check(&Field::at(node, path), report);
}

#[cfg(test)]
mod tests;
