//! Requests seen while they pass through both sidecars, and changes of policy between them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mutua_testbed as common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Authority, CLIENT, PATIENCE, Running, SERVER, wire};
use mutua_proxy::connections::{Direction, Outcome};
use mutua_proxy::reasons::Reason;
use mutua_proxy::telemetry::Refusals;
use mutua_wire::mesh;
use mutua_wire::mesh::{ClientTlsMode, Mode, Protocol};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const SERVICE: &str = "192.0.2.1:80";

/// A server of HTTP/1.1 behind a sidecar, and a caller's sidecar.
struct Pair {
    client: Running,
    server: Running,
    app: SocketAddr,
    protocol: Protocol,
}

impl Pair {
    async fn new(server_mode: Mode, client_mode: ClientTlsMode, protocol: Protocol) -> Self {
        let app = http_server().await;
        let authority = Authority::new();
        let server = Running::start(Direction::Inbound, Some(authority.leaf(SERVER))).await;
        server.wanted.set(app);
        server.configure(&authority, &wire::inbound(server_mode, &[(app, protocol)]));
        let client = Running::start(Direction::Outbound, Some(authority.leaf(CLIENT))).await;
        client.wanted.set(SERVICE.parse().unwrap());
        client.configure(&authority, &wire::inbound(Mode::Permissive, &[]));
        let pair = Self { client, server, app, protocol };
        pair.call_by(client_mode);
        pair
    }

    /// Long draining, so that nothing is cut in a test that must not lose anything.
    fn patient(self) -> Self {
        for running in [&self.client, &self.server] {
            let settings = wire::settings(mesh::OutboundPolicy::AllowAny);
            running.put("default", &mesh::ProxySettings { drain_duration_ms: 60_000, ..settings });
        }
        self
    }

    fn call_by(&self, mode: ClientTlsMode) {
        self.client.put("shop/server", &wire::destination(self.protocol, wire::tls(mode, &[]), &[self.server.address]));
    }

    fn accept(&self, mode: Mode) {
        self.server.put("shop/it", &wire::inbound(mode, &[(self.app, self.protocol)]));
    }

    async fn connect(&self) -> BufReader<TcpStream> {
        BufReader::new(TcpStream::connect(self.client.address).await.unwrap())
    }
}

/// Answers every request with its path's status, the path in the body.
async fn http_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                while let Some((head, _)) = message(&mut stream).await {
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let status = if path == "/missing" { 404 } else { 200 };
                    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{path}", path.len());
                    if stream.get_mut().write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// One message: its head and its body. `None`: the end, or an error.
async fn message(stream: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let before = head.len();
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
        let line = head[before..].trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}

/// `true` when the answer to this very request came.
async fn ask(stream: &mut BufReader<TcpStream>, path: &str) -> bool {
    let request = format!("GET {path} HTTP/1.1\r\nHost: server\r\n\r\n");
    if stream.get_mut().write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let answer = tokio::time::timeout(PATIENCE, message(stream)).await.expect("an answer in time");
    answer.is_some_and(|(_, body)| body == path)
}

fn metrics(of: &Running) -> String {
    of.sidecar.metrics.render(&of.sidecar.connections, &Refusals::default(), None)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    common::plane::until(what, holds).await;
}

/// The value of the only line that begins with `name` and holds all of `parts`.
fn value(text: &str, name: &str, parts: &[&str]) -> Option<String> {
    let mut lines = text.lines().filter(|line| line.starts_with(name) && parts.iter().all(|part| line.contains(part)));
    let line = lines.next()?;
    assert_eq!(lines.next(), None, "one line of {name} with {parts:?}");
    line.rsplit(' ').next().map(str::to_owned)
}

#[tokio::test]
async fn both_ends_count_requests_with_istios_labels() {
    for (accepts, calls, security) in
        [(Mode::Strict, ClientTlsMode::TlsIstioMutual, "mutual_tls"), (Mode::Permissive, ClientTlsMode::TlsDisable, "none")]
    {
        for protocol in [Protocol::Http, Protocol::Auto] {
            let pair = Pair::new(accepts, calls, protocol).await;
            let mut stream = pair.connect().await;
            for path in ["/a", "/b", "/missing"] {
                assert!(ask(&mut stream, path).await);
            }
            for (running, reporter, security) in [(&pair.client, "source", "unknown"), (&pair.server, "destination", security)] {
                let parts = |code: &'static str| {
                    [
                        format!("{{reporter=\"{reporter}\""),
                        format!(
                            "request_protocol=\"http\",response_code=\"{code}\",grpc_response_status=\"\",response_flags=\"-\",connection_security_policy=\"{security}\""
                        ),
                    ]
                };
                let count = |code| {
                    let [reporter, tail] = parts(code);
                    value(&metrics(running), "istio_requests_total{", &[&reporter, &tail])
                };
                // The last answer is told when it has passed, which the caller may see first.
                until("the requests", || count("404").as_deref() == Some("1")).await;
                assert_eq!(count("200").as_deref(), Some("2"), "{reporter} {protocol:?}");
                let text = metrics(running);
                assert!(!text.contains("istio_tcp_connections_opened_total{"), "what is HTTP is not counted as TCP");
                let [_, tail] = parts("404");
                // GET /missing HTTP/1.1 (23), Host: server (14), and an empty line (2).
                assert_eq!(value(&text, "istio_request_bytes_sum{", &[&tail]).as_deref(), Some("39"));
                assert_eq!(value(&text, "istio_request_duration_milliseconds_count{", &[&tail]).as_deref(), Some("1"));
                assert!(text.contains("destination_service=\"server.shop.svc.cluster.local\""));
            }
        }
    }
}

/// Sends `parts` on one connection to a server that sends back what it gets, and sees each come back.
async fn echoed(pair: &Pair, parts: &[&[u8]]) {
    let app = common::App::echo().await;
    pair.server.wanted.set(app.address);
    let mut stream = TcpStream::connect(pair.client.address).await.unwrap();
    for part in parts {
        stream.write_all(part).await.unwrap();
        assert_eq!(common::read_exactly(&mut stream, part.len()).await, *part);
    }
}

#[tokio::test]
async fn what_is_not_http_is_counted_as_tcp_and_passes() {
    let pair = Pair::new(Mode::Permissive, ClientTlsMode::TlsIstioMutual, Protocol::Auto).await;
    echoed(&pair, &[b"GET / HTTP/1.1\r\n", b"no header\r\n\r\n", b"\0\xff"]).await;
    let text = metrics(&pair.client);
    assert_eq!(value(&text, "istio_tcp_received_bytes_total{", &[]).as_deref(), Some("31"), "from the first byte on");
    assert!(!text.contains("istio_requests_total{"));
}

#[tokio::test]
async fn an_observer_that_loses_its_footing_leaves_the_stream_alone() {
    let pair = Pair::new(Mode::Strict, ClientTlsMode::TlsIstioMutual, Protocol::Auto).await;
    // The echo is no answer; afterwards anything goes.
    echoed(&pair, &[b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\0\0", &[b'\n'; 5000]]).await;
    let text = metrics(&pair.client);
    assert_eq!(value(&text, "mutua_observers_stopped_total{reason=\"malformed\"}", &[]).as_deref(), Some("1"));
}

/// Flips both ends between plaintext and mutual TLS in the order in which the control plane stages a change, while eight
/// applications keep one connection each busy: none of them may see a failed request, a wrong answer or a lost connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keep_alive_survives_every_change_of_mode() {
    let pair = Arc::new(Pair::new(Mode::Permissive, ClientTlsMode::TlsDisable, Protocol::Http).await.patient());
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let applications: Vec<_> = (0..8)
        .map(|number| {
            let (pair, stop, asked) = (Arc::clone(&pair), Arc::clone(&stop), Arc::clone(&asked));
            tokio::spawn(async move {
                let mut stream = pair.connect().await;
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    assert!(ask(&mut stream, &format!("/{number}/{count}")).await, "request {count} of {number}");
                    count += 1;
                    asked.fetch_add(1, Ordering::Relaxed);
                    // Some of them are idle when a change comes.
                    tokio::time::sleep(Duration::from_millis(number * 5)).await;
                }
                count
            })
        })
        .collect();
    for _ in 0..3 {
        for (calls, tightened, outcome) in [
            (ClientTlsMode::TlsIstioMutual, Mode::Strict, Outcome::Mtls),
            (ClientTlsMode::TlsDisable, Mode::Disable, Outcome::Plaintext),
        ] {
            pair.accept(Mode::Permissive);
            pair.call_by(calls);
            let all = |running: &Running| {
                let records = running.sidecar.connections.records();
                let live: Vec<_> = records.iter().filter(|record| record.state == "open").collect();
                live.len() == 8 && live.iter().all(|record| record.outcome == Some(outcome))
            };
            until("all callers in the new mode", || all(&pair.client) && all(&pair.server)).await;
            pair.accept(tightened);
            let before = asked.load(Ordering::Relaxed);
            until("requests after the change", || asked.load(Ordering::Relaxed) > before + 40).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut total: u64 = 0;
    for application in applications {
        total += application.await.unwrap();
    }
    assert!(total > 100);
    for running in [&pair.client, &pair.server] {
        assert_eq!(running.sidecar.metrics.drained_by_force.load(Ordering::Relaxed), 0);
        assert_eq!(running.sidecar.refusals.totals(), []);
    }
    let counted: u64 = metrics(&pair.client)
        .lines()
        .filter(|line| line.starts_with("istio_requests_total{") && line.contains("response_code=\"200\""))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(counted, total, "every request is counted once, whatever it went over");
}

#[tokio::test]
async fn what_cannot_move_is_cut_at_the_bound_and_counted() {
    let pair = Pair::new(Mode::Permissive, ClientTlsMode::TlsDisable, Protocol::Auto).await;
    let app = common::App::echo().await;
    pair.server.wanted.set(app.address);
    let mut stream = TcpStream::connect(pair.client.address).await.unwrap();
    stream.write_all(b"no protocol that anybody knows\r\n").await.unwrap();
    assert_eq!(common::read_exactly(&mut stream, 32).await.len(), 32);
    pair.call_by(ClientTlsMode::TlsIstioMutual);
    common::read_to_end(&mut stream).await.unwrap_err();
    let record = pair.client.record(|record| record.reason == Some(Reason::PolicyChanged)).await;
    assert_eq!(record.outcome, Some(Outcome::Plaintext), "says what it was");
    assert_eq!(value(&metrics(&pair.client), "mutua_connections_drained_by_force_total", &[]).as_deref(), Some("1"));
}

#[tokio::test]
async fn what_was_served_without_an_answer_is_cut_as_what_it_was() {
    let pair = Pair::new(Mode::Permissive, ClientTlsMode::TlsDisable, Protocol::Auto).await;
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    pair.server.wanted.set(app.local_addr().unwrap());
    let mut stream = TcpStream::connect(pair.client.address).await.unwrap();
    stream.write_all(b"no protocol that anybody knows\r\n").await.unwrap();
    let mut silent = app.accept().await.unwrap().0;
    assert_eq!(common::read_exactly(&mut silent, 32).await.len(), 32);
    pair.call_by(ClientTlsMode::TlsIstioMutual);
    common::read_to_end(&mut stream).await.unwrap_err();
    let record = pair.client.record(|record| record.reason == Some(Reason::PolicyChanged)).await;
    assert_eq!((record.outcome, record.sent_bytes), (Some(Outcome::Plaintext), 0), "{record:#?}");
}
