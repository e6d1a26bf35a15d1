//! What is in force: immutable snapshots, each with a generation number that survives restarts, and the stages in which a
//! newer one takes the place of an older one.

mod authorities;
mod snapshot;
pub mod stage;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use mutua_identity::TrustBundle;
use mutua_model::Mesh;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

pub use self::authorities::AuthorityError;
pub use self::snapshot::{CONTROL_PLANE_ACCOUNT, Member, NoIdentity, Snapshot};
use self::stage::Stage;
use crate::revision::{Phase, Revision};
use crate::source::{DiagnosticView, Reading, Rejected, Status};
use crate::state::{PRIVATE, StateDir, StateError};

const FILE: &str = "generation.json";

/// Why a reading did not come into force.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The content is invalid.
    #[error("{0}")]
    Rejected(String),
    /// Trust domains or roots of the mesh configuration are none.
    #[error("meshConfig: {0}")]
    Authorities(#[from] AuthorityError),
    /// The new generation could not be recorded.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What was in force before this process ran, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// The readings that some end of some connection may have followed.
    pub readings: Vec<Reading>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Recorded {
    generation: u64,
    digest: String,
    phase: Phase,
    /// The reading, by its digest, that senders follow.
    #[serde(default)]
    sending: String,
    /// The readings whose senders receivers understand, oldest first.
    #[serde(default)]
    accepted: Vec<String>,
}

/// What is in force, and what stands in the way of something newer.
#[derive(Debug)]
pub struct World {
    state: Arc<StateDir>,
    current: watch::Sender<Arc<Stage>>,
    status: Mutex<Status>,
    digest: Mutex<String>,
    staged: bool,
}

/// Whom everybody trusts, and from when on leaves must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The roots, and what their CAs have taken back.
    pub roots: TrustBundle,
    /// A leaf whose NotBefore (Unix seconds) is earlier is to be renewed at once; 0: none.
    pub renew_not_before: i64,
}

impl World {
    /// Puts the first reading into force. The generation is the recorded one when the content is the same as before
    /// the restart, otherwise the next. A change that a restart interrupted, or that happened meanwhile, goes through
    /// its stages when `staged`.
    ///
    /// # Errors
    /// The reading is invalid, or the generation cannot be read or recorded.
    pub fn begin(
        state: Arc<StateDir>,
        reading: &Reading,
        before: &Before,
        trust: &Trust,
        staged: bool,
    ) -> Result<Self, ApplyError> {
        let recorded = recorded(&state)?;
        let digest = digest(reading, trust);
        let generation = match &recorded {
            Some(before) if before.digest == digest => before.generation,
            Some(before) => before.generation + 1,
            None => 1,
        };
        let target = Arc::new(Snapshot::new(generation, valid(reading)?, &reading.content, trust.clone())?);
        let resumed = recorded.filter(|_| staged).and_then(|recorded| resume(&recorded, &target, &digest, before));
        let stage = resumed.unwrap_or_else(|| Stage::complete(target));
        record(&state, &stage, &digest)?;
        let status = Mutex::new(accepted(generation, reading));
        Ok(Self { state, current: watch::Sender::new(Arc::new(stage)), status, digest: Mutex::new(digest), staged })
    }

    /// Begins to put a newer reading into force, or notes why it is not. Returns whether anything changed.
    ///
    /// # Errors
    /// The reading is invalid or cannot be recorded: what was in force stays so, and [`World::status`] says why.
    pub fn apply(&self, reading: &Reading, trust: &Trust) -> Result<bool, ApplyError> {
        self.try_apply(reading, trust).inspect_err(|error| {
            let mut status = lock(&self.status);
            status.rejected = Some(error.to_string());
            if let Err(Rejected { errors, .. }) = &reading.mesh {
                status.diagnostics = errors.iter().map(DiagnosticView::from).collect();
            }
        })
    }

    /// As [`World::apply`], of the reading that is in force, when whom to trust may have changed: newer content that is not
    /// in force is told of still.
    ///
    /// # Errors
    /// As [`World::apply`].
    pub fn retrust(&self, reading: &Reading, trust: &Trust) -> Result<bool, ApplyError> {
        let Status { rejected, diagnostics, .. } = self.status();
        let applied = self.apply(reading, trust);
        if applied.is_ok() && rejected.is_some() {
            let mut status = lock(&self.status);
            (status.rejected, status.diagnostics) = (rejected, diagnostics);
        }
        applied
    }

    fn try_apply(&self, reading: &Reading, trust: &Trust) -> Result<bool, ApplyError> {
        let mesh = valid(reading)?;
        let digest = digest(reading, trust);
        let mut known = lock(&self.digest);
        let stage = self.stage();
        let generation = stage.target.generation;
        if *known == digest {
            *lock(&self.status) = accepted(generation, reading);
            return Ok(false);
        }
        let generation = generation + 1;
        let target = Arc::new(Snapshot::new(generation, mesh, &reading.content, trust.clone())?);
        let next = if self.staged { stage.toward(target) } else { Stage::complete(target) };
        record(&self.state, &next, &digest)?;
        *known = digest;
        *lock(&self.status) = accepted(generation, reading);
        self.current.send_replace(Arc::new(next));
        Ok(true)
    }

    /// Goes to the next stage, if the stage is still the one at `revision`. A stage that cannot be recorded (a full disk)
    /// is gone to all the same: a restart would go through it again.
    pub fn advance(&self, revision: Revision) {
        let known = lock(&self.digest);
        let stage = self.stage();
        let Some(next) = (stage.revision() == revision).then(|| stage.next()).flatten() else { return };
        if let Err(error) = record(&self.state, &next, &known) {
            tracing::error!(%error, "the stage of the change is not recorded");
        }
        self.current.send_replace(Arc::new(next));
    }

    /// Completes the change under way at once, whoever has acknowledged what.
    pub fn complete(&self) {
        while self.stage().phase != Phase::Complete {
            self.advance(self.stage().revision());
        }
    }

    /// The readings, by their content, that some end of some connection may follow.
    #[must_use]
    pub fn needed(&self) -> Vec<String> {
        let stage = self.stage();
        let all = stage.accepted.iter().chain([&stage.sending]);
        all.map(|snapshot| snapshot.content.clone()).collect()
    }

    /// The stage of what is distributed.
    #[must_use]
    pub fn stage(&self) -> Arc<Stage> {
        Arc::clone(&self.current.borrow())
    }

    /// The newest snapshot: what is in force, or coming into force.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.borrow().target)
    }

    /// Follows the stages; whoever is slow sees only the newest.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Arc<Stage>> {
        self.current.subscribe()
    }

    /// The status of the configuration.
    #[must_use]
    pub fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    /// Says in the status why content that was read last is in force although something newer is not.
    pub fn note_rejected(&self, rejected: &Rejected) {
        let mut status = lock(&self.status);
        status.rejected = Some(rejected.summary.clone());
        status.diagnostics = rejected.errors.iter().map(DiagnosticView::from).collect();
    }
}

/// The stage in which to go on after a restart; `None` when nothing is under way, or what was in force is not known.
fn resume(recorded: &Recorded, target: &Arc<Snapshot>, digest: &str, before: &Before) -> Option<Stage> {
    let unchanged = recorded.digest == digest;
    if unchanged && recorded.phase == Phase::Complete {
        return None;
    }
    let snapshot = |content: &String| {
        if unchanged && *content == target.content {
            return Some(Arc::clone(target));
        }
        let reading = before.readings.iter().find(|reading| reading.content == *content)?;
        let mesh = reading.mesh.clone().ok()?;
        Snapshot::new(recorded.generation, mesh, content, target.trust.clone()).ok().map(Arc::new)
    };
    let accepted: Vec<Arc<Snapshot>> = recorded.accepted.iter().filter_map(snapshot).collect();
    let stage = Stage {
        phase: recorded.phase,
        target: Arc::clone(accepted.last()?),
        sending: snapshot(&recorded.sending)?,
        accepted,
        since: SystemTime::now(),
    };
    Some(if unchanged { stage } else { stage.toward(Arc::clone(target)) })
}

fn valid(reading: &Reading) -> Result<Arc<Mesh>, ApplyError> {
    reading.mesh.clone().map_err(|rejected| ApplyError::Rejected(rejected.summary))
}

fn accepted(generation: u64, reading: &Reading) -> Status {
    Status { generation, rejected: None, diagnostics: reading.warnings.iter().map(DiagnosticView::from).collect() }
}

fn digest(reading: &Reading, trust: &Trust) -> String {
    let mut hash = Sha256::new();
    hash.update(reading.digest.as_bytes());
    hash.update([0]);
    hash.update(trust.roots.to_pem().as_bytes());
    trust.roots.revocations_pem().iter().for_each(|list| hash.update(list.as_bytes()));
    hash.update(trust.renew_not_before.to_le_bytes());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of the reading that is in force or coming into force, as recorded.
///
/// # Errors
/// The record cannot be read.
pub fn in_force(state: &StateDir) -> Result<Option<String>, StateError> {
    Ok(recorded(state)?.and_then(|recorded| recorded.accepted.last().cloned()))
}

fn recorded(state: &StateDir) -> Result<Option<Recorded>, StateError> {
    let Some(content) = state.read(FILE)? else { return Ok(None) };
    serde_json::from_slice(&content).map(Some).map_err(|error| StateError {
        path: state.join(FILE),
        action: "read",
        source: std::io::Error::other(error),
    })
}

fn record(state: &StateDir, stage: &Stage, digest: &str) -> Result<(), StateError> {
    let recorded = Recorded {
        generation: stage.target.generation,
        digest: digest.to_owned(),
        phase: stage.phase,
        sending: stage.sending.content.clone(),
        accepted: stage.accepted.iter().map(|snapshot| snapshot.content.clone()).collect(),
    };
    let content = serde_json::to_vec(&recorded);
    state.write(FILE, &content.expect("numbers and strings have a JSON form"), PRIVATE)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
