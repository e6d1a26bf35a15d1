//! TLS to servers outside the mesh as a DestinationRule says it, against `openssl s_server`: each setting with what is right
//! and what is wrong, and the reason that is given.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use mutua_proxy::connections::{Direction, Outcome};
use mutua_proxy::reasons::Reason;
use mutua_testbed::{Authority, CLIENT, Running, read_exactly, read_to_end, wire};
use mutua_wire::mesh::{self, ClientTlsMode, Mode, Protocol};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Authorities and certificates, made by openssl.
struct Pki(tempfile::TempDir);

impl Pki {
    /// Two authorities, `good` and `bad`; a server and a client certificate of each; one that has ended, one for another name,
    /// and lists of what `good` revoked: nothing, and its server.
    fn new() -> Self {
        let pki = Self(tempfile::tempdir().unwrap());
        let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=30\ncertificate=good.pem\n\
                      private_key=good.key\ncrlnumber=number\n";
        for (name, text) in [("ca.cnf", config), ("index", ""), ("number", "01"), ("junk.pem", "nothing")] {
            std::fs::write(pki.file(name), text).unwrap();
        }
        for ca in ["good", "bad"] {
            let constraints =
                ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"];
            pki.request(ca, &[&["-x509", "-days", "30", "-out", &format!("{ca}.pem")][..], &constraints].concat());
            pki.leaf(&format!("{ca}-server"), ca, "server.example", "30");
            pki.leaf(&format!("{ca}-client"), ca, "client.example", "30");
        }
        pki.leaf("ended", "good", "server.example", "-1");
        pki.leaf("other", "good", "other.example", "30");
        let ca = |arguments: &[&str]| pki.openssl(&[&["ca", "-config", "ca.cnf"][..], arguments].concat());
        ca(&["-gencrl", "-out", "nothing.crl"]);
        ca(&["-revoke", "good-server.pem"]);
        ca(&["-gencrl", "-out", "server.crl"]);
        pki
    }

    fn request(&self, name: &str, more: &[&str]) {
        let (key, subject) = (format!("{name}.key"), format!("/CN={name}"));
        let mut arguments = vec!["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        arguments.extend(["-keyout", &key, "-subj", &subject]);
        arguments.extend(more);
        self.openssl(&arguments);
    }

    fn leaf(&self, name: &str, ca: &str, host: &str, days: &str) {
        let extensions = format!("subjectAltName=DNS:{host}\nextendedKeyUsage=serverAuth,clientAuth\n");
        std::fs::write(self.file("extensions"), extensions).unwrap();
        self.request(name, &["-new", "-out", "request"]);
        let (root, key, out) = (format!("{ca}.pem"), format!("{ca}.key"), format!("{name}.pem"));
        let mut arguments = vec!["x509", "-req", "-in", "request", "-CA", &root, "-CAkey", &key, "-CAcreateserial"];
        arguments.extend(["-days", days, "-extfile", "extensions", "-out", &out]);
        self.openssl(&arguments);
    }

    fn openssl(&self, arguments: &[&str]) {
        let done = Command::new("openssl").args(arguments).current_dir(self.0.path()).output();
        let done = done.expect("openssl is needed: apt-get install openssl");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }

    /// `openssl s_server` that sends every line back reversed, with this certificate and these options.
    fn serve(&self, certificate: &str, more: &[&str]) -> Server {
        let (chain, key) = (format!("{certificate}.pem"), format!("{certificate}.key"));
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-rev", "-cert", &chain, "-key", &key]).args(more);
        command.current_dir(self.0.path()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("openssl is needed: apt-get install openssl");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address =
            lines.by_ref().find_map(|line| line.unwrap().strip_prefix("ACCEPT ").map(|address| address.parse().unwrap()));
        // What it says further is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Server { process, address: address.expect("it says where it listens") }
    }

    /// A rule with roots of `ca`.
    fn simple(&self, ca: &str) -> mesh::ClientTls {
        mesh::ClientTls { ca_certificates: self.path(ca), ..wire::tls(ClientTlsMode::TlsSimple, &[]) }
    }

    fn mutual(&self, client: &str) -> mesh::ClientTls {
        mesh::ClientTls {
            mode: ClientTlsMode::TlsMutual as i32,
            client_certificate: self.path(&format!("{client}.pem")),
            private_key: self.path(&format!("{client}.key")),
            ..self.simple("good.pem")
        }
    }

    /// A sidecar whose service stands on `server`, reached by the rule `tls`.
    async fn sidecar(&self, server: SocketAddr, tls: mesh::ClientTls) -> Running {
        let (authority, folder) = (Authority::new(), self.0.path().to_owned());
        let client =
            Running::with(Direction::Outbound, Some(authority.leaf(CLIENT)), |sidecar| sidecar.tls_folders.push(folder)).await;
        client.wanted.set("192.0.2.1:80".parse().unwrap());
        client.configure(&authority, &wire::inbound(Mode::Permissive, &[]));
        client.put("shop/partner", &wire::destination(Protocol::Tcp, tls, &[server]));
        client
    }

    /// What becomes of a connection.
    async fn call(&self, server: &Server, tls: mesh::ClientTls) -> Result<(), Reason> {
        let client = self.sidecar(server.address, tls).await;
        let mut stream = TcpStream::connect(client.address).await.unwrap();
        let _ = stream.write_all(b"hello\n").await;
        let answered = tokio::time::timeout(mutua_testbed::PATIENCE, stream.readable()).await;
        answered.expect("in time").unwrap();
        let record = client.record(|record| record.reason.is_some() || record.outcome == Some(Outcome::Tls)).await;
        if record.reason.is_none() && stream.peek(&mut [0]).await.is_ok_and(|count| count > 0) {
            assert_eq!(read_exactly(&mut stream, 6).await, b"olleh\n");
            return Ok(());
        }
        assert!(read_to_end(&mut stream).await.is_err(), "the application sees a reset");
        let record = client.record(|record| record.reason.is_some()).await;
        assert_eq!(record.outcome, Some(Outcome::Refused), "{record:#?}");
        Err(record.reason.unwrap())
    }
}

struct Server {
    process: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn names(rule: mesh::ClientTls, names: &[&str]) -> mesh::ClientTls {
    mesh::ClientTls { subject_alt_names: names.iter().map(|name| (*name).to_owned()).collect(), ..rule }
}

#[tokio::test]
async fn roots_names_lists_and_skipping_are_each_right_or_refused() {
    let pki = Pki::new();
    let (server, ended) = (pki.serve("good-server", &[]), pki.serve("ended", &[]));
    let (other, old) = (pki.serve("other", &[]), pki.serve("good-server", &["-tls1_2"]));
    let good = || pki.simple("good.pem");
    let list = |rule: mesh::ClientTls, crl: &str| mesh::ClientTls { ca_crl: pki.path(crl), ..rule };
    let skip = |rule: mesh::ClientTls| mesh::ClientTls { insecure_skip_verify: true, ..rule };
    let secret = |rule: mesh::ClientTls| mesh::ClientTls { credential_name: "partner".to_owned(), ..rule };
    let none = || wire::tls(ClientTlsMode::TlsSimple, &[]);
    let untrusted = Err(Reason::UntrustedCertificate);
    for (what, server, rule, wanted) in [
        ("the right root", &server, good(), Ok(())),
        ("TLS 1.2", &old, good(), Ok(())),
        ("another root", &server, pki.simple("bad.pem"), untrusted),
        ("the machine's roots", &server, none(), untrusted),
        ("no root in the file", &server, pki.simple("junk.pem"), Err(Reason::TlsSettings)),
        ("no such file", &server, pki.simple("absent.pem"), Err(Reason::TlsSettings)),
        ("a certificate that has ended", &ended, good(), Err(Reason::CertificateExpired)),
        ("one of its names", &server, names(good(), &["x.example", "server.example"]), Ok(())),
        ("none of its names", &server, names(good(), &["x.example"]), Err(Reason::PeerIdentityMismatch)),
        ("another server under the right root", &other, names(good(), &["server.example"]), Err(Reason::PeerIdentityMismatch)),
        ("a list without it", &server, list(good(), "nothing.crl"), Ok(())),
        ("a list with it", &server, list(good(), "server.crl"), Err(Reason::CertificateRevoked)),
        ("a list with another", &other, list(good(), "server.crl"), Ok(())),
        ("no list in the file", &server, list(good(), "junk.pem"), Err(Reason::TlsSettings)),
        ("a secret, which is not given", &server, secret(none()), Err(Reason::TlsSettings)),
        ("a secret and nothing verified", &server, secret(skip(none())), Err(Reason::TlsSettings)),
        ("nothing verified", &server, skip(none()), Ok(())),
        ("nothing verified, though it has ended", &ended, skip(none()), Ok(())),
    ] {
        assert_eq!(pki.call(server, rule).await, wanted, "{what}");
    }
}

#[tokio::test]
async fn the_client_shows_what_the_rule_names_and_the_server_decides() {
    let pki = Pki::new();
    let asking = pki.serve("good-server", &["-Verify", "1", "-verify_return_error", "-CAfile", "good.pem"]);
    let mixed = mesh::ClientTls { private_key: pki.path("bad-client.key"), ..pki.mutual("good-client") };
    let skipping = mesh::ClientTls { insecure_skip_verify: true, ca_certificates: String::new(), ..pki.mutual("good-client") };
    for (what, rule, wanted) in [
        ("a certificate of the right authority", pki.mutual("good-client"), Ok(())),
        ("the same without looking at the server", skipping, Ok(())),
        ("of another authority", pki.mutual("bad-client"), Err(Reason::PeerRefusedTls)),
        ("none", pki.simple("good.pem"), Err(Reason::PeerRefusedTls)),
        ("with another's key", mixed, Err(Reason::TlsSettings)),
    ] {
        assert_eq!(pki.call(&asking, rule).await, wanted, "{what}");
    }
}

#[tokio::test]
async fn the_server_name_is_the_rules() {
    let pki = Pki::new();
    let options = ["-servername", "other.example", "-cert2", "other.pem", "-key2", "other.key", "-servername_fatal"];
    let server = pki.serve("good-server", &options);
    let sni = |name: &str, san: &str| mesh::ClientTls { sni: name.to_owned(), ..names(pki.simple("good.pem"), &[san]) };
    assert_eq!(pki.call(&server, sni("other.example", "other.example")).await, Ok(()), "the certificate of that name");
    assert_eq!(pki.call(&server, sni("", "server.example")).await, Ok(()), "none is sent");
    assert_eq!(pki.call(&server, sni("x.example", "server.example")).await, Err(Reason::PeerRefusedTls), "not known there");
}

#[tokio::test]
async fn nobody_is_dialled_for_what_cannot_be_done_and_old_files_are_forgotten() {
    let pki = Pki::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let client = pki.sidecar(listener.local_addr().unwrap(), pki.simple("absent.pem")).await;
    read_to_end(&mut TcpStream::connect(client.address).await.unwrap()).await.unwrap_err();
    let record = client.refused(Reason::TlsSettings).await;
    assert_eq!(record.endpoint, None);
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody came");

    let server = pki.serve("good-server", &[]);
    let client = pki.sidecar(server.address, pki.simple("rotated.pem")).await;
    for round in 0..4 {
        let text = std::fs::read_to_string(pki.file("good.pem")).unwrap();
        std::fs::write(pki.file("rotated.pem"), text + &"\n".repeat(round)).unwrap();
        let mut stream = TcpStream::connect(client.address).await.unwrap();
        stream.write_all(b"hello\n").await.unwrap();
        assert_eq!(read_exactly(&mut stream, 6).await, b"olleh\n");
        assert_eq!(client.sidecar.originations.count(), 1, "of the contents in use");
    }
}

/// The roots of the machine are those of a file that is not ours to change: the test runs itself again where another stands
/// in its place.
#[test]
fn a_rule_without_roots_takes_the_machines() {
    let pki = Pki::new();
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let script = "mount --bind \"$1\" /etc/ssl/certs/ca-certificates.crt && exec \"$2\" --exact inside --ignored";
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(pki.file("good.pem")).arg(std::env::current_exe().unwrap());
    let status = command.env("PKI", pki.0.path()).status().expect("unshare runs");
    assert!(status.success(), "ca-certificates has to be installed, and mount namespaces have to be allowed");
}

#[tokio::test]
#[ignore = "run by a_rule_without_roots_takes_the_machines, where the machine's roots are others"]
async fn inside() {
    // `make soak` runs it by itself too, where there is nothing to see.
    let Some(folder) = std::env::var_os("PKI") else { return };
    let pki = Pki::new();
    for name in ["good-server", "bad-server"] {
        for kind in ["pem", "key"] {
            let file = format!("{name}.{kind}");
            std::fs::copy(std::path::Path::new(&folder).join(&file), pki.file(&file)).unwrap();
        }
    }
    let rule = || names(wire::tls(ClientTlsMode::TlsSimple, &[]), &["server.example"]);
    assert_eq!(pki.call(&pki.serve("good-server", &[]), rule()).await, Ok(()));
    assert_eq!(pki.call(&pki.serve("bad-server", &[]), rule()).await, Err(Reason::UntrustedCertificate));
}
