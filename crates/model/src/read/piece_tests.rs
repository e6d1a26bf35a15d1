use serde_json::json;

use super::*;
use crate::read::{Inputs, Loaded};

const YAML: &str = "\
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop, labels: {app: front}}
spec: {selector: {app: front}, clusterIP: 10.0.0.1, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop, creationTimestamp: '2026-01-02T03:04:05Z'}
spec: {mtls: {mode: STRICT}, selector: {matchLabels: {app: front}}, portLevelMtls: {8080: {mode: DISABLE}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    enableAutoMtls: false
    trustDomain: example.org
";

fn objects() -> Vec<serde_json::Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front", "namespace": "shop", "labels": {"app": "front"}},
            "spec": {"selector": {"app": "front"}, "clusterIP": "10.0.0.1",
                "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}),
        json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"name": "default", "namespace": "shop", "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {"mtls": {"mode": "STRICT"}, "selector": {"matchLabels": {"app": "front"}},
                "portLevelMtls": {"8080": {"mode": "DISABLE"}}}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": "enableAutoMtls: false\ntrustDomain: example.org\n"}}),
    ]
}

/// Everything but the places.
fn shown(loaded: &Loaded) -> String {
    let mut mesh = loaded.mesh.clone();
    let plain = |meta: &mut Meta| meta.places = crate::Places::default();
    mesh.services.iter_mut().for_each(|one| plain(&mut Arc::make_mut(one).meta));
    mesh.peer_authentications.iter_mut().for_each(|one| plain(&mut Arc::make_mut(one).meta));
    mesh.secrets.iter_mut().for_each(|one| plain(&mut Arc::make_mut(one).meta));
    if let Some(from) = &mut mesh.config.from {
        plain(from);
    }
    format!("{mesh:#?}")
}

#[test]
fn objects_of_an_api_server_make_the_mesh_that_their_yaml_makes() {
    let pieces: Vec<_> = objects().iter().map(|object| Piece::read(object).expect("known")).collect();
    let from_pieces = Loaded::of(&pieces);
    let from_text = Inputs::from_texts([("a.yaml", YAML)]).load().expect("is YAML");
    assert_eq!(shown(&from_pieces), shown(&from_text));
    assert_eq!(from_pieces.mesh.config.trust_domain, "example.org");
    assert!(from_pieces.is_valid() && from_text.is_valid());
}

#[test]
fn what_is_wrong_is_told_with_the_object_in_place_of_a_line() {
    let object = json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": "shop"}, "spec": {"mtls": {"mode": "HARD"}}});
    let piece = Piece::read(&object).expect("known");
    assert!(!piece.is_valid());
    let found = &piece.diagnostics[0];
    assert_eq!(found.place.to_string(), "PeerAuthentication shop/default");
    assert_eq!(found.path, "spec/mtls/mode");
    let mesh = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": "trustDomain: a.b\nmeshMTLS:\n  minProtocolVersion: TLSV9\n"}});
    let piece = Piece::read(&mesh).expect("known");
    assert_eq!(piece.diagnostics[0].place.to_string(), "ConfigMap istio-system/istio");
    assert!(Piece::read(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}})).is_none());
}
