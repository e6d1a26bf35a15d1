//! The direction rules of the workspace, its licences and its duplicates, read from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// (crate, what it must never depend on directly).
const NEVER: &[(&str, &[&str])] = &[
    ("mutua-model", &["tokio", "mutua-policy", "mutua-identity", "mutua-wire", "mutua-control", "mutua-proxy"]),
    ("mutua-policy", &["tokio", "mutua-identity", "mutua-wire", "mutua-control", "mutua-proxy"]),
    ("mutua-identity", &["mutua-model", "mutua-policy", "mutua-wire", "mutua-control", "mutua-proxy"]),
    ("mutua-wire", &["mutua-model", "mutua-policy", "mutua-identity", "mutua-control", "mutua-proxy"]),
    ("mutua-control", &["kube", "k8s-openapi", "mutua-proxy", "mutua-lab"]),
    ("mutua-kubernetes", &["mutua-proxy", "mutua-lab"]),
    ("mutua-proxy", &["kube", "mutua-kubernetes", "mutua-model", "mutua-policy", "mutua-control", "mutua-lab"]),
    ("mutua-lab", &["mutua-model", "mutua-policy", "mutua-control", "mutua-proxy"]),
];

/// Only `mutua-identity` knows the TLS library and the cryptography; `mutua-fuzz`, which no program contains, compares with it.
const TLS_ONLY_IN_IDENTITY: &[&str] = &["rustls", "tokio-rustls", "rcgen", "aws-lc-rs", "x509-parser", "ring", "openssl"];

/// Crates that may be in the lock file twice, because two well-kept libraries ask for different versions.
const MAY_BE_TWICE: &[&str] = &[
    "base64",    // tonic and kube 0.22; pem and serde-saphyr 0.23
    "getrandom", // kube-runtime (by ahash) 0.3; tempfile 0.4
    "hashbrown", // kube-runtime 0.16; indexmap 0.17
    "syn",       // build time only
    "untrusted", // aws-lc-rs 0.7; rustls-webpki 0.9
];

const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "ISC",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "Zlib",
    "Unicode-3.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "Unlicense",
    "0BSD",
    "OpenSSL",
    "MIT-0",
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key].as_array().expect("a list")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Direct dependencies of our crates, development ones left out.
fn direct(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let ours = list(metadata, "packages").iter().filter(|package| package["source"].is_null());
    ours.map(|package| {
        let dependencies = list(package, "dependencies").iter().filter(|dependency| dependency["kind"].as_str() != Some("dev"));
        (text(package, "name").to_owned(), dependencies.map(|dependency| text(dependency, "name").to_owned()).collect())
    })
    .collect()
}

#[test]
fn crates_depend_only_downwards() {
    let direct = direct(&metadata());
    for (name, never) in NEVER {
        let dependencies = &direct[*name];
        for forbidden in *never {
            assert!(!dependencies.contains(*forbidden), "{name} must not depend on {forbidden}");
        }
    }
    for (name, dependencies) in &direct {
        assert!(!dependencies.contains("mutua-cli"), "{name} must not depend on mutua-cli");
        assert!(!dependencies.contains("mutua-fuzz"), "{name} must not depend on mutua-fuzz");
    }
}

#[test]
fn only_identity_knows_the_tls_library() {
    for (name, dependencies) in direct(&metadata()) {
        for library in TLS_ONLY_IN_IDENTITY {
            let may = ["mutua-identity", "mutua-fuzz"].contains(&name.as_str());
            assert!(may || !dependencies.contains(*library), "{name} must not depend on {library}");
        }
    }
}

/// The packages that are really built on Linux (a lock file also names optional and foreign ones).
fn built(metadata: &Value) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--workspace", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let known: BTreeSet<&str> = list(metadata, "packages").iter().map(|package| text(package, "name")).collect();
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, version) = (words.next()?, words.next()?);
            known.contains(name).then(|| format!("{name} {version}"))
        })
        .collect()
}

#[test]
fn no_library_is_built_twice() {
    let mut seen = BTreeMap::<String, BTreeSet<String>>::new();
    for package in built(&metadata()) {
        let (name, version) = package.split_once(' ').expect("name and version");
        seen.entry(name.to_owned()).or_default().insert(version.to_owned());
    }
    let twice: Vec<_> =
        seen.iter().filter(|(name, versions)| versions.len() > 1 && !MAY_BE_TWICE.contains(&name.as_str())).collect();
    assert!(twice.is_empty(), "built in several versions: {twice:?}");
    assert!(!seen.contains_key("ring") && !seen.contains_key("openssl"), "a second cryptography library is built");
}

#[test]
fn every_licence_is_permissive() {
    let metadata = metadata();
    for package in list(&metadata, "packages").iter().filter(|package| !package["source"].is_null()) {
        let licence = text(package, "license");
        let expression = licence.replace('/', " OR ").replace(['(', ')'], "");
        let fine = expression.split(" AND ").all(|part| part.split(" OR ").any(|choice| LICENCES.contains(&choice.trim())));
        assert!(fine, "{} {} is under {licence:?}", text(package, "name"), text(package, "version"));
    }
}
