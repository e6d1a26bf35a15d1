//! Root, or a user namespace of our own in which we are root.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::thread::UnshareFlags;

use crate::LabError;
use crate::error::doing;

/// How this process may make network namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// It is root with all it takes.
    Root,
    /// It stands in a user namespace of its own, where only one uid exists.
    UserNamespace,
}

/// Gains what it takes to make network namespaces. Must be called before the process has a second thread: a process with
/// several cannot enter a user namespace.
///
/// # Errors
/// Neither works on this machine for this user.
pub fn gain() -> Result<Privilege, LabError> {
    if may_make_namespaces() {
        return Ok(Privilege::Root);
    }
    enter_user_namespace()?;
    Ok(Privilege::UserNamespace)
}

/// Whether this process is in a user namespace that maps one uid only.
#[must_use]
pub fn has_one_uid() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut words = map.split_whitespace();
    map.lines().count() == 1 && words.nth(2) == Some("1")
}

/// Whether this process may make network namespaces as it is: tried in a thread, and gone with it.
#[must_use]
pub fn may_make_namespaces() -> bool {
    rustix::process::geteuid().is_root()
        && std::thread::spawn(|| unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS).is_ok()).join().unwrap_or(false)
}

fn enter_user_namespace() -> Result<(), LabError> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let refused = |error: rustix::io::Errno| LabError::NoNamespaces { why: error.to_string() };
    unshare(UnshareFlags::NEWUSER).map_err(refused)?;
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", &format!("0 {gid} 1"))?;
    // Some systems give the namespace but none of its rights.
    if may_make_namespaces() { Ok(()) } else { Err(refused(rustix::io::Errno::PERM)) }
}

fn write(path: &str, text: &str) -> Result<(), LabError> {
    fs::write(path, text).map_err(doing(format!("writing {path}")))
}

/// Leaves the shared namespaces behind, for the calling thread alone.
#[allow(unsafe_code)]
pub(crate) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    assert!(!flags.contains(UnshareFlags::FILES), "descriptors stay shared between threads");
    // SAFETY: only unsharing the table of descriptors can break the assumptions of other threads.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Where a command stands: in `PATH`, or in the folders that a plain user's `PATH` often lacks.
#[must_use]
pub fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(tool)).find(|candidate| candidate.is_file())
}

/// Sees to it that `ip` and `nft` are there: installed with apt-get by root, else named with the line that installs them.
///
/// # Errors
/// A command is missing and cannot be installed.
pub fn ensure_tools() -> Result<(), LabError> {
    let needs = [("ip", "iproute2"), ("nft", "nftables")];
    let missing: Vec<_> = needs.into_iter().filter(|(tool, _)| find(tool).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    if rustix::process::geteuid().is_root() && Path::new("/usr/bin/apt-get").exists() {
        install(&packages)?;
    }
    match missing.into_iter().find(|(tool, _)| find(tool).is_none()) {
        None => Ok(()),
        Some((tool, _)) => {
            Err(LabError::Missing { tool: tool.to_owned(), remedy: format!("sudo apt-get install -y {}", packages.join(" ")) })
        }
    }
}

fn install(packages: &[&str]) -> Result<(), LabError> {
    for arguments in [&["update", "-qq"][..], &[&["install", "-y", "-qq", "--no-install-recommends"][..], packages].concat()] {
        let status = std::process::Command::new("/usr/bin/apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(std::process::Stdio::null())
            .status()
            .map_err(doing("running apt-get"))?;
        if !status.success() {
            let message = format!("{status}");
            return Err(LabError::Command { command: format!("apt-get {}", arguments.join(" ")), message });
        }
    }
    Ok(())
}
