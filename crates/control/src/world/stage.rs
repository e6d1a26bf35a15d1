//! A change in stages, so that no request is lost: first every receiver accepts both the old and the new, then every
//! sender switches, then the receivers tighten.

use std::sync::Arc;
use std::time::SystemTime;

use super::Snapshot;
use crate::revision::{Phase, Revision};

/// How many snapshots receivers are asked to understand at once, when changes overlap.
const MAX_ACCEPTED: usize = 8;

/// What is distributed at a moment.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Where the change stands.
    pub phase: Phase,
    /// The newest snapshot: where things go.
    pub target: Arc<Snapshot>,
    /// The snapshot by which senders decide.
    pub sending: Arc<Snapshot>,
    /// The snapshots whose senders receivers must understand, oldest first.
    pub accepted: Vec<Arc<Snapshot>>,
    /// Since when.
    pub since: SystemTime,
}

impl Stage {
    /// `snapshot` is in force at both ends.
    #[must_use]
    pub fn complete(snapshot: Arc<Snapshot>) -> Self {
        Self {
            phase: Phase::Complete,
            sending: Arc::clone(&snapshot),
            accepted: vec![Arc::clone(&snapshot)],
            target: snapshot,
            since: SystemTime::now(),
        }
    }

    /// The first stage on the way from here to `target`. Snapshots that no sender ever followed are left out; with too
    /// many changes at once the oldest is given up.
    #[must_use]
    pub fn toward(&self, target: Arc<Snapshot>) -> Self {
        let mut accepted = self.accepted.clone();
        if self.phase == Phase::Widen {
            // Nobody was told to send as the former target says.
            accepted.pop();
        }
        accepted.push(Arc::clone(&target));
        while accepted.len() > MAX_ACCEPTED {
            accepted.remove(0);
        }
        Self { phase: Phase::Widen, sending: Arc::clone(&self.sending), accepted, target, since: SystemTime::now() }
    }

    /// The stage after this one, unless the change is done.
    #[must_use]
    pub fn next(&self) -> Option<Self> {
        match self.phase {
            Phase::Widen => {
                let mut next = self.clone();
                next.phase = Phase::Switch;
                next.sending = Arc::clone(&self.target);
                next.since = SystemTime::now();
                Some(next)
            }
            Phase::Switch => Some(Self::complete(Arc::clone(&self.target))),
            Phase::Complete => None,
        }
    }

    /// Its place in the order of stages.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision::new(self.target.generation, self.phase)
    }
}
