//! A mesh of processes in the laboratory: a control plane, the sidecars of a caller and of an application, and a host of
//! somebody who means no good.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mutua_lab::{Network, Process, privilege};
use serde_json::Value;

use crate::common::{MUTUA, PATIENCE};

pub const CONTROL: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 10);
pub const FRONT: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 11);
pub const BACK: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 12);
pub const EVIL: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 13);
pub const SIDE: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 14);
/// The service in front of the application.
pub const SERVICE: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 10), 80);
/// Where the control plane listens.
pub const CONTROL_PORT: u16 = 15012;
/// The application's own port.
pub const PORT: u16 = 8080;

const CONFIG: &str = "\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: front, namespace: shop}
spec: {address: 10.91.0.11, labels: {app: front}, serviceAccount: front}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: side, namespace: shop}
spec: {address: 10.91.0.14, labels: {app: side}, serviceAccount: side}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: back, namespace: shop}
spec: {address: 10.91.0.12, labels: {app: back}, serviceAccount: back}
---
apiVersion: v1
kind: Service
metadata: {name: back, namespace: shop}
spec: {clusterIP: 10.96.0.10, selector: {app: back}, ports: [{name: tcp, port: 80, targetPort: 8080}]}
";

/// Runs a test where network namespaces may be made: here as root, else the same test again in a user namespace.
pub fn in_lab(test: &str, body: impl FnOnce(&Path)) {
    if privilege::may_make_namespaces() {
        let folder = tempfile::tempdir().expect("a folder");
        body(folder.path());
        return;
    }
    let myself = std::env::current_exe().expect("the test's own path");
    let mut command = Command::new("unshare");
    let status = command.args(["--user", "--map-root-user"]).arg(myself).args(["--exact", test, "--nocapture"]).status();
    assert!(status.expect("unshare runs").success(), "{test} failed in a user namespace");
}

/// How a connection to the application ended for the application, and what it had received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// In order, after so many bytes.
    Whole(usize),
    /// By a reset, after so many bytes.
    Broken(usize),
}

/// The mesh.
pub struct Mesh {
    pub folder: PathBuf,
    pub network: Network,
    control: Mutex<Option<Process>>,
    options: Vec<String>,
    /// Where sidecars reach the control plane, unless it is at [`CONTROL_PORT`] itself.
    pub relays: HashMap<String, u16>,
    /// How connections to the application ended.
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

impl Mesh {
    /// Starts everything but the sidecars. `options` are further ones of the control plane.
    pub fn start(folder: &Path, options: &[&str]) -> Self {
        let mut network = Network::new(folder).expect("a bridge");
        for (name, address) in [("control", CONTROL), ("front", FRONT), ("back", BACK), ("evil", EVIL), ("side", SIDE)] {
            network.add(&format!("shop/{name}"), address, "").expect("a host");
        }
        std::fs::create_dir(folder.join("config")).expect("made");
        std::fs::write(folder.join("config/shop.yaml"), CONFIG).expect("written");
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let control = Mutex::default();
        let mesh = Self { folder: folder.to_owned(), network, control, options, relays: HashMap::new(), seen: Arc::default() };
        mesh.start_control_plane();
        for host in ["shop/front", "shop/back", "shop/side"] {
            let mut command = Command::new(MUTUA);
            command.args(["redirect", "apply", "--exempt-mark", "0x539"]);
            mesh.network.host(host).unwrap().namespace.run(&mut command).expect("rules");
        }
        mesh.serve_echo();
        mesh
    }

    /// As [`Mesh::start`], with both sidecars.
    pub fn whole(folder: &Path, options: &[&str]) -> (Self, Process, Process) {
        let mesh = Self::start(folder, options);
        let back = mesh.sidecar("back", &[], &[]);
        let front = mesh.sidecar("front", &[], &[]);
        mesh.until_ready("back");
        mesh.until_ready("front");
        (mesh, front, back)
    }

    fn log(&self, name: &str) -> Stdio {
        let path = self.folder.join(format!("{name}.log"));
        std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a log").into()
    }

    /// What a process said.
    pub fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default()
    }

    pub fn start_control_plane(&self) {
        self.start_control_plane_with(&[]);
    }

    /// As [`Mesh::start_control_plane`], with environment variables.
    pub fn start_control_plane_with(&self, environment: &[(&str, &str)]) {
        let mut command = Command::new(MUTUA);
        command.envs(environment.iter().copied()).arg("control-plane").arg("--config").arg(self.folder.join("config"));
        command.arg("--state").arg(self.folder.join("control")).arg("--listen").arg(format!("{CONTROL}:{CONTROL_PORT}"));
        command.args(&self.options).stdout(Stdio::null()).stderr(self.log("control"));
        let before = self.said("control").matches("the control plane is ready").count();
        let started = self.network.host("shop/control").unwrap().namespace.spawn("control plane", &mut command);
        *self.control.lock().unwrap() = Some(started.expect("starts"));
        until("the control plane", || self.said("control").matches("the control plane is ready").count() > before);
    }

    /// kill -9 of the control plane.
    pub fn kill_control_plane(&self) {
        *self.control.lock().unwrap() = None;
    }

    /// Replaces the policy of the namespace.
    pub fn policy(&self, mode: &str) {
        self.rules(&peer_authentication(mode));
    }

    /// Replaces all policies.
    pub fn rules(&self, text: &str) {
        let (draft, path) = (self.folder.join("config/.draft"), self.folder.join("config/policy.yaml"));
        std::fs::write(&draft, text).expect("written");
        std::fs::rename(draft, path).expect("renamed");
    }

    /// The state folder of a sidecar.
    pub fn state(&self, name: &str) -> PathBuf {
        self.folder.join(format!("state-{name}"))
    }

    /// Starts the sidecar of `shop/NAME`: `wrapper` stands before the command, `more` are further arguments.
    pub fn sidecar(&self, name: &str, wrapper: &[&str], more: &[&str]) -> Process {
        self.sidecar_at(name, &self.state(name), wrapper, more)
    }

    /// As [`Mesh::sidecar`], known to the capture rules by its user, which `wrapper` becomes, instead of by a mark.
    pub fn sidecar_as(&self, name: &str, wrapper: &[String], more: &[&str]) -> Process {
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        self.start_sidecar(name, &self.state(name), &wrapper, more)
    }

    /// As [`Mesh::sidecar`], with a state folder of its own.
    pub fn sidecar_at(&self, name: &str, state: &Path, wrapper: &[&str], more: &[&str]) -> Process {
        self.start_sidecar(name, state, wrapper, &[&["--mark", "0x539"][..], more].concat())
    }

    fn start_sidecar(&self, name: &str, state: &Path, wrapper: &[&str], more: &[&str]) -> Process {
        let port = self.relays.get(name).copied().unwrap_or(CONTROL_PORT);
        let mut command = self.wrapped(wrapper);
        let token = self.folder.join(format!("token-{name}"));
        if !state.join("key.pem").exists() {
            let mut create = Command::new(MUTUA);
            let output =
                create.args(["token", "create", &format!("shop/{name}"), "--state"]).arg(self.folder.join("control")).output();
            let output = output.expect("starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            std::fs::write(&token, output.stdout).expect("written");
        }
        command.args(["proxy", "--workload", &format!("shop/{name}"), "--control-plane", &format!("{CONTROL}:{port}")]);
        command.arg("--ca-root").arg(self.folder.join("control/root-cert.pem")).arg("--token-file").arg(token);
        command.arg("--state").arg(state).args(more);
        command.stdout(self.log(name)).stderr(self.log(name));
        self.network.host(&format!("shop/{name}")).unwrap().namespace.spawn(name, &mut command).expect("starts")
    }

    fn wrapped(&self, wrapper: &[&str]) -> Command {
        let Some((first, rest)) = wrapper.split_first() else { return Command::new(MUTUA) };
        let mut command = Command::new(first);
        command.args(rest).arg(MUTUA);
        command
    }

    pub fn until_ready(&self, name: &str) {
        until(&format!("the sidecar of {name}: {}", self.said(name)), || {
            self.admin(name, "/config").is_some_and(|config| config["ready"] == true)
        });
    }

    /// A page of a sidecar's admin socket.
    pub fn admin(&self, name: &str, path: &str) -> Option<Value> {
        serde_json::from_str(&self.page(name, path)?).ok()
    }

    pub fn page(&self, name: &str, path: &str) -> Option<String> {
        get(&self.state(name).join("admin.sock"), path)
    }

    /// An answer of the control plane's API.
    pub fn api(&self, path: &str) -> Option<Value> {
        serde_json::from_str(&get(&self.folder.join("control/api.sock"), path)?).ok()
    }

    /// Refusals of a sidecar for one reason, as its metrics tell.
    pub fn refusals(&self, name: &str, reason: &str) -> u64 {
        self.all_refusals(name).remove(reason).unwrap_or_default()
    }

    /// Refusals of a sidecar by reason, as its metrics tell.
    pub fn all_refusals(&self, name: &str) -> BTreeMap<String, u64> {
        let text = self.page(name, "/stats/prometheus").unwrap_or_default();
        let mut refusals = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("mutua_connections_refused_total{")) {
            let reason = line.split_once("reason=\"").and_then(|(_, rest)| rest.split('"').next()).expect("a label");
            let count = line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a number");
            *refusals.entry(reason.to_owned()).or_default() += count;
        }
        refusals
    }

    pub fn from(&self, host: &str, to: impl Into<SocketAddr>) -> std::io::Result<TcpStream> {
        let to = to.into();
        let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(5));
        let stream = self.network.host(host).unwrap().namespace.enter(connect).expect("the namespace is entered")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// A connection of the caller to the service.
    pub fn call(&self) -> std::io::Result<TcpStream> {
        self.from("shop/front", SERVICE)
    }

    /// A call that is answered, by mutual TLS as both sidecars say.
    pub fn is_served(&self) {
        until(&format!("a served call; back: {}", self.said("back")), || {
            let Ok(mut stream) = self.call() else { return false };
            echo(&mut stream, b"hello").is_ok()
        });
        for name in ["front", "back"] {
            let records = self.admin(name, "/connections").expect("the admin socket answers");
            let last = records.as_array().unwrap().iter().rev().find(|record| record["sent_bytes"] == 5);
            assert!(last.is_some_and(|record| record["outcome"] == "mtls"), "{records:#}");
        }
    }

    /// An application that sends back what it receives.
    fn serve_echo(&self) {
        let address = SocketAddr::from(([0, 0, 0, 0], PORT));
        let bound = self.network.host("shop/back").unwrap().namespace.enter(|| TcpListener::bind(address));
        let (listener, seen) = (bound.unwrap().expect("a free port"), Arc::clone(&self.seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = Arc::clone(&seen);
                std::thread::Builder::new().stack_size(64 * 1024).spawn(move || answer(stream, &seen)).expect("a thread");
            }
        });
    }
}

/// The policy of the namespace.
pub fn peer_authentication(mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: default, namespace: shop}}\n\
         spec: {{mtls: {{mode: {mode}}}}}\n"
    )
}

/// Asks over a socket of the file system.
fn get(socket: &Path, path: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

fn answer(mut stream: TcpStream, seen: &Mutex<Vec<Seen>>) {
    let (mut total, mut buffer) = (0, vec![0; 16 * 1024]);
    let end = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break Seen::Whole(total),
            Ok(count) => {
                total += count;
                if stream.write_all(&buffer[..count]).is_err() {
                    break Seen::Broken(total);
                }
            }
            Err(_) => break Seen::Broken(total),
        }
    };
    let _ = stream.shutdown(Shutdown::Both);
    seen.lock().unwrap().push(end);
}

/// Sends `text` and reads it back.
pub fn echo(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<()> {
    stream.write_all(text)?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    assert_eq!(back, text, "nothing is changed on the way");
    Ok(())
}

/// Waits until `holds`.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Memory of a process that is its own, bytes: without the program's text and data, which the kernel shares and drops.
pub fn memory(of: &Process) -> u64 {
    memory_of(of.id())
}

/// As [`memory`], by the process id.
pub fn memory_of(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("a field");
    line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number") * 1024
}
