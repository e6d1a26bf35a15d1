//! Istio's results for inbound connections (`TestInbound` of pilot), cell by cell on the wire: modes, kinds of ports, and
//! what is sent. All TLS is openssl's and curl's. Where a layer-4 proxy differs, the row says so.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Stdio;

use mutua_proxy::connections::{Direction, Outcome, Record};
use mutua_proxy::reasons::Reason;
use mutua_testbed::peers::Files;
use mutua_testbed::{App, Authority, CLIENT, PATIENCE, Running, SERVER, read_to_end, wire};
use mutua_wire::mesh::{InboundPolicy, Mode, Protocol};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

const MODES: [Mode; 3] = [Mode::Disable, Mode::Permissive, Mode::Strict];
/// The kinds of ports, as columns: declared TCP, declared HTTP, not declared, in no Service.
const KINDS: [Option<Protocol>; 4] = [Some(Protocol::Tcp), Some(Protocol::Http), Some(Protocol::Auto), None];
const LINE: &str = "GET / HTTP/1.1";

/// What a caller sends.
#[derive(Clone, Copy, Debug)]
enum Sent {
    Plain(&'static [u8]),
    /// openssl with these application protocols and this server name.
    Tls {
        alpn: &'static str,
        sni: &'static str,
        who: Who,
    },
    /// curl with HTTP/1.1.
    Curl(Who),
}

/// Whose certificate the caller shows.
#[derive(Clone, Copy, Debug)]
enum Who {
    Nobody,
    Mesh,
    /// The mesh's own identity, by an authority that nobody trusts.
    OtherAuthority,
    /// Another trust domain, by the mesh's authority.
    OtherDomain,
}

const fn tls(alpn: &'static str) -> Sent {
    shown(Who::Nobody, alpn)
}

const fn mtls(alpn: &'static str) -> Sent {
    shown(Who::Mesh, alpn)
}

const fn shown(who: Who, alpn: &'static str) -> Sent {
    Sent::Tls { alpn, sni: "", who }
}

const fn named(who: Who, sni: &'static str, alpn: &'static str) -> Sent {
    Sent::Tls { alpn, sni, who }
}

const ELSEWHERE: &str = "spiffe://other.example/ns/shop/sa/client";
/// The form of Istio's server names.
const MESH_NAME: &str = "outbound_.80_._.it.shop.svc.cluster.local";

/// For each kind of port the results under DISABLE, PERMISSIVE and STRICT:
/// `p` forwarded in clear, `r` TLS forwarded untouched, `M` mutual TLS ended here, `s` plaintext refused on a STRICT port,
/// `n` TLS that is not the mesh's refused on an HTTP port, `d` TLS refused on an HTTP port of mode DISABLE, `c` refused for
/// want of a certificate, `u` for a certificate of an unknown authority, `t` for one of another trust domain.
const TABLE: [(Sent, [&str; 4]); 22] = [
    // In Istio bytes that are no HTTP are a codec error on HTTP ports; at layer 4 they pass.
    (Sent::Plain(b"\0\x01\x02binary"), ["pps", "pps", "pps", "pps"]),
    (Sent::Plain(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"), ["pps", "pps", "pps", "pps"]),
    (Sent::Plain(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), ["pps", "pps", "pps", "pps"]),
    (tls(""), ["rrc", "dnc", "rrc", "rrc"]),
    (tls("h2,http/1.1"), ["rrc", "dnc", "rrc", "rrc"]),
    (tls("istio"), ["rcc", "dcc", "rcc", "rcc"]),
    // STRICT asks for a certificate of the mesh, not for Istio's protocol names.
    (mtls(""), ["rrM", "dnM", "rrM", "rrM"]),
    (mtls("http/1.1"), ["rrM", "dnM", "rrM", "rrM"]),
    (mtls("istio"), ["rMM", "dMM", "rMM", "rMM"]),
    (mtls("istio-peer-exchange,istio"), ["rMM", "dMM", "rMM", "rMM"]),
    (mtls("istio-http/1.1,istio,http/1.1"), ["rMM", "dMM", "rMM", "rMM"]),
    (mtls("istio-h2,istio,h2"), ["rMM", "dMM", "rMM", "rMM"]),
    // An unknown protocol name is no failure of a handshake, and none of the mesh.
    (tls("acme-tls/1"), ["rrc", "dnc", "rrc", "rrc"]),
    (mtls("istio2,acme-tls/1"), ["rrM", "dnM", "rrM", "rrM"]),
    // The server name decides nothing: neither the mesh's form makes a mesh caller, nor a foreign one takes it away.
    (named(Who::Nobody, MESH_NAME, ""), ["rrc", "dnc", "rrc", "rrc"]),
    (named(Who::Mesh, MESH_NAME, "istio"), ["rMM", "dMM", "rMM", "rMM"]),
    (named(Who::Mesh, "www.example.com", "istio"), ["rMM", "dMM", "rMM", "rMM"]),
    (shown(Who::OtherAuthority, "istio"), ["ruu", "duu", "ruu", "ruu"]),
    (shown(Who::OtherDomain, "istio"), ["rtt", "dtt", "rtt", "rtt"]),
    (shown(Who::OtherAuthority, "http/1.1"), ["rru", "dnu", "rru", "rru"]),
    (Sent::Curl(Who::Nobody), ["rrc", "dnc", "rrc", "rrc"]),
    (Sent::Curl(Who::Mesh), ["rrM", "dnM", "rrM", "rrM"]),
];

struct Bench {
    app: App,
    server: Running,
    mesh: Files,
    other_authority: Files,
    other_domain: Files,
}

impl Bench {
    async fn new() -> Self {
        let authority = Authority::new();
        let app = App::echo().await;
        let mesh = Files::new(&authority.leaf(CLIENT), &authority);
        let other_authority = Files::new(&Authority::new().leaf(CLIENT), &authority);
        let other_domain = Files::new(&authority.leaf(ELSEWHERE), &authority);
        let server = Running::start(Direction::Inbound, Some(authority.leaf(SERVER))).await;
        server.wanted.set(app.address);
        server.configure(&authority, &wire::inbound(Mode::Strict, &[]));
        Self { app, server, mesh, other_authority, other_domain }
    }

    /// Sends, waits for the end, and checks what came of it.
    async fn cell(&self, sent: Sent, expected: char, place: &str) {
        let place = format!("{sent:?} {place}");
        let known = self.server.sidecar.connections.records().iter().map(|record| record.id).max();
        let said = match sent {
            Sent::Plain(bytes) => {
                let mut stream = TcpStream::connect(self.server.address).await.unwrap();
                // A refused caller may be reset while it writes.
                let _ = stream.write_all(bytes).await;
                let _ = stream.shutdown().await;
                String::from_utf8_lossy(&read_to_end(&mut stream).await.unwrap_or_default()).into_owned()
            }
            Sent::Tls { alpn, sni, who } => self.openssl(alpn, sni, who).await,
            Sent::Curl(who) => self.curl(who).await,
        };
        let new = |record: &Record| known.is_none_or(|known| record.id > known);
        let record = self.server.record(|record| record.state == "closed" && new(record)).await;
        let records = self.server.sidecar.connections.records();
        assert_eq!(records.iter().filter(|record| new(record)).count(), 1, "{place}: exactly one record");
        let heard = std::mem::take(&mut *self.app.seen.lock().unwrap()).concat();
        let in_clear = match sent {
            Sent::Plain(bytes) => heard == bytes,
            Sent::Tls { .. } | Sent::Curl(_) => heard.starts_with(LINE.as_bytes()) && said.contains(LINE),
        };
        let refused = |reason| record.reason == Some(reason) && record.outcome == Some(Outcome::Refused) && heard.is_empty();
        let holds = match expected {
            'p' => in_clear && record.outcome == Some(Outcome::Plaintext),
            'r' => heard.first() == Some(&22) && matches!(record.outcome, Some(Outcome::Tls | Outcome::Plaintext)),
            'M' => in_clear && record.outcome == Some(Outcome::Mtls) && record.peer_id.as_deref() == Some(CLIENT),
            's' => refused(Reason::PlaintextOnStrictPort),
            'n' => refused(Reason::NonMeshTlsOnHttpPort),
            'd' => refused(Reason::TlsOnPlaintextHttpPort),
            'c' => refused(Reason::NoClientCertificate),
            'u' => refused(Reason::UntrustedCertificate),
            't' => refused(Reason::ForeignTrustDomain) && record.peer_id.as_deref() == Some(ELSEWHERE),
            other => panic!("{other}"),
        };
        assert!(holds, "{place}: not {expected}\n{record:#?}\nthe application heard {heard:?}; the caller {said}");
        if let ('M', Sent::Tls { alpn, .. }) = (expected, sent) {
            let common = ["h2", "http/1.1"].into_iter().find(|name| alpn.split(',').any(|offered| offered == *name));
            let told = common.map_or_else(|| "No ALPN negotiated".to_owned(), |name| format!("ALPN protocol: {name}"));
            assert!(said.contains(&told), "{place}: an istio name is never selected, another common one always: {said}");
        }
    }

    fn shows(&self, who: Who, command: &mut Command) {
        let files = match who {
            Who::Nobody => return,
            Who::Mesh => &self.mesh,
            Who::OtherAuthority => &self.other_authority,
            Who::OtherDomain => &self.other_domain,
        };
        command.arg("--cert").arg(files.path("chain.pem")).arg("--key").arg(files.path("key.pem"));
    }

    async fn openssl(&self, alpn: &str, sni: &str, who: Who) -> String {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-ign_eof", "-connect", &self.server.address.to_string()]);
        self.shows(who, &mut command);
        for (option, value) in [("-alpn", alpn), ("-servername", sni)].iter().filter(|(_, value)| !value.is_empty()) {
            command.args([option, value]);
        }
        said(command, format!("{LINE}\n").as_bytes()).await
    }

    async fn curl(&self, who: Who) -> String {
        let mut command = Command::new("curl");
        // The answer is the request's echo: no HTTP/1.1.
        command.args(["--silent", "--insecure", "--no-buffer", "--http1.1", "--http0.9"]);
        self.shows(who, &mut command);
        command.arg(format!("https://{}/", self.server.address));
        said(command, b"").await
    }

    fn policy(&self, mode: Mode, kind: Option<Protocol>) -> InboundPolicy {
        wire::inbound(mode, &kind.map(|protocol| (self.app.address, protocol)).into_iter().collect::<Vec<_>>())
    }
}

/// What a caller that is given `input` prints until the echo or its end.
async fn said(mut command: Command, input: &[u8]) -> String {
    command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("openssl and curl are installed");
    let (mut stdin, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    // It may have ended before it reads.
    let _ = stdin.write_all(input).await;
    let mut lines = BufReader::new(output).lines();
    let mut said = String::new();
    let read = async {
        while let Ok(Some(line)) = lines.next_line().await {
            said.push_str(&line);
            said.push('\n');
            if line == LINE {
                // The echo: killing the caller ends the connection.
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the caller is answered or ends");
    let _ = child.kill().await;
    said
}

#[tokio::test]
async fn every_cell_is_istios() {
    let bench = Bench::new().await;
    for (at, kind) in KINDS.into_iter().enumerate() {
        for (mode, column) in MODES.into_iter().zip(0..) {
            bench.server.put("shop/it", &bench.policy(mode, kind));
            for (sent, expected) in TABLE {
                let expected = expected[at].chars().nth(column).unwrap();
                bench.cell(sent, expected, &format!("to a port {kind:?} of mode {mode:?}")).await;
            }
        }
    }
}

/// A port of `portLevelMtls` that no Service has keeps its own mode, and the others the workload's.
#[tokio::test]
async fn a_port_in_no_service_may_have_a_mode_of_its_own() {
    let bench = Bench::new().await;
    for (general, expected_general) in MODES.into_iter().zip(["pr", "pM", "sM"]) {
        for (own, expected_own) in MODES.into_iter().zip(["pr", "pM", "sM"]) {
            let mut policy = bench.policy(own, Some(Protocol::Auto));
            policy.mode = general.into();
            policy.ports[0].service_host.clear();
            bench.server.put("shop/it", &policy);
            both(&bench, expected_own, &format!("{own:?} under {general:?}")).await;
            policy.ports[0].port ^= 1;
            bench.server.put("shop/it", &policy);
            both(&bench, expected_general, &format!("{general:?} beside {own:?}")).await;
        }
    }
}

/// Plaintext and the mesh's mutual TLS.
async fn both(bench: &Bench, expected: &str, place: &str) {
    for (sent, expected) in [Sent::Plain(b"hello"), mtls("istio")].into_iter().zip(expected.chars()) {
        bench.cell(sent, expected, place).await;
    }
}
