//! What passes between this workload and others, summed up for the control plane: who, with whom, on which port, under
//! which protection, and how much. Counters only grow, so a report that is lost is made good by the next one.

mod key;
mod told;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

pub use key::{FlowKey, Protection};
pub use told::{MAX_TOLD, Told};

use crate::connections::Connection;
use crate::reasons::Refusal;

/// Flows that are told apart. Further ones are counted in flows without peer and port, one for each outcome and reason.
pub const MAX_FLOWS: usize = 1024;
/// A flow that has been at rest for so long makes room for another: it was reported long ago.
const REST: Duration = Duration::from_secs(120);

/// One flow: what is alike, and how much of it there was since it was first seen.
#[derive(Debug)]
pub struct Flow {
    /// Unique within the life of the process, from 1: a flow that was forgotten and comes back is another one.
    pub id: u64,
    /// What its connections have in common.
    pub key: FlowKey,
    /// Connections that began.
    pub opened: AtomicU64,
    /// Connections of it that ended.
    pub closed: AtomicU64,
    /// Connections that were refused or cut, for the key's reason.
    pub failed: AtomicU64,
    /// Requests that were answered, or will not be any more.
    pub requests: AtomicU64,
    /// Those of them without an answer, with a status of 500 and above, or with a gRPC status other than OK.
    pub failed_requests: AtomicU64,
    /// Bytes from the one who opened the connections, without TLS.
    pub received: AtomicU64,
    /// Bytes to the one who opened the connections, without TLS.
    pub sent: AtomicU64,
    /// When it was first and last seen, Unix seconds.
    pub first_seen: u64,
    last_seen: AtomicU64,
}

/// How much there was of a flow at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that began.
    pub opened: u64,
    /// Connections that ended.
    pub closed: u64,
    /// Connections refused or cut.
    pub failed: u64,
    /// Requests.
    pub requests: u64,
    /// Requests that failed.
    pub failed_requests: u64,
    /// Bytes from the one who opened the connections.
    pub received: u64,
    /// Bytes to the one who opened the connections.
    pub sent: u64,
    /// When something was last seen, Unix seconds.
    pub last_seen: u64,
}

/// The flows of a sidecar.
#[derive(Debug)]
pub struct Flows {
    run: u64,
    known: Mutex<HashMap<FlowKey, Arc<Flow>>>,
    next: AtomicU64,
}

impl Default for Flows {
    fn default() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let run = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Self { run, known: Mutex::default(), next: AtomicU64::new(0) }
    }
}

impl Flows {
    /// Since when is counted, Unix nanoseconds: tells one process from the next, and from a successor beside it.
    #[must_use]
    pub fn run(&self) -> u64 {
        self.run
    }

    /// A connection is served from now on.
    pub fn begin(&self, connection: &Connection) {
        let flow = self.flow(FlowKey::of(connection, None));
        flow.opened.fetch_add(1, Ordering::Relaxed);
        connection.enter(flow);
    }

    /// A connection has ended.
    pub fn end(&self, connection: &Connection, refusal: Option<&Refusal>) {
        connection.leave();
        if let Some(refusal) = refusal {
            self.flow(FlowKey::of(connection, Some(refusal))).failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every flow that is known, the first seen first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Flow>> {
        let mut list: Vec<_> = self.lock().values().cloned().collect();
        list.sort_by_key(|flow| flow.id);
        list
    }

    fn flow(&self, key: FlowKey) -> Arc<Flow> {
        let now = now();
        let mut known = self.lock();
        let key = if known.contains_key(&key) || make_room(&mut known, now) { key } else { key.folded() };
        let flow = known.entry(key).or_insert_with_key(|key| {
            let id = 1 + self.next.fetch_add(1, Ordering::Relaxed);
            Arc::new(Flow::new(id, key.clone(), now))
        });
        flow.seen(now);
        Arc::clone(flow)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<FlowKey, Arc<Flow>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow {
    fn new(id: u64, key: FlowKey, now: u64) -> Self {
        Self {
            id,
            key,
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            failed_requests: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            first_seen: now,
            last_seen: AtomicU64::new(now),
        }
    }

    /// How much there was of it until now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            opened: now(&self.opened),
            closed: now(&self.closed),
            failed: now(&self.failed),
            requests: now(&self.requests),
            failed_requests: now(&self.failed_requests),
            received: now(&self.received),
            sent: now(&self.sent),
            last_seen: now(&self.last_seen),
        }
    }

    /// Counts a request.
    pub fn request(&self, failed: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.failed_requests.fetch_add(u64::from(failed), Ordering::Relaxed);
    }

    /// Counts bytes of one of its connections.
    pub fn bytes(&self, received: u64, sent: u64) {
        if received + sent > 0 {
            self.received.fetch_add(received, Ordering::Relaxed);
            self.sent.fetch_add(sent, Ordering::Relaxed);
            self.seen(now());
        }
    }

    fn seen(&self, now: u64) {
        self.last_seen.fetch_max(now, Ordering::Relaxed);
    }

    fn rests(&self, now: u64) -> bool {
        let counts = self.counts();
        counts.opened == counts.closed && counts.last_seen + REST.as_secs() < now
    }
}

/// Whether there is room for one more, if need be in place of those at rest.
fn make_room(known: &mut HashMap<FlowKey, Arc<Flow>>, now: u64) -> bool {
    if known.len() >= MAX_FLOWS {
        known.retain(|_, flow| !flow.rests(now));
    }
    known.len() < MAX_FLOWS
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
