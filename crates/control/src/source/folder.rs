//! A folder of YAML as the source of a standalone mesh.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mutua_model::read::Inputs;
use mutua_model::{Diagnostic, Severity};

use super::content::Content;
use super::last_good::{Kept, LastGood};
use super::watch::Watch;
use super::{Reading, Rejected, Source};
use crate::state::StateDir;
use crate::world::Before;

/// What a folder's control plane begins with.
pub struct First {
    /// What to put into force.
    pub reading: Reading,
    /// Why that is not the folder's content.
    pub rejected: Option<Rejected>,
    /// What was in force before.
    pub before: Before,
}

/// A watched folder.
pub struct FolderSource {
    root: PathBuf,
    watch: Watch,
    last_good: LastGood,
    /// The content that was read last, when it could be read.
    content: Option<Content>,
    /// The digest of the reading that was given out last.
    given: Option<String>,
    /// Whether there may be something newer than what was given out.
    stale: bool,
}

impl FolderSource {
    /// Watches `root`; what is in force is kept in the state folder.
    #[must_use]
    pub fn new(root: &Path, state: Arc<StateDir>) -> Self {
        Self {
            root: root.to_owned(),
            watch: Watch::new(root),
            last_good: LastGood::new(state),
            content: None,
            given: None,
            stale: true,
        }
    }

    /// The reading to begin with: the folder's, or, when that is invalid, the last that was in force.
    ///
    /// # Errors
    /// The folder is invalid, and nothing was ever in force on this state folder.
    pub async fn first(&mut self) -> Result<First, Rejected> {
        let before = Before { last: self.kept(Kept::Last), completed: self.kept(Kept::Completed) };
        let reading = self.next().await;
        match (reading.mesh.as_ref().err().cloned(), before.last.clone()) {
            (None, _) => Ok(First { reading, rejected: None, before }),
            (rejected, Some(last)) if last.mesh.is_ok() => Ok(First { reading: last, rejected, before }),
            (Some(rejected), _) => Err(rejected),
        }
    }

    fn kept(&self, kept: Kept) -> Option<Reading> {
        let content = self.last_good.load(kept).unwrap_or_else(|error| {
            tracing::error!(%error, "what was in force before is lost");
            None
        });
        content.as_ref().map(parse)
    }

    async fn read(&mut self) -> Reading {
        let root = self.root.clone();
        let read = tokio::task::spawn_blocking(move || {
            let content = Content::read(&root);
            let reading = match &content {
                Ok(content) => parse(content),
                Err(error) => unreadable(&error.to_string()),
            };
            (content.ok(), reading)
        });
        match read.await {
            Ok((content, reading)) => {
                self.content = content;
                reading
            }
            Err(error) => unreadable(&format!("the configuration could not be read: {error}")),
        }
    }
}

impl Source for FolderSource {
    fn name(&self) -> String {
        format!("folder {}", self.root.display())
    }

    async fn next(&mut self) -> Reading {
        loop {
            if !self.stale {
                self.watch.changed().await;
                // Remembered, so that nothing is lost when the caller stops waiting during the reading.
                self.stale = true;
            }
            let reading = self.read().await;
            self.stale = false;
            if self.given.as_ref() != Some(&reading.digest) {
                self.given = Some(reading.digest.clone());
                return reading;
            }
        }
    }

    fn in_force(&mut self, reading: &Reading) {
        let Some(content) = self.content.as_ref().filter(|content| content.digest() == reading.digest) else { return };
        if let Err(error) = self.last_good.keep(content) {
            tracing::error!(%error, "a restart over an invalid folder would not find the configuration in force now");
        }
    }

    fn completed(&mut self) {
        if let Err(error) = self.last_good.completed() {
            tracing::error!(%error, "a restart during the next change would not find where it came from");
        }
    }
}

fn unreadable(why: &str) -> Reading {
    let rejected = Rejected { summary: why.to_owned(), errors: Vec::new() };
    Reading { mesh: Err(rejected), digest: format!("unreadable: {why}"), warnings: Vec::new() }
}

/// Reads the texts. What is invalid anywhere keeps all of it from coming into force.
fn parse(content: &Content) -> Reading {
    let texts = content.files.iter().map(|file| (file.path.clone(), file.text.clone()));
    let loaded = match Inputs::from_texts(texts).load() {
        Ok(loaded) => loaded,
        Err(error) => return Reading { digest: content.digest(), ..unreadable(&error.to_string()) },
    };
    let (errors, rest): (Vec<Diagnostic>, Vec<Diagnostic>) =
        loaded.diagnostics.into_iter().partition(|diagnostic| diagnostic.severity == Severity::Error);
    let mesh = match errors.first() {
        None => Ok(Arc::new(loaded.mesh)),
        Some(first) => Err(Rejected { summary: summary(first, errors.len()), errors }),
    };
    let warnings = rest.into_iter().filter(|diagnostic| diagnostic.severity == Severity::Warning).collect();
    Reading { mesh, digest: content.digest(), warnings }
}

fn summary(first: &Diagnostic, count: usize) -> String {
    let object = first.object.as_ref().map(|object| format!("{object}: ")).unwrap_or_default();
    let path = if first.path.is_empty() { String::new() } else { format!("{}: ", first.path) };
    let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
    format!("{}: {object}{path}{}{more}", first.place, first.message)
}
