//! What is added to a pod, before the mesh's template and the pod's own wishes are laid over it.

use serde_json::{Value, json};

use super::ids::{Ids, PROXY_ID};
use super::settings::{STATUS_PORT, TOKEN_AUDIENCE};
use super::wishes::{Interception, Wishes};
use super::{INIT, Injector, PROXY};

/// Readiness of the sidecar (Istio's port).
const READINESS_PORT: u16 = 15021;
/// Where the token of the pod's service account stands.
const TOKENS: &str = "/var/run/secrets/tokens";
/// Where the mesh's root stands.
const ROOTS: &str = "/var/run/secrets/istio";
/// A folder in memory, for key, leaf and last configuration.
const STATE: &str = "/etc/istio/proxy";

/// Everything that the parts of a sidecar are made from.
pub struct Parts<'a> {
    /// Who injects: the mesh's decisions.
    pub of: &'a Injector,
    /// The pod's wishes.
    pub wishes: &'a Wishes,
    /// User and group.
    pub ids: Ids,
    /// `ISTIO_KUBE_APP_PROBERS`.
    pub probers: Option<&'a str>,
}

impl Parts<'_> {
    /// Containers, volumes and secrets, as the `spec` of a pod.
    pub fn spec(&self) -> Value {
        let captured = self.wishes.interception != Interception::None;
        let mut spec = json!({ "initContainers": [], "containers": [], "volumes": self.volumes() });
        let init = captured.then(|| self.init());
        if self.wishes.native {
            spec["initContainers"] = init.into_iter().chain([self.proxy()]).collect();
        } else {
            spec["initContainers"] = init.into_iter().collect();
            spec["containers"] = json!([self.proxy()]);
        }
        let secrets: Vec<Value> = self.of.settings.image_pull_secret.iter().map(|name| json!({ "name": name })).collect();
        if !secrets.is_empty() {
            spec["imagePullSecrets"] = Value::Array(secrets);
        }
        spec
    }

    fn tproxy(&self) -> bool {
        self.wishes.interception == Interception::Tproxy
    }

    /// In TPROXY mode the sidecar starts as root, for its capability, and becomes 1337 by itself.
    fn ids(&self) -> Ids {
        if self.tproxy() { Ids { uid: PROXY_ID, gid: PROXY_ID } } else { self.ids }
    }

    /// The capture rules: root for a moment, before anything of the pod that could be captured runs.
    fn init(&self) -> Value {
        let Ids { uid, gid } = self.ids();
        let mut arguments = vec!["redirect".to_owned(), "apply".to_owned(), format!("--uid={uid}"), format!("--gid={gid}")];
        if self.tproxy() {
            arguments.push("--inbound-interception-mode=TPROXY".to_owned());
        }
        arguments.extend(self.wishes.capture.iter().filter(|one| !one.starts_with(EXCLUDE_INBOUND)).cloned());
        let excluded = self.excluded_inbound();
        if !excluded.is_empty() {
            arguments.push(format!("{EXCLUDE_INBOUND}{excluded}"));
        }
        let environment: Vec<Value> = self.metadata().collect();
        let mut container = json!({
            "name": INIT,
            "image": self.image(),
            "args": arguments,
            "resources": self.resources(),
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "privileged": false,
                "capabilities": { "add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"] },
                "readOnlyRootFilesystem": true,
                "runAsGroup": 0, "runAsNonRoot": false, "runAsUser": 0,
            },
        });
        set(&mut container, "imagePullPolicy", self.of.settings.image_pull_policy.as_deref());
        if !environment.is_empty() {
            container["env"] = Value::Array(environment);
        }
        container
    }

    /// Ports that are not captured: those of the annotation, and another status port than 15020, which never is.
    fn excluded_inbound(&self) -> String {
        let asked = self.wishes.capture.iter().find_map(|one| one.strip_prefix(EXCLUDE_INBOUND));
        let status = self.wishes.status_port.filter(|port| *port != STATUS_PORT).map(|port| port.to_string());
        asked.map(str::to_owned).into_iter().chain(status).collect::<Vec<_>>().join(",")
    }

    fn proxy(&self) -> Value {
        let mut container = json!({
            "name": PROXY,
            "image": self.image(),
            "args": self.arguments(),
            "env": self.environment(),
            "resources": self.resources(),
            "securityContext": self.security(),
            "volumeMounts": self.mounts(),
        });
        set(&mut container, "imagePullPolicy", self.of.settings.image_pull_policy.as_deref());
        if self.wishes.native {
            container["restartPolicy"] = Value::from("Always");
        } else if self.wishes.hold {
            // The kubelet starts the containers after this one only when the hook has ended.
            container["lifecycle"] = json!({ "postStart": { "httpGet": { "path": "/wait/ready", "port": READINESS_PORT } } });
        }
        if let Some(port) = self.wishes.status_port {
            container["ports"] = json!([{ "name": "http-envoy-prom", "containerPort": port, "protocol": "TCP" }]);
            let ready = json!({ "path": "/healthz/ready", "port": READINESS_PORT });
            let numbers = self.wishes.readiness;
            container["startupProbe"] = json!({ "httpGet": ready, "initialDelaySeconds": 0, "periodSeconds": 1,
                                                "timeoutSeconds": 3, "failureThreshold": 600 });
            container["readinessProbe"] = json!({ "httpGet": ready, "initialDelaySeconds": numbers.initial_delay,
                                                  "periodSeconds": numbers.period, "timeoutSeconds": 3,
                                                  "failureThreshold": numbers.failures });
        }
        container
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = vec![
            "proxy".to_owned(),
            "--workload=$(POD_NAMESPACE)/$(POD_NAME)".to_owned(),
            format!("--control-plane={}", self.of.settings.control_plane(&self.of.istio_namespace)),
            format!("--ca-root={ROOTS}/root-cert.pem"),
            format!("--token-file={TOKENS}/istio-token"),
            format!("--state={STATE}/state"),
            format!("--trust-domain={}", self.of.mesh.trust_domain),
            format!("--root-namespace={}", self.of.mesh.root_namespace),
        ];
        if self.wishes.status_port.is_some_and(|port| port != STATUS_PORT) {
            arguments.push(format!("--status-port={}", self.wishes.status_port.unwrap_or_default()));
        }
        arguments.extend(self.wishes.concurrency.map(|number| format!("--concurrency={number}")));
        arguments.extend(self.wishes.drain.as_ref().map(|drain| format!("--drain={drain}")));
        let folders = self.wishes.mounts.iter().filter_map(|mount| mount["mountPath"].as_str());
        arguments.extend(folders.map(|folder| format!("--tls-dir={folder}")));
        arguments
    }

    fn environment(&self) -> Vec<Value> {
        let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
        let mode = match self.wishes.interception {
            Interception::Tproxy => "TPROXY",
            // With no rules nothing arrives that way either.
            Interception::Redirect | Interception::None => "REDIRECT",
        };
        let fixed = [
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            field("INSTANCE_IP", "status.podIP"),
            field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
            json!({ "name": "ISTIO_META_INTERCEPTION_MODE", "value": mode }),
        ];
        let probers = self.probers.map(|probers| json!({ "name": PROBERS, "value": probers }));
        fixed.into_iter().chain(probers).chain(self.metadata()).collect()
    }

    fn metadata(&self) -> impl Iterator<Item = Value> {
        self.wishes.environment.iter().map(|(name, value)| json!({ "name": name, "value": value }))
    }

    fn image(&self) -> &str {
        self.wishes.image.as_deref().unwrap_or(&self.of.settings.image)
    }

    fn resources(&self) -> Value {
        if self.wishes.resources.is_null() {
            json!({ "requests": { "cpu": "10m", "memory": "32Mi" }, "limits": { "cpu": "2", "memory": "1Gi" } })
        } else {
            self.wishes.resources.clone()
        }
    }

    fn security(&self) -> Value {
        let mut context = json!({
            "allowPrivilegeEscalation": false,
            "privileged": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
            "runAsGroup": self.ids().gid, "runAsNonRoot": true, "runAsUser": self.ids().uid,
        });
        if self.tproxy() {
            // What it takes to become 1337, to own its files then, and the one that remains.
            context["capabilities"]["add"] = json!(["CHOWN", "NET_ADMIN", "SETGID", "SETUID"]);
            context["runAsNonRoot"] = Value::from(false);
            context["runAsUser"] = Value::from(0);
        }
        context
    }

    fn mounts(&self) -> Vec<Value> {
        let mount = |name: &str, path: &str| json!({ "name": name, "mountPath": path });
        let read_only = |name: &str, path: &str| json!({ "name": name, "mountPath": path, "readOnly": true });
        let fixed = [
            read_only("istiod-ca-cert", ROOTS),
            read_only("istio-token", TOKENS),
            read_only("istio-podinfo", "/etc/istio/pod"),
            mount("istio-envoy", STATE),
        ];
        fixed.into_iter().chain(self.wishes.mounts.iter().cloned()).collect()
    }

    fn volumes(&self) -> Vec<Value> {
        let item = |path: &str| json!({ "path": path, "fieldRef": { "fieldPath": format!("metadata.{path}") } });
        let token = json!({ "path": "istio-token", "expirationSeconds": 43200, "audience": TOKEN_AUDIENCE });
        let fixed = [
            json!({ "name": "istio-envoy", "emptyDir": { "medium": "Memory" } }),
            json!({ "name": "istio-podinfo", "downwardAPI": { "items": [item("labels"), item("annotations")] } }),
            json!({ "name": "istio-token", "projected": { "sources": [{ "serviceAccountToken": token }] } }),
            json!({ "name": "istiod-ca-cert", "configMap": { "name": "istio-ca-root-cert" } }),
        ];
        fixed.into_iter().chain(self.wishes.volumes.iter().cloned()).collect()
    }
}

fn set(container: &mut Value, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        container[key] = Value::from(value);
    }
}

const EXCLUDE_INBOUND: &str = "--exclude-inbound-ports=";
/// The probes of the application, for the sidecar.
pub const PROBERS: &str = "ISTIO_KUBE_APP_PROBERS";
