//! What passes in the mesh, as sidecars report it: edges from caller to called, under which protection, how much and when.
//!
//! Sidecars tell counts that only grow ([`mutua_wire::mesh::Flow`]); what came to them since they were last told is added
//! to the [`History`] of an edge. What was last told is kept together with the histories, so that neither a report that is
//! lost nor a restart of either side counts anything twice or not at all.

mod amount;
mod edge;
mod kept;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use mutua_wire::mesh::{Flow, ProxyReport};
use serde::{Deserialize, Serialize};

pub use amount::{Amount, History};
pub use edge::{EdgeKey, Party, Reporter, Seen};
pub use kept::keep;

use crate::clock::unix;
use crate::names::WorkloadName;
use crate::world::Snapshot;

/// Edges that are kept; of the sidecar that tells most of them, those seen longest ago make room.
pub const MAX_EDGES: usize = 50_000;
/// Edges that one sidecar tells apart here; those seen longest ago make room.
const MAX_EDGES_EACH: usize = 2_048;
/// Flows that are remembered of one process; those seen longest ago are forgotten first.
const MAX_FLOWS: usize = 2_048;
/// Processes of one sidecar that are remembered: one, and while it is replaced two.
const MAX_RUNS: usize = 4;

/// What is known of one edge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    /// When something was first and last seen of it, Unix seconds.
    pub first_seen: u64,
    /// See `first_seen`.
    pub last_seen: u64,
    /// How much, by time.
    pub history: History,
}

/// The traffic of the mesh.
#[derive(Debug, Default)]
pub struct Traffic {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    pages: HashMap<WorkloadName, Page>,
    /// Edges of all pages.
    edges: usize,
    /// Counts what was taken, so that what is on disk is known to be old.
    changes: u64,
}

/// What one workload's sidecar has told.
#[derive(Debug, Default)]
struct Page {
    edges: HashMap<EdgeKey, Edge>,
    runs: HashMap<u64, Run>,
}

/// What one process has told.
#[derive(Debug, Default)]
struct Run {
    last: u64,
    flows: HashMap<u64, Told>,
}

/// What a process has told of one flow.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    amount: Amount,
    /// Connections that are open.
    open: u64,
    last_seen: u64,
    edge: EdgeKey,
}

/// One edge in a window of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeView {
    /// What its connections have in common.
    pub key: EdgeKey,
    /// How much there was in the window.
    pub amount: Amount,
    /// Connections that are open now.
    pub open: u64,
    /// When it was first seen at all, Unix seconds.
    pub first_seen: u64,
    /// When it was last seen, Unix seconds.
    pub last_seen: u64,
}

impl Traffic {
    /// Takes a report of `workload`'s sidecar. Addresses are those of `snapshot`.
    pub fn take(&self, workload: &WorkloadName, report: &ProxyReport, snapshot: &Snapshot, now: SystemTime) {
        if report.flows.is_empty() {
            return;
        }
        let mut book = self.lock();
        book.changes += 1;
        let page = book.pages.entry(workload.clone()).or_default();
        let before = page.edges.len();
        page.take(report, seconds(now), |flow| EdgeKey::of(snapshot, workload, flow));
        let after = page.edges.len();
        book.edges = book.edges + after - before;
        book.make_room();
    }

    /// Every edge of which something was seen since `from` or is open now, by key. Connections are open only where the
    /// sidecar that tells of them is `connected`.
    #[must_use]
    pub fn since(&self, from: SystemTime, now: SystemTime, connected: impl Fn(&WorkloadName) -> bool) -> Vec<EdgeView> {
        let (from, now) = (seconds(from), seconds(now));
        let book = self.lock();
        let pages = book.pages.iter();
        let mut views: Vec<_> = pages.flat_map(|(workload, page)| page.since(from, now, connected(workload))).collect();
        views.sort_by(|a, b| a.key.cmp(&b.key));
        views
    }

    /// A number that grows with everything that is taken.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn make_room(&mut self) {
        while self.edges > MAX_EDGES {
            let Some(page) = self.pages.values_mut().max_by_key(|page| page.edges.len()) else { return };
            let before = page.edges.len();
            make_room(&mut page.edges, before, |edge| edge.last_seen);
            self.edges -= before - page.edges.len();
        }
    }
}

impl Page {
    fn take(&mut self, report: &ProxyReport, now: u64, edge: impl Fn(&Flow) -> Option<EdgeKey>) {
        if !self.runs.contains_key(&report.run) {
            make_room(&mut self.runs, MAX_RUNS, |run| run.last);
        }
        let run = self.runs.entry(report.run).or_default();
        run.last = now;
        for flow in &report.flows {
            if let Some((key, seen, amount)) = run.take(flow, || edge(flow), now) {
                enter(&mut self.edges, key, seen, &amount);
            }
        }
    }

    fn since(&self, from: u64, now: u64, connected: bool) -> Vec<EdgeView> {
        let mut open: HashMap<&EdgeKey, u64> = HashMap::new();
        // A process that was replaced or killed tells nothing of its end: the last one to speak counts.
        // Of two that speak at the same time, it is the one that was started later.
        let last = self.runs.iter().max_by_key(|(started, run)| (run.last, **started));
        for told in last.iter().filter(|_| connected).flat_map(|(_, run)| run.flows.values()) {
            *open.entry(&told.edge).or_default() += told.open;
        }
        let view = |(key, edge): (&EdgeKey, &Edge)| {
            let (amount, open) = (edge.history.between(from, now), open.get(key).copied().unwrap_or(0));
            let (first_seen, last_seen) = (edge.first_seen, edge.last_seen);
            let view = || EdgeView { key: key.clone(), amount, open, first_seen, last_seen };
            (!amount.is_nothing() || open > 0).then(view)
        };
        self.edges.iter().filter_map(view).collect()
    }
}

impl Run {
    /// What came to a flow since it was last told, its edge, and when it was first and last seen. `None` when it is none.
    fn take(&mut self, flow: &Flow, edge: impl FnOnce() -> Option<EdgeKey>, now: u64) -> Option<(EdgeKey, (u64, u64), Amount)> {
        let (amount, open) = (Amount::of(flow), flow.opened.saturating_sub(flow.closed));
        // A sidecar's clock may be ahead.
        let last_seen = flow.last_seen.min(now);
        let first_seen = flow.first_seen.min(last_seen);
        if let Some(told) = self.flows.get_mut(&flow.id) {
            let new = amount.since(&told.amount);
            (told.amount, told.open, told.last_seen) = (amount, open, last_seen);
            return Some((told.edge.clone(), (first_seen, last_seen), new));
        }
        let edge = edge()?;
        make_room(&mut self.flows, MAX_FLOWS, |told| told.last_seen);
        self.flows.insert(flow.id, Told { amount, open, last_seen, edge: edge.clone() });
        Some((edge, (first_seen, last_seen), amount))
    }
}

fn enter(edges: &mut HashMap<EdgeKey, Edge>, key: EdgeKey, (first_seen, last_seen): (u64, u64), amount: &Amount) {
    if !edges.contains_key(&key) {
        make_room(edges, MAX_EDGES_EACH, |edge| edge.last_seen);
    }
    let edge = edges.entry(key).or_insert_with(|| Edge { first_seen, ..Edge::default() });
    edge.first_seen = edge.first_seen.min(first_seen);
    edge.last_seen = edge.last_seen.max(last_seen);
    if !amount.is_nothing() {
        edge.history.add(last_seen, amount);
    }
}

/// Where `most` or more are kept, the oldest go: one, or a sixteenth of them at once.
fn make_room<K: Eq + std::hash::Hash, V>(kept: &mut HashMap<K, V>, most: usize, age: impl Fn(&V) -> u64) {
    if kept.len() < most {
        return;
    }
    let mut excess = (most / 16).max(1);
    let mut ages: Vec<u64> = kept.values().map(&age).collect();
    let (_, bound, _) = ages.select_nth_unstable(excess - 1);
    let bound = *bound;
    kept.retain(|_, value| {
        let goes = excess > 0 && age(value) <= bound;
        excess -= usize::from(goes);
        !goes
    });
}

fn seconds(time: SystemTime) -> u64 {
    u64::try_from(unix(time)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
