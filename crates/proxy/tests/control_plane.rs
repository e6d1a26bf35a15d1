//! A sidecar and its control plane: joining, following, refusing, renewing, reporting.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mutua_testbed as common;

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use common::member::{Member, keeper};
use common::plane::{Plane, TOKEN, until};
use common::{App, Authority, Running, SERVER, read_exactly, read_to_end, wire};
use mutua_proxy::certificate::CertificateError;
use mutua_proxy::connections::Direction;
use mutua_proxy::world::{ApplyError, Change};
use mutua_wire::MeshResource;
use mutua_wire::discovery::Resource;
use mutua_wire::mesh::{ClientTlsMode, Destination, InboundPolicy, Mode, OutboundPolicy, Protocol, ProxySettings, TrustBundle};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const RENAMED: &str = "spiffe://new.example/ns/shop/sa/server";

fn configure(plane: &Plane, mode: Mode) {
    plane.send("bundle", "default", &TrustBundle { roots: plane.roots(), renew_not_before: 0, ..Default::default() });
    plane.send("settings", "default", &wire::settings(OutboundPolicy::AllowAny));
    plane.send("inbound", "shop/server", &wire::inbound(mode, &[]));
}

/// As [`configure`], and the last of it is answered.
async fn configured(plane: &Plane, mode: Mode) {
    configure(plane, mode);
    plane.request(|request| request.response_nonce == "inbound").await;
}

#[tokio::test]
async fn a_sidecar_joins_follows_and_reports() {
    let plane = Plane::start().await;
    let member = Member::join(&plane).await;
    let first = plane.request(|request| request.node.is_some()).await;
    assert_eq!(first.type_url, TrustBundle::TYPE_URL);
    assert!(first.node.unwrap().id.ends_with("~server.shop~shop.svc.cluster.local"));
    for type_url in [TrustBundle::TYPE_URL, ProxySettings::TYPE_URL, InboundPolicy::TYPE_URL, Destination::TYPE_URL] {
        let request = plane.request(|request| request.type_url == type_url).await;
        assert_eq!(request.resource_names_subscribe, ["*"], "{type_url}");
    }
    configure(&plane, Mode::Permissive);
    for nonce in ["bundle", "settings", "inbound"] {
        let answer = plane.request(|request| request.response_nonce == nonce).await;
        assert_eq!(answer.error_detail, None, "{nonce}");
    }
    assert!(member.running.sidecar.world.current().is_ready());
    assert_eq!(&*member.running.sidecar.world.current().generation, "7");
    let serial = member.serial();
    until("a report", || plane.shared.reports.lock().unwrap().iter().any(|report| report.certificate_serial == serial)).await;
}

#[tokio::test]
async fn a_response_that_cannot_be_used_is_refused_and_the_last_one_stays() {
    let plane = Plane::start().await;
    let member = Member::join(&plane).await;
    configured(&plane, Mode::Strict).await;
    plane.send("wrong", "shop/server", &InboundPolicy { mode: 99, ..wire::inbound(Mode::Disable, &[]) });
    let answer = plane.request(|request| request.response_nonce == "wrong").await;
    assert_eq!(answer.error_detail.unwrap().message, "shop/server: mode: value 99 is not known to this proxy");
    let inbound = member.running.sidecar.world.current().inbound.clone().unwrap();
    assert_eq!(inbound.mode, mutua_proxy::world::Mode::Strict);
}

#[tokio::test]
async fn refusals_reach_the_control_plane() {
    let plane = Plane::start().await;
    let member = Member::join(&plane).await;
    configured(&plane, Mode::Strict).await;
    let app = App::echo().await;
    member.running.wanted.set(app.address);
    let mut stream = TcpStream::connect(member.running.address).await.unwrap();
    stream.write_all(b"in clear").await.unwrap();
    read_to_end(&mut stream).await.unwrap_err();
    let told = || {
        let reports = plane.shared.reports.lock().unwrap();
        reports.iter().flat_map(|report| report.refusals.clone()).next()
    };
    until("the refusal", || told().is_some()).await;
    let refusal = told().unwrap();
    assert_eq!((refusal.code.as_str(), refusal.direction.as_str()), ("PLAINTEXT_ON_STRICT_PORT", "inbound"));
    assert_eq!((refusal.peer_address.as_str(), refusal.port), ("127.0.0.1", u32::from(app.address.port())));
}

#[tokio::test]
async fn leaves_are_renewed_while_connections_go_on() {
    let plane = Plane::start().await;
    *plane.shared.ttl.lock().unwrap() = Duration::from_secs(4);
    let member = Member::join(&plane).await;
    configured(&plane, Mode::Permissive).await;
    let app = App::echo().await;
    member.running.wanted.set(app.address);
    let mut stream = TcpStream::connect(member.running.address).await.unwrap();
    let first = member.serial();
    let issued = plane.shared.issued.load(Ordering::Relaxed);
    until("two renewals", || plane.shared.issued.load(Ordering::Relaxed) >= issued + 2).await;
    stream.write_all(b"still here").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 10).await, b"still here");
    assert_ne!(member.serial(), first);
    assert!(member.certificates.status().renewals >= 1);
    // A new stream with the new certificate tells what is held already.
    let held = plane.request(|request| request.initial_resource_versions.contains_key("shop/server")).await;
    assert_eq!(held.type_url, InboundPolicy::TYPE_URL);
    assert!(plane.shared.streams.load(Ordering::Relaxed) >= 2);
}

#[tokio::test]
async fn a_failed_renewal_keeps_the_leaf_and_is_tried_again() {
    let plane = Plane::start().await;
    *plane.shared.ttl.lock().unwrap() = Duration::from_secs(8);
    let member = Member::join(&plane).await;
    let first = member.serial();
    plane.shared.broken.store(true, Ordering::Relaxed);
    until("failed attempts", || member.certificates.status().failed >= 2).await;
    assert_eq!(member.serial(), first);
    assert!(member.certificates.status().last_error.contains("the signing key is away"));
    plane.shared.broken.store(false, Ordering::Relaxed);
    until("a renewal", || member.certificates.status().renewals >= 1).await;
    assert_ne!(member.serial(), first);
    assert_eq!(member.certificates.status().last_error, "");
}

/// What a broken CA answers, and what the sidecar says of it.
fn bad_answers() -> Vec<(&'static str, common::plane::Forge)> {
    fn for_id(ca: &mutua_identity::Ca, csr: &str, id: &str) -> Vec<String> {
        ca.sign(csr, &id.parse().unwrap(), Duration::from_secs(60)).unwrap().chain_pem
    }
    let folder = tempfile::tempdir().unwrap();
    let domain = mutua_identity::TrustDomain::new("cluster.local").unwrap();
    let foreign = mutua_identity::Ca::load_or_create(folder.path(), &domain).unwrap();
    vec![
        ("certificate chain: ", Box::new(move |_, csr, _| for_id(&foreign, csr, SERVER))),
        ("it is a certificate for spiffe://", Box::new(|ca, csr, _| for_id(ca, csr, "spiffe://cluster.local/ns/shop/sa/other"))),
        ("it is a certificate for spiffe://", Box::new(|ca, csr, _| for_id(ca, csr, "spiffe://elsewhere/ns/shop/sa/server"))),
        (
            "does not belong to the certificate",
            Box::new(|ca, _, _| {
                let key = mutua_identity::PrivateKey::generate().unwrap();
                for_id(ca, &mutua_identity::certificate_request(&key).unwrap(), SERVER)
            }),
        ),
        (
            "certificate chain: ",
            Box::new(|ca, csr, _| ca.sign(csr, &SERVER.parse().unwrap(), Duration::from_millis(1)).unwrap().chain_pem),
        ),
        (
            "is older than",
            Box::new(|ca, csr, _| {
                let minute = Duration::from_secs(60);
                let then = std::time::SystemTime::now() - minute;
                ca.sign_at(then, csr, &SERVER.parse().unwrap(), minute + Duration::from_secs(3)).unwrap().chain_pem
            }),
        ),
        ("it is empty", Box::new(|_, _, _| Vec::new())),
        ("no PEM certificate", Box::new(|_, _, _| vec!["garbage".to_owned(); 3])),
        ("message length too large", Box::new(|_, _, chain| [chain, vec![" ".repeat(300 * 1024)]].concat())),
    ]
}

#[tokio::test]
async fn a_bad_answer_of_the_ca_never_replaces_a_valid_leaf() {
    let mut cases = tokio::task::JoinSet::new();
    for (expected, forge) in bad_answers() {
        cases.spawn(async move {
            let plane = Plane::start().await;
            *plane.shared.ttl.lock().unwrap() = Duration::from_secs(8);
            let member = Member::join(&plane).await;
            plane.send("bundle", "default", &TrustBundle { roots: plane.roots(), renew_not_before: 0, ..Default::default() });
            until("the roots", || member.certificates.world.bundle().is_some()).await;
            let first = member.serial();
            *plane.shared.forge.lock().unwrap() = Some(forge);
            until(expected, || member.certificates.status().failed >= 1).await;
            let status = member.certificates.status();
            assert!(status.last_error.contains(expected), "{expected}: {}", status.last_error);
            assert_eq!(member.serial(), first, "{expected}");
            *plane.shared.forge.lock().unwrap() = None;
            until("a renewal by a good answer", || member.serial() != first).await;
        });
    }
    cases.join_all().await;
}

#[tokio::test]
async fn a_root_that_is_about_to_go_renews_leaves_at_once() {
    let plane = Plane::start().await;
    let member = Member::join(&plane).await;
    let first = member.serial();
    let from = member.certificates.world.credentials().unwrap().not_before();
    let seconds = from.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let renew_not_before = i64::try_from(seconds).unwrap() + 1;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    plane.send("bundle", "default", &TrustBundle { roots: plane.roots(), renew_not_before, ..Default::default() });
    until("a renewal", || member.serial() != first).await;
    let issued = plane.shared.issued.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(plane.shared.issued.load(Ordering::Relaxed), issued, "and no more than once");
}

#[tokio::test]
async fn a_restart_uses_what_was_kept() {
    let plane = Plane::start().await;
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(Direction::Inbound, None).await;
    keeper(&plane, &folder, Some(TOKEN), &running).obtain().await.unwrap();
    let again = Running::start(Direction::Inbound, None).await;
    keeper(&plane, &folder, None, &again).obtain().await.unwrap();
    assert_eq!(plane.shared.issued.load(Ordering::Relaxed), 1);
    let serials = [&running, &again].map(|one| one.sidecar.world.credentials().unwrap().serial().to_owned());
    assert_eq!(serials[0], serials[1]);
    assert_eq!(again.sidecar.world.credentials().unwrap().id().unwrap().to_string(), SERVER);
}

/// Without a token there is no other way back; with one the sidecar joins as what it was started as.
#[tokio::test]
async fn a_kept_leaf_of_another_trust_domain_counts_where_there_is_no_token() {
    let plane = Plane::start().await;
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(Direction::Inbound, None).await;
    let id = || running.sidecar.world.credentials().unwrap().id().unwrap().to_string();
    let kept = keeper(&plane, &folder, None, &running);
    kept.store.save(&Authority::new().leaf(RENAMED)).unwrap();
    kept.obtain().await.unwrap();
    assert_eq!(id(), RENAMED);
    keeper(&plane, &folder, Some(TOKEN), &running).obtain().await.unwrap();
    assert_eq!(id(), SERVER);
}

#[tokio::test]
async fn a_kept_configuration_that_is_not_whole_is_not_put_in_force() {
    let running = Running::start(Direction::Inbound, None).await;
    let resource = |name: &str, any: prost_types::Any| {
        let version = mutua_wire::content_version(&any.value);
        [Resource { name: name.to_owned(), version, resource: Some(any), aliases: Vec::new() }]
    };
    let complete_set = [(Destination::TYPE_URL.to_owned(), 1)].into();
    let settings = ProxySettings { complete_set, ..wire::settings(OutboundPolicy::AllowAny) };
    let tls = wire::tls(ClientTlsMode::TlsDisable, &[]);
    let kept = [
        (TrustBundle::TYPE_URL, resource("default", Authority::new().trust().pack())),
        (ProxySettings::TYPE_URL, resource("default", settings.pack())),
        (InboundPolicy::TYPE_URL, resource("shop/server", wire::inbound(Mode::Permissive, &[]).pack())),
        (Destination::TYPE_URL, resource("shop/server", wire::destination(Protocol::Tcp, tls, &[]).pack())),
    ];
    let changes = kept.each_ref().map(|(type_url, resources)| Change { type_url, generation: "1", resources, removed: &[] });
    let world = &running.sidecar.world;
    assert!(matches!(world.restore(&changes[..3], SystemTime::now()), Err(ApplyError::Incomplete)), "a destination is missing");
    assert!(world.kept().is_none() && world.bundle().is_none());
    world.restore(&changes, SystemTime::now()).unwrap();
    assert!(world.kept().is_some() && world.bundle().is_some());
}

#[tokio::test]
async fn a_wrong_token_or_none_is_told_at_once() {
    let plane = Plane::start().await;
    let running = Running::start(Direction::Inbound, None).await;
    let folder = tempfile::tempdir().unwrap();
    let error = keeper(&plane, &folder, Some("used"), &running).obtain().await.unwrap_err();
    assert_eq!(error.to_string(), "the control plane refuses a certificate for shop/server: the token is not known or was used");
    let error = keeper(&plane, &folder, None, &running).obtain().await.unwrap_err();
    assert!(matches!(error, CertificateError::NoToken(_)), "{error}");
}

#[tokio::test]
async fn somebody_else_is_no_control_plane() {
    let (plane, impostor) = (Plane::start().await, Plane::start().await);
    let mut seen = plane.as_seen_by_a_proxy();
    seen.address = impostor.address.to_string();
    assert!(seen.channel(None, None, None).await.is_err(), "another root");
    let mut seen = plane.as_seen_by_a_proxy();
    seen.identity = "spiffe://cluster.local/ns/other/sa/istiod".parse().unwrap();
    let error = seen.channel(None, None, None).await.unwrap_err().to_string();
    assert!(error.contains("istio-system/sa/istiod"), "says who answered: {error}");
}

#[tokio::test]
async fn another_trust_domain_is_followed() {
    let plane = Plane::start().await;
    let member = Member::join(&plane).await;
    configured(&plane, Mode::Permissive).await;
    // A certificate of a trust domain that nobody has named is not taken.
    *plane.shared.forge.lock().unwrap() =
        Some(Box::new(|ca, csr, _| ca.sign(csr, &RENAMED.parse().unwrap(), Duration::from_secs(3600)).unwrap().chain_pem));
    let bundle = TrustBundle { roots: plane.roots(), renew_not_before: i64::MAX / 2, ..Default::default() };
    plane.send("now", "default", &bundle);
    until("a refusal", || member.certificates.status().last_error.contains(RENAMED)).await;
    plane.send(
        "named",
        "default",
        &ProxySettings { trust_domain: "new.example".to_owned(), ..wire::settings(OutboundPolicy::AllowAny) },
    );
    let id = || member.certificates.world.credentials().and_then(|leaf| leaf.id().map(ToString::to_string));
    until("a certificate of the new trust domain", || id().as_deref() == Some(RENAMED)).await;
}
