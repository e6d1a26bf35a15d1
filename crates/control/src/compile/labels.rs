//! What metrics say about a workload, from its labels, by Istio's rules.

use mutua_model::Labels;
use mutua_wire::mesh::WorkloadLabels;

/// Kubernetes' name for the one cluster of a mesh, Istio's default cluster id.
const CLUSTER: &str = "Kubernetes";

/// The labels for metrics of the workload `name`.
#[must_use]
pub fn workload_labels(name: &str, namespace: &str, account: &str, labels: &Labels) -> WorkloadLabels {
    let first = |keys: &[&str]| keys.iter().find_map(|key| labels.get(*key)).filter(|value| !value.is_empty()).cloned();
    let app = first(&["app"]).unwrap_or_default();
    let version = first(&["version"]).unwrap_or_default();
    WorkloadLabels {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        service_account: account.to_owned(),
        canonical_name: first(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"])
            .unwrap_or_else(|| name.to_owned()),
        canonical_revision: first(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"])
            .unwrap_or_else(|| "latest".to_owned()),
        app,
        version,
        cluster: CLUSTER.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[(&str, &str)]) -> WorkloadLabels {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        workload_labels("front-7d", "shop", "front", &labels)
    }

    #[test]
    fn canonical_names_follow_istios_order() {
        let plain = of(&[]);
        assert_eq!((plain.canonical_name.as_str(), plain.canonical_revision.as_str()), ("front-7d", "latest"));
        let app = of(&[("app", "front"), ("version", "v2")]);
        assert_eq!((app.canonical_name.as_str(), app.canonical_revision.as_str()), ("front", "v2"));
        assert_eq!((app.app.as_str(), app.version.as_str()), ("front", "v2"));
        let all = of(&[("app", "a"), ("app.kubernetes.io/name", "b"), ("service.istio.io/canonical-name", "c")]);
        assert_eq!((all.canonical_name.as_str(), all.app.as_str()), ("c", "a"));
    }
}
