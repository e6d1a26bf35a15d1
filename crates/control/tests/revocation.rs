//! `ca-crl.pem` of a plugged-in CA: reaches every proxy, ends the streams of who is on it, and is refused when nobody could
//! rely on it.

mod common;

use common::discovery::Client;
use common::{Mesh, credentials};
use mutua_identity::{Credentials, PrivateKey};
use mutua_testbed::Pki;
use mutua_testbed::pki::{ROOT, SIGNER};
use mutua_wire::MeshResource;
use mutua_wire::mesh::TrustBundle;
use tonic::Code;

const DAY: u32 = 86_400;

async fn plugged(pki: &Pki) -> Mesh {
    let folder = pki.dir();
    Mesh::with(|settings| settings.ca_dir = Some(folder)).await
}

fn bundle(response: &mutua_wire::discovery::DeltaDiscoveryResponse) -> TrustBundle {
    TrustBundle::unpack(response.resources[0].resource.as_ref().expect("content")).expect("a bundle")
}

/// A proxy that follows its bundle; returns the first one.
async fn follow(mesh: &Mesh, leaf: &Credentials, workload: &str) -> (Client, TrustBundle) {
    let mut client = Client::open(mesh, Some(leaf), workload).await.expect("opens");
    client.subscribe_all(TrustBundle::TYPE_URL).await;
    let first = client.next().await.expect("a bundle");
    client.ack(&first).await;
    (client, bundle(&first))
}

#[tokio::test]
async fn who_is_revoked_is_left_without_stream_and_renewal() {
    let pki = Pki::new();
    let mesh = plugged(&pki).await;
    let (front, back) = (mesh.join("shop/front").await, mesh.join("shop/back").await);
    let ((mut revoked, first), (mut other, _)) =
        (follow(&mesh, &front, "shop/front").await, follow(&mesh, &back, "shop/back").await);
    assert!(first.revocation_lists.is_empty());
    let open = mesh.channel(Some(&front)).await.expect("connects");

    pki.put("ca-crl.pem", &pki.lists(&[front.serial()]));
    let told = other.next().await.expect("the new bundle");
    assert_eq!(bundle(&told).revocation_lists.len(), 2);
    let ended = revoked.next().await.expect_err("the stream ends");
    assert_eq!((ended.code(), ended.message().contains("is revoked")), (Code::Unauthenticated, true), "{ended}");
    // A connection that was open when the list came is no way around it.
    let csr = mutua_identity::certificate_request(&PrivateKey::generate().expect("a key")).expect("a request");
    let request = mutua_wire::certificate::IstioCertificateRequest { csr, ..Default::default() };
    let mut client = mutua_wire::certificate::istio_certificate_service_client::IstioCertificateServiceClient::new(open);
    let refused = client.create_certificate(request).await.expect_err("no renewal");
    assert_eq!((refused.code(), refused.message().contains("is revoked")), (Code::Unauthenticated, true), "{refused}");
    // A new one fails in the handshake; with a token the workload comes back under a new certificate.
    let revoked_key = PrivateKey::generate().expect("a key");
    assert!(mesh.create(&revoked_key, None, Some(&front)).await.is_err());
    let again = mesh.join("shop/front").await;
    mesh.create(&revoked_key, None, Some(&again)).await.expect("renews");
    let rows = mesh.get("/api/v1/certificates").await;
    let rows = rows["certificates"].as_array().expect("rows");
    let lists: Vec<_> = rows.iter().filter(|row| row["kind"] == "revocation-list").map(|row| row["owner"].clone()).collect();
    assert_eq!(lists.len(), 2, "{rows:#?}");
}

/// How often a configuration or signing CA was refused.
async fn refusals(mesh: &Mesh) -> u64 {
    let (_, text) = mesh.http("GET", "/metrics", "localhost", &[]).await;
    let line = text.lines().find_map(|line| line.strip_prefix("mutua_config_errors_total "));
    line.expect("a counter").parse().expect("a number")
}

#[tokio::test]
async fn a_list_that_nobody_can_rely_on_changes_nothing() {
    let pki = Pki::new();
    pki.put("ca-crl.pem", &pki.lists(&["abcdef01"]));
    let mesh = plugged(&pki).await;
    let back = mesh.join("shop/back").await;
    let (mut client, first) = follow(&mesh, &back, "shop/back").await;
    assert_eq!(first.revocation_lists.len(), 2);
    let suicide = pki.list(ROOT, &[&pki.serial(SIGNER)], DAY) + &pki.list(SIGNER, &[], DAY);
    for bad in ["garbage", &pki.list(SIGNER, &[], DAY), &suicide] {
        let before = refusals(&mesh).await;
        pki.put("ca-crl.pem", bad);
        while refusals(&mesh).await == before {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    assert!(client.quiet().await, "the lists in force stay");
    pki.put("ca-crl.pem", &pki.lists(&["abcdef02"]));
    let told = client.next().await.expect("the next good lists");
    client.ack(&told).await;
    assert_ne!(bundle(&told).revocation_lists, first.revocation_lists);
    std::fs::remove_file(pki.dir().join("ca-crl.pem")).expect("removed");
    assert!(bundle(&client.next().await.expect("without lists")).revocation_lists.is_empty());
}

#[tokio::test]
async fn an_intermediate_is_replaced_and_then_revoked() {
    let pki = Pki::new();
    let mesh = plugged(&pki).await;
    let old = mesh.join("shop/front").await;
    let (mut client, first) = follow(&mesh, &old, "shop/front").await;
    assert_eq!(first.renew_not_before, 0);
    pki.intermediate("next");
    pki.plug("next");
    let told = client.next().await.expect("everybody is asked to renew");
    client.ack(&told).await;
    let from = bundle(&told).renew_not_before;
    let start = |leaf: &Credentials| leaf.not_before().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(from > i64::try_from(start(&old)).expect("small"));
    let key = PrivateKey::generate().expect("a key");
    let new = credentials(&key, &mesh.create(&key, None, Some(&old)).await.expect("renews by the old leaf"));
    assert_eq!(new.info().issuer, "CN=next");
    pki.put("ca-crl.pem", &(pki.list(ROOT, &[&pki.serial(SIGNER)], DAY) + &pki.list("next", &[], DAY)));
    let ended = client.next().await.expect_err("the old leaf's stream ends");
    assert_eq!(ended.code(), Code::Unauthenticated);
    follow(&mesh, &new, "shop/front").await;
    assert!(mesh.create(&key, None, Some(&old)).await.is_err(), "nothing below the old intermediate counts");
}

/// Files that are replaced while no control plane runs are noticed all the same, and asked for until all have followed.
#[tokio::test]
async fn an_intermediate_that_was_replaced_while_stopped_renews_all_leaves() {
    let pki = Pki::new();
    let mesh = plugged(&pki).await;
    let old = mesh.join("shop/front").await;
    assert_eq!(follow(&mesh, &old, "shop/front").await.1.renew_not_before, 0);
    let again = |settings: &mut mutua_control::Settings| settings.ca_dir = Some(pki.dir());
    let mesh = mesh.restart_with(again).await;
    assert_eq!(follow(&mesh, &old, "shop/front").await.1.renew_not_before, 0, "the same signer");
    pki.intermediate("next");
    // Nobody is told of it: the control plane is asked to stop first.
    let mesh = mesh.restart_after(|| pki.plug("next"), again).await;
    let from = follow(&mesh, &old, "shop/front").await.1.renew_not_before;
    let start = old.not_before().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(from > i64::try_from(start).expect("small"), "{from}, the old leaf began at {start}");
    let mesh = mesh.restart_with(again).await;
    assert_eq!(follow(&mesh, &old, "shop/front").await.1.renew_not_before, from, "who was away is asked still");
    let key = PrivateKey::generate().expect("a key");
    let new = credentials(&key, &mesh.create(&key, None, Some(&old)).await.expect("renews by the old leaf"));
    assert_eq!(new.info().issuer, "CN=next");
}
