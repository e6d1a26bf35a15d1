//! The order of changes and of the stages that each goes through.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a change stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Receivers accept what the senders of the old and of the new configuration send; senders are as before.
    Widen,
    /// Senders follow the new configuration; receivers accept both still.
    Switch,
    /// Receivers accept the new configuration's senders only. The change is done.
    Complete,
}

/// A point in the order of all stages of all generations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(u64);

impl Revision {
    /// The stage `phase` on the way to `generation`.
    #[must_use]
    pub fn new(generation: u64, phase: Phase) -> Self {
        Self(generation * 3 + phase as u64)
    }

    /// The generation that this stage leads to.
    #[must_use]
    pub fn generation(self) -> u64 {
        self.0 / 3
    }

    /// The newest generation that is complete at this point.
    #[must_use]
    pub fn completed(self) -> u64 {
        ((self.0 + 1) / 3).saturating_sub(1)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Widen => "widen",
            Self::Switch => "switch",
            Self::Complete => "complete",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_each_other_and_count_as_complete_at_their_end() {
        let stages = [Phase::Widen, Phase::Switch, Phase::Complete];
        let all: Vec<Revision> =
            [4, 5].iter().flat_map(|generation| stages.map(|phase| Revision::new(*generation, phase))).collect();
        assert!(all.is_sorted());
        let completed: Vec<u64> = all.iter().map(|revision| revision.completed()).collect();
        assert_eq!(completed, [3, 3, 4, 4, 4, 5]);
        assert!(all[..3].iter().all(|revision| revision.generation() == 4));
        assert_eq!(Revision::default().completed(), 0);
    }
}
