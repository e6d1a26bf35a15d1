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
