//! Where configuration comes from, where status goes, and who may lead.
//!
//! [`Source`], [`Sink`] and [`Leader`] are what a platform gives the control plane: standalone these are a watched
//! [folder](folder::FolderSource), a [file](status::StatusFile) and a [file lock](leader::FileLeader).

pub mod content;
pub mod folder;
pub mod kept;
pub mod leader;
pub mod status;
pub mod watch;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use mutua_model::{Diagnostic, Mesh};

use crate::sign::accounts::AccountTokens;
use crate::world::Before;

/// One look at a source.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What it holds, or why that cannot be used. With an error, the last good state stays in force.
    pub mesh: Result<Arc<Mesh>, Rejected>,
    /// A hash of all of it, so that a restart over unchanged content keeps its generation.
    pub digest: String,
    /// Names what users have configured in it: what the source keeps, and can go back to. What merely exists (running pods)
    /// a source may leave out.
    pub content: String,
    /// What is worth knowing about a state that is used: warnings.
    pub warnings: Vec<Diagnostic>,
}

/// What a control plane begins with.
pub struct First {
    /// What to put into force.
    pub reading: Reading,
    /// Why that is not what the source holds now.
    pub rejected: Option<Rejected>,
    /// What was in force before.
    pub before: Before,
}

/// Why a source cannot go back to a reading.
#[derive(Debug, thiserror::Error)]
pub enum NoWayBack {
    /// It does not hold the reading any more.
    #[error("the configuration from before the change is not kept any more: put the earlier files back instead")]
    Forgotten,
    /// It cannot be recorded.
    #[error(transparent)]
    State(#[from] crate::state::StateError),
}

/// Content that cannot be used.
#[derive(Clone, Debug, Default)]
pub struct Rejected {
    /// In one sentence.
    pub summary: String,
    /// Field by field, as far as it could be read.
    pub errors: Vec<Diagnostic>,
}

impl Rejected {
    /// Content that is valid, and was given up.
    #[must_use]
    pub fn given_up() -> Self {
        let summary =
            "the newest content was taken back (mutua rollout abort); it is not tried again before the configuration changes";
        Self { summary: summary.to_owned(), errors: Vec::new() }
    }
}

/// Yields what users have configured and what exists.
pub trait Source: Send + 'static {
    /// The name for people (`folder /etc/mutua`).
    fn name(&self) -> String;

    /// The reading to begin with: what the source holds, or, when that is invalid or was given up, the last that was in
    /// force.
    ///
    /// # Errors
    /// What it holds is invalid, and nothing was ever in force on this state folder.
    fn first(&mut self) -> impl Future<Output = Result<First, Rejected>> + Send;

    /// The first reading at once; after that, waits for a change. Readings that follow each other quickly are merged.
    fn next(&mut self) -> impl Future<Output = Reading> + Send;

    /// Told before a valid reading comes into force: from now on a restart may need it.
    fn keep(&mut self, reading: &Reading);

    /// Told when a reading has come into force.
    fn in_force(&mut self, reading: &Reading);

    /// Told which readings, by their content, some end of some connection may follow still.
    fn needed(&mut self, contents: &[String]);

    /// Gives up what it holds now for a reading that is needed still, by its content: that one is as if it had been read
    /// last, and what is given up comes back only with a change of the source.
    ///
    /// # Errors
    /// It cannot be gone back to.
    fn give_up(&mut self, back_to: &str) -> Result<Reading, NoWayBack>;
}

/// What is in force, to be written back to where the configuration came from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The generation in force.
    pub generation: u64,
    /// Why the newest content is not in force, when it is not.
    pub rejected: Option<String>,
    /// Errors of the newest content, or warnings of the content in force.
    pub diagnostics: Vec<DiagnosticView>,
}

/// A diagnostic in the JSON form of `validate`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DiagnosticView {
    /// `error`, `warning` or `info`.
    pub severity: mutua_model::Severity,
    /// `PeerAuthentication bar/default`; empty when the text could not be read that far.
    pub object: String,
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// The field path.
    pub path: String,
    /// What was found, and what is allowed.
    pub message: String,
}

impl fmt::Display for DiagnosticView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What no text holds has no lines, and its name stands in the place of a file.
        if self.line > 0 {
            write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        }
        for part in [&self.object, &self.path].into_iter().filter(|part| !part.is_empty()) {
            write!(f, "{part}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl From<&Diagnostic> for DiagnosticView {
    fn from(diagnostic: &Diagnostic) -> Self {
        Self {
            severity: diagnostic.severity,
            object: diagnostic.object.as_ref().map(ToString::to_string).unwrap_or_default(),
            file: diagnostic.place.file.to_string(),
            line: diagnostic.place.line,
            column: diagnostic.place.column,
            path: diagnostic.path.clone(),
            message: diagnostic.message.clone(),
        }
    }
}

/// Takes the status of the configuration. A sink that fails loses nothing but the display.
pub trait Sink: Send + Sync + 'static {
    /// Writes the status.
    ///
    /// # Errors
    /// It cannot be written.
    fn write(&self, status: &Status) -> impl Future<Output = Result<(), SinkError>> + Send;
}

/// A status that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the status cannot be written: {0}")]
pub struct SinkError(#[source] pub BoxError);

/// Any error of a platform.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Decides which of several control planes works on one state.
pub trait Leader: Send + Sync + 'static {
    /// What holds the lead: dropping it gives it up.
    type Lease: Lease;

    /// What two of them would quarrel about, for people: `on this state folder, /var/lib/mutua`.
    fn place(&self) -> String;

    /// Waits until this control plane leads. While somebody else does, `waiting` is called once with who that is.
    ///
    /// # Errors
    /// The lead cannot be asked for at all.
    fn lead(&self, waiting: impl Fn(&str) + Send) -> impl Future<Output = Result<Self::Lease, LeaderError>> + Send;
}

/// The lead, held.
pub trait Lease: Send + 'static {
    /// Returns when the lead is lost; the control plane stops then.
    fn lost(&mut self) -> impl Future<Output = LeaderError> + Send;
}

/// Why the lead cannot be asked for, or was lost.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct LeaderError {
    /// What decides on the lead.
    pub what: String,
    /// What happened to it.
    pub source: BoxError,
}

/// What a control plane stands on.
pub struct Platform<S, K, L> {
    /// Where configuration comes from.
    pub source: S,
    /// Where its status goes.
    pub sink: K,
    /// Who leads.
    pub leader: L,
    /// Who knows tokens of service accounts, by which workloads join.
    pub accounts: Vec<Arc<dyn AccountTokens>>,
}
