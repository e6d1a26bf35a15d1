//! Sessions against sessions: handshakes, data, refusals, ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{CART, End, Mesh, domain, exchange, run};
use mutua_identity::tls::Roots;
use mutua_identity::{
    Algorithms, ClientConfig, Compliance, MinVersion, Origination, PeerExpectation, ServerConfig, ServerPolicy, Session,
    TlsErrorKind, TrustDomain,
};

const SNI: &str = "outbound_.8000_._.cart.shop.svc.cluster.local";

fn pair(client: &ClientConfig, server: &ServerConfig) -> (End, End) {
    let client = End::new(Session::client(client, Some(SNI), &[b"istio"]).unwrap());
    (client, End::new(Session::server(server, false).unwrap()))
}

#[test]
fn both_ends_prove_who_they_are() {
    let mesh = Mesh::new();
    for chunk in [1, 7, usize::MAX] {
        let (mut client, mut server) = pair(&mesh.client(&[CART]), &mesh.server());
        run(&mut client, &mut server, chunk);
        let (seen, shown) = (client.session.negotiated().unwrap(), server.session.negotiated().unwrap());
        assert_eq!((seen.version, seen.group.as_str()), ("TLSv1.3", "X25519MLKEM768"));
        assert_eq!(seen.cipher_suite, "TLS_AES_128_GCM_SHA256");
        assert_eq!(seen.peer_id.unwrap().to_string(), CART);
        assert_eq!(shown.peer_id.unwrap().to_string(), "spiffe://cluster.local/ns/shop/sa/front");
        assert_eq!(shown.alpn, None, "istio names are never selected");
        assert_eq!(shown.peer_serial.unwrap().len(), 32);
    }
}

/// The built-in roots of a mesh all bear one name.
#[test]
fn both_ends_know_the_anchor_and_the_end_of_their_peer() {
    let (old, new) = (Mesh::new(), Mesh::new());
    let both = old.bundle().union(new.bundle());
    let name = |mesh: &Mesh| mesh.bundle().anchors().into_iter().next();
    assert_ne!(name(&old), name(&new));
    let peer = PeerExpectation { ids: vec![CART.to_owned()], trust_domains: vec![domain()] };
    let policy = ServerPolicy { trust_domains: vec![domain()], ..Default::default() };
    for (caller, called) in [(&old, &new), (&new, &old), (&new, &new)] {
        let (front, cart) = (caller.leaf("spiffe://cluster.local/ns/shop/sa/front"), called.leaf(CART));
        let client = ClientConfig::mesh(&front, &both, &peer).unwrap();
        let (mut client, mut server) = pair(&client, &ServerConfig::mesh(&cart, &both, &policy).unwrap());
        run(&mut client, &mut server, usize::MAX);
        let (seen, shown) = (client.session.negotiated().unwrap(), server.session.negotiated().unwrap());
        assert_eq!((seen.peer_anchor, seen.peer_not_after), (name(called), Some(cart.not_after())));
        assert_eq!((shown.peer_anchor, shown.peer_not_after), (name(caller), Some(front.not_after())));
    }
    let (mut client, mut server) = pair(&old.client(&[CART]), &old.server());
    run(&mut client, &mut server, usize::MAX);
    assert_eq!(client.session.negotiated().unwrap().peer_anchor, name(&old), "of one root, without a further look");
    assert_eq!(server.session.negotiated().unwrap().peer_anchor, name(&old));
}

#[test]
fn the_anchor_of_a_domain_is_among_its_own_roots() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    let far = TrustDomain::new("far.example").unwrap();
    let id = "spiffe://far.example/ns/shop/sa/cart";
    let bundle = mesh.bundle().clone().with_domain(far.clone(), other.bundle());
    let peer = PeerExpectation { ids: vec![id.to_owned()], trust_domains: vec![far.clone()] };
    let front = mesh.leaf("spiffe://cluster.local/ns/shop/sa/front");
    let client = ClientConfig::mesh(&front, &bundle, &peer).unwrap();
    let policy = ServerPolicy { trust_domains: vec![domain(), far], ..Default::default() };
    let server = ServerConfig::mesh(&other.leaf(id), &bundle, &policy).unwrap();
    let (mut client, mut server) = pair(&client, &server);
    run(&mut client, &mut server, usize::MAX);
    assert_eq!(client.session.negotiated().unwrap().peer_anchor, other.bundle().anchors().into_iter().next());
    assert_eq!(server.session.negotiated().unwrap().peer_anchor, mesh.bundle().anchors().into_iter().next());
}

#[test]
fn data_passes_both_ways_whatever_its_size_and_pieces() {
    let mesh = Mesh::new();
    let (mut client, mut server) = pair(&mesh.client(&[CART]), &mesh.server());
    run(&mut client, &mut server, usize::MAX);
    for (size, chunk) in [(1, 1), (16 * 1024, 5000), (16 * 1024 + 1, 1), (300_000, 4096)] {
        let data: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let mut out = Vec::new();
        client.session.write(&data, &mut out).unwrap();
        assert!(!out.windows(16).any(|window| data.len() >= 16 && window == &data[..16]), "the data is not in clear");
        exchange(&mut client, &mut server, out, chunk);
        assert!(server.plain == data, "{size}");
        server.plain.clear();
        let mut back = Vec::new();
        server.session.write(&data, &mut back).unwrap();
        client.take(&back, chunk);
        assert!(client.plain == data, "{size}");
        client.plain.clear();
    }
}

#[test]
fn each_direction_ends_by_itself() {
    let mesh = Mesh::new();
    let (mut client, mut server) = pair(&mesh.client(&[CART]), &mesh.server());
    run(&mut client, &mut server, usize::MAX);
    let mut out = Vec::new();
    client.session.write(b"last", &mut out).unwrap();
    client.session.close(&mut out);
    let answer = server.take(&out, 3);
    assert_eq!((server.plain.as_slice(), server.session.peer_closed()), (&b"last"[..], true));
    assert!(answer.is_empty() && !client.session.peer_closed());
    let mut back = Vec::new();
    server.session.write(b"the other direction lives", &mut back).unwrap();
    server.session.close(&mut back);
    client.take(&back, usize::MAX);
    assert_eq!(client.plain, b"the other direction lives");
    assert!(client.session.peer_closed());
}

#[test]
fn a_client_refuses_the_wrong_identity() {
    let mesh = Mesh::new();
    let (mut client, mut server) = pair(&mesh.client(&["spiffe://cluster.local/ns/shop/sa/pay"]), &mesh.server());
    run(&mut client, &mut server, usize::MAX);
    let error = client.error.unwrap();
    assert_eq!((error.kind, error.peer.as_deref()), (TlsErrorKind::WrongIdentity, Some(CART)));
    assert!(error.detail.contains("expected one of spiffe://cluster.local/ns/shop/sa/pay"), "{error}");
    assert_eq!(server.error.unwrap().kind, TlsErrorKind::AlertReceived, "the server learns of it");
}

/// A caller without a certificate that trusts the mesh's roots.
fn outsider(mesh: &Mesh, algorithms: Algorithms) -> Origination {
    Origination {
        client: None,
        roots: Roots::Pem(mesh.bundle().to_pem()),
        names: vec![CART.to_owned()],
        verify_server_name: false,
        crl: None,
        insecure_skip_verify: false,
        algorithms,
    }
}

#[test]
fn a_server_refuses_callers_without_and_with_foreign_certificates() {
    let (mesh, foreign) = (Mesh::new(), Mesh::new());
    let plain = outsider(&mesh, Algorithms::default());
    let (mut client, mut server) = pair(&ClientConfig::origination(&plain).unwrap(), &mesh.server());
    run(&mut client, &mut server, usize::MAX);
    assert_eq!(server.error.unwrap().kind, TlsErrorKind::NoCertificate);
    assert_eq!(client.error.unwrap().kind, TlsErrorKind::AlertReceived);

    let peer = PeerExpectation { ids: Vec::new(), trust_domains: vec![domain()] };
    let stranger = ClientConfig::mesh(&foreign.leaf("spiffe://cluster.local/ns/shop/sa/front"), mesh.bundle(), &peer).unwrap();
    let (mut client, mut server) = pair(&stranger, &mesh.server());
    run(&mut client, &mut server, usize::MAX);
    let error = server.error.unwrap();
    assert!(matches!(error.kind, TlsErrorKind::UnknownIssuer | TlsErrorKind::BadCertificate), "{error:?}");
    assert_eq!(error.peer.as_deref(), Some("spiffe://cluster.local/ns/shop/sa/front"), "the claim is recorded");

    let (mut client, mut server) = pair(&foreign.client(&[CART]), &mesh.server());
    run(&mut client, &mut server, usize::MAX);
    assert!(client.error.is_some(), "a client refuses a server of other roots");
}

#[test]
fn trust_domains_bound_both_ends() {
    let mesh = Mesh::new();
    let other = TrustDomain::new("other.example").unwrap();
    let policy = ServerPolicy { trust_domains: vec![other.clone()], ..Default::default() };
    let (mut client, mut server) = pair(&mesh.client(&[CART]), &mesh.server_with(&policy));
    run(&mut client, &mut server, usize::MAX);
    assert_eq!(server.error.unwrap().kind, TlsErrorKind::TrustDomain);

    let leaf = mesh.leaf("spiffe://cluster.local/ns/shop/sa/front");
    let picky = PeerExpectation { ids: Vec::new(), trust_domains: vec![other] };
    let (mut client, mut server) = pair(&ClientConfig::mesh(&leaf, mesh.bundle(), &picky).unwrap(), &mesh.server());
    run(&mut client, &mut server, usize::MAX);
    assert_eq!(client.error.unwrap().kind, TlsErrorKind::TrustDomain);
}

#[test]
fn nothing_is_accepted_from_garbage_or_after_an_error() {
    let mesh = Mesh::new();
    let mut server = End::new(Session::server(&mesh.server(), true).unwrap());
    server.take(b"GET / HTTP/1.1\r\nHost: cart\r\n\r\n", usize::MAX);
    assert_eq!(server.error.take().unwrap().kind, TlsErrorKind::Malformed);
    assert!(server.session.write(b"x", &mut Vec::new()).is_err());

    let (mut client, mut server) = pair(&mesh.client(&[CART]), &mesh.server());
    run(&mut client, &mut server, usize::MAX);
    let mut out = Vec::new();
    client.session.write(b"secret", &mut out).unwrap();
    *out.last_mut().unwrap() ^= 1;
    server.take(&out, usize::MAX);
    assert_eq!(server.error.unwrap().kind, TlsErrorKind::Decrypt);
    assert!(server.plain.is_empty());
}

#[test]
fn http_names_are_selected_only_where_asked_for() {
    let mesh = Mesh::new();
    for (http, offered, selected) in [
        (true, &[&b"istio-http/1.1"[..], b"istio", b"http/1.1"][..], Some("http/1.1")),
        (true, &[&b"istio-h2"[..], b"istio", b"h2"][..], Some("h2")),
        (false, &[&b"istio"[..]][..], None),
        // Who selects it has to speak it.
        (false, &[&b"istio-peer-exchange"[..], b"istio", b"h2"][..], None),
    ] {
        let mut client = End::new(Session::client(&mesh.client(&[CART]), None, offered).unwrap());
        let mut server = End::new(Session::server(&mesh.server(), http).unwrap());
        run(&mut client, &mut server, usize::MAX);
        assert_eq!(client.session.negotiated().unwrap().alpn.as_deref(), selected, "{:?}", client.error);
    }
}

#[test]
fn cipher_suites_of_which_none_can_be_served_are_refused() {
    let mesh = Mesh::new();
    let policy = |min_version| ServerPolicy {
        trust_domains: vec![domain()],
        min_version,
        cipher_suites: vec!["AES128-SHA".to_owned()],
        ..Default::default()
    };
    let leaf = mesh.leaf(CART);
    let error = ServerConfig::mesh(&leaf, mesh.bundle(), &policy(MinVersion::Tls12)).unwrap_err();
    assert!(error.detail.contains("AES128-SHA"), "{error}");
    assert!(ServerConfig::mesh(&leaf, mesh.bundle(), &policy(MinVersion::Tls13)).is_ok(), "TLS 1.3 suites are not configurable");
}

#[test]
fn a_compliance_policy_binds_the_client_too() {
    let mesh = Mesh::new();
    let leaf = mesh.leaf("spiffe://cluster.local/ns/shop/sa/front");
    let peer = PeerExpectation { ids: vec![CART.to_owned()], trust_domains: vec![domain()] };
    let meet = |client, server| {
        let client = ClientConfig::mesh_under(&leaf, mesh.bundle(), &peer, client).unwrap();
        let policy = ServerPolicy { trust_domains: vec![domain()], compliance: server, ..Default::default() };
        let (mut client, mut server) = pair(&client, &mesh.server_with(&policy));
        run(&mut client, &mut server, usize::MAX);
        client.session.negotiated().map(|seen| (seen.version, seen.group.clone()))
    };
    let (none, old, new, pqc) = (Compliance::None, Compliance::Fips140_2, Compliance::Fips140_3, Compliance::Pqc);
    for (policy, version, group) in
        [(old, "TLSv1.2", "secp256r1"), (new, "TLSv1.3", "secp256r1"), (pqc, "TLSv1.3", "X25519MLKEM768")]
    {
        // While a policy arrives, one end has it and the other not yet.
        for (client, server) in [(policy, policy), (policy, none), (none, policy)] {
            assert_eq!(meet(client, server), Some((version, group.to_owned())), "{client:?} {server:?}");
        }
    }
    assert_eq!(meet(pqc, new), None);
    assert_eq!(meet(old, pqc), None);
}

#[test]
fn groups_outside_the_mesh_are_those_of_the_configuration() {
    let mesh = Mesh::new();
    let with = |groups: &[&str], compliance| {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        ClientConfig::origination(&outsider(&mesh, Algorithms { groups, compliance, ..Default::default() }))
    };
    let server = ServerConfig::control_plane(&mesh.leaf(CART), mesh.bundle()).unwrap();
    for (groups, compliance, wanted) in [
        (&["P-224", "P-384", "P-256", "P-384"][..], Compliance::None, "secp384r1"),
        (&["P-384"][..], Compliance::Pqc, "X25519MLKEM768"),
        (&[][..], Compliance::None, "X25519MLKEM768"),
    ] {
        let (mut client, mut server) = pair(&with(groups, compliance).unwrap(), &server);
        run(&mut client, &mut server, usize::MAX);
        assert_eq!(client.session.negotiated().unwrap().group, wanted, "{groups:?}");
    }
    let error = with(&["P-521", "P-224"], Compliance::None).unwrap_err();
    assert!(error.detail.contains("none of the ECDH curves P-521, P-224 can be served; served are X25519MLKEM768, "), "{error}");
}

#[test]
fn files_that_say_less_than_they_should_are_refused() {
    let mesh = Mesh::new();
    let refused = |change: &dyn Fn(&mut Origination)| {
        let mut settings = outsider(&mesh, Algorithms::default());
        change(&mut settings);
        ClientConfig::origination(&settings).unwrap_err().detail
    };
    let list = |text: &'static str| refused(&move |settings| settings.crl = Some(text.to_owned()));
    // Without a list nothing is ever found revoked.
    for none in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert_eq!(list(none), "certificate revocation list: no PEM list in it");
    }
    let cut = list("-----BEGIN X509 CRL-----\nAAAA\n");
    assert_eq!(cut, "certificate revocation list: cut off: END X509 CRL is missing");

    let root = mesh.bundle().to_pem();
    let half = format!("{root}{}", &root[..root.len() / 2]);
    let incomplete = refused(&|settings| settings.roots = Roots::Pem(half.clone()));
    assert_eq!(incomplete, "root bundle: cut off: END CERTIFICATE is missing");
}

#[test]
fn roots_of_a_trust_domain_vouch_for_it_alone() {
    let (ours, theirs) = (Mesh::new(), Mesh::new());
    let other = TrustDomain::new("other.example").unwrap();
    let bundle = ours.bundle().clone().with_domain(other.clone(), theirs.bundle());
    let policy = ServerPolicy { trust_domains: vec![domain(), other.clone()], ..Default::default() };
    let server = ServerConfig::mesh(&ours.leaf(CART), &bundle, &policy).unwrap();
    let peer = PeerExpectation { ids: vec![CART.to_owned()], trust_domains: Vec::new() };
    let (own, foreign) = ("spiffe://cluster.local/ns/shop/sa/front", "spiffe://other.example/ns/shop/sa/front");
    for (issuer, id, accepted) in [(&ours, own, true), (&theirs, foreign, true), (&theirs, own, false), (&ours, foreign, false)] {
        let config = ClientConfig::mesh(&issuer.leaf(id), ours.bundle(), &peer).unwrap();
        let mut client = End::new(Session::client(&config, None, &[]).unwrap());
        let mut server = End::new(Session::server(&server, false).unwrap());
        run(&mut client, &mut server, usize::MAX);
        let kind = server.error.as_ref().map(|error| error.kind);
        assert_eq!(kind.is_none(), accepted, "{id}: {:?}", server.error);
        // Both CAs bear the same name.
        assert!(accepted || matches!(kind, Some(TlsErrorKind::UnknownIssuer | TlsErrorKind::BadCertificate)), "{kind:?}");
    }
    // As a caller too.
    for (issuer, id, accepted) in [(&theirs, foreign, true), (&theirs, own, false), (&ours, foreign, false)] {
        let policy = ServerPolicy { trust_domains: vec![domain()], ..Default::default() };
        let shown = ServerConfig::mesh(&issuer.leaf(id), &bundle, &policy).unwrap();
        let peer = PeerExpectation { ids: Vec::new(), trust_domains: vec![domain(), other.clone()] };
        let config = ClientConfig::mesh(&ours.leaf(own), &bundle, &peer).unwrap();
        let mut client = End::new(Session::client(&config, None, &[]).unwrap());
        let mut server = End::new(Session::server(&shown, false).unwrap());
        run(&mut client, &mut server, usize::MAX);
        assert_eq!(client.error.is_none(), accepted, "{id}: {:?}", client.error);
    }
    assert_ne!(bundle, *ours.bundle());
    assert_eq!(
        bundle.domains().map(|(domain, roots)| (domain.as_str(), roots.len())).collect::<Vec<_>>(),
        [("other.example", 1)]
    );
}
