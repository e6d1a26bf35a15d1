//! From files and texts to a [`Mesh`]: YAML, typed objects, and everything that is wrong with them.
//!
//! [`Inputs`] holds the texts. [`Inputs::load`] parses them ([`parse`], [`tree`]), recognises objects ([`kinds`], [`object`]),
//! checks the Istio kinds against their schemas ([`schema`]) and against Istio's own rules ([`rules`]), and makes typed
//! objects of them ([`convert`]). A text that is no YAML is an [`InputError`]; everything else that is wrong is a
//! [`Diagnostic`] with its place.

mod certificates;
mod collect;
mod convert;
pub mod expectations;
mod files;
mod kinds;
mod manifest;
mod mesh_config;
mod object;
mod parse;
mod piece;
mod report;
mod rules;
mod schema;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

pub use self::piece::Piece;
use crate::diagnostic::printable;
use crate::{Diagnostic, Mesh, Place, Severity};

pub use manifest::{Document, manifest_file, manifests};

/// Why an input cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file, folder or standard input that cannot be read.
    #[error("{path}: {error}", path = path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A text that is not UTF-8, no YAML, holds a key twice, or is larger or deeper than is sensible.
    #[error("{place}: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong.
        message: String,
    },
}

/// The texts to be read.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    texts: Vec<Text>,
}

/// A text and its name.
#[derive(Clone, Debug)]
struct Text {
    name: Arc<str>,
    bytes: Vec<u8>,
    /// Where its lines begin, once somebody has asked for one.
    lines: OnceLock<Vec<usize>>,
}

impl Text {
    fn new((name, bytes): (Arc<str>, Vec<u8>)) -> Self {
        Self { name, bytes, lines: OnceLock::new() }
    }

    fn line(&self, number: usize) -> Option<&[u8]> {
        let starts = self.lines.get_or_init(|| {
            let breaks = self.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect()
        });
        let start = *starts.get(number.checked_sub(1)?)?;
        let end = starts.get(number).map_or(self.bytes.len(), |next| next - 1);
        self.bytes.get(start..end)
    }
}

/// What came of reading.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Everything that was understood. With an error among the diagnostics it may be incomplete.
    pub mesh: Mesh,
    /// What is wrong or worth knowing, by file, line and column.
    pub diagnostics: Vec<Diagnostic>,
    /// How many objects of known kinds were read.
    pub objects: usize,
    /// How many texts were read.
    pub texts: usize,
    /// The kinds that were passed over, as `group/Kind`, with their number.
    pub passed_over: std::collections::BTreeMap<String, usize>,
}

impl Loaded {
    /// What these objects are together. The same objects in another order make the same mesh.
    #[must_use]
    pub fn of<'p>(pieces: impl IntoIterator<Item = &'p Piece>) -> Self {
        let mut collection = collect::Collection::default();
        pieces.into_iter().for_each(|piece| collection.add_piece(piece));
        collection.finish(0)
    }

    /// The diagnostics that make the input invalid.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// The diagnostics of lesser weight that a user should see.
    pub fn warnings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Warning)
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.errors().next().is_none()
    }
}

impl Inputs {
    /// Reads files, folders (recursively: `.yaml`, `.yml`, `.json`; hidden entries are left out) and `-`, standard
    /// input. A file named twice is read once.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub fn from_paths<P: AsRef<Path>>(paths: &[P]) -> Result<Self, InputError> {
        Ok(Self { texts: files::read(paths)?.into_iter().map(Text::new).collect() })
    }

    /// Texts with the names that diagnostics call them by.
    #[must_use]
    pub fn from_texts<N: Into<String>, T: Into<String>>(texts: impl IntoIterator<Item = (N, T)>) -> Self {
        let texts = texts.into_iter().map(|(name, text)| (Arc::from(name.into()), text.into().into_bytes()));
        Self { texts: texts.map(Text::new).collect() }
    }

    /// One text that may be none: not UTF-8, or anything else.
    #[must_use]
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Self {
        Self { texts: vec![Text::new((Arc::from(name), bytes))] }
    }

    /// Adds the texts of others.
    pub fn extend(&mut self, others: Self) {
        self.texts.extend(others.texts);
    }

    /// The names and texts.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.texts.iter().map(|text| (&*text.name, text.bytes.as_slice()))
    }

    /// A line of a text, from 1, to be shown with a diagnostic; none that would speak to a terminal.
    #[must_use]
    pub fn line(&self, file: &str, line: u32) -> Option<&str> {
        let text = self.texts.iter().find(|text| &*text.name == file)?;
        let line = text.line(usize::try_from(line).ok()?)?;
        let line = std::str::from_utf8(line).ok()?.trim_end_matches('\r');
        (printable(line) == line).then_some(line)
    }

    /// Parses and checks everything.
    ///
    /// # Errors
    /// The first text that cannot be read as YAML.
    pub fn load(&self) -> Result<Loaded, InputError> {
        let mut collection = collect::Collection::default();
        for Text { name, bytes, .. } in &self.texts {
            for document in documents(name, bytes)? {
                collection.add(name, &document);
            }
        }
        Ok(collection.finish(self.texts.len()))
    }
}

fn documents(name: &Arc<str>, text: &[u8]) -> Result<Vec<tree::Node>, InputError> {
    let syntax = |(line, column), message| InputError::Syntax { place: Place { file: Arc::clone(name), line, column }, message };
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            // The text before it is UTF-8.
            let before = String::from_utf8_lossy(&text[..error.valid_up_to()]);
            let (line, column) =
                (before.matches('\n').count() + 1, before.chars().rev().take_while(|one| *one != '\n').count() + 1);
            let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            let message = match text {
                [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "this is UTF-16; Kubernetes reads UTF-8".to_owned(),
                _ => format!("this is not UTF-8 text: it holds the byte 0x{:02x}", text[error.valid_up_to()]),
            };
            return Err(syntax((bounded(line), bounded(column)), message));
        }
    };
    parse::documents(text).map_err(|error| syntax(error.at, printable(&error.message).into_owned()))
}

#[cfg(test)]
mod tests;
