//! A folder of YAML as the source of a standalone mesh.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mutua_model::read::Inputs;
use mutua_model::{Diagnostic, Severity};

use super::content::Content;
use super::kept::{KeptContents, Mark};
use super::watch::Watch;
use super::{First, NoWayBack, Reading, Rejected, Source};
use crate::state::{StateDir, StateError};
use crate::world::Before;

/// A watched folder.
pub struct FolderSource {
    root: PathBuf,
    watch: Watch,
    kept: KeptContents,
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
            kept: KeptContents::new(state),
            content: None,
            given: None,
            stale: true,
        }
    }

    fn marked(&self, mark: Mark) -> Option<String> {
        self.kept.marked(mark).unwrap_or_else(|error| {
            tracing::error!(%error, "what was in force before is lost");
            None
        })
    }

    /// The folder's content, if a reading is of it.
    fn content_of(&self, reading: &Reading) -> Option<&Content> {
        self.content.as_ref().filter(|content| content.digest() == reading.digest)
    }

    fn mark_in_force(&self, digest: &str) -> Result<(), StateError> {
        self.kept.mark(Mark::Last, digest)?;
        self.kept.unmark(Mark::GivenUp)
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

    async fn first(&mut self) -> Result<First, Rejected> {
        let before = Before { readings: self.kept.all().iter().map(parse).collect() };
        let (in_force, marked) = (self.kept.in_force(), self.marked(Mark::Last));
        let kept = |digest: &String| before.readings.iter().find(|reading| reading.digest == *digest);
        let last = in_force.as_ref().and_then(kept).or_else(|| marked.as_ref().and_then(kept)).cloned();
        let reading = self.next().await;
        // What is in force was not given up, whatever is marked: the way back could not be begun.
        let given_up = self.marked(Mark::GivenUp).as_ref() == Some(&reading.digest) && in_force.as_ref() != Some(&reading.digest);
        let wrong = reading.mesh.as_ref().err().cloned().or_else(|| given_up.then(Rejected::given_up));
        match (wrong, last) {
            (None, _) => Ok(First { reading, rejected: None, before }),
            (rejected, Some(last)) if last.mesh.is_ok() => Ok(First { reading: last, rejected, before }),
            (Some(rejected), _) => Err(rejected),
        }
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

    fn keep(&mut self, reading: &Reading) {
        let Some(content) = self.content_of(reading) else { return };
        if let Err(error) = self.kept.keep(content) {
            tracing::error!(%error, "a restart would not find the configuration that comes into force now");
        }
    }

    fn in_force(&mut self, reading: &Reading) {
        if self.content_of(reading).is_none() {
            return;
        }
        if let Err(error) = self.mark_in_force(&reading.digest) {
            tracing::error!(%error, "a restart over an invalid folder would not find the configuration in force now");
        }
    }

    fn needed(&mut self, contents: &[String]) {
        let needed: Vec<String> = contents.iter().cloned().chain(self.marked(Mark::Last)).collect();
        if let Err(error) = self.kept.retain(&needed) {
            tracing::warn!(%error, "configuration that nobody needs any more is not removed");
        }
    }

    fn give_up(&mut self, back_to: &str) -> Result<Reading, NoWayBack> {
        let content = self.kept.load(back_to)?.ok_or(NoWayBack::Forgotten)?;
        if let Some(given) = &self.given {
            self.kept.mark(Mark::GivenUp, given)?;
        }
        Ok(parse(&content))
    }
}

fn unreadable(why: &str) -> Reading {
    let rejected = Rejected { summary: why.to_owned(), errors: Vec::new() };
    let digest = format!("unreadable: {why}");
    Reading { mesh: Err(rejected), content: digest.clone(), digest, warnings: Vec::new() }
}

/// Reads the texts. What is invalid anywhere keeps all of it from coming into force.
fn parse(content: &Content) -> Reading {
    let digest = content.digest();
    let texts = content.files.iter().map(|file| (file.path.clone(), file.text.clone()));
    let loaded = match Inputs::from_texts(texts).load() {
        Ok(loaded) => loaded,
        Err(error) => return Reading { content: digest.clone(), digest, ..unreadable(&error.to_string()) },
    };
    let (errors, rest): (Vec<Diagnostic>, Vec<Diagnostic>) =
        loaded.diagnostics.into_iter().partition(|diagnostic| diagnostic.severity == Severity::Error);
    let mesh = match errors.first() {
        None => Ok(Arc::new(loaded.mesh)),
        Some(first) => Err(Rejected { summary: summary(first, errors.len()), errors }),
    };
    let warnings = rest.into_iter().filter(|diagnostic| diagnostic.severity == Severity::Warning).collect();
    Reading { mesh, content: digest.clone(), digest, warnings }
}

fn summary(first: &Diagnostic, count: usize) -> String {
    let object = first.object.as_ref().map(|object| format!("{object}: ")).unwrap_or_default();
    let path = if first.path.is_empty() { String::new() } else { format!("{}: ", first.path) };
    let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
    format!("{}: {object}{path}{}{more}", first.place, first.message)
}
