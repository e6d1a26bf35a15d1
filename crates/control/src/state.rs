//! The folder under `--state`: everything that must survive a restart, written so that a crash or a full disk
//! leaves the old content whole.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A private file: only the owner reads and writes.
pub const PRIVATE: u32 = 0o600;
/// A file that anybody may read, such as the root certificate.
pub const PUBLIC: u32 = 0o644;

/// Why the state folder could not be used.
#[derive(Debug, thiserror::Error)]
#[error("state folder: {} cannot be {action}: {source}", path.display())]
pub struct StateError {
    /// The file or folder concerned.
    pub path: PathBuf,
    /// What was tried (`read`, `written`, `created`, `removed`).
    pub action: &'static str,
    /// The operating system's answer.
    pub source: io::Error,
}

/// The state folder of one control plane.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
    temporary: AtomicU64,
}

impl StateDir {
    /// Opens the folder, creating it with mode 0700 when it does not exist, and proves that it can be written.
    ///
    /// # Errors
    /// The folder cannot be created or written.
    pub fn open(root: &Path) -> Result<Self, StateError> {
        create_private(root)?;
        let state = Self { root: root.to_owned(), temporary: AtomicU64::new(0) };
        state.write(".probe", b"", PRIVATE)?;
        state.remove(".probe")?;
        Ok(state)
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The path of a file or folder below it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Creates a folder below it, mode 0700, unless it exists.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create_dir(&self, name: &str) -> Result<PathBuf, StateError> {
        let path = self.root.join(name);
        create_private(&path)?;
        Ok(path)
    }

    /// Replaces the file `name` in one step: whoever reads it sees the old or the new content, and the new content is
    /// on the disk when this returns.
    ///
    /// # Errors
    /// It cannot be written (a full disk, a missing permission); the old content is untouched then.
    pub fn write(&self, name: &str, content: &[u8], mode: u32) -> Result<(), StateError> {
        let path = self.root.join(name);
        let serial = self.temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.root.join(format!(".write-{}-{serial}", std::process::id()));
        let written = write_file(&temporary, content, mode).and_then(|()| std::fs::rename(&temporary, &path));
        written.map_err(|source| {
            // A half-written temporary file is of no use; that it may stay behind on a broken disk changes nothing.
            let _ = std::fs::remove_file(&temporary);
            StateError { path, action: "written", source }
        })
    }

    /// The content of the file `name`, or `None` when there is no such file.
    ///
    /// # Errors
    /// It exists and cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.root.join(name);
        match std::fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError { path, action: "read", source }),
        }
    }

    /// Removes the file `name`, if it exists.
    ///
    /// # Errors
    /// It exists and cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.root.join(name);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StateError { path, action: "removed", source }),
            _ => Ok(()),
        }
    }
}

fn create_private(path: &Path) -> Result<(), StateError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| StateError {
        path: path.to_owned(),
        action: "created",
        source,
    })
}

fn write_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    // The umask may have taken bits away that the caller asked for.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_replace_whole_files_with_their_mode() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(&folder.path().join("new/state")).expect("created");
        state.write("a", b"one", PRIVATE).expect("written");
        state.write("a", b"two", PUBLIC).expect("written");
        assert_eq!(state.read("a").expect("readable").as_deref(), Some(b"two".as_slice()));
        assert_eq!(std::fs::metadata(state.join("a")).expect("there").permissions().mode() & 0o777, PUBLIC);
        assert_eq!(std::fs::metadata(state.path()).expect("there").permissions().mode() & 0o777, 0o700);
        let left: Vec<_> = std::fs::read_dir(state.path()).expect("readable").collect();
        assert_eq!(left.len(), 1, "no temporary file stays behind: {left:?}");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, b"").expect("written");
        let error = StateDir::open(&path).expect_err("a file is no folder");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }

    #[test]
    fn a_failed_write_keeps_the_old_content() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(folder.path()).expect("opened");
        std::fs::create_dir_all(state.join("kept/inside")).expect("a folder where the file should go");
        state.write("kept", b"new", PRIVATE).expect_err("a folder is in the way");
        assert!(state.join("kept/inside").is_dir());
        let left: Vec<_> = std::fs::read_dir(state.path()).expect("readable").collect();
        assert_eq!(left.len(), 1, "no temporary file stays behind: {left:?}");
    }
}
