//! Joining, renewing, and being refused, over loopback, as a foreign client of Istio's certificate service.

mod common;

use common::{FRONT, Mesh, PATIENCE, credentials};
use mutua_identity::{CertificateInfo, PrivateKey, certificate_request};
use mutua_wire::certificate::IstioCertificateRequest;
use mutua_wire::node::REQUEST_WORKLOAD;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tonic::Code;

fn key() -> PrivateKey {
    PrivateKey::generate().expect("a key")
}

#[tokio::test]
async fn a_token_joins_and_the_certificate_renews() {
    let mesh = Mesh::start().await;
    let (first_key, token) = (key(), mesh.token("shop/front").await);
    let answer = mesh.create(&first_key, Some(&token), None).await.expect("joins");
    assert!(answer.cert_chain.iter().all(|pem| pem.ends_with('\n')), "every element ends with a newline");
    assert_eq!(answer.cert_chain.last().expect("roots"), &mesh.roots().to_pem());
    let first = credentials(&first_key, &answer);
    assert_eq!(first.id().expect("an identity").to_string(), FRONT);
    let life = first.not_after().duration_since(std::time::SystemTime::now()).expect("in the future").as_secs();
    assert!((86_000..=86_400).contains(&life), "24 h by default: {life}");

    let second_key = key();
    let answer = mesh.create(&second_key, None, Some(&first)).await.expect("renews");
    let second = credentials(&second_key, &answer);
    assert_eq!(second.id(), first.id());
    assert_ne!(second.serial(), first.serial());
}

#[tokio::test]
async fn a_token_is_good_once_and_again_for_the_same_key() {
    let mesh = Mesh::start().await;
    let (own, token) = (key(), mesh.token("shop/front").await);
    mesh.create(&own, Some(&token), None).await.expect("joins");
    let again = mesh.create(&own, Some(&token), None).await.expect("the same key is answered again");
    assert_eq!(credentials(&own, &again).id().expect("an identity").to_string(), FRONT);
    let refused = mesh.create(&key(), Some(&token), None).await.expect_err("another key is not");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().starts_with("request authenticate failure"), "{}", refused.message());
    assert!(refused.message().contains("mutua token create shop/front"), "{}", refused.message());
    let mesh = mesh.restart().await;
    let refused = mesh.create(&key(), Some(&token), None).await.expect_err("nor after a restart");
    assert_eq!(refused.code(), Code::Unauthenticated);
    mesh.create(&own, Some(&token), None).await.expect("the same key still is");
}

#[tokio::test]
async fn nobody_joins_without_proof() {
    let mesh = Mesh::start().await;
    for token in [None, Some("mutua_0000"), Some("")] {
        let refused = mesh.create(&key(), token, None).await.expect_err("no proof");
        assert_eq!(refused.code(), Code::Unauthenticated, "{token:?}");
        assert!(refused.message().starts_with("request authenticate failure"), "{}", refused.message());
    }
    let foreign = Mesh::start().await;
    let stranger = foreign.join("shop/front").await;
    mesh.create(&key(), None, Some(&stranger)).await.expect_err("a certificate of another root proves nothing");
}

#[tokio::test]
async fn a_token_for_another_workload_is_refused_and_stays_unused() {
    let mesh = Mesh::start().await;
    let (own, token) = (key(), mesh.token("shop/front").await);
    let asks_for = |workload: &str| IstioCertificateRequest {
        csr: certificate_request(&own).expect("a request"),
        metadata: Some(Struct {
            fields: [(REQUEST_WORKLOAD.to_owned(), Value { kind: Some(Kind::StringValue(workload.to_owned())) })].into(),
        }),
        ..IstioCertificateRequest::default()
    };
    let refused = mesh.create_from(asks_for("shop/back"), Some(&token), None).await.expect_err("for another workload");
    assert!(refused.message().contains("is for shop/front, not for shop/back"), "{}", refused.message());
    mesh.create_from(asks_for("shop/front"), Some(&token), None).await.expect("unused until now");
}

#[tokio::test]
async fn the_control_planes_account_is_never_given_away() {
    let mesh = Mesh::start().await;
    let (status, answer) = mesh.api("POST", "/api/v1/tokens", r#"{"workload":"istio-system/evil"}"#).await;
    assert_eq!(status, 403, "{answer}");
    assert!(answer["error"].as_str().expect("an error").contains("control plane"), "{answer}");

    // A token that was made while the workload ran as another account gives no other identity either.
    let harmless = common::SHOP.replace("serviceAccount: istiod", "serviceAccount: evil");
    mesh.write("shop.yaml", &harmless);
    mesh.until("/api/v1/status", |status| status["generation"] == 2).await;
    let token = mesh.token("istio-system/evil").await;
    mesh.write("shop.yaml", common::SHOP);
    mesh.until("/api/v1/status", |status| status["generation"] == 3).await;
    let refused = mesh.create(&key(), Some(&token), None).await.expect_err("not as the control plane");
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn lives_are_bounded_as_in_istio() {
    let mesh = Mesh::start().await;
    let own = key();
    let request = |validity_duration| IstioCertificateRequest {
        csr: certificate_request(&own).expect("a request"),
        validity_duration,
        metadata: None,
    };
    let joined = mesh.join("shop/front").await;
    let refused = mesh.create_from(request(91 * 86_400), None, Some(&joined)).await.expect_err("over 90 days");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("CSR signing error (requested TTL"), "{}", refused.message());
    assert!(refused.message().contains("is greater than the max allowed TTL"), "{}", refused.message());
    let answer = mesh.create_from(request(3600), None, Some(&joined)).await.expect("an hour");
    let end = CertificateInfo::from_pem(&answer.cert_chain[0]).expect("a certificate").not_after;
    let life = end.duration_since(std::time::SystemTime::now()).expect("in the future").as_secs();
    assert!((3500..=3600).contains(&life), "{life}");
    let garbage = IstioCertificateRequest { csr: "garbage".to_owned(), ..IstioCertificateRequest::default() };
    let refused = mesh.create_from(garbage, None, Some(&joined)).await.expect_err("no request");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("CSR signing error ("), "{}", refused.message());
    let large = IstioCertificateRequest { csr: "x".repeat(20_000), ..IstioCertificateRequest::default() };
    let refused = mesh.create_from(large, None, Some(&joined)).await.expect_err("too large");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_removed_workload_renews_no_more() {
    let mesh = Mesh::start().await;
    let joined = mesh.join("shop/front").await;
    let without = common::SHOP.split_once("---\n").expect("several documents").1;
    mesh.write("shop.yaml", without);
    mesh.until("/api/v1/status", |status| status["generation"] == 2).await;
    let refused = mesh.create(&key(), None, Some(&joined)).await.expect_err("it is gone");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains(FRONT), "{}", refused.message());
}

#[tokio::test]
async fn the_own_certificate_is_renewed_under_the_listener() {
    let mesh = Mesh::with(|settings| settings.leaf_ttl = Some(std::time::Duration::from_secs(4))).await;
    let own = |certificates: &serde_json::Value| {
        let all = certificates["certificates"].as_array().expect("a list");
        all.iter().find(|one| one["kind"] == "control-plane").expect("there")["serial"].clone()
    };
    let first = own(&mesh.get("/api/v1/certificates").await);
    let renewed = mesh.until("/api/v1/certificates", |now| own(now) != first).await;
    assert_ne!(own(&renewed), first);
    let joined = mesh.join("shop/front").await;
    let life = joined.not_after().duration_since(std::time::SystemTime::now()).expect("in the future");
    assert!(life <= std::time::Duration::from_secs(4) && life < PATIENCE);
}
