//! The binary as a user starts it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The binary.
pub const MUTUA: &str = env!("CARGO_BIN_EXE_mutua");
/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A mesh of two workloads with a service each.
pub const SHOP: &str = "\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: front, namespace: shop}
spec: {address: 127.0.0.1, labels: {app: front}, serviceAccount: front}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: back, namespace: shop}
spec: {address: 127.0.0.2, labels: {app: back}, serviceAccount: back}
---
apiVersion: v1
kind: Service
metadata: {name: back, namespace: shop}
spec: {clusterIP: 10.96.0.10, selector: {app: back}, ports: [{name: http, port: 80, targetPort: 8080}]}
";

/// Runs `mutua` to its end.
pub fn mutua(arguments: &[&str]) -> Output {
    Command::new(MUTUA).args(arguments).env_remove("MUTUA_STATE").env_remove("MUTUA_API").output().expect("the binary starts")
}

/// What it said, on both channels.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A control plane over a folder of its own.
pub struct ControlPlane {
    pub folder: tempfile::TempDir,
    child: Child,
    log: mpsc::Receiver<String>,
    seen: Vec<String>,
    /// Where proxies reach it.
    pub listen: String,
}

impl ControlPlane {
    /// Starts it over [`SHOP`] and waits until it is ready.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("config")).expect("made");
        std::fs::write(folder.path().join("config/shop.yaml"), SHOP).expect("written");
        let state = folder.path().join("state");
        Self::over(folder, &state, &mut Command::new(MUTUA))
    }

    /// Starts `command` with the arguments of a control plane.
    pub fn over(folder: tempfile::TempDir, state: &Path, command: &mut Command) -> Self {
        command.arg("control-plane").arg("--config").arg(folder.path().join("config"));
        Self::of(folder, state, command)
    }

    /// Starts one whose source `command` names already.
    pub fn of(folder: tempfile::TempDir, state: &Path, command: &mut Command) -> Self {
        let command = command.arg("--state").arg(state);
        let command = command.args(["--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut plane = Self { folder, child, log, seen: Vec::new(), listen: String::new() };
        let ready = plane.until("the control plane is ready");
        plane.listen = ready.split("listen=").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address").to_owned();
        plane
    }

    /// Waits for a line of its log.
    pub fn until(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.log.recv_timeout(left) else { panic!("{text:?} never came; the log: {:#?}", self.seen) };
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Replaces a file of its configuration in one step.
    pub fn write(&self, name: &str, text: &str) {
        let (draft, path) = (self.folder.path().join("config/.draft"), self.folder.path().join("config").join(name));
        std::fs::write(&draft, text).expect("written");
        std::fs::rename(draft, path).expect("renamed");
    }

    /// Runs a command against it.
    pub fn ask(&self, arguments: &[&str]) -> Output {
        Command::new(MUTUA).args(arguments).arg("--state").arg(self.state()).env_remove("MUTUA_API").output().expect("starts")
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Asks it to stop, as an init system does.
    pub fn stop(mut self) -> std::process::ExitStatus {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
        self.child.wait().expect("a child")
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
