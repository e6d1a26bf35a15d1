//! Rewritten probes and waiting for readiness, as the kubelet asks for them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use mutua_identity::stream::TlsStream;
use mutua_identity::{Ca, ServerConfig, TrustDomain};
use mutua_proxy::admin::{Admin, Origin, Pages, serve_connection};
use mutua_proxy::connections::Direction;
use mutua_proxy::settings::Workload;
use mutua_testbed::{Authority, Running, SERVER, wire};
use mutua_wire::mesh::Mode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

fn admin(of: &Running) -> Admin {
    let workload = Workload { namespace: "shop".to_owned(), name: "web".to_owned() };
    Admin { sidecar: Arc::clone(&of.sidecar), origin: Origin::Static(workload), stopping: CancellationToken::new() }
}

async fn get(admin: &Admin, pages: Pages, path: &str) -> String {
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(serve_connection(admin.clone(), pages, far));
    near.write_all(format!("GET {path} HTTP/1.1\r\nhost: 10.0.0.7:15020\r\n\r\n").as_bytes()).await.unwrap();
    let mut said = String::new();
    near.read_to_string(&mut said).await.unwrap();
    serving.await.unwrap();
    said
}

#[tokio::test]
async fn a_probe_by_https_takes_any_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::load_or_create(folder.path(), &TrustDomain::new("partner.example").unwrap()).unwrap();
    let own =
        ca.sign_server(&"spiffe://partner.example/ns/a/sa/b".parse().unwrap(), &["other".to_owned()], Duration::from_secs(600));
    let config = ServerConfig::control_plane(&own.unwrap(), ca.bundle()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let application = tokio::spawn(async move {
        let mut tls = TlsStream::accept(&config, listener.accept().await.unwrap().0).await.unwrap();
        let mut said = vec![0; 4096];
        let length = tls.read(&mut said).await.unwrap();
        tls.write_all(b"HTTP/1.1 503 x\r\ncontent-length: 4\r\n\r\nbusy").await.unwrap();
        tls.flush().await.unwrap();
        String::from_utf8(said[..length].to_vec()).unwrap()
    });
    let probe = format!(r#"{{"httpGet": {{"path": "/ok", "port": {port}, "scheme": "HTTPS"}}, "timeoutSeconds": 20}}"#);
    let probers = format!(r#"{{"/app-health/web/readyz": {probe}}}"#).parse().unwrap();
    let running = Running::with(Direction::Inbound, None, |sidecar| sidecar.probers = probers).await;
    let admin = admin(&running);
    let said = get(&admin, Pages::Metrics, "/app-health/web/readyz").await;
    assert!(said.starts_with("HTTP/1.1 503 ") && said.ends_with("busy"), "{said}");
    let told = application.await.unwrap();
    assert!(told.starts_with("GET /ok HTTP/1.1\r\n") && told.contains(&format!("host: 10.0.0.7:{port}\r\n")), "{told}");
}

#[tokio::test]
async fn who_waits_is_told_once_the_sidecar_serves() {
    let authority = Authority::new();
    let running = Running::start(Direction::Inbound, Some(authority.leaf(SERVER))).await;
    let admin = admin(&running);
    assert!(get(&admin, Pages::Readiness, "/app-health/web/readyz").await.starts_with("HTTP/1.1 400 "));
    assert!(get(&admin, Pages::Metrics, "/wait/ready").await.starts_with("HTTP/1.1 404 "), "not among the metrics");
    let waiting = tokio::spawn({
        let admin = admin.clone();
        async move { get(&admin, Pages::Readiness, "/wait/ready").await }
    });
    assert!(get(&admin, Pages::Readiness, "/healthz/ready").await.starts_with("HTTP/1.1 503 "));
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    running.configure(&authority, &wire::inbound(Mode::Strict, &[]));
    assert!(waiting.await.unwrap().starts_with("HTTP/1.1 200 "));
}
