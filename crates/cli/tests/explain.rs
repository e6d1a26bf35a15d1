//! `mutua explain` as a user or a pipeline starts it, over the documents of the chapter that it is there for.

mod common;

use std::path::Path;
use std::process::Output;

use common::{ControlPlane, mutua, said};
use serde_json::{Value, json};

/// A server in `bar`, clients with and without a sidecar in `foo`, and the API server, which has none.
const MESH: &str = "\
apiVersion: v1
kind: Service
metadata: {name: httpbin, namespace: bar}
spec:
  clusterIP: 10.96.0.5
  selector: {app: httpbin}
  ports: [{name: http, port: 8000, targetPort: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: httpbin, namespace: bar, labels: {app: httpbin, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: httpbin}
status: {podIP: 10.0.0.7}
---
apiVersion: v1
kind: Pod
metadata: {name: sleep, namespace: foo, labels: {app: sleep, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: sleep}
status: {podIP: 10.0.0.8}
---
apiVersion: v1
kind: Pod
metadata: {name: legacy, namespace: foo, labels: {app: legacy}}
status: {podIP: 10.0.0.9}
---
apiVersion: v1
kind: Service
metadata: {name: kubernetes, namespace: default}
spec: {clusterIP: 10.96.0.1, ports: [{name: https, port: 443, targetPort: 6443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
ports: [{name: https, port: 6443}]
endpoints: [{addresses: [192.0.2.1]}]
";

/// STRICT for one namespace.
const NAMESPACE_STRICT: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: default
  namespace: bar
spec:
  mtls:
    mode: STRICT
";

/// STRICT for the whole mesh.
const MESH_STRICT: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: default
  namespace: istio-system
spec:
  mtls:
    mode: STRICT
";

/// mTLS to all hosts of a namespace, for when auto mTLS is off.
const ENABLE_MTLS: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: enable-mtls
  namespace: bar
spec:
  host: \"*.bar.svc.cluster.local\"
  trafficPolicy:
   tls:
    mode: ISTIO_MUTUAL
";

/// The API server has no sidecar.
const API_SERVER: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: api-server
  namespace: istio-system
spec:
  host: kubernetes.default.svc.cluster.local
  trafficPolicy:
    tls:
      mode: DISABLE
";

/// Everything in the mesh is called with mTLS, whether it has a sidecar or not.
const EVERYWHERE: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: default
  namespace: istio-system
spec:
  host: \"*.local\"
  trafficPolicy:
    tls:
      mode: ISTIO_MUTUAL
";

const AUTO_MTLS_OFF: &str = "\
apiVersion: sailoperator.io/v1
kind: Istio
metadata:
  name: default
spec:
  namespace: istio-system
  version: v1.27.0
  values:
    meshConfig:
      enableAutoMtls: false
";

/// A folder with the mesh and these documents, one file each.
fn folder(documents: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [("mesh.yaml", MESH)].iter().chain(documents) {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

fn explain(folder: &Path, arguments: &[&str]) -> Output {
    let path = folder.to_str().expect("UTF-8");
    mutua(&[&["explain", "-f", path], arguments].concat())
}

fn connection(documents: &[(&str, &str)], from: &str, to: &str) -> Value {
    let folder = folder(documents);
    let output = explain(folder.path(), &["--from", from, "--to", to, "-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn outcome(documents: &[(&str, &str)], from: &str, to: &str) -> String {
    connection(documents, from, to)["outcome"].as_str().expect("a word").to_owned()
}

#[test]
fn the_json_is_the_contract() {
    let answer = connection(&[("policies.yaml", NAMESPACE_STRICT)], "foo/sleep", "httpbin.bar:8000");
    assert_eq!(
        answer["client"],
        json!({"sidecar": true, "tls": "ISTIO_MUTUAL", "auto": true,
            "sni": "outbound_.8000_._.httpbin.bar.svc.cluster.local",
            "subjectAltNames": ["spiffe://cluster.local/ns/bar/sa/httpbin"]})
    );
    let endpoint = &answer["endpoints"][0];
    for (field, expected) in [
        ("workload", json!("bar/httpbin")),
        ("address", json!("10.0.0.7")),
        ("port", json!(80)),
        ("sidecar", json!(true)),
        ("serverMode", json!("STRICT")),
        ("connection", json!("mtls")),
    ] {
        assert_eq!(endpoint[field], expected, "{field}");
    }
    assert_eq!(answer["outcome"], "mtls");
    let step =
        answer["trace"].as_array().and_then(|steps| steps.iter().find(|step| step["rule"] == "peer-authentication.namespace"));
    let step = step.expect("the policy that decided");
    assert_eq!((&step["object"], &step["line"]), (&json!("PeerAuthentication bar/default"), &json!(8)));
    assert!(step["file"].as_str().expect("a file").ends_with("policies.yaml"));
}

#[test]
fn the_chapters_namespace_policy() {
    let strict = [("strict.yaml", NAMESPACE_STRICT)];
    assert_eq!(outcome(&[], "foo/legacy", "httpbin.bar:8000"), "plaintext", "PERMISSIVE is the default");
    assert_eq!(outcome(&[], "foo/sleep", "httpbin.bar:8000"), "mtls", "auto mTLS is the default");
    assert_eq!(outcome(&strict, "foo/sleep", "httpbin.bar:8000"), "mtls");
    assert_eq!(outcome(&strict, "foo/legacy", "httpbin.bar:8000"), "refused");
}

#[test]
fn the_chapters_mesh_policy_and_the_api_server() {
    let strict = [("strict.yaml", MESH_STRICT)];
    assert_eq!(outcome(&strict, "foo/legacy", "httpbin.bar:8000"), "refused");
    let to_api = |documents: &[(&str, &str)]| outcome(documents, "foo/sleep", "kubernetes.default:443");
    assert_eq!(to_api(&strict), "plaintext", "auto mTLS sees that it has no sidecar");
    let everywhere = [("strict.yaml", MESH_STRICT), ("all.yaml", EVERYWHERE)];
    assert_eq!(to_api(&everywhere), "refused", "nobody there answers mTLS");
    let except = [("strict.yaml", MESH_STRICT), ("all.yaml", EVERYWHERE), ("api.yaml", API_SERVER)];
    assert_eq!(to_api(&except), "plaintext");
    assert_eq!(outcome(&except, "foo/sleep", "httpbin.bar:8000"), "mtls");
}

#[test]
fn the_chapters_rule_for_when_auto_mtls_is_off() {
    let off = [("istio.yaml", AUTO_MTLS_OFF), ("strict.yaml", NAMESPACE_STRICT)];
    let answer = connection(&off, "foo/sleep", "httpbin.bar:8000");
    assert_eq!((&answer["client"]["tls"], &answer["outcome"]), (&json!("DISABLE"), &json!("refused")));
    assert_eq!(answer["client"]["sni"], Value::Null);
    let with_rule = [off[0], off[1], ("rule.yaml", ENABLE_MTLS)];
    let answer = connection(&with_rule, "foo/sleep", "httpbin.bar:8000");
    assert_eq!((&answer["client"]["tls"], &answer["client"]["auto"]), (&json!("ISTIO_MUTUAL"), &json!(false)));
    assert_eq!(answer["outcome"], "mtls");
}

#[test]
fn a_workload_is_explained_port_by_port() {
    let folder = folder(&[("strict.yaml", NAMESPACE_STRICT)]);
    let output = explain(folder.path(), &["--workload", "bar/httpbin", "-o", "json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&answer["workload"], &answer["mode"]), (&json!("bar/httpbin"), &json!("STRICT")));
    assert_eq!((&answer["ports"], &answer["sidecar"]), (&json!({"80": "STRICT"}), &json!(true)));
}

#[test]
fn exit_codes_tell_an_answer_from_a_wrong_call() {
    let folder = folder(&[("strict.yaml", NAMESPACE_STRICT)]);
    let code = |arguments: &[&str]| explain(folder.path(), arguments).status.code();
    let (from, to) = (["--from", "foo/legacy"], ["--to", "httpbin.bar:8000"]);
    let call = |more: &[&str]| code(&[&from[..], &to[..], more].concat());
    assert_eq!(call(&[]), Some(0), "refused is an answer");
    assert_eq!(call(&["--expect", "refused"]), Some(0));
    assert_eq!(call(&["--expect", "mtls"]), Some(1));
    for wrong in [
        &["--from", "foo/nobody", "--to", "httpbin.bar:8000"][..],
        &["--from", "foo/sleep", "--to", "httpbin.bar:8001"],
        &["--from", "foo/sleep", "--to", "httpbin.bar"],
        &["--from", "foo/sleep"],
        &["--workload", "bar/nobody"],
        &["--workload", "bar/httpbin", "--expect", "mtls"],
        &["--workload", "bar/httpbin", "-f", "/nowhere/at/all.yaml"],
    ] {
        assert_eq!(code(wrong), Some(2), "{wrong:?}");
    }
}

#[test]
fn what_validate_refuses_is_refused_with_the_resources_name() {
    let folder = folder(&[("strict.yaml", &NAMESPACE_STRICT.replace("STRICT", "STRCT"))]);
    let output = explain(folder.path(), &["--workload", "bar/httpbin"]);
    assert_eq!(output.status.code(), Some(2));
    let text = said(&output);
    assert!(text.contains("PeerAuthentication bar/default") && text.contains("strict.yaml:8"), "{text}");
}

#[test]
fn people_read_the_verdict_first_and_the_lines_that_decided() {
    let folder = folder(&[("rule.yaml", ENABLE_MTLS), ("strict.yaml", NAMESPACE_STRICT)]);
    let output = explain(folder.path(), &["--from", "foo/legacy", "--to", "httpbin.bar:8000"]);
    let text = said(&output);
    assert!(
        text.starts_with(
            "foo/legacy → httpbin.bar:8000: refused\nThe connection fails: plaintext to a STRICT port is refused.\n"
        ),
        "{text}"
    );
    assert!(text.contains("PeerAuthentication bar/default: mode STRICT") && text.contains("8 |     mode: STRICT"), "{text}");
}

#[test]
fn assumed_files_are_applied_and_the_change_is_shown() {
    let folder = folder(&[]);
    let assumed = folder.path().join("assumed.txt");
    std::fs::write(&assumed, NAMESPACE_STRICT).expect("written");
    let assumed = assumed.to_str().expect("UTF-8");
    let call = ["--from", "foo/legacy", "--to", "httpbin.bar:8000", "--assume", assumed];
    let text = said(&explain(folder.path(), &call));
    assert!(text.contains("outcome: plaintext → refused"), "{text}");
    let output = explain(folder.path(), &[&call[..], &["-o", "json"]].concat());
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&answer["before"]["outcome"], &answer["outcome"]), (&json!("plaintext"), &json!("refused")));
    let marked = said(&explain(folder.path(), &call));
    let line = marked.lines().find(|line| line.contains(assumed)).expect("its place");
    assert!(line.ends_with("(assumed)"), "{marked}");
    let json = explain(folder.path(), &[&call[..], &["-o", "json"]].concat());
    let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    for step in json["trace"].as_array().expect("a list") {
        assert_eq!(step["assumed"] == true, step["file"] == assumed, "{step}");
    }
    let same = said(&explain(folder.path(), &["--workload", "foo/sleep", "--assume", assumed]));
    assert!(same.contains("changes nothing here"), "{same}");
}

#[test]
fn without_files_the_control_plane_answers_the_same() {
    let plane = ControlPlane::start();
    let state = plane.folder.path().join("state");
    let config = plane.folder.path().join("config");
    let question = ["--from", "shop/front", "--to", "back:80", "-o", "json"];
    let asked = mutua(&[&["explain", "--state", state.to_str().expect("UTF-8")], &question[..]].concat());
    assert_eq!(asked.status.code(), Some(0), "{}", said(&asked));
    let asked: Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    let computed = explain(&config, &question);
    let computed: Value = serde_json::from_slice(&computed.stdout).expect("JSON");
    assert_eq!(asked["outcome"], "mtls");
    assert_eq!((&asked["client"], &asked["endpoints"]), (&computed["client"], &computed["endpoints"]));
}
