//! The commands against a cluster: a small API server that kube-rs talks to as to any other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::process::Command;

use common::{ControlPlane, MUTUA, SHOP, mutua, said};
use mutua_testbed::kubernetes::ApiServer;
use serde_json::json;

/// A cluster that holds [`SHOP`], and a kubeconfig for it.
struct Cluster {
    server: ApiServer,
    folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Cluster {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(ApiServer::start());
        server.put_yaml(SHOP);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("kubeconfig"), server.kubeconfig()).unwrap();
        Self { server, folder, _runtime: runtime }
    }

    fn kubeconfig(&self) -> String {
        self.folder.path().join("kubeconfig").display().to_string()
    }

    fn strict(&self, mode: &str) {
        self.server.put(&json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"name": "default", "namespace": "shop"}, "spec": {"mtls": {"mode": mode}}}));
    }

    fn control_plane(&self) -> ControlPlane {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let mut command = Command::new(MUTUA);
        command.args(["control-plane", "--kubernetes", "--kubeconfig", &self.kubeconfig()]).env_remove("POD_NAMESPACE");
        ControlPlane::of(folder, &state, &mut command)
    }
}

#[test]
fn a_control_plane_follows_a_cluster() {
    let cluster = Cluster::start();
    let mut plane = cluster.control_plane();
    let explain = |plane: &ControlPlane| said(&plane.ask(&["explain", "--from", "shop/front", "--to", "back:80", "-o", "json"]));
    assert!(explain(&plane).contains("\"serverMode\": \"PERMISSIVE\""));
    cluster.strict("STRICT");
    plane.until("generation=2");
    let answer = explain(&plane);
    assert!(answer.contains("\"serverMode\": \"STRICT\"") && answer.contains("PeerAuthentication shop/default"), "{answer}");
    cluster.strict("HARD");
    let told = plane.until("is invalid and not in force");
    assert!(told.contains("PeerAuthentication shop/default"), "{told}");
    assert!(explain(&plane).contains("\"serverMode\": \"STRICT\""));
    assert_eq!(plane.stop().code(), Some(0), "a stop is clean");
}

#[test]
fn the_root_outlives_the_control_plane_and_pods_find_it() {
    let cluster = Cluster::start();
    cluster.server.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
    let roots = |plane: &ControlPlane| std::fs::read_to_string(plane.state().join("root-cert.pem")).unwrap();
    let first = cluster.control_plane();
    let known = roots(&first);
    let deadline = std::time::Instant::now() + common::PATIENCE;
    let map = || cluster.server.get("configmaps", "shop", "istio-ca-root-cert");
    while map().is_none() || cluster.server.get("secrets", "istio-system", "istio-ca-secret").is_none() {
        assert!(std::time::Instant::now() < deadline, "never written");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(map().unwrap()["data"]["root-cert.pem"].as_str(), Some(known.as_str()));
    assert_eq!(first.stop().code(), Some(0));
    let second = cluster.control_plane();
    assert_eq!(roots(&second), known, "of another state folder");
}

#[test]
fn a_mesh_has_one_source() {
    let state = tempfile::tempdir().unwrap();
    let state = state.path().to_str().unwrap();
    let none = mutua(&["control-plane", "--state", state]);
    assert_eq!(none.status.code(), Some(2));
    assert!(said(&none).contains("--config DIR names a folder of YAML, --kubernetes a cluster"), "{}", said(&none));
    let both = mutua(&["control-plane", "--state", state, "--config", state, "--kubernetes"]);
    assert_eq!(both.status.code(), Some(2));
    assert!(said(&both).contains("exclude each other"), "{}", said(&both));
}

/// A program of another name that is the binary.
fn called(cluster: &Cluster, name: &str) -> std::path::PathBuf {
    let path = cluster.folder.path().join(name);
    std::os::unix::fs::symlink(MUTUA, &path).unwrap();
    path
}

#[test]
fn explain_and_analyze_read_a_cluster_as_they_read_its_files() {
    let cluster = Cluster::start();
    cluster.strict("STRICT");
    let file = cluster.folder.path().join("mesh.yaml");
    let policy = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: shop}\nspec: {mtls: {mode: STRICT}}\n";
    std::fs::write(&file, format!("{SHOP}{policy}")).unwrap();
    let kubeconfig = cluster.kubeconfig();
    let question = ["explain", "--from", "shop/front", "--to", "back:80", "-o", "json"];
    let json = |output: &std::process::Output| -> serde_json::Value {
        assert_eq!(output.status.code(), Some(0), "{}", said(output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let of_cluster = json(&mutua(&[&question[..], &["--kubeconfig", &kubeconfig]].concat()));
    let of_files = json(&mutua(&[&question[..], &["-f", file.to_str().unwrap()]].concat()));
    for part in ["client", "endpoints", "outcome"] {
        assert_eq!(of_cluster[part], of_files[part], "{part}");
    }
    let steps = |answer: &serde_json::Value| -> Vec<String> {
        let steps = answer["trace"].as_array().unwrap().iter();
        steps.map(|step| format!("{} {} {}", step["rule"], step["object"], step["effect"])).collect()
    };
    assert_eq!(steps(&of_cluster), steps(&of_files));
    let shown = said(&mutua(&["explain", "--kubeconfig", &kubeconfig, "--from", "shop/front", "--to", "back:80"]));
    assert!(shown.contains("✓ PeerAuthentication shop/default: mode STRICT\n"), "{shown}");
    assert!(!shown.contains("--> PeerAuthentication"), "the object is named once: {shown}");

    cluster.strict("HARD");
    let analyzed = mutua(&["analyze", "--kubernetes", "--kubeconfig", &kubeconfig]);
    assert_eq!(analyzed.status.code(), Some(1), "{}", said(&analyzed));
    assert!(said(&analyzed).contains("IST0106") && said(&analyzed).contains("in the cluster"), "{}", said(&analyzed));
    let left_out = said(&mutua(&["explain", "--kubeconfig", &kubeconfig, "--workload", "shop/back"]));
    assert!(left_out.contains("PeerAuthentication shop/default is invalid") && left_out.contains("left out"), "{left_out}");
    cluster.server.refuse("sidecars", Some(403));
    let refused = mutua(&["analyze", "--kubeconfig", &kubeconfig]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("sidecars of the cluster cannot be listed"), "{}", said(&refused));
    let both = mutua(&["analyze", "--kubernetes", "-f", file.to_str().unwrap()]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn as_a_plugin_of_kubectl_it_reads_the_cluster_of_the_kubeconfig() {
    let cluster = Cluster::start();
    let run = |name: &str| {
        let mut command = Command::new(called(&cluster, name));
        command.args(["explain", "--workload", "shop/back", "-o", "json"]).env("KUBECONFIG", cluster.kubeconfig());
        command.env_remove("MUTUA_STATE").env_remove("MUTUA_API").output().unwrap()
    };
    let plugin = run("kubectl-mutua");
    assert_eq!(plugin.status.code(), Some(0), "{}", said(&plugin));
    assert!(said(&plugin).contains("\"mode\": \"PERMISSIVE\""), "{}", said(&plugin));
    assert_eq!(run("mutua").status.code(), Some(2), "by another name it asks the control plane");
    let help = Command::new(cluster.folder.path().join("kubectl-mutua")).args(["explain", "--help"]).output().unwrap();
    assert!(said(&help).contains("Usage: kubectl mutua explain"), "{}", said(&help));
}

#[test]
fn policies_are_told_what_became_of_them() {
    let cluster = Cluster::start();
    cluster.strict("STRICT");
    let _plane = cluster.control_plane();
    let condition = |kind: &str| {
        let policy = cluster.server.get("peerauthentications", "shop", "default").unwrap();
        let all = policy["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["type"] == kind).unwrap_or_default()
    };
    let until = |kind: &str, status: &str| {
        let deadline = std::time::Instant::now() + common::PATIENCE;
        while condition(kind)["status"] != status {
            assert!(std::time::Instant::now() < deadline, "{kind} is never {status}: {}", condition(kind));
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    until("mutua.io/Accepted", "True");
    until("mutua.io/Enforced", "True");
    let written = cluster.server.get("peerauthentications", "shop", "default").unwrap();
    // Pods come and go, and nothing is written for that.
    cluster.server.put(&json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "late", "namespace": "shop", "labels": {"app": "late", "security.istio.io/tlsMode": "istio"}},
        "spec": {"serviceAccountName": "late", "containers": [{"name": "app"}, {"name": "istio-proxy"}]},
        "status": {"podIP": "10.0.0.9"}}));
    std::thread::sleep(std::time::Duration::from_secs(4));
    let now = cluster.server.get("peerauthentications", "shop", "default").unwrap();
    assert_eq!(now["status"], written["status"]);
    assert_eq!(now["metadata"]["resourceVersion"], written["metadata"]["resourceVersion"]);
    cluster.strict("HARD");
    until("mutua.io/Accepted", "False");
    assert!(condition("mutua.io/Accepted")["message"].as_str().unwrap().contains("its last valid form stays in force"));
}
