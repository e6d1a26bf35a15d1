//! Peers with certificates that must not be accepted, as callers and as servers: each is refused before a byte of data,
//! with the right kind, and its claim is recorded. The CA's key signs most of them, so that nothing but the fault counts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, SystemTime};

use common::{CART, End, Mesh, domain, run};
use mutua_identity::{ClientConfig, Credentials, PeerExpectation, PrivateKey, ServerConfig, ServerPolicy, Session, TlsErrorKind};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, OtherNameValue, SanType,
};

const FRONT: &str = "spiffe://cluster.local/ns/shop/sa/front";

/// A leaf as the CA makes it, for a test to spoil.
fn good() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(FRONT)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.not_before = (SystemTime::now() - Duration::from_secs(120)).into();
    params.not_after = (SystemTime::now() + Duration::from_secs(600)).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn spoiled(spoil: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = good();
    spoil(&mut params);
    params
}

fn ia5(text: &str) -> Ia5String {
    text.try_into().unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(ia5(text))
}

/// The extension of names with one URI of these bytes, whatever they are.
fn raw_uri(bytes: &[u8]) -> CustomExtension {
    let length = |count: usize| u8::try_from(count).unwrap();
    let mut der = vec![0x30, length(bytes.len() + 2), 0x86, length(bytes.len())];
    der.extend_from_slice(bytes);
    CustomExtension::from_oid_content(&[2, 5, 29, 17], der)
}

/// The mesh's own CA, to sign what it would never sign.
fn issuer(mesh: &Mesh) -> Issuer<'static, KeyPair> {
    let read = |name: &str| std::fs::read_to_string(mesh.folder.path().join(name)).unwrap();
    Issuer::from_ca_cert_pem(&read("ca-cert.pem"), KeyPair::from_pem(&read("ca-key.pem")).unwrap()).unwrap()
}

/// The leaf with `more` behind it.
fn credentials(key: &KeyPair, leaf: &rcgen::Certificate, more: &[String]) -> Credentials {
    let chain: Vec<String> = std::iter::once(leaf.pem()).chain(more.iter().cloned()).collect();
    Credentials::new(&PrivateKey::from_pem(&key.serialize_pem()).unwrap(), &chain).unwrap()
}

fn signed(mesh: &Mesh, params: &CertificateParams) -> Credentials {
    let key = KeyPair::generate().unwrap();
    credentials(&key, &params.signed_by(&key, &issuer(mesh)).unwrap(), &[])
}

/// A server that is shown `shown` by its caller, and that caller.
fn as_caller(mesh: &Mesh, shown: &Credentials) -> (End, End) {
    let peer = PeerExpectation { ids: Vec::new(), trust_domains: vec![domain()] };
    let config = ClientConfig::mesh(shown, mesh.bundle(), &peer).unwrap();
    let mut client = End::new(Session::client(&config, None, &[]).unwrap());
    let mut server = End::new(Session::server(&mesh.server(), false).unwrap());
    run(&mut client, &mut server, usize::MAX);
    (server, client)
}

/// A client that would take anybody of the mesh and is shown `shown` by its server, and that server.
fn as_server(mesh: &Mesh, shown: &Credentials) -> (End, End) {
    let policy = ServerPolicy { trust_domains: vec![domain()], ..Default::default() };
    let config = ServerConfig::mesh(shown, mesh.bundle(), &policy).unwrap();
    let mut client = End::new(Session::client(&mesh.client(&[]), None, &[]).unwrap());
    let mut server = End::new(Session::server(&config, false).unwrap());
    run(&mut client, &mut server, usize::MAX);
    (client, server)
}

/// Both ends refuse `shown` for `kind`, and say `words`.
fn refused(name: &str, mesh: &Mesh, shown: &Credentials, kind: TlsErrorKind, words: &str) {
    for (side, (end, peer)) in [("caller", as_caller(mesh, shown)), ("server", as_server(mesh, shown))] {
        let error = end.error.unwrap_or_else(|| panic!("{name}: accepted as {side}"));
        assert_eq!(error.kind, kind, "{name} as {side}: {error}");
        assert!(error.detail.contains(words), "{name} as {side}: {error}");
        assert!(!error.detail.contains("OtherError"), "{name} as {side} is for people: {error}");
        assert_eq!(peer.error.map(|error| error.kind), Some(TlsErrorKind::AlertReceived), "{name} as {side} learns of it");
        assert!(!end.session.is_established() && end.plain.is_empty(), "{name} as {side}");
    }
}

#[test]
fn what_the_ca_signs_is_accepted_at_both_ends() {
    let mesh = Mesh::new();
    let leaf = signed(&mesh, &good());
    for (end, _) in [as_caller(&mesh, &leaf), as_server(&mesh, &leaf)] {
        assert!(end.session.is_established(), "{:?}", end.error);
        assert_eq!(end.session.negotiated().unwrap().peer_id.unwrap().to_string(), FRONT);
    }
}

#[test]
fn names_that_give_no_identity_are_refused() {
    let mesh = Mesh::new();
    let named = |names: Vec<SanType>| spoiled(|params| params.subject_alt_names = names);
    let other = SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 99999, 1], OtherNameValue::Utf8String(format!("{FRONT}\0.evil"))));
    let raw = |bytes: &[u8]| {
        spoiled(|params| {
            params.subject_alt_names.clear();
            params.custom_extensions.push(raw_uri(bytes));
        })
    };
    let nul = format!("{FRONT}\0.evil");
    for (name, params) in [
        ("no name", named(Vec::new())),
        ("a DNS name only", named(vec![SanType::DnsName(ia5("cart.shop.svc.cluster.local"))])),
        ("another kind of name, with NUL", named(vec![other])),
        ("two identities", named(vec![uri(FRONT), uri(CART)])),
        ("the same identity twice", named(vec![uri(FRONT), uri(FRONT)])),
        ("an identity beside another URI", named(vec![uri(FRONT), uri("https://cart.example")])),
        ("no SPIFFE id", named(vec![uri("https://cart.example/ns/shop/sa/front")])),
        ("a part too many", named(vec![uri("spiffe://cluster.local/ns/shop/sa/front/more")])),
        ("NUL in the account", raw(nul.as_bytes())),
        ("NUL in the trust domain", raw(b"spiffe://cluster.local\0.evil/ns/shop/sa/front")),
        ("bytes that are no UTF-8", raw(b"spiffe://cluster.local/ns/shop/sa/fr\xff\xfent")),
    ] {
        refused(name, &mesh, &signed(&mesh, &params), TlsErrorKind::NoIdentity, "peer certificate: ");
    }
    let foreign = named(vec![uri("spiffe://other.example/ns/shop/sa/front")]);
    let words = "its trust domain is none of cluster.local";
    refused("wrong trust domain", &mesh, &signed(&mesh, &foreign), TlsErrorKind::TrustDomain, words);
}

#[test]
fn certificates_for_another_use_are_refused() {
    let mesh = Mesh::new();
    let ca = spoiled(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    });
    let words = "a CA certificate is shown as a leaf";
    refused("a CA as leaf", &mesh, &signed(&mesh, &ca), TlsErrorKind::BadCertificate, words);
    let signing = spoiled(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]);
    let words = "is not for this use";
    refused("for signing code", &mesh, &signed(&mesh, &signing), TlsErrorKind::BadCertificate, words);
    let critical = spoiled(|params| {
        let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 2], vec![5, 0]);
        unknown.set_criticality(true);
        params.custom_extensions.push(unknown);
    });
    let words = "critical extension that is not known";
    refused("unknown critical extension", &mesh, &signed(&mesh, &critical), TlsErrorKind::BadCertificate, words);

    let only = |purpose| signed(&mesh, &spoiled(|params| params.extended_key_usages = vec![purpose]));
    let (of_client, of_server) = (only(ExtendedKeyUsagePurpose::ClientAuth), only(ExtendedKeyUsagePurpose::ServerAuth));
    assert_eq!(as_caller(&mesh, &of_server).0.error.unwrap().kind, TlsErrorKind::BadCertificate, "a server's leaf at a caller");
    assert_eq!(as_server(&mesh, &of_client).0.error.unwrap().kind, TlsErrorKind::BadCertificate, "a client's leaf at a server");
    assert!(as_caller(&mesh, &of_client).0.session.is_established() && as_server(&mesh, &of_server).0.session.is_established());
}

#[test]
fn time_and_issuer_are_named() {
    let mesh = Mesh::new();
    let now = SystemTime::now();
    let ended = spoiled(|params| params.not_after = (now - Duration::from_secs(60)).into());
    refused("ended", &mesh, &signed(&mesh, &ended), TlsErrorKind::Expired, "certificate expired");
    let early = spoiled(|params| params.not_before = (now + Duration::from_secs(300)).into());
    refused("not yet valid", &mesh, &signed(&mesh, &early), TlsErrorKind::NotYetValid, "not valid yet");
    let key = KeyPair::generate().unwrap();
    let own = credentials(&key, &good().self_signed(&key).unwrap(), &[]);
    refused("self-signed", &mesh, &own, TlsErrorKind::UnknownIssuer, "chains to none of the trusted roots");
}

/// A CA of the mesh root's own name with a key of its own, signed by nobody who counts.
fn impostor(name: &DistinguishedName, above: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = name.clone();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    params.signed_by(&key, &Issuer::from_params(&params, above)).unwrap().pem()
}

#[test]
fn the_work_for_a_stranger_is_bounded() {
    let mesh = Mesh::new();
    let (key, stranger) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut root = DistinguishedName::new();
    root.push(DnType::OrganizationName, "cluster.local");
    let impostors: Vec<String> = (0..10).map(|_| impostor(&root, &stranger)).collect();

    let mut named = CertificateParams::default();
    named.distinguished_name = root;
    let leaf = good().signed_by(&key, &Issuer::from_params(&named, &stranger)).unwrap();
    // Each of the nine could be the issuer of the leaf and of the eight others: hundreds of thousands of paths.
    let bomb = credentials(&key, &leaf, &impostors[..9]);
    refused("a bomb of paths", &mesh, &bomb, TlsErrorKind::BadCertificate, "more work to check than is done for a stranger");
    let long = credentials(&key, &leaf, &impostors);
    refused("a long chain", &mesh, &long, TlsErrorKind::BadCertificate, "peer sent 11 certificates of ");

    let bulk = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 3], vec![0; 33_000]);
    let heavy = spoiled(|params| params.custom_extensions.push(bulk));
    refused("33 KB of certificates", &mesh, &signed(&mesh, &heavy), TlsErrorKind::BadCertificate, "more than are looked at");

    let bulk = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 3], vec![0; 40_000]);
    let heavy = spoiled(|params| params.custom_extensions.push(bulk)).signed_by(&key, &issuer(&mesh)).unwrap();
    let heavy = credentials(&key, &heavy, &[heavy.pem()]);
    for (end, _) in [as_caller(&mesh, &heavy), as_server(&mesh, &heavy)] {
        let error = end.error.expect("80 KB of certificates are refused");
        assert_eq!(error.kind, TlsErrorKind::Malformed, "{error}");
        assert!(error.detail.contains("more than 64 KB"), "{error}");
    }
}
