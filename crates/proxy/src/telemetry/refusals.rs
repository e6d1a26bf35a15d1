//! Refusals: totals for metrics, and what the next report to the control plane holds.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::connections::{Connection, Direction};
use crate::reasons::{Reason, Refusal};

/// Distinct refusals held for one report; further ones are counted without peer.
const MAX_PENDING: usize = 256;
/// Bytes of a message in a report.
const MAX_MESSAGE: usize = 512;

/// What refusals are told apart by in reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RefusalKey {
    /// Why.
    pub reason: Reason,
    /// Which way.
    pub direction: Direction,
    /// Who opened the connection; `None` when there were too many.
    pub peer: Option<IpAddr>,
    /// The identity that the peer showed.
    pub identity: Option<String>,
    /// The port it wanted.
    pub port: u16,
}

/// Refusals of one kind since the last report.
#[derive(Clone, Debug, Default)]
pub struct RefusalCount {
    /// How many.
    pub count: u64,
    /// The last message.
    pub message: String,
}

/// Refusals of this sidecar.
#[derive(Default)]
pub struct Refusals {
    totals: Mutex<BTreeMap<(Direction, Reason), u64>>,
    pending: Mutex<HashMap<RefusalKey, RefusalCount>>,
}

impl Refusals {
    /// Counts a refused or cut connection.
    pub fn count(&self, connection: &Connection, refusal: &Refusal) {
        let direction = connection.direction;
        *lock(&self.totals).entry((direction, refusal.reason)).or_default() += 1;
        let mut key = RefusalKey {
            reason: refusal.reason,
            direction,
            peer: Some(connection.peer.ip()),
            identity: refusal.peer_identity.clone(),
            port: connection.original.port(),
        };
        let mut pending = lock(&self.pending);
        if pending.len() >= MAX_PENDING && !pending.contains_key(&key) {
            key = RefusalKey { peer: None, identity: None, port: 0, ..key };
        }
        let entry = pending.entry(key).or_default();
        entry.count += 1;
        entry.message = refusal.message.chars().take(MAX_MESSAGE).collect();
    }

    /// All refusals since the start.
    #[must_use]
    pub fn totals(&self) -> Vec<((Direction, Reason), u64)> {
        lock(&self.totals).iter().map(|(key, count)| (*key, *count)).collect()
    }

    /// Takes what has gathered since the last report.
    #[must_use]
    pub fn take(&self) -> Vec<(RefusalKey, RefusalCount)> {
        std::mem::take(&mut *lock(&self.pending)).into_iter().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
