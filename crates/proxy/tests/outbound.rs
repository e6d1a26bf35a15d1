//! Connections from a workload through both sidecars.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mutua_testbed as common;

use std::net::SocketAddr;

use common::{App, Authority, CLIENT, Running, SERVER, read_exactly, read_to_end, wire};
use mutua_identity::Credentials;
use mutua_proxy::connections::{Direction, Outcome};
use mutua_proxy::reasons::Reason;
use mutua_proxy::telemetry::Refusals;
use mutua_wire::mesh;
use mutua_wire::mesh::{ClientTlsMode, Mode, OutboundPolicy, Protocol};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const SERVICE: &str = "192.0.2.1:80";

/// An application behind a sidecar, and a caller's sidecar.
struct Pair {
    authority: Authority,
    app: App,
    client: Running,
    server: Running,
}

impl Pair {
    async fn new(mode: Mode, protocol: Protocol, tls: mesh::ClientTls) -> Self {
        let authority = Authority::new();
        let credentials = authority.leaf(SERVER);
        Self::with(authority, credentials, App::echo().await, (mode, protocol, tls)).await
    }

    async fn with(
        authority: Authority,
        server_credentials: Credentials,
        app: App,
        (mode, protocol, tls): (Mode, Protocol, mesh::ClientTls),
    ) -> Self {
        let server = Running::start(Direction::Inbound, Some(server_credentials)).await;
        server.wanted.set(app.address);
        server.configure(&authority, &wire::inbound(mode, &[(app.address, protocol)]));
        let client = Running::start(Direction::Outbound, Some(authority.leaf(CLIENT))).await;
        client.wanted.set(SERVICE.parse().unwrap());
        client.configure(&authority, &wire::inbound(Mode::Permissive, &[]));
        client.put("shop/server", &wire::destination(protocol, tls, &[server.address]));
        Self { authority, app, client, server }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.client.address).await.unwrap()
    }

    fn metrics(&self, of: &Running) -> String {
        of.sidecar.metrics.render(&of.sidecar.connections, &Refusals::default(), None)
    }
}

fn mesh_tls(ids: &[&str]) -> mesh::ClientTls {
    wire::tls(ClientTlsMode::TlsIstioMutual, ids)
}

#[tokio::test]
async fn both_ends_tell_the_same_of_mtls() {
    let pair = Pair::new(Mode::Strict, Protocol::Tcp, mesh_tls(&[SERVER])).await;
    let mut stream = pair.connect().await;
    stream.write_all(b"hello").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 5).await, b"hello");
    drop(stream);
    let (client, server) = (pair.client.closed().await, pair.server.closed().await);
    for (record, local, peer) in [(&client, CLIENT, SERVER), (&server, SERVER, CLIENT)] {
        assert_eq!((record.outcome, record.reason), (Some(Outcome::Mtls), None), "{record:#?}");
        assert_eq!((record.local_id.as_deref(), record.peer_id.as_deref()), (Some(local), Some(peer)));
        assert_eq!((record.tls_version, record.group.as_deref()), (Some("TLSv1.3"), Some("X25519MLKEM768")));
        assert_eq!((record.received_bytes, record.sent_bytes), (5, 5));
        assert_eq!(record.service.as_deref(), Some("server.shop.svc.cluster.local"));
    }
    assert_eq!(client.original_destination, SERVICE);
    assert_eq!(client.endpoint, Some(pair.server.address.to_string()));
    let source = pair.metrics(&pair.client);
    let destination = pair.metrics(&pair.server);
    let line = |text: &str, name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let seen = line(&destination, "istio_tcp_connections_opened_total{");
    assert!(seen.ends_with("connection_security_policy=\"mutual_tls\"} 1") && seen.contains(CLIENT), "{seen}");
    let seen = line(&source, "istio_tcp_received_bytes_total{");
    assert!(seen.ends_with("connection_security_policy=\"unknown\"} 5") && seen.contains("reporter=\"source\""), "{seen}");
    assert!(seen.contains("destination_service_name=\"server\"") && seen.contains("destination_workload=\"server\""));
}

#[tokio::test]
async fn a_server_of_another_identity_is_refused_by_the_client() {
    let authority = Authority::new();
    let impostor = authority.leaf("spiffe://cluster.local/ns/shop/sa/impostor");
    let pair = Pair::with(authority, impostor, App::echo().await, (Mode::Strict, Protocol::Tcp, mesh_tls(&[SERVER]))).await;
    let mut stream = pair.connect().await;
    let _ = stream.write_all(b"secret").await;
    assert!(read_to_end(&mut stream).await.is_err());
    let record = pair.client.refused(Reason::PeerIdentityMismatch).await;
    assert_eq!(record.peer_id.as_deref(), Some("spiffe://cluster.local/ns/shop/sa/impostor"));
    assert!(record.message.unwrap().contains(SERVER), "says who was expected");
    pair.server.refused(Reason::PeerRefusedTls).await;
    assert!(pair.app.heard().is_empty());
}

#[tokio::test]
async fn plaintext_to_a_strict_port_is_refused_at_both_ends() {
    let pair = Pair::new(Mode::Strict, Protocol::Auto, wire::tls(ClientTlsMode::TlsDisable, &[])).await;
    let mut stream = pair.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = read_to_end(&mut stream).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    pair.server.refused(Reason::PlaintextOnStrictPort).await;
    pair.client.refused(Reason::PeerClosedBeforeAnswer).await;
    assert!(pair.app.heard().is_empty());
}

#[tokio::test]
async fn a_client_that_the_server_does_not_accept_learns_it() {
    let authority = Authority::new();
    let credentials = authority.leaf(SERVER);
    let pair = Pair::with(authority, credentials, App::echo().await, (Mode::Strict, Protocol::Tcp, mesh_tls(&[SERVER]))).await;
    pair.client.sidecar.world.set_credentials(pair.authority.leaf("spiffe://other.example/ns/shop/sa/client")).unwrap();
    let mut stream = pair.connect().await;
    let _ = stream.write_all(b"hello").await;
    assert!(read_to_end(&mut stream).await.is_err());
    pair.server.refused(Reason::ForeignTrustDomain).await;
    pair.client.refused(Reason::PeerRefusedTls).await;
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_through_mtls() {
    let authority = Authority::new();
    let credentials = authority.leaf(SERVER);
    let app = App::speaking(b"220 ready\r\n").await;
    let pair = Pair::with(authority, credentials, app, (Mode::Strict, Protocol::Tcp, mesh_tls(&[SERVER]))).await;
    let mut stream = pair.connect().await;
    assert_eq!(read_exactly(&mut stream, 11).await, b"220 ready\r\n");
}

#[tokio::test]
async fn protocol_names_are_offered_only_when_they_are_proved() {
    let cases: [(Protocol, &[u8], Option<&str>); 4] = [
        (Protocol::Http, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Some("http/1.1")),
        (Protocol::Http2, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some("h2")),
        (Protocol::Http, b"not http at all\r\n", None),
        (Protocol::Tcp, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", None),
    ];
    for (protocol, bytes, agreed) in cases {
        let pair = Pair::new(Mode::Permissive, protocol, mesh_tls(&[])).await;
        let mut stream = pair.connect().await;
        stream.write_all(bytes).await.unwrap();
        assert_eq!(read_exactly(&mut stream, bytes.len()).await, bytes);
        let record = pair.client.record(|record| record.outcome == Some(Outcome::Mtls)).await;
        assert_eq!(record.alpn.as_deref(), agreed, "{protocol:?}");
    }
}

#[tokio::test]
async fn the_next_endpoint_is_tried_when_one_does_not_answer() {
    let pair = Pair::new(Mode::Strict, Protocol::Tcp, mesh_tls(&[SERVER])).await;
    let dead: Vec<SocketAddr> =
        (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()).collect();
    let endpoints = [dead[0], dead[1], pair.server.address];
    pair.client.put("shop/server", &wire::destination(Protocol::Tcp, mesh_tls(&[SERVER]), &endpoints));
    for _ in 0..6 {
        let mut stream = pair.connect().await;
        stream.write_all(b"x").await.unwrap();
        assert_eq!(read_exactly(&mut stream, 1).await, b"x");
    }
    pair.client.put("shop/server", &wire::destination(Protocol::Tcp, mesh_tls(&[SERVER]), &dead));
    read_to_end(&mut pair.connect().await).await.unwrap_err();
    let record = pair.client.refused(Reason::UpstreamConnectFailed).await;
    assert!(dead.iter().all(|address| record.message.as_ref().unwrap().contains(&address.to_string())));
    pair.client.put("shop/server", &wire::destination(Protocol::Tcp, mesh_tls(&[SERVER]), &[]));
    read_to_end(&mut pair.connect().await).await.unwrap_err();
    pair.client.refused(Reason::NoEndpoint).await;
}

#[tokio::test]
async fn new_connections_go_where_fewer_are_open() {
    let pair = Pair::new(Mode::Strict, Protocol::Tcp, wire::tls(ClientTlsMode::TlsDisable, &[])).await;
    let apps = [App::echo().await, App::echo().await];
    let to = |apps: &[&App]| {
        let addresses: Vec<SocketAddr> = apps.iter().map(|app| app.address).collect();
        wire::destination(Protocol::Tcp, wire::tls(ClientTlsMode::TlsDisable, &[]), &addresses)
    };
    let mut open = Vec::new();
    let mut fill = async |count: usize| {
        for _ in 0..count {
            let mut stream = pair.connect().await;
            stream.write_all(b"x").await.unwrap();
            read_exactly(&mut stream, 1).await;
            open.push(stream);
        }
        [apps[0].heard().len(), apps[1].heard().len()]
    };
    pair.client.put("shop/server", &to(&[&apps[0]]));
    assert_eq!(fill(8).await, [8, 0]);
    pair.client.put("shop/server", &to(&[&apps[0], &apps[1]]));
    assert_eq!(fill(8).await, [8, 8], "all go to the one that was idle");
    assert_eq!(fill(6).await, [11, 11], "then in step");
}

#[tokio::test]
async fn unknown_destinations_pass_unless_the_registry_is_all() {
    let pair = Pair::new(Mode::Strict, Protocol::Tcp, mesh_tls(&[SERVER])).await;
    pair.client.wanted.set(pair.app.address);
    let mut stream = pair.connect().await;
    stream.write_all(b"out").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 3).await, b"out");
    assert!(pair.metrics(&pair.client).contains("destination_service_name=\"PassthroughCluster\""));
    pair.client.put("default", &wire::settings(OutboundPolicy::RegistryOnly));
    read_to_end(&mut pair.connect().await).await.unwrap_err();
    pair.client.refused(Reason::UnknownDestination).await;
    let error = read_to_end(&mut stream).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the open one is drained, then cut");
    pair.client.record(|record| record.reason == Some(Reason::PolicyChanged)).await;
}

#[tokio::test]
async fn what_is_not_complete_is_not_served() {
    let pair = Pair::new(Mode::Strict, Protocol::Tcp, mesh_tls(&[SERVER])).await;
    let late = Running::start(Direction::Outbound, Some(pair.authority.leaf(CLIENT))).await;
    late.wanted.set(pair.app.address);
    late.put("default", &mesh::TrustBundle { roots: pair.authority.roots(), renew_not_before: 0, ..Default::default() });
    late.put("shop/it", &wire::inbound(Mode::Permissive, &[]));
    let mut settings = wire::settings(OutboundPolicy::AllowAny);
    settings.complete_set.insert("type.googleapis.com/mutua.mesh.v1.Destination".to_owned(), 1);
    late.put("default", &settings);
    let mut stream = TcpStream::connect(late.address).await.unwrap();
    stream.write_all(b"early").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(pair.app.heard().is_empty(), "held, although unknown destinations may pass");
    late.put("shop/server", &wire::destination(Protocol::Tcp, mesh_tls(&[SERVER]), &[]));
    assert_eq!(read_exactly(&mut stream, 5).await, b"early");
}

#[tokio::test]
async fn an_unusable_resource_changes_nothing() {
    let pair = Pair::new(Mode::Strict, Protocol::Tcp, mesh_tls(&[SERVER])).await;
    let mut wrong = wire::destination(Protocol::Tcp, mesh_tls(&[SERVER]), &[]);
    wrong.addresses = vec!["not an address".to_owned()];
    let error = pair.client.try_put("shop/server", &wrong).unwrap_err();
    assert_eq!(error.to_string(), "shop/server: \"not an address\" is no address or prefix");
    assert!(
        pair.client
            .try_put(
                "default",
                &mesh::TrustBundle { roots: vec!["nothing".to_owned()], renew_not_before: 0, ..Default::default() }
            )
            .is_err()
    );
    let unset = mesh::InboundPolicy { mode: 0, ..wire::inbound(Mode::Strict, &[]) };
    assert!(pair.client.try_put("shop/it", &unset).is_err(), "a mode that is not set is no mode");
    let mut stream = pair.connect().await;
    stream.write_all(b"x").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 1).await, b"x");
}
