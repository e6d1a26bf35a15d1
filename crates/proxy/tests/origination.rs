//! TLS that the sidecar originates towards servers outside the mesh: SIMPLE and MUTUAL, with files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mutua_testbed as common;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use common::{Authority, CLIENT, Running, read_exactly, read_to_end, wire};
use mutua_identity::stream::TlsStream;
use mutua_identity::{Ca, ServerConfig, TrustDomain};
use mutua_proxy::connections::{Direction, Outcome};
use mutua_proxy::reasons::Reason;
use mutua_wire::mesh::{self, ClientTlsMode, Mode, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PARTNER: &str = "spiffe://partner.example/ns/out/sa/side";

/// The client certificate that customers show.
const CUSTOMER: &str = "spiffe://partner.example/ns/out/sa/customer";

/// A TLS server that says who called (`-` for nobody), then echoes; its files lie in `folder`.
struct Partner {
    ca: Ca,
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Partner {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(folder.path(), &TrustDomain::new("partner.example").unwrap()).unwrap();
        let names = ["partner.example".to_owned()];
        let own = ca.sign_server(&PARTNER.parse().unwrap(), &names, Duration::from_secs(600)).unwrap();
        let config = ServerConfig::control_plane(&own, ca.bundle()).unwrap();
        let (chain, key) = customer(&ca, CUSTOMER);
        std::fs::write(folder.path().join("client.pem"), chain).unwrap();
        std::fs::write(folder.path().join("client.key"), key).unwrap();
        std::fs::write(folder.path().join("roots.pem"), ca.bundle().to_pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let config = config.clone();
                tokio::spawn(async move {
                    let Ok(mut tls) = TlsStream::accept(&config, stream).await else { return };
                    let who = tls.peer_id().map_or_else(|| "-".to_owned(), ToString::to_string);
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = tls.read(&mut buffer).await {
                        tls.write_all(format!("{who} ").as_bytes()).await.unwrap();
                        tls.write_all(&buffer[..count]).await.unwrap();
                        tls.flush().await.unwrap();
                    }
                });
            }
        });
        Self { ca, folder, address }
    }

    /// What a secret for a customer holds.
    fn secret(&self, id: &str) -> mesh::Credential {
        let (certificate, private_key) = customer(&self.ca, id);
        mesh::Credential { certificate, private_key, roots: self.ca.bundle().to_pem(), ..mesh::Credential::default() }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
}

/// A customer's chain and key, PEM.
fn customer(ca: &Ca, id: &str) -> (String, String) {
    let key = mutua_identity::PrivateKey::generate().unwrap();
    let csr = mutua_identity::certificate_request(&key).unwrap();
    let issued = ca.sign(&csr, &id.parse().unwrap(), Duration::from_secs(600)).unwrap();
    (issued.chain_pem.concat(), key.to_pkcs8_pem())
}

async fn sidecar(folder: &Path, protocol: Protocol, tls: mesh::ClientTls, endpoint: SocketAddr) -> Running {
    let authority = Authority::new();
    let folder = folder.to_path_buf();
    let change = |sidecar: &mut mutua_proxy::sidecar::Sidecar| sidecar.tls_folders.push(folder);
    let client = Running::with(Direction::Outbound, Some(authority.leaf(CLIENT)), change).await;
    client.wanted.set("192.0.2.1:80".parse().unwrap());
    client.configure(&authority, &wire::inbound(Mode::Permissive, &[]));
    client.put("shop/partner", &wire::destination(protocol, tls, &[endpoint]));
    client
}

fn simple(partner: &Partner) -> mesh::ClientTls {
    mesh::ClientTls {
        ca_certificates: partner.file("roots.pem"),
        sni: "partner.example".to_owned(),
        subject_alt_names: vec!["partner.example".to_owned()],
        ..wire::tls(ClientTlsMode::TlsSimple, &[])
    }
}

async fn call(client: &Running, bytes: &[u8], answer: &str) {
    let mut stream = TcpStream::connect(client.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let expected = [answer.as_bytes(), bytes].concat();
    assert_eq!(String::from_utf8(read_exactly(&mut stream, expected.len()).await), String::from_utf8(expected));
    let record = client.record(|record| record.outcome.is_some()).await;
    assert_eq!((record.outcome, record.tls_version), (Some(Outcome::Tls), Some("TLSv1.3")));
}

async fn refused(client: &Running, bytes: &[u8], reason: Reason) -> String {
    let mut stream = TcpStream::connect(client.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    assert!(read_to_end(&mut stream).await.is_err());
    client.refused(reason).await.message.unwrap()
}

#[tokio::test]
async fn simple_checks_the_server_and_shows_nothing() {
    let partner = Partner::start().await;
    let client = sidecar(partner.folder.path(), Protocol::Tcp, simple(&partner), partner.address).await;
    call(&client, b"hello", "- ").await;
}

#[tokio::test]
async fn mutual_shows_the_certificate_of_its_files() {
    let partner = Partner::start().await;
    let tls = mesh::ClientTls {
        mode: ClientTlsMode::TlsMutual as i32,
        client_certificate: partner.file("client.pem"),
        private_key: partner.file("client.key"),
        ..simple(&partner)
    };
    let client = sidecar(partner.folder.path(), Protocol::Tcp, tls.clone(), partner.address).await;
    call(&client, b"hello", "spiffe://partner.example/ns/out/sa/customer ").await;
    let incomplete = mesh::ClientTls { private_key: String::new(), ..tls };
    let client = sidecar(partner.folder.path(), Protocol::Tcp, incomplete, partner.address).await;
    assert!(refused(&client, b"x", Reason::TlsSettings).await.contains("clientCertificate and privateKey"));
}

#[tokio::test]
async fn wrong_names_roots_and_files_are_refused() {
    let (partner, other) = (Partner::start().await, Partner::start().await);
    let folder = partner.folder.path();
    let wrong = mesh::ClientTls { subject_alt_names: vec!["other.example".to_owned()], ..simple(&partner) };
    let client = sidecar(folder, Protocol::Tcp, wrong, partner.address).await;
    refused(&client, b"x", Reason::PeerIdentityMismatch).await;
    let client = sidecar(folder, Protocol::Tcp, simple(&partner), other.address).await;
    refused(&client, b"x", Reason::UntrustedCertificate).await;
    let client = sidecar(folder, Protocol::Tcp, simple(&other), other.address).await;
    assert!(refused(&client, b"x", Reason::TlsSettings).await.contains("outside the folders of --tls-dir"));
    let missing = mesh::ClientTls { ca_certificates: partner.file("none.pem"), ..simple(&partner) };
    let client = sidecar(folder, Protocol::Tcp, missing, partner.address).await;
    assert!(refused(&client, b"x", Reason::TlsSettings).await.contains("none.pem: No such file"));
}

/// Files that hold less than they should never make a connection weaker, and are named.
#[tokio::test]
async fn files_without_their_content_are_refused() {
    let partner = Partner::start().await;
    let (list, roots, large) = (partner.file("empty.crl"), partner.file("half.pem"), partner.file("large.pem"));
    let whole = std::fs::read_to_string(partner.file("roots.pem")).unwrap();
    std::fs::write(&list, "").unwrap();
    std::fs::write(&roots, format!("{whole}{}", &whole[..whole.len() / 2])).unwrap();
    std::fs::write(&large, whole.repeat((1 << 20) / whole.len() + 1)).unwrap();
    for (tls, message) in [
        (
            mesh::ClientTls { ca_crl: list.clone(), ..simple(&partner) },
            format!("no PEM list in it (the rule names caCertificates {}, caCrl {list})", partner.file("roots.pem")),
        ),
        (
            mesh::ClientTls { ca_certificates: roots.clone(), ..simple(&partner) },
            format!("root bundle: cut off: END CERTIFICATE is missing (the rule names caCertificates {roots})"),
        ),
        (mesh::ClientTls { ca_certificates: large.clone(), ..simple(&partner) }, format!("{large}: longer than 1048576 bytes")),
    ] {
        let client = sidecar(partner.folder.path(), Protocol::Tcp, tls, partner.address).await;
        let refusal = refused(&client, b"x", Reason::TlsSettings).await;
        assert!(refusal.contains(&message), "{refusal}");
    }
}

#[tokio::test]
async fn a_renewed_file_counts_from_the_next_connection() {
    let (partner, other) = (Partner::start().await, Partner::start().await);
    let client = sidecar(partner.folder.path(), Protocol::Tcp, simple(&partner), other.address).await;
    refused(&client, b"x", Reason::UntrustedCertificate).await;
    std::fs::copy(other.file("roots.pem"), partner.file("roots.pem")).unwrap();
    let mut stream = TcpStream::connect(client.address).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 3).await, b"- x");
}

#[tokio::test]
async fn the_name_comes_from_the_request_where_the_rule_has_none() {
    let partner = Partner::start().await;
    let tls = mesh::ClientTls { sni: String::new(), subject_alt_names: Vec::new(), from_host_header: true, ..simple(&partner) };
    let client = sidecar(partner.folder.path(), Protocol::Http, tls.clone(), partner.address).await;
    call(&client, b"GET / HTTP/1.1\r\nHost: partner.example\r\n\r\n", "- ").await;
    let client = sidecar(partner.folder.path(), Protocol::Http, tls.clone(), partner.address).await;
    refused(&client, b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n", Reason::PeerIdentityMismatch).await;
    let client = sidecar(partner.folder.path(), Protocol::Http, tls, partner.address).await;
    refused(&client, b"GET / HTTP/1.1\r\n\r\n", Reason::HostMissing).await;
}

/// Bytes that look like a request are none on a TCP port: the chain is verified, no name is sent or checked, as in Istio.
#[tokio::test]
async fn nothing_of_tcp_is_taken_for_a_name_where_the_rule_has_none() {
    let (partner, other) = (Partner::start().await, Partner::start().await);
    let tls = mesh::ClientTls { sni: String::new(), subject_alt_names: Vec::new(), from_host_header: true, ..simple(&partner) };
    for request in [&b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n"[..], b"hello"] {
        let client = sidecar(partner.folder.path(), Protocol::Tcp, tls.clone(), partner.address).await;
        call(&client, request, "- ").await;
    }
    let client = sidecar(partner.folder.path(), Protocol::Tcp, tls, other.address).await;
    refused(&client, b"hello", Reason::UntrustedCertificate).await;
}

#[tokio::test]
async fn suites_groups_and_compliance_of_the_mesh_hold_outside_it() {
    let partner = Partner::start().await;
    let client = sidecar(partner.folder.path(), Protocol::Tcp, simple(&partner), partner.address).await;
    let settings = wire::settings(mesh::OutboundPolicy::AllowAny);
    let groups = |groups: &[&str]| groups.iter().map(|group| (*group).to_owned()).collect::<Vec<_>>();
    let none = mesh::Compliance::None;
    for (default_groups, compliance, version, group) in [
        (groups(&[]), none, "TLSv1.3", "X25519MLKEM768"),
        (groups(&["P-384", "P-256"]), none, "TLSv1.3", "secp384r1"),
        (groups(&["P-384"]), mesh::Compliance::Fips1402, "TLSv1.2", "secp256r1"),
        (groups(&["P-384"]), mesh::Compliance::Pqc, "TLSv1.3", "X25519MLKEM768"),
    ] {
        client.put("default", &mesh::ProxySettings { default_groups, compliance: compliance.into(), ..settings.clone() });
        let mut stream = TcpStream::connect(client.address).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        assert_eq!(read_exactly(&mut stream, 3).await, b"- x");
        let wanted = (Some(version), Some(group.to_owned()));
        client.record(|record| (record.tls_version, record.group.clone()) == wanted).await;
    }
    client.put("default", &mesh::ProxySettings { default_groups: groups(&["P-521"]), ..settings });
    let message = refused(&client, b"x", Reason::TlsSettings).await;
    assert!(
        message.contains("none of the ECDH curves P-521 can be served; served are X25519MLKEM768, X25519, P-256, P-384"),
        "{message}"
    );
}

/// Settings whose `credentialName` stands for `credential`.
fn by_secret(mode: ClientTlsMode, credential: mesh::Credential) -> mesh::ClientTls {
    mesh::ClientTls {
        credential_name: "partner".to_owned(),
        credential: Some(credential),
        sni: "partner.example".to_owned(),
        subject_alt_names: vec!["partner.example".to_owned()],
        ..wire::tls(mode, &[])
    }
}

#[tokio::test]
async fn a_secret_stands_in_for_files() {
    let partner = Partner::start().await;
    let nowhere = Path::new("/nowhere");
    let simple = mesh::Credential { certificate: String::new(), private_key: String::new(), ..partner.secret(CUSTOMER) };
    let client = sidecar(nowhere, Protocol::Tcp, by_secret(ClientTlsMode::TlsSimple, simple), partner.address).await;
    call(&client, b"hello", "- ").await;
    let mutual = by_secret(ClientTlsMode::TlsMutual, partner.secret(CUSTOMER));
    let client = sidecar(nowhere, Protocol::Tcp, mutual, partner.address).await;
    call(&client, b"hello", &format!("{CUSTOMER} ")).await;
    let other = Partner::start().await;
    let mutual = by_secret(ClientTlsMode::TlsMutual, other.secret(CUSTOMER));
    let client = sidecar(nowhere, Protocol::Tcp, mutual, partner.address).await;
    refused(&client, b"x", Reason::UntrustedCertificate).await;
}

/// A secret that is renewed counts from the next connection; those that are open go on, and nothing of the old is kept.
#[tokio::test]
async fn a_renewed_secret_counts_from_the_next_connection() {
    let partner = Partner::start().await;
    let first = by_secret(ClientTlsMode::TlsMutual, partner.secret(CUSTOMER));
    let client = sidecar(Path::new("/nowhere"), Protocol::Tcp, first, partner.address).await;
    let mut open = TcpStream::connect(client.address).await.unwrap();
    let says = async |stream: &mut TcpStream, who: &str| {
        stream.write_all(b"x").await.unwrap();
        let expected = format!("{who} x");
        assert_eq!(read_exactly(stream, expected.len()).await, expected.as_bytes());
    };
    says(&mut open, CUSTOMER).await;
    let renewed = "spiffe://partner.example/ns/out/sa/renewed";
    let second = by_secret(ClientTlsMode::TlsMutual, partner.secret(renewed));
    client.put("shop/partner", &wire::destination(Protocol::Tcp, second, &[partner.address]));
    says(&mut TcpStream::connect(client.address).await.unwrap(), renewed).await;
    says(&mut open, CUSTOMER).await;
    assert_eq!(client.sidecar.originations.count(), 1);
}

#[tokio::test]
async fn nothing_weaker_than_the_secret_is_used() {
    let partner = Partner::start().await;
    let whole = || partner.secret(CUSTOMER);
    let none = String::new;
    let key = whole().private_key;
    let missing = mesh::Credential { problem: "Secret shop/partner does not exist".to_owned(), ..mesh::Credential::default() };
    let (simple, mutual) = (ClientTlsMode::TlsSimple, ClientTlsMode::TlsMutual);
    for (mode, credential, message) in [
        (simple, Some(missing), "credentialName partner: Secret shop/partner does not exist"),
        (simple, None, "credentialName partner: the control plane gave nothing for it"),
        (simple, Some(mesh::Credential { roots: none(), ..whole() }), "credentialName partner: without roots"),
        (
            mutual,
            Some(mesh::Credential { private_key: none(), ..whole() }),
            "credentialName partner: without a certificate and a key",
        ),
        (mutual, Some(mesh::Credential { private_key: "no key".to_owned(), ..whole() }), "credentialName partner: private key: "),
        (mutual, Some(mesh::Credential { private_key: whole().private_key, ..whole() }), "the rule names credentialName partner"),
        (simple, Some(mesh::Credential { roots: "no roots".to_owned(), ..whole() }), "the rule names credentialName partner"),
        (
            simple,
            Some(mesh::Credential { revocation_list: "no list".to_owned(), ..whole() }),
            "the rule names credentialName partner",
        ),
    ] {
        let tls = mesh::ClientTls { credential, ..by_secret(mode, whole()) };
        let client = sidecar(Path::new("/nowhere"), Protocol::Tcp, tls, partner.address).await;
        let said = refused(&client, b"x", Reason::TlsSettings).await;
        assert!(said.contains(message), "{said}");
        assert!(!["no key", "no roots", "no list", &key].iter().any(|value| said.contains(value)), "{said}");
    }
}
