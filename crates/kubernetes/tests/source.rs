//! A cluster as a source: what is listed and watched becomes the mesh that a folder of the same objects makes, and the
//! faults of clusters take nothing away from it.

mod common;

use common::{SHOP, Watched, mesh, of_text, pod, shown, strict};
use mutua_control::source::Source;
use mutua_model::{PeerAuthentication, Severity};
use mutua_testbed::kubernetes::ApiServer;
use serde_json::json;

fn modes(mesh: &mutua_model::Mesh) -> Vec<String> {
    let mode = |policy: &std::sync::Arc<PeerAuthentication>| format!("{} {:?}", policy.meta.namespace(), policy.mode);
    mesh.peer_authentications.iter().map(mode).collect()
}

fn lists(server: &ApiServer, plural: &str) -> usize {
    let of_kind = |request: &&String| request.contains(&format!("/{plural}?")) && !request.contains("watch=");
    server.requests().iter().filter(of_kind).count()
}

fn watches(server: &ApiServer, plural: &str) -> usize {
    server.requests().iter().filter(|request| request.contains(&format!("/{plural}?")) && request.contains("watch=")).count()
}

/// Waits until the server has seen so many watches of a kind.
async fn watched(server: &ApiServer, plural: &str, count: usize) {
    let all = async {
        while watches(server, plural) < count {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(common::PATIENCE, all).await.expect("watched in time");
}

#[tokio::test]
async fn a_cluster_is_the_mesh_that_a_folder_of_the_same_objects_is() {
    let server = ApiServer::start().await;
    server.put_yaml(SHOP);
    let mut watched = Watched::over(server).await;
    let first = watched.first().await;
    let (cluster, folder) = (shown(&mesh(&first.reading)), shown(&of_text(SHOP)));
    let differs = cluster.iter().zip(&folder).position(|(one, other)| one != other);
    assert_eq!(differs.map(|at| (&cluster[at], &folder[at])), None);
    assert_eq!(cluster.len(), folder.len());
    assert!(first.rejected.is_none() && first.before.readings.is_empty());
}

#[tokio::test]
async fn long_lists_come_in_pages_and_all_of_them_is_in_the_first_reading() {
    let server = ApiServer::start().await;
    for number in 0..1203_u32 {
        server.put(&pod("shop", &format!("pod-{number:04}"), &format!("10.1.{}.{}", number / 250, number % 250 + 1)));
    }
    let mut watched = Watched::over(server).await;
    let first = watched.first().await;
    assert_eq!(mesh(&first.reading).pods.len(), 1203);
    assert_eq!(lists(&watched.server, "pods"), 3);
}

#[tokio::test]
async fn changes_are_read_and_what_says_nothing_about_the_mesh_is_no_change() {
    let server = ApiServer::start().await;
    server.put_yaml(SHOP);
    let mut watched = Watched::over(server).await;
    let first = watched.first().await.reading;
    let mut noisy = pod("shop", "back", "10.0.0.2");
    noisy["spec"]["containers"] = json!([{"name": "app", "ports": [{"containerPort": 8080}]}, {"name": "istio-proxy"}]);
    noisy["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
    watched.server.put(&noisy);
    watched.server.put(&strict("shop", "PERMISSIVE"));
    let second = watched.next().await;
    assert!(
        modes(&mesh(&second)).iter().any(|mode| mode.contains("shop") && mode.contains("Permissive")),
        "{:?}",
        modes(&mesh(&second))
    );
    assert_ne!(second.content, first.content);
    assert_eq!(second.digest.split_once('.').expect("two parts").1, first.digest.split_once('.').expect("two parts").1);
    watched.server.delete("peerauthentications", "shop", "default");
    watched.until(|mesh| mesh.peer_authentications.len() == 1).await;
    watched.server.put(&strict("shop", "STRICT"));
    assert_eq!(watched.until(|mesh| mesh.peer_authentications.len() == 2).await.digest, first.digest);
}

#[tokio::test]
async fn nothing_is_read_before_every_kind_is_listed() {
    let server = ApiServer::start().await;
    server.put_yaml(SHOP);
    server.refuse("peerauthentications", Some(403));
    let mut watched = Watched::over(server).await;
    let early = tokio::time::timeout(std::time::Duration::from_millis(1500), watched.source.first()).await;
    assert!(early.is_err(), "a policy may be missing");
    watched.server.refuse("peerauthentications", None);
    assert_eq!(mesh(&watched.first().await.reading).peer_authentications.len(), 2);
}

#[tokio::test]
async fn a_watch_that_ends_is_resumed_where_it_was() {
    let server = ApiServer::start().await;
    server.put_yaml(SHOP);
    let mut watched = Watched::over(server).await;
    watched.first().await;
    self::watched(&watched.server, "pods", 1).await;
    watched.server.cut();
    watched.server.put(&pod("shop", "late", "10.0.0.9"));
    watched.until(|mesh| mesh.pods.len() == 3).await;
    assert_eq!(lists(&watched.server, "pods"), 1);
    assert!(watches(&watched.server, "pods") > 1);
}

#[tokio::test]
async fn after_a_compaction_the_list_is_read_again_unless_a_bookmark_came_before() {
    let server = ApiServer::start().await;
    server.put_yaml(SHOP);
    let mut watched = Watched::over(server).await;
    watched.first().await;
    self::watched(&watched.server, "pods", 1).await;
    // Others change, so that what the watch of pods has seen grows old.
    watched.server.put(&strict("shop", "DISABLE"));
    watched.next().await;
    watched.server.bookmark();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    watched.server.compact();
    watched.server.cut();
    watched.server.put(&pod("shop", "late", "10.0.0.9"));
    watched.until(|mesh| mesh.pods.len() == 3).await;
    assert_eq!(lists(&watched.server, "pods"), 1, "the bookmark was new enough");

    watched.server.put(&strict("shop", "STRICT"));
    watched.next().await;
    watched.server.delete("pods", "shop", "late");
    watched.server.compact();
    watched.server.cut();
    watched.until(|mesh| mesh.pods.len() == 2).await;
    watched.server.put(&pod("shop", "later", "10.0.0.10"));
    watched.until(|mesh| mesh.pods.len() == 3).await;
}

#[tokio::test]
async fn kinds_that_are_not_installed_are_found_once_they_are() {
    let server = ApiServer::start().await;
    server.put_yaml(SHOP);
    for plural in ["peerauthentications", "istios", "sidecars"] {
        server.uninstall(plural);
    }
    let mut watched = Watched::over(server).await;
    assert_eq!(mesh(&watched.first().await.reading).peer_authentications.len(), 0);
    watched.server.install("peerauthentications");
    watched.until(|mesh| mesh.peer_authentications.len() == 2).await;
}

#[tokio::test]
async fn a_kind_that_vanishes_is_missed_twice_before_its_policies_count_as_gone() {
    let server = ApiServer::start().await;
    server.put_yaml(SHOP);
    let mut watched = Watched::over(server).await;
    watched.first().await;
    self::watched(&watched.server, "peerauthentications", 1).await;
    watched.server.uninstall("peerauthentications");
    self::watched(&watched.server, "peerauthentications", 2).await;
    watched.server.put(&pod("shop", "late", "10.0.0.9"));
    let reading = watched.until(|mesh| mesh.pods.len() == 3).await;
    assert_eq!(mesh(&reading).peer_authentications.len(), 2, "the server may not know the kind yet");
    watched.until(|mesh| mesh.peer_authentications.is_empty()).await;
    watched.server.install("peerauthentications");
    watched.until(|mesh| mesh.peer_authentications.len() == 2).await;
}

#[tokio::test]
async fn of_an_object_that_becomes_invalid_the_last_good_form_stays_in_force_over_a_restart() {
    let server = ApiServer::start().await;
    server.put_yaml(SHOP);
    let mut watched = Watched::over(server).await;
    let first = watched.first().await.reading;
    watched.put_into_force(&first);
    watched.server.put(&strict("shop", "HARD"));
    watched.server.put(&pod("shop", "late", "10.0.0.9"));
    let second = watched.until(|mesh| mesh.pods.len() == 3).await;
    assert_eq!(modes(&mesh(&second)), modes(&mesh(&first)), "what others change goes on, and the policy stays");
    let told: Vec<_> = second.warnings.iter().filter(|found| found.severity == Severity::Error).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].place.to_string(), "PeerAuthentication shop/default");

    let mut again = watched.restart().await;
    assert_eq!(modes(&mesh(&again.first().await.reading)), modes(&mesh(&first)));
    again.server.put(&strict("shop", "DISABLE"));
    again.until(|mesh| modes(mesh).iter().any(|mode| mode.contains("Disable"))).await;
}

#[tokio::test]
async fn what_is_given_up_stays_away_while_pods_come_and_go() {
    let server = ApiServer::start().await;
    server.put_yaml(SHOP);
    let mut watched = Watched::over(server).await;
    let first = watched.first().await.reading;
    watched.put_into_force(&first);
    watched.server.put(&strict("shop", "DISABLE"));
    let second = watched.next().await;
    watched.source.keep(&second);
    let back = watched.source.give_up(&first.content).expect("is kept");
    assert_eq!((&back.content, modes(&mesh(&back))), (&first.content, modes(&mesh(&first))));
    watched.server.put(&pod("shop", "late", "10.0.0.9"));
    let third = watched.until(|mesh| mesh.pods.len() == 3).await;
    assert_eq!(modes(&mesh(&third)), modes(&mesh(&first)));

    let mut again = watched.restart().await;
    let restarted = again.first().await;
    assert!(restarted.rejected.is_some());
    assert_eq!(modes(&mesh(&restarted.reading)), modes(&mesh(&first)));
    again.server.put(&strict("shop", "PERMISSIVE"));
    again.until(|mesh| modes(mesh).iter().any(|mode| mode.contains("Permissive"))).await;
}
