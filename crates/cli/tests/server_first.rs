//! Real servers behind PERMISSIVE ports that nobody declared: MariaDB and SMTP speak first, PostgreSQL and Redis do not. Real
//! clients reach them through two sidecars with mutual TLS, and without a sidecar in clear; who speaks first is learned.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/mesh.rs"]
mod mesh;

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{MUTUA, said};
use mesh::{BACK, Mesh, in_lab, until};
use serde_json::Value;

/// The service in front of all of them.
const DATA: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 20);
/// Ports whose names say nothing, so that Istio's rules declare nothing.
const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: data, namespace: shop}
spec:
  clusterIP: 10.96.0.20
  selector: {app: back}
  ports: [{name: a, port: 13306}, {name: b, port: 15432}, {name: c, port: 16379}, {name: d, port: 10025}]
";

/// A server with its client.
struct Kind {
    port: u16,
    speaks_first: bool,
    /// Starts it, with a folder of its own.
    server: fn(&Path) -> Command,
    /// Asks it; the address comes first.
    client: fn(Ipv4Addr, u16) -> Command,
    /// What the client prints.
    answer: &'static str,
}

const KINDS: [Kind; 4] = [
    Kind { port: 13306, speaks_first: true, server: mariadb, client: ask_mariadb, answer: "42\n" },
    Kind { port: 15432, speaks_first: false, server: postgres, client: ask_postgres, answer: "42\n" },
    Kind { port: 16379, speaks_first: false, server: redis, client: ask_redis, answer: "PONG\n" },
    Kind { port: 10025, speaks_first: true, server: smtp, client: ask_smtp, answer: "" },
];

/// Servers that do not run as root are told that they are not.
fn as_nobody(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=1000", "--map-group=1000"]).arg(program).env("PATH", PATH);
    command
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn mariadb(folder: &Path) -> Command {
    let mut command = as_nobody("mariadbd");
    // Without tables of users everybody is let in; the greeting is the same.
    command.args(["--no-defaults", "--skip-grant-tables", "--bind-address=0.0.0.0", "--port=13306"]);
    // No names of callers are asked of the DNS, which is not there.
    command.args([
        "--skip-name-resolve",
        "--innodb-buffer-pool-size=8M",
        "--innodb-log-file-size=4M",
        "--performance-schema=OFF",
    ]);
    for (option, name) in [("datadir", ""), ("socket", "socket"), ("pid-file", "pid"), ("tmpdir", "")] {
        command.arg(format!("--{option}={}", folder.join(name).display()));
    }
    command
}

fn ask_mariadb(host: Ipv4Addr, port: u16) -> Command {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "--skip-ssl", "--user=root", "--skip-column-names", "--execute=select 6*7"]);
    command.args([format!("--host={host}"), format!("--port={port}")]);
    command
}

fn postgres(folder: &Path) -> Command {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("postgresql is installed");
    let programs = versions.map(|version| version.unwrap().path().join("bin")).find(|bin| bin.join("postgres").exists());
    let programs = programs.expect("postgresql is installed");
    let mut make = as_nobody(programs.join("initdb"));
    make.args(["--auth=trust", "--username=test", "--no-sync", "--no-instructions", "--locale=C", "-D"]).arg(folder);
    let made = make.output().expect("unshare is installed");
    assert!(made.status.success(), "{}", said(&made));
    std::fs::write(folder.join("pg_hba.conf"), "host all all 0.0.0.0/0 trust\n").unwrap();
    let mut command = as_nobody(programs.join("postgres"));
    command.arg("-D").arg(folder).arg("-k").arg(folder).args(["-h", "0.0.0.0", "-p", "15432", "-c", "fsync=off"]);
    command
}

fn ask_postgres(host: Ipv4Addr, port: u16) -> Command {
    let mut command = Command::new("psql");
    command.args(["--no-psqlrc", "--tuples-only", "--no-align", "--command=select 6*7"]);
    command.arg(format!("host={host} port={port} user=test dbname=postgres sslmode=prefer"));
    command
}

fn redis(folder: &Path) -> Command {
    let mut command = Command::new("redis-server");
    command.args(["--port", "16379", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir"]).arg(folder);
    command
}

fn ask_redis(host: Ipv4Addr, port: u16) -> Command {
    let mut command = Command::new("redis-cli");
    command.args(["-h", &host.to_string(), "-p", &port.to_string(), "ping"]);
    command
}

fn smtp(_: &Path) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    // With a name of its own: it would ask the DNS, which is not there, for every connection.
    command.args([
        "-c",
        "import signal; from aiosmtpd import controller, handlers; \
        controller.Controller(handlers.Sink(), hostname='0.0.0.0', port=10025, server_hostname='mail.shop.example').start(); \
        signal.pause()",
    ]);
    command
}

fn ask_smtp(host: Ipv4Addr, port: u16) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--mail-from", "a@shop.example", "--mail-rcpt", "b@shop.example"]);
    command.args(["--upload-file", "/etc/hostname", &format!("smtp://{host}:{port}/shop.example")]);
    command
}

/// The servers, in the application's namespace, once they listen.
fn serve(mesh: &Mesh) -> Vec<mutua_lab::Process> {
    let back = &mesh.network.host("shop/back").unwrap().namespace;
    let start = |kind: &Kind| {
        let name = format!("server-{}", kind.port);
        let folder = mesh.folder.join(&name);
        std::fs::create_dir(&folder).unwrap();
        let mut command = (kind.server)(&folder);
        let log = std::fs::File::create(mesh.folder.join(format!("{name}.log"))).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        back.spawn(&name, &mut command).expect("the servers are installed: make test-needs")
    };
    let servers = KINDS.iter().map(start).collect();
    for kind in &KINDS {
        let listens = || back.enter(|| TcpStream::connect((Ipv4Addr::LOCALHOST, kind.port))).unwrap().is_ok();
        until(&format!("port {}: {}", kind.port, mesh.said(&format!("server-{}", kind.port))), listens);
    }
    servers
}

/// Lets a client ask, and looks what its connection was for the server's sidecar.
fn ask(mesh: &Mesh, kind: &Kind, host: &str, to: Ipv4Addr, outcome: &str) {
    let before = closed(mesh, kind.port).len();
    let answer = mesh.network.host(host).unwrap().namespace.run(&mut (kind.client)(to, kind.port));
    assert_eq!(answer.expect("the client is served"), kind.answer, "port {} from {host}", kind.port);
    until("the record", || closed(mesh, kind.port).len() > before);
    for record in &closed(mesh, kind.port)[before..] {
        assert_eq!((&record["outcome"], &record["reason"]), (&outcome.into(), &Value::Null), "from {host}: {record:#}");
    }
}

/// The records of the connections to a port that have ended.
fn closed(mesh: &Mesh, port: u16) -> Vec<Value> {
    let records = mesh.admin("back", "/connections").expect("the admin socket answers");
    let to = format!("{BACK}:{port}");
    let of = |record: &&Value| record["original_destination"] == *to && record["state"] == "closed";
    records.as_array().unwrap().iter().filter(of).cloned().collect()
}

#[test]
fn real_servers_need_no_label() {
    in_lab("real_servers_need_no_label", |folder| {
        let (mesh, _front, _back) = Mesh::whole(folder, &[]);
        std::fs::write(folder.join("config/data.yaml"), SERVICE).unwrap();
        let known = |kind: &Kind| mesh.admin("back", &format!("/policy?port={}", kind.port)).unwrap()["service"].is_string();
        until("the new service", || KINDS.iter().all(known));
        let _servers = serve(&mesh);
        for kind in &KINDS {
            let page = format!("/policy?port={}", kind.port);
            let policy = mesh.admin("back", &page).unwrap();
            assert_eq!((&policy["mode"], &policy["protocol"]), (&"PERMISSIVE".into(), &"AUTO".into()), "{policy:#}");
            ask(&mesh, kind, "shop/front", DATA, "mtls");
            for _ in 0..4 {
                ask(&mesh, kind, "shop/evil", BACK, "plaintext");
            }
            ask(&mesh, kind, "shop/front", DATA, "mtls");
            let learned = mesh.admin("back", &page).unwrap()["serverFirst"].clone();
            assert_eq!(learned["learnedCallers"].as_u64(), kind.speaks_first.then_some(1), "port {}: {learned}", kind.port);
        }
        explained(folder);
    });
}

/// What the sidecar learned is known to those who ask the control plane, about the workload and about a connection to it.
fn explained(folder: &Path) {
    let explain = |question: &[&str], format: &str| {
        let mut command = Command::new(MUTUA);
        command.arg("explain").args(question).args(["--output", format, "--state"]).arg(folder.join("control"));
        let output = command.env_remove("MUTUA_API").output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let answer = |question: &[&str]| serde_json::from_str::<Value>(&explain(question, "json")).unwrap();
    let learned = serde_json::json!({"callers": 1, "learnedCallers": 1});
    let expected = serde_json::json!({"10025": learned, "13306": learned});
    let workload = ["--workload", "shop/back"];
    until("the report", || answer(&workload)["serverFirst"] == expected);
    let text = explain(&workload, "table");
    assert!(text.contains("Port 13306: the server speaks first"), "{text}");
    for kind in &KINDS {
        let question = ["--from", "shop/front", "--to", &format!("data.shop:{}", kind.port)];
        let first = &answer(&question)["endpoints"][0]["serverFirst"];
        assert_eq!(*first, if kind.speaks_first { learned.clone() } else { Value::Null }, "port {}", kind.port);
        let told = explain(&question, "table").contains(&format!("shop/back:{}: the server speaks first", kind.port));
        assert_eq!(told, kind.speaks_first, "port {}", kind.port);
    }
}
