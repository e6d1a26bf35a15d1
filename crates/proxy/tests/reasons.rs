//! Every reason for which a connection is refused or cut, provoked on the wire: it leaves exactly one record, one line and
//! one count at each end, and no other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mutua_identity::Credentials;
use mutua_proxy::access_log::{AccessLogSettings, AccessLogger};
use mutua_proxy::capture::Capture;
use mutua_proxy::connections::Direction;
use mutua_proxy::limits::{Gate, Limits};
use mutua_proxy::reasons::Reason;
use mutua_proxy::settings::AccessLog;
use mutua_proxy::sidecar::Sidecar;
use mutua_testbed::hello::{Hello, X25519MLKEM768};
use mutua_testbed::pki::SIGNER;
use mutua_testbed::plane::until;
use mutua_testbed::{App, Authority, CLIENT, PATIENCE, Pki, Running, SERVER, wire};
use mutua_wire::mesh::{self, ClientTlsMode, Mode, OutboundPolicy, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SERVICE: &str = "192.0.2.1:80";
/// What only a case below can make of bytes: a request that is read whole by nobody.
const BYTES: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// A sidecar whose access log is looked at.
struct End {
    running: Running,
    lines: Lines,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl End {
    async fn start(direction: Direction, leaf: Credentials, change: impl FnOnce(&mut Sidecar)) -> Self {
        let lines = Lines::default();
        let log = AccessLogger::to(&AccessLogSettings::of(AccessLog::Refused), lines.clone()).unwrap();
        let running = Running::with(direction, Some(leaf), |sidecar| {
            sidecar.log = log;
            change(sidecar);
        });
        Self { running: running.await, lines }
    }

    /// A caller's sidecar, for which [`SERVICE`] is at `endpoints`.
    async fn client(authority: &Authority, tls: mesh::ClientTls, protocol: Protocol, endpoints: &[SocketAddr]) -> Self {
        let end = Self::start(Direction::Outbound, authority.leaf(CLIENT), |_| {}).await;
        end.running.wanted.set(SERVICE.parse().unwrap());
        end.running.configure(authority, &wire::inbound(Mode::Permissive, &[]));
        end.running.put("shop/server", &wire::destination(protocol, tls, endpoints));
        end
    }

    /// The sidecar in front of an application.
    async fn server(authority: &Authority, mode: Mode, protocol: Protocol, application: SocketAddr) -> Self {
        let end = Self::start(Direction::Inbound, authority.leaf(SERVER), |_| {}).await;
        end.running.wanted.set(application);
        end.running.configure(authority, &wire::inbound(mode, &[(application, protocol)]));
        end
    }

    /// Sends bytes from a caller and waits for the end of the connection.
    async fn call(&self, bytes: &[u8]) {
        let mut stream = TcpStream::connect(self.running.address).await.unwrap();
        // Whoever is refused may be reset while it writes or reads.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
        let _ = read.await.expect("the connection ends");
    }

    /// One connection ended, for `reason` (`None`: in order), and everything says so once.
    async fn left_one(&self, reason: Option<Reason>) {
        let connections = &self.running.sidecar.connections;
        until("the only record", || connections.count() == 0 && connections.records().len() == 1).await;
        self.left_of_many(1, reason);
    }

    /// As [`End::left_one`], of `count` connections of which one ended so.
    fn left_of_many(&self, count: usize, reason: Option<Reason>) {
        let sidecar = &self.running.sidecar;
        let records = sidecar.connections.records();
        assert_eq!(records.len(), count, "{records:#?}");
        let told: Vec<Reason> = records.iter().filter_map(|record| record.reason).collect();
        let expected: Vec<Reason> = reason.into_iter().collect();
        assert_eq!(told, expected, "{records:#?}");
        let counted: Vec<(Reason, u64)> =
            sidecar.refusals.totals().iter().map(|((_, reason), count)| (*reason, *count)).collect();
        assert_eq!(counted, expected.iter().map(|reason| (*reason, 1)).collect::<Vec<_>>());
        sidecar.log.finish(PATIENCE);
        let lines = String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap();
        let logged: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            logged.iter().map(|line| line["reason"].clone()).collect::<Vec<_>>(),
            expected.iter().map(|reason| reason.code()).collect::<Vec<_>>()
        );
        assert!(logged.iter().all(|line| line["message"].as_str().is_some_and(|message| !message.is_empty())), "{lines}");
    }
}

fn mtls() -> mesh::ClientTls {
    wire::tls(ClientTlsMode::TlsIstioMutual, &[SERVER])
}

fn plaintext() -> mesh::ClientTls {
    wire::tls(ClientTlsMode::TlsDisable, &[])
}

fn simple() -> mesh::ClientTls {
    mesh::ClientTls { sni: "a.example".to_owned(), insecure_skip_verify: true, ..wire::tls(ClientTlsMode::TlsSimple, &[]) }
}

/// Both ends of a call through both sidecars, and why it ended for each.
async fn both_ends() -> Vec<Reason> {
    type Change = fn(&Authority, &End, &End);
    let nothing: Change = |_, _, _| {};
    let untrusted: Change = |authority, client, server| {
        let other = Authority::new();
        client.running.sidecar.world.set_credentials(other.leaf(CLIENT)).unwrap();
        let _ = (authority, server);
    };
    let nameless: Change =
        |authority, client, _| client.running.sidecar.world.set_credentials(authority.nameless_leaf()).unwrap();
    let foreign: Change = |authority, client, _| {
        client.running.sidecar.world.set_credentials(authority.leaf("spiffe://other.example/ns/shop/sa/client")).unwrap();
    };
    let impostor: Change = |authority, _, server| {
        server.running.sidecar.world.set_credentials(authority.leaf("spiffe://cluster.local/ns/shop/sa/impostor")).unwrap();
    };
    let expired: Change = |authority, client, _| {
        let leaf = authority.leaf_for(CLIENT, Duration::from_secs(1));
        let not_after = leaf.not_after();
        client.running.sidecar.world.set_credentials(leaf).unwrap();
        while std::time::SystemTime::now() <= not_after + Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let cases = [
        (plaintext(), Mode::Strict, Protocol::Tcp, nothing, Reason::PeerClosedBeforeAnswer, Reason::PlaintextOnStrictPort),
        (simple(), Mode::Permissive, Protocol::Http, nothing, Reason::PeerClosedInHandshake, Reason::NonMeshTlsOnHttpPort),
        (simple(), Mode::Disable, Protocol::Http, nothing, Reason::PeerClosedInHandshake, Reason::TlsOnPlaintextHttpPort),
        (simple(), Mode::Strict, Protocol::Tcp, nothing, Reason::PeerRefusedTls, Reason::NoClientCertificate),
        (mtls(), Mode::Strict, Protocol::Tcp, untrusted, Reason::PeerRefusedTls, Reason::UntrustedCertificate),
        (mtls(), Mode::Strict, Protocol::Tcp, expired, Reason::PeerRefusedTls, Reason::CertificateExpired),
        (mtls(), Mode::Strict, Protocol::Tcp, nameless, Reason::PeerRefusedTls, Reason::CertificateWithoutIdentity),
        (mtls(), Mode::Strict, Protocol::Tcp, foreign, Reason::PeerRefusedTls, Reason::ForeignTrustDomain),
        (mtls(), Mode::Strict, Protocol::Tcp, impostor, Reason::PeerIdentityMismatch, Reason::PeerRefusedTls),
    ];
    let mut seen = Vec::new();
    for (tls, mode, protocol, change, at_client, at_server) in cases {
        let authority = Authority::new();
        let app = App::echo().await;
        let server = End::server(&authority, mode, protocol, app.address).await;
        let client = End::client(&authority, tls, protocol, &[server.running.address]).await;
        change(&authority, &client, &server);
        refused_at_both((&client, at_client), (&server, at_server), &app).await;
        seen.extend([at_client, at_server]);
    }
    seen
}

/// A call leaves one record at each end, each with its reason, and reaches nobody.
async fn refused_at_both(client: (&End, Reason), server: (&End, Reason), app: &App) {
    client.0.call(BYTES).await;
    client.0.left_one(Some(client.1)).await;
    server.0.left_one(Some(server.1)).await;
    assert!(app.heard().is_empty(), "{}: nothing reached the application", server.1);
}

/// The caller is on its CA's list, and a list that has ended.
async fn revocation() -> Vec<Reason> {
    let pki = Pki::new();
    let authority = Authority::plugged(&pki.dir());
    let mut seen = Vec::new();
    for (ended, at_client, at_server) in [
        (false, Reason::CertificateRevoked, Reason::CertificateRevoked),
        (true, Reason::PeerRefusedTls, Reason::RevocationListUnusable),
    ] {
        let app = App::echo().await;
        let server = End::server(&authority, Mode::Strict, Protocol::Tcp, app.address).await;
        let client = End::client(&authority, mtls(), Protocol::Tcp, &[server.running.address]).await;
        let leaf = authority.leaf(CLIENT);
        let lists = if ended { pki.list(SIGNER, &[], 1) } else { pki.lists(&[leaf.serial()]) };
        client.running.sidecar.world.set_credentials(leaf).unwrap();
        if ended {
            tokio::time::sleep(Duration::from_millis(2100)).await;
        }
        server.running.put("default", &mesh::TrustBundle { revocation_lists: vec![lists], ..authority.trust() });
        refused_at_both((&client, at_client), (&server, at_server), &app).await;
        seen.extend([at_client, at_server]);
    }
    seen
}

/// What a caller without sidecar sends, and why it is refused.
async fn strangers() -> Vec<Reason> {
    let hello = Hello::default();
    let whole = hello.records(1 << 14);
    let old = Hello { versions: None, suites: vec![0xc02b], ..hello.clone() };
    let alien = Hello { suites: vec![0x1304], ..hello.clone() };
    let mut huge = hello.message();
    huge.resize(70_000, 0);
    let length = u32::try_from(huge.len() - 4).unwrap().to_be_bytes();
    huge[1..4].copy_from_slice(&length[1..]);
    let filler = Hello { more: vec![(0x7a7a, vec![0; 12_000])], ..hello.clone() };
    let mut cases = vec![
        (old.records(1 << 14), Reason::TlsVersionTooLow),
        (alien.records(1 << 14), Reason::NoCommonCryptography),
        (broken_hello(), Reason::TlsProtocolError),
        (mutua_testbed::hello::records(&huge, 1 << 14), Reason::ClientHelloTooLarge),
        (filler.records(1 << 14), Reason::HandshakeTooLarge),
        (whole.clone(), Reason::HandshakeTimeout),
    ];
    let mut seen = Vec::new();
    for (bytes, reason) in cases.drain(..) {
        let server = stranger().await;
        server.call(&bytes).await;
        server.left_one(Some(reason)).await;
        seen.push(reason);
    }
    let server = stranger().await;
    let mut stream = TcpStream::connect(server.running.address).await.unwrap();
    stream.write_all(&whole[..50]).await.unwrap();
    drop(stream);
    server.left_one(Some(Reason::PeerClosedInHandshake)).await;
    seen.push(Reason::PeerClosedInHandshake);
    seen
}

/// A ClientHello whose key share has not the length that it must have.
fn broken_hello() -> Vec<u8> {
    Hello { groups: vec![X25519MLKEM768], shares: vec![(X25519MLKEM768, vec![5; 100])], ..Hello::default() }.records(1 << 14)
}

fn few(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

/// A STRICT server of TLS 1.3 with little patience.
async fn stranger() -> End {
    let authority = Authority::new();
    let limits = Limits { handshake_timeout: Duration::from_millis(700), max_handshake_bytes: few(8192), ..Limits::default() };
    let server = End::start(Direction::Inbound, authority.leaf(SERVER), |sidecar| sidecar.gate = Gate::new(limits)).await;
    server.running.wanted.set(SERVICE.parse().unwrap());
    let policy = mesh::InboundPolicy { min_tls: mesh::TlsVersion::TlsV13 as i32, ..wire::inbound(Mode::Strict, &[]) };
    server.running.configure(&authority, &policy);
    server
}

/// One connection too many.
async fn bounds() -> Vec<Reason> {
    let (one, many, patience) = (few(1), few(100), Duration::from_secs(1));
    let of = |connections, source, turns| Limits {
        max_connections: connections,
        max_connections_per_source: source,
        max_handshakes: turns,
        handshake_timeout: patience,
        ..Limits::default()
    };
    let half = Hello::default().records(1 << 14)[..50].to_vec();
    let mut seen = Vec::new();
    for (limits, reason) in [(of(one, many, many), Reason::TooManyConnections), (of(many, one, many), Reason::TooManyFromSource)]
    {
        let (end, app) = bounded(limits).await;
        let mut first = TcpStream::connect(end.running.address).await.unwrap();
        first.write_all(b"x").await.unwrap();
        until("the first", || app.heard().len() == 1).await;
        end.call(BYTES).await;
        drop(first);
        until("the ends", || end.running.sidecar.connections.count() == 0).await;
        end.left_of_many(2, Some(reason));
        seen.push(reason);
    }
    let (end, _app) = bounded(of(many, many, one)).await;
    let mut first = TcpStream::connect(end.running.address).await.unwrap();
    first.write_all(&half).await.unwrap();
    until("the only turn", || end.running.sidecar.gate.in_turn() == 1).await;
    let (mut waiting, address) = (Vec::new(), end.running.address);
    for _ in 0..3 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&half).await.unwrap();
        waiting.push(stream);
    }
    let connections = &end.running.sidecar.connections;
    until("the ends", || connections.count() == 0 && connections.records().len() == 4).await;
    drop((first, waiting));
    let records = end.running.sidecar.connections.records();
    assert_eq!(records.len(), 4);
    assert!(records.iter().all(|record| record.reason.is_some()), "{records:#?}");
    assert!(records.iter().any(|record| record.reason == Some(Reason::TooManyHandshakes)), "{records:#?}");
    assert_eq!(end.running.sidecar.refusals.totals().iter().map(|(_, count)| count).sum::<u64>(), 4);
    seen.push(Reason::TooManyHandshakes);
    seen
}

async fn bounded(limits: Limits) -> (End, App) {
    let (authority, app) = (Authority::new(), App::echo().await);
    let end = End::start(Direction::Inbound, authority.leaf(SERVER), |sidecar| sidecar.gate = Gate::new(limits)).await;
    end.running.wanted.set(app.address);
    end.running.configure(&authority, &wire::inbound(Mode::Permissive, &[]));
    (end, app)
}

/// Where the connection cannot go.
async fn destinations() -> Vec<Reason> {
    let authority = Authority::new();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let verified = mesh::ClientTls { insecure_skip_verify: false, ..simple() };
    let file = mesh::ClientTls { ca_certificates: "/etc/none.pem".to_owned(), ..verified.clone() };
    let nameless = mesh::ClientTls { from_host_header: true, sni: String::new(), ..verified };
    let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cases = [
        (mtls(), Protocol::Tcp, vec![], Reason::NoEndpoint),
        (mtls(), Protocol::Tcp, vec![closed], Reason::UpstreamConnectFailed),
        (file, Protocol::Tcp, vec![open.local_addr().unwrap()], Reason::TlsSettings),
        (nameless, Protocol::Http, vec![open.local_addr().unwrap()], Reason::HostMissing),
    ];
    let mut seen = Vec::new();
    for (tls, protocol, endpoints, reason) in cases {
        let client = End::client(&authority, tls, protocol, &endpoints).await;
        client.call(BYTES).await;
        client.left_one(Some(reason)).await;
        seen.push(reason);
    }
    let client = End::client(&authority, mtls(), Protocol::Tcp, &[]).await;
    client.running.wanted.set("192.0.2.9:80".parse().unwrap());
    client.running.put("default", &wire::settings(OutboundPolicy::RegistryOnly));
    client.call(BYTES).await;
    client.left_one(Some(Reason::UnknownDestination)).await;
    let client = End::client(&authority, mtls(), Protocol::Tcp, &[]).await;
    client.running.wanted.set(client.running.address);
    client.call(BYTES).await;
    client.left_one(Some(Reason::Loop)).await;
    let direct = End::start(Direction::Inbound, authority.leaf(SERVER), |_| {}).await;
    direct.call(BYTES).await;
    direct.left_one(Some(Reason::OriginUnknown)).await;
    // The application is not there: its own sidecar knows why, the caller's sees an end without an answer.
    let server = End::server(&authority, Mode::Strict, Protocol::Tcp, closed).await;
    let client = End::client(&authority, mtls(), Protocol::Tcp, &[server.running.address]).await;
    client.call(BYTES).await;
    client.left_one(Some(Reason::PeerClosedBeforeAnswer)).await;
    server.left_one(Some(Reason::ApplicationUnreachable)).await;
    seen.extend([Reason::UnknownDestination, Reason::Loop, Reason::OriginUnknown, Reason::ApplicationUnreachable]);
    seen
}

/// What ends a connection that was served.
async fn cut() -> Vec<Reason> {
    let authority = Authority::new();
    let app = App::echo().await;
    for reason in [Reason::PolicyChanged, Reason::Shutdown] {
        let server = End::server(&authority, Mode::Permissive, Protocol::Tcp, app.address).await;
        let client = End::client(&authority, plaintext(), Protocol::Tcp, &[server.running.address]).await;
        let mut stream = TcpStream::connect(client.running.address).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        if reason == Reason::Shutdown {
            mutua_proxy::drain::stop(&server.running.sidecar, &server.running.tasks, Duration::ZERO).await;
        } else {
            server.running.put("shop/it", &wire::inbound(Mode::Strict, &[]));
        }
        assert!(mutua_testbed::read_to_end(&mut stream).await.is_err());
        server.left_one(Some(reason)).await;
        // It was served there, and its application was reset as the other end was.
        client.left_one(None).await;
    }
    // Something between the two dies: TLS ends without a last word.
    let server = End::server(&authority, Mode::Strict, Protocol::Tcp, app.address).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = End::client(&authority, mtls(), Protocol::Tcp, &[listener.local_addr().unwrap()]).await;
    let to = server.running.address;
    let between = tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(to).await.unwrap();
        tokio::io::copy_bidirectional(&mut near, &mut far).await
    });
    let mut stream = TcpStream::connect(client.running.address).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    between.abort();
    assert!(mutua_testbed::read_to_end(&mut stream).await.is_err());
    client.left_one(Some(Reason::Truncated)).await;
    // Callers that are done often just close.
    server.left_one(None).await;
    vec![Reason::PolicyChanged, Reason::Shutdown, Reason::Truncated]
}

/// A fault of ours.
async fn fault() -> Vec<Reason> {
    struct Faulty;
    impl Capture for Faulty {
        fn original_destination(&self, _: &TcpStream) -> io::Result<SocketAddr> {
            panic!("a fault of the sidecar, made by this test")
        }
    }
    let authority = Authority::new();
    let end = End::start(Direction::Inbound, authority.leaf(SERVER), |sidecar| sidecar.capture = Box::new(Faulty)).await;
    end.call(BYTES).await;
    end.left_one(Some(Reason::InternalError)).await;
    vec![Reason::InternalError]
}

/// No configuration comes.
async fn not_ready() -> Vec<Reason> {
    let end = End::start(Direction::Inbound, Authority::new().leaf(SERVER), |_| {}).await;
    end.running.wanted.set(SERVICE.parse().unwrap());
    end.call(BYTES).await;
    end.left_one(Some(Reason::NotReady)).await;
    vec![Reason::NotReady]
}

#[tokio::test]
async fn every_reason_leaves_one_record_at_each_end() {
    // Waits ten seconds for a configuration; the others go on meanwhile.
    let not_ready = tokio::spawn(not_ready());
    let revocation = tokio::spawn(revocation());
    let all = [both_ends().await, strangers().await, bounds().await, destinations().await, cut().await, fault().await];
    let seen: BTreeSet<Reason> =
        all.into_iter().flatten().chain(not_ready.await.unwrap()).chain(revocation.await.unwrap()).collect();
    let missing: Vec<&Reason> = Reason::ALL.iter().filter(|reason| !seen.contains(reason)).collect();
    assert!(missing.is_empty(), "not provoked: {missing:?}");
}

/// A flood of one kind of refusal: some lines, and the number of the others; another kind keeps its line.
#[tokio::test]
async fn a_flood_of_refusals_is_counted_and_hides_nothing() {
    let authority = Authority::new();
    let app = App::echo().await;
    let lines = Lines::default();
    let settings = AccessLogSettings { refusal_lines: 1, ..AccessLogSettings::of(AccessLog::Refused) };
    let log = AccessLogger::to(&settings, lines.clone()).unwrap();
    let server = End::start(Direction::Inbound, authority.leaf(SERVER), |sidecar| sidecar.log = log).await;
    let server = End { lines, ..server };
    server.running.wanted.set(app.address);
    server.running.configure(&authority, &wire::inbound(Mode::Strict, &[]));
    for _ in 0..200 {
        server.call(b"plain").await;
    }
    server.call(&broken_hello()).await;
    until("the ends", || server.running.sidecar.connections.count() == 0).await;
    server.running.sidecar.log.finish(PATIENCE);
    let text = String::from_utf8(server.lines.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |reason: Reason| lines.iter().filter(move |line| line["reason"] == reason.code());
    let left_out: u64 = of(Reason::PlaintextOnStrictPort).filter_map(|line| line["left_out"].as_u64()).sum();
    let written = of(Reason::PlaintextOnStrictPort).filter(|line| line["left_out"].is_null()).count();
    assert_eq!(u64::try_from(written).unwrap() + left_out, 200, "{text}");
    assert!(left_out > 0, "{text}");
    assert_eq!(server.running.sidecar.metrics.log_lines_left_out.load(Ordering::Relaxed), left_out, "as the metric says");
    assert_eq!(of(Reason::TlsProtocolError).count(), 1, "{text}");
}
