//! Revocation lists through both sidecars: who is on one gets no connection, and those that run are closed at once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use mutua_proxy::connections::{Direction, Outcome, Record};
use mutua_proxy::reasons::Reason;
use mutua_testbed::pki::{ROOT, SIGNER};
use mutua_testbed::{App, Authority, CLIENT, Pki, Running, SERVER, read_exactly, read_to_end, wire};
use mutua_wire::mesh::{ClientTlsMode, Mode, Protocol};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const SERVICE: &str = "192.0.2.1:80";
const DAY: u32 = 86_400;

/// An application behind a sidecar and a caller's sidecar, with certificates of a plugged-in CA.
struct Pair {
    pki: Pki,
    authority: Authority,
    client: Running,
    server: Running,
    serials: [String; 2],
}

impl Pair {
    async fn new() -> Self {
        let pki = Pki::new();
        let authority = Authority::plugged(&pki.dir());
        let leaves = [authority.leaf(CLIENT), authority.leaf(SERVER)];
        let serials = leaves.each_ref().map(|leaf| leaf.serial().to_owned());
        let [of_client, of_server] = leaves;
        let app = App::echo().await;
        let server = Running::start(Direction::Inbound, Some(of_server)).await;
        server.wanted.set(app.address);
        server.configure(&authority, &wire::inbound(Mode::Strict, &[(app.address, Protocol::Tcp)]));
        let client = Running::start(Direction::Outbound, Some(of_client)).await;
        client.wanted.set(SERVICE.parse::<SocketAddr>().unwrap());
        client.configure(&authority, &wire::inbound(Mode::Permissive, &[]));
        let tls = wire::tls(ClientTlsMode::TlsIstioMutual, &[SERVER]);
        client.put("shop/server", &wire::destination(Protocol::Tcp, tls, &[server.address]));
        Self { pki, authority, client, server, serials }
    }

    /// Sends one sidecar these lists.
    fn revoke(&self, at: &Running, lists: String) {
        let trust = mutua_wire::mesh::TrustBundle { revocation_lists: vec![lists], ..self.authority.trust() };
        at.put("default", &trust);
    }

    async fn served(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.client.address).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        assert_eq!(read_exactly(&mut stream, 5).await, b"hello");
        stream
    }

    /// A call that is refused by both sidecars, each with the code of its own.
    async fn refused(&self) {
        let mut stream = TcpStream::connect(self.client.address).await.unwrap();
        // The sidecar may have closed already.
        let _ = stream.write_all(b"hello").await;
        assert!(read_to_end(&mut stream).await.unwrap_or_default().is_empty());
        for (running, peer) in [(&self.client, SERVER), (&self.server, CLIENT)] {
            let refused = |record: &Record| record.outcome == Some(Outcome::Refused);
            let record = running.record(|record| refused(record) && record.reason == Some(Reason::CertificateRevoked)).await;
            assert_eq!(record.peer_id.as_deref().unwrap_or(peer), peer, "{record:#?}");
            assert!(record.message.as_deref().unwrap().contains("revoked"), "{record:#?}");
        }
    }
}

#[tokio::test]
async fn a_revoked_caller_is_cut_and_refused_by_the_server() {
    let pair = Pair::new().await;
    let (mut running, mut bystander) = (pair.served().await, pair.served().await);
    let other = pair.pki.lists(&["123456789a"]);
    pair.revoke(&pair.server, other);
    bystander.write_all(b"again").await.unwrap();
    assert_eq!(read_exactly(&mut bystander, 5).await, b"again", "who is on no list goes on");
    pair.revoke(&pair.server, pair.pki.lists(&[&pair.serials[0]]));
    let _ = read_to_end(&mut running).await;
    let record = pair.server.closed().await;
    assert_eq!((record.outcome, record.reason), (Some(Outcome::Mtls), Some(Reason::CertificateRevoked)), "{record:#?}");
    assert_eq!((record.peer_id.as_deref(), record.peer_serial.as_deref()), (Some(CLIENT), Some(pair.serials[0].as_str())));
    pair.refused().await;
    let refused = pair.server.refused(Reason::CertificateRevoked).await;
    assert_eq!(refused.peer_id.as_deref(), Some(CLIENT), "{refused:#?}");
    pair.revoke(&pair.server, pair.pki.lists(&[]));
    drop(pair.served().await);
}

#[tokio::test]
async fn a_revoked_server_is_cut_and_refused_by_its_caller() {
    let pair = Pair::new().await;
    let mut running = pair.served().await;
    pair.revoke(&pair.client, pair.pki.lists(&[&pair.serials[1]]));
    let _ = read_to_end(&mut running).await;
    let record = pair.client.closed().await;
    assert_eq!((record.outcome, record.reason), (Some(Outcome::Mtls), Some(Reason::CertificateRevoked)), "{record:#?}");
    pair.refused().await;
    let refused = pair.client.refused(Reason::CertificateRevoked).await;
    assert_eq!(refused.peer_id.as_deref(), Some(SERVER), "{refused:#?}");
}

#[tokio::test]
async fn a_revoked_intermediate_ends_what_it_signed() {
    let pair = Pair::new().await;
    let mut running = pair.served().await;
    let lists = pair.pki.list(ROOT, &[&pair.pki.serial(SIGNER)], DAY) + &pair.pki.list(SIGNER, &[], DAY);
    pair.revoke(&pair.server, lists);
    let _ = read_to_end(&mut running).await;
    assert_eq!(pair.server.closed().await.reason, Some(Reason::CertificateRevoked));
    pair.refused().await;
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_refused_whole_and_one_that_has_ended_is_told_of() {
    let pair = Pair::new().await;
    drop(pair.served().await);
    let broken = mutua_wire::mesh::TrustBundle { revocation_lists: vec!["nothing".to_owned()], ..pair.authority.trust() };
    let error = pair.server.try_put("default", &broken).unwrap_err().to_string();
    assert!(error.contains("certificate revocation list"), "{error}");
    drop(pair.served().await);
    let short = pair.pki.list(ROOT, &[], DAY) + &pair.pki.list(SIGNER, &[], 1);
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    pair.revoke(&pair.server, short);
    let mut stream = TcpStream::connect(pair.client.address).await.unwrap();
    let _ = stream.write_all(b"hello").await;
    assert!(read_to_end(&mut stream).await.unwrap_or_default().is_empty());
    let record = pair.server.refused(Reason::RevocationListUnusable).await;
    assert!(record.message.unwrap().contains("has ended"));
}
