//! Where checks write what they find about one object.

use std::sync::Arc;

use super::tree::At;
use crate::diagnostic::printable;
use crate::{Diagnostic, ObjectRef, Place, Severity};

/// How many diagnostics one object may get; a text of nothing but mistakes is not answered with a book.
const MAX_PER_OBJECT: usize = 100;

/// The diagnostics of one object.
pub struct Report {
    file: Arc<str>,
    object: Option<ObjectRef>,
    found: Vec<Diagnostic>,
}

impl Report {
    /// For an object, or for a text without one.
    #[must_use]
    pub fn new(file: &Arc<str>, object: Option<ObjectRef>) -> Self {
        Self { file: Arc::clone(file), object, found: Vec::new() }
    }

    /// The namespace of the object.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.object.as_ref().map_or("", |object| &object.namespace)
    }

    /// Something that makes the object invalid.
    pub fn error(&mut self, path: &str, at: At, message: impl Into<String>) {
        self.add(Severity::Error, path, at, &message.into());
    }

    /// Something that is accepted but probably not meant.
    pub fn warning(&mut self, path: &str, at: At, message: impl Into<String>) {
        self.add(Severity::Warning, path, at, &message.into());
    }

    /// Something worth knowing.
    pub fn info(&mut self, path: &str, at: At, message: impl Into<String>) {
        self.add(Severity::Info, path, at, &message.into());
    }

    /// Whether an error was reported at this path or below.
    #[must_use]
    pub fn has_error_at(&self, path: &str) -> bool {
        self.found.iter().any(|diagnostic| {
            let below = diagnostic.path.strip_prefix(path);
            diagnostic.severity == Severity::Error && below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '[']))
        })
    }

    /// Whether nothing more is taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.found.len() > MAX_PER_OBJECT
    }

    /// Everything that was reported.
    #[must_use]
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.found
    }

    /// Something of this severity.
    pub fn add(&mut self, severity: Severity, path: &str, (line, column): At, message: &str) {
        let (path, message) = match self.found.len() {
            0..MAX_PER_OBJECT => (printable(path).into_owned(), printable(message).into_owned()),
            MAX_PER_OBJECT => {
                (String::new(), format!("more than {MAX_PER_OBJECT} findings on this object; the rest is left out"))
            }
            _ => return,
        };
        let place = Place { file: Arc::clone(&self.file), line, column };
        self.found.push(Diagnostic { severity, object: self.object.clone(), path, place, message });
    }
}
