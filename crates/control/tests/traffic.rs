//! What proxies see pass, from their reports to the API.

mod common;

use common::discovery::Client;
use common::{FRONT, Mesh};
use mutua_wire::MeshResource;
use mutua_wire::mesh::{self, Flow, ProxyReport};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn edge<'a>(answer: &'a Value, from: &str, to: &str) -> &'a Value {
    let edges = answer["edges"].as_array().expect("edges");
    edges.iter().find(|edge| edge["from"] == from && edge["to"] == to).unwrap_or(&Value::Null)
}

fn flow(id: u64, direction: &str, peer: &str, outcome: &str) -> Flow {
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    Flow {
        id,
        direction: direction.to_owned(),
        peer_address: peer.to_owned(),
        port: 8080,
        outcome: outcome.to_owned(),
        opened: 3,
        requests: 7,
        first_seen: now - 5,
        last_seen: now,
        ..Flow::default()
    }
}

#[tokio::test]
async fn the_called_side_counts_and_differences_between_the_ends_are_told() {
    let mesh = Mesh::start().await;
    let mut streams = Vec::new();
    for (workload, flows) in [
        ("shop/front", vec![flow(1, "outbound", "10.1.0.2", "mtls"), flow(2, "outbound", "192.0.2.1", "plaintext")]),
        (
            "shop/back",
            vec![
                flow(1, "inbound", "10.1.0.1", "plaintext"),
                Flow { requests: 0, ..flow(2, "inbound", "192.0.2.9", "plaintext") },
                Flow {
                    reason: "PLAINTEXT_ON_STRICT_PORT".to_owned(),
                    opened: 0,
                    failed: 4,
                    ..flow(3, "inbound", "192.0.2.9", "refused")
                },
            ],
        ),
    ] {
        let leaf = mesh.join(workload).await;
        let mut client = Client::open(&mesh, Some(&leaf), workload).await.expect("connects");
        client.subscribe_all(mesh::TrustBundle::TYPE_URL).await;
        let reports = mesh.reports(&leaf).await;
        let report = ProxyReport { workload: workload.to_owned(), run: 1, flows, ..ProxyReport::default() };
        reports.send(report.clone()).await.expect("the stream is open");
        reports.send(report).await.expect("the stream is open");
        streams.push((client, reports));
    }
    let (front, back) = ("shop/front", "shop/back");
    let both = |answer: &Value| edge(answer, front, back)["reporters"].as_array().is_some_and(|reporters| reporters.len() == 2);
    let answer = mesh.until("/api/v1/traffic?window=5m", both).await;
    let inner = edge(&answer, front, back);
    assert_eq!(
        (&inner["state"], &inner["plaintext"]["connections"], &inner["mtls"]["requests"]),
        (&"plaintext".into(), &3.into(), &0.into())
    );
    assert!(
        inner["disagreement"].as_str().is_some_and(|text| text.contains("caller side's sidecar tells of mutual TLS")),
        "{inner:#}"
    );
    let outside = edge(&answer, front, "192.0.2.1");
    assert_eq!((&outside["state"], &outside["plaintext"]["requests"]), (&"plaintext".into(), &7.into()), "told once");
    let kind = |id: &str| {
        answer["nodes"].as_array().expect("nodes").iter().find(|node| node["id"] == id).expect("a node")["kind"].clone()
    };
    assert_eq!((kind(front), kind("192.0.2.1")), ("workload".into(), "address".into()));

    let (_, text) = mesh.http("GET", "/api/v1/plaintext", "localhost", &[]).await;
    let callers: Value = serde_json::from_str(&text).expect("JSON");
    let callers = callers["callers"].as_array().expect("callers");
    let row = |caller: &str| callers.iter().find(|row| row["caller"] == caller).expect("listed");
    let stranger = row("192.0.2.9");
    assert_eq!(
        (&stranger["connections"], &stranger["refused"], &stranger["callerSidecar"]),
        (&3.into(), &4.into(), &Value::Null)
    );
    assert_eq!((&row(front)["callerSidecar"], &row(front)["requests"], callers.len()), (&true.into(), &7.into(), 2));
    let (status, text) = mesh.http("GET", "/api/v1/traffic?window=soon", "localhost", &[]).await;
    assert!(status == 400 && text.contains("1m to 30d"), "{status} {text}");
}

#[tokio::test]
async fn the_mesh_is_told_as_policy_has_it() {
    let mesh = Mesh::start().await;
    let (_, text) = mesh.http("GET", "/api/v1/mesh", "localhost", &[]).await;
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&answer["mode"], &answer["decidedBy"], &answer["autoMtls"]),
        (&"PERMISSIVE".into(), &"default".into(), &true.into())
    );
    let workload =
        answer["workloads"].as_array().expect("workloads").iter().find(|one| one["workload"] == "shop/front").expect("listed");
    assert_eq!(workload["identity"], FRONT);
    let namespaces = answer["namespaces"].as_array().expect("namespaces");
    let shop = namespaces.iter().find(|one| one["name"] == "shop").expect("listed");
    assert_eq!((&shop["inherited"], &shop["mode"], &shop["withSidecar"]), (&true.into(), &"PERMISSIVE".into(), &2.into()));
}

#[tokio::test]
async fn a_page_is_told_when_to_ask_again_and_does_not_hold_up_a_stop() {
    let mut mesh = Mesh::start().await;
    let mut stream = tokio::net::TcpStream::connect(mesh.api).await.expect("the API answers");
    stream.write_all(b"GET /api/v1/stream HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("asked");
    let mut seen = String::new();
    until(&mut stream, &mut seen, "\"generation\":1,\"phase\":\"complete\"").await;
    mesh.write("strict.yaml", STRICT);
    until(&mut stream, &mut seen, "\"generation\":2").await;
    until(&mut stream, &mut seen, "event: alive").await;
    mesh.shutdown.cancel();
    let stopped = mesh.plane.take().expect("running").wait();
    tokio::time::timeout(std::time::Duration::from_secs(4), stopped)
        .await
        .expect("in less than it waits for streams")
        .expect("stops");
}

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";

async fn until(stream: &mut tokio::net::TcpStream, seen: &mut String, text: &str) {
    let reading = async {
        while !seen.contains(text) {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).await.expect("readable");
            assert!(read > 0, "it ended after {seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    };
    tokio::time::timeout(common::PATIENCE, reading).await.unwrap_or_else(|_| panic!("no {text} in time"));
}
