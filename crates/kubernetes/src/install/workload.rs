//! How the control plane runs.

use serde_json::{Value, json};

use super::{MONITORING_PORT, READINESS_PORT, Settings, WEBHOOK_PORT, XDS_PORT};
use crate::inject::PROXY_ID;

/// A folder for what it keeps over a restart of its container.
const STATE: &str = "/var/lib/mutua";

pub(super) fn service_account(settings: &Settings) -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": settings.metadata(&settings.named("istiod")) })
}

/// The mesh configuration, as Istio's tools and Kiali read it.
pub(super) fn mesh_config(settings: &Settings) -> Value {
    let mesh =
        format!("enableAutoMtls: true\nrootNamespace: {}\ntrustDomain: {}\n", settings.istio_namespace, settings.trust_domain);
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": settings.metadata(&settings.named("istio")),
        "data": { "mesh": mesh, "meshNetworks": "networks: {}" },
    })
}

pub(super) fn deployment(settings: &Settings) -> Value {
    let labels = json!({ "matchLabels": settings.selector() });
    let apart = json!({ "labelSelector": labels, "topologyKey": "kubernetes.io/hostname" });
    let mut spec = json!({
        "serviceAccountName": settings.named("istiod"),
        "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "affinity": { "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
            { "weight": 100, "podAffinityTerm": apart },
        ] } },
        "containers": [container(settings)],
        "volumes": [{ "name": "state", "emptyDir": { "medium": "Memory" } }, { "name": "tmp", "emptyDir": { "medium": "Memory" } }],
    });
    let secrets: Vec<Value> = settings.injection.image_pull_secret.iter().map(|name| json!({ "name": name })).collect();
    if !secrets.is_empty() {
        spec["imagePullSecrets"] = Value::Array(secrets);
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": settings.metadata(&settings.named("istiod")),
        "spec": {
            "replicas": settings.replicas,
            "selector": labels,
            // Only the one that leads is ready, and a new one leads only once the old one has ended: whoever waited for a new
            // one to be ready would wait for ever.
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": "100%" } },
            "template": {
                "metadata": {
                    "labels": template_labels(settings),
                    "annotations": {
                        "prometheus.io/port": MONITORING_PORT.to_string(),
                        "prometheus.io/scrape": "true",
                        "sidecar.istio.io/inject": "false",
                    },
                },
                "spec": spec,
            },
        },
    })
}

fn template_labels(settings: &Settings) -> Value {
    let mut labels = settings.labels();
    labels["sidecar.istio.io/inject"] = Value::from("false");
    labels
}

fn container(settings: &Settings) -> Value {
    let port = |name: &str, port: u16| json!({ "name": name, "containerPort": port, "protocol": "TCP" });
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let mut container = json!({
        "name": "discovery",
        "image": settings.injection.image,
        "args": arguments(settings),
        "env": [
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            json!({ "name": "CLUSTER_ID", "value": "Kubernetes" }),
        ],
        "ports": [
            port("tls-xds", XDS_PORT),
            port("https-webhooks", WEBHOOK_PORT),
            port("http-monitoring", MONITORING_PORT),
            port("http-debug", READINESS_PORT),
        ],
        "readinessProbe": {
            "httpGet": { "path": "/ready", "port": READINESS_PORT },
            "initialDelaySeconds": 1, "periodSeconds": 3, "timeoutSeconds": 5,
        },
        "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
            "runAsGroup": PROXY_ID, "runAsNonRoot": true, "runAsUser": PROXY_ID,
        },
        "volumeMounts": [{ "name": "state", "mountPath": STATE }, { "name": "tmp", "mountPath": "/tmp" }],
    });
    if let Some(policy) = &settings.injection.image_pull_policy {
        container["imagePullPolicy"] = Value::from(policy.as_str());
    }
    container
}

fn arguments(settings: &Settings) -> Vec<String> {
    let injection = &settings.injection;
    let mut arguments = vec![
        "control-plane".to_owned(),
        "--kubernetes".to_owned(),
        format!("--state={STATE}/state"),
        format!("--listen=0.0.0.0:{XDS_PORT}"),
        format!("--advertise={}.{}.svc", settings.named("istiod"), settings.istio_namespace),
        format!("--webhooks=0.0.0.0:{WEBHOOK_PORT}"),
        format!("--monitoring=0.0.0.0:{MONITORING_PORT}"),
        format!("--readiness=0.0.0.0:{READINESS_PORT}"),
        format!("--revision={}", injection.revision),
        format!("--image={}", injection.image),
        format!("--native-sidecar={}", injection.native_sidecar),
        format!("--rewrite-app-http-probers={}", injection.rewrite_app_http_probers),
    ];
    arguments.extend(injection.image_pull_policy.iter().map(|policy| format!("--image-pull-policy={policy}")));
    arguments.extend(injection.image_pull_secret.iter().map(|name| format!("--image-pull-secret={name}")));
    arguments
}

pub(super) fn service(settings: &Settings) -> Value {
    let port =
        |name: &str, port: u16, target: u16| json!({ "name": name, "port": port, "targetPort": target, "protocol": "TCP" });
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": settings.metadata(&settings.named("istiod")),
        "spec": {
            "selector": settings.selector(),
            "ports": [
                port("https-dns", XDS_PORT, XDS_PORT),
                port("https-webhook", 443, WEBHOOK_PORT),
                port("http-monitoring", MONITORING_PORT, MONITORING_PORT),
            ],
        },
    })
}

pub(super) fn disruption_budget(settings: &Settings) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": settings.metadata(&settings.named("istiod")),
        // For the same reason no drain of a node is held up: the lead is given up at SIGTERM, and one that waits takes it.
        "spec": {
            "minAvailable": 0,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": { "matchLabels": settings.selector() },
        },
    })
}

/// Only its ports are reached; by whom is decided there (identity, not address: API servers and nodes have no labels).
pub(super) fn network_policy(settings: &Settings) -> Value {
    let ports = [XDS_PORT, WEBHOOK_PORT, MONITORING_PORT, READINESS_PORT].map(|port| json!({ "port": port, "protocol": "TCP" }));
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": settings.metadata(&settings.named("istiod")),
        "spec": {
            "podSelector": { "matchLabels": settings.selector() },
            "policyTypes": ["Ingress"],
            "ingress": [{ "ports": ports }],
        },
    })
}
