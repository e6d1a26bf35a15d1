//! What dies when: the list of certificates, its metrics, and readiness.

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::Mesh;
use common::discovery::Client;
use mutua_identity::{Ca, Credentials, TrustDomain};
use mutua_wire::MeshResource;
use mutua_wire::mesh::{self, ProxyReport};
use serde_json::Value;

const PROXY: &str = "shop/front";
const TEN_YEARS: Duration = Duration::from_secs(3650 * 24 * 3600);

fn row<'a>(answer: &'a Value, kind: &str) -> &'a Value {
    let rows = answer["certificates"].as_array().expect("rows");
    rows.iter().find(|row| row["kind"] == kind).unwrap_or_else(|| panic!("no {kind} in {answer:#}"))
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_else(|| panic!("no {field} in {row:#}"))
}

/// The proxy's streams: for its configuration, and for what it reports.
async fn connected(mesh: &Mesh, leaf: &Credentials) -> (Client, tokio::sync::mpsc::Sender<ProxyReport>) {
    let mut client = Client::open(mesh, Some(leaf), PROXY).await.expect("connects");
    client.subscribe_all(mesh::TrustBundle::TYPE_URL).await;
    (client, mesh.reports(leaf).await)
}

/// When a leaf ends, Unix seconds.
fn end(leaf: &Credentials) -> i64 {
    i64::try_from(leaf.not_after().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()).expect("small")
}

#[tokio::test]
async fn every_certificate_tells_its_end_and_what_fails() {
    let mesh = Mesh::start().await;
    let leaf = mesh.join(PROXY).await;
    mesh.token("shop/back").await;
    let (_client, reports) = connected(&mesh, &leaf).await;
    let end = end(&leaf);
    let report = |error: &str| ProxyReport {
        workload: PROXY.to_owned(),
        certificate_serial: leaf.serial().to_owned(),
        certificate_not_after: end,
        renewals: 3,
        failed_renewals: u64::from(!error.is_empty()),
        last_renewal_error: error.to_owned(),
        clock_skew_ms: -65_000,
        ..ProxyReport::default()
    };
    reports.send(report("")).await.expect("the stream is open");
    let answer = mesh.until("/api/v1/certificates", |answer| row(answer, "workload")["clockSkewMs"] == -65_000).await;
    for kind in ["root", "control-plane", "workload"] {
        let row = row(&answer, kind);
        for field in ["owner", "serial", "issuer", "notAfter", "renewAt"] {
            assert!(!text(row, field).is_empty(), "{field} of {row:#}");
        }
        assert!(row["remainingSeconds"].as_i64() > row["renewInSeconds"].as_i64() && row["forecast"].is_null(), "{row:#}");
    }
    let token = row(&answer, "token");
    assert!((1..=60).contains(&token["remainingSeconds"].as_i64().expect("a number")) && token["renewAt"].is_null(), "{token:#}");
    assert_eq!((text(row(&answer, "workload"), "lastAttempt"), row(&answer, "workload")["renewals"].as_u64()), ("ok", Some(3)));

    reports.send(report("the signing key is away")).await.expect("the stream is open");
    let failing = |answer: &Value| row(answer, "workload")["lastAttempt"] == "failed";
    let answer = mesh.until("/api/v1/certificates", failing).await;
    let worker = row(&answer, "workload");
    let told = format!("renewal fails; at this rate {PROXY} stops working at {}", text(worker, "notAfter"));
    assert_eq!((text(worker, "forecast"), text(worker, "lastRenewalError")), (told.as_str(), "the signing key is away"));
    let (_, metrics) = mesh.http("GET", "/metrics", "localhost", &[]).await;
    let owner = format!("kind=\"workload\",owner=\"{}\"", common::FRONT);
    for line in [
        format!("mutua_certificate_expiry_timestamp_seconds{{{owner}}} {end}"),
        format!("mutua_certificate_renewal_failing{{{owner}}} 1"),
        format!("mutua_certificate_clock_skew_seconds{{{owner}}} -65"),
        "mutua_certificate_renewal_failing{kind=\"root\",owner=\"O=cluster.local\"} 0".to_owned(),
        "mutua_certificates_not_shown 0".to_owned(),
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line} in\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n") && metrics.matches("# EOF").count() == 1, "{metrics}");
    assert!(!metrics.contains("kind=\"token\""));
}

#[tokio::test]
async fn a_proxy_that_is_away_is_forecast_over_a_restart() {
    let mesh = Mesh::start().await;
    let leaf = mesh.join(PROXY).await;
    let (client, reports) = connected(&mesh, &leaf).await;
    let report = ProxyReport { workload: PROXY.to_owned(), certificate_not_after: end(&leaf), ..ProxyReport::default() };
    reports.send(report).await.expect("the stream is open");
    let kept = mesh.folder.path().join("state/proxies.json");
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    while !std::fs::read_to_string(&kept).is_ok_and(|text| text.contains(PROXY)) {
        assert!(tokio::time::Instant::now() < deadline, "it is kept");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop((client, reports));
    let mesh = mesh.restart().await;
    let answer = mesh.get("/api/v1/certificates").await;
    let away = row(&answer, "workload");
    assert_eq!((text(away, "owner"), &away["workloads"][0]), (common::FRONT, &PROXY.into()));
    assert!(
        text(away, "forecast").starts_with("shop/front is not connected and does not renew; at this rate it stops working at ")
    );
}

#[tokio::test]
async fn a_dead_certificate_of_the_control_plane_ends_its_readiness() {
    let folder = tempfile::tempdir().expect("a folder");
    let domain = TrustDomain::new("cluster.local").expect("a domain");
    // Ten years ago, less the seconds that remain.
    let made = SystemTime::now() + Duration::from_secs(6) - TEN_YEARS;
    Ca::load_or_create_at(folder.path(), &domain, made).expect("made");
    let mesh = Mesh::with(|settings| settings.ca_dir = Some(folder.path().to_owned())).await;
    let (status, ready) = mesh.http("GET", "/readyz", "localhost", &[]).await;
    assert_eq!(status, 200, "{ready}");
    let answer = mesh.get("/api/v1/certificates").await;
    let forecast = text(row(&answer, "root"), "forecast");
    assert!(forecast.starts_with("nothing renews it; put its successor into --ca-dir, or the whole mesh stops"), "{forecast}");
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    let dead = loop {
        let (status, answer) = mesh.http("GET", "/readyz", "localhost", &[]).await;
        if status == 503 {
            break answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "{status}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(dead.contains("the control plane's own certificate has ended"), "{dead}");
    let failing = |answer: &Value| row(answer, "control-plane")["lastAttempt"] == "failed";
    let answer = mesh.until("/api/v1/certificates", failing).await;
    let own = row(&answer, "control-plane");
    assert!(text(own, "forecast").starts_with("renewal fails; no proxy can connect since "), "{own:#}");
    let error = text(own, "lastRenewalError");
    assert!(
        own["failedRenewals"].as_u64() > Some(0) && error.contains("the signing certificate, or one above it, ended at 20"),
        "{own:#}"
    );
}
