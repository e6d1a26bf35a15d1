//! What proxies are sent, over loopback with a client of its own.

mod common;

use std::collections::BTreeMap;

use common::discovery::{Client, names, versions};
use common::{Mesh, SHOP};
use mutua_wire::MeshResource;
use mutua_wire::discovery::{DeltaDiscoveryResponse, Node};
use mutua_wire::mesh::{Compliance, Destination, InboundPolicy, Mode, PeerWorkload, ProxySettings, TrustBundle};
use mutua_wire::node::sidecar_node;
use tonic::Code;

const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: shop}\nspec: {mtls: {mode: STRICT}}\n";

fn only<M: MeshResource>(response: &DeltaDiscoveryResponse) -> M {
    let [resource] = &response.resources[..] else { panic!("one resource: {:?}", names(response)) };
    M::unpack(resource.resource.as_ref().expect("a message")).expect("of this type")
}

#[tokio::test]
async fn a_proxy_gets_its_own_policy_and_what_it_may_call() {
    let mesh = Mesh::start().await;
    let front = mesh.join("shop/front").await;
    let mut client = Client::open(&mesh, Some(&front), "shop/front").await.expect("opens");
    client.subscribe_all(InboundPolicy::TYPE_URL).await;
    let inbound = client.next().await.expect("an answer");
    let policy: InboundPolicy = only(&inbound);
    assert_eq!((names(&inbound), policy.workload.as_str()), (vec!["shop/front"], "shop/front"));
    assert_eq!(policy.mode(), Mode::Permissive);
    let labels = policy.labels.expect("labels");
    assert_eq!((labels.service_account.as_str(), labels.namespace.as_str()), ("front", "shop"));

    client.subscribe_all(Destination::TYPE_URL).await;
    let destinations = client.next().await.expect("an answer");
    assert_eq!(names(&destinations), ["shop/back.shop.svc.cluster.local", "shop/front.shop.svc.cluster.local"]);
    let back = Destination::unpack(destinations.resources[0].resource.as_ref().expect("a message")).expect("a destination");
    assert_eq!((back.addresses.as_slice(), back.ports[0].port), (["10.2.0.2".to_owned()].as_slice(), 9000));
    let endpoint = &back.ports[0].endpoints[0];
    assert_eq!((endpoint.address.as_str(), endpoint.port, endpoint.tls), ("10.1.0.2", 9000, true));
    let tls = back.ports[0].tls.as_ref().expect("auto mTLS");
    assert_eq!(tls.subject_alt_names, ["spiffe://cluster.local/ns/shop/sa/back"]);
    assert_eq!(tls.sni, "outbound_.9000_._.back.shop.svc.cluster.local");

    client.subscribe_all(ProxySettings::TYPE_URL).await;
    let settings: ProxySettings = only(&client.next().await.expect("an answer"));
    assert_eq!((settings.drain_duration_ms, settings.complete_set[Destination::TYPE_URL]), (45_000, 2));
    client.subscribe_all(TrustBundle::TYPE_URL).await;
    let bundle: TrustBundle = only(&client.next().await.expect("an answer"));
    assert_eq!(bundle.roots, mesh.roots().roots_pem());
}

#[tokio::test]
async fn the_compliance_policy_and_tls_defaults_reach_every_proxy() {
    let istio = "apiVersion: sailoperator.io/v1\nkind: Istio\nmetadata: {name: default}\nspec:\n  namespace: istio-system\n  \
                 version: v1.30.0\n  values:\n    meshConfig:\n      tlsDefaults: {cipherSuites: \
                 [ECDHE-RSA-AES256-GCM-SHA384], ecdhCurves: [P-384, P-256]}\n";
    for (name, wanted) in [
        ("pqc", Compliance::Pqc),
        ("fips-140-2", Compliance::Fips1402),
        ("fips-140-3", Compliance::Fips1403),
        ("x", Compliance::None),
    ] {
        let mesh = Mesh::with(|settings| {
            settings.compliance_policy = name.to_owned();
            std::fs::write(settings.config.as_ref().expect("a folder").join("istio.yaml"), istio).expect("written");
        })
        .await;
        let front = mesh.join("shop/front").await;
        let mut client = Client::open(&mesh, Some(&front), "shop/front").await.expect("opens");
        client.subscribe_all(ProxySettings::TYPE_URL).await;
        let settings: ProxySettings = only(&client.next().await.expect("an answer"));
        assert_eq!(settings.compliance(), wanted);
        assert_eq!(settings.default_cipher_suites, ["ECDHE-RSA-AES256-GCM-SHA384"]);
        assert_eq!(settings.default_groups, ["P-384", "P-256"]);
    }
}

#[tokio::test]
async fn peers_are_named_on_demand() {
    let mesh = Mesh::start().await;
    let front = mesh.join("shop/front").await;
    let mut client = Client::open(&mesh, Some(&front), "shop/front").await.expect("opens");
    client.subscribe(PeerWorkload::TYPE_URL, &["10.1.0.2", "192.0.2.9"], BTreeMap::new()).await;
    let response = client.next().await.expect("an answer");
    assert_eq!(names(&response), ["10.1.0.2", "192.0.2.9"]);
    let peer = |at: usize| PeerWorkload::unpack(response.resources[at].resource.as_ref().expect("a message")).expect("a peer");
    assert_eq!(peer(0).labels.expect("known").service_account, "back");
    assert_eq!(peer(1).labels, None, "nobody the mesh knows");
}

#[tokio::test]
async fn only_what_changed_is_sent_and_acknowledgements_are_kept() {
    let mesh = Mesh::start().await;
    let front = mesh.join("shop/front").await;
    let mut client = Client::open(&mesh, Some(&front), "shop/front").await.expect("opens");
    let mut first = Vec::new();
    for type_url in [InboundPolicy::TYPE_URL, Destination::TYPE_URL] {
        client.subscribe_all(type_url).await;
        let response = client.next().await.expect("an answer");
        client.ack(&response).await;
        first.push(response);
    }
    let of_front = |proxies: &serde_json::Value| {
        let all = proxies["proxies"].as_array().expect("a list");
        all.iter().find(|one| one["workload"] == "shop/front").expect("listed").clone()
    };
    let shown = mesh.until("/api/v1/proxies", |proxies| of_front(proxies)["acknowledged"] == 1).await;
    assert_eq!((&of_front(&shown)["connected"], &of_front(&shown)["current"]), (&true.into(), &true.into()));
    assert_eq!(of_front(&shown)["identity"], common::FRONT);

    mesh.write("strict.yaml", STRICT);
    let change = client.next().await.expect("a change");
    assert_eq!((change.type_url.as_str(), change.system_version_info.as_str()), (InboundPolicy::TYPE_URL, "2"));
    assert_eq!(only::<InboundPolicy>(&change).mode(), Mode::Strict);
    let shown = mesh.until("/api/v1/proxies", |proxies| of_front(proxies)["sent"] == 2).await;
    assert_eq!((&of_front(&shown)["acknowledged"], &of_front(&shown)["current"]), (&1.into(), &false.into()));
    client.nack(&change, "no such cipher").await;
    let shown = mesh.until("/api/v1/proxies", |proxies| of_front(proxies)["refused"][0]["error"] == "no such cipher").await;
    assert_eq!(of_front(&shown)["refused"][0]["generation"], 2);
    assert!(client.quiet().await, "what was refused is not sent again");

    mesh.write(
        "more.yaml",
        &STRICT.replace("name: default", "name: more").replace("spec: {", "spec: {selector: {matchLabels: {app: front}}, "),
    );
    mesh.remove("strict.yaml");
    mesh.until("/api/v1/status", |status| status["generation"].as_u64() >= Some(3)).await;
    let next = client.next().await.expect("the next version");
    client.ack(&next).await;
    let shown = mesh.until("/api/v1/proxies", |proxies| of_front(proxies)["current"] == true).await;
    assert_eq!(of_front(&shown)["refused"], serde_json::json!([]));
    drop(client);
    mesh.until("/api/v1/proxies", |proxies| of_front(proxies)["connected"] == false).await;
}

#[tokio::test]
async fn a_proxy_that_reconnects_resumes() {
    let mesh = Mesh::start().await;
    let front = mesh.join("shop/front").await;
    let mut client = Client::open(&mesh, Some(&front), "shop/front").await.expect("opens");
    client.subscribe_all(Destination::TYPE_URL).await;
    let held = versions(&client.next().await.expect("an answer"));
    drop(client);
    let mesh = mesh.restart().await;
    let mut client = Client::open(&mesh, Some(&front), "shop/front").await.expect("the root is the same after a restart");
    client.subscribe(Destination::TYPE_URL, &["*"], held).await;
    let response = client.next().await.expect("an answer");
    assert!(response.resources.is_empty() && response.removed_resources.is_empty(), "{:?}", names(&response));
    assert_eq!(response.system_version_info, "1", "the generation survives a restart over the same folder");
}

#[tokio::test]
async fn nobody_gets_the_configuration_of_others() {
    let mesh = Mesh::start().await;
    let front = mesh.join("shop/front").await;
    let first = async |credentials, node: Node| {
        let mut client = Client::open_as(&mesh, credentials, node).await?;
        client.subscribe_all(Destination::TYPE_URL).await;
        client.next().await
    };
    let refused = first(None, sidecar_node("shop", "front", "", "10.1.0.1", "")).await.expect_err("no certificate");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let refused = first(Some(&front), sidecar_node("shop", "back", "", "10.1.0.1", "")).await.expect_err("another account");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let text = "authorization failed: no identities ([spiffe://cluster.local/ns/shop/sa/front]) matched shop/back";
    assert_eq!(refused.message(), text);
    let refused = first(Some(&front), sidecar_node("other", "front", "", "10.1.0.1", "")).await.expect_err("another namespace");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = first(Some(&front), sidecar_node("shop", "nobody", "", "10.1.0.1", "")).await.expect_err("no such workload");
    assert_eq!(refused.code(), Code::NotFound);
    let refused = first(Some(&front), Node::default()).await.expect_err("no name");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_workload_that_changes_its_account_loses_its_stream() {
    let mesh = Mesh::start().await;
    let front = mesh.join("shop/front").await;
    let mut client = Client::open(&mesh, Some(&front), "shop/front").await.expect("opens");
    client.subscribe_all(InboundPolicy::TYPE_URL).await;
    client.next().await.expect("an answer");
    mesh.write("shop.yaml", &SHOP.replace("serviceAccount: front", "serviceAccount: other"));
    let ended = client.next().await.expect_err("not entitled any more");
    assert_eq!(ended.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_client_that_reads_nothing_holds_up_nobody() {
    let mesh = Mesh::start().await;
    let (front, back) = (mesh.join("shop/front").await, mesh.join("shop/back").await);
    let mut stuck = Client::open(&mesh, Some(&front), "shop/front").await.expect("opens");
    stuck.subscribe_all(InboundPolicy::TYPE_URL).await;
    let mut other = Client::open(&mesh, Some(&back), "shop/back").await.expect("opens");
    other.subscribe_all(InboundPolicy::TYPE_URL).await;
    let response = other.next().await.expect("an answer");
    other.ack(&response).await;
    for (name, mode) in [("a", "STRICT"), ("b", "DISABLE"), ("c", "STRICT")] {
        mesh.write("mode.yaml", &STRICT.replace("STRICT", mode));
        let response = other.next().await.expect("each change comes");
        assert_eq!(only::<InboundPolicy>(&response).mode().as_str_name(), mode, "{name}");
        other.ack(&response).await;
    }
    let first = stuck.next().await.expect("the first response waits still");
    assert_eq!(only::<InboundPolicy>(&first).mode(), Mode::Permissive);
    stuck.ack(&first).await;
    let merged = stuck.next().await.expect("then the newest, without what lay between");
    assert_eq!((only::<InboundPolicy>(&merged).mode(), merged.system_version_info.as_str()), (Mode::Strict, "4"));
}
