//! Group Handshake.

use std::time::Duration;

use mutua_identity::{ClientConfig, PeerExpectation, Session};
use mutua_proxy::reasons::Reason;
use mutua_proxy::tls::{Established, handshake, write_all};
use mutua_testbed::cases::{Case, Expected, case};
use mutua_testbed::hello::{FFDHE2048, Hello, SECP256R1, X25519MLKEM768, record, records};
use mutua_testbed::peers::{Files, Secured, mesh_client, plain_client};
use mutua_testbed::{Authority, CLIENT, PATIENCE, SERVER, read_to_end, wire};
use mutua_wire::mesh::{self, Mode, Protocol};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::bench::{Bench, EVIL};

const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;
/// The alert `protocol_version`, fatal.
const PROTOCOL_VERSION: [u8; 2] = [2, 70];

#[tokio::test]
async fn slow_caller() {
    let bench = Bench::strict().await;
    let hello = Hello::default().records(1 << 14);
    let attack = async |bench: &Bench| {
        let mut stream = bench.connect().await;
        for byte in &hello {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("a caller may take {:?}", Duration::from_millis(500) * u32::try_from(hello.len()).unwrap());
    };
    bench.survives("slow_caller", attack).await;
}

#[tokio::test]
async fn stalled_caller() {
    let bench = Bench::strict().await;
    let hello = Hello::default().records(1 << 14);
    let answered = async |bench: &Bench| assert_eq!(bench.send(&hello).await[0], 22, "it was a hello");
    bench.survives("stalled_caller", answered).await;
    let half = async |bench: &Bench| drop(bench.send(&hello[..hello.len() / 2]).await);
    bench.survives("stalled_caller", half).await;
}

#[tokio::test]
async fn huge_hello() {
    let bench = Bench::strict().await;
    // The message's length has 24 bits, so it can be told in truth.
    let mut message = Hello::default().message();
    message.resize(70_000, 0);
    let length = u32::try_from(message.len() - 4).unwrap().to_be_bytes();
    message[1..4].copy_from_slice(&length[1..]);
    for fragment in [1 << 14, 100] {
        let bytes = records(&message, fragment);
        bench.survives("huge_hello", async |bench| drop(bench.send(&bytes).await)).await;
    }
}

#[tokio::test]
async fn fragmented_hello() {
    let bench = Bench::strict().await;
    let config = mesh_client(&bench.authority, &bench.authority.leaf(CLIENT));
    let attack = async |bench: &Bench| {
        let stream = bench.connect().await;
        let mut session = Session::client(&config, None, &[b"istio"]).unwrap();
        let mut hello = Vec::new();
        session.start(&mut hello).unwrap();
        assert!(hello.len() > 1200, "post-quantum");
        write_all(&stream, &records(&hello[5..], 1)).await.unwrap();
        let established = handshake(&stream, session, Vec::new()).await.unwrap();
        let mut secured = Secured { stream, established };
        assert_eq!(secured.echo(b"in pieces").await.unwrap(), b"in pieces");
        secured.close().await.unwrap();
    };
    bench.survives("fragmented_hello", attack).await;
}

#[tokio::test]
async fn empty_records() {
    let bench = Bench::strict().await;
    let (empty, hello) = (record(22, b""), Hello::default().records(50));
    let before = [&empty[..], &hello].concat();
    bench.survives("empty_records", async |bench| drop(bench.send(&before).await)).await;
    let within = [&hello[..55], &empty, &hello[55..]].concat();
    bench.survives("empty_records", async |bench| drop(bench.send(&within).await)).await;
    let config = mesh_client(&bench.authority, &bench.authority.leaf(CLIENT));
    let allowed = async |bench: &Bench| {
        let mut secured = Secured::over(bench.connect().await, &config, None, &[b"istio"]).await.unwrap();
        for _ in 0..5000 {
            secured.send(b"").await.unwrap();
        }
        assert_eq!(secured.echo(b"and then").await.unwrap(), b"and then");
        secured.close().await.unwrap();
    };
    bench.survives_as(case("fragmented_hello"), 1, allowed).await;
}

#[tokio::test]
async fn closed_after_hello() {
    let bench = Bench::strict().await;
    let closing = record(ALERT, &[1, 0]);
    for fragment in [1 << 14, 20] {
        let bytes = [&Hello::default().records(fragment)[..], &closing].concat();
        bench.survives("closed_after_hello", async |bench| drop(bench.send(&bytes).await)).await;
    }
}

#[tokio::test]
async fn renegotiation() {
    let bench = Bench::strict().await;
    let files = Files::new(&bench.authority.leaf(CLIENT), &bench.authority);
    let attack = async |bench: &Bench| {
        let mut child = files.openssl(bench.server.address, &["-tls1_2"]);
        let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut lines = BufReader::new(output).lines();
        input.write_all(b"first\n").await.unwrap();
        let echoed = async { while lines.next_line().await.unwrap().expect("still talking") != "first" {} };
        tokio::time::timeout(PATIENCE, echoed).await.expect("the session works");
        input.write_all(b"R\nEVIL\n").await.unwrap();
        let mut told = String::new();
        let mut errors = child.stderr.take().unwrap();
        tokio::time::timeout(PATIENCE, errors.read_to_string(&mut told)).await.expect("openssl gives up").unwrap();
        assert!(told.contains("RENEGOTIATING"), "{told}");
        assert!(told.contains("no renegotiation"), "{told}");
    };
    let records = bench.survives("renegotiation", attack).await;
    assert!(records.iter().all(|record| record.tls_version == Some("TLSv1.2")));
}

#[tokio::test]
async fn downgrade() {
    let bench = Bench::strict().await;
    let suites = vec![0xc02b, 0xc02c, 0xc009, 0x002f];
    for (version, versions) in [(0x0300, None), (0x0301, None), (0x0302, None), (0x0303, Some(vec![0x0302, 0x0301]))] {
        let hello = Hello { version, versions, suites: suites.clone(), ..Hello::default() }.records(1 << 14);
        let attack = async |bench: &Bench| {
            let answer = bench.send(&hello).await;
            assert!(answer[0] == ALERT && answer.ends_with(&PROTOCOL_VERSION), "{answer:02x?}");
        };
        bench.survives("downgrade", attack).await;
    }
    // SSL 2 begins like nothing that is spoken here.
    let old = Case { expected: Expected::Refused(Reason::PlaintextOnStrictPort), ..case("downgrade") };
    bench.survives_as(old, 1, async |bench| drop(bench.send(b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10EVIL").await)).await;
    let floor = mesh::InboundPolicy { min_tls: mesh::TlsVersion::TlsV13 as i32, ..wire::inbound(Mode::Strict, &[]) };
    bench.server.put("shop/it", &floor);
    let files = Files::new(&bench.authority.leaf(CLIENT), &bench.authority);
    let attack = async |bench: &Bench| {
        let child = files.openssl(bench.server.address, &["-tls1_2"]);
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains("protocol version"), "{output:?}");
    };
    bench.survives("downgrade", attack).await;
}

#[tokio::test]
async fn no_shared_cipher() {
    let bench = Bench::strict().await;
    let thirteen = Hello { suites: vec![0x1304, 0x1305], ..Hello::default() };
    let twelve = Hello { versions: None, suites: vec![0x002f, 0x0035, 0xc013], ..Hello::default() };
    for hello in [thirteen, twelve].map(|hello| hello.records(1 << 14)) {
        bench.survives("no_shared_cipher", async |bench| drop(bench.send(&hello).await)).await;
    }
}

#[tokio::test]
async fn no_shared_group() {
    let bench = Bench::strict().await;
    let hello = Hello { groups: vec![FFDHE2048], shares: vec![(FFDHE2048, vec![3; 256])], ..Hello::default() }.records(1 << 14);
    bench.survives("no_shared_group", async |bench| drop(bench.send(&hello).await)).await;
    // With `pqc` a peer that lacks the post-quantum group is one without a shared group; the mesh's own peers have it.
    let pqc = mesh::ProxySettings { compliance: mesh::Compliance::Pqc as i32, ..wire::settings(mesh::OutboundPolicy::AllowAny) };
    bench.server.put("default", &pqc);
    let files = Files::new(&bench.authority.leaf(CLIENT), &bench.authority);
    let attack = async |bench: &Bench| {
        let child = files.openssl(bench.server.address, &["-groups", "X25519:P-256"]);
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains("handshake failure"), "{output:?}");
    };
    bench.survives("no_shared_group", attack).await;
}

#[tokio::test]
async fn truncated_share() {
    let bench = Bench::strict().await;
    for length in [100, 1215, 1217] {
        let hello = Hello { groups: vec![X25519MLKEM768], shares: vec![(X25519MLKEM768, vec![5; length])], ..Hello::default() };
        let hello = hello.records(1 << 14);
        bench.survives("truncated_share", async |bench| drop(bench.send(&hello).await)).await;
    }
}

#[tokio::test]
async fn retry_loop() {
    let bench = Bench::strict().await;
    let hello = Hello { groups: vec![SECP256R1], shares: Vec::new(), ..Hello::default() }.records(1 << 14);
    let attack = async |bench: &Bench| {
        let mut stream = bench.connect().await;
        stream.write_all(&hello).await.unwrap();
        let mut retry = vec![0; 1 << 14];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut retry)).await.unwrap().unwrap();
        assert!(read > 40 && retry[0] == 22 && retry[5] == 2, "HelloRetryRequest comes as a ServerHello");
        for _ in 0..100 {
            if stream.write_all(&hello).await.is_err() {
                break;
            }
        }
        let _ = read_to_end(&mut stream).await;
    };
    bench.survives("retry_loop", attack).await;
}

/// The client's certificate is of a second root that the server trusts, for a while.
#[tokio::test]
async fn resumption_after_root_removal() {
    let bench = Bench::strict().await;
    let second = Authority::new();
    let both: Vec<String> = bench.authority.roots().into_iter().chain(second.roots()).collect();
    let files = Files::new(&second.leaf(CLIENT), &bench.authority);
    let session = files.path("session").to_str().unwrap().to_owned();
    for version in ["-tls1_2", "-tls1_3"] {
        bench.server.put("default", &mesh::TrustBundle { roots: both.clone(), renew_not_before: 0, ..Default::default() });
        let said = talk(&files, &bench, &[version, "-sess_out", &session], "trusted").await;
        assert!(said.contains("\ntrusted\n"), "accepted while its root is there: {said}");
        bench
            .server
            .put("default", &mesh::TrustBundle { roots: bench.authority.roots(), renew_not_before: 0, ..Default::default() });
        let resume: &[&str] = if std::path::Path::new(&session).exists() { &[version, "-sess_in", &session] } else { &[version] };
        let attack = async |bench: &Bench| {
            let said = talk(&files, bench, resume, "EVIL").await;
            assert!(!said.contains("Reused,") && !said.contains("\nEVIL\n"), "{said}");
        };
        bench.survives("resumption_after_root_removal", attack).await;
    }
}

/// Lets openssl say a line, and waits for its end. Returns what it printed.
async fn talk(files: &Files, bench: &Bench, options: &[&str], line: &str) -> String {
    let mut child = files.openssl(bench.server.address, options);
    let mut input = child.stdin.take().unwrap();
    let _ = input.write_all(format!("{line}\n").as_bytes()).await;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = String::new();
    let read = async {
        while let Ok(Some(next)) = lines.next_line().await {
            said = format!("{said}{next}\n");
            if next == line {
                let _ = input.write_all(b"Q\n").await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("openssl ends");
    said
}

#[tokio::test]
async fn early_data() {
    let bench = Bench::strict().await;
    let ticket = [&[0, 32][..], &[4; 32], &[0, 0, 0, 1]].concat();
    let binder = [&[32][..], &[6; 32]].concat();
    let list = |content: &[u8]| [&u16::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat();
    let key = [list(&ticket), list(&binder)].concat();
    let hello = Hello { more: vec![(42, Vec::new()), (41, key)], ..Hello::default() };
    let early = record(APPLICATION_DATA, &[EVIL, &[0; 40]].concat());
    let bytes = [hello.records(1 << 14), early].concat();
    let attack = async |bench: &Bench| assert_eq!(bench.send(&bytes).await[0], 22, "answered as if nothing had been offered");
    bench.survives("early_data", attack).await;
}

/// Calls with these names, and is served.
async fn served_with(bench: &Bench, config: &ClientConfig, name: Option<&str>, alpn: &[&[u8]]) {
    let mut secured = Secured::over(bench.connect().await, config, name, alpn).await.unwrap();
    let Established { session, .. } = &secured.established;
    assert_eq!(session.negotiated().unwrap().alpn, None, "nothing unknown is ever selected");
    assert_eq!(secured.echo(b"fine").await.unwrap(), b"fine");
    secured.close().await.unwrap();
}

#[tokio::test]
async fn foreign_alpn() {
    let bench = Bench::strict().await;
    let config = mesh_client(&bench.authority, &bench.authority.leaf(CLIENT));
    let long = [b'x'; 255];
    for alpn in [&[][..], &[b"foo".as_slice(), b"\x00\x01"], &[long.as_slice(); 30]] {
        bench.survives("foreign_alpn", async |bench| served_with(bench, &config, Some("a"), alpn).await).await;
    }
    bench.server.put("shop/it", &wire::inbound(Mode::Permissive, &[(bench.app.address, Protocol::Http)]));
    let refused = Case { expected: Expected::Refused(Reason::NonMeshTlsOnHttpPort), ..case("foreign_alpn") };
    let attack = async |bench: &Bench| {
        assert!(Secured::over(bench.connect().await, &config, Some("a"), &[b"foo"]).await.is_err());
    };
    bench.survives_as(refused, 1, attack).await;
}

#[tokio::test]
async fn no_server_name() {
    let bench = Bench::strict().await;
    let config = mesh_client(&bench.authority, &bench.authority.leaf(CLIENT));
    bench.survives("no_server_name", async |bench| served_with(bench, &config, None, &[b"istio"]).await).await;
}

#[tokio::test]
async fn spoofed_server_name() {
    let bench = Bench::strict().await;
    let client = bench.authority.leaf(CLIENT);
    let config = mesh_client(&bench.authority, &client);
    let other = "outbound_.443_._.payments.bank.svc.cluster.local";
    let records =
        bench.survives("spoofed_server_name", async |bench| served_with(bench, &config, Some(other), &[b"istio"]).await).await;
    assert!(records.iter().all(|record| record.service.as_deref() == Some("server.shop.svc.cluster.local")));
    // Whoever means the other service finds out that this is not it.
    let payments = "spiffe://cluster.local/ns/bank/sa/payments".to_owned();
    let peer = PeerExpectation { ids: vec![payments], trust_domains: Vec::new() };
    let config = ClientConfig::mesh(&client, bench.authority.bundle(), &peer).unwrap();
    let told = Secured::over(bench.connect().await, &config, Some(other), &[b"istio"]).await.err().unwrap();
    assert_eq!((told.reason, told.peer_identity.as_deref()), (Reason::PeerIdentityMismatch, Some(SERVER)));
}

#[tokio::test]
async fn mad_server_name() {
    let bench = Bench::strict().await;
    let name: Vec<u8> = b"evil\r\n\0\x1b[31m\"\\".iter().copied().cycle().take(300).collect();
    let hello = Hello { server_name: Some(name), ..Hello::default() }.records(1 << 14);
    bench.survives("mad_server_name", async |bench| drop(bench.send(&hello).await)).await;
    let text = format!("{:?}", bench.server.sidecar.connections.records());
    assert!(!text.contains("[31m"), "{text}");
    let config = plain_client(&bench.authority);
    assert!(Session::client(&config, Some("evil\r\nname"), &[]).is_err(), "and our own client never sends such a name");
}
