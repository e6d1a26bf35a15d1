//! Many proxies at once, over real gRPC and mutual TLS on loopback: with delays, lost connections and reconnects, all end
//! up with the newest policy.
//!
//! `MUTUA_SCALE=2000 cargo test --release -p mutua-control --test scale -- --nocapture` prints figures for more.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::discovery::{Client, versions};
use common::{Mesh, settings};
use mutua_identity::{Ca, Credentials, PrivateKey, TrustDomain, certificate_request};
use mutua_wire::MeshResource;
use mutua_wire::mesh::{InboundPolicy, Mode};
use tokio::sync::watch;

const LAST: u64 = 5;

fn workload(number: usize) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: w{number}, namespace: load}}\n\
         spec: {{address: 10.{}.{}.{}, serviceAccount: a{number}, labels: {{app: w{number}, security.istio.io/tlsMode: istio}}}}\n",
        number >> 16,
        (number >> 8) & 255,
        number & 255
    )
}

fn policy(number: u64) -> String {
    let mode = if number % 2 == 1 { "STRICT" } else { "PERMISSIVE" };
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: default, namespace: load}}\n\
         spec: {{mtls: {{mode: {mode}}}}}\n"
    )
}

/// A number that differs from proxy to proxy and step to step, the same in each run.
fn scatter(seed: usize, step: usize) -> u64 {
    let mut x = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (step as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 31;
    x.wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
}

/// One proxy: acknowledges at its own pace, loses its connection now and then, and ends when it holds the last policy.
async fn proxy(
    mesh: Arc<Mesh>,
    number: usize,
    credentials: Credentials,
    mut done: watch::Receiver<bool>,
    unsteady: bool,
) -> usize {
    let name = format!("load/w{number}");
    let (mut held, mut connections) = (BTreeMap::new(), 0);
    loop {
        connections += 1;
        let Ok(mut client) = Client::open(&mesh, Some(&credentials), &name).await else { continue };
        client.subscribe(InboundPolicy::TYPE_URL, &["*"], held.clone()).await;
        for step in 0.. {
            let Ok(response) = client.next().await else { break };
            if unsteady {
                tokio::time::sleep(Duration::from_millis(scatter(number, step) % 50)).await;
            }
            held.extend(versions(&response));
            let newest = response.resources.first().map(|resource| {
                let any = resource.resource.as_ref().expect("a message");
                InboundPolicy::unpack(any).expect("a policy")
            });
            client.ack(&response).await;
            let strict = newest.is_some_and(|policy| policy.mode() == Mode::Strict);
            if strict && response.system_version_info == (LAST + 1).to_string() {
                // The acknowledgement is under way; the stream stays open until the control plane has taken it.
                let _ = done.wait_for(|done| *done).await;
                return connections;
            }
            if unsteady && scatter(number, step + 100).is_multiple_of(4) {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_proxies_end_up_with_the_newest_policy() {
    let asked = std::env::var("MUTUA_SCALE").ok().and_then(|number| number.parse().ok());
    let (count, unsteady) = (asked.unwrap_or(40), asked.is_none());
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("config")).expect("made");
    let all: String = (0..count).map(workload).collect();
    std::fs::write(folder.path().join("config/load.yaml"), all).expect("written");
    let settings = settings(folder.path());
    let mesh = Arc::new(Mesh::over(folder, settings).await.expect("starts"));
    let ca = Ca::load_or_create(&mesh.folder.path().join("state/ca"), &TrustDomain::new("cluster.local").expect("a name"))
        .expect("the CA");
    let (done, follow) = watch::channel(false);
    let began = Instant::now();
    let mut proxies = tokio::task::JoinSet::new();
    for number in 0..count {
        let key = PrivateKey::generate().expect("a key");
        let id = format!("spiffe://cluster.local/ns/load/sa/a{number}").parse().expect("an id");
        let issued = ca.sign(&certificate_request(&key).expect("a request"), &id, Duration::from_secs(3600)).expect("signed");
        let (_roots, chain) = issued.chain_pem.split_last().expect("a chain");
        let credentials = Credentials::new(&key, chain).expect("fits");
        proxies.spawn(proxy(Arc::clone(&mesh), number, credentials, follow.clone(), unsteady));
    }
    let connected = |status: &serde_json::Value| status["proxiesConnected"].as_u64() >= Some(count as u64 * 3 / 4);
    mesh.until("/api/v1/status", connected).await;
    println!("{count} proxies connected after {:?}", began.elapsed());
    for number in 1..=LAST {
        mesh.write("policy.yaml", &policy(number));
        let began = Instant::now();
        let current =
            |status: &serde_json::Value| status["generation"] == number + 1 && (unsteady || status["proxiesCurrent"] == count);
        mesh.until("/api/v1/status", current).await;
        println!("change {number} acknowledged after {:?}", began.elapsed());
    }
    let current = |status: &serde_json::Value| status["proxiesCurrent"] == count;
    mesh.until("/api/v1/status", current).await;
    done.send_replace(true);
    let connections: usize = proxies.join_all().await.into_iter().sum();
    println!("{connections} connections in all");
    assert!(!unsteady || connections > count, "some connections were lost on the way");
}
