//! Content that was in force, kept in the state folder: a restart over an invalid folder goes on with the last one, and a
//! restart in the middle of changes knows what receivers accept and senders follow.

use std::sync::Arc;

use super::content::Content;
use crate::state::{PRIVATE, StateDir, StateError};

const FOLDER: &str = "kept";

/// What is remembered of one content, by its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It came into force last.
    Last,
    /// It is the folder's, and was given up: a restart does not take it up again.
    GivenUp,
}

impl Mark {
    fn file(self) -> &'static str {
        match self {
            Self::Last => "last-good.json",
            Self::GivenUp => "given-up.json",
        }
    }
}

/// The kept contents.
#[derive(Debug)]
pub struct KeptContents {
    state: Arc<StateDir>,
}

impl KeptContents {
    /// The kept contents of this state folder.
    #[must_use]
    pub fn new(state: Arc<StateDir>) -> Self {
        Self { state }
    }

    /// Keeps `content`.
    ///
    /// # Errors
    /// The state folder cannot be written.
    pub fn keep(&self, content: &Content) -> Result<(), StateError> {
        self.state.create_dir(FOLDER)?;
        let text = serde_json::to_vec(content).expect("a list of strings has a JSON form");
        self.state.write(&file(&content.digest()), &text, PRIVATE)
    }

    /// The content with that digest, if it is kept.
    ///
    /// # Errors
    /// It is kept and cannot be read.
    pub fn load(&self, digest: &str) -> Result<Option<Content>, StateError> {
        self.json(&file(digest))
    }

    /// All that are kept; what cannot be read is logged and left out.
    #[must_use]
    pub fn all(&self) -> Vec<Content> {
        let load = |digest: String| {
            self.load(&digest).unwrap_or_else(|error| {
                tracing::error!(%error, "what was in force before is lost");
                None
            })
        };
        self.digests().into_iter().filter_map(load).collect()
    }

    /// Forgets all but those with one of these digests.
    ///
    /// # Errors
    /// The state folder cannot be written.
    pub fn retain(&self, digests: &[String]) -> Result<(), StateError> {
        let mut gone = self.digests().into_iter().filter(|digest| !digests.contains(digest));
        gone.try_for_each(|digest| self.state.remove(&file(&digest)))
    }

    /// Marks the content with that digest, and no other.
    ///
    /// # Errors
    /// The state folder cannot be written.
    pub fn mark(&self, mark: Mark, digest: &str) -> Result<(), StateError> {
        let text = serde_json::to_vec(digest).expect("a string has a JSON form");
        self.state.write(mark.file(), &text, PRIVATE)
    }

    /// No content has this mark any more.
    ///
    /// # Errors
    /// The state folder cannot be written.
    pub fn unmark(&self, mark: Mark) -> Result<(), StateError> {
        self.state.remove(mark.file())
    }

    /// The digest of the content that has this mark.
    ///
    /// # Errors
    /// The mark cannot be read.
    pub fn marked(&self, mark: Mark) -> Result<Option<String>, StateError> {
        self.json(mark.file())
    }

    /// The digest of the content that is recorded as in force, or coming into force.
    #[must_use]
    pub fn in_force(&self) -> Option<String> {
        crate::world::in_force(&self.state).unwrap_or_else(|error| {
            tracing::error!(%error, "what was in force before is lost");
            None
        })
    }

    fn digests(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.state.join(FOLDER)) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut digests: Vec<String> = names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
        digests.sort();
        digests
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let Some(text) = self.state.read(name)? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|error| StateError {
            path: self.state.join(name),
            action: "read",
            source: std::io::Error::other(error),
        })
    }
}

fn file(digest: &str) -> String {
    format!("{FOLDER}/{digest}.json")
}
