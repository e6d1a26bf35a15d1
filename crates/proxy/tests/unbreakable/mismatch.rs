//! Group Protocol mismatch.

use std::process::Stdio;
use std::time::Duration;

use mutua_identity::stream::TlsStream;
use mutua_identity::{Ca, ServerConfig, Session, TrustDomain};
use mutua_proxy::connections::Outcome;
use mutua_proxy::reasons::Reason;
use mutua_testbed::cases::{Case, Expected, case};
use mutua_testbed::hello::{Hello, record};
use mutua_testbed::peers::{Secured, mesh_client, plain_client};
use mutua_testbed::{App, CLIENT, PATIENCE, read_exactly, read_to_end, wire};
use mutua_wire::mesh::{Mode, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::bench::{Bench, EVIL, limits};

/// The connection preface of HTTP/2, with an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0EVIL";
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x01\x0a\0\0\x02\x01\xbb\0\x50EVIL";

fn as_served(name: &str, outcome: Outcome) -> Case {
    Case { expected: Expected::Served(outcome), ..case(name) }
}

/// Sends bytes, reads them back, and closes.
async fn echoed(bench: &Bench, bytes: &[u8]) {
    let mut stream = bench.connect().await;
    stream.write_all(bytes).await.unwrap();
    assert_eq!(read_exactly(&mut stream, bytes.len()).await, bytes, "untouched, both ways");
}

#[tokio::test]
async fn plaintext_to_strict() {
    for protocol in [Protocol::Auto, Protocol::Tcp, Protocol::Http] {
        let bench = Bench::new(Mode::Strict, protocol).await;
        for bytes in [b"GET /EVIL HTTP/1.1\r\nhost: a\r\n\r\n".as_slice(), b"\0\0\x01EVIL", b"\x17\x03\x03\0\x04EVIL", b"E"] {
            bench.survives("plaintext_to_strict", async |bench| drop(bench.send(bytes).await)).await;
        }
        let slowly = async |bench: &Bench| {
            let mut stream = bench.connect().await;
            for byte in EVIL {
                let _ = stream.write_all(&[*byte]).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let _ = read_to_end(&mut stream).await;
        };
        bench.survives("plaintext_to_strict", slowly).await;
    }
}

#[tokio::test]
async fn tls_without_certificate_to_strict() {
    let bench = Bench::strict().await;
    let config = plain_client(&bench.authority);
    let ours = async |bench: &Bench| {
        if let Ok(mut secured) = Secured::over(bench.connect().await, &config, Some("a"), &[b"istio"]).await {
            // In TLS 1.3 a client is done before the server has seen that the certificate is missing.
            let _ = secured.send(EVIL).await;
            let _ = read_to_end(&mut secured.stream).await;
        }
    };
    bench.survives("tls_without_certificate_to_strict", ours).await;
    let to = bench.server.address.to_string();
    let url = format!("https://{to}/EVIL");
    let openssl = ["s_client", "-ign_eof", "-connect", &to];
    let curl = ["--silent", "--show-error", "--insecure", "--max-time", "30", &url];
    for (program, arguments) in [("openssl", &openssl[..]), ("curl", &curl)] {
        let attack = async |_: &Bench| {
            let mut command = tokio::process::Command::new(program);
            command.args(arguments).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().expect("installed");
            let _ = child.stdin.as_mut().unwrap().write_all(EVIL).await;
            let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
            let told = String::from_utf8_lossy(&output.stderr).to_lowercase();
            assert!(told.contains("certificate required"), "{program} is told why: {told}");
        };
        bench.survives("tls_without_certificate_to_strict", attack).await;
    }
}

#[tokio::test]
async fn mtls_to_disable() {
    let bench = Bench::new(Mode::Disable, Protocol::Tcp).await;
    let config = mesh_client(&bench.authority, &bench.authority.leaf(CLIENT));
    let mut session = Session::client(&config, None, &[b"istio"]).unwrap();
    let mut hello = Vec::new();
    session.start(&mut hello).unwrap();
    // Nobody looks at the bytes of such a port, so they count as what the port says.
    bench.survives("mtls_to_disable", async |bench| echoed(bench, &hello).await).await;
    bench.server.put("shop/it", &wire::inbound(Mode::Disable, &[(bench.app.address, Protocol::Http)]));
    let refused = Case { expected: Expected::Refused(Reason::TlsOnPlaintextHttpPort), ..case("mtls_to_disable") };
    bench.survives_as(refused, 1, async |bench| drop(bench.send(&hello).await)).await;
}

#[tokio::test]
async fn own_tls_to_permissive() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::load_or_create(folder.path(), &TrustDomain::new("example.com").unwrap()).unwrap();
    let id = "spiffe://example.com/ns/a/sa/b".parse().unwrap();
    let own = ca.sign_server(&id, &["localhost".to_owned()], Duration::from_secs(600)).unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, ca.bundle().to_pem()).unwrap();
    let config = ServerConfig::control_plane(&own, ca.bundle()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = App { address: listener.local_addr().unwrap(), seen: std::sync::Arc::default() };
    // Mesh callers, whose TLS ends at the sidecar, and its own TLS come to the same port.
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let config = config.clone();
            tokio::spawn(async move {
                let mut first = [0];
                if stream.peek(&mut first).await.is_ok_and(|_| first[0] == 22) {
                    let Ok(mut tls) = TlsStream::accept(&config, stream).await else { return };
                    let _ = tls.read(&mut [0; 4096]).await;
                    let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nmy own").await;
                    let _ = tls.shutdown().await;
                } else {
                    let (mut read, mut write) = stream.into_split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                }
            });
        }
    });
    let bench = Bench::over(Mode::Permissive, Protocol::Tcp, app, limits()).await;
    let attack = async |bench: &Bench| {
        let to = bench.server.address;
        let mut command = tokio::process::Command::new("curl");
        command.args(["--silent", "--show-error", "--no-alpn", "--cacert"]).arg(&roots);
        command.arg("--connect-to").arg(format!("localhost:443:{to}")).arg("https://localhost/").kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().expect("curl is installed");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "my own", "{}", String::from_utf8_lossy(&output.stderr));
    };
    bench.survives("own_tls_to_permissive", attack).await;
}

#[tokio::test]
async fn server_first_to_permissive() {
    let bench = Bench::greeted(Mode::Permissive, Protocol::Auto, b"220 ready\r\n").await;
    let attack = async |bench: &Bench| {
        let mut stream = bench.connect().await;
        assert_eq!(read_exactly(&mut stream, 11).await, b"220 ready\r\n");
        stream.write_all(b"QUIT").await.unwrap();
        assert_eq!(read_exactly(&mut stream, 4).await, b"QUIT");
    };
    bench.survives("server_first_to_permissive", attack).await;
}

#[tokio::test]
async fn empty_connect() {
    let bench = Bench::strict().await;
    bench.survives("empty_connect", async |bench| drop(bench.connect().await)).await;
    // Who stays and says nothing waits for a server that speaks first, without TLS.
    let silent = Case { expected: Expected::Refused(Reason::PlaintextOnStrictPort), ..case("empty_connect") };
    bench.survives_as(silent, 1, async |bench| drop(bench.send(b"").await)).await;
}

#[tokio::test]
async fn http2_preface() {
    let bench = Bench::new(Mode::Strict, Protocol::Http2).await;
    bench.survives("http2_preface", async |bench| drop(bench.send(PREFACE).await)).await;
    bench.server.put("shop/it", &wire::inbound(Mode::Permissive, &[(bench.app.address, Protocol::Http2)]));
    bench.survives_as(as_served("http2_preface", Outcome::Plaintext), 1, async |bench| echoed(bench, PREFACE).await).await;
}

#[tokio::test]
async fn proxy_header() {
    let bench = Bench::strict().await;
    let headers = [b"PROXY TCP4 10.0.0.1 10.0.0.2 443 80\r\nEVIL".as_slice(), PROXY_V2];
    for bytes in headers {
        bench.survives("proxy_header", async |bench| drop(bench.send(bytes).await)).await;
    }
    bench.server.put("shop/it", &wire::inbound(Mode::Permissive, &[(bench.app.address, Protocol::Auto)]));
    for bytes in headers {
        let served = as_served("proxy_header", Outcome::Plaintext);
        let records = bench.survives_as(served, 1, async |bench| echoed(bench, bytes).await).await;
        assert!(records.iter().all(|record| record.peer_address.starts_with("127.0.0.1:")), "never believed");
    }
}

#[tokio::test]
async fn almost_tls() {
    let bench = Bench::strict().await;
    let other = [&record(22, b"\x02EVIL")[..], b"and more"].concat();
    let broken = {
        let mut hello = Hello::default().records(1 << 14);
        let end = hello.len();
        hello[end - 60..].fill(0xff);
        hello
    };
    let inputs = [b"\x16EVIL".as_slice(), b"\x16\x03\x05\0\x01EVIL", b"\x16\x03\x01\xff\xffEVIL", &other, &broken];
    for bytes in inputs {
        bench.survives("almost_tls", async |bench| drop(bench.send(bytes).await)).await;
    }
    bench.server.put("shop/it", &wire::inbound(Mode::Permissive, &[(bench.app.address, Protocol::Auto)]));
    for bytes in inputs {
        bench.survives_as(as_served("almost_tls", Outcome::Plaintext), 1, async |bench| echoed(bench, bytes).await).await;
    }
}
