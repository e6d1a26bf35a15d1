//! `mutua validate` as a user or a pipeline starts it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const VALID: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: bar}
spec:
  mtls:
    mode: STRICT
";

fn validate(arguments: &[&str], folder: &Path, stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mutua"))
        .arg("validate")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A command that does not read its input may have ended already.
    let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
    child.wait_with_output().expect("the binary ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The JSON answer to a text on standard input, and the exit code.
fn answer(stdin: &str) -> (Option<i32>, Value) {
    let output = validate(&["-f", "-", "-o", "json"], Path::new("/"), stdin);
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {}", text(&output.stderr)));
    (output.status.code(), value)
}

#[test]
fn valid_input_ends_with_0() {
    let (code, value) = answer(VALID);
    assert_eq!(code, Some(0));
    assert_eq!(value, json!({"valid": true, "errors": [], "warnings": [], "infos": []}));
}

#[test]
fn an_error_names_object_file_line_path_and_message() {
    let (code, value) = answer(&VALID.replace("STRICT", "STRCT"));
    assert_eq!(code, Some(1));
    assert_eq!(value["valid"], json!(false));
    assert_eq!(
        value["errors"],
        json!([{
            "object": "PeerAuthentication bar/default",
            "file": "-",
            "line": 6,
            "column": 11,
            "path": "spec/mtls/mode",
            "message": "Unsupported value: \"STRCT\"; allowed: UNSET, DISABLE, PERMISSIVE, STRICT; did you mean `STRICT`?",
        }])
    );
}

#[test]
fn a_port_level_without_selector_is_refused() {
    let (code, value) = answer(&format!("{VALID}  portLevelMtls:\n    8080:\n      mode: DISABLE\n"));
    assert_eq!(code, Some(1));
    let error = &value["errors"][0];
    assert_eq!((error["path"].as_str(), error["line"].as_u64()), (Some("spec/portLevelMtls"), Some(7)));
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| text.contains("mesh/namespace peer authentication cannot have port level mTLS"))
    );
}

#[test]
fn two_istio_resources_without_a_default_are_refused() {
    let istio =
        |name: &str| format!("---\napiVersion: sailoperator.io/v1\nkind: Istio\nmetadata: {{name: {name}}}\nspec: {{}}\n");
    let (code, value) = answer(&(istio("a") + &istio("b")));
    assert_eq!(code, Some(1));
    let message = value["errors"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("2 Istio resources (`a`, `b`) and none is named `default`"), "{message}");
    assert_eq!(answer(&(istio("a") + &istio("default"))).0, Some(0));
}

#[test]
fn warnings_and_infos_do_not_make_it_invalid() {
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x}\nspec: {host: a.b, trafficPolicy: {tls: \
                {mode: SIMPLE}}}\n";
    let (code, value) = answer(rule);
    assert_eq!((code, &value["valid"], &value["errors"]), (Some(0), &json!(true), &json!([])));
    let warning = &value["warnings"][0];
    assert_eq!(
        (warning["object"].as_str(), warning["path"].as_str()),
        (Some("DestinationRule default/x"), Some("spec/trafficPolicy/tls"))
    );
    assert_eq!(value["infos"][0]["path"], json!("metadata/namespace"));
}

#[test]
fn unreadable_input_ends_with_2_and_one_message() {
    let folder = tempfile::tempdir().expect("a folder");
    let syntax = validate(&["-f", "-"], folder.path(), "a: 1\na: 2\n");
    assert_eq!((syntax.status.code(), text(&syntax.stdout)), (Some(2), String::new()));
    assert_eq!(text(&syntax.stderr), "error: -:2:1: the key `a` is given twice\n  |\n2 | a: 2\n  | ^^^^\n");
    let missing = validate(&["-f", "none.yaml"], folder.path(), "");
    assert_eq!(missing.status.code(), Some(2));
    assert_eq!(text(&missing.stderr), "error: none.yaml: No such file or directory (os error 2)\n");
    let nothing = validate(&[], folder.path(), "");
    assert_eq!(nothing.status.code(), Some(2));
    assert!(text(&nothing.stderr).contains("name files or folders with -f"), "{}", text(&nothing.stderr));
}

#[test]
fn people_are_shown_the_line() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("policies")).expect("a folder");
    std::fs::write(folder.path().join("policies/a.yaml"), VALID.replace("STRICT", "STRCT # why")).expect("written");
    std::fs::write(folder.path().join("policies/b.json"), r#"{"apiVersion": "v1", "kind": "Node"}"#).expect("written");
    let output = validate(&["-f", "policies"], folder.path(), "");
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(text(&output.stdout), @r#"
    error: Unsupported value: "STRCT"; allowed: UNSET, DISABLE, PERMISSIVE, STRICT
     --> policies/a.yaml:6:11
      |
    6 |     mode: STRCT # why
      |           ^^^^^
      = PeerAuthentication bar/default, spec/mtls/mode
      = help: did you mean `STRICT`?

    info: passed over 1 × Node
    invalid: 1 error (1 object in 2 files)
    "#);
}

#[test]
fn yaml_says_the_same_as_json() {
    let output = validate(&["-f", "-", "-o", "yaml"], Path::new("/"), VALID);
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), "errors: []\ninfos: []\nvalid: true\nwarnings: []\n".to_owned())
    );
}

#[test]
fn hostile_input_gets_an_answer() {
    let bomb: String =
        (1..12).map(|level| format!("a{level}: &a{level} [{}]\n", format!("*a{}, ", level - 1).repeat(10))).collect();
    let inputs = [
        ("[".repeat(100_000), Some(2)),
        (format!("a0: &a0 x\n{bomb}"), Some(2)),
        ("\t\ta: b\n\tc: d\n".to_owned(), Some(2)),
        (format!("{VALID}  x: {}\n", "y".repeat(1_000_000)), Some(1)),
        (VALID.replace('\n', "\r\n"), Some(0)),
        (format!("\u{feff}{VALID}"), Some(0)),
        (VALID.replace("name: default", &format!("name: {}", "n".repeat(254))), Some(1)),
        ("- ".repeat(100_000), Some(2)),
        ("{a: ".repeat(100_000), Some(2)),
        (format!("{VALID}  x: {}{}\n", "[".repeat(5000), "]".repeat(5000)), Some(2)),
        (format!("{VALID}  x: a\0b\n"), Some(2)),
        (format!("{VALID}    mode: DISABLE\n"), Some(2)),
        ("a: &a [*a]\n".to_owned(), Some(2)),
        ("? [a, b]\n: c\n".to_owned(), Some(2)),
        ("---\n---\n".to_owned(), Some(0)),
        (String::new(), Some(0)),
        ("{\n // no comment\n \"apiVersion\": \"v1\", \"kind\": \"Namespace\"}".to_owned(), Some(1)),
        ("apiVersion: v1\nkind: [Pod]\n".to_owned(), Some(1)),
        (VALID.replace("mode: STRICT", "mode: 99999999999999999999999999"), Some(1)),
        ("a: b\n---\n".repeat(100_000), Some(0)),
        (subsets(20_000), Some(0)),
    ];
    for (input, expected) in inputs {
        let output = validate(&["-f", "-"], Path::new("/"), &input);
        assert_eq!(output.status.code(), expected, "{}", text(&output.stderr));
    }
}

/// What stands beside the bad file: a mesh of one client and one server.
const MESH: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: bar}
spec: {clusterIP: 10.96.0.5, selector: {app: web}, ports: [{name: http, port: 8000, targetPort: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: bar, labels: {app: web, security.istio.io/tlsMode: istio}}
status: {podIP: 10.0.0.7}
---
apiVersion: v1
kind: Pod
metadata: {name: sleep, namespace: foo, labels: {app: sleep, security.istio.io/tlsMode: istio}}
status: {podIP: 10.0.0.8}
";

/// Each command that reads manifests, over `bad.yaml`.
const COMMANDS: [&[&str]; 5] = [
    &["validate", "-f", "bad.yaml"],
    &["analyze", "-f", "bad.yaml", "-f", "mesh.yaml"],
    &["explain", "-f", "bad.yaml", "-f", "mesh.yaml", "--from", "foo/sleep", "--to", "web.bar:8000"],
    &["check", "expect.yaml", "-f", "bad.yaml", "-f", "mesh.yaml"],
    &["diff", "-f", "mesh.yaml", "-f", "bad.yaml"],
];

/// What every command says of a bad file, with its exit code.
fn of_every_command(bad: &str) -> Vec<(&'static str, Option<i32>, String)> {
    let folder = tempfile::tempdir().expect("a folder");
    let expect = "expectations: [{from: foo/sleep, to: \"web.bar:8000\", expect: mtls}]\n";
    for (name, content) in [("bad.yaml", bad), ("mesh.yaml", MESH), ("expect.yaml", expect)] {
        std::fs::write(folder.path().join(name), content).expect("written");
    }
    let run = |arguments: &&'static [&'static str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_mutua")).args(*arguments).current_dir(folder.path()).output();
        let output = output.expect("the binary starts");
        (arguments[0], output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    COMMANDS.iter().map(run).collect()
}

/// Text that cannot be read ends every command with 2 and the line; a wrong value is an answer of `validate` and `analyze`,
/// and names the field too.
#[test]
fn every_command_names_line_and_field_of_bad_input() {
    let bomb: String =
        (1..12).map(|level| format!("a{level}: &a{level} [{}]\n", format!("*a{}, ", level - 1).repeat(10))).collect();
    let wrong = VALID.replace("STRICT", "STRCT");
    let many: String = (0..30_000).map(|at| format!("{}---\n", VALID.replace("default", &format!("p{at}")))).collect();
    for (input, line, field) in [
        (VALID.replace("  mtls", "\tmtls"), 5, ""),
        (format!("{VALID}    mode: DISABLE\n"), 7, ""),
        (format!("a0: &a0 x\n{bomb}"), 6, ""),
        (format!("{VALID}  selector: {{matchLabels: {{a: b}}\n"), 7, ""),
        (format!("{VALID}  x: a\0b\n"), 7, ""),
        (wrong.clone(), 6, "spec/mtls/mode"),
        (wrong.replace('\n', "\r\n"), 6, "spec/mtls/mode"),
        (format!("\u{feff}{wrong}"), 6, "spec/mtls/mode"),
        (VALID.replace("mode: STRICT", "mode: [STRICT]"), 6, "spec/mtls/mode"),
        (VALID.replace("mtls:\n    mode: STRICT", "mtls: STRICT"), 5, "spec/mtls"),
        (VALID.replace("name: default", &format!("name: {}", "n".repeat(254))), 3, "metadata/name"),
        (format!("{many}{wrong}"), 30_000 * 7 + 6, "spec/mtls/mode"),
    ] {
        for (command, code, said) in of_every_command(&input) {
            let answers = !field.is_empty() && ["validate", "analyze"].contains(&command);
            assert_eq!(code, Some(if answers { 1 } else { 2 }), "{command}: {said:.2000}");
            assert!(said.contains(&format!("bad.yaml:{line}")) && said.contains(field), "{command}, {line}: {said:.2000}");
        }
    }
}

/// A policy whose kind is misspelt would count as in force for its author: it is an error of every command, with place and
/// what was meant; what Istio does not have is told on stderr and passed over.
#[test]
fn every_command_names_misspelt_kinds() {
    let misspelt = VALID.replace("kind: PeerAuthentication", "kind: PeerAuthentcation");
    let unknown = VALID.replace("kind: PeerAuthentication", "kind: MeshPolicy");
    assert!(misspelt != VALID && unknown != VALID);
    for (command, code, said) in of_every_command(&misspelt) {
        let answers = ["validate", "analyze"].contains(&command);
        assert_eq!(code, Some(if answers { 1 } else { 2 }), "{command}: {said}");
        assert!(said.contains("bad.yaml:2") && said.contains("did you mean `PeerAuthentication`?"), "{command}: {said}");
    }
    for (command, code, said) in of_every_command(&unknown) {
        assert_ne!(code, Some(2), "{command}: {said}");
        let told = "`MeshPolicy` of security.istio.io/v1 is no kind of Istio that Mutua knows; passed over";
        assert!(said.contains("bad.yaml:2:7") && said.contains(told), "{command}: {said}");
    }
}

/// Odd input that is no mistake is read like any other, however much there is of it.
#[test]
fn every_command_reads_odd_and_large_input() {
    let many: String = (0..30_000).map(|at| format!("{}---\n", VALID.replace("default", &format!("p{at}")))).collect();
    let unknown = "apiVersion: example.com/v1\nkind: Gizmo\nmetadata: {name: x}\n".to_owned();
    for input in [VALID.replace('\n', "\r\n"), format!("\u{feff}{VALID}"), VALID.replace(", namespace: bar", ""), unknown, many] {
        for (command, code, said) in of_every_command(&input) {
            // Of the last one 29,999 policies never count.
            let found = command == "analyze" && said.contains("error[");
            // `bad.yaml` is the new side of `diff`: what runs in `mesh.yaml` is gone.
            assert!(code == Some(0) || (code == Some(1) && (found || command == "diff")), "{command} {code:?}: {said:.2000}");
        }
    }
}

/// A rule with very many subsets.
fn subsets(number: usize) -> String {
    let subsets: String = (0..number).map(|at| format!("  - {{name: s{at}, labels: {{a: b}}}}\n")).collect();
    let head = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a, namespace: b}\nspec:\n  host: a\n";
    format!("{head}  subsets:\n{subsets}")
}

/// What is no file is named, and never waited for.
#[test]
fn folders_with_pipes_and_loops_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("sub")).expect("made");
    std::os::unix::fs::symlink("..", folder.path().join("sub/up")).expect("linked");
    let output = validate(&["-f", "."], folder.path(), "");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("./sub/up: this link leads to a folder that holds it"), "{}", text(&output.stderr));
    std::fs::remove_file(folder.path().join("sub/up")).expect("removed");
    let made = Command::new("mkfifo").arg(folder.path().join("pipe.yaml")).status().expect("coreutils");
    assert!(made.success());
    let output = validate(&["-f", "."], folder.path(), "");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("./pipe.yaml: this is no file but a pipe"), "{}", text(&output.stderr));
}

/// Bytes that are no text are found by line and column.
#[test]
fn bytes_that_are_no_text_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for (bytes, said) in [
        (b"a: b\nc: \xff\n".as_slice(), "./a.yaml:2:4: this is not UTF-8 text: it holds the byte 0xff"),
        (b"\xff\xfea\0".as_slice(), "./a.yaml:1:1: this is UTF-16"),
    ] {
        std::fs::write(folder.path().join("a.yaml"), bytes).expect("written");
        let output = validate(&["-f", "."], folder.path(), "");
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
    }
}

/// Each folder of examples is what a user applies at once, so each is valid by itself.
#[test]
fn every_example_is_valid() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut folders = 0;
    let groups = std::fs::read_dir(&examples).expect("examples").map(|group| group.expect("readable").path());
    for group in groups.filter(|group| group.is_dir()) {
        for folder in std::fs::read_dir(group).expect("a group is a folder") {
            let folder = folder.expect("readable").path();
            let output = validate(&["-f", "."], &folder, "");
            assert_eq!(output.status.code(), Some(0), "{}: {}{}", folder.display(), text(&output.stdout), text(&output.stderr));
            folders += 1;
        }
    }
    assert!(folders > 0, "no examples in {}", examples.display());
}
