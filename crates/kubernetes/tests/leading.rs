//! What only the leader does: hold the Lease, keep the CA in Secrets, and its roots in every namespace.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{PATIENCE, client};
use mutua_control::source::{Leader, Lease};
use mutua_control::state::{PRIVATE, StateDir};
use mutua_identity::{Ca, TrustDomain};
use mutua_kubernetes::authority::Authority;
use mutua_kubernetes::lease::{LeaseLeader, Times};
use mutua_kubernetes::roots::Roots;
use mutua_testbed::kubernetes::ApiServer;
use serde_json::{Value, json};

const QUICK: Times =
    Times { duration: Duration::from_secs(2), deadline: Duration::from_millis(1500), retry: Duration::from_millis(100) };

async fn leader(server: &ApiServer, holder: &str) -> LeaseLeader {
    LeaseLeader::with(client(server).await, "istio-system", ("lead", holder), QUICK)
}

fn holds(server: &ApiServer) -> String {
    let lease = server.get("leases", "istio-system", "lead").expect("a lease");
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let all = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("{what}: never"));
}

#[tokio::test]
async fn one_leads_and_the_next_when_it_has_stopped_renewing() {
    let server = ApiServer::start().await;
    let mut first = leader(&server, "one").await.lead(|_| panic!("nobody else leads")).await.expect("leads");
    let renewing = tokio::spawn(async move { first.lost().await });
    let second = leader(&server, "two").await;
    let (told, waits) = tokio::sync::oneshot::channel();
    let told = std::sync::Mutex::new(Some(told));
    let second = tokio::spawn(async move {
        let waiting = move |who: &str| {
            let told = told.lock().expect("whole").take().expect("told once");
            told.send(who.to_owned()).expect("is awaited");
        };
        second.lead(waiting).await
    });
    assert_eq!(waits.await.expect("told"), "one");
    tokio::time::sleep(QUICK.duration + Duration::from_secs(1)).await;
    assert!(!second.is_finished() && holds(&server) == "one", "it is renewed");
    renewing.abort();
    tokio::time::timeout(PATIENCE, second).await.expect("in time").expect("no panic").expect("leads now");
    let lease = server.get("leases", "istio-system", "lead").expect("a lease");
    assert_eq!((holds(&server).as_str(), &lease["spec"]["leaseTransitions"]), ("two", &json!(2)));
}

#[tokio::test]
async fn a_lead_that_is_given_up_is_free_at_once_and_one_that_is_taken_is_lost() {
    let server = ApiServer::start().await;
    let one = leader(&server, "one").await;
    let held = one.lead(|_| {}).await.expect("leads");
    drop(held);
    one.release().await;
    let two = leader(&server, "two").await;
    let mut held = tokio::time::timeout(QUICK.duration / 2, two.lead(|_| {})).await.expect("at once").expect("leads");
    one.release().await;
    assert_eq!(holds(&server), "two", "what is not held is not given up");
    let mut lease = server.get("leases", "istio-system", "lead").expect("a lease");
    lease["spec"]["holderIdentity"] = json!("three");
    server.put(&lease);
    let lost = tokio::time::timeout(PATIENCE, held.lost()).await.expect("noticed");
    assert!(lost.source.to_string().contains("three"), "{lost}");
}

#[tokio::test]
async fn a_lead_that_cannot_be_renewed_ends_before_another_may_begin() {
    let server = ApiServer::start().await;
    let mut held = leader(&server, "one").await.lead(|_| {}).await.expect("leads");
    server.refuse("leases", Some(500));
    let lost = tokio::time::timeout(PATIENCE, held.lost()).await.expect("noticed");
    assert!(lost.source.to_string().contains("could not be renewed"), "{lost}");
}

fn state(folder: &Path) -> Arc<StateDir> {
    Arc::new(StateDir::open(folder).expect("a state folder"))
}

fn text(object: &Value, key: &str) -> Vec<u8> {
    use k8s_openapi::ByteString;
    serde_json::from_value::<ByteString>(object["data"][key].clone()).expect("base64").0
}

#[tokio::test]
async fn the_root_outlives_its_pod_in_a_secret_and_a_change_of_it_too() {
    let server = ApiServer::start().await;
    let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let first = state(one.path());
    let authority = Authority::new(client(&server).await, "istio-system", Arc::clone(&first));
    assert_eq!(authority.take().await.expect("readable"), None);
    let ca = Ca::load_or_create(&first.create_dir("ca").expect("made"), &TrustDomain::new("cluster.local").expect("a name"))
        .expect("a CA");
    let keeping = tokio::spawn(authority.keep(false));
    until("the secret", || server.get("secrets", "istio-system", "istio-ca-secret").is_some()).await;
    let secret = server.get("secrets", "istio-system", "istio-ca-secret").expect("is there");
    assert_eq!(secret["type"], "istio.io/ca-root");
    assert_eq!(text(&secret, "ca-cert.pem"), std::fs::read(first.join("ca/ca-cert.pem")).expect("a file"));
    assert!(text(&secret, "root-cert.pem").is_empty());
    first.create_dir("next-ca").expect("made");
    for (file, content) in [("next-ca/ca-key.pem", "key"), ("next-ca/ca-cert.pem", "certificate"), ("ca-rotation.json", "{}")] {
        first.write(file, content.as_bytes(), PRIVATE).expect("written");
    }
    until("the change", || {
        let secret = server.get("secrets", "istio-system", "istio-ca-secret").expect("is there");
        text(&secret, "ca-rotation.json") == b"{}" && text(&secret, "next-ca-key.pem") == b"key"
    })
    .await;
    keeping.abort();

    let second = state(two.path());
    let authority = Authority::new(client(&server).await, "istio-system", Arc::clone(&second));
    assert_eq!(authority.take().await.expect("readable"), None);
    let again = Ca::from_dir(&second.join("ca")).expect("the same CA");
    assert_eq!(again.bundle().to_pem(), ca.bundle().to_pem());
    assert_eq!(second.read("next-ca/ca-cert.pem").expect("readable").as_deref(), Some(&b"certificate"[..]));
    assert_eq!(second.read("ca-rotation.json").expect("readable").as_deref(), Some(&b"{}"[..]));
}

#[tokio::test]
async fn a_secret_that_holds_no_ca_is_never_replaced_by_a_new_root() {
    let server = ApiServer::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    server
        .put(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "istio-ca-secret", "namespace": "istio-system"},
        "data": {"ca-cert.pem": "YQ=="}}));
    let authority = Authority::new(client(&server).await, "istio-system", state(folder.path()));
    let error = authority.take().await.expect_err("no key");
    assert!(error.to_string().contains("istio-ca-secret has no ca-key.pem"), "{error}");
    server.refuse("secrets", Some(403));
    authority.take().await.expect_err("not readable");
}

#[tokio::test]
async fn a_plugged_in_ca_goes_before_and_is_followed() {
    let server = ApiServer::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let secret = |certificate: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cacerts", "namespace": "istio-system"},
            "data": {"ca-cert.pem": certificate, "ca-key.pem": "aw==", "root-cert.pem": "cg==", "other": "eA=="}})
    };
    server.put(&secret("YQ=="));
    let state = state(folder.path());
    let authority = Authority::new(client(&server).await, "istio-system", Arc::clone(&state));
    let plugged = authority.take().await.expect("readable").expect("a folder");
    assert_eq!(std::fs::read(plugged.join("ca-cert.pem")).expect("a file"), b"a");
    assert!(!plugged.join("other").exists());
    let keeping = tokio::spawn(authority.keep(true));
    server.put(&secret("Yg=="));
    until("the change", || std::fs::read(plugged.join("ca-cert.pem")).expect("a file") == b"b").await;
    keeping.abort();
}

#[tokio::test]
async fn every_namespace_has_the_roots_and_those_of_others_are_left_alone() {
    let server = ApiServer::start().await;
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let map = |namespace: &str, roots: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-ca-root-cert", "namespace": namespace},
            "data": {"root-cert.pem": roots}})
    };
    for name in ["shop", "kube-public", "kube-system", "foreign"] {
        server.put(&namespace(name));
    }
    server.put(&map("foreign", "theirs"));
    let folder = tempfile::tempdir().expect("a folder");
    let state = state(folder.path());
    state.write("root-cert.pem", b"ours", PRIVATE).expect("written");
    let keeping = tokio::spawn(Roots::new(client(&server).await, Arc::clone(&state)).keep());
    let roots = |namespace: &str| {
        let map = server.get("configmaps", namespace, "istio-ca-root-cert");
        map.map(|map| map["data"]["root-cert.pem"].as_str().unwrap_or_default().to_owned())
    };
    until("the first", || roots("shop").as_deref() == Some("ours") && roots("kube-system").is_some()).await;
    let written = server.get("configmaps", "shop", "istio-ca-root-cert").expect("is there");
    assert_eq!(written["metadata"]["labels"]["istio.io/config"], "true");

    server.put(&namespace("late"));
    until("a namespace that comes later", || roots("late").is_some()).await;
    server.delete("configmaps", "shop", "istio-ca-root-cert");
    until("one that was deleted", || roots("shop").is_some()).await;
    state.write("root-cert.pem", b"ours and next", PRIVATE).expect("written");
    until("a change of root", || ["shop", "late"].iter().all(|name| roots(name).as_deref() == Some("ours and next"))).await;
    assert_eq!(roots("kube-public"), None);
    assert_eq!(roots("foreign").as_deref(), Some("theirs"));
    keeping.abort();
}
