//! Group CA faults: a CA that is away, slow or wrong never takes a valid leaf from a sidecar.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mutua_identity::{Ca, PrivateKey, TrustDomain, certificate_request};
use mutua_proxy::connections::Direction;
use mutua_testbed::cases::{Expected, case};
use mutua_testbed::member::{Member, keeper};
use mutua_testbed::plane::{Forge, Plane, TOKEN, until};
use mutua_testbed::{Running, SERVER};
use mutua_wire::mesh::TrustBundle;
use tonic::Code;

/// What the sidecar says in a case, as its table has it.
fn words(name: &str) -> &'static str {
    let Expected::Told(told) = case(name).expected else { panic!("{name} is told in words") };
    told.split('`').nth(1).unwrap_or_else(|| panic!("{told}: says what is said"))
}

/// A sidecar with leaves of eight seconds and little patience, that trusts the CA's root.
async fn member(plane: &Plane) -> Member {
    *plane.shared.ttl.lock().unwrap() = Duration::from_secs(8);
    let member = Member::with(plane, |keeper| keeper.patience = Duration::from_secs(2)).await;
    plane.send("bundle", "default", &TrustBundle { roots: plane.roots(), ..TrustBundle::default() });
    until("the roots", || member.certificates.world.bundle().is_some()).await;
    member
}

/// While the CA does this, renewals fail with the words of the table and the leaf stays; afterwards one works.
async fn keeps_its_leaf(name: &str, harm: impl Fn(&Plane), mend: impl Fn(&Plane)) {
    let plane = Plane::start().await;
    let member = member(&plane).await;
    let first = member.serial();
    harm(&plane);
    until(name, || member.certificates.status().failed >= 1).await;
    let status = member.certificates.status();
    assert!(status.last_error.contains(words(name)), "{name}: {}", status.last_error);
    assert_eq!(member.serial(), first, "{name}");
    mend(&plane);
    until("a renewal", || member.serial() != first).await;
    until("its note", || member.certificates.status().last_error.is_empty()).await;
}

async fn forged(name: &str, forge: impl Fn(&Ca, &str, Vec<String>) -> Vec<String> + Send + Clone + 'static) {
    let harm = |plane: &Plane| *plane.shared.forge.lock().unwrap() = Some(Box::new(forge.clone()) as Forge);
    keeps_its_leaf(name, harm, |plane| *plane.shared.forge.lock().unwrap() = None).await;
}

fn for_id(ca: &Ca, csr: &str, id: &str) -> Vec<String> {
    ca.sign(csr, &id.parse().unwrap(), Duration::from_secs(60)).unwrap().chain_pem
}

fn another() -> Ca {
    let folder = tempfile::tempdir().unwrap();
    Ca::load_or_create(folder.path(), &TrustDomain::new("cluster.local").unwrap()).unwrap()
}

#[tokio::test]
async fn ca_down_at_start() {
    let plane = Plane::start().await;
    plane.shared.broken.store(true, Ordering::Relaxed);
    let (folder, running) = (tempfile::tempdir().unwrap(), Running::start(Direction::Inbound, None).await);
    let keeper = keeper(&plane, &folder, Some(TOKEN), &running);
    let joining = {
        let keeper = std::sync::Arc::clone(&keeper);
        tokio::spawn(async move { keeper.obtain().await })
    };
    until("attempts", || plane.shared.asked.load(Ordering::Relaxed) >= 3).await;
    assert!(!joining.is_finished() && keeper.world.credentials().is_none(), "{}", words("ca_down_at_start"));
    plane.shared.broken.store(false, Ordering::Relaxed);
    joining.await.unwrap().unwrap();
    assert!(keeper.world.credentials().is_some());
}

#[tokio::test]
async fn ca_down_at_renewal() {
    let broken = |broken| move |plane: &Plane| plane.shared.broken.store(broken, Ordering::Relaxed);
    keeps_its_leaf("ca_down_at_renewal", broken(true), broken(false)).await;
}

#[tokio::test]
async fn ca_slow() {
    let delay = |seconds| move |plane: &Plane| *plane.shared.delay.lock().unwrap() = Duration::from_secs(seconds);
    keeps_its_leaf("ca_slow", delay(30), delay(0)).await;
}

#[tokio::test]
async fn ca_flapping() {
    let plane = Plane::start().await;
    let member = member(&plane).await;
    let (mut known, mut changes) = (member.serial(), 0);
    for _ in 0..3 {
        plane.shared.broken.store(true, Ordering::Relaxed);
        let failed = member.certificates.status().failed;
        until("a failed attempt", || member.certificates.status().failed > failed).await;
        assert!(member.certificates.status().last_error.contains(words("ca_flapping")));
        assert_eq!(member.serial(), known);
        plane.shared.broken.store(false, Ordering::Relaxed);
        until("a renewal", || member.serial() != known).await;
        (known, changes) = (member.serial(), changes + 1);
    }
    assert_eq!(changes, 3);
}

#[tokio::test]
async fn ca_answers_garbage() {
    forged("ca_answers_garbage", |_, _, _| vec!["garbage".to_owned(); 3]).await;
}

#[tokio::test]
async fn ca_wrong_identity() {
    forged("ca_wrong_identity", |ca, csr, _| for_id(ca, csr, "spiffe://cluster.local/ns/shop/sa/other")).await;
}

#[tokio::test]
async fn ca_unknown_root() {
    let other = std::sync::Arc::new(another());
    forged("ca_unknown_root", move |_, csr, _| for_id(&other, csr, SERVER)).await;
}

#[tokio::test]
async fn ca_expired_leaf() {
    let past = std::time::SystemTime::now() - Duration::from_secs(7200);
    let sign = move |ca: &Ca, csr: &str, _: Vec<String>| {
        ca.sign_at(past, csr, &SERVER.parse().unwrap(), Duration::from_secs(3600)).unwrap().chain_pem
    };
    forged("ca_expired_leaf", sign).await;
}

#[tokio::test]
async fn ca_leaf_outlives_signer() {
    let plane = Plane::start().await;
    let folder = plane.folder().to_owned();
    let member = member(&plane).await;
    let first = member.serial();
    let life = "-days 4000".split(' ').collect::<Vec<_>>();
    let sign = move |_: &Ca, csr: &str, mut chain: Vec<String>| {
        let names = format!("subjectAltName=URI:{SERVER}\nextendedKeyUsage=clientAuth,serverAuth\n");
        chain[0] = mutua_testbed::mesh::signed_by_openssl(&folder, csr, &names, &life);
        chain
    };
    *plane.shared.forge.lock().unwrap() = Some(Box::new(sign));
    until("a failed attempt", || member.certificates.status().failed >= 1).await;
    let said = member.certificates.status().last_error;
    assert!(said.contains(words("ca_leaf_outlives_signer")), "{said}");
    assert_eq!(member.serial(), first);
    *plane.shared.forge.lock().unwrap() = None;
    until("a renewal", || member.serial() != first).await;
}

#[tokio::test]
async fn ca_wrong_key() {
    let sign = |ca: &Ca, _: &str, _: Vec<String>| {
        let key = PrivateKey::generate().unwrap();
        for_id(ca, &certificate_request(&key).unwrap(), SERVER)
    };
    forged("ca_wrong_key", sign).await;
}

#[tokio::test]
async fn ca_empty_chain() {
    forged("ca_empty_chain", |_, _, _| Vec::new()).await;
}

#[tokio::test]
async fn ca_huge_chain() {
    forged("ca_huge_chain", |_, _, chain| [chain, vec![" ".repeat(1 << 20)]].concat()).await;
}

#[tokio::test]
async fn ca_rate_limited() {
    let refuse = |code| move |plane: &Plane| *plane.shared.refusal.lock().unwrap() = code;
    keeps_its_leaf("ca_rate_limited", refuse(Some(Code::ResourceExhausted)), refuse(None)).await;
}

#[tokio::test]
async fn ca_split_brain() {
    let plane = Plane::start().await;
    let member = member(&plane).await;
    let (other, first) = (another(), member.serial());
    let second = other.bundle().roots_pem();
    let sign = move |_: &Ca, csr: &str, _: Vec<String>| for_id(&other, csr, SERVER);
    *plane.shared.forge.lock().unwrap() = Some(Box::new(sign));
    until("a failed attempt", || member.certificates.status().failed >= 1).await;
    let said = member.certificates.status().last_error;
    assert!(said.contains(words("ca_split_brain")), "{said}");
    assert_eq!(member.serial(), first, "who is not trusted here signs nothing for us");
    // Once both are trusted, either may sign.
    let roots = [plane.roots(), second].concat();
    plane.send("both", "default", &TrustBundle { roots, ..TrustBundle::default() });
    until("a leaf of the other", || member.serial() != first).await;
    let known = member.serial();
    *plane.shared.forge.lock().unwrap() = None;
    plane.shared.ttl.lock().unwrap().clone_from(&Duration::from_secs(8));
    assert_eq!(member.serial(), known);
}
