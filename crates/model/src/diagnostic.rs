//! What is wrong with an input: errors as data, with object, field path and place.

use std::borrow::Cow;

use serde::Serialize;

use crate::{ObjectRef, Place};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Accepted, but probably not what was meant.
    Warning,
    /// Refused, or certain to fail.
    Error,
}

/// One thing that is wrong with one field of one object, or (without an object) with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The object, when the text was read far enough to know it.
    pub object: Option<ObjectRef>,
    /// The field path within the object (`spec/portLevelMtls/8080/mode`), empty for the whole object.
    pub path: String,
    /// Where it stands.
    pub place: Place,
    /// What was found, and what is allowed.
    pub message: String,
}

/// A text of the input, fit for a terminal: without control characters, which would speak to it, and without marks that
/// turn the direction of what follows.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let harmful = |one: char| {
        one.is_control() && !matches!(one, '\n' | '\t') || matches!(one, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(harmful) { Cow::Owned(text.replace(harmful, "\u{fffd}")) } else { Cow::Borrowed(text) }
}
