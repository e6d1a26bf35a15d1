//! A private key or token is in nothing that the processes of a mesh say: logs at debug level, pages, metrics, the API, errors,
//! command lines.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use crate::common::{MUTUA, PATIENCE};
use crate::mesh::{Mesh, in_lab, until};

/// The lines of a PEM file that are secret, or the one of a token.
fn secrets_of(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter(|line| line.len() > 30 && !line.starts_with("-----")).map(str::to_owned).collect()
}

fn api(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("the API answers");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    answer
}

/// A rule that takes its certificate from a Secret with this key.
fn of_a_rule(name: &str, last: u8, key: &str) -> String {
    let block: String = key.lines().map(|line| format!("\n    {line}")).collect();
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{hosts: [{name}.example], addresses: [10.96.0.{last}], ports: [{{number: 8443, name: tls, protocol: TCP}}], \
         resolution: STATIC, endpoints: [{{address: 10.91.0.13}}]}}\n---\napiVersion: networking.istio.io/v1\n\
         kind: DestinationRule\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{host: {name}.example, \
         workloadSelector: {{matchLabels: {{app: front}}}}, trafficPolicy: {{tls: {{mode: MUTUAL, credentialName: {name}, \
         sni: {name}.example}}}}}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: shop}}\n\
         stringData:\n  tls.crt: no certificate\n  ca.crt: no roots\n  tls.key: |{block}\n"
    )
}

/// A private key that is none.
const BROKEN: &str = "-----BEGIN PRIVATE KEY-----\nbm90IGEga2V5IGJ1dCBzZWNyZXQgYWxsIHRoZSBzYW1l\n-----END PRIVATE KEY-----\n";

/// What a command prints, on both streams.
fn printed(mesh: &Mesh, arguments: &[&str]) -> String {
    let output = Command::new(MUTUA).args(arguments).arg("--state").arg(mesh.folder.join("control")).output().expect("starts");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Everything that can be had of a running mesh.
fn everything(mesh: &Mesh, processes: &[&mutua_lab::Process]) -> String {
    let mut all = String::new();
    for name in ["control", "front", "back", "late"] {
        write!(all, "{}", mesh.said(name)).unwrap();
    }
    for name in ["front", "back"] {
        for page in ["/stats/prometheus", "/healthz/ready", "/config", "/connections", "/certs", "/policy"] {
            write!(all, "{}", mesh.page(name, page).unwrap_or_default()).unwrap();
        }
    }
    let socket = mesh.folder.join("control/api.sock");
    for page in ["status", "proxies", "certificates", "tokens", "rollouts", "ca"] {
        write!(all, "{}", api(&socket, &format!("/api/v1/{page}"))).unwrap();
    }
    write!(all, "{}", api(&socket, "/metrics")).unwrap();
    let explain = ["explain", "--from", "shop/front", "--to", "partner.example:8443"];
    for arguments in [&["certs"][..], &["proxy-status"], &["ca", "rotate", "--status"], &explain] {
        write!(all, "{}", printed(mesh, arguments)).unwrap();
    }
    for process in processes {
        for file in ["cmdline", "comm", "environ"] {
            let bytes = std::fs::read(format!("/proc/{}/{file}", process.id())).expect("it runs");
            write!(all, "{}", String::from_utf8_lossy(&bytes)).unwrap();
        }
    }
    all
}

#[test]
fn nothing_tells_a_key_or_a_token() {
    in_lab("secrets::nothing_tells_a_key_or_a_token", |folder| {
        let mesh = Mesh::start(folder, &["--leaf-ttl", "6s"]);
        mesh.kill_control_plane();
        mesh.start_control_plane_with(&[("MUTUA_LOG", "debug")]);
        // The Secrets of a rule: one that can be used, one with a key that is none.
        let own = mesh.folder.join("partner.key");
        let make = ["genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"];
        assert!(Command::new("openssl").args(make).arg(&own).status().expect("openssl is installed").success());
        let key = std::fs::read_to_string(&own).unwrap();
        std::fs::write(mesh.folder.join("broken.key"), BROKEN).unwrap();
        mesh.rules(&(of_a_rule("partner", 30, &key) + &of_a_rule("broken", 31, BROKEN)));
        let verbose = ["env", "MUTUA_LOG=debug"];
        let (back, front) = (mesh.sidecar("back", &verbose, &[]), mesh.sidecar("front", &verbose, &[]));
        mesh.until_ready("back");
        mesh.until_ready("front");
        let keys = |all: &mut Vec<String>| {
            let files = ["state-front/key.pem", "state-back/key.pem", "control/ca/ca-key.pem", "token-front", "token-back"];
            let files = files.into_iter().chain(["partner.key", "broken.key"]);
            files.for_each(|file| all.extend(secrets_of(&mesh.folder.join(file))));
        };
        let mut secrets = Vec::new();
        keys(&mut secrets);
        assert!(secrets.len() >= 5, "{}", secrets.len());
        mesh.is_served();
        for last in [30, 31] {
            // Refused for the settings: the certificate is none in both.
            until("the refusal", || {
                let _ = mesh
                    .from("shop/front", (std::net::Ipv4Addr::new(10, 96, 0, last), 8443))
                    .map(|mut one| one.write_all(b"x").and_then(|()| one.read(&mut [0])));
                mesh.page("front", "/connections").unwrap().contains(&format!("10.96.0.{last}:8443"))
                    && mesh.refusals("front", "TLS_SETTINGS_UNUSABLE") > 0
            });
        }
        let leaf = || mesh.admin("back", "/certs").map(|page| page["leaf"]["serial"].clone());
        let first = leaf().filter(serde_json::Value::is_string).expect("a serial number");
        until("a renewal", || leaf().is_some_and(|now| now.is_string() && now != first));
        keys(&mut secrets);
        // A token that is used up, shown once more: the refusal names its workload, not the token.
        std::fs::copy(mesh.folder.join("token-front"), mesh.folder.join("token-late")).unwrap();
        let mut late = Command::new(MUTUA);
        late.env("MUTUA_LOG", "debug").args(["proxy", "--workload", "shop/front", "--control-plane"]);
        late.arg(format!("{}:{}", crate::mesh::CONTROL, crate::mesh::CONTROL_PORT))
            .arg("--ca-root")
            .arg(mesh.folder.join("control/root-cert.pem"));
        late.arg("--token-file").arg(mesh.folder.join("token-late")).arg("--state").arg(mesh.folder.join("state-late"));
        let log = std::fs::File::create(mesh.folder.join("late.log")).unwrap();
        late.args(["--mark", "0x539"]).stdout(log.try_clone().unwrap()).stderr(log);
        let late = mesh.network.host("shop/side").unwrap().namespace.spawn("late", &mut late).expect("starts");
        until("the refusal", || mesh.said("late").contains("was used already"));
        drop(late);
        let all = everything(&mesh, &[&front, &back]);
        assert!(all.contains("DEBUG") && all.len() > 20_000, "debug lines are among them: {} bytes", all.len());
        for secret in secrets {
            let shown = all.lines().find(|line| line.contains(&secret));
            assert!(shown.is_none(), "a secret is told: {}", shown.unwrap_or_default());
        }
        assert!(!all.contains("PRIVATE KEY"), "not even the frame of a key");
    });
}
