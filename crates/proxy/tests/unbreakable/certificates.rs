//! Group Certificates: what callers show. Most are signed by the mesh's own root, so that nothing but the fault counts.

use std::process::Command;

use mutua_identity::Credentials;
use mutua_proxy::connections::{Direction, Outcome};
use mutua_proxy::reasons::Reason;
use mutua_testbed::peers::{Files, Secured, mesh_client};
use mutua_testbed::pki::{ROOT, SIGNER};
use mutua_testbed::{Authority, CLIENT, Pki, Running, SERVER, wire};
use mutua_wire::mesh::{ClientTlsMode, Mode, Protocol, TrustBundle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bench::{Bench, EVIL};

const DAY: u32 = 86_400;
const USE: &str = "extendedKeyUsage=clientAuth,serverAuth\nbasicConstraints=CA:FALSE\n";

/// A caller that shows `leaf` and is not served.
pub async fn shown(bench: &Bench, leaf: &Credentials) {
    let config = mesh_client(&bench.authority, leaf);
    let Ok(mut secured) = Secured::over(bench.connect().await, &config, None, &[b"istio"]).await else { return };
    assert!(secured.echo(EVIL).await.is_err(), "it was served");
}

/// A caller that shows `leaf` and is served.
pub async fn served(bench: &Bench, leaf: &Credentials) {
    let config = mesh_client(&bench.authority, leaf);
    let mut secured = Secured::over(bench.connect().await, &config, None, &[b"istio"]).await.unwrap();
    assert_eq!(secured.echo(b"good").await.unwrap(), b"good");
    secured.close().await.unwrap();
}

/// A case whose caller shows a leaf with these extensions.
async fn odd(name: &str, extensions: &str) {
    let bench = Bench::strict().await;
    let leaf = bench.authority.odd_leaf(extensions);
    bench.survives(name, async |bench| shown(bench, &leaf).await).await;
}

/// Extensions with one URI of these bytes, whatever they are.
fn raw_uri(bytes: &[u8]) -> String {
    let mut der = vec![0x30, u8::try_from(bytes.len() + 2).unwrap(), 0x86, u8::try_from(bytes.len()).unwrap()];
    der.extend_from_slice(bytes);
    let hex: Vec<String> = der.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{USE}subjectAltName=DER:{}\n", hex.join(":"))
}

#[tokio::test]
async fn two_uri_names() {
    odd("two_uri_names", &format!("{USE}subjectAltName=URI:{CLIENT},URI:{SERVER}\n")).await;
}

#[tokio::test]
async fn no_name() {
    odd("no_name", USE).await;
}

#[tokio::test]
async fn dns_name_only() {
    odd("dns_name_only", &format!("{USE}subjectAltName=DNS:client.shop.svc.cluster.local\n")).await;
}

#[tokio::test]
async fn nul_in_name() {
    odd("nul_in_name", &raw_uri(format!("{CLIENT}\0.evil").as_bytes())).await;
}

#[tokio::test]
async fn name_not_utf8() {
    odd("name_not_utf8", &raw_uri(b"spiffe://cluster.local/ns/shop/sa/cl\xff\xfent")).await;
}

/// An outbound sidecar of [`CLIENT`] that calls [`SERVER`] at `address`.
async fn caller(bench: &Bench) -> Running {
    let client = Running::start(Direction::Outbound, Some(bench.authority.leaf(CLIENT))).await;
    client.wanted.set("192.0.2.1:80".parse().unwrap());
    client.configure(&bench.authority, &wire::inbound(Mode::Permissive, &[]));
    let tls = wire::tls(ClientTlsMode::TlsIstioMutual, &["spiffe://cluster.local/ns/shop/sa/other"]);
    client.put("shop/server", &wire::destination(Protocol::Tcp, tls, &[bench.server.address]));
    client
}

#[tokio::test]
async fn right_ca_wrong_service() {
    let bench = Bench::strict().await;
    let client = caller(&bench).await;
    bench
        .survives("right_ca_wrong_service", async |_| {
            let mut stream = TcpStream::connect(client.address).await.unwrap();
            let _ = stream.write_all(EVIL).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
        .await;
    let record = client.refused(Reason::PeerIdentityMismatch).await;
    assert_eq!(record.peer_id.as_deref(), Some(SERVER), "{record:#?}");
}

#[tokio::test]
async fn wrong_trust_domain() {
    odd("wrong_trust_domain", &format!("{USE}subjectAltName=URI:spiffe://elsewhere/ns/shop/sa/client\n")).await;
}

#[tokio::test]
async fn alias_trust_domain() {
    let bench = Bench::strict().await;
    let mut inbound = wire::inbound(Mode::Strict, &[(bench.app.address, Protocol::Auto)]);
    inbound.trust_domains.push("alias.example".to_owned());
    bench.server.put("shop/it", &inbound);
    let id = "spiffe://alias.example/ns/shop/sa/client";
    let leaf = bench.authority.odd_leaf(&format!("{USE}subjectAltName=URI:{id}\n"));
    let records = bench.survives("alias_trust_domain", async |bench| served(bench, &leaf).await).await;
    for record in records {
        assert_eq!((record.outcome, record.reason), (Some(Outcome::Mtls), None), "{record:#?}");
        assert_eq!(record.peer_id.as_deref(), Some(id));
    }
}

#[tokio::test]
async fn wrong_use() {
    odd("wrong_use", &format!("extendedKeyUsage=codeSigning\nsubjectAltName=URI:{CLIENT}\n")).await;
}

#[tokio::test]
async fn authority_as_leaf() {
    let text = format!("basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,digitalSignature\nsubjectAltName=URI:{CLIENT}\n");
    odd("authority_as_leaf", &text).await;
}

#[tokio::test]
async fn unknown_critical_extension() {
    let unknown = "1.3.6.1.4.1.99999.2=critical,DER:05:00\n";
    odd("unknown_critical_extension", &format!("{USE}subjectAltName=URI:{CLIENT}\n{unknown}")).await;
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A leaf of the mesh for a key of this kind.
fn of_kind(bench: &Bench, options: &[&str]) -> Files {
    let key = openssl(&[&["genpkey"][..], options].concat());
    let leaf = bench.authority.odd(&key, &format!("{USE}subjectAltName=URI:{CLIENT}\n"), &["-days", "1"]);
    Files::of(&key, &leaf, &bench.authority)
}

/// What a caller, openssl, that shows these files is answered to `words`.
async fn answered(bench: &Bench, files: &Files, words: &[u8]) -> Vec<u8> {
    let mut child = files.openssl(bench.server.address, &["-cipher", "DEFAULT@SECLEVEL=0", "-quiet", "-no_ign_eof"]);
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let _ = input.write_all(words).await;
    let mut answer = vec![0; words.len()];
    let count = output.read(&mut answer).await.unwrap();
    drop(input);
    let _ = child.wait().await;
    answer.truncate(count);
    answer
}

/// A case whose caller shows a leaf of the mesh for a key of this kind, and is refused.
async fn of_key(name: &str, options: &[&str]) {
    let bench = Bench::strict().await;
    let files = of_kind(&bench, options);
    bench.survives(name, async |bench| assert_eq!(answered(bench, &files, EVIL).await, b"")).await;
}

#[tokio::test]
async fn rsa_1024() {
    of_key("rsa_1024", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]).await;
}

#[tokio::test]
async fn rsa_too_long() {
    // Five primes are found sooner than two.
    let bits = if std::env::var_os("MUTUA_SOAK").is_some() { "rsa_keygen_bits:16384" } else { "rsa_keygen_bits:8448" };
    of_key("rsa_too_long", &["-algorithm", "RSA", "-pkeyopt", bits, "-pkeyopt", "rsa_keygen_primes:5"]).await;
}

#[tokio::test]
async fn p521() {
    let bench = Bench::strict().await;
    let files = of_kind(&bench, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]);
    bench.survives("p521", async |bench| assert_eq!(answered(bench, &files, b"good").await, b"good")).await;
}

#[tokio::test]
async fn self_signed() {
    let bench = Bench::strict().await;
    // A root of its own that bears the mesh's name.
    let leaf = Authority::new().leaf(CLIENT);
    bench.survives("self_signed", async |bench| shown(bench, &leaf).await).await;
}

fn revoke(bench: &Bench, lists: String) {
    bench.server.put("default", &TrustBundle { revocation_lists: vec![lists], ..bench.authority.trust() });
}

#[tokio::test]
async fn revoked_leaf() {
    let pki = Pki::new();
    let bench = Bench::under(Authority::plugged(&pki.dir())).await;
    let leaf = bench.authority.leaf(CLIENT);
    revoke(&bench, pki.lists(&[leaf.serial()]));
    bench.survives("revoked_leaf", async |bench| shown(bench, &leaf).await).await;
}

#[tokio::test]
async fn revoked_intermediate() {
    let pki = Pki::new();
    pki.intermediate("other");
    pki.plug("other");
    let leaf = Authority::plugged(&pki.dir()).leaf(CLIENT);
    pki.plug(SIGNER);
    let bench = Bench::under(Authority::plugged(&pki.dir())).await;
    let lists = [pki.list(ROOT, &[&pki.serial("other")], DAY), pki.list(SIGNER, &[], DAY), pki.list("other", &[], DAY)];
    revoke(&bench, lists.concat());
    bench.survives("revoked_intermediate", async |bench| shown(bench, &leaf).await).await;
}

#[tokio::test]
async fn malformed_crl() {
    let pki = Pki::new();
    let bench = Bench::under(Authority::plugged(&pki.dir())).await;
    let leaf = bench.authority.leaf(CLIENT);
    revoke(&bench, pki.lists(&[leaf.serial()]));
    let half = pki.lists(&[])[..300].to_owned();
    for list in [half, "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n".to_owned()] {
        let trust = TrustBundle { revocation_lists: vec![list], ..bench.authority.trust() };
        let error = bench.server.try_put("default", &trust).expect_err("refused");
        assert!(error.to_string().contains("trust bundle: "), "{error}");
    }
    // What was revoked stays so, and others are served.
    bench.survives("malformed_crl", async |bench| shown(bench, &leaf).await).await;
}

/// Authorities of the mesh root's name, each with a key of its own, none signed by anybody who counts.
fn impostors(count: usize) -> Vec<String> {
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "/dev/null"];
    (0..count).map(|_| openssl(&[&new[..], &["-subj", "/O=cluster.local", "-days", "1"]].concat())).collect()
}

/// A case whose caller shows a leaf of a stranger with these certificates behind it.
async fn chained(name: &str, more: &[String]) {
    let bench = Bench::strict().await;
    let leaf = Authority::new().leaf(CLIENT);
    let first = leaf.chain_pem();
    let key = mutua_identity::PrivateKey::from_pem(leaf.key_pem()).unwrap();
    let leaf_only = first.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap().to_owned();
    let chain: Vec<String> = std::iter::once(leaf_only).chain(more.iter().cloned()).collect();
    let leaf = Credentials::new(&key, &chain).unwrap();
    bench.survives(name, async |bench| shown(bench, &leaf).await).await;
}

#[tokio::test]
async fn path_bomb() {
    chained("path_bomb", &impostors(9)).await;
}

#[tokio::test]
async fn chain_of_100() {
    chained("chain_of_100", &vec![impostors(1).remove(0); 99]).await;
}
