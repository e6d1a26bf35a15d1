//! A `credentialName` over the whole way: a Secret in the folder, the sidecar that the rule selects, and openssl as the
//! server outside the mesh that asks for a client certificate.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/mesh.rs"]
mod mesh;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::MUTUA;
use mesh::{EVIL, Mesh, in_lab, until};
use mutua_lab::Process;

const PARTNER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 30), 8443);
const RULES: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partner, namespace: shop}
spec:
  hosts: [partner.example]
  addresses: [10.96.0.30]
  ports: [{number: 8443, name: tls, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 10.91.0.13}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: partner, namespace: shop}
spec:
  host: partner.example
  workloadSelector: {matchLabels: {app: front}}
  trafficPolicy:
    tls: {mode: MUTUAL, credentialName: partner, sni: partner.example, subjectAltNames: [partner.example]}
";

/// The partner's authority, server and customers, made by openssl.
struct Pki(PathBuf);

impl Pki {
    fn new(folder: &Path) -> Self {
        let pki = Self(folder.join("pki"));
        std::fs::create_dir(&pki.0).unwrap();
        pki.openssl(&["req", "-x509", "-subj", "/CN=partner root", "-keyout", "ca.key", "-out", "ca.pem", "-addext", CA]);
        for (name, extensions) in [("server", "subjectAltName=DNS:partner.example"), ("one", CLIENT), ("two", CLIENT)] {
            let (key, request) = (format!("{name}.key"), format!("{name}.csr"));
            pki.openssl(&["req", "-subj", &format!("/CN=customer {name}"), "-keyout", &key, "-out", &request]);
            std::fs::write(pki.0.join("ext"), extensions).unwrap();
            let out = format!("{name}.pem");
            pki.openssl(&["x509", "-req", "-in", &request, "-CA", "ca.pem", "-CAkey", "ca.key", "-extfile", "ext", "-out", &out]);
        }
        pki
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(&self.0);
        if arguments[0] == "req" {
            command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        }
        let output = command.output().expect("openssl is installed");
        assert!(output.status.success(), "{}", common::said(&output));
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }

    /// The Secret of a customer.
    fn secret(&self, customer: &str) -> String {
        secret(&self.read(&format!("{customer}.pem")), &self.read(&format!("{customer}.key")), &self.read("ca.pem"))
    }

    /// `openssl s_server` on the host of somebody outside, that sends each line back the wrong way round.
    fn serve(&self, mesh: &Mesh) -> Process {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "8443", "-rev", "-Verify", "1", "-verify_return_error"]);
        for (option, name) in [("-cert", "server.pem"), ("-key", "server.key"), ("-CAfile", "ca.pem")] {
            command.arg(option).arg(self.0.join(name));
        }
        let log = std::fs::File::create(mesh.folder.join("partner.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let host = &mesh.network.host("shop/evil").unwrap().namespace;
        let process = host.spawn("partner", &mut command).expect("openssl is installed");
        until("the partner", || host.enter(|| TcpStream::connect((EVIL, 8443))).unwrap().is_ok());
        process
    }
}

fn secret(certificate: &str, key: &str, roots: &str) -> String {
    let block = |text: &str| text.lines().map(|line| format!("\n    {line}")).collect::<String>();
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: partner, namespace: shop}}\ntype: kubernetes.io/tls\n\
         stringData:\n  tls.crt: |{}\n  tls.key: |{}\n  ca.crt: |{}\n",
        block(certificate),
        block(key),
        block(roots)
    )
}

/// A call through the sidecar; what the partner says of a line.
fn call(mesh: &Mesh, host: &str) -> Option<String> {
    let mut stream = mesh.from(host, PARTNER).ok()?;
    stream.write_all(b"hello\n").ok()?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).ok()?;
    (!answer.is_empty()).then(|| answer.trim_end().to_owned())
}

/// The customers that the partner has seen, one a call.
fn customers(mesh: &Mesh) -> Vec<String> {
    let said = mesh.said("partner");
    said.lines()
        .filter_map(|line| line.strip_prefix("depth=0 CN = customer ").or(line.strip_prefix("depth=0 CN=customer ")))
        .map(str::to_owned)
        .collect()
}

fn write(mesh: &Mesh, secret: &str) {
    mesh.rules(&format!("{RULES}{secret}"));
}

/// Waits for a refusal whose message begins so.
fn refused(mesh: &Mesh, message: &str) {
    until(message, || {
        // Until the change has come, what was there before counts.
        let _ = call(mesh, "shop/front");
        let records = mesh.admin("front", "/connections").expect("the admin socket answers");
        let last = records.as_array().unwrap().iter().rev().find(|record| record["reason"] == "TLS_SETTINGS_UNUSABLE");
        last.is_some_and(|record| record["message"].as_str().unwrap().starts_with(message))
    });
}

/// Whether a text stands in some file of a folder.
fn holds(folder: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files.into_iter().any(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains(text))
}

#[test]
fn a_secret_reaches_the_sidecar_that_its_rule_selects() {
    in_lab("a_secret_reaches_the_sidecar_that_its_rule_selects", |folder| {
        let mesh = Mesh::start(folder, &[]);
        let pki = Pki::new(folder);
        write(&mesh, "");
        let (_front, _side) = (mesh.sidecar("front", &[], &[]), mesh.sidecar("side", &[], &[]));
        mesh.until_ready("front");
        mesh.until_ready("side");
        let _partner = pki.serve(&mesh);
        refused(&mesh, "credentialName partner: Secret shop/partner does not exist");

        write(&mesh, &pki.secret("one"));
        until("a call with the secret", || call(&mesh, "shop/front").as_deref() == Some("olleh"));
        assert_eq!(customers(&mesh).last().map(String::as_str), Some("one"), "{}", mesh.said("partner"));

        write(&mesh, &pki.secret("two"));
        until("the renewed secret", || {
            assert_eq!(call(&mesh, "shop/front").as_deref(), Some("olleh"), "no call is lost to the change");
            customers(&mesh).last().is_some_and(|last| last == "two")
        });

        // Another host's sidecar is given nothing of it, and gets nothing from the partner.
        let key = pki.read("two.key").lines().nth(1).unwrap().to_owned();
        assert!(holds(&mesh.state("front"), &key), "kept for a restart, beside its own key");
        assert!(!holds(&mesh.state("side"), &key), "nobody else has it");
        assert_eq!(call(&mesh, "shop/side"), None);
        assert!(mesh.admin("side", "/config").unwrap().to_string().contains("partner.example"), "it knows the host");

        write(&mesh, &secret(&pki.read("two.pem"), "no key at all", &pki.read("ca.pem")));
        refused(&mesh, "credentialName partner: private key: ");
        write(&mesh, &pki.secret("one"));
        until("the secret mended", || call(&mesh, "shop/front").as_deref() == Some("olleh"));
        explained(&mesh);
    });
}

/// `explain` says that it is given, and when it is not there.
fn explained(mesh: &Mesh) {
    let explain = |host: &str| {
        let mut command = Command::new(MUTUA);
        command.args(["explain", "--from", host, "--to", "partner.example:8443", "--output", "json", "--state"]);
        let output = command.arg(mesh.folder.join("control")).env_remove("MUTUA_API").output().unwrap();
        common::said(&output)
    };
    assert!(explain("shop/front").contains("destination-rule.credential\""), "{}", explain("shop/front"));
    write(mesh, "");
    until("its end", || explain("shop/front").contains("Secret shop/partner does not exist: the sidecar refuses"));
}

const CA: &str = "basicConstraints=critical,CA:TRUE";
const CLIENT: &str = "extendedKeyUsage=clientAuth";
