//! Every folder below `examples/` explained, as a person reads it. After a change of the words: `INSTA_UPDATE=always
//! cargo test -p mutua-cli --test explained`, and look at the difference.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{MUTUA, said};
use mutua_model::read::expectations::PolicyTest;

/// What is asked of each step of the demo: from clients with and without a sidecar to services of every kind.
const QUESTIONS: [(&str, &str); 5] = [
    ("shop/storefront", "catalog.shop:8080"),
    ("shop/storefront", "ledger.shop:9000"),
    ("shop/storefront", "kubernetes.default:443"),
    ("legacy/cron", "catalog.shop:8080"),
    ("legacy/cron", "basket.shop:80"),
];

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn folders(group: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(examples().join(group)).expect("a group of examples");
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn name(folder: &Path) -> &str {
    folder.file_name().and_then(|name| name.to_str()).expect("UTF-8")
}

fn mutua(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(MUTUA).args(arguments).current_dir(folder).output().expect("starts")
}

fn settings(group: &str) -> insta::Settings {
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(format!("snapshots/{group}"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

#[test]
fn every_situation() {
    let _bound = settings("situations").bind_to_scope();
    for folder in folders("situations") {
        let test = PolicyTest::read(&folder.join("policy-test.yaml")).expect("a policy test");
        let mut text = String::new();
        for expectation in &test.expectations {
            let mut arguments = vec!["explain", "-f", ".", "--from", &expectation.from, "--to", &expectation.to];
            arguments.extend(expectation.subset.iter().flat_map(|subset| ["--subset", subset]));
            arguments.extend(["--expect", &expectation.outcome]);
            let output = mutua(&folder, &arguments);
            assert_eq!(output.status.code(), Some(0), "{}: {}", folder.display(), said(&output));
            text += &format!("$ mutua {}\n{}\n", arguments.join(" "), said(&output));
        }
        insta::assert_snapshot!(name(&folder), text);
    }
}

#[test]
fn every_situation_passes_its_policy_test() {
    for folder in folders("situations") {
        let output = mutua(&folder, &["check", "policy-test.yaml"]);
        assert_eq!(output.status.code(), Some(0), "{}: {}", folder.display(), said(&output));
    }
}

#[test]
fn every_step_of_the_demo() {
    let _bound = settings("demo").bind_to_scope();
    for folder in folders("demo") {
        let mut text = String::new();
        for (from, to) in QUESTIONS {
            let mut arguments = vec!["explain", "-f", "../mesh", "--from", from, "--to", to];
            if name(&folder) != "mesh" {
                arguments.extend(["--assume", "."]);
            }
            let output = mutua(&folder, &arguments);
            assert_eq!(output.status.code(), Some(0), "{}: {}", folder.display(), said(&output));
            text += &format!("$ mutua {}\n{}\n", arguments.join(" "), said(&output));
        }
        insta::assert_snapshot!(name(&folder), text);
    }
}

/// Whoever is told that something fails or is in clear, is told what to do about it.
#[test]
fn every_trouble_has_help() {
    for folder in folders("situations") {
        let test = PolicyTest::read(&folder.join("policy-test.yaml")).expect("a policy test");
        for expectation in test.expectations.iter().filter(|one| matches!(&*one.outcome, "refused" | "mixed")) {
            let output = mutua(&folder, &["explain", "-f", ".", "--from", &expectation.from, "--to", &expectation.to]);
            assert!(said(&output).contains("help:"), "{}: {}", folder.display(), said(&output));
        }
    }
}
