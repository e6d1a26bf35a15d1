//! The proxies that have shown a leaf which has not ended: kept over a restart, so that a change of root waits for those
//! too that are away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::issued::IssuedLeaves;
use crate::clock::unix;
use crate::names::WorkloadName;
use crate::registry::Registry;
use crate::state::{PRIVATE, StateDir};

/// The file, in the state folder.
const FILE: &str = "proxies.json";
/// How often it is brought up to date.
pub(crate) const PERIOD: Duration = Duration::from_secs(5);

/// The ends of leaves that proxies have shown, Unix seconds, by workload.
#[derive(Debug)]
pub struct Remembered {
    state: Arc<StateDir>,
    ends: Mutex<BTreeMap<WorkloadName, i64>>,
}

impl Remembered {
    /// What the state folder remembers. A file that cannot be read counts as empty, and is told of.
    #[must_use]
    pub fn load(state: Arc<StateDir>) -> Self {
        let read = state.read(FILE).map_err(|error| error.to_string()).and_then(|text| match text {
            Some(text) => serde_json::from_slice(&text).map_err(|error| format!("{FILE}: {error}")),
            None => Ok(BTreeMap::new()),
        });
        let ends = read.unwrap_or_else(|error| {
            tracing::warn!(error, "proxies from before this start are not known; a change of root cannot wait for them");
            BTreeMap::new()
        });
        Self { state, ends: Mutex::new(ends) }
    }

    /// All that are known now, from before and of this run, whose leaves have not ended.
    #[must_use]
    pub fn with(&self, registry: &Registry, leaves: &IssuedLeaves, now: SystemTime) -> BTreeMap<WorkloadName, i64> {
        let now = unix(now);
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, proxy) in registry.proxies() {
            // A proxy may hold a leaf that it has not told of.
            let issued = proxy.identity.parse().ok().and_then(|identity| leaves.latest_end(&identity));
            let end = super::reroot::end(&proxy).max(issued.map_or(0, unix));
            let known = ends.entry(name).or_insert(end);
            *known = end.max(*known);
        }
        ends.retain(|_, end| *end > now);
        ends
    }

    /// Writes what is known now, if that is news.
    pub fn keep(&self, registry: &Registry, leaves: &IssuedLeaves, now: SystemTime) {
        let ends = self.with(registry, leaves, now);
        let mut known = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == ends {
            return;
        }
        let text = serde_json::to_vec(&ends).unwrap_or_default();
        match self.state.write(FILE, &text, PRIVATE) {
            Ok(()) => *known = ends,
            Err(error) => tracing::warn!(%error, "the proxies that are known are not kept over a restart"),
        }
    }
}
