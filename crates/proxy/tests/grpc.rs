//! gRPC and HTTP/2 through both sidecars: unary and both ways, trailers, and a change of mode in the midst of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use h2::{Reason as H2Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use mutua_proxy::connections::{Direction, Outcome, Record};
use mutua_proxy::reasons::Reason;
use mutua_proxy::telemetry::Refusals;
use mutua_testbed::grpc::{Grpc, Talk, ask, channel};
use mutua_testbed::{Authority, CLIENT, PATIENCE, Running, SERVER, plane, wire};
use mutua_wire::mesh::{ClientTlsMode, Mode, OutboundPolicy, Protocol, ProxySettings};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Channel;

/// Whether a port says what it speaks or not.
const PROTOCOLS: [Protocol; 3] = [Protocol::Http2, Protocol::Auto, Protocol::Tcp];
/// What receivers accept and callers do.
const MODES: [(Mode, ClientTlsMode, Outcome); 3] = [
    (Mode::Strict, ClientTlsMode::TlsIstioMutual, Outcome::Mtls),
    (Mode::Permissive, ClientTlsMode::TlsIstioMutual, Outcome::Mtls),
    (Mode::Permissive, ClientTlsMode::TlsDisable, Outcome::Plaintext),
];

/// A server behind a sidecar, and a caller's sidecar.
struct Pair {
    client: Running,
    server: Running,
    app: SocketAddr,
    protocol: Protocol,
}

impl Pair {
    async fn new((accepts, calls): (Mode, ClientTlsMode), protocol: Protocol, app: SocketAddr) -> Self {
        let authority = Authority::new();
        let server = Running::start(Direction::Inbound, Some(authority.leaf(SERVER))).await;
        server.wanted.set(app);
        server.configure(&authority, &wire::inbound(Mode::Permissive, &[]));
        let client = Running::start(Direction::Outbound, Some(authority.leaf(CLIENT))).await;
        client.wanted.set("192.0.2.1:80".parse().unwrap());
        client.configure(&authority, &wire::inbound(Mode::Permissive, &[]));
        let pair = Self { client, server, app, protocol };
        pair.accept(accepts);
        pair.call_by(calls);
        pair
    }

    fn accept(&self, mode: Mode) {
        self.server.put("shop/it", &wire::inbound(mode, &[(self.app, self.protocol)]));
    }

    fn call_by(&self, mode: ClientTlsMode) {
        self.client.put("shop/server", &wire::destination(self.protocol, wire::tls(mode, &[SERVER]), &[self.server.address]));
    }

    fn drain_within(&self, milliseconds: u64) {
        for running in [&self.client, &self.server] {
            let settings = wire::settings(OutboundPolicy::AllowAny);
            running.put("default", &ProxySettings { drain_duration_ms: milliseconds, ..settings });
        }
    }

    fn channel(&self) -> Channel {
        channel(&format!("http://{}", self.client.address))
    }

    async fn both(&self, fits: impl Fn(&Record) -> bool) -> [Record; 2] {
        [self.client.record(&fits).await, self.server.record(&fits).await]
    }
}

/// More than the first windows of HTTP/2 hold.
fn large() -> String {
    "a large message ".repeat(20_000)
}

#[tokio::test]
async fn grpc_passes_unary_and_both_ways() {
    let app = Grpc::start().await.address;
    for (accepts, calls, outcome) in MODES {
        for protocol in PROTOCOLS {
            let place = format!("{accepts:?} {calls:?} {protocol:?}");
            let pair = Pair::new((accepts, calls), protocol, app).await;
            let channel = pair.channel();
            ask(&channel, "once").await.unwrap();
            let (mut one, mut two) = (Talk::open(&channel).await.unwrap(), Talk::open(&channel).await.unwrap());
            for text in ["first", &large(), "last"] {
                one.say(text).await.unwrap();
                two.say(text).await.unwrap();
            }
            ask(&channel, &large()).await.unwrap();
            one.end().await;
            two.say("after the other's end").await.unwrap();
            two.end().await;
            for record in pair.both(|record| record.outcome.is_some()).await {
                assert_eq!(record.outcome, Some(outcome), "{place}: {record:#?}");
                // Only where a port is declared HTTP are first bytes waited for, which prove HTTP/2.
                let agreed = (outcome == Outcome::Mtls && protocol == Protocol::Http2).then(|| "h2".to_owned());
                assert_eq!(record.alpn, agreed, "{place}: {record:#?}");
            }
            assert_eq!(pair.client.sidecar.connections.records().len(), 1, "{place}: all over one connection");
            if protocol != Protocol::Tcp {
                counted(&pair, outcome, &place).await;
            }
        }
    }
}

/// Both ends count four calls: two of one answer, two that ended with the status of their trailers.
async fn counted(pair: &Pair, outcome: Outcome, place: &str) {
    for (running, security) in [(&pair.client, None), (&pair.server, Some(outcome))] {
        let policy = match security {
            None => "unknown",
            Some(Outcome::Mtls) => "mutual_tls",
            Some(_) => "none",
        };
        for (status, count) in [("0", 2), ("11", 2)] {
            let labels = format!(
                "request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"{status}\",response_flags=\"-\",connection_security_policy=\"{policy}\"}} {count}"
            );
            let metrics = || running.sidecar.metrics.render(&running.sidecar.connections, &Refusals::default(), None);
            let told = || metrics().lines().any(|line| line.starts_with("istio_requests_total{") && line.contains(&labels));
            plane::until(&format!("{place}: {labels}"), told).await;
        }
    }
}

/// The stages of a change, with streams open all the while: what began before goes on to its own end, what begins after
/// is of the new mode, and nothing fails.
#[tokio::test]
async fn streams_outlive_a_change_of_mode() {
    let pair = Pair::new((Mode::Disable, ClientTlsMode::TlsDisable), Protocol::Http2, Grpc::start().await.address).await;
    pair.drain_within(60_000);
    let (old, mut talks) = (pair.channel(), Vec::new());
    talks.push(Talk::open(&old).await.unwrap());
    for (calls, accepts, outcome) in [
        (ClientTlsMode::TlsIstioMutual, Mode::Strict, Outcome::Mtls),
        (ClientTlsMode::TlsDisable, Mode::Disable, Outcome::Plaintext),
        (ClientTlsMode::TlsIstioMutual, Mode::Strict, Outcome::Mtls),
    ] {
        for step in 0..3 {
            match step {
                0 => pair.accept(Mode::Permissive),
                1 => pair.call_by(calls),
                _ => pair.accept(accepts),
            }
            for talk in &mut talks {
                talk.say(&large()).await.unwrap();
            }
            ask(&old, "on the connection that was there").await.unwrap();
        }
        let new = pair.channel();
        ask(&new, "on a new one").await.unwrap();
        talks.push(Talk::open(&new).await.unwrap());
        let newest = |running: &Running| running.sidecar.connections.records().into_iter().max_by_key(|record| record.id);
        for running in [&pair.client, &pair.server] {
            assert_eq!(newest(running).unwrap().outcome, Some(outcome), "{calls:?}");
        }
    }
    for talk in talks {
        talk.end().await;
    }
    for running in [&pair.client, &pair.server] {
        assert_eq!(running.sidecar.metrics.drained_by_force.load(Ordering::Relaxed), 0);
        assert_eq!(running.sidecar.refusals.totals(), []);
    }
}

/// At the bound a stream of the old mode is cut with a reason; the same channel then goes on in the new one.
#[tokio::test]
async fn a_stream_of_the_old_mode_ends_at_the_bound() {
    let pair = Pair::new((Mode::Permissive, ClientTlsMode::TlsDisable), Protocol::Http2, Grpc::start().await.address).await;
    pair.drain_within(200);
    let channel = pair.channel();
    let mut talk = Talk::open(&channel).await.unwrap();
    talk.say("before").await.unwrap();
    pair.call_by(ClientTlsMode::TlsIstioMutual);
    let cut = pair.client.record(|record| record.reason == Some(Reason::PolicyChanged)).await;
    assert_eq!(cut.outcome, Some(Outcome::Plaintext), "{cut:#?}");
    talk.say("after").await.unwrap_err();
    pair.accept(Mode::Strict);
    // tonic sees the end of its connection when it likes, at the latest by one failed call.
    let _ = ask(&channel, "it may be the old connection still").await;
    ask(&channel, "in the new mode").await.unwrap();
    for record in pair.both(|record| record.state == "open").await {
        assert_eq!((record.outcome, record.alpn.as_deref()), (Some(Outcome::Mtls), Some("h2")), "{record:#?}");
    }
}

/// HTTP/2 that is no gRPC: many streams at once, trailers of requests and of answers, one that is taken back.
#[tokio::test]
async fn http2_passes_with_trailers_of_both_ends() {
    let app = http2_server().await;
    for (accepts, calls, outcome) in MODES {
        for protocol in PROTOCOLS {
            let pair = Pair::new((accepts, calls), protocol, app).await;
            let stream = TcpStream::connect(pair.client.address).await.unwrap();
            let (client, connection) = h2::client::handshake(stream).await.unwrap();
            let running = tokio::spawn(connection);
            let exchanges = (0..32).map(|number| tokio::spawn(http2_exchange(client.clone(), number)));
            for exchange in exchanges.collect::<Vec<_>>() {
                tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time").unwrap();
            }
            let taken_back = Request::post("http://server/").body(()).unwrap();
            let (answer, mut body) = client.clone().ready().await.unwrap().send_request(taken_back, false).unwrap();
            body.send_reset(H2Reason::CANCEL);
            assert_eq!(answer.await.unwrap_err().reason(), Some(H2Reason::CANCEL));
            http2_exchange(client.clone(), 32).await;
            for record in pair.both(|record| record.outcome.is_some()).await {
                assert_eq!(record.outcome, Some(outcome), "{accepts:?} {calls:?} {protocol:?}");
            }
            drop((client, body));
            tokio::time::timeout(PATIENCE, running).await.expect("an end in order").unwrap().unwrap();
        }
    }
}

fn numbered(number: usize) -> HeaderMap {
    HeaderMap::from_iter([("x-number".parse().unwrap(), number.to_string().parse().unwrap())])
}

/// A request with trailers, whose answer has the same body and trailers.
async fn http2_exchange(client: h2::client::SendRequest<hyper::body::Bytes>, number: usize) {
    let mut client = client.ready().await.unwrap();
    let (answer, mut send) = client.send_request(Request::post("http://server/").body(()).unwrap(), false).unwrap();
    let body = vec![number as u8; number * 2000];
    send.send_data(body.clone().into(), false).unwrap();
    send.send_trailers(numbered(number)).unwrap();
    let (bytes, trailers) = http2_message(answer.await.unwrap().into_body()).await;
    assert!(bytes == body && trailers == Some(numbered(number)), "{number}: {} bytes, {trailers:?}", bytes.len());
}

async fn http2_message(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let Ok(piece) = piece else { return (bytes, None) };
        body.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    (bytes, body.trailers().await.ok().flatten())
}

async fn http2_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    tokio::spawn(async move {
                        let (body, trailers) = http2_message(request.into_body()).await;
                        let Some(trailers) = trailers else { return };
                        let mut send = respond.send_response(Response::new(()), false).unwrap();
                        send.send_data(body.into(), false).unwrap();
                        send.send_trailers(trailers).unwrap();
                    });
                }
            });
        }
    });
    address
}
