//! `mutua inject`: what a pipeline sees of it.

use std::process::{Command, Output};

fn inject(files: &[(&str, &str)], arguments: &[&str]) -> (Output, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_mutua"));
    let output = command.arg("inject").arg("-f").arg(folder.path()).args(arguments).output().expect("it runs");
    (output, folder)
}

const NAMESPACE: &str =
    "apiVersion: v1\nkind: Namespace   # the shop\nmetadata: {name: shop, labels: {istio-injection: enabled}}\n";
const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\nspec: {containers: [{name: c, image: i}]}\n";

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn what_is_printed_can_be_applied_and_injected_again() {
    let (output, _folder) = inject(&[("1.yaml", NAMESPACE), ("2.yaml", POD)], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let out = text(&output.stdout);
    assert!(out.starts_with(&format!("{NAMESPACE}---\napiVersion: v1\nkind: Pod\n")), "{out}");
    assert!(out.contains("name: istio-proxy") && out.contains("--workload=$(POD_NAMESPACE)/$(POD_NAME)"), "{out}");
    assert!(text(&output.stderr).contains("sidecar: Pod shop/p"));
    let (again, _folder) = inject(&[("all.yaml", &out)], &[]);
    assert_eq!(text(&again.stdout), out, "a second time changes nothing");
    assert!(text(&again.stderr).contains("has one already: Pod shop/p"));
}

#[test]
fn a_namespace_that_asks_nothing_and_one_that_is_unknown() {
    let quiet = NAMESPACE.replace("enabled", "disabled");
    let (output, _folder) = inject(&[("1.yaml", &quiet), ("2.yaml", POD)], &[]);
    assert_eq!(text(&output.stdout), format!("{quiet}---\n{POD}"));
    assert!(text(&output.stderr).contains("no sidecar: Pod shop/p"));
    let (output, _folder) = inject(&[("2.yaml", POD)], &["--revision", "canary"]);
    assert!(text(&output.stdout).contains("--control-plane=istiod-canary.istio-system.svc:15012"));
}

#[test]
fn an_impossible_wish_prints_nothing() {
    let pod = POD.replace("namespace: shop", "namespace: shop, annotations: {status.sidecar.istio.io/port: high}");
    let (output, _folder) = inject(&[("1.yaml", NAMESPACE), ("2.yaml", &pod)], &[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()));
    assert!(text(&output.stderr).contains("status.sidecar.istio.io/port"), "{}", text(&output.stderr));
    let (output, _folder) = inject(&[("1.yaml", "a: [")], &[]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_template_is_laid_over_what_is_added() {
    let folder = tempfile::tempdir().expect("a folder");
    let template = folder.path().join("template.yaml");
    std::fs::write(&template, "metadata: {labels: {team: mesh}}\nspec: {volumes: [{name: extra, emptyDir: {}}]}\n")
        .expect("written");
    let (output, _folder) = inject(&[("p.yaml", POD)], &["--template", &template.display().to_string()]);
    let out = text(&output.stdout);
    assert!(out.contains("team: mesh") && out.contains("name: extra"), "{out}");
}
