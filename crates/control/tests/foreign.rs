//! Clients that share no code with ours. One is curl, which speaks HTTP/2, with openssl, which makes the key and the request, and a
//! message written byte by byte as the published field numbers say. The other is a gRPC client generated from the contract.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::Mesh;
use mutua_testbed::jwt::{ISSUER, TokenKey, claims, key_set};
use serde_json::{Value, json};

const METHOD: &str = "istio.v1.auth.IstioCertificateService/CreateCertificate";

fn run(program: &str, arguments: &[&str], folder: &Path) -> Output {
    let output = Command::new(program).args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{program} is needed: apt-get install {program} ({error})"))
}

fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// `csr` is field 1, `validity_duration` field 3; gRPC puts a flag and the length before the message.
fn frame(csr: &str, seconds: u64) -> Vec<u8> {
    let mut message = vec![1 << 3 | 2];
    varint(csr.len() as u64, &mut message);
    message.extend_from_slice(csr.as_bytes());
    message.push(3 << 3);
    varint(seconds, &mut message);
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).expect("small").to_be_bytes());
    frame.extend(message);
    frame
}

/// `cert_chain`, field 1, repeated.
fn chain(mut answer: &[u8]) -> Vec<String> {
    answer = answer.get(5..).unwrap_or_default();
    let mut all = Vec::new();
    while let [tag, rest @ ..] = answer {
        assert_eq!(*tag, 1 << 3 | 2, "only field 1 is expected");
        let (mut length, mut shift, mut at) = (0_usize, 0, 0);
        loop {
            length |= usize::from(rest[at] & 0x7f) << shift;
            shift += 7;
            at += 1;
            if rest[at - 1] < 0x80 {
                break;
            }
        }
        all.push(String::from_utf8(rest[at..at + length].to_vec()).expect("text"));
        answer = &rest[at + length..];
    }
    all
}

fn call(mesh: &Mesh, folder: &Path, credentials: &[&str]) -> (Vec<String>, String) {
    let csr = std::fs::read_to_string(folder.join("csr.pem")).expect("written");
    std::fs::write(folder.join("request"), frame(&csr, 600)).expect("written");
    let root = mesh.folder.path().join("state/root-cert.pem");
    let url = format!("https://localhost:{}/{METHOD}", mesh.listen.port());
    let mut arguments =
        vec!["--silent", "--show-error", "--http2", "--cacert", root.to_str().expect("UTF-8"), "--max-time", "30"];
    arguments.extend(["-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", "@request"]);
    arguments.extend(["-o", "answer", "-D", "headers"]);
    arguments.extend(credentials);
    arguments.push(&url);
    let output = run("curl", &arguments, folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer = std::fs::read(folder.join("answer")).unwrap_or_default();
    (chain(&answer), std::fs::read_to_string(folder.join("headers")).expect("written"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_client_gets_and_renews_a_certificate() {
    let mesh = Mesh::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let key = ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=admin/O=evil"];
    assert!(run("openssl", &key, folder).status.success());
    let bearer = format!("authorization: Bearer {}", mesh.token("shop/front").await);
    let (first, headers) = tokio::task::block_in_place(|| call(&mesh, folder, &["-H", &bearer]));
    assert_eq!(first.len(), 2, "leaf and roots: {headers}");
    std::fs::write(folder.join("leaf.pem"), &first[0]).expect("written");
    std::fs::write(folder.join("root.pem"), &first[1]).expect("written");
    let verified = run("openssl", &["verify", "-CAfile", "root.pem", "leaf.pem"], folder);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let shown = run("openssl", &["x509", "-in", "leaf.pem", "-noout", "-text"], folder);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("URI:spiffe://cluster.local/ns/shop/sa/front") && !shown.contains("evil"), "{shown}");
    assert!(shown.contains("X509v3 Subject Alternative Name: critical"), "{shown}");

    let (again, _) = tokio::task::block_in_place(|| call(&mesh, folder, &["--cert", "leaf.pem", "--key", "key.pem"]));
    assert_eq!(again.len(), 2, "renewed with the certificate alone");
    assert_ne!(again[0], first[0]);
    let (none, headers) = tokio::task::block_in_place(|| call(&mesh, folder, &[]));
    assert!(none.is_empty() && headers.contains("grpc-status: 16"), "{headers}");
    assert!(headers.contains("request%20authenticate%20failure"), "{headers}");
}

/// The whole client is foreign: grpcio of PyPI, with stubs that it generates from the published contract.
fn python(mesh: &Mesh, folder: &Path, questions: &Value) -> Vec<Value> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign");
    let needs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/needs/python");
    let roots = std::fs::read_to_string(mesh.folder.path().join("state/root-cert.pem")).expect("written");
    let job = json!({ "address": format!("localhost:{}", mesh.listen.port()), "roots": roots, "questions": questions });
    let mut command = Command::new("python3");
    command.arg(sources.join("client.py")).current_dir(folder).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("PYTHONPATH", std::env::var_os("PYTHON_NEEDS").unwrap_or_else(|| needs.into()));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("python3 is needed");
    child.stdin.take().expect("piped").write_all(job.to_string().as_bytes()).expect("read");
    let output = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`make test-needs` installs grpcio, grpcio-tools and cryptography: {said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let output = run("openssl", arguments, folder);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Only the key of the request is in the certificate, and the name of who asked.
fn is_frontends(folder: &Path, name: &str) {
    let [leaf, chain, roots, key] = ["leaf", "chain", "roots", "key"].map(|part| format!("{name}.{part}.pem"));
    openssl(folder, &["verify", "-purpose", "sslclient", "-CAfile", &roots, "-untrusted", &chain, &leaf]);
    let certified = openssl(folder, &["x509", "-in", &leaf, "-noout", "-pubkey"]);
    assert_eq!(certified, openssl(folder, &["pkey", "-in", &key, "-pubout"]), "{name}");
    let shown = openssl(folder, &["x509", "-in", &leaf, "-noout", "-text"]);
    let names = shown.split("X509v3 Subject Alternative Name: critical\n").nth(1).and_then(|rest| rest.lines().next());
    assert_eq!(names.map(str::trim), Some("URI:spiffe://cluster.local/ns/shop/sa/front"), "{name}: {shown}");
    for lie in ["evil", "admin", "CA:TRUE"] {
        assert!(!shown.contains(lie), "{name}: {shown}");
    }
    assert!(shown.contains("CA:FALSE") && shown.contains("Digital Signature, Key Encipherment"), "{name}: {shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_generated_from_the_published_contract_is_served_as_by_istio() {
    let key = TokenKey::new("a");
    let folder = tempfile::tempdir().expect("a folder");
    let jwks = folder.path().join("jwks.json");
    std::fs::write(&jwks, key_set(&[&key])).expect("written");
    let mesh = Mesh::with(|settings| {
        settings.jwt.jwks = Some(jwks.display().to_string());
        settings.jwt.jwt_issuer = Some(ISSUER.to_owned());
        settings.jwt.jwt_audience = vec!["istio-ca".to_owned()];
    })
    .await;
    let jwt = key.token(&claims("shop", "front"));
    let mut old = claims("shop", "front");
    old["exp"] = json!(1);
    let (join, old) = (mesh.token("shop/front").await, key.token(&old));
    let lies = json!({ "cn": "admin", "sans": ["evil.example", "spiffe://cluster.local/ns/shop/sa/evil"], "ca": true });
    let unauthenticated = |reason: &str| ("UNAUTHENTICATED", format!("request authenticate failure: {reason}"));
    let invalid = |reason: &str| ("INVALID_ARGUMENT", format!("CSR signing error (certificate request: {reason}"));
    let kinds = || invalid("key is none of RSA, ECDSA P-256, ECDSA P-384)");
    let long = "CSR signing error (requested TTL 7776001s is greater than the max allowed TTL 7776000s)".to_owned();
    let cases = [
        (json!({ "name": "join", "token": join, "key": "p256" }), ("OK", String::new())),
        (json!({ "name": "renewal", "as": "join", "key": "p384" }), ("OK", String::new())),
        (json!({ "name": "again", "as": "renewal", "key": "rsa2048", "lies": lies }), ("OK", String::new())),
        (json!({ "name": "jwt", "token": jwt, "key": "p256", "lies": lies }), ("OK", String::new())),
        (json!({ "name": "jwt-rsa", "token": jwt, "key": "rsa2048", "seconds": 60 }), ("OK", String::new())),
        (
            json!({ "name": "rsa1024", "token": jwt, "key": "rsa1024" }),
            invalid("RSA key of 1024 bits, at least 2048 are required)"),
        ),
        (json!({ "name": "p521", "token": jwt, "key": "p521" }), kinds()),
        (json!({ "name": "ed25519", "token": jwt, "key": "ed25519" }), kinds()),
        (json!({ "name": "garbage", "token": jwt, "csr": "no request" }), invalid("")),
        (
            json!({ "name": "huge", "token": jwt, "csr": "x".repeat(20_000) }),
            ("INVALID_ARGUMENT", "CSR signing error (".to_owned()),
        ),
        (json!({ "name": "long", "token": jwt, "seconds": 7_776_001 }), ("INVALID_ARGUMENT", long)),
        (json!({ "name": "nobody" }), unauthenticated("neither a client certificate nor a token was shown")),
        (json!({ "name": "used", "token": join }), unauthenticated("the join token for shop/front was used already")),
        (json!({ "name": "expired", "token": old }), unauthenticated("the token expired")),
        (json!({ "name": "cut", "token": jwt[..jwt.len() - 9] }), unauthenticated("the token is no signed JWT")),
        (
            json!({ "name": "reserved", "token": key.token(&claims("istio-system", "istiod")) }),
            unauthenticated("istio-system/istiod is"),
        ),
    ];
    let questions = json!(cases.iter().map(|(question, _)| question).collect::<Vec<_>>());
    let answers = tokio::task::block_in_place(|| python(&mesh, folder.path(), &questions));
    assert_eq!(answers.len(), cases.len());
    for (answer, (question, (code, message))) in answers.iter().zip(&cases) {
        let (name, said) = (question["name"].as_str().expect("a name"), answer["message"].as_str().unwrap_or_default());
        assert_eq!((&answer["name"], &answer["code"]), (&json!(name), &json!(code)), "{answer}");
        assert!(said.starts_with(message), "{answer}, not {message}");
        if *code == "OK" {
            assert_eq!(answer["elements"], 2, "{name}: leaf and roots");
            is_frontends(folder.path(), name);
        }
    }
}
