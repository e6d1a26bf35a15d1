//! A change of the mesh's root: stages, who is waited for, restart, abort.

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use common::discovery::Client;
use common::{Mesh, credentials};
use mutua_identity::{Credentials, PrivateKey, TrustBundle};
use mutua_wire::MeshResource;
use mutua_wire::mesh::{self, Anchored, ProxyReport};
use prost::Message;

const PROXY: &str = "shop/front";

fn unix(time: std::time::SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs()).expect("small")
}

/// A proxy by hand: it shows `leaf`, holds its streams, and acknowledges whatever comes.
struct Proxy {
    client: Client,
    reports: tokio::sync::mpsc::Sender<ProxyReport>,
}

impl Proxy {
    async fn connect(mesh: &Mesh, leaf: &Credentials) -> Self {
        let mut client = Client::open(mesh, Some(leaf), PROXY).await.expect("connects");
        client.subscribe_all(mesh::TrustBundle::TYPE_URL).await;
        let reports = mesh.reports(leaf).await;
        let proxy = Self { client, reports };
        proxy.show(leaf).await;
        proxy
    }

    /// Reports the certificate in use.
    async fn show(&self, leaf: &Credentials) {
        self.report(leaf, Vec::new()).await;
    }

    /// Reports the certificate in use, and what connections hang on.
    async fn report(&self, leaf: &Credentials, anchored: Vec<Anchored>) {
        let report = ProxyReport {
            workload: PROXY.to_owned(),
            certificate_serial: leaf.serial().to_owned(),
            certificate_not_before: unix(leaf.not_before()),
            certificate_not_after: unix(leaf.not_after()),
            anchored,
            ..ProxyReport::default()
        };
        self.reports.send(report).await.expect("the stream is open");
    }

    /// Takes the next bundle and acknowledges it.
    async fn bundle(&mut self) -> (TrustBundle, i64) {
        let response = self.client.next().await.expect("a bundle");
        self.client.ack(&response).await;
        let any = response.resources[0].resource.as_ref().expect("a body");
        let bundle = mesh::TrustBundle::decode(any.value.as_slice()).expect("a bundle");
        (TrustBundle::from_pem(&bundle.roots.concat()).expect("roots"), bundle.renew_not_before)
    }
}

async fn renew(mesh: &Mesh, leaf: &Credentials) -> Credentials {
    let key = PrivateKey::generate().expect("a key");
    credentials(&key, &mesh.create(&key, None, Some(leaf)).await.expect("renews"))
}

/// Reports as a sidecar does, until the change of root is over.
async fn over(mesh: &Mesh, proxy: &Proxy, leaf: &Credentials) {
    let told = async {
        loop {
            proxy.show(leaf).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        () = told => {}
        _ = mesh.until("/api/v1/ca", |answer| phase(answer) == "none") => {}
    }
}

fn phase(answer: &serde_json::Value) -> &str {
    answer["rotation"]["phase"].as_str().unwrap_or("none")
}

#[tokio::test]
async fn the_root_changes_in_stages_and_waits_for_the_proxy() {
    let mesh = Mesh::start().await;
    let leaf = mesh.join(PROXY).await;
    let mut proxy = Proxy::connect(&mesh, &leaf).await;
    let (before, _) = proxy.bundle().await;
    mesh.until("/api/v1/proxies", |answer| answer["proxies"].to_string().contains(leaf.serial())).await;
    let (status, answer) = mesh.api("POST", "/api/v1/ca/rotate", "{}").await;
    assert_eq!((status, phase(&answer)), (200, "trust"));
    assert_eq!(answer["rotation"]["waitingFor"][0]["workload"], PROXY, "{answer}");
    assert_eq!(mesh.api("POST", "/api/v1/ca/rotate", "{}").await.0, 409, "one at a time");

    let (both, renew_not_before) = proxy.bundle().await;
    assert_eq!((both.roots_pem().len(), renew_not_before), (2, 0));
    let (_, renew_not_before) = proxy.bundle().await;
    assert!(renew_not_before > 0, "leaves of the old root are to be renewed");
    let answer = mesh.until("/api/v1/ca", |answer| phase(answer) == "reissue").await;
    assert_eq!(answer["roots"].as_array().map(Vec::len), Some(2));
    // NotBefore has whole seconds.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let fresh = renew(&mesh, &leaf).await;
    over(&mesh, &proxy, &fresh).await;
    let (after, renew_not_before) = proxy.bundle().await;
    assert_eq!((after.roots_pem().len(), renew_not_before), (1, 0));
    assert_ne!(after, before);
    assert_eq!(mesh.roots(), after, "who joins now begins with the new root");
    // The old leaf is nobody's any more; the new one is good.
    assert!(mesh.channel(Some(&fresh)).await.is_ok());
    renew(&mesh, &fresh).await;
    let mesh = mesh.restart().await;
    assert_eq!(mesh.roots(), after, "the new root is the mesh's root");
}

#[tokio::test]
async fn the_old_root_stays_while_a_live_connection_was_verified_by_it() {
    let mesh = Mesh::start().await;
    let leaf = mesh.join(PROXY).await;
    let mut proxy = Proxy::connect(&mesh, &leaf).await;
    let (before, _) = proxy.bundle().await;
    let old = before.anchors().first().expect("a root").to_string();
    mesh.until("/api/v1/proxies", |answer| answer["proxies"].to_string().contains(leaf.serial())).await;
    mesh.api("POST", "/api/v1/ca/rotate", "{}").await;
    proxy.bundle().await;
    let (both, _) = proxy.bundle().await;
    let new = both.anchors().into_iter().map(|anchor| anchor.to_string()).find(|anchor| *anchor != old).expect("another");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let fresh = renew(&mesh, &leaf).await;
    let hang = |anchor: &str, connections, until| Anchored { anchor: anchor.to_owned(), connections, until };
    let (later, past) = (unix(leaf.not_after()), unix(leaf.not_before()));
    let named = |answer: &serde_json::Value| answer["rotation"]["waitingFor"].clone();
    // It has a new leaf, and its peers of before are still there.
    for (old_name, text) in [(old.as_str(), "3 live connections were"), ("", "1 live connection was")] {
        let count = if old_name.is_empty() { 1 } else { 3 };
        let told = || async { proxy.report(&fresh, vec![hang(old_name, count, later), hang(&new, 5, later)]).await };
        told().await;
        let is_named = |answer: &serde_json::Value| named(answer)[0]["reason"].to_string().contains(text);
        let waits = mesh.until("/api/v1/ca", is_named).await;
        let reason = format!("{text} verified by the root that goes");
        let waiting = serde_json::json!([
            {"workload": PROXY, "connected": true, "reason": reason, "connections": count, "until": later}
        ]);
        assert_eq!(named(&waits), waiting);
        // Nothing but time passes, and more of it than reports are waited for.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        told().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!((named(&mesh.get("/api/v1/ca").await), mesh.roots().roots_pem().len()), (waiting, 2));
    }
    // A peer whose leaf has ended needs the root no more.
    proxy.report(&fresh, vec![hang(&old, 3, past), hang(&new, 5, later)]).await;
    mesh.until("/api/v1/ca", |answer| phase(answer) == "none").await;
}

#[tokio::test]
async fn reports_from_before_all_leaves_were_renewed_say_nothing() {
    let mesh = Mesh::start().await;
    let leaf = mesh.join(PROXY).await;
    let mut proxy = Proxy::connect(&mesh, &leaf).await;
    proxy.bundle().await;
    mesh.until("/api/v1/proxies", |answer| answer["proxies"].to_string().contains(leaf.serial())).await;
    mesh.api("POST", "/api/v1/ca/rotate", "{}").await;
    proxy.bundle().await;
    proxy.bundle().await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let fresh = renew(&mesh, &leaf).await;
    proxy.show(&fresh).await;
    let silent = "it has not told of its connections yet";
    mesh.until("/api/v1/ca", |answer| answer["rotation"]["waitingFor"][0]["reason"] == silent).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(phase(&mesh.get("/api/v1/ca").await), "reissue");
    over(&mesh, &proxy, &fresh).await;
}

#[tokio::test]
async fn a_proxy_that_is_away_is_waited_for_by_name_over_a_restart() {
    let mesh = Mesh::start().await;
    let leaf = mesh.join(PROXY).await;
    let proxy = Proxy::connect(&mesh, &leaf).await;
    mesh.until("/api/v1/proxies", |answer| answer["proxies"].to_string().contains(leaf.serial())).await;
    drop(proxy);
    mesh.until("/api/v1/proxies", |answer| answer["proxies"].to_string().contains("\"connected\":false")).await;
    mesh.api("POST", "/api/v1/ca/rotate", "{}").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mesh = mesh.restart().await;
    let answer = mesh.get("/api/v1/ca").await;
    assert_eq!(phase(&answer), "trust", "{answer}");
    assert_eq!(answer["rotation"]["waitingFor"][0]["reason"], "it is not connected");
    assert_eq!(mesh.roots().roots_pem().len(), 2);
    let (status, answer) = mesh.api("POST", "/api/v1/ca/abort", "{}").await;
    assert_eq!((status, phase(&answer)), (200, "none"));
    mesh.until("/api/v1/ca", |answer| answer["roots"].as_array().map(Vec::len) == Some(1)).await;
    assert_eq!(mesh.api("POST", "/api/v1/ca/abort", "{}").await.0, 409);
    let names: BTreeMap<String, u64> = std::fs::read_dir(mesh.folder.path().join("state/next-ca"))
        .map(|entries| entries.flatten().map(|entry| (entry.file_name().to_string_lossy().into_owned(), 0)).collect())
        .unwrap_or_default();
    assert!(names.is_empty(), "nothing of the new root remains: {names:?}");
}

#[tokio::test]
async fn taken_back_while_leaves_are_renewed_the_old_root_stays() {
    let mesh = Mesh::start().await;
    let before = mesh.roots();
    let leaf = mesh.join(PROXY).await;
    let mut proxy = Proxy::connect(&mesh, &leaf).await;
    proxy.bundle().await;
    mesh.until("/api/v1/proxies", |answer| answer["proxies"].to_string().contains(leaf.serial())).await;
    mesh.api("POST", "/api/v1/ca/rotate", "{}").await;
    proxy.bundle().await;
    mesh.until("/api/v1/ca", |answer| phase(answer) == "reissue").await;
    proxy.bundle().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (status, answer) = mesh.api("POST", "/api/v1/ca/abort", "{}").await;
    assert_eq!((status, answer["rotation"]["aborted"].as_bool()), (200, Some(true)));
    proxy.bundle().await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let fresh = renew(&mesh, &leaf).await;
    over(&mesh, &proxy, &fresh).await;
    let (after, _) = proxy.bundle().await;
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_root_that_grows_old_is_changed_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("config")).expect("made");
    std::fs::write(folder.path().join("config/shop.yaml"), common::SHOP).expect("written");
    let own = folder.path().join("state/ca");
    std::fs::create_dir_all(&own).expect("made");
    let made = std::time::SystemTime::now() - Duration::from_secs(3650 * 24 * 3600 * 81 / 100);
    let domain = mutua_identity::TrustDomain::new("cluster.local").expect("a domain");
    let old = mutua_identity::Ca::load_or_create_at(&own, &domain, made).expect("made");
    let settings = common::settings(folder.path());
    let mesh = Mesh::over(folder, settings).await.expect("starts");
    let renewed = |answer: &serde_json::Value| phase(answer) == "none" && answer["signer"] != old.signer().serial;
    let answer = mesh.until("/api/v1/ca", renewed).await;
    assert_eq!(answer["roots"].as_array().map(Vec::len), Some(1), "{answer}");
    let mesh = mesh.restart().await;
    assert_eq!(mesh.get("/api/v1/ca").await["signer"], answer["signer"], "once is enough");
}

#[tokio::test]
async fn a_plugged_in_root_is_changed_by_its_files_and_waits_for_the_proxy() {
    let folder = tempfile::tempdir().expect("a folder");
    let domain = mutua_identity::TrustDomain::new("cluster.local").expect("a domain");
    let [old, new] = ["old", "new"].map(|name| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).expect("made");
        mutua_identity::Ca::load_or_create(&path, &domain).expect("made");
        path
    });
    let ca_dir = folder.path().join("plugged");
    std::fs::create_dir(&ca_dir).expect("made");
    let plug = |from: &std::path::Path| {
        for name in ["ca-key.pem", "cert-chain.pem", "root-cert.pem", "ca-cert.pem"] {
            std::fs::copy(from.join(name), ca_dir.join(name)).expect("copied");
        }
    };
    plug(&old);
    let mesh = Mesh::with(|settings| settings.ca_dir = Some(ca_dir.clone())).await;
    let leaf = mesh.join(PROXY).await;
    let mut proxy = Proxy::connect(&mesh, &leaf).await;
    let (before, _) = proxy.bundle().await;
    mesh.until("/api/v1/proxies", |answer| answer["proxies"].to_string().contains(leaf.serial())).await;
    plug(&new);
    let (both, renew_not_before) = proxy.bundle().await;
    assert_eq!((both.roots_pem().len(), renew_not_before), (2, 0), "the old root stays, though the files leave it out");
    mesh.until("/api/v1/ca", |answer| phase(answer) == "reissue").await;
    let (_, renew_not_before) = proxy.bundle().await;
    assert!(renew_not_before > 0);
    let named = "it has not renewed its certificate";
    mesh.until("/api/v1/ca", |answer| answer["rotation"]["waitingFor"][0]["reason"] == named).await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let fresh = renew(&mesh, &leaf).await;
    over(&mesh, &proxy, &fresh).await;
    let (after, _) = proxy.bundle().await;
    assert_eq!(after.roots_pem().len(), 1);
    assert_ne!(after, before);
    let (status, answer) = mesh.api("POST", "/api/v1/ca/rotate", "{}").await;
    assert!(status == 409 && answer.to_string().contains("--ca-dir"), "{answer}");
}
