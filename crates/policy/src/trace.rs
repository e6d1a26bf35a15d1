//! What decided, and where it stands.

use std::borrow::Cow;

use mutua_model::Meta;
use serde::{Deserialize, Serialize};

/// What a step had to do with the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The answer follows from it.
    #[default]
    Decided,
    /// It counts, but something narrower counts before it.
    Overridden,
    /// It was looked at and does not count.
    Unused,
}

/// One thing that took part in a decision, in the order of evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Step {
    /// The rule, stable for programs (`peer-authentication.namespace`).
    pub rule: Cow<'static, str>,
    /// The object (`PeerAuthentication bar/default`); empty when a default decided.
    pub object: String,
    /// The file it was written in; empty when there is none.
    pub file: String,
    /// The line of the field, from 1; 0 when there is none.
    pub line: u32,
    /// The column of the field, from 1; 0 when there is none.
    #[serde(default)]
    pub column: u32,
    /// What it had to do with the answer.
    #[serde(default)]
    pub verdict: Verdict,
    /// What follows from it.
    pub effect: String,
    /// Whether it comes from a file that is only assumed (`mutua explain --assume`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub assumed: bool,
}

impl Step {
    /// A step of which no object is the cause.
    pub(crate) fn of_default(rule: &'static str, effect: impl Into<String>) -> Self {
        Self {
            rule: rule.into(),
            object: String::new(),
            file: String::new(),
            line: 0,
            column: 0,
            verdict: Verdict::Decided,
            effect: effect.into(),
            assumed: false,
        }
    }

    /// A step caused by the field `path` of an object.
    pub(crate) fn of(rule: &'static str, meta: &Meta, path: &str, effect: impl Into<String>) -> Self {
        let place = meta.places.of(path);
        Self {
            object: meta.object.to_string(),
            file: place.file.to_string(),
            line: place.line,
            column: place.column,
            ..Self::of_default(rule, effect)
        }
    }

    /// The same, with another verdict.
    pub(crate) fn but(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }
}
