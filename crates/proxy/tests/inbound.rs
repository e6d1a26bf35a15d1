//! Connections to a workload, by mode and by what the caller sends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mutua_testbed as common;

use std::sync::Arc;
use std::time::Duration;

use common::peers::{Secured, connect_from};
use common::{App, Authority, CLIENT, PATIENCE, Running, SERVER, read_exactly, read_to_end, wire};
use mutua_identity::tls::Roots;
use mutua_identity::{ClientConfig, Credentials, Origination, PeerExpectation, Session, TrustDomain};
use mutua_proxy::admin::{Admin, Origin, Pages};
use mutua_proxy::connections::{Direction, Outcome};
use mutua_proxy::reasons::Reason;
use mutua_proxy::settings::Workload;
use mutua_proxy::tls::{Established, handshake};
use mutua_wire::mesh::{Mode, Protocol};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

struct Bench {
    authority: Authority,
    app: App,
    server: Running,
}

impl Bench {
    async fn new(mode: Mode, protocol: Protocol) -> Self {
        Self::over(mode, protocol, App::echo().await).await
    }

    async fn over(mode: Mode, protocol: Protocol, app: App) -> Self {
        let authority = Authority::new();
        let server = Running::start(Direction::Inbound, Some(authority.leaf(SERVER))).await;
        server.wanted.set(app.address);
        server.configure(&authority, &wire::inbound(mode, &[(app.address, protocol)]));
        Self { authority, app, server }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.server.address).await.unwrap()
    }

    fn mesh_client(&self, credentials: &Credentials) -> ClientConfig {
        let trust_domains = vec![TrustDomain::new("cluster.local").unwrap()];
        let peer = PeerExpectation { ids: vec![SERVER.to_owned()], trust_domains };
        ClientConfig::mesh(credentials, self.authority.bundle(), &peer).unwrap()
    }

    fn plain_client(&self) -> ClientConfig {
        let settings = Origination {
            client: None,
            roots: Roots::Pem(self.authority.bundle().to_pem()),
            names: vec![SERVER.to_owned()],
            verify_server_name: false,
            crl: None,
            insecure_skip_verify: false,
            algorithms: mutua_identity::Algorithms::default(),
        };
        ClientConfig::origination(&settings).unwrap()
    }
}

/// Sends `text` through an established session and reads as much back.
async fn echo(stream: &TcpStream, established: Established, text: &[u8]) -> Vec<u8> {
    let Established { mut session, mut partial, mut early } = established;
    let mut out = Vec::new();
    session.write(text, &mut out).unwrap();
    mutua_proxy::tls::write_all(stream, &out).await.unwrap();
    while early.len() < text.len() {
        let read = tokio::time::timeout(PATIENCE, mutua_proxy::tls::read_some(stream, &mut partial)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {} bytes", early.len());
        let used = session.read(&mut partial, &mut early, &mut Vec::new()).unwrap();
        partial.drain(..used);
    }
    early
}

#[tokio::test]
async fn plaintext_on_a_strict_port_reaches_nothing() {
    for protocol in [Protocol::Auto, Protocol::Tcp, Protocol::Http] {
        let bench = Bench::new(Mode::Strict, protocol).await;
        let mut stream = bench.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let error = read_to_end(&mut stream).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let record = bench.server.refused(Reason::PlaintextOnStrictPort).await;
        assert!(record.message.unwrap().contains("STRICT by PeerAuthentication shop/default"));
        assert_eq!(bench.app.heard(), Vec::<Vec<u8>>::new(), "the application was not even connected to");
    }
}

#[tokio::test]
async fn plaintext_passes_where_it_may() {
    for (mode, protocol) in [
        (Mode::Permissive, Protocol::Auto),
        (Mode::Permissive, Protocol::Http),
        (Mode::Disable, Protocol::Tcp),
        (Mode::Disable, Protocol::Http),
    ] {
        let bench = Bench::new(mode, protocol).await;
        let mut stream = bench.connect().await;
        stream.write_all(b"hello").await.unwrap();
        assert_eq!(read_exactly(&mut stream, 5).await, b"hello");
        drop(stream);
        let record = bench.server.closed().await;
        assert_eq!((record.outcome, record.reason), (Some(Outcome::Plaintext), None), "{mode:?} {protocol:?}");
        assert_eq!((record.received_bytes, record.sent_bytes), (5, 5));
    }
}

#[tokio::test]
async fn mesh_mtls_is_ended_here() {
    for (mode, alpn, agreed) in [
        (Mode::Strict, &[b"istio".as_slice()][..], None),
        (Mode::Strict, &[][..], None),
        (Mode::Permissive, &[b"istio".as_slice()][..], None),
        (Mode::Permissive, &[b"istio-http/1.1".as_slice(), b"istio", b"http/1.1"][..], Some("http/1.1")),
        (Mode::Permissive, &[b"istio-h2".as_slice(), b"istio", b"h2"][..], Some("h2")),
    ] {
        let bench = Bench::new(mode, Protocol::Auto).await;
        let stream = bench.connect().await;
        let session = Session::client(&bench.mesh_client(&bench.authority.leaf(CLIENT)), Some("x"), alpn).unwrap();
        let established = handshake(&stream, session, Vec::new()).await.unwrap();
        assert_eq!(established.session.negotiated().unwrap().alpn.as_deref(), agreed);
        assert_eq!(echo(&stream, established, b"secret").await, b"secret");
        assert_eq!(bench.app.heard(), [b"secret"]);
        let record = bench.server.record(|record| record.outcome.is_some()).await;
        assert_eq!(record.outcome, Some(Outcome::Mtls));
        assert_eq!((record.local_id.as_deref(), record.peer_id.as_deref()), (Some(SERVER), Some(CLIENT)));
        assert_eq!(record.tls_version, Some("TLSv1.3"));
    }
}

#[tokio::test]
async fn a_hello_byte_by_byte_is_recognised() {
    let bench = Bench::new(Mode::Permissive, Protocol::Http).await;
    let mut stream = bench.connect().await;
    stream.set_nodelay(true).unwrap();
    let mut session = Session::client(&bench.mesh_client(&bench.authority.leaf(CLIENT)), None, &[b"istio"]).unwrap();
    let mut hello = Vec::new();
    session.start(&mut hello).unwrap();
    for byte in &hello {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let established = handshake(&stream, session, Vec::new()).await.unwrap();
    assert_eq!(echo(&stream, established, b"slow").await, b"slow");
}

#[tokio::test]
async fn a_mesh_caller_that_is_silent_at_first_is_recognised() {
    let bench = Bench::new(Mode::Permissive, Protocol::Auto).await;
    let stream = bench.connect().await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let session = Session::client(&bench.mesh_client(&bench.authority.leaf(CLIENT)), None, &[b"istio"]).unwrap();
    let established = handshake(&stream, session, Vec::new()).await.unwrap();
    assert_eq!(echo(&stream, established, b"late").await, b"late");
    assert_eq!(bench.app.heard(), [b"late"], "one connection to the application, without the hello");
}

#[tokio::test]
async fn foreign_tls_passes_through_or_is_refused() {
    let cases = [
        (Mode::Permissive, Protocol::Tcp, None),
        (Mode::Permissive, Protocol::Auto, None),
        (Mode::Disable, Protocol::Tcp, None),
        (Mode::Permissive, Protocol::Http, Some(Reason::NonMeshTlsOnHttpPort)),
        (Mode::Disable, Protocol::Http, Some(Reason::TlsOnPlaintextHttpPort)),
    ];
    for (mode, protocol, refusal) in cases {
        let bench = Bench::new(mode, protocol).await;
        let mut stream = bench.connect().await;
        let mut session = Session::client(&bench.plain_client(), Some("example.com"), &[b"h2"]).unwrap();
        let mut hello = Vec::new();
        session.start(&mut hello).unwrap();
        stream.write_all(&hello).await.unwrap();
        match refusal {
            None => assert_eq!(read_exactly(&mut stream, hello.len()).await, hello, "untouched, both ways"),
            Some(reason) => {
                read_to_end(&mut stream).await.unwrap_err();
                bench.server.refused(reason).await;
                assert!(bench.app.heard().is_empty());
            }
        }
    }
}

#[tokio::test]
async fn callers_are_refused_for_what_they_show() {
    let bench = Bench::new(Mode::Strict, Protocol::Auto).await;
    let foreign = Authority::new().leaf(CLIENT);
    let elsewhere = bench.authority.leaf("spiffe://other.example/ns/shop/sa/client");
    let cases = [
        (bench.plain_client(), Reason::NoClientCertificate, None),
        (bench.mesh_client(&foreign), Reason::UntrustedCertificate, Some(CLIENT)),
        (bench.mesh_client(&elsewhere), Reason::ForeignTrustDomain, Some("spiffe://other.example/ns/shop/sa/client")),
    ];
    for (config, reason, claimed) in cases {
        let stream = bench.connect().await;
        let session = Session::client(&config, Some("x"), &[b"istio"]).unwrap();
        // In TLS 1.3 the client may be done before the server has refused its certificate.
        let _ = handshake(&stream, session, Vec::new()).await;
        let record = bench.server.refused(reason).await;
        assert_eq!(record.peer_id.as_deref(), claimed);
    }
    assert!(bench.app.heard().is_empty(), "the application was not even connected to");
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard() {
    for mode in [Mode::Permissive, Mode::Disable] {
        for protocol in [Protocol::Auto, Protocol::Tcp, Protocol::Http] {
            let bench = Bench::over(mode, protocol, App::speaking(b"220 ready\r\n").await).await;
            let mut stream = bench.connect().await;
            assert_eq!(read_exactly(&mut stream, 11).await, b"220 ready\r\n", "{mode:?} {protocol:?}");
            stream.write_all(b"EHLO").await.unwrap();
            assert_eq!(read_exactly(&mut stream, 4).await, b"EHLO");
        }
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_is_learned_and_mesh_callers_are_not_greeted_in_clear() {
    let bench = Bench::over(Mode::Permissive, Protocol::Auto, App::speaking(b"220 ready\r\n").await).await;
    let learned = || bench.server.sidecar.greeters.port(bench.app.address.port());
    assert_eq!(learned(), None);
    for _ in 0..3 {
        let mut stream = bench.connect().await;
        assert_eq!(read_exactly(&mut stream, 11).await, b"220 ready\r\n");
    }
    let known = learned().unwrap();
    assert_eq!((known.callers, known.learned_callers), (1, 1));
    assert!(known.learned_wait_ms < known.wait_ms);
    let origin = Origin::Static(Workload { namespace: "shop".to_owned(), name: "it".to_owned() });
    let admin = Admin { sidecar: Arc::clone(&bench.server.sidecar), origin, stopping: CancellationToken::new() };
    let page = |port: u16| {
        let answer = admin.answer(Pages::All, "/policy", &format!("port={port}"));
        serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["serverFirst"].clone()
    };
    assert_eq!(page(bench.app.address.port()), serde_json::json!(known), "it is shown");
    assert!(page(9).is_null());
    let mut stream = bench.connect().await;
    assert_eq!(read_exactly(&mut stream, 11).await, b"220 ready\r\n", "and it is greeted still");
    // Of this caller nothing was learned.
    let secured = connect_from([127, 0, 0, 2].into(), bench.server.address).await.unwrap();
    let client = bench.mesh_client(&bench.authority.leaf(CLIENT));
    let mut secured = Secured::over(secured, &client, None, &[b"istio"]).await.unwrap();
    assert_eq!(secured.receive(11).await.unwrap(), b"220 ready\r\n", "inside TLS");
}

#[tokio::test]
async fn an_application_that_does_not_listen_is_named() {
    let bench = Bench::new(Mode::Permissive, Protocol::Auto).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    bench.server.wanted.set(nobody);
    let mut stream = bench.connect().await;
    stream.write_all(b"x").await.unwrap();
    read_to_end(&mut stream).await.unwrap_err();
    bench.server.refused(Reason::ApplicationUnreachable).await;
}

#[tokio::test]
async fn strict_cuts_open_plaintext_after_the_time_of_draining() {
    let bench = Bench::new(Mode::Permissive, Protocol::Auto).await;
    let (mut plain, secured) = (bench.connect().await, bench.connect().await);
    plain.write_all(b"old").await.unwrap();
    assert_eq!(read_exactly(&mut plain, 3).await, b"old");
    let session = Session::client(&bench.mesh_client(&bench.authority.leaf(CLIENT)), None, &[b"istio"]).unwrap();
    let established = handshake(&secured, session, Vec::new()).await.unwrap();
    bench.server.put("shop/it", &wire::inbound(Mode::Strict, &[(bench.app.address, Protocol::Auto)]));
    let error = read_to_end(&mut plain).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let record = bench.server.record(|record| record.reason == Some(Reason::PolicyChanged)).await;
    assert_eq!(record.outcome, Some(Outcome::Plaintext), "it was served until then");
    assert_eq!(echo(&secured, established, b"stays").await, b"stays");
}

#[tokio::test]
async fn nothing_is_served_before_there_is_a_policy_and_a_certificate() {
    let authority = Authority::new();
    let app = App::echo().await;
    let server = Running::start(Direction::Inbound, None).await;
    server.wanted.set(app.address);
    server.configure(&authority, &wire::inbound(Mode::Permissive, &[]));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"early").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(app.heard().is_empty(), "held");
    server.sidecar.world.set_credentials(authority.leaf(SERVER)).unwrap();
    assert_eq!(read_exactly(&mut stream, 5).await, b"early", "and then served");
}
