//! Stock Envoy with Istio's settings of clients calls our inbound side: modes, kinds of ports, and what Istio's sidecars
//! send. The table is Istio's (`TestInbound` of pilot), as in `matrix.rs`, with data both ways.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::path::Path;

use hyper_util::rt::TokioIo;
use mutua_proxy::connections::{Direction, Outcome, Record};
use mutua_proxy::reasons::Reason;
use mutua_testbed::envoy::Envoy;
use mutua_testbed::grpc::{Grpc, Talk, channel};
use mutua_testbed::peers::Files;
use mutua_testbed::{App, Authority, CLIENT, PATIENCE, Running, SERVER, wire};
use mutua_wire::mesh::{Mode, Protocol};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

const MODES: [Mode; 3] = [Mode::Disable, Mode::Permissive, Mode::Strict];
/// The kinds of ports, as columns: declared TCP, declared HTTP, declared HTTP/2, not declared, in no Service.
const KINDS: [Option<Protocol>; 5] =
    [Some(Protocol::Tcp), Some(Protocol::Http), Some(Protocol::Http2), Some(Protocol::Auto), None];
const NAME: &str = "outbound_.80_._.server.shop.svc.cluster.local";

/// What runs through Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traffic {
    Tcp,
    Http1,
    Grpc,
}

/// The protocol names that Istio's clients offer, by cluster; none without TLS.
const CALLERS: [(&str, Traffic, &[&str]); 8] = [
    ("tcp", Traffic::Tcp, &["istio-peer-exchange", "istio"]),
    ("tcp-without-exchange", Traffic::Tcp, &["istio"]),
    ("http1", Traffic::Http1, &["istio-http/1.1", "istio", "http/1.1"]),
    ("http2", Traffic::Grpc, &["istio-h2", "istio", "h2"]),
    // HTTP over a cluster whose names the ALPN filter did not replace.
    ("http2-without-filter", Traffic::Grpc, &["istio-peer-exchange", "istio", "h2"]),
    ("plain-tcp", Traffic::Tcp, &[]),
    ("plain-http1", Traffic::Http1, &[]),
    ("plain-http2", Traffic::Grpc, &[]),
];

/// For each kind of port the results under DISABLE, PERMISSIVE and STRICT, with TLS and without:
/// `M` mutual TLS ended here and answered, `r` TLS handed to the application untouched, `d` TLS refused on an HTTP port of
/// mode DISABLE, `p` answered in clear, `s` plaintext refused.
const SECURED: [&str; 5] = ["rMM", "dMM", "dMM", "rMM", "rMM"];
const PLAIN: [&str; 5] = ["pps"; 5];

struct Bench {
    server: Running,
    envoy: Envoy,
    /// Echoes what it hears, whatever it is.
    echo: App,
    http1: SocketAddr,
    grpc: Grpc,
}

impl Bench {
    async fn new(expected: &str) -> Self {
        let authority = Authority::new();
        let server = Running::start(Direction::Inbound, Some(authority.leaf(SERVER))).await;
        server.configure(&authority, &wire::inbound(Mode::Strict, &[]));
        let files = Files::new(&authority.leaf(CLIENT), &authority);
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), &files, server.address, expected);
        let envoy = Envoy::start(folder, &config.to_string()).await;
        Self { server, envoy, echo: App::echo().await, http1: http1_server().await, grpc: Grpc::start().await }
    }

    /// Calls once through Envoy. `true`: answered.
    async fn call(&self, caller: &str, traffic: Traffic) -> bool {
        let at = self.envoy.at(caller);
        match traffic {
            Traffic::Tcp => tcp_call(&at).await,
            Traffic::Http1 => http1_call(&at).await,
            Traffic::Grpc => {
                let channel = channel(&format!("unix:{}", at.display()));
                let Ok(mut talk) = Talk::open(&channel).await else { return false };
                for text in ["one", &"many ".repeat(50_000), "last"] {
                    if talk.say(text).await.is_err() {
                        return false;
                    }
                }
                talk.end().await;
                true
            }
        }
    }

    async fn cell(&self, (caller, traffic, alpn): (&str, Traffic, &[&str]), policy: (Mode, Option<Protocol>), expected: char) {
        let place = format!("{caller} to a port {:?} of mode {:?}", policy.1, policy.0);
        let app = match traffic {
            _ if matches!(expected, 'r' | 'd' | 's') => self.echo.address,
            Traffic::Tcp => self.echo.address,
            Traffic::Http1 => self.http1,
            Traffic::Grpc => self.grpc.address,
        };
        self.server.wanted.set(app);
        let declared = policy.1.map(|protocol| (app, protocol));
        self.server.put("shop/it", &wire::inbound(policy.0, declared.as_slice()));
        let known = self.server.sidecar.connections.records().iter().map(|record| record.id).max();
        let answered = self.call(caller, traffic).await;
        let new = |record: &Record| known.is_none_or(|known| record.id > known);
        let record = self.server.record(|record| record.state == "closed" && new(record)).await;
        let records = self.server.sidecar.connections.records();
        assert_eq!(records.iter().filter(|record| new(record)).count(), 1, "{place}: exactly one record");
        let heard = std::mem::take(&mut *self.echo.seen.lock().unwrap()).concat();
        let refused = |reason| !answered && record.reason == Some(reason) && heard.is_empty();
        let http = alpn.iter().copied().find(|name| ["h2", "http/1.1"].contains(name));
        let holds = match expected {
            'M' => {
                let shown = (record.peer_id.as_deref(), record.local_id.as_deref(), record.tls_version);
                answered
                    && record.outcome == Some(Outcome::Mtls)
                    && record.alpn.as_deref() == http
                    && shown == (Some(CLIENT), Some(SERVER), Some("TLSv1.3"))
            }
            'p' => answered && record.outcome == Some(Outcome::Plaintext),
            'r' => !answered && heard.first() == Some(&22) && record.reason.is_none(),
            'd' => refused(Reason::TlsOnPlaintextHttpPort),
            's' => refused(Reason::PlaintextOnStrictPort),
            other => panic!("{other}"),
        };
        assert!(holds, "{place}: not {expected}, answered={answered}\n{record:#?}\nthe application heard {heard:?}");
    }
}

#[tokio::test]
async fn istios_callers_find_every_mode_as_istios() {
    let bench = Bench::new(SERVER).await;
    let mut secured = 0;
    for (at, kind) in KINDS.into_iter().enumerate() {
        for (mode, column) in MODES.into_iter().zip(0..) {
            for caller in CALLERS {
                let table = if caller.2.is_empty() { PLAIN } else { SECURED };
                let expected = table[at].chars().nth(column).unwrap();
                bench.cell(caller, (mode, kind), expected).await;
                secured += u64::from(expected == 'M');
            }
        }
    }
    let mut handshakes = 0;
    for (caller, ..) in CALLERS.iter().filter(|(_, _, alpn)| !alpn.is_empty()) {
        handshakes += bench.envoy.count(&format!("cluster.{caller}.ssl.handshake")).await;
        assert_eq!(bench.envoy.count(&format!("cluster.{caller}.ssl.fail_verify_san")).await, 0, "{caller}");
    }
    assert_eq!(handshakes, secured, "Envoy counts the handshakes that we do");
}

/// An Istio client that expects another identity than ours hangs up on our leaf, and our record says who hung up.
#[tokio::test]
async fn istios_callers_check_the_name_of_our_leaf() {
    let bench = Bench::new("spiffe://cluster.local/ns/shop/sa/another").await;
    for (number, (caller, traffic, _)) in CALLERS.into_iter().filter(|(_, _, alpn)| !alpn.is_empty()).enumerate() {
        bench.server.wanted.set(bench.echo.address);
        assert!(!bench.call(caller, traffic).await, "{caller}");
        assert_eq!(bench.envoy.count(&format!("cluster.{caller}.ssl.fail_verify_san")).await, 1, "{caller}");
        let refused = || bench.server.sidecar.connections.records().into_iter().filter(|record| record.reason.is_some());
        mutua_testbed::plane::until("its record", || refused().count() == number + 1).await;
        assert!(refused().all(|record| record.reason == Some(Reason::PeerRefusedTls)), "{:#?}", refused().next_back());
    }
    assert_eq!(bench.echo.heard(), Vec::<Vec<u8>>::new());
}

async fn tcp_call(at: &Path) -> bool {
    let mut stream = UnixStream::connect(at).await.unwrap();
    let said = b"some bytes of a protocol that nobody knows".repeat(5000);
    let (mut read, mut write) = stream.split();
    let send = async {
        let _ = write.write_all(&said).await;
        let _ = write.shutdown().await;
    };
    let mut heard = Vec::new();
    let receive = tokio::time::timeout(PATIENCE, read.read_to_end(&mut heard));
    let ((), received) = tokio::join!(send, receive);
    // Whatever Envoy says of a connection that failed: it is an end.
    let _ = received.expect("an end in time");
    heard == said
}

async fn http1_call(at: &Path) -> bool {
    let mut stream = UnixStream::connect(at).await.unwrap();
    let request = "POST /here HTTP/1.1\r\nHost: server\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer in time").unwrap();
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nPOST /here HTTP/1.1")
}

/// Says in the body what it was asked.
async fn http1_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                let line = format!("{} {} {:?}", request.method(), request.uri(), request.version());
                Ok::<_, std::convert::Infallible>(hyper::Response::new(http_body_util::Full::<hyper::body::Bytes>::from(line)))
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

const TYPE: &str = "type.googleapis.com/envoy.extensions";

fn config(folder: &Path, files: &Files, to: SocketAddr, expected: &str) -> Value {
    let listener = |(name, traffic, _): (&str, Traffic, &[&str])| {
        let filter = if traffic == Traffic::Tcp { tcp_filter(name) } else { http_filter(name) };
        json!({
            "name": name,
            "address": {"pipe": {"path": Envoy::socket(folder, name)}},
            "filter_chains": [{"filters": [filter]}],
        })
    };
    let cluster = |caller: (&str, Traffic, &[&str])| cluster(caller, files, to, expected);
    json!({
        "admin": {"address": {"pipe": {"path": Envoy::socket(folder, "admin")}}},
        "static_resources": {
            "listeners": CALLERS.map(listener),
            "clusters": CALLERS.map(cluster),
        },
    })
}

/// A cluster as Istio's control plane writes them for `ISTIO_MUTUAL`. Each call has a connection of its own.
fn cluster((name, traffic, alpn): (&str, Traffic, &[&str]), files: &Files, to: SocketAddr, expected: &str) -> Value {
    let mut cluster = json!({
        "name": name, "type": "STATIC", "connect_timeout": "10s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"socket_address": {"address": to.ip(), "port_value": to.port()}}}}]}]},
    });
    if !alpn.is_empty() {
        let file = |name: &str| json!({"filename": files.path(name)});
        cluster["transport_socket"] = json!({"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": format!("{TYPE}.transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": NAME,
            "common_tls_context": {
                "alpn_protocols": alpn,
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificates": [{"certificate_chain": file("chain.pem"), "private_key": file("key.pem")}],
                "validation_context": {
                    "trusted_ca": file("roots.pem"),
                    "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": expected}}],
                },
            },
        }});
    }
    if traffic != Traffic::Tcp {
        let version = if traffic == Traffic::Grpc { "http2_protocol_options" } else { "http_protocol_options" };
        cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{TYPE}.upstreams.http.v3.HttpProtocolOptions"),
            "common_http_protocol_options": {"max_requests_per_connection": 1},
            "explicit_http_config": {version: {}},
        }});
    }
    cluster
}

fn tcp_filter(cluster: &str) -> Value {
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": format!("{TYPE}.filters.network.tcp_proxy.v3.TcpProxy"), "stat_prefix": cluster, "cluster": cluster}})
}

fn http_filter(cluster: &str) -> Value {
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": format!("{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": cluster,
        "route_config": {"virtual_hosts": [{"name": "any", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": format!("{TYPE}.filters.http.router.v3.Router")}}],
    }})
}
