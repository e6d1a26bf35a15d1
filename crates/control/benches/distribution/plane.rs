//! The control plane, in a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use mutua_control::ControlPlane;
use mutua_control::settings::Settings;
use tokio_util::sync::CancellationToken;

use super::PLANE;
use super::process::Usage;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

/// Is the control plane, until it is killed.
pub fn serve(arguments: &[String]) {
    let arguments = Arguments::parse_from([&[PLANE.to_owned()], arguments].concat());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let plane = Box::pin(ControlPlane::start(arguments.settings, CancellationToken::new())).await.unwrap();
        println!("{} {}", plane.listen, plane.api);
        plane.wait().await.unwrap();
    });
}

/// A control plane that runs.
pub struct Plane {
    process: Child,
    /// Where proxies reach it.
    pub listen: SocketAddr,
    api: SocketAddr,
}

impl Plane {
    /// Starts one over the folders below `folder`; it listens when this returns.
    pub async fn start(folder: &Path, listen: Option<SocketAddr>) -> Self {
        let listen = listen.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        let folders = [folder.join("config"), folder.join("state")];
        let program = std::env::current_exe().unwrap();
        let (process, line) = tokio::task::spawn_blocking(move || {
            let [config, state] = folders;
            let mut command = Command::new(program);
            command.arg(PLANE).arg("--config").arg(config).arg("--state").arg(state);
            command.args(["--api", "127.0.0.1:0", "--listen", &listen.to_string()]);
            let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
            (process, line)
        })
        .await
        .unwrap();
        let (listen, api) = line.trim().split_once(' ').unwrap();
        Self { process, listen: listen.parse().unwrap(), api: api.parse().unwrap() }
    }

    pub fn usage(&self) -> Usage {
        Usage::of(self.process.id())
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Waits until the newest change is in force everywhere.
    pub async fn enforced(&self, patience: Duration) {
        self.until("/api/v1/rollouts", patience, |answer| !answer[0]["enforced"].is_null()).await;
    }

    /// Waits until so many proxies are connected and have everything.
    pub async fn current(&self, proxies: usize, patience: Duration) {
        self.until("/api/v1/status", patience, |answer| answer["proxiesCurrent"] == proxies).await;
    }

    async fn until(&self, path: &'static str, patience: Duration, holds: impl Fn(&serde_json::Value) -> bool) {
        let (began, api) = (Instant::now(), self.api);
        loop {
            let answer = tokio::task::spawn_blocking(move || get(api, path)).await.unwrap();
            if holds(&answer) {
                return;
            }
            assert!(began.elapsed() < patience, "{path} stays {answer:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn get(api: SocketAddr, path: &str) -> serde_json::Value {
    let mut stream = TcpStream::connect(api).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {head}"))
}

/// Puts a whole file into the folder.
pub fn write(folder: &Path, name: &str, text: &str) {
    let temporary = folder.join(".new");
    std::fs::write(&temporary, text).unwrap();
    std::fs::rename(temporary, folder.join(name)).unwrap();
}
