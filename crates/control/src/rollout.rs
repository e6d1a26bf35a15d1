//! Leads changes through their stages: goes on when every connected proxy has acknowledged, or when it has waited long
//! enough for those that do not, and keeps a record.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Parts;
use crate::names::WorkloadName;
use crate::revision::Phase;
use crate::state::{PRIVATE, StateDir, StateError};
use crate::world::stage::Stage;

/// How often acknowledgements are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How often in the end, when nothing depends on them any more but what is told.
const SLOW_LOOK: Duration = Duration::from_secs(1);
/// How long proxies get at least to come back, whose connection broke or after a restart in the middle of a change, before
/// their absence means anything: they pause for up to 5 s between two attempts.
const RETURN: Duration = Duration::from_secs(10);
/// The proxies that were connected when the last stage began, in the state folder.
const PRESENT: &str = "present.json";
/// How many changes are remembered.
const MAX_RECORDS: usize = 50;
/// How many laggards are named.
const MAX_NAMED: usize = 100;

/// One change.
#[derive(Clone, Debug)]
pub struct Record {
    /// The generation it leads to.
    pub generation: u64,
    /// When it began.
    pub began: SystemTime,
    /// Where it stands.
    pub phase: Phase,
    /// Since when it stands there. For a complete change: from when receivers were told to accept the new only.
    pub since: SystemTime,
    /// When every proxy connected had acknowledged the last stage, those left behind included.
    pub enforced: Option<SystemTime>,
    /// The proxies that are waited for, as far as they are named.
    pub waiting_for: Vec<WorkloadName>,
    /// The proxies that were left behind, with the stage they did not acknowledge.
    pub left_behind: Vec<(WorkloadName, Phase)>,
    /// Whether a newer change took its place before every proxy enforced it.
    pub overtaken: bool,
    /// Whether it was taken back.
    pub aborted: bool,
}

/// The record of changes.
#[derive(Debug, Default)]
pub struct Rollouts {
    records: Mutex<VecDeque<Record>>,
}

impl Rollouts {
    /// The changes since the control plane runs, newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Record> {
        self.lock().iter().rev().cloned().collect()
    }

    /// The change to `generation` is taken back.
    pub fn aborted(&self, generation: u64) {
        if let Some(record) = self.lock().iter_mut().find(|record| record.generation == generation) {
            record.aborted = true;
        }
    }

    /// A stage begins.
    pub fn enter(&self, stage: &Stage) {
        let mut records = self.lock();
        let generation = stage.target.generation;
        for older in records.iter_mut().filter(|record| record.generation < generation && record.enforced.is_none()) {
            older.overtaken = true;
            older.waiting_for.clear();
        }
        if let Some(record) = records.iter_mut().find(|record| record.generation == generation) {
            record.phase = stage.phase;
            record.since = stage.since;
            return;
        }
        if records.len() >= MAX_RECORDS {
            records.pop_front();
        }
        records.push_back(Record {
            generation,
            began: stage.since,
            phase: stage.phase,
            since: stage.since,
            enforced: None,
            waiting_for: Vec::new(),
            left_behind: Vec::new(),
            overtaken: false,
            aborted: false,
        });
    }

    fn note(&self, stage: &Stage, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.lock().iter_mut().find(|record| record.generation == stage.target.generation) {
            change(record);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a wait for acknowledgements ended.
enum Waited {
    Acknowledged,
    LeftBehind(Vec<WorkloadName>),
    NewStage,
}

/// What a leader looks at and writes to.
struct Leader<'a> {
    parts: &'a Parts,
    state: Arc<StateDir>,
    bound: Duration,
}

/// Leads until `shutdown`. A stage is waited for at most `bound`.
pub async fn lead(parts: &Parts, state: Arc<StateDir>, bound: Duration, shutdown: CancellationToken) {
    let leader = Leader { parts, state, bound };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = leader.lead() => {}
    }
}

impl Leader<'_> {
    async fn lead(&self) {
        let mut stages = self.parts.world.follow();
        if self.parts.world.stage().phase != Phase::Complete {
            self.parts.rollouts.enter(&self.parts.world.stage());
            self.all_back().await;
        }
        loop {
            let stage = Arc::clone(&stages.borrow_and_update());
            self.parts.rollouts.enter(&stage);
            if let Err(error) = self.remember_present(stage.phase) {
                tracing::error!(%error, "a restart during this change would not know whom to wait for");
            }
            let waited = tokio::select! {
                changed = stages.changed() => if changed.is_ok() { Waited::NewStage } else { return },
                waited = self.wait(&stage) => waited,
            };
            match waited {
                Waited::NewStage => continue,
                Waited::Acknowledged => {}
                Waited::LeftBehind(laggards) => self.leave_behind(&stage, laggards),
            }
            if stage.phase != Phase::Complete {
                self.parts.world.advance(stage.revision());
                continue;
            }
            // Nothing is left to do until the next change, but to say from when on all enforce it.
            tokio::select! {
                changed = stages.changed() => if changed.is_err() { return },
                () = self.enforced(&stage) => if stages.changed().await.is_err() { return },
            }
        }
    }

    /// Keeps the names of the proxies that a restart would have to wait for; none once there is nothing to wait for: those of
    /// an earlier change say nothing of the next one.
    fn remember_present(&self, phase: Phase) -> Result<(), StateError> {
        if phase == Phase::Complete {
            return self.state.remove(PRESENT);
        }
        let names = serde_json::to_vec(&self.parts.registry.connected()).expect("names have a JSON form");
        self.state.write(PRESENT, &names, PRIVATE)
    }

    /// Waits until every proxy that was connected when the last stage began is back, or has had the time for it.
    async fn all_back(&self) {
        let names = self.state.read(PRESENT).ok().flatten();
        let names: Option<Vec<WorkloadName>> = names.and_then(|names| serde_json::from_slice(&names).ok());
        let snapshot = self.parts.world.current();
        let expected = match &names {
            Some(names) => names.iter().filter(|name| snapshot.member(name).is_some()).collect(),
            None => snapshot.members().filter(|member| member.sidecar).map(|member| &member.name).collect::<Vec<_>>(),
        };
        let deadline = Instant::now() + self.bound.max(RETURN);
        while Instant::now() < deadline && !self.parts.registry.all_connected(&expected) {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn wait(&self, stage: &Stage) -> Waited {
        let deadline = Instant::now() + self.bound;
        loop {
            let behind = self.behind(stage);
            if behind.is_empty() {
                return Waited::Acknowledged;
            }
            if Instant::now() >= deadline {
                return Waited::LeftBehind(behind);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The proxies that are waited for, which the record names from now on.
    fn behind(&self, stage: &Stage) -> Vec<WorkloadName> {
        let behind = self.parts.registry.behind(stage.revision(), MAX_NAMED, self.bound.max(RETURN), SystemTime::now());
        self.parts.rollouts.note(stage, |record| record.waiting_for.clone_from(&behind));
        behind
    }

    fn leave_behind(&self, stage: &Stage, laggards: Vec<WorkloadName>) {
        let (generation, phase, count) = (stage.target.generation, stage.phase, laggards.len());
        let named = laggards.iter().take(10).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        tracing::warn!(generation, %phase, count, named, "proxies did not acknowledge in time and are left behind");
        self.parts.metrics.left_behind(count);
        self.parts.rollouts.note(stage, |record| record.left_behind.extend(laggards.into_iter().map(|name| (name, phase))));
    }

    /// Waits, however long, until every connected proxy enforces the completed change.
    async fn enforced(&self, stage: &Stage) {
        let mut pause = LOOK;
        while !self.behind(stage).is_empty() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(SLOW_LOOK);
        }
        self.parts.rollouts.note(stage, |record| {
            let now = SystemTime::now();
            self.parts.metrics.enforced(now.duration_since(record.began).unwrap_or_default());
            record.enforced = Some(now);
        });
    }
}
