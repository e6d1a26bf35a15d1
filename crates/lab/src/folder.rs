//! The folder of one run. What a killed run left is recognised by its lock, which the kernel released, and removed.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::LabError;
use crate::error::doing;

/// A folder that only we can read, removed when dropped, or by the next run when we are killed.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    /// Held as long as we live.
    _lock: File,
}

const LOCK: &str = "lock";

impl StateFolder {
    /// Removes what earlier runs left under `base`, and makes a fresh folder whose name begins with `prefix`.
    ///
    /// # Errors
    /// `base` cannot be written.
    pub fn new(base: &Path, prefix: &str) -> Result<Self, LabError> {
        Self::remove_stale(base, prefix);
        let folder = tempfile::Builder::new().prefix(prefix).permissions(fs::Permissions::from_mode(0o700)).tempdir_in(base);
        let path = folder.map_err(doing(format!("making a folder in {}", base.display())))?.keep();
        let lock = OpenOptions::new().create(true).truncate(true).write(true).open(path.join(LOCK));
        let lock = lock.map_err(doing(format!("writing in {}", path.display())))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(doing(format!("locking {}", path.display())))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes folders of this user whose run has ended without doing so.
    fn remove_stale(base: &Path, prefix: &str) {
        let Ok(entries) = fs::read_dir(base) else { return };
        for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)) {
            let path = entry.path();
            let ours =
                fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw());
            if ours && is_stale(&path) {
                // Another run may be removing it at the same time.
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

fn is_stale(path: &Path) -> bool {
    match File::open(path.join(LOCK)) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        // Made a moment ago by a run that has not locked it yet, or broken; age tells.
        Err(_) => {
            let made = fs::metadata(path).and_then(|meta| meta.modified()).ok();
            made.and_then(|made| made.elapsed().ok()).is_some_and(|age| age.as_secs() > 60)
        }
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        // The next run removes what could not be removed now.
        let _ = fs::remove_dir_all(&self.path);
    }
}
