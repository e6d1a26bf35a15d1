//! Who leads, by a lock on a file of the state folder: of two control planes on one folder the second waits.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Leader, LeaderError, Lease};
use crate::state::StateDir;

const FILE: &str = "leader.lock";
/// How often the lock is tried again.
const RETRY: Duration = Duration::from_millis(300);

/// Leads by holding a file lock, which the operating system releases when its holder ends, however it ends.
#[derive(Debug)]
pub struct FileLeader {
    path: PathBuf,
}

/// The held lock.
#[derive(Debug)]
pub struct FileLease {
    _file: File,
}

impl FileLeader {
    /// The lock of this state folder.
    #[must_use]
    pub fn new(state: &StateDir) -> Self {
        Self { path: state.join(FILE) }
    }

    fn failed(&self, source: std::io::Error) -> LeaderError {
        LeaderError { what: format!("the lock file {}", self.path.display()), source: source.into() }
    }
}

impl Leader for FileLeader {
    type Lease = FileLease;

    fn place(&self) -> String {
        let folder = self.path.parent().unwrap_or(&self.path);
        format!("on this state folder, {}", folder.display())
    }

    async fn lead(&self, waiting: impl Fn(&str) + Send) -> Result<FileLease, LeaderError> {
        let mut file = open(&self.path).map_err(|source| self.failed(source))?;
        let mut told = false;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => return Err(self.failed(error.into())),
            }
            if !told {
                waiting(&holder(&mut file));
                told = true;
            }
            tokio::time::sleep(RETRY).await;
        }
        note_holder(&mut file).map_err(|source| self.failed(source))?;
        Ok(FileLease { _file: file })
    }
}

impl Lease for FileLease {
    async fn lost(&mut self) -> LeaderError {
        // The operating system takes no lock away.
        std::future::pending().await
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => format!("process {}", text.trim()),
        _ => "another process".to_owned(),
    }
}

fn note_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn the_second_waits_until_the_first_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(folder.path()).expect("opened");
        let first = FileLeader::new(&state).lead(|_| panic!("nobody else leads")).await.expect("leads");
        let told = Arc::new(AtomicUsize::new(0));
        let (leader, count) = (FileLeader::new(&state), Arc::clone(&told));
        let own = format!("process {}", std::process::id());
        let second = tokio::spawn(async move {
            leader
                .lead(move |who| {
                    assert_eq!(who, own);
                    count.fetch_add(1, Ordering::SeqCst);
                })
                .await
        });
        tokio::time::sleep(RETRY * 3).await;
        assert!(!second.is_finished());
        assert_eq!(told.load(Ordering::SeqCst), 1, "told once");
        drop(first);
        second.await.expect("no panic").expect("leads now");
    }
}
