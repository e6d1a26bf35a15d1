//! `mutua analyze` as a user or a pipeline starts it.

mod common;

use common::{MUTUA, said};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Output, Stdio};

const CLASH: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: bar}
spec:
  mtls:
    mode: STRICT
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: x, namespace: bar}
spec:
  host: '*.bar.svc.cluster.local'
  trafficPolicy:
    tls:
      mode: DISABLE
";

fn analyze(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(MUTUA)
        .arg("analyze")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A command that does not read its input may have ended already.
    let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
    child.wait_with_output().expect("the binary ends")
}

fn answer(arguments: &[&str], stdin: &str) -> (Option<i32>, Value) {
    let output = analyze(&[&["-f", "-", "-o", "json"], arguments].concat(), stdin);
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {}", said(&output)));
    (output.status.code(), value)
}

fn codes(answer: &Value) -> Vec<&str> {
    answer["findings"].as_array().expect("a list").iter().filter_map(|finding| finding["code"].as_str()).collect()
}

#[test]
fn a_finding_has_code_severity_object_path_place_message_and_fix() {
    let (code, value) = answer(&[], CLASH);
    assert_eq!(code, Some(1));
    let finding = value["findings"].as_array().expect("a list").iter().find(|one| one["code"] == "KIA0207").expect("there");
    for (field, expected) in [
        ("severity", json!("error")),
        ("object", json!("DestinationRule bar/x")),
        ("path", json!("spec/trafficPolicy/tls/mode")),
        ("file", json!("-")),
        ("line", json!(15)),
    ] {
        assert_eq!(finding[field], expected, "{field}");
    }
    assert!(finding["message"].as_str().is_some_and(|text| !text.is_empty()));
    assert!(finding["fix"].as_str().is_some_and(|text| !text.is_empty()));
}

#[test]
fn nothing_found_is_an_empty_list_and_0() {
    let (code, value) = answer(&[], CLASH.split("---").next().expect("a document"));
    assert_eq!((code, value), (Some(0), json!({"findings": []})));
}

#[test]
fn the_severity_that_fails_is_the_users() {
    let warned = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: bar}\nspec: {selector: {matchLabels: {app: none}}, mtls: {mode: STRICT}}\n";
    assert_eq!(answer(&[], warned).0, Some(0));
    assert_eq!(codes(&answer(&[], warned).1), ["KIA0004"]);
    assert_eq!(answer(&["--fail-on", "warning"], warned).0, Some(1));
    assert_eq!(answer(&["--fail-on", "error"], warned).0, Some(0));
    assert_eq!(answer(&["--fail-on", "info"], warned).0, Some(1));
    assert_eq!(answer(&["--fail-on", "warning", "--ignore", "KIA0004"], warned), (Some(0), json!({"findings": []})));
}

#[test]
fn ignored_codes_are_left_out_and_unknown_ones_are_refused() {
    let (_, value) = answer(&["--ignore", "kia0207"], CLASH);
    assert!(!codes(&value).contains(&"KIA0207"));
    let output = analyze(&["-f", "-", "--ignore", "KIA9999"], CLASH);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

#[test]
fn a_wrong_enum_is_ist0106_and_unreadable_yaml_is_2() {
    let (code, value) = answer(&[], &CLASH.replace("STRICT", "STRCT"));
    assert_eq!(code, Some(1));
    assert!(codes(&value).contains(&"IST0106"), "{value:#}");
    let output = analyze(&["-f", "-"], "a: [b\n");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(output.stdout.is_empty());
    assert_eq!(analyze(&["-f", "/does/not/exist"], "").status.code(), Some(2));
    assert_eq!(analyze(&[], "").status.code(), Some(2));
}

#[test]
fn the_order_of_files_never_changes_the_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = CLASH.split_once("---\n").expect("two documents");
    let (a, b) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
    std::fs::write(&a, first).expect("written");
    std::fs::write(&b, second).expect("written");
    let (a, b) = (a.to_str().expect("UTF-8"), b.to_str().expect("UTF-8"));
    let one = analyze(&["-f", a, "-f", b, "-o", "json"], "");
    let other = analyze(&["-f", b, "-f", a, "-o", "json"], "");
    assert_eq!(one.stdout, other.stdout);
    assert!(said(&one).contains("KIA0207"));
}

#[test]
fn people_see_the_line_and_a_fix_and_yaml_is_the_same_answer() {
    let output = analyze(&["-f", "-"], CLASH);
    let text = said(&output);
    for part in ["error[KIA0207]", "--> -:15", "mode: DISABLE", "DestinationRule bar/x", "fix: "] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(said(&analyze(&["-f", "-", "-o", "yaml"], CLASH)).contains("code: KIA0207"));
}

#[test]
fn every_code_is_explained() {
    let output = analyze(&["--list"], "");
    assert_eq!(output.status.code(), Some(0));
    assert!(said(&output).contains("KIA0207") && said(&output).contains("MUT0001"));
    let listed: Value = serde_json::from_slice(&analyze(&["--list", "-o", "json"], "").stdout).expect("JSON");
    assert!(listed["codes"].as_array().expect("a list").len() >= 20);
}

#[test]
fn a_code_that_is_off_is_raised_when_it_is_asked_for() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: bar}\n";
    assert_eq!(answer(&[], pod).1, json!({"findings": []}));
    assert_eq!(codes(&answer(&["--include", "kia1301"], pod).1), ["KIA1301"]);
    let refused = analyze(&["-f", "-", "--include", "KIA0002"], pod);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("left out unless asked for: KIA1301"), "{}", said(&refused));
}
