//! Running `nft`, `iptables` and `ip`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why the capture rules could not be applied, checked or removed.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// No tool for packet rules is installed.
    #[error("neither nft nor iptables is installed: apt-get install -y nftables")]
    NoTool,
    /// The tool asked for is not installed.
    #[error("{tool} is not installed: apt-get install -y {package}")]
    Missing {
        /// The command.
        tool: &'static str,
        /// The Debian package that holds it.
        package: &'static str,
    },
    /// The caller may not change this network namespace.
    #[error(
        "no permission to change the packet rules of this network namespace: run as root, or with CAP_NET_ADMIN in it ({tool})"
    )]
    NotPermitted {
        /// The command that was refused.
        tool: &'static str,
    },
    /// The kernel or the tool refused.
    #[error("{tool} failed: {message}")]
    Failed {
        /// The command.
        tool: &'static str,
        /// Its own words.
        message: String,
    },
    /// The tool could not be started.
    #[error("{tool} could not be run")]
    Run {
        /// The command.
        tool: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Where a command stands: in `PATH` or in the folders that a plain user's `PATH` often lacks.
pub(super) fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(tool)).find(|candidate| candidate.is_file())
}

/// Runs a command with text on its standard input; gives its standard output.
pub(super) fn run(tool: &'static str, arguments: &[&str], input: &str) -> Result<String, RedirectError> {
    let program = find(tool).ok_or(RedirectError::Missing { tool, package: package(tool) })?;
    run_at(tool, &program, arguments, input).map_err(|source| RedirectError::Run { tool, source })?
}

fn run_at(tool: &'static str, program: &Path, arguments: &[&str], input: &str) -> std::io::Result<Result<String, RedirectError>> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(Ok(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if ["Operation not permitted", "Permission denied", "must be root"].iter().any(|words| message.contains(words)) {
        return Ok(Err(RedirectError::NotPermitted { tool }));
    }
    Ok(Err(RedirectError::Failed { tool, message }))
}

fn package(tool: &str) -> &'static str {
    match tool {
        "nft" => "nftables",
        "ip" | "ss" => "iproute2",
        _ => "iptables",
    }
}
