//! What the control plane may do, and for what. Nothing here is wider than what some part of it asks for.

use serde_json::{Value, json};

use super::Settings;
use crate::kinds::WATCHED;

/// One permission, with its reason for people.
struct Rule {
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    names: Vec<String>,
}

const READ: &[&str] = &["get", "list", "watch"];

impl Rule {
    fn value(&self) -> Value {
        let mut rule = json!({ "apiGroups": [self.group], "resources": self.resources, "verbs": self.verbs });
        if !self.names.is_empty() {
            rule["resourceNames"] = Value::from(self.names.clone());
        }
        rule
    }
}

/// In the whole cluster.
fn in_cluster(settings: &Settings) -> Vec<Value> {
    // Everything that is watched is read, and nothing is written there.
    let mut groups: std::collections::BTreeMap<&str, Vec<&str>> = std::collections::BTreeMap::new();
    for one in WATCHED.iter().filter(|one| one.only.is_none()) {
        groups.entry(one.kind.group()).or_default().push(one.plural);
    }
    let read =
        groups.into_iter().map(|(group, resources)| json!({ "apiGroups": [group], "resources": resources, "verbs": READ }));
    let rules = [
        // `istio-ca-root-cert` in every namespace: it is watched everywhere, and written where it is missing or old.
        Rule { group: "", resources: &["configmaps"], verbs: &["list", "watch", "create", "patch"], names: Vec::new() },
        // What became of a policy, in its status.
        Rule { group: "security.istio.io", resources: &["peerauthentications/status"], verbs: &["patch"], names: Vec::new() },
        Rule { group: "networking.istio.io", resources: &["destinationrules/status"], verbs: &["patch"], names: Vec::new() },
        // Whether a pod's token is what it says.
        Rule { group: "authentication.k8s.io", resources: &["tokenreviews"], verbs: &["create"], names: Vec::new() },
        // The roots in its own webhook configurations.
        Rule {
            group: "admissionregistration.k8s.io",
            resources: &["mutatingwebhookconfigurations"],
            verbs: &["get", "patch"],
            names: vec![settings.names().mutating],
        },
        Rule {
            group: "admissionregistration.k8s.io",
            resources: &["validatingwebhookconfigurations"],
            verbs: &["get", "patch"],
            names: vec![settings.names().validating],
        },
    ];
    read.chain(rules.iter().map(Rule::value)).collect()
}

/// In its own namespace.
fn in_namespace() -> Vec<Value> {
    let rules = [
        // The signing CA: `cacerts` is read, `istio-ca-secret` is kept when the root is the control plane's own.
        Rule { group: "", resources: &["secrets"], verbs: &["get", "list", "watch", "create", "patch"], names: Vec::new() },
        // Who of several leads.
        Rule { group: "coordination.k8s.io", resources: &["leases"], verbs: &["get", "create", "update"], names: Vec::new() },
    ];
    rules.iter().map(Rule::value).collect()
}

/// Roles and their bindings.
pub(super) fn manifests(settings: &Settings) -> Vec<Value> {
    let cluster = format!("{}-{}", settings.named("istiod-clusterrole"), settings.istio_namespace);
    let own = settings.named("istiod");
    let subject = json!([{ "kind": "ServiceAccount", "name": own, "namespace": settings.istio_namespace }]);
    let reference = |kind: &str, name: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name });
    let object =
        |kind: &str, metadata: Value| json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata });
    let mut cluster_role = object("ClusterRole", settings.cluster_metadata(&cluster));
    cluster_role["rules"] = Value::Array(in_cluster(settings));
    let mut cluster_binding = object("ClusterRoleBinding", settings.cluster_metadata(&cluster));
    cluster_binding["roleRef"] = reference("ClusterRole", &cluster);
    cluster_binding["subjects"] = subject.clone();
    let mut role = object("Role", settings.metadata(&own));
    role["rules"] = Value::Array(in_namespace());
    let mut binding = object("RoleBinding", settings.metadata(&own));
    binding["roleRef"] = reference("Role", &own);
    binding["subjects"] = subject;
    vec![cluster_role, cluster_binding, role, binding]
}
