use std::fmt::Debug;

use clap::Parser;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use mutua_model::MeshConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::inject::{Injector, Outcome, Owner};

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    settings: Settings,
}

fn settings(arguments: &[&str]) -> Settings {
    Command::try_parse_from(["install"].iter().chain(arguments)).expect("arguments").settings
}

fn all(arguments: &[&str]) -> Vec<Value> {
    manifests(&settings(arguments))
}

fn of_kind(manifests: &[Value], kind: &str) -> Value {
    manifests.iter().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("no {kind}")).clone()
}

/// Every field is one that the API knows: whatever it does not know would be lost on the way.
fn known<T: DeserializeOwned + Serialize + Debug>(value: &Value) {
    let typed: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value:#}"));
    assert_eq!(serde_json::to_value(typed).expect("JSON"), *value);
}

#[test]
fn every_field_is_known_to_kubernetes() {
    let more =
        ["--revision", "canary", "--istio-namespace", "mesh", "--image-pull-policy", "Always", "--image-pull-secret", "key"];
    for manifest in all(&[]).iter().chain(&all(&more)) {
        match manifest["kind"].as_str().expect("a kind") {
            "Namespace" => known::<Namespace>(manifest),
            "ServiceAccount" => known::<ServiceAccount>(manifest),
            "ClusterRole" => known::<ClusterRole>(manifest),
            "ClusterRoleBinding" => known::<ClusterRoleBinding>(manifest),
            "Role" => known::<Role>(manifest),
            "RoleBinding" => known::<RoleBinding>(manifest),
            "ConfigMap" => known::<ConfigMap>(manifest),
            "Deployment" => known::<Deployment>(manifest),
            "Service" => known::<Service>(manifest),
            "PodDisruptionBudget" => known::<PodDisruptionBudget>(manifest),
            "NetworkPolicy" => known::<NetworkPolicy>(manifest),
            "MutatingWebhookConfiguration" => known::<MutatingWebhookConfiguration>(manifest),
            "ValidatingWebhookConfiguration" => known::<ValidatingWebhookConfiguration>(manifest),
            other => panic!("{other} is not checked"),
        }
    }
}

#[test]
fn every_field_of_an_injected_pod_is_known_to_kubernetes() {
    let volume = r#"{"v": {"emptyDir": {}}}"#;
    let mount = r#"{"v": {"mountPath": "/v"}}"#;
    for (native, annotations) in [
        (
            "true",
            json!({ "sidecar.istio.io/interceptionMode": "TPROXY", "sidecar.istio.io/userVolume": volume, "sidecar.istio.io/userVolumeMount": mount }),
        ),
        ("false", json!({ "proxy.istio.io/config": "holdApplicationUntilProxyStarts: true", "sidecar.istio.io/proxyCPU": "1" })),
    ] {
        let injection =
            settings(&["--native-sidecar", native, "--image-pull-policy", "Never", "--image-pull-secret", "key"]).injection;
        let injector = Injector::new(&injection, "istio-system", &MeshConfig::default()).expect("no template");
        let probe = json!({ "grpc": { "port": 1 } });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "annotations": annotations },
            "spec": { "containers": [{ "name": "c", "livenessProbe": probe }] },
        });
        let namespace = crate::inject::Namespace { name: "shop".to_owned(), ..Default::default() };
        match injector.inject(&pod, &Owner::default(), &namespace) {
            Ok(Outcome::Injected(pod, _)) => known::<Pod>(&pod),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_revision_ends_every_name() {
    for manifest in all(&["--revision", "canary"]).iter().filter(|one| one["kind"] != "Namespace") {
        let name = manifest["metadata"]["name"].as_str().expect("a name");
        assert!(name.contains("-canary"), "{} {name}", manifest["kind"]);
        assert_eq!(manifest["metadata"]["labels"]["istio.io/rev"], "canary");
        assert_eq!(manifest["metadata"]["labels"]["app"], "istiod");
    }
    let names: Vec<_> = all(&[])
        .iter()
        .map(|one| format!("{} {}", one["kind"].as_str().unwrap(), one["metadata"]["name"].as_str().unwrap()))
        .collect();
    let expected = [
        "Namespace istio-system",
        "ServiceAccount istiod",
        "ClusterRole istiod-clusterrole-istio-system",
        "ClusterRoleBinding istiod-clusterrole-istio-system",
        "Role istiod",
        "RoleBinding istiod",
        "ConfigMap istio",
        "Deployment istiod",
        "Service istiod",
        "PodDisruptionBudget istiod",
        "NetworkPolicy istiod",
        "MutatingWebhookConfiguration istio-sidecar-injector",
        "ValidatingWebhookConfiguration istio-validator-istio-system",
    ];
    assert_eq!(names, expected);
    let elsewhere = of_kind(&all(&["--istio-namespace", "mesh"]), "MutatingWebhookConfiguration");
    assert_eq!(elsewhere["metadata"]["name"], "istio-sidecar-injector-mesh");
}

/// Whether label selectors match, as the API server reads them.
fn matches(selector: &Value, labels: &[(&str, &str)]) -> bool {
    let expressions = selector["matchExpressions"].as_array().expect("expressions");
    expressions.iter().all(|one| {
        let held = labels.iter().find(|(key, _)| one["key"] == **key).map(|(_, value)| *value);
        let listed = |value: &str| one["values"].as_array().is_some_and(|values| values.iter().any(|one| one == value));
        match one["operator"].as_str().expect("an operator") {
            "In" => held.is_some_and(listed),
            "NotIn" => !held.is_some_and(listed),
            "DoesNotExist" => held.is_none(),
            other => panic!("{other}"),
        }
    })
}

/// The API server asks exactly about the pods that the engine injects, and once at most.
#[test]
fn the_webhooks_ask_about_the_pods_that_the_engine_injects() {
    use mutua_policy::injection::{Template, decide};
    let namespace_labels: &[&[(&str, &str)]] = &[
        &[],
        &[("istio-injection", "enabled")],
        &[("istio-injection", "disabled")],
        &[("istio.io/rev", "default")],
        &[("istio.io/rev", "canary")],
        &[("istio.io/rev", "other")],
        &[("istio-injection", "enabled"), ("istio.io/rev", "canary")],
        &[("istio-injection", "disabled"), ("istio.io/rev", "canary")],
    ];
    let revisions: &[&[(&str, &str)]] =
        &[&[], &[("istio.io/rev", "default")], &[("istio.io/rev", "canary")], &[("istio.io/rev", "other")]];
    let injects: &[&[(&str, &str)]] = &[
        &[],
        &[("sidecar.istio.io/inject", "true")],
        &[("sidecar.istio.io/inject", "false")],
        &[("sidecar.istio.io/inject", "odd")],
    ];
    let owned = |labels: &[(&str, &str)]| labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let mut injected = 0;
    for revision in ["default", "canary"] {
        let configuration = of_kind(&all(&["--revision", revision]), "MutatingWebhookConfiguration");
        for (namespace, name) in namespace_labels.iter().flat_map(|labels| [(labels, "shop"), (labels, "kube-system")]) {
            for (of_revision, of_inject) in
                revisions.iter().flat_map(|revision| injects.iter().map(move |inject| (revision, inject)))
            {
                let pod = [*of_revision, *of_inject].concat();
                let with_name = [*namespace, &[("kubernetes.io/metadata.name", name)]].concat();
                let webhooks = configuration["webhooks"].as_array().expect("webhooks");
                let asked = webhooks
                    .iter()
                    .filter(|one| matches(&one["namespaceSelector"], &with_name) && matches(&one["objectSelector"], &pod));
                let (pod_labels, none) = (owned(&pod), mutua_model::Labels::new());
                let template = Template { namespace: name, labels: &pod_labels, annotations: &none, host_network: false };
                let decided = decide(&template, &owned(namespace), Some(revision)).is_ok();
                assert_eq!(asked.count(), usize::from(decided), "{revision}: {with_name:?} {pod:?}");
                injected += usize::from(decided);
            }
        }
    }
    assert!(injected > 20, "{injected}");
}

#[test]
fn permissions_are_told_verb_by_verb() {
    let manifests = all(&[]);
    let told = |kind: &str| -> Vec<String> {
        let rules = of_kind(&manifests, kind)["rules"].as_array().expect("rules").clone();
        let list = |rule: &Value, key: &str| {
            rule[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        };
        rules
            .iter()
            .map(|rule| ["apiGroups", "resources", "verbs", "resourceNames"].map(|key| list(rule, key)).join(" | "))
            .collect()
    };
    insta::assert_snapshot!(format!("{}\n--\n{}", told("ClusterRole").join("\n"), told("Role").join("\n")));
    for kind in ["ClusterRole", "Role"] {
        assert!(
            !told(kind).iter().any(|rule| rule.contains('*') || rule.contains("delete")),
            "nothing is open, nothing is deleted"
        );
    }
}

#[test]
fn the_control_plane_runs_with_little() {
    let deployment = of_kind(&all(&[]), "Deployment");
    insta::assert_snapshot!(format!("{:#}", deployment["spec"]["template"]["spec"]));
}
