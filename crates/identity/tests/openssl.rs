//! A foreign peer: `openssl s_client` against a session behind a real socket.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use common::{CART, Mesh, domain};
use mutua_identity::{
    Compliance, Credentials, MinVersion, Negotiated, ServerConfig, ServerPolicy, Session, TlsError, TlsErrorKind,
};

/// Serves one connection; once established, sends `hello` and closes.
fn serve_one(listener: &TcpListener, config: &ServerConfig) -> Result<Negotiated, TlsError> {
    let (mut socket, _) = listener.accept().unwrap();
    let mut session = Session::server(config, false).unwrap();
    let (mut incoming, mut plain, mut buffer) = (Vec::new(), Vec::new(), [0; 4096]);
    while !session.is_established() {
        let count = socket.read(&mut buffer).unwrap();
        assert!(count > 0, "the peer left during the handshake");
        incoming.extend_from_slice(&buffer[..count]);
        let mut out = Vec::new();
        let used = session.read(&mut incoming, &mut plain, &mut out);
        socket.write_all(&out).unwrap();
        incoming.drain(..used?);
    }
    let mut out = Vec::new();
    session.write(b"hello\n", &mut out).unwrap();
    session.close(&mut out);
    socket.write_all(&out).unwrap();
    drain(&mut socket);
    Ok(session.negotiated().unwrap())
}

fn drain(socket: &mut TcpStream) {
    let mut rest = [0; 1024];
    while socket.read(&mut rest).is_ok_and(|count| count > 0) {}
}

/// Runs openssl as the client; returns what the server saw and what openssl printed.
fn dial(mesh: &Mesh, policy: &ServerPolicy, leaf: Option<&Credentials>, more: &[&str]) -> (Result<Negotiated, TlsError>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = mesh.server_with(policy);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-quiet", "-verify_return_error", "-CAfile"]);
    openssl.arg(file("root.pem", &mesh.bundle().to_pem())).args(more);
    if let Some(leaf) = leaf {
        openssl.arg("-cert").arg(file("leaf.pem", &leaf.chain_pem())).arg("-key").arg(file("key.pem", leaf.key_pem()));
    }
    let child = openssl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("openssl is needed: apt-get install openssl");
    let seen = serve_one(&listener, &config);
    let output = child.wait_with_output().unwrap();
    (seen, String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn openssl_with_a_mesh_certificate_is_accepted() {
    let mesh = Mesh::new();
    let policy = ServerPolicy { trust_domains: vec![domain()], ..Default::default() };
    let leaf = mesh.leaf("spiffe://cluster.local/ns/shop/sa/front");
    for (version, wanted) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let (seen, printed) = dial(&mesh, &policy, Some(&leaf), &[version]);
        let seen = seen.unwrap();
        assert_eq!((seen.version, seen.peer_id.as_ref()), (wanted, leaf.id()), "{printed}");
        assert!(printed.contains("hello"), "{printed}");
    }
}

#[test]
fn openssl_without_or_with_a_foreign_certificate_is_refused() {
    let (mesh, foreign) = (Mesh::new(), Mesh::new());
    let policy = ServerPolicy { trust_domains: vec![domain()], ..Default::default() };
    let (seen, printed) = dial(&mesh, &policy, None, &[]);
    assert_eq!(seen.unwrap_err().kind, TlsErrorKind::NoCertificate);
    assert!(printed.contains("certificate required") && !printed.contains("hello"), "{printed}");
    let (seen, printed) = dial(&mesh, &policy, Some(&foreign.leaf(CART)), &[]);
    assert!(matches!(seen.unwrap_err().kind, TlsErrorKind::UnknownIssuer | TlsErrorKind::BadCertificate));
    assert!(!printed.contains("hello"), "{printed}");
}

#[test]
fn openssl_below_the_version_floor_is_refused() {
    let mesh = Mesh::new();
    let policy = ServerPolicy { trust_domains: vec![domain()], min_version: MinVersion::Tls13, ..Default::default() };
    let (seen, printed) = dial(&mesh, &policy, Some(&mesh.leaf(CART)), &["-tls1_2"]);
    assert_eq!(seen.unwrap_err().kind, TlsErrorKind::Version);
    assert!(printed.contains("protocol version"), "{printed}");
}

#[test]
fn a_compliance_policy_is_what_openssl_finds() {
    let mesh = Mesh::new();
    let leaf = mesh.leaf("spiffe://cluster.local/ns/shop/sa/front");
    let (refused, version) = (TlsErrorKind::NothingInCommon, TlsErrorKind::Version);
    for (compliance, offered, wanted) in [
        (Compliance::None, &["-tls1_3", "-groups", "X25519"][..], Ok(("TLSv1.3", "X25519"))),
        (Compliance::None, &["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], Err(refused)),
        (Compliance::Fips140_2, &["-groups", "X25519:P-256"], Ok(("TLSv1.2", "secp256r1"))),
        (Compliance::Fips140_2, &["-tls1_3"], Err(version)),
        (Compliance::Fips140_2, &["-tls1_2", "-groups", "X25519"], Err(refused)),
        (Compliance::Fips140_2, &["-tls1_2", "-groups", "P-384"], Err(refused)),
        (Compliance::Fips140_3, &["-tls1_3", "-groups", "X25519:P-384"], Ok(("TLSv1.3", "secp384r1"))),
        (Compliance::Fips140_3, &["-tls1_3", "-groups", "X25519"], Err(refused)),
        (Compliance::Fips140_3, &["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], Err(refused)),
        (Compliance::Pqc, &["-tls1_2"], Err(version)),
        (Compliance::Pqc, &["-groups", "X25519:P-256"], Err(refused)),
    ] {
        let policy = ServerPolicy { trust_domains: vec![domain()], compliance, ..Default::default() };
        let (seen, printed) = dial(&mesh, &policy, Some(&leaf), offered);
        let seen = seen.as_ref().map(|seen| (seen.version, seen.group.as_str())).map_err(|error| error.kind);
        assert!(seen == wanted, "{compliance:?} with {offered:?}: {seen:?}\n{printed}");
        assert_eq!(printed.contains("hello"), wanted.is_ok(), "{compliance:?} with {offered:?}: {printed}");
    }
}
