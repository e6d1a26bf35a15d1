//! Tells when a folder may have changed: by the operating system's notices, and by a look at the files' metadata
//! every second for what gives no notice (a replaced folder, a network file system, no watches left).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// How long a folder must have been quiet before it is read.
const QUIET: Duration = Duration::from_millis(100);
/// A folder that is never quiet is read after this time all the same.
const PATIENCE: Duration = Duration::from_millis(1000);
/// How often the metadata is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How deep folders are followed.
const MAX_DEPTH: usize = 32;
const WRITTEN: AccessKind = AccessKind::Close(AccessMode::Write);

/// A watched folder.
pub struct Watch {
    root: PathBuf,
    notices: mpsc::Receiver<()>,
    watcher: Option<RecommendedWatcher>,
    seen: u64,
}

impl Watch {
    /// Begins to watch `root`. When the operating system gives no notices, the metadata alone is looked at.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let (notify, notices) = mpsc::channel(1);
        let created = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own reading is no change.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(access) if access != WRITTEN)) {
                // A full channel means that a change is known already.
                let _ = notify.try_send(());
            }
        });
        let watcher = created
            .inspect_err(|error| tracing::warn!(%error, "no notices of file changes; the folder is looked at every second"))
            .ok();
        let mut watch = Self { root: root.to_owned(), notices, watcher, seen: 0 };
        watch.attach();
        watch.seen = fingerprint(&watch.root);
        watch
    }

    /// Waits until the folder has changed, or may have, and has been quiet for 100 ms (at most 1 s is waited for that).
    pub async fn changed(&mut self) {
        loop {
            tokio::select! {
                Some(()) = self.notices.recv() => break,
                () = tokio::time::sleep(LOOK) => {
                    let now = fingerprint(&self.root);
                    if now != self.seen {
                        break;
                    }
                }
            }
        }
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match tokio::time::timeout(QUIET, self.notices.recv()).await {
                Ok(Some(())) => {}
                Ok(None) | Err(_) => break,
            }
        }
        self.attach();
        self.seen = fingerprint(&self.root);
    }

    /// Watches whatever stands at the path now: the folder may be another one than before.
    fn attach(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        // Not watched (yet) is no fault: only the new watch matters.
        let _ = watcher.unwatch(&self.root);
        if let Err(error) = watcher.watch(&self.root, RecursiveMode::Recursive) {
            tracing::debug!(%error, "the folder cannot be watched; it is looked at every second");
        }
        while self.notices.try_recv().is_ok() {}
    }
}

fn fingerprint(root: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    add(root, 0, &mut hasher);
    hasher.finish()
}

fn add(path: &Path, depth: usize, hasher: &mut DefaultHasher) {
    path.hash(hasher);
    let Ok(metadata) = std::fs::metadata(path) else { return };
    (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.ctime_nsec(), metadata.size(), metadata.mode())
        .hash(hasher);
    if !metadata.is_dir() || depth >= MAX_DEPTH {
        return;
    }
    let Ok(listing) = std::fs::read_dir(path) else { return };
    let mut entries: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries.iter().for_each(|entry| add(entry, depth + 1, hasher));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    async fn notices(watch: &mut Watch) {
        tokio::time::timeout(SOON, watch.changed()).await.expect("the change is noticed");
    }

    #[tokio::test]
    async fn files_symlinks_and_replaced_folders_are_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("config");
        std::fs::create_dir(&root).expect("made");
        let mut watch = Watch::new(&root);
        std::fs::write(root.join("a.yaml"), "1").expect("written");
        notices(&mut watch).await;

        // As a mounted ConfigMap changes: a symlink is renamed over another one.
        for (version, text) in [("v1", "1"), ("v2", "2")] {
            std::fs::create_dir(root.join(version)).expect("made");
            std::fs::write(root.join(version).join("b.yaml"), text).expect("written");
        }
        std::os::unix::fs::symlink("v1", root.join("..data")).expect("linked");
        notices(&mut watch).await;
        std::os::unix::fs::symlink("v2", root.join("..new")).expect("linked");
        std::fs::rename(root.join("..new"), root.join("..data")).expect("renamed");
        notices(&mut watch).await;

        std::fs::rename(&root, folder.path().join("old")).expect("renamed");
        std::fs::create_dir(&root).expect("made anew");
        notices(&mut watch).await;
        std::fs::write(root.join("c.yaml"), "1").expect("written");
        notices(&mut watch).await;
    }

    #[tokio::test]
    async fn a_quiet_folder_says_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut watch = Watch::new(folder.path());
        tokio::time::timeout(LOOK * 3, watch.changed()).await.expect_err("nothing has changed");
    }
}
