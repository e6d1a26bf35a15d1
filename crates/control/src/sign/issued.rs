//! The leaves that were issued: per identity the last one, for display, and until when it is good.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use mutua_identity::SpiffeId;

/// How many identities are remembered; those whose leaves have ended are forgotten first.
const MAX_IDENTITIES: usize = 100_000;

/// The last leaf of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Serial number, hexadecimal.
    pub serial: String,
    /// When it was issued.
    pub issued: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
    /// How many leaves this identity has got since the control plane runs.
    pub count: u64,
}

/// The leaves issued since the control plane runs.
#[derive(Debug, Default)]
pub struct IssuedLeaves {
    leaves: Mutex<HashMap<SpiffeId, Leaf>>,
}

impl IssuedLeaves {
    /// A leaf was issued.
    pub fn issued(&self, identity: &SpiffeId, serial: &str, issued: SystemTime, not_after: SystemTime) {
        let mut leaves = self.lock();
        if leaves.len() >= MAX_IDENTITIES && !leaves.contains_key(identity) {
            leaves.retain(|_, leaf| leaf.not_after > issued);
        }
        let count = leaves.get(identity).map_or(0, |leaf| leaf.count) + 1;
        leaves.insert(identity.clone(), Leaf { serial: serial.to_owned(), issued, not_after, count });
    }

    /// When the last leaf of an identity ends.
    #[must_use]
    pub fn latest_end(&self, identity: &SpiffeId) -> Option<SystemTime> {
        self.lock().get(identity).map(|leaf| leaf.not_after)
    }

    /// All of them, by identity.
    #[must_use]
    pub fn all(&self) -> Vec<(SpiffeId, Leaf)> {
        let mut all: Vec<_> = self.lock().iter().map(|(identity, leaf)| (identity.clone(), leaf.clone())).collect();
        all.sort_by_key(|(identity, _)| identity.to_string());
        all
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SpiffeId, Leaf>> {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
