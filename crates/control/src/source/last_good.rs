//! Content that was in force, kept in the state folder: a restart over an invalid folder goes on with the last one, and a
//! restart in the middle of a change knows where it came from.

use std::sync::Arc;

use super::content::Content;
use crate::state::{PRIVATE, StateDir, StateError};

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The content that came into force last.
    Last,
    /// The content that was in force at both ends of every connection last.
    Completed,
}

impl Kept {
    fn file(self) -> &'static str {
        match self {
            Self::Last => "last-good.json",
            Self::Completed => "completed.json",
        }
    }
}

/// The kept contents.
#[derive(Debug)]
pub struct LastGood {
    state: Arc<StateDir>,
}

impl LastGood {
    /// The kept contents of this state folder.
    #[must_use]
    pub fn new(state: Arc<StateDir>) -> Self {
        Self { state }
    }

    /// Keeps `content` as the last that came into force.
    ///
    /// # Errors
    /// The state folder cannot be written.
    pub fn keep(&self, content: &Content) -> Result<(), StateError> {
        let text = serde_json::to_vec(content).expect("a list of strings has a JSON form");
        self.state.write(Kept::Last.file(), &text, PRIVATE)
    }

    /// What came into force last is in force at both ends now.
    ///
    /// # Errors
    /// The state folder cannot be read or written.
    pub fn completed(&self) -> Result<(), StateError> {
        match self.state.read(Kept::Last.file())? {
            Some(text) => self.state.write(Kept::Completed.file(), &text, PRIVATE),
            None => Ok(()),
        }
    }

    /// The content that was kept, if any.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn load(&self, kept: Kept) -> Result<Option<Content>, StateError> {
        let Some(text) = self.state.read(kept.file())? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|error| StateError {
            path: self.state.join(kept.file()),
            action: "read",
            source: std::io::Error::other(error),
        })
    }
}
