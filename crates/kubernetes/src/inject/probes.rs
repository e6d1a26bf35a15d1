//! The application's probes, led by way of the sidecar: the kubelet speaks no mutual TLS, and whatever asks a captured port
//! in plaintext is refused where the mode is STRICT.
//!
//! Form and paths are Istio's (`app_probe.go`): a probe becomes `httpGet` of `/app-health/CONTAINER/KIND` at the status port,
//! and the sidecar finds what was asked for in `ISTIO_KUBE_APP_PROBERS`.

use serde_json::{Map, Value, json};

use super::{PROXY, containers};

/// Where a probe stands in a container, and the path by which it is asked for.
const PROBES: &[(&[&str], &str, &str)] = &[
    (&["readinessProbe"], "app-health", "readyz"),
    (&["livenessProbe"], "app-health", "livez"),
    (&["startupProbe"], "app-health", "startupz"),
    (&["lifecycle", "preStop"], "app-lifecycle", "prestopz"),
    (&["lifecycle", "postStart"], "app-lifecycle", "poststartz"),
];

/// Rewrites the probes of a pod's containers, and tells what they were: the value of `ISTIO_KUBE_APP_PROBERS`, if any.
pub fn rewrite(spec: &mut Value, status_port: u16) -> Option<String> {
    let mut probers = Map::new();
    for list in ["initContainers", "containers"] {
        for container in containers(spec, list).filter(|container| container["name"] != PROXY) {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            let ports = container["ports"].clone();
            for (place, group, kind) in PROBES {
                let Some(probe) = place.iter().try_fold(&mut *container, |value, key| value.get_mut(key)) else { continue };
                let path = format!("/{group}/{name}/{kind}");
                if let Some(prober) = prober(probe, &ports, status_port) {
                    ask_sidecar(probe, &path, status_port);
                    probers.insert(path, prober);
                }
            }
        }
    }
    (!probers.is_empty()).then(|| Value::Object(probers).to_string())
}

/// What a probe asks for, with its port as a number; `None` when it is left as it is: it runs a command, asks the sidecar
/// already, asks another host than the pod, or names a port that the container does not have.
fn prober(probe: &Value, ports: &Value, status_port: u16) -> Option<Value> {
    let mut prober = if probe["httpGet"].is_object() {
        json!({ "httpGet": probe["httpGet"] })
    } else if probe["tcpSocket"].is_object() {
        json!({ "tcpSocket": probe["tcpSocket"] })
    } else if probe["grpc"].is_object() {
        json!({ "grpc": probe["grpc"] })
    } else {
        return None;
    };
    for action in ["httpGet", "tcpSocket", "grpc"] {
        if prober[action]["host"].as_str().is_some_and(|host| !host.is_empty()) {
            return None;
        }
        let Some(port) = prober.get_mut(action).and_then(|action| action.get_mut("port")) else { continue };
        if let Some(name) = port.as_str() {
            let named = || ports.as_array().into_iter().flatten().find(|one| one["name"] == name);
            *port = match name.parse::<u16>() {
                Ok(number) => Value::from(number),
                Err(_) => named()?["containerPort"].clone(),
            };
        }
        if *port == status_port {
            return None;
        }
    }
    if let Some(seconds) = probe.get("timeoutSeconds") {
        prober["timeoutSeconds"] = seconds.clone();
    }
    Some(prober)
}

/// Makes the probe a plain GET at the sidecar. Headers stay, so that the application gets them too.
fn ask_sidecar(probe: &mut Value, path: &str, status_port: u16) {
    let Some(fields) = probe.as_object_mut() else { return };
    fields.remove("tcpSocket");
    fields.remove("grpc");
    let action = fields.entry("httpGet").or_insert_with(|| json!({}));
    action["path"] = Value::from(path);
    action["port"] = Value::from(status_port);
    if action["scheme"] == "HTTPS" {
        action["scheme"] = Value::from("HTTP");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_probe_goes_by_way_of_the_sidecar() {
        let mut spec = json!({
            "initContainers": [{"name": "sync", "startupProbe": {"tcpSocket": {"port": 9000}, "periodSeconds": 2}}],
            "containers": [{
                "name": "web", "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/ok", "port": "http", "scheme": "HTTPS",
                                               "httpHeaders": [{"name": "X", "value": "1"}]}, "timeoutSeconds": 3},
                "livenessProbe": {"grpc": {"port": 9090, "service": "s"}},
                "lifecycle": {"preStop": {"httpGet": {"port": "8081"}}, "postStart": {"exec": {"command": ["true"]}}},
            }, {"name": PROXY, "readinessProbe": {"httpGet": {"port": 15021}}}],
        });
        let probers: Value = serde_json::from_str(&rewrite(&mut spec, 15020).expect("probers")).expect("JSON");
        let expected = json!({
            "/app-health/sync/startupz": {"tcpSocket": {"port": 9000}},
            "/app-health/web/readyz": {"httpGet": {"path": "/ok", "port": 8080, "scheme": "HTTPS",
                                                   "httpHeaders": [{"name": "X", "value": "1"}]}, "timeoutSeconds": 3},
            "/app-health/web/livez": {"grpc": {"port": 9090, "service": "s"}},
            "/app-lifecycle/web/prestopz": {"httpGet": {"port": 8081}},
        });
        assert_eq!(probers, expected);
        let expected = json!({
            "initContainers": [{"name": "sync", "startupProbe":
                {"httpGet": {"path": "/app-health/sync/startupz", "port": 15020}, "periodSeconds": 2}}],
            "containers": [{
                "name": "web", "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/app-health/web/readyz", "port": 15020, "scheme": "HTTP",
                                               "httpHeaders": [{"name": "X", "value": "1"}]}, "timeoutSeconds": 3},
                "livenessProbe": {"httpGet": {"path": "/app-health/web/livez", "port": 15020}},
                "lifecycle": {"preStop": {"httpGet": {"path": "/app-lifecycle/web/prestopz", "port": 15020}},
                              "postStart": {"exec": {"command": ["true"]}}},
            }, {"name": PROXY, "readinessProbe": {"httpGet": {"port": 15021}}}],
        });
        assert_eq!(spec, expected);
    }

    #[test]
    fn what_cannot_be_asked_for_is_left_alone() {
        let other_host = json!({"tcpSocket": {"port": 1, "host": "10.0.0.9"}});
        let probe = |probe: Value| json!({"containers": [{"name": "c", "readinessProbe": probe}]});
        for left in [
            json!({"exec": {"command": ["x"]}}),
            json!({"httpGet": {"port": "none"}}),
            json!({"httpGet": {"port": 15020}}),
            other_host,
        ] {
            let mut spec = probe(left);
            let before = spec.clone();
            assert_eq!(rewrite(&mut spec, 15020), None);
            assert_eq!(spec, before);
        }
    }
}
