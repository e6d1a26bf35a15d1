//! The webhooks and the other ports of a control plane, asked as an API server, Kiali and the kubelet ask.

mod common;

use std::net::{Ipv4Addr, SocketAddr};

use clap::Parser;
use common::client;
use k8s_openapi::ByteString;
use mutua_control::ControlPlane;
use mutua_identity::ClientConfig;
use mutua_identity::stream::TlsStream;
use mutua_identity::tls::{Algorithms, Origination, Roots};
use mutua_kubernetes::ports::Ports;
use mutua_kubernetes::webhook::MAX_BODY;
use mutua_kubernetes::webhook::bundle::Bundles;
use mutua_testbed::kubernetes::ApiServer;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A mesh with a namespace of OpenShift's and one service.
const MESH: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}, annotations: {openshift.io/sa.scc.uid-range: 1000650000/10000}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{port: 80}]}
";

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    settings: mutua_control::Settings,
    #[command(flatten)]
    cluster: mutua_kubernetes::Cluster,
    #[command(flatten)]
    ports: Ports,
}

struct Plane {
    plane: ControlPlane,
    server: ApiServer,
    webhooks: SocketAddr,
    monitoring: SocketAddr,
    readiness: SocketAddr,
    _tasks: JoinSet<()>,
    _folder: tempfile::TempDir,
}

/// A port that nobody uses now.
fn free() -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|one| one.local_addr()).expect("a port")
}

async fn plane() -> Plane {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, state) = (folder.path().join("config"), folder.path().join("state"));
    std::fs::create_dir(&config).and_then(|()| std::fs::write(config.join("mesh.yaml"), MESH)).expect("written");
    let [webhooks, monitoring, readiness] = [free(), free(), free()];
    let arguments = [
        "control-plane".to_owned(),
        "--kubernetes".to_owned(),
        format!("--config={}", config.display()),
        format!("--state={}", state.display()),
        "--listen=127.0.0.1:0".to_owned(),
        "--api=127.0.0.1:0".to_owned(),
        format!("--webhooks={webhooks}"),
        format!("--monitoring={monitoring}"),
        format!("--readiness={readiness}"),
    ];
    let Command { settings, cluster, ports } = Command::try_parse_from(arguments).expect("arguments");
    let (server, shutdown) = (ApiServer::start().await, CancellationToken::new());
    let plane = ControlPlane::start(settings, shutdown.clone()).await.expect("a control plane");
    let mut tasks = JoinSet::new();
    let client = client(&server).await;
    ports.serve(&plane.parts, &client, &cluster.namespace, &mut tasks, &shutdown).await.expect("ports");
    Plane { plane, server, webhooks, monitoring, readiness, _tasks: tasks, _folder: folder }
}

/// The status and the body of an answer.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &[u8]) -> (u16, Vec<u8>) {
    // Whoever refuses a body early may not read it to its end.
    let _ = stream.write_all(request).await;
    let _ = stream.flush().await;
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    let head = said.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let status = std::str::from_utf8(&said[9..12]).expect("a status").parse().expect("a number");
    (status, said[head + 4..].to_vec())
}

impl Plane {
    /// As an API server: by the roots of the mesh and the name of the Service.
    async fn post(&self, path: &str, kind: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let settings = Origination {
            client: None,
            roots: Roots::Pem(std::fs::read_to_string(&self.plane.root_file).expect("roots")),
            names: Vec::new(),
            verify_server_name: true,
            crl: None,
            insecure_skip_verify: false,
            algorithms: Algorithms::default(),
        };
        let config = ClientConfig::origination(&settings).expect("a configuration");
        let tcp = TcpStream::connect(self.webhooks).await.expect("connected");
        let tls = TlsStream::connect(&config, Some("istiod.istio-system.svc"), tcp).await.expect("the webhook's certificate");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: istiod.istio-system.svc\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        ask(tls, &[head.as_bytes(), body].concat()).await
    }

    async fn review(&self, path: &str, object: &Value) -> Value {
        let review = review(object);
        let (status, body) = self.post(path, "application/json", review.to_string().as_bytes()).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let answer: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((&answer["apiVersion"], &answer["kind"]), (&json!("admission.k8s.io/v1"), &json!("AdmissionReview")));
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        answer["response"].clone()
    }
}

/// As an API server asks.
fn review(object: &Value) -> Value {
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": object["kind"]},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": object["kind"]},
            "namespace": "shop", "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": ["system:authenticated"]},
            "object": object, "oldObject": null, "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

/// A pod as a ReplicaSet makes it, with the API server's defaults.
fn pod() -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "generateName": "web-5d9c8b7f6-", "creationTimestamp": null, "labels": {"app": "web", "pod-template-hash": "5d9c8b7f6"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d9c8b7f6", "uid": "u",
                                 "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": {
            "volumes": [{"name": "kube-api-access-x", "projected": {"sources": []}}],
            "containers": [{"name": "web", "image": "nginx", "resources": {}, "terminationMessagePath": "/dev/termination-log",
                            "livenessProbe": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "timeoutSeconds": 1,
                                              "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}}],
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "serviceAccountName": "default", "securityContext": {},
            "schedulerName": "default-scheduler",
        },
        "status": {},
    })
}

fn object(group: &str, kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": format!("{group}.istio.io/v1"), "kind": kind, "metadata": {"name": "x", "namespace": "shop"}, "spec": spec})
}

/// Applies a JSON patch of the operations that the webhook uses.
fn patched(mut object: Value, patch: &Value) -> Value {
    let bytes: ByteString = serde_json::from_value(patch.clone()).expect("base64");
    let operations: Vec<Value> = serde_json::from_slice(&bytes.0).expect("JSON");
    for operation in operations {
        let path = operation["path"].as_str().expect("a path");
        let (parent, key) = path.rsplit_once('/').expect("a field");
        let key = key.replace("~1", "/").replace("~0", "~");
        let parent = object.pointer_mut(parent).and_then(Value::as_object_mut).expect("a parent that is there");
        match operation["op"].as_str().expect("an operation") {
            "remove" => assert!(parent.remove(&key).is_some(), "{path}"),
            "add" => assert!(parent.insert(key, operation["value"].clone()).is_none(), "{path}"),
            "replace" => assert!(parent.insert(key, operation["value"].clone()).is_some(), "{path}"),
            other => panic!("{other}"),
        }
    }
    object
}

#[tokio::test]
async fn a_pod_gets_its_sidecar_by_a_patch() {
    let plane = plane().await;
    let said = plane.review("/inject", &pod()).await;
    assert_eq!((&said["allowed"], &said["patchType"]), (&json!(true), &json!("JSONPatch")));
    let injected = patched(pod(), &said["patch"]);
    let proxy = &injected["spec"]["initContainers"][1];
    assert_eq!(proxy["name"], "istio-proxy");
    assert_eq!(proxy["securityContext"]["runAsUser"], 1_000_659_999, "of the namespace's range");
    assert_eq!(injected["metadata"]["labels"]["service.istio.io/canonical-name"], "web", "the Deployment's name");
    assert_eq!(injected["spec"]["containers"][0]["livenessProbe"]["httpGet"]["path"], "/app-health/web/livez");
    assert_eq!(injected["spec"]["serviceAccountName"], "default");
    let again = plane.review("/inject", &injected).await;
    assert_eq!((&again["allowed"], again.get("patch")), (&json!(true), None), "once");
    let mut odd = pod();
    odd["metadata"]["annotations"] = json!({"sidecar.istio.io/interceptionMode": "ALL"});
    let said = plane.review("/inject/cluster/x", &odd).await;
    assert_eq!(said["allowed"], false);
    assert!(said["status"]["message"].as_str().expect("why").contains("sidecar.istio.io/interceptionMode"), "{said}");
    odd["metadata"]["annotations"] = json!({"sidecar.istio.io/logLevel": "debug"});
    let said = plane.review("/inject", &odd).await;
    assert_eq!(said["warnings"], json!(["annotation sidecar.istio.io/logLevel does nothing here"]));
}

#[tokio::test]
async fn a_resource_is_checked_and_findings_are_warnings() {
    let plane = plane().await;
    let strict = object("security", "PeerAuthentication", &json!({"mtls": {"mode": "STRICT"}}));
    assert_eq!(plane.review("/validate", &strict).await, json!({"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": true}));
    let wrong = object("security", "PeerAuthentication", &json!({"mtls": {"mode": "HARD"}}));
    let said = plane.review("/validate", &wrong).await;
    assert_eq!(said["allowed"], false);
    assert!(said["status"]["message"].as_str().expect("why").contains("spec/mtls/mode"), "{said}");
    // Without policies the namespace is permissive; a rule that turns TLS off towards a service is told of.
    let off = object(
        "networking",
        "DestinationRule",
        &json!({"host": "nowhere.shop.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}),
    );
    let said = plane.review("/validate/x", &off).await;
    assert_eq!(said["allowed"], true);
    let warnings = said["warnings"].as_array().expect("warnings");
    assert!(warnings.iter().any(|one| one.as_str().is_some_and(|one| one.starts_with("IST0174: spec/host"))), "{warnings:?}");
    assert!(warnings.iter().all(|one| one.as_str().is_some_and(|one| one.len() <= 256)));
    // What is unknown here, and what is taken away, is nobody's business here.
    let unknown =
        json!({"apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": {"name": "x"}, "spec": {"odd": 1}});
    for object in [unknown, Value::Null] {
        assert_eq!(plane.review("/validate", &object).await["allowed"], true);
    }
}

#[tokio::test]
async fn what_is_no_review_is_refused_and_the_server_goes_on() {
    let plane = plane().await;
    let good = review(&pod()).to_string().into_bytes();
    let old = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1", "request": {"uid": "u"}}).to_string();
    let deep = "[".repeat(100_000);
    let large = vec![b' '; MAX_BODY + 1];
    let cases: [(&str, &str, &[u8], u16); 8] = [
        ("/inject", "application/json", b"{", 400),
        ("/inject", "application/json", b"", 400),
        ("/validate", "application/json", deep.as_bytes(), 400),
        ("/inject", "application/json", old.as_bytes(), 400),
        ("/inject", "text/plain", &good, 415),
        ("/injection", "application/json", &good, 404),
        ("/", "application/json", &good, 404),
        ("/inject", "application/json", &large, 413),
    ];
    for (path, kind, body, expected) in cases {
        assert_eq!(plane.post(path, kind, body).await.0, expected, "{path} {kind}");
    }
    // Pods of every form that is none: an answer each, and never a patch that cannot be applied.
    for odd in [
        json!({"kind": "Pod"}),
        json!({"kind": "Pod", "spec": [], "metadata": 1}),
        json!({"kind": "Pod", "spec": {"containers": {"a": 1}}, "metadata": {"labels": ["x"]}}),
    ] {
        assert!(plane.review("/inject", &odd).await["allowed"].is_boolean());
    }
    let mut plain = TcpStream::connect(plane.webhooks).await.expect("connected");
    plain.write_all(b"POST /inject HTTP/1.1\r\n\r\n").await.expect("written");
    assert_eq!(plane.review("/inject", &pod()).await["allowed"], true, "after all that");
}

#[tokio::test]
async fn api_servers_are_told_the_roots() {
    let plane = plane().await;
    let configuration = |kind: &str, name: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name},
            "webhooks": [{"name": "a.istio.io", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
                          "clientConfig": {"service": {"name": "istiod", "namespace": "istio-system"}}}],
        })
    };
    plane.server.put(&configuration("MutatingWebhookConfiguration", "istio-sidecar-injector"));
    plane.server.put(&configuration("ValidatingWebhookConfiguration", "istio-validator-istio-system"));
    let bundles = Bundles {
        client: client(&plane.server).await,
        mutating: "istio-sidecar-injector".to_owned(),
        validating: "istio-validator-istio-system".to_owned(),
    };
    let held = |plural: &str, name: &str| {
        let object = plane.server.get(plural, "", name).expect("there");
        let webhook = object["webhooks"][0].clone();
        let bundle: ByteString = serde_json::from_value(webhook["clientConfig"]["caBundle"].clone()).expect("base64");
        (String::from_utf8(bundle.0).expect("PEM"), webhook["failurePolicy"].as_str().expect("a policy").to_owned())
    };
    let both = || {
        (
            held("mutatingwebhookconfigurations", "istio-sidecar-injector"),
            held("validatingwebhookconfigurations", "istio-validator-istio-system"),
        )
    };
    for roots in ["first", "second"] {
        assert!(bundles.tell(roots).await);
        assert_eq!(both(), ((roots.to_owned(), "Ignore".to_owned()), (roots.to_owned(), "Fail".to_owned())));
    }
    let writes = || plane.server.requests().iter().filter(|one| one.starts_with("PATCH")).count();
    let before = writes();
    assert!(bundles.tell("second").await);
    assert_eq!(writes(), before, "what is right is not written again");
    let gone = Bundles { mutating: "none".to_owned(), ..bundles.clone() };
    assert!(gone.tell("second").await, "what is not installed needs nothing");
    plane.server.refuse("mutatingwebhookconfigurations", Some(403));
    assert!(!bundles.tell("third").await);
}

#[tokio::test]
async fn kiali_and_the_kubelet_find_what_they_ask_for() {
    let plane = plane().await;
    let get = async |address: SocketAddr, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let (status, body) = ask(TcpStream::connect(address).await.expect("connected"), request.as_bytes()).await;
        (status, String::from_utf8(body).expect("text"))
    };
    let (status, version) = get(plane.monitoring, "/version").await;
    let numbers = version.split(['.', '-']).take(3).filter(|part| part.parse::<u32>().is_ok()).count();
    assert_eq!((status, numbers), (200, 3), "{version}");
    assert_eq!(get(plane.monitoring, "/debug/syncz").await, (200, "[]".to_owned()), "nobody is connected");
    assert!(get(plane.monitoring, "/metrics").await.1.ends_with("# EOF\n"));
    assert_eq!(get(plane.readiness, "/ready").await, (200, "ready\n".to_owned()));
    for (address, path) in [(plane.monitoring, "/api/v1/tokens"), (plane.readiness, "/metrics")] {
        assert_eq!(get(address, path).await.0, 404, "{path}");
    }
}
