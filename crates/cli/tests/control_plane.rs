//! The control plane as a process, and what it does with wrong input: one clear message, and what ran keeps running.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::process::Command;

use common::{ControlPlane, MUTUA, SHOP, mutua, said};

fn explain(plane: &ControlPlane) -> String {
    said(&plane.ask(&["explain", "--from", "shop/front", "--to", "back:80", "-o", "json"]))
}

fn strict(mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: default, namespace: shop}}\nspec:\n  mtls:\n    mode: {mode}\n"
    )
}

#[test]
fn it_answers_for_what_is_in_the_folder() {
    let mut plane = ControlPlane::start();
    assert!(explain(&plane).contains("\"serverMode\": \"PERMISSIVE\""));
    plane.write("policy.yaml", &strict("STRICT"));
    plane.until("generation=2");
    assert!(explain(&plane).contains("\"serverMode\": \"STRICT\""));
    let status = said(&plane.ask(&["proxy-status"]));
    assert!(status.contains("Generation 2") && status.contains("shop/front") && status.contains("never seen"), "{status}");
    let certs = said(&plane.ask(&["certs"]));
    assert!(certs.contains("root") && certs.contains("spiffe://cluster.local/ns/istio-system/sa/istiod"), "{certs}");
    assert_eq!(plane.ask(&["certs", "--check"]).status.code(), Some(0));
    let far = plane.ask(&["certs", "--check", "--within", "4000d"]);
    assert_eq!(far.status.code(), Some(0), "the root is changed by itself");
    assert!(plane.runs());
    assert_eq!(plane.stop().code(), Some(0), "a stop is clean");
}

#[test]
fn an_invalid_change_is_told_and_changes_nothing() {
    let mut plane = ControlPlane::start();
    let select = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: ports, namespace: shop}\nspec:\n  portLevelMtls:\n    8080: {mode: STRICT}\n";
    let istio = |name: &str| {
        format!(
            "apiVersion: sailoperator.io/v1\nkind: Istio\nmetadata: {{name: {name}}}\nspec: {{namespace: istio-system}}\n---\n"
        )
    };
    for (text, told) in [
        (strict("STRCT"), "policy.yaml:6:11: PeerAuthentication shop/default: spec/mtls/mode: Unsupported value: \"STRCT\""),
        (select.to_owned(), "PeerAuthentication shop/ports: spec"),
        (istio("a") + &istio("b"), "Istio"),
        ("a: [".to_owned(), "policy.yaml:"),
        (
            strict("STRICT").replace("PeerAuthentication", "PeerAuthentcation"),
            "policy.yaml:2:7: kind: security.istio.io has no kind `PeerAuthentcation`; did you mean `PeerAuthentication`?",
        ),
    ] {
        plane.write("policy.yaml", &text);
        let line = plane.until("not put into force");
        assert!(line.contains(told), "{line}");
        assert!(explain(&plane).contains("\"serverMode\": \"PERMISSIVE\""), "the last good state holds");
        let status = said(&plane.ask(&["proxy-status"]));
        assert!(status.contains("The newest configuration is not in force"), "{status}");
    }
    plane.write("policy.yaml", &strict("STRICT"));
    plane.until("generation=2");
    assert!(explain(&plane).contains("\"serverMode\": \"STRICT\""));
}

#[test]
fn a_kind_that_istio_does_not_have_is_logged_and_shown() {
    let mut plane = ControlPlane::start();
    plane.write("new.yaml", &strict("STRICT").replace("PeerAuthentication", "MeshPolicy"));
    let told = "new.yaml:2:7: kind: `MeshPolicy` of security.istio.io/v1 is no kind of Istio that Mutua knows; passed over";
    let line = plane.until("MeshPolicy");
    assert!(line.contains("WARN") && line.contains(told), "{line}");
    let status = said(&plane.ask(&["proxy-status"]));
    assert!(status.contains("Generation 2") && status.contains("Passed over: ") && status.contains(told), "{status}");
}

#[test]
fn wrong_input_at_the_start_gets_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let (config, state) = (folder.path().join("config"), folder.path().join("state"));
    let start = |more: &[&str]| {
        let output =
            Command::new(MUTUA).arg("control-plane").arg("--config").arg(&config).arg("--state").arg(&state).args(more).output();
        let output = output.unwrap();
        (output.status.code(), said(&output))
    };
    let (code, text) = start(&[]);
    assert_eq!((code, text.lines().count()), (Some(2), 1), "{text}");
    assert!(text.contains("config cannot be read: No such file or directory"), "{text}");
    std::fs::create_dir(&config).unwrap();
    std::fs::write(config.join("a.yaml"), strict("STRCT")).unwrap();
    let (code, text) = start(&[]);
    assert_eq!(code, Some(2));
    assert!(text.contains("a.yaml:6:11") && text.contains("\"STRCT\"") && text.contains("PERMISSIVE"), "{text}");
    std::fs::write(config.join("a.yaml"), SHOP).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, text) = start(&["--listen", &address]);
    assert_eq!((code, text.lines().count()), (Some(2), 1), "{text}");
    assert!(text.contains(&address) && text.contains("Address already in use"), "{text}");
    let (code, text) = start(&["--listen", "127.0.0.1:0", "--api", &address]);
    assert_eq!(code, Some(2));
    assert!(text.contains(&address) && text.contains("Address already in use"), "{text}");
}

#[test]
fn a_second_control_plane_waits_for_the_first() {
    let plane = ControlPlane::start();
    let mut command = Command::new(MUTUA);
    command.arg("control-plane").arg("--config").arg(plane.folder.path().join("config")).arg("--state").arg(plane.state());
    let mut second = command.args(["--listen", "127.0.0.1:0"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(second.stderr.take().unwrap()), &mut line).unwrap();
    assert!(line.contains("another control plane leads on this state folder"), "{line}");
    second.kill().unwrap();
    second.wait().unwrap();
}

#[test]
fn tokens_are_for_workloads_that_exist() {
    let plane = ControlPlane::start();
    let token = plane.ask(&["token", "create", "shop/front"]);
    assert!(token.status.success() && said(&token).starts_with("mutua_"), "{}", said(&token));
    for (name, told) in
        [("shop/nobody", "the mesh has no workload shop/nobody"), ("front", "a workload is written NAMESPACE/NAME")]
    {
        let output = plane.ask(&["token", "create", name]);
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains(told), "{}", said(&output));
    }
    let nowhere = mutua(&["token", "create", "shop/front", "--state", "/nowhere"]);
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(said(&nowhere).contains("no control plane answers at /nowhere/api.sock"), "{}", said(&nowhere));
}

/// The state folder on a file system of 160 KiB, which is filled while the control plane runs.
#[test]
fn a_full_disk_keeps_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("config")).unwrap();
    std::fs::create_dir(folder.path().join("state")).unwrap();
    std::fs::write(folder.path().join("config/shop.yaml"), SHOP).unwrap();
    let state = folder.path().join("state");
    let script = format!(
        "mount -t tmpfs -o size=160k,mode=0700 tmpfs {0} || exit 1; ( while [ ! -e {1}/fill ]; do sleep 0.05; done; dd if=/dev/zero of={0}/filler bs=1k 2>/dev/null; touch {1}/full; while [ -e {1}/fill ]; do sleep 0.05; done; rm {0}/filler ) & exec \"$@\"",
        state.display(),
        folder.path().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--user", "--map-root-user", "sh", "-c", &script, "sh", MUTUA]);
    let (fill, full) = (folder.path().join("fill"), folder.path().join("full"));
    let mut plane = ControlPlane::over(folder, &state, &mut command);
    std::fs::write(&fill, "").unwrap();
    while !full.exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    plane.write("policy.yaml", &strict("STRICT"));
    let line = plane.until("No space left on device");
    assert!(line.contains("state"), "{line}");
    assert!(plane.runs());
    std::fs::remove_file(&fill).unwrap();
    plane.until("generation=2");
}
