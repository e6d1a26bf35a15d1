//! The control plane's API, asked anything, while proxies report anything.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use mutua_control::api::{guard::Names, router};
use mutua_control::names::WorkloadName;
use mutua_control::sign::jwks::JwtSettings;
use mutua_control::{ControlPlane, Parts, Settings};
use mutua_wire::mesh::{Anchored, ProxyReport, Refusal};
use prost::Message;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{Random, Target};

/// The target. Its input is a line `METHOD TARGET`, the rest of which, after a line end, is the body; or, behind a zero
/// byte, a report.
pub const TARGET: Target = Target {
    name: "control_api",
    run,
    grammar,
    words: &[
        b"GET /api/v1/explain?from=shop/front&to=cart.shop:80",
        b"GET /api/v1/explain?workload=shop/front",
        b"POST /api/v1/tokens\n{\"workload\":\"shop/front\",\"ttl_seconds\":60}",
        b"GET /api/v1/certificates",
        b"&subset=",
        b"%00",
        b"%ff",
        b"[::1]:80",
        b"pod/shop/",
        b"18446744073709551615",
        b"\0\x18\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    ],
    longest: 32 * 1024,
    memory: 2 * 1024 * 1024,
    memory_per_byte: 40,
};

const FRONT: &str = "spiffe://cluster.local/ns/shop/sa/front";

struct Plane {
    parts: Arc<Parts>,
    router: Router,
    asking: Runtime,
    _plane: ControlPlane,
    _serving: Runtime,
    _folder: tempfile::TempDir,
}

thread_local! {
    /// One that runs for all inputs; changes of its root and of its rollouts are not asked for. It ends with its thread, and
    /// its folder with it.
    static PLANE: Plane = plane();
}

fn plane() -> Plane {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("config")).unwrap();
    std::fs::write(folder.path().join("config/shop.yaml"), SHOP).unwrap();
    let serving = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let plane = serving.block_on(Box::pin(ControlPlane::start(settings(folder.path()), CancellationToken::new()))).unwrap();
    let parts = Arc::clone(&plane.parts);
    parts.registry.connect(&WorkloadName::new("shop", "front"), FRONT, "10.0.0.1", "1", SystemTime::now());
    let asking = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // A stream ends at once: nobody waits for its end here.
    let stop = CancellationToken::new();
    stop.cancel();
    Plane { router: router(Arc::clone(&parts), stop), parts, asking, _plane: plane, _serving: serving, _folder: folder }
}

fn settings(folder: &Path) -> Settings {
    Settings {
        config: Some(folder.join("config")),
        state: folder.join("state"),
        listen: "127.0.0.1:0".parse().unwrap(),
        ca_dir: None,
        api: "127.0.0.1:0".parse().unwrap(),
        advertise: Vec::new(),
        leaf_ttl: None,
        jwt: JwtSettings::default(),
        drain_duration: Duration::from_secs(45),
        stage_timeout: Duration::ZERO,
        compliance_policy: String::new(),
    }
}

/// What must hold.
pub fn run(bytes: &[u8]) {
    if let Some(report) = bytes.strip_prefix(&[0]) {
        let Ok(report) = ProxyReport::decode(report) else { return };
        let now = SystemTime::now();
        PLANE.with(|plane| plane.parts.registry.report(&WorkloadName::new("shop", "front"), FRONT, &report, now));
        for path in ["proxies", "certificates", "status"] {
            let (status, _) = ask("GET", &format!("/api/v1/{path}"), b"");
            assert_eq!(status, 200, "{path}");
        }
        assert_eq!(ask("GET", "/metrics", b"").0, 200);
        return;
    }
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (line, body) = (String::from_utf8_lossy(&bytes[..end]), bytes.get(end + 1..).unwrap_or_default());
    let (method, target) = line.split_once(' ').unwrap_or(("GET", &line));
    let names = Names::new(&["mesh.example".to_owned()]);
    if names.allow(target) {
        let lower = target.to_ascii_lowercase();
        assert!(["mesh.example", "localhost", "127.", "["].iter().any(|start| lower.starts_with(start)), "{target:?} may call");
    }
    if !["/api/v1/ca/", "/api/v1/rollouts/complete"].iter().any(|path| target.contains(path)) {
        ask(method, target, body);
    }
}

/// The answer, if it can be asked at all.
fn ask(method: &str, target: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let Ok(request) =
        Request::builder().method(method).uri(target).header("content-type", "application/json").body(body.to_vec())
    else {
        return (0, Vec::new());
    };
    PLANE.with(|plane| {
        let (head, body) = plane.asking.block_on(async {
            let answer = plane.router.clone().oneshot(request.map(Body::from)).await.unwrap();
            let (head, body) = answer.into_parts();
            (head, body.collect().await.unwrap().to_bytes())
        });
        let json = head.headers.get("content-type").is_some_and(|kind| kind == "application/json");
        let read = serde_json::from_slice::<serde_json::Value>(&body);
        assert!(!json || read.is_ok() || method == "HEAD", "{target:?}: {}", String::from_utf8_lossy(&body));
        let fails = head.status.is_server_error();
        assert!(!fails || head.status == 503, "{method} {target:?}: {} {}", head.status, String::from_utf8_lossy(&body));
        (head.status.as_u16(), body.to_vec())
    })
}

fn grammar(random: &mut Random) -> Vec<u8> {
    if random.once_in(2) {
        let mut bytes = vec![0];
        report(random).encode(&mut bytes).unwrap();
        return bytes;
    }
    let who = [
        "shop/front",
        "shop/cart",
        "cart",
        "pod/shop/front",
        "shop/",
        "",
        "a/b/c/d",
        "%00",
        "shop%2Ffront",
        "istio-system/istiod",
    ];
    let hosts = [
        "cart.shop:80",
        "cart",
        "cart:81",
        "10.0.0.2:80",
        "[::1]:80",
        "a:99999",
        ":",
        "cart.shop.svc.cluster.local.:80",
        "*.b:80",
    ];
    let (from, to) = (random.one_of(&who), random.one_of(&hosts));
    let text = match random.below(8) {
        0 => format!("GET /api/v1/explain?workload={from}"),
        1 => format!("GET /api/v1/explain?from={from}&to={to}&subset={from}"),
        2 => format!("POST /api/v1/tokens\n{{\"workload\":\"{from}\",\"ttl_seconds\":{}}}", random.number()),
        3 => format!("{} /api/v1/tokens", random.one_of(&["GET", "PUT", "DELETE", "HEAD", "BREW"])),
        4 => format!(
            "GET {}",
            random.one_of(&[
                "/api/v1/certificates",
                "/api/v1/ca",
                "/api/v1/mesh",
                "/api/v1/traffic?window=1h",
                "/api/v1/plaintext?window=x",
                "/api/v1/stream",
                "/assets/x",
                "/readyz",
                "/metrics",
                "/",
                "//",
                "*"
            ])
        ),
        _ => format!("GET /api/v1/explain?from={from}&to={to}"),
    };
    text.into_bytes()
}

fn report(random: &mut Random) -> ProxyReport {
    let time = |random: &mut Random| {
        random.one_of(&[0, 1, -1, i64::MAX, i64::MIN, 253_402_300_800, 1 << 50, -62_135_596_801, 1_700_000_000])
    };
    let count = |random: &mut Random| random.one_of(&[0, 1, 7, u64::MAX, u64::MAX / 2]);
    let anchored = (0..random.length(40)).map(|_| Anchored {
        anchor: random.text(),
        connections: random.number() as u32,
        until: time(random),
    });
    let anchored = anchored.collect();
    let refusals = (0..random.length(40)).map(|_| Refusal {
        code: random.text(),
        direction: random.text(),
        peer_address: random.text(),
        peer_identity: random.text(),
        message: random.text(),
        port: random.number() as u32,
        count: count(random),
    });
    ProxyReport {
        refusals: refusals.collect(),
        certificate_serial: random.text(),
        certificate_not_before: time(random),
        certificate_not_after: time(random),
        renewals: count(random),
        failed_renewals: count(random),
        last_renewal_error: random.text(),
        clock_skew_ms: time(random),
        open_connections: count(random),
        anchored,
        ..ProxyReport::default()
    }
}

/// Two workloads and a service.
const SHOP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.10, selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: cart, namespace: shop}
spec: {address: 10.0.0.2, serviceAccount: cart, labels: {app: cart}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: front, namespace: shop}
spec: {address: 10.0.0.1, serviceAccount: front, labels: {app: front}}
"#;
