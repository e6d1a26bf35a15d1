//! A network namespace with a mount namespace beside it, held by their descriptors.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::process::{Gid, Signal, Uid, set_parent_process_death_signal};
use rustix::thread::{
    LinkNameSpaceType, UnshareFlags, move_into_link_name_space, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::error::doing;
use crate::privilege::unshare;
use crate::{LabError, Process};

/// A network namespace of our own, with its own view of the file tree (for `/etc/hosts`).
#[derive(Debug)]
pub struct Namespace {
    name: String,
    network: OwnedFd,
    mounts: OwnedFd,
}

impl Namespace {
    /// Makes one. Each pair of `instead` is a file or folder and the path whose place it takes inside.
    ///
    /// # Errors
    /// The kernel does not allow it, or one of the paths does not exist.
    pub fn new(name: &str, instead: &[(&Path, &str)]) -> Result<Self, LabError> {
        let made = std::thread::scope(|scope| scope.spawn(|| leave(instead)).join());
        let (network, mounts) = made
            .unwrap_or_else(|_| Err(io::Error::other("the thread that makes it ended")))
            .map_err(doing(format!("making the network namespace of {name}")))?;
        Ok(Self { name: name.to_owned(), network, mounts })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path by which other processes of this user reach the network namespace while we run.
    #[must_use]
    pub fn network_path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.network.as_raw_fd())
    }

    /// As [`Namespace::network_path`], for the mount namespace.
    #[must_use]
    pub fn mounts_path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.mounts.as_raw_fd())
    }

    /// Starts a program inside. The kernel kills it when the calling thread ends, so call this from one that lives as
    /// long as the laboratory.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, name: &str, command: &mut Command) -> Result<Process, LabError> {
        self.inside(command, None);
        Process::spawn(name, command)
    }

    /// As [`Namespace::spawn`], as another user, whose group has the same number.
    ///
    /// # Errors
    /// As [`Namespace::spawn`]; also when we are not root, or the user namespace does not know that user.
    pub fn spawn_as(&self, user: u32, name: &str, command: &mut Command) -> Result<Process, LabError> {
        self.inside(command, Some(user));
        Process::spawn(name, command)
    }

    /// Runs a program inside to its end; gives its standard output.
    ///
    /// # Errors
    /// It cannot be started, or says that it failed.
    pub fn run(&self, command: &mut Command) -> Result<String, LabError> {
        self.inside(command, None);
        crate::process::output(command)
    }

    /// Runs a function inside, in a thread of its own.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    ///
    /// # Panics
    /// The function panics.
    pub fn enter<T: Send>(&self, function: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let inside = || {
            unshare(UnshareFlags::FS)?;
            join(&self.network, &self.mounts)?;
            Ok(function())
        };
        let result: io::Result<T> =
            std::thread::scope(|scope| scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        result.map_err(doing(format!("entering the namespace of {}", self.name)))
    }

    /// Makes the command run inside, and end when we end.
    #[allow(unsafe_code)]
    pub(crate) fn inside(&self, command: &mut Command, user: Option<u32>) {
        // Descriptors are copied into the child by fork and closed by exec, so the child uses ours by number.
        let (network, mounts) = (self.network.as_raw_fd(), self.mounts.as_raw_fd());
        let parent = std::process::id();
        let prepare = move || {
            // SAFETY: both descriptors are open: `self` outlives the call to spawn, in which this runs after fork.
            let (network, mounts) =
                unsafe { (std::os::fd::BorrowedFd::borrow_raw(network), std::os::fd::BorrowedFd::borrow_raw(mounts)) };
            join(&network, &mounts)?;
            if let Some(user) = user {
                become_user(user)?;
            }
            // Last: the kernel forgets it when the user changes.
            end_with(parent)
        };
        // SAFETY: between fork and exec only system calls are made; nothing allocates or locks.
        unsafe { command.pre_exec(prepare) };
    }
}

/// In the child: the kernel kills it when the thread that started it ends.
pub(crate) fn end_with(parent: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have ended before the line above.
    let alive = rustix::process::getppid().is_some_and(|pid| pid.as_raw_nonzero().get().unsigned_abs() == parent);
    if alive { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn become_user(user: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    Ok(set_thread_res_uid(uid, uid, uid)?)
}

fn join(network: &impl AsFd, mounts: &impl AsFd) -> io::Result<()> {
    // Mounts first: entering them needs rights that do not depend on the network.
    move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

fn leave(instead: &[(&Path, &str)]) -> io::Result<(OwnedFd, OwnedFd)> {
    unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    for (source, place) in instead {
        mount_bind(*source, *place)?;
    }
    Ok((File::open("/proc/thread-self/ns/net")?.into(), File::open("/proc/thread-self/ns/mnt")?.into()))
}
