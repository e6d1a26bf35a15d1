//! Callers that prove their service account by a JWT, over loopback: who gets which certificate, and who is refused why.

mod common;

use common::{FRONT, Mesh, PATIENCE, credentials};
use mutua_identity::{Credentials, PrivateKey, certificate_request};
use mutua_testbed::documents::Documents;
use mutua_testbed::jwt::{ISSUER, TokenKey, claims, key_set};
use mutua_wire::certificate::IstioCertificateRequest;
use mutua_wire::node::REQUEST_WORKLOAD;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use serde_json::json;
use tonic::{Code, Status};

async fn mesh(jwks: &str) -> Mesh {
    Mesh::with(|settings| {
        settings.jwt.jwks = Some(jwks.to_owned());
        settings.jwt.jwt_issuer = Some(ISSUER.to_owned());
        settings.jwt.jwt_audience = vec!["istio-ca".to_owned()];
    })
    .await
}

async fn ask(mesh: &Mesh, token: &str, workload: Option<&str>) -> Result<Credentials, Status> {
    let key = PrivateKey::generate().expect("a key");
    let named = |name: &str| (REQUEST_WORKLOAD.to_owned(), Value { kind: Some(Kind::StringValue(name.to_owned())) });
    let request = IstioCertificateRequest {
        csr: certificate_request(&key).expect("a request"),
        metadata: workload.map(|workload| Struct { fields: [named(workload)].into() }),
        ..IstioCertificateRequest::default()
    };
    mesh.create_from(request, Some(token), None).await.map(|answer| credentials(&key, &answer))
}

#[tokio::test]
async fn a_token_proves_its_account_as_often_as_it_is_shown() {
    let (key, folder) = (TokenKey::new("a"), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, key_set(&[&key])).expect("written");
    let mesh = mesh(&path.display().to_string()).await;
    let token = key.token(&claims("shop", "front"));
    for workload in [None, Some("shop/front"), None] {
        let leaf = ask(&mesh, &token, workload).await.expect("issued");
        assert_eq!(leaf.id().expect("an identity").to_string(), FRONT);
    }
    let leaf = ask(&mesh, &token, None).await.expect("issued");
    let own = PrivateKey::generate().expect("a key");
    let renewed = mesh.create(&own, Some("not.a.token"), Some(&leaf)).await.expect("the certificate comes first");
    assert_eq!(credentials(&own, &renewed).id(), leaf.id());
    let (_, metrics) = mesh.api("GET", "/metrics", "").await;
    let metrics = metrics.as_str().expect("text");
    assert!(metrics.contains("citadel_server_success_cert_issuance_count_total{by=\"jwt\"} 4"), "{metrics}");
    assert!(metrics.contains("mutua_jwks_reads_total{result=\"success\"}"), "{metrics}");
    let joined = mesh.join("shop/back").await;
    assert_eq!(
        joined.id().expect("an identity").to_string(),
        "spiffe://cluster.local/ns/shop/sa/back",
        "join tokens still count"
    );
}

#[tokio::test]
async fn who_proves_nothing_is_refused_with_the_reason_and_without_the_token() {
    let (key, stranger) = (TokenKey::new("a"), TokenKey::new("a"));
    let documents = Documents::start(&key_set(&[&key]), None).await;
    let mesh = mesh(&format!("http://{}/jwks", documents.address)).await;
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = claims("shop", "front");
        claims[name] = value;
        key.token(&claims)
    };
    let good = key.token(&claims("shop", "front"));
    let cases = [
        (with("exp", json!(1)), None, "the token expired"),
        (with("nbf", json!(1e12)), None, "the token counts only in"),
        (with("iss", json!("https://evil.example")), None, "the token is of issuer \"https://evil.example\""),
        (with("aud", json!("vault")), None, "the token is for \"vault\", not for istio-ca"),
        (stranger.token(&claims("shop", "front")), None, "the token's signature does not hold"),
        (TokenKey::new("b").token(&claims("shop", "front")), None, "the key set holds no key \"b\""),
        (good[..good.len() - 9].to_owned(), None, "the token is no signed JWT: its signature cannot be read"),
        (key.token(&claims("istio-system", "istiod")), None, "is the control plane's own service account"),
        (key.token(&claims("shop", "nobody")), None, "no workload of the mesh runs as spiffe://cluster.local/ns/shop/sa/nobody"),
        (key.token(&claims("shop", "front/../back")), None, "is no namespace or service account"),
        (good.clone(), Some("shop/back"), "the token is of service account shop/front, as which no workload \"shop/back\" runs"),
        (good.clone(), Some("x"), "as which no workload \"x\" runs"),
        ("a.b.c".to_owned(), None, "the token is no signed JWT"),
        ("x".repeat(9000), None, "the token is too long"),
    ];
    for (token, workload, reason) in cases {
        let status = ask(&mesh, &token, workload).await.expect_err(reason);
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        assert!(status.message().starts_with("request authenticate failure: ") && status.message().contains(reason), "{status}");
        let told = token.split('.').filter(|part| part.len() > 12).any(|part| status.message().contains(part));
        assert!(!told, "{status}");
    }
    // HTTP/2 itself does not take headers of such a size.
    ask(&mesh, &"x".repeat(1 << 20), None).await.expect_err("a token of a megabyte");
    ask(&mesh, &good, None).await.expect("the one that the others were made of, afterwards");
}

#[tokio::test]
async fn keys_change_under_a_running_mesh_and_may_be_away() {
    let (old, new) = (TokenKey::new("old"), TokenKey::new("new"));
    let documents = Documents::start("", None).await;
    documents.set_answer("HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n");
    let mesh = mesh(&format!("http://{}/jwks", documents.address)).await;
    let by_old = old.token(&claims("shop", "front"));
    let status = ask(&mesh, &by_old, None).await.expect_err("no keys are there");
    assert_eq!(status.code(), Code::Unavailable, "the caller is to come again: {status}");
    assert!(status.message().contains("answers 500"), "{status}");
    documents.set(&key_set(&[&old]));
    // The keeper tries again after a second, and after two.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while let Err(status) = ask(&mesh, &by_old, None).await {
        assert!(status.code() == Code::Unavailable && tokio::time::Instant::now() < deadline, "{status}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    documents.set(&key_set(&[&new]));
    let by_new = new.token(&claims("shop", "back"));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while let Err(status) = ask(&mesh, &by_new, None).await {
        assert!(status.code() == Code::Unauthenticated && tokio::time::Instant::now() < deadline, "{status}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let status = ask(&mesh, &by_old, None).await.expect_err("its key is gone");
    assert!(status.message().contains("holds no key \"old\""), "{status}");
    drop(documents);
    ask(&mesh, &by_new, None).await.expect("by the last good set");
}

#[tokio::test]
async fn without_keys_no_such_token_counts() {
    let mesh = Mesh::start().await;
    let status = ask(&mesh, &TokenKey::new("a").token(&claims("shop", "front")), None).await.expect_err("nobody knows it");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("mutua control-plane --jwks"), "{status}");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("config")).expect("made");
    let mut settings = common::settings(folder.path());
    settings.jwt.jwks = Some("/nowhere/jwks.json".to_owned());
    settings.jwt.jwt_issuer = Some(ISSUER.to_owned());
    let error = Mesh::over(folder, settings).await.err().expect("a file that is not there");
    assert!(error.to_string().starts_with("--jwks: /nowhere/jwks.json: "), "{error}");
}

#[tokio::test]
async fn nobody_acts_for_another_identity_whatever_it_proves() {
    let (key, folder) = (TokenKey::new("a"), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, key_set(&[&key])).expect("written");
    let mesh = mesh(&path.display().to_string()).await;
    let own = PrivateKey::generate().expect("a key");
    let request = |identity: &str| {
        let value = Value { kind: Some(Kind::StringValue(identity.to_owned())) };
        IstioCertificateRequest {
            csr: certificate_request(&own).expect("a request"),
            metadata: Some(Struct { fields: [("ImpersonatedIdentity".to_owned(), value)].into() }),
            ..IstioCertificateRequest::default()
        }
    };
    let token = key.token(&claims("shop", "front"));
    let leaf = ask(&mesh, &token, None).await.expect("issued");
    for credentials in [None, Some(&leaf)] {
        let asked = mesh.create_from(request("spiffe://cluster.local/ns/shop/sa/back"), Some(&token), credentials).await;
        let status = asked.expect_err("refused");
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "request impersonation authentication failure"));
    }
    mesh.create_from(request(""), Some(&token), None).await.expect("an empty name is none");
}
