//! Which controllers' pods get a sidecar, as the injection webhook would decide.

use mutua_model::{Controller, Labels};

/// Namespaces in which nothing is ever injected (`injectRequired`).
const SYSTEM: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];
/// Label and annotation of a pod.
const INJECT: &str = "sidecar.istio.io/inject";
/// Label of a pod or namespace.
const REVISION: &str = "istio.io/rev";
/// Label of a namespace.
const NAMESPACE: &str = "istio-injection";

/// Whether the pods of `controller` get a sidecar, given the labels of its namespace.
pub(crate) fn injected(controller: &Controller, namespace_labels: &Labels) -> bool {
    let namespace = controller.meta.namespace();
    if controller.spec.host_network || is_system(namespace) {
        return false;
    }
    asked(controller, namespace_labels) && wanted(controller)
}

/// Whether nothing is ever injected in a namespace.
pub(crate) fn is_system(namespace: &str) -> bool {
    SYSTEM.contains(&namespace)
}

/// Whether a namespace's labels ask for sidecars.
pub(crate) fn is_asked_for(namespace: &Labels) -> bool {
    namespace.get(NAMESPACE).map_or_else(|| namespace.contains_key(REVISION), |injection| injection == "enabled")
}

/// Whether a webhook's selectors match: by the namespace's labels, else by the pod's.
fn asked(controller: &Controller, namespace: &Labels) -> bool {
    let label = controller.labels.get(INJECT).map(String::as_str);
    if let Some(injection) = namespace.get(NAMESPACE) {
        return injection == "enabled" && label != Some("false");
    }
    if namespace.contains_key(REVISION) {
        return label != Some("false");
    }
    let revision = controller.labels.contains_key(REVISION);
    (revision && label != Some("false")) || (!revision && label == Some("true"))
}

/// What the pod itself says, label before annotation; values other than `true` and `false` count as unset.
fn wanted(controller: &Controller) -> bool {
    let said = controller.labels.get(INJECT).or_else(|| controller.annotations.get(INJECT));
    said.is_none_or(|value| value != "false")
}
