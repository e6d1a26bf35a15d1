//! A client that shares no code with ours: curl speaks HTTP/2, openssl makes the key and the request, and the message of
//! Istio's certificate service is written byte by byte as its published field numbers say.

mod common;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::Mesh;

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
