//! What API servers ask the control plane, and for which objects (semantics: Istio's `mutatingwebhook.yaml` and
//! `validatingwebhookconfiguration.yaml`). The roots are filled in by the control plane itself.

use mutua_policy::injection::{DEFAULT_REVISION, INJECT, NAMESPACE, REVISION, SYSTEM};
use serde_json::{Value, json};

use super::Settings;

fn has(key: &str, operator: &str, values: &[&str]) -> Value {
    let mut expression = json!({ "key": key, "operator": operator });
    if !values.is_empty() {
        expression["values"] = json!(values);
    }
    expression
}

/// The webhooks of injection: each decides by namespace and pod, as [`mutua_policy::injection`] does; together they ask
/// about a pod once at most.
pub(super) fn mutating(settings: &Settings) -> Value {
    let revision = settings.injection.revision.as_str();
    let (not_no, says_yes) = (has(INJECT, "NotIn", &["false"]), has(INJECT, "In", &["true"]));
    let (ours, no_revision) = (has(REVISION, "In", &[revision]), has(REVISION, "DoesNotExist", &[]));
    let no_injection = has(NAMESPACE, "DoesNotExist", &[]);
    let neither = [no_injection.clone(), no_revision.clone()];
    let mut webhooks = vec![
        webhook(settings, "rev.namespace", &[ours.clone(), no_injection], std::slice::from_ref(&not_no)),
        webhook(settings, "rev.object", &neither, &[not_no.clone(), ours]),
    ];
    if revision == DEFAULT_REVISION {
        webhooks.push(webhook(settings, "namespace", &[has(NAMESPACE, "In", &["enabled"])], &[not_no]));
        webhooks.push(webhook(settings, "object", &neither, &[says_yes, no_revision]));
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": settings.cluster_metadata(&settings.names().mutating),
        "webhooks": webhooks,
    })
}

fn webhook(settings: &Settings, name: &str, namespace: &[Value], object: &[Value]) -> Value {
    // The system's namespaces are left out here too: no pod of theirs is to wait for this control plane.
    let system = has("kubernetes.io/metadata.name", "NotIn", &SYSTEM);
    let namespace: Vec<&Value> = namespace.iter().chain([&system]).collect();
    json!({
        "name": format!("{name}.sidecar-injector.istio.io"),
        "clientConfig": client(settings, "/inject"),
        "namespaceSelector": { "matchExpressions": namespace },
        "objectSelector": { "matchExpressions": object },
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "*" }],
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "sideEffects": "None",
        "timeoutSeconds": 10,
    })
}

/// Validation lets everything through until the control plane answers, which then closes it (`Fail`).
pub(super) fn validating(settings: &Settings) -> Value {
    let revision = settings.injection.revision.as_str();
    // That of the default revision checks every object, also those that are marked for another: one of them may not run.
    let selector = if revision == DEFAULT_REVISION { json!({}) } else { json!({ "matchLabels": { REVISION: revision } }) };
    let groups = ["security.istio.io", "networking.istio.io"];
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": settings.cluster_metadata(&settings.names().validating),
        "webhooks": [{
            "name": "rev.validation.istio.io",
            "clientConfig": client(settings, "/validate"),
            "objectSelector": selector,
            "rules": [{
                "apiGroups": groups, "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["*"], "scope": "*",
            }],
            "admissionReviewVersions": ["v1"],
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            "timeoutSeconds": 10,
        }],
    })
}

fn client(settings: &Settings, path: &str) -> Value {
    json!({ "service": { "name": settings.named("istiod"), "namespace": settings.istio_namespace, "path": path, "port": 443 } })
}
