//! A small cluster, and a source that watches it.
#![allow(dead_code)]

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use mutua_control::source::{First, Reading, Source};
use mutua_control::state::StateDir;
use mutua_kubernetes::KubernetesSource;
use mutua_model::Mesh;
use mutua_model::read::Inputs;
use mutua_testbed::kubernetes::ApiServer;
use serde_json::{Value, json};

pub const PATIENCE: Duration = Duration::from_secs(60);

/// Two workloads with a service each, and the documents of Istio's chapter on mutual TLS.
pub const SHOP: &str = include_str!("shop.yaml");

pub async fn client(server: &ApiServer) -> Client {
    let config = Kubeconfig::from_yaml(&server.kubeconfig()).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.expect("a configuration");
    Client::try_from(config).expect("a client")
}

pub struct Watched {
    pub server: ApiServer,
    pub source: KubernetesSource,
    pub folder: tempfile::TempDir,
}

impl Watched {
    pub async fn over(server: ApiServer) -> Self {
        Self::with(server, tempfile::tempdir().expect("a folder")).await
    }

    pub async fn with(server: ApiServer, folder: tempfile::TempDir) -> Self {
        let state = Arc::new(StateDir::open(folder.path()).expect("a state folder"));
        let source = KubernetesSource::new(&client(&server).await, "istio-system", state);
        Self { server, source, folder }
    }

    pub async fn restart(self) -> Self {
        let Self { server, source, folder } = self;
        drop(source);
        Self::with(server, folder).await
    }

    pub async fn first(&mut self) -> First {
        let first = tokio::time::timeout(PATIENCE, self.source.first()).await.expect("listed in time");
        first.unwrap_or_else(|rejected| panic!("{}", rejected.summary))
    }

    pub async fn next(&mut self) -> Reading {
        tokio::time::timeout(PATIENCE, self.source.next()).await.expect("noticed in time")
    }

    /// Says that a reading is in force, as the control plane does.
    pub fn put_into_force(&mut self, reading: &Reading) {
        self.source.keep(reading);
        self.source.in_force(reading);
        self.source.needed(std::slice::from_ref(&reading.content));
    }

    /// Reads on until `holds`.
    pub async fn until(&mut self, mut holds: impl FnMut(&Mesh) -> bool) -> Reading {
        loop {
            let reading = self.next().await;
            if holds(&mesh(&reading)) {
                return reading;
            }
        }
    }
}

pub fn mesh(reading: &Reading) -> Arc<Mesh> {
    Arc::clone(reading.mesh.as_ref().unwrap_or_else(|rejected| panic!("{}", rejected.summary)))
}

/// The mesh of a folder that holds this text.
pub fn of_text(text: &str) -> Mesh {
    let loaded = Inputs::from_texts([("mesh.yaml", text)]).load().expect("YAML");
    assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
    loaded.mesh
}

/// A mesh without its places and without what an API server adds.
pub fn shown(mesh: &Mesh) -> Vec<String> {
    let text = format!("{mesh:#?}");
    let mut lines = Vec::new();
    let mut skipped = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        match skipped {
            Some(depth) if indent > depth => continue,
            Some(_) => {
                skipped = None;
                continue;
            }
            None => {}
        }
        if line.trim_start().starts_with("places: Places {") || line.trim_start().starts_with("created: Some(") {
            skipped = Some(indent);
            continue;
        }
        if !line.trim_start().starts_with("created: None") {
            lines.push(line.to_owned());
        }
    }
    lines
}

pub fn pod(namespace: &str, name: &str, address: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace,
            "labels": {"app": name, "security.istio.io/tlsMode": "istio"}},
        "spec": {"serviceAccountName": name, "containers": [{"name": "app", "image": "app", "ports": [{"containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [{"type": "Ready"}]}})
}

pub fn strict(namespace: &str, mode: &str) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": namespace}, "spec": {"mtls": {"mode": mode}}})
}
