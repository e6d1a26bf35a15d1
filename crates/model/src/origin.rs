//! Where a thing was written: file, line and column, for every field of an object.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A position in an input. Lines and columns count from 1; line 0 means "not from a text" (Kubernetes, API).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named on the command line, or found below a named folder; `-` for standard input.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Place {
    /// The place of objects that no text holds.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { file: Arc::from(""), line: 0, column: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { f.write_str(&self.file) } else { write!(f, "{}:{}:{}", self.file, self.line, self.column) }
    }
}

/// The places of an object's fields, by field path (`spec/trafficPolicy/tls/mode`, `spec/subsets[0]/name`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    file: Arc<str>,
    start: (u32, u32),
    fields: BTreeMap<Box<str>, (u32, u32)>,
}

impl Places {
    /// An object that starts at `start` (line, column) of `file`, with no fields recorded yet.
    #[must_use]
    pub fn new(file: Arc<str>, start: (u32, u32)) -> Self {
        Self { file, start, fields: BTreeMap::new() }
    }

    /// Remembers where the field at `path` stands.
    pub fn insert(&mut self, path: impl Into<Box<str>>, at: (u32, u32)) {
        self.fields.insert(path.into(), at);
    }

    /// The place of `path`, else of its nearest recorded parent, else of the object.
    #[must_use]
    pub fn of(&self, path: &str) -> Place {
        let (line, column) = self.nearest(path);
        Place { file: Arc::clone(&self.file), line, column }
    }

    /// Whether the field at `path` was written.
    #[must_use]
    pub fn holds(&self, path: &str) -> bool {
        self.fields.contains_key(path)
    }

    /// The place where the object starts.
    #[must_use]
    pub fn start(&self) -> Place {
        Place { file: Arc::clone(&self.file), line: self.start.0, column: self.start.1 }
    }

    fn nearest(&self, path: &str) -> (u32, u32) {
        let mut path = path;
        loop {
            if let Some(at) = self.fields.get(path) {
                return *at;
            }
            let Some(cut) = path.rfind(['/', '[']) else { return self.start };
            path = &path[..cut];
        }
    }
}

impl Default for Places {
    fn default() -> Self {
        Self::new(Arc::from(""), (0, 0))
    }
}
