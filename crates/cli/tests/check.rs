//! `mutua check` and `mutua diff` as a pipeline starts them.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{MUTUA, SHOP, mutua, said};
use serde_json::Value;

const STRICT: &str = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: shop}\nspec: {mtls: {mode: STRICT}}\n";

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {}", said(output)))
}

fn expectation(outcome: &str, more: &str) -> String {
    format!("files: [shop.yaml]\nexpectations:\n- {{name: shop, from: shop/front, to: \"back:80\", expect: {outcome}{more}}}\n")
}

#[test]
fn expectations_that_hold_end_with_0_and_others_with_1_and_a_diff() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "shop.yaml", SHOP);
    let good = write(folder.path(), "good.yaml.test", &expectation("mtls", ", minimumVersion: TLSV1_2"));
    let output = mutua(&["check", &good]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let bad = write(folder.path(), "bad.test", &expectation("plaintext", ""));
    let output = mutua(&["check", &good, &bad, "-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let answer = json(&output);
    assert_eq!(answer["passed"], 1);
    let failure = &answer["failed"][0];
    assert_eq!((&failure["expected"], &failure["actual"], &failure["line"]), (&"plaintext".into(), &"mtls".into(), &3.into()));
    let text = said(&mutua(&["check", &bad]));
    assert!(text.contains("- plaintext") && text.contains("+ mtls") && text.contains("bad.test:3"), "{text}");
    let newer = write(folder.path(), "newer.test", &expectation("mtls", ", minimumVersion: TLSV1_3"));
    assert_eq!(mutua(&["check", &newer]).status.code(), Some(1), "the mesh accepts TLS 1.2");
}

#[test]
fn a_wrong_test_file_is_2_with_line_and_field() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "shop.yaml", SHOP);
    for (text, said_of) in [
        (expectation("maybe", ""), "is none of mtls"),
        (expectation("mtls", ", colour: red"), "unknown field \"colour\""),
        (expectation("mtls", ", minimumVersion: TLSV9"), "minimumVersion"),
        ("expectations: []\n".to_owned(), "policy test"),
        (expectation("mtls", "").replace("back:80", "back:81"), "has no port 81"),
        (expectation("mtls", "").replace("files: [shop.yaml]\n", ""), "name the manifests"),
    ] {
        let file = write(folder.path(), "a.test", &text);
        let output = mutua(&["check", &file]);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(said(&output).contains(said_of), "{said_of}: {}", said(&output));
    }
}

#[test]
fn a_weaker_change_is_listed_first_and_ends_with_1() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = write(folder.path(), "old.yaml", &(SHOP.to_owned() + STRICT));
    let new = write(folder.path(), "new.yaml", &(SHOP.to_owned() + &STRICT.replace("STRICT", "DISABLE")));
    let output = mutua(&["diff", "-f", &old, "-f", &new, "-o", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let answer = json(&output);
    let edge = &answer["edges"][0];
    assert_eq!((&edge["change"], &edge["old"], &edge["new"]), (&"weaker".into(), &"mtls".into(), &"plaintext".into()));
    assert_eq!(edge["to"], "back.shop.svc.cluster.local:80");
    assert_eq!(answer["ports"][0]["change"], "weaker");
    let output = mutua(&["diff", "-f", &new, "-f", &old]);
    assert_eq!(output.status.code(), Some(0), "the other way it is stronger: {}", said(&output));
    assert!(said(&output).contains("stronger"));
    let output = mutua(&["diff", "-f", &old, "-f", &old]);
    assert!(output.status.success() && said(&output).contains("no connection"));
    assert_eq!(mutua(&["diff", "-f", &old]).status.code(), Some(2));
}

#[test]
fn accepting_plaintext_is_weaker_even_when_no_connection_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = write(folder.path(), "old.yaml", &(SHOP.to_owned() + STRICT));
    let new = write(folder.path(), "new.yaml", SHOP);
    let output = mutua(&["diff", "-f", &old, "-f", &new, "-o", "json"]);
    assert_eq!((output.status.code(), json(&output)["edges"].as_array().map(Vec::len)), (Some(1), Some(0)));
}

#[test]
fn two_revisions_of_a_folder_are_compared() {
    let folder = tempfile::tempdir().expect("a folder");
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]).args(arguments).current_dir(folder.path());
        let output = command.output().expect("git is there");
        assert!(output.status.success(), "{}", said(&output));
    };
    std::fs::create_dir(folder.path().join("mesh")).expect("made");
    git(&["init", "-q"]);
    write(&folder.path().join("mesh"), "a.yaml", &(SHOP.to_owned() + STRICT));
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    write(&folder.path().join("mesh"), "a.yaml", SHOP);
    git(&["commit", "-qam", "two"]);
    let diff = |old: &str, new: &str| {
        let mut command = Command::new(MUTUA);
        command.args(["diff", "-f", old, "-f", new]).current_dir(folder.path()).output().expect("starts")
    };
    let output = diff("HEAD~1:mesh", "HEAD:mesh");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(diff("HEAD:mesh", "mesh").status.code(), Some(0));
    assert_eq!(diff("HEAD:nothing", "mesh").status.code(), Some(2));
}
