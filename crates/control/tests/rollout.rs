//! Changes in stages: receivers widen, senders switch, receivers tighten; nobody is waited for without end.

mod common;

use std::time::Duration;

use common::discovery::Client;
use common::{Mesh, PATIENCE, SHOP};
use mutua_identity::Credentials;
use mutua_wire::MeshResource;
use mutua_wire::discovery::DeltaDiscoveryResponse;
use mutua_wire::mesh::{Destination, InboundPolicy, Mode, TrustBundle};

fn policy(mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: default, namespace: shop}}\n\
         spec: {{mtls: {{mode: {mode}}}}}\n"
    )
}

/// A mesh that begins with `mode` in force at both ends.
async fn begun_with(mode: &str, stage_timeout: Duration) -> Mesh {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("config")).expect("made");
    std::fs::write(folder.path().join("config/shop.yaml"), SHOP).expect("written");
    std::fs::write(folder.path().join("config/policy.yaml"), policy(mode)).expect("written");
    let mut settings = common::settings(folder.path());
    settings.stage_timeout = stage_timeout;
    Mesh::over(folder, settings).await.expect("starts")
}

/// A proxy that follows both sides of its policy, and has acknowledged the first state of both.
async fn proxy(mesh: &Mesh, credentials: &Credentials, workload: &str) -> Client {
    let mut client = Client::open(mesh, Some(credentials), workload).await.expect("opens");
    for type_url in [InboundPolicy::TYPE_URL, Destination::TYPE_URL] {
        client.subscribe_all(type_url).await;
        let response = client.next().await.expect("an answer");
        client.ack(&response).await;
    }
    client
}

/// The leaves of `shop/front` and `shop/back`, for a proxy each.
async fn leaves(mesh: &Mesh) -> [Credentials; 2] {
    [mesh.join("shop/front").await, mesh.join("shop/back").await]
}

/// Their proxies, as [`proxy`], once the control plane counts both as current.
async fn proxies(mesh: &Mesh, [front, back]: &[Credentials; 2]) -> [Client; 2] {
    let pair = [proxy(mesh, front, "shop/front").await, proxy(mesh, back, "shop/back").await];
    mesh.until("/api/v1/status", |status| status["proxiesCurrent"] == 2).await;
    pair
}

fn mode(response: &DeltaDiscoveryResponse) -> Mode {
    let any = response.resources.first().and_then(|resource| resource.resource.as_ref()).expect("a resource");
    InboundPolicy::unpack(any).expect("an inbound policy").mode()
}

/// Whether a response switches senders.
fn switches(response: &DeltaDiscoveryResponse) -> bool {
    response.type_url == Destination::TYPE_URL
}

#[tokio::test]
async fn receivers_widen_senders_switch_receivers_tighten() {
    let mesh = begun_with("DISABLE", PATIENCE).await;
    let [mut front, mut back] = proxies(&mesh, &leaves(&mesh).await).await;
    mesh.write("policy.yaml", &policy("STRICT"));

    let (wide_front, wide_back) = (front.next().await.expect("widens"), back.next().await.expect("widens"));
    assert_eq!((mode(&wide_front), mode(&wide_back)), (Mode::Permissive, Mode::Permissive));
    front.ack(&wide_front).await;
    assert!(front.quiet().await, "no sender switches before every receiver has widened");
    let rollouts = mesh.get("/api/v1/rollouts").await;
    assert_eq!((&rollouts[0]["phase"], &rollouts[0]["waitingFor"]), (&"widen".into(), &serde_json::json!(["shop/back"])));

    let front = async {
        let switch = front.next().await.expect("switches");
        assert!(switches(&switch));
        front.ack(&switch).await;
        front
    };
    back.ack(&wide_back).await;
    let mut front = front.await;
    let switch_back = back.next().await.expect("switches");
    assert!(switches(&switch_back));
    assert!(front.quiet().await, "no receiver tightens before every sender has switched");
    back.ack(&switch_back).await;
    for client in [&mut front, &mut back] {
        let tight = client.next().await.expect("tightens");
        assert_eq!(mode(&tight), Mode::Strict);
        client.ack(&tight).await;
    }
    let rollouts = mesh.until("/api/v1/rollouts", |rollouts| !rollouts[0]["enforced"].is_null()).await;
    assert_eq!((&rollouts[0]["phase"], &rollouts[0]["leftBehind"]), (&"complete".into(), &serde_json::json!([])));
    assert!(!mesh.folder.path().join("state/present.json").exists(), "it says nothing of the next change");
    assert_eq!(mesh.get("/api/v1/status").await["proxiesCurrent"], 2);
}

#[tokio::test]
async fn a_proxy_that_does_not_acknowledge_is_named_and_left_behind() {
    let mesh = begun_with("DISABLE", Duration::from_millis(1500)).await;
    let [mut front, mut stuck] = proxies(&mesh, &leaves(&mesh).await).await;
    mesh.write("policy.yaml", &policy("STRICT"));
    let mut seen = Vec::new();
    while seen.last() != Some(&Mode::Strict) {
        let response = front.next().await.expect("goes on");
        if !switches(&response) {
            seen.push(mode(&response));
        }
        front.ack(&response).await;
    }
    assert_eq!(seen, [Mode::Permissive, Mode::Strict]);
    let rollouts = mesh.get("/api/v1/rollouts").await;
    let left = rollouts[0]["leftBehind"].as_array().expect("a list");
    assert!(left.contains(&serde_json::json!({"workload": "shop/back", "phase": "widen"})), "{rollouts}");
    assert!(!left.iter().any(|one| one["workload"] == "shop/front"), "{rollouts}");

    let waits = |rollouts: &serde_json::Value| rollouts[0]["waitingFor"] == serde_json::json!(["shop/back"]);
    let rollouts = mesh.until("/api/v1/rollouts", waits).await;
    assert!(rollouts[0]["enforced"].is_null(), "back accepts still what it did: {rollouts}");
    let mut told = Vec::new();
    while told.last() != Some(&Mode::Strict) {
        let late = stuck.next().await.expect("what it has not acknowledged");
        if !switches(&late) {
            told.push(mode(&late));
        }
        stuck.ack(&late).await;
    }
    mesh.until("/api/v1/rollouts", |rollouts| !rollouts[0]["enforced"].is_null()).await;
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_change_goes_on_where_it_stood() {
    let mesh = begun_with("DISABLE", PATIENCE).await;
    let leaves = leaves(&mesh).await;
    let [mut front, stuck] = proxies(&mesh, &leaves).await;
    mesh.write("policy.yaml", &policy("STRICT"));
    let wide = front.next().await.expect("widens");
    front.ack(&wide).await;
    assert_eq!(mesh.get("/api/v1/status").await["phase"], "widen");
    drop((front, stuck));

    let mesh = mesh.restart_with(|settings| settings.stage_timeout = PATIENCE).await;
    let status = mesh.get("/api/v1/status").await;
    assert_eq!((&status["phase"], &status["generation"]), (&"widen".into(), &2.into()), "{status}");
    let mut front = Client::open(&mesh, Some(&leaves[0]), "shop/front").await.expect("comes back");
    front.subscribe_all(InboundPolicy::TYPE_URL).await;
    let inbound = front.next().await.expect("an answer");
    assert_eq!(mode(&inbound), Mode::Permissive, "what it accepted before the restart it accepts still");
    front.ack(&inbound).await;
    let mut back = proxy(&mesh, &leaves[1], "shop/back").await;
    let switch = back.next().await.expect("the change goes on once both are back");
    assert!(switches(&switch));
    back.ack(&switch).await;
    assert_eq!(mode(&front.next().await.expect("and is completed")), Mode::Strict);
}

#[tokio::test]
async fn in_an_emergency_a_change_is_completed_at_once() {
    let mesh = begun_with("DISABLE", PATIENCE * 10).await;
    let [mut front, _stuck] = proxies(&mesh, &leaves(&mesh).await).await;
    mesh.write("policy.yaml", &policy("STRICT"));
    let wide = front.next().await.expect("widens");
    assert_eq!(mode(&wide), Mode::Permissive);
    front.ack(&wide).await;
    let (status, answer) = mesh.api("POST", "/api/v1/rollouts/complete", "").await;
    assert_eq!((status, &answer[0]["generation"]), (200, &2.into()), "{answer}");
    loop {
        let response = front.next().await.expect("goes on");
        front.ack(&response).await;
        if !switches(&response) {
            assert_eq!(mode(&response), Mode::Strict);
            break;
        }
    }
    mesh.until("/api/v1/status", |status| status["phase"] == "complete").await;

    mesh.write("policy.yaml", &policy("PERMISSIVE"));
    let rollouts = mesh.until("/api/v1/rollouts", |rollouts| rollouts[0]["generation"] == 3).await;
    assert_eq!((&rollouts[1]["phase"], &rollouts[1]["overtaken"]), (&"complete".into(), &true.into()), "{rollouts}");
    assert_eq!(rollouts[1]["waitingFor"], serde_json::json!([]), "nobody enforces it any more");
}

#[tokio::test]
async fn a_change_that_is_taken_back_meanwhile_never_reaches_the_senders() {
    let mesh = begun_with("DISABLE", PATIENCE).await;
    let [mut front, mut back] = proxies(&mesh, &leaves(&mesh).await).await;
    mesh.write("policy.yaml", &policy("STRICT"));
    let (wide_front, wide_back) = (front.next().await.expect("widens"), back.next().await.expect("widens"));
    mesh.write("policy.yaml", &policy("DISABLE"));
    mesh.until("/api/v1/status", |status| status["generation"] == 3).await;
    for (client, wide) in [(&mut front, &wide_front), (&mut back, &wide_back)] {
        client.ack(wide).await;
        let back_again = client.next().await.expect("narrows again");
        assert!(!switches(&back_again), "no sender has heard of it");
        assert_eq!(mode(&back_again), Mode::Disable);
        client.ack(&back_again).await;
    }
    let rollouts = mesh.until("/api/v1/rollouts", |rollouts| !rollouts[0]["enforced"].is_null()).await;
    assert_eq!((&rollouts[0]["generation"], &rollouts[1]["overtaken"]), (&3.into(), &true.into()), "{rollouts}");
}

/// Follows a stream until a receiver's mode is `wanted`; returns the modes on the way and whether senders were switched.
async fn follow(client: &mut Client, wanted: Mode) -> (Vec<Mode>, bool) {
    let (mut seen, mut switched) = (Vec::new(), false);
    while seen.last() != Some(&wanted) {
        let response = client.next().await.expect("goes on");
        if switches(&response) {
            switched = true;
        } else {
            seen.push(mode(&response));
        }
        client.ack(&response).await;
    }
    (seen, switched)
}

#[tokio::test]
async fn a_change_is_taken_back_and_stays_so_until_the_configuration_changes() {
    let mesh = begun_with("DISABLE", PATIENCE).await;
    let leaves = leaves(&mesh).await;
    let [mut front, mut back] = proxies(&mesh, &leaves).await;
    let (status, answer) = mesh.api("POST", "/api/v1/rollouts/abort", "").await;
    assert_eq!(status, 409, "{answer}");
    mesh.write("policy.yaml", &policy("STRICT"));
    let (wide_front, wide_back) = (front.next().await.expect("widens"), back.next().await.expect("widens"));
    front.ack(&wide_front).await;
    let (status, answer) = mesh.api("POST", "/api/v1/rollouts/abort", "").await;
    assert_eq!((status, &answer[0]["generation"], &answer[1]["aborted"]), (200, &3.into(), &true.into()), "{answer}");
    back.ack(&wide_back).await;
    let ((front_seen, front_switched), (back_seen, _)) =
        tokio::join!(follow(&mut front, Mode::Disable), follow(&mut back, Mode::Disable));
    assert_eq!((front_seen, back_seen, front_switched), (vec![Mode::Disable], vec![Mode::Disable], false));
    let taken_back = |status: &serde_json::Value| {
        let why = status["rejected"].as_str().unwrap_or_default();
        (status["phase"] == "complete" && status["generation"] == 3) && why.contains("taken back")
    };
    mesh.until("/api/v1/status", taken_back).await;
    drop((front, back));

    let mesh = mesh.restart_with(|settings| settings.stage_timeout = Duration::from_millis(300)).await;
    assert!(taken_back(&mesh.get("/api/v1/status").await), "a restart does not begin it again");
    mesh.write("policy.yaml", &policy("PERMISSIVE"));
    mesh.until("/api/v1/status", |status| status["generation"] == 4 && status["rejected"].is_null()).await;
    mesh.write("policy.yaml", &policy("STRICT"));
    mesh.until("/api/v1/status", |status| status["generation"] == 5 && status["phase"] == "complete").await;
    let kept = mesh.folder.path().join("state/kept");
    let one = |_: &serde_json::Value| std::fs::read_dir(&kept).expect("a folder").count() == 1;
    mesh.until("/api/v1/status", one).await;
    let mesh = mesh.restart().await;
    let status = mesh.get("/api/v1/status").await;
    assert_eq!(
        (&status["generation"], status["rejected"].is_null()),
        (&5.into(), true),
        "what came back is not given up: {status}"
    );
}

#[tokio::test]
async fn an_abort_that_cannot_be_recorded_changes_nothing_not_even_after_a_restart() {
    let mesh = begun_with("DISABLE", PATIENCE).await;
    let leaves = leaves(&mesh).await;
    let [mut front, mut back] = proxies(&mesh, &leaves).await;
    mesh.write("policy.yaml", &policy("STRICT"));
    let _wide = (front.next().await.expect("widens"), back.next().await.expect("widens"));
    let record = mesh.folder.path().join("state/generation.json");
    let recorded = std::fs::read(&record).expect("recorded");
    std::fs::remove_file(&record).expect("removed");
    std::fs::create_dir(&record).expect("nothing can be recorded now");
    let (status, answer) = mesh.api("POST", "/api/v1/rollouts/abort", "").await;
    assert!(status == 500 && answer.to_string().contains("generation.json"), "{status} {answer}");
    let status = mesh.get("/api/v1/status").await;
    assert_eq!((&status["generation"], &status["phase"]), (&2.into(), &"widen".into()), "{status}");
    std::fs::remove_dir(&record).expect("and now it can");
    std::fs::write(&record, recorded).expect("as before");
    drop((front, back));

    let mesh = mesh.restart_with(|settings| settings.stage_timeout = PATIENCE).await;
    let status = mesh.get("/api/v1/status").await;
    assert_eq!((&status["generation"], &status["phase"]), (&2.into(), &"widen".into()), "{status}");
    assert!(status["rejected"].is_null(), "{status}");
    // Asked again, and recorded, it is done, also for a restart.
    let (status, answer) = mesh.api("POST", "/api/v1/rollouts/abort", "").await;
    assert_eq!((status, &answer[0]["aborted"]), (200, &true.into()), "{answer}");
    let mesh = mesh.restart().await;
    let status = mesh.get("/api/v1/status").await;
    assert_eq!(status["generation"], 3, "{status}");
    assert!(status["rejected"].as_str().is_some_and(|why| why.contains("taken back")), "{status}");
}

#[tokio::test]
async fn an_abort_of_nothing_but_another_trust_is_refused_and_not_remembered() {
    let mesh = begun_with("DISABLE", PATIENCE).await;
    let leaf = mesh.join("shop/front").await;
    let mut front = Client::open(&mesh, Some(&leaf), "shop/front").await.expect("opens");
    front.subscribe_all(TrustBundle::TYPE_URL).await;
    let first = front.next().await.expect("a bundle");
    front.ack(&first).await;
    mesh.until("/api/v1/status", |status| status["proxiesCurrent"] == 1).await;
    assert_eq!(mesh.api("POST", "/api/v1/ca/rotate", "{}").await.0, 200);
    let both = front.next().await.expect("the new root as well");
    assert_eq!(mesh.get("/api/v1/status").await["phase"], "widen");
    let (status, answer) = mesh.api("POST", "/api/v1/rollouts/abort", "").await;
    assert!(status == 409 && answer.to_string().contains("mutua ca rotate --abort"), "{answer}");
    assert!(!mesh.folder.path().join("state/given-up.json").exists());
    front.ack(&both).await;
    mesh.until("/api/v1/status", |status| status["phase"] == "complete" && status["rejected"].is_null()).await;
}

#[tokio::test]
async fn a_restart_amid_overlapping_changes_forgets_none_of_them() {
    let mesh = begun_with("DISABLE", PATIENCE).await;
    let leaves = leaves(&mesh).await;
    let [mut front, mut back] = proxies(&mesh, &leaves).await;
    mesh.write("policy.yaml", &policy("STRICT"));
    for client in [&mut front, &mut back] {
        let wide = client.next().await.expect("widens");
        client.ack(&wide).await;
    }
    assert!(switches(&front.next().await.expect("switches")), "from now on it may send mutual TLS");
    mesh.write("policy.yaml", &policy("DISABLE"));
    mesh.until("/api/v1/status", |status| status["generation"] == 3).await;
    drop((front, back));

    let mesh = mesh.restart_with(|settings| settings.stage_timeout = PATIENCE).await;
    assert_eq!(mesh.get("/api/v1/status").await["phase"], "widen");
    let mut back = Client::open(&mesh, Some(&leaves[1]), "shop/back").await.expect("comes back");
    back.subscribe_all(InboundPolicy::TYPE_URL).await;
    let inbound = back.next().await.expect("an answer");
    assert_eq!(mode(&inbound), Mode::Permissive, "both old and new ask for plaintext, the change between them did not");
}

/// A workload that sorts before the others, with a service.
const NEWCOMER: &str = "\
apiVersion: v1
kind: Service
metadata: {name: new, namespace: aaa}
spec: {clusterIP: 10.96.9.9, selector: {app: new}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: new, namespace: aaa, labels: {app: new}}
spec: {address: 10.9.9.9, labels: {app: new}, serviceAccount: new}
";

#[tokio::test]
async fn a_workload_that_comes_or_goes_leaves_the_others_who_they_are() {
    let mesh = begun_with("PERMISSIVE", PATIENCE).await;
    let [mut front, mut back] = proxies(&mesh, &leaves(&mesh).await).await;
    for comes in [true, false] {
        if comes {
            mesh.write("new.yaml", NEWCOMER);
        } else {
            mesh.remove("new.yaml");
        }
        for client in [&mut front, &mut back] {
            let told = client.next().await.expect("the new service is told, or that it is gone");
            assert!(switches(&told));
            assert_eq!((told.resources.len(), told.removed_resources.len()), if comes { (1, 0) } else { (0, 1) });
            client.ack(&told).await;
        }
        mesh.until("/api/v1/status", |status| status["proxiesCurrent"] == 2 && status["phase"] == "complete").await;
    }
}
