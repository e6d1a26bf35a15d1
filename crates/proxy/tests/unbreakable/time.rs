//! Group Time: clocks that differ and jump. A caller's clock is that of the CA that dated its leaf.

use std::time::{Duration, SystemTime};

use mutua_identity::{Credentials, PrivateKey};
use mutua_testbed::cases::{Expected, case};
use mutua_testbed::member::Member;
use mutua_testbed::peers::{Secured, mesh_client};
use mutua_testbed::plane::{Forge, Plane, until};
use mutua_testbed::{Authority, CLIENT, SERVER};
use mutua_wire::mesh::TrustBundle;

use crate::bench::Bench;
use crate::certificates::{served, shown};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[tokio::test]
async fn not_yet_valid() {
    let bench = Bench::strict().await;
    let leaf = bench.authority.leaf_at(SystemTime::now() + Duration::from_secs(300), CLIENT, DAY);
    bench.survives("not_yet_valid", async |bench| shown(bench, &leaf).await).await;
}

#[tokio::test]
async fn expires_mid_connection() {
    let bench = Bench::strict().await;
    let leaf = bench.authority.leaf_for(CLIENT, Duration::from_secs(4));
    let config = mesh_client(&bench.authority, &leaf);
    let attack = async |bench: &Bench| {
        // Only the first round comes before the end.
        let open = Secured::over(bench.connect().await, &config, None, &[b"istio"]).await;
        let Ok(mut open) = open else { return };
        if open.echo(b"before").await.is_err() {
            return;
        }
        let left = leaf.not_after().duration_since(SystemTime::now()).unwrap_or_default();
        tokio::time::sleep(left + Duration::from_millis(1100)).await;
        assert_eq!(open.echo(b"after").await.unwrap(), b"after", "a connection goes on");
        open.close().await.unwrap();
        shown(bench, &leaf).await;
    };
    // One connection that goes on, and one that is refused; later rounds have none of the first kind.
    let Expected::Told(words) = case("expires_mid_connection").expected else { panic!("told in words") };
    assert!(words.contains("goes on"));
    attack(&bench).await;
    let record = bench.server.refused(mutua_proxy::reasons::Reason::CertificateExpired).await;
    assert_eq!(record.peer_id.as_deref(), Some(CLIENT), "{record:#?}");
    bench.others_are_served().await;
}

#[tokio::test]
async fn expired_leaf() {
    let bench = Bench::strict().await;
    let leaf = bench.authority.leaf_at(SystemTime::now() - 2 * HOUR, CLIENT, HOUR);
    bench.survives("expired_leaf", async |bench| shown(bench, &leaf).await).await;
}

#[tokio::test]
async fn expired_intermediate() {
    let bench = Bench::strict().await;
    // An intermediate that ended in 2021 with a leaf of today below it.
    let key = PrivateKey::generate().unwrap().to_pkcs8_pem();
    let extensions = "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n";
    let ended = bench.authority.odd(&key, extensions, &["-startdate", "20200101000000Z", "-enddate", "20210101000000Z"]);
    let leaf_key = PrivateKey::generate().unwrap();
    let text = format!("extendedKeyUsage=clientAuth,serverAuth\nsubjectAltName=URI:{CLIENT}\n");
    let leaf = Authority::of(&key, &ended).odd(&leaf_key.to_pkcs8_pem(), &text, &["-days", "1"]);
    let leaf = Credentials::new(&leaf_key, &[leaf, ended]).unwrap();
    bench.survives("expired_intermediate", async |bench| shown(bench, &leaf).await).await;
}

#[tokio::test]
async fn expired_root() {
    let bench = Bench::strict().await;
    let old = Authority::made_at(SystemTime::now() - 10 * YEAR - DAY);
    let both = [bench.authority.roots(), old.roots()].concat();
    bench.server.put("default", &TrustBundle { roots: both, ..bench.authority.trust() });
    // It asked for more life than its root had left.
    let leaf = old.leaf_at(SystemTime::now() - 3 * DAY, CLIENT, 30 * DAY);
    bench.survives("expired_root", async |bench| shown(bench, &leaf).await).await;
}

/// A sidecar with leaves of eight seconds, whose next answers of the CA are dated by another clock.
async fn renewing(forge: Option<Forge>) -> (Plane, Member, String) {
    let plane = Plane::start().await;
    *plane.shared.ttl.lock().unwrap() = Duration::from_secs(8);
    let member = Member::join(&plane).await;
    plane.send("bundle", "default", &TrustBundle { roots: plane.roots(), ..TrustBundle::default() });
    until("the roots", || member.certificates.world.bundle().is_some()).await;
    let first = member.serial();
    *plane.shared.forge.lock().unwrap() = forge;
    (plane, member, first)
}

fn dated(by: impl Fn() -> SystemTime + Send + 'static, life: Duration) -> Option<Forge> {
    Some(Box::new(move |ca, csr, _| ca.sign_at(by(), csr, &SERVER.parse().unwrap(), life).unwrap().chain_pem))
}

/// The sidecar refuses what such a CA answers, keeps its leaf, says why, and takes the next good answer.
async fn refuses(name: &str, forge: Option<Forge>) {
    let Expected::Told(words) = case(name).expected else { panic!("{name} is told in words") };
    assert!(words.contains("the leaf in use stays"), "{words}");
    let (plane, member, first) = renewing(forge).await;
    until(name, || member.certificates.status().failed >= 1).await;
    let said = member.certificates.status().last_error;
    assert!(said.contains("the control plane's answer is not used: certificate chain: "), "{said}");
    assert_eq!(member.serial(), first);
    *plane.shared.forge.lock().unwrap() = None;
    until("a good answer", || member.serial() != first).await;
    assert_eq!(member.certificates.status().last_error, "");
}

#[tokio::test]
async fn clock_an_hour_behind() {
    // The CA's leaf begins in our future.
    refuses("clock_an_hour_behind", dated(|| SystemTime::now() + HOUR, DAY)).await;
}

#[tokio::test]
async fn clock_an_hour_ahead() {
    let (_plane, member, first) = renewing(dated(|| SystemTime::now() - HOUR, DAY)).await;
    until("a renewal", || member.serial() != first).await;
    let skew = member.certificates.status().clock_skew_ms;
    assert!((3_590_000..3_660_000).contains(&skew), "the clock's lead is told: {skew} ms");
    assert_eq!(member.certificates.status().last_error, "");
}

#[tokio::test]
async fn clock_ten_years_ahead() {
    refuses("clock_ten_years_ahead", dated(|| SystemTime::now() - 10 * YEAR, DAY)).await;
}

#[tokio::test]
async fn slept_eight_hours() {
    // What a sleeper finds: its leaf ended meanwhile, and nobody could be asked.
    let (plane, member, first) = renewing(None).await;
    plane.shared.broken.store(true, std::sync::atomic::Ordering::Relaxed);
    let ended = || member.certificates.world.credentials().is_some_and(|leaf| leaf.not_after() <= SystemTime::now());
    until("the leaf's end", ended).await;
    assert_eq!(member.serial(), first, "not even an ended leaf is dropped before there is another");
    plane.shared.broken.store(false, std::sync::atomic::Ordering::Relaxed);
    until("a new leaf, by the token", || !ended()).await;
    assert_ne!(member.serial(), first);
}

#[tokio::test]
async fn leap_at_handshake() {
    let bench = Bench::strict().await;
    let leap = Duration::from_secs(30);
    let leaves = [SystemTime::now() + leap, SystemTime::now() - leap].map(|now| bench.authority.leaf_at(now, CLIENT, HOUR));
    for leaf in leaves {
        bench.survives("leap_at_handshake", async |bench| served(bench, &leaf).await).await;
    }
}
