//! Every connection that is open, and the last that ended: what the admin socket, the access log, the reports and the
//! draining look at.

mod record;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_util::task::AtomicWaker;
use mutua_identity::{AnchorName, Negotiated};

pub use record::{Outcome, Record};

use crate::flows::Flow;
use crate::reasons::{Reason, Refusal};
use crate::telemetry::Series;

/// Finished connections that are remembered.
pub const MAX_FINISHED: usize = 256;

/// Which way a connection goes, as seen from the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the workload.
    Inbound,
    /// From the workload.
    Outbound,
}

impl Direction {
    /// `inbound` or `outbound`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What became known of a connection on its way.
#[derive(Clone, Debug, Default)]
pub struct Details {
    /// The host of the service, when the destination is one.
    pub service: Option<Arc<str>>,
    /// The address that was dialled.
    pub endpoint: Option<SocketAddr>,
    /// What it is.
    pub outcome: Option<Outcome>,
    /// TLS that this sidecar takes part in.
    pub tls: Option<Box<Negotiated>>,
    /// The identity that this sidecar shows.
    pub local_identity: Option<String>,
    /// Why it was refused or cut.
    pub refusal: Option<Refusal>,
    /// The flow that it counts in.
    pub flow: Option<Arc<Flow>>,
}

/// One connection that this sidecar relays or is about to.
pub struct Connection {
    /// Unique within the life of the process.
    pub id: u64,
    /// Its direction.
    pub direction: Direction,
    /// Who opened it.
    pub peer: SocketAddr,
    /// Where it wanted to go.
    pub original: SocketAddr,
    /// When it was accepted.
    pub started: SystemTime,
    received: AtomicU64,
    sent: AtomicU64,
    /// Of `received` and `sent`, what flows have been told.
    told: (AtomicU64, AtomicU64),
    details: Mutex<Details>,
    series: OnceLock<Arc<Series>>,
    cut: OnceLock<Reason>,
    parting: AtomicBool,
    waits: AtomicWaker,
}

/// What a running connection is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To end at once.
    Cut(Reason),
    /// To part its two ends between two messages, or not any more.
    Part(bool),
}

impl Connection {
    /// Counts bytes from the one who opened the connection.
    pub fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(series) = self.series.get() {
            series.received.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Counts bytes to the one who opened the connection.
    pub fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(series) = self.series.get() {
            series.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Bytes from and to the one who opened the connection.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed))
    }

    /// Opens the connection in its metrics series, with what it has transferred so far.
    pub fn count_in(&self, series: &Arc<Series>) {
        if self.series.set(Arc::clone(series)).is_ok() {
            series.opened.fetch_add(1, Ordering::Relaxed);
            let (received, sent) = self.bytes();
            series.received.fetch_add(received, Ordering::Relaxed);
            series.sent.fetch_add(sent, Ordering::Relaxed);
        }
    }

    /// Counts the connection in `flow` from now on.
    pub fn enter(&self, flow: Arc<Flow>) {
        self.note(|details| details.flow = Some(flow));
    }

    /// Takes the connection out of its flow, with all that it has transferred.
    pub fn leave(&self) {
        self.tell();
        let mut flow = None;
        self.note(|details| flow = details.flow.take());
        if let Some(flow) = flow {
            flow.closed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The flow that the connection counts in.
    #[must_use]
    pub fn flow(&self) -> Option<Arc<Flow>> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner).flow.clone()
    }

    /// Tells the connection's flow what was transferred since it was last told.
    pub fn tell(&self) {
        let Some(flow) = self.flow() else { return };
        let (received, sent) = self.bytes();
        let new = |told: &AtomicU64, now: u64| now.saturating_sub(told.fetch_max(now, Ordering::Relaxed));
        flow.bytes(new(&self.told.0, received), new(&self.told.1, sent));
    }

    /// Notes what became known.
    pub fn note(&self, change: impl FnOnce(&mut Details)) {
        change(&mut self.details.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What is known.
    #[must_use]
    pub fn details(&self) -> Details {
        self.details.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Of a mesh connection: the trust anchor that its peer was verified by, where that is known, and the end of the peer's
    /// certificate.
    fn anchored(&self) -> Option<(Option<AnchorName>, SystemTime)> {
        let details = self.details.lock().unwrap_or_else(PoisonError::into_inner);
        let tls = details.tls.as_ref().filter(|_| details.outcome == Some(Outcome::Mtls))?;
        Some((tls.peer_anchor, tls.peer_not_after?))
    }

    /// Cuts the connection. The first reason counts.
    pub fn close(&self, reason: Reason) {
        let _ = self.cut.set(reason);
        self.waits.wake();
    }

    /// Whether it was cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut.get().is_some()
    }

    /// Asks the connection to part its ends between two messages and to go on with another one, or not to any more.
    pub fn part(&self, wanted: bool) {
        if self.parting.swap(wanted, Ordering::Relaxed) != wanted {
            self.waits.wake();
        }
    }

    /// Notes that the ends are parted: what the connection was over its other end is not known any more.
    pub fn parted(&self) {
        self.parting.store(false, Ordering::Relaxed);
        self.leave();
        self.note(|details| *details = Details::default());
    }

    /// Waits until the connection is to be cut.
    pub async fn cut(&self) -> Reason {
        poll_fn(|context| {
            self.waits.register(context.waker());
            self.cut.get().map_or(Poll::Pending, |reason| Poll::Ready(*reason))
        })
        .await
    }

    /// Whether the connection is to be cut, or to part when it was not (`parting`), or the other way round; else the task
    /// is woken then. There is one who waits at a time: the connection's task.
    pub fn poll_asked(&self, parting: bool, context: &mut Context<'_>) -> Poll<Asked> {
        self.waits.register(context.waker());
        if let Some(reason) = self.cut.get() {
            return Poll::Ready(Asked::Cut(*reason));
        }
        let wanted = self.parting.load(Ordering::Relaxed);
        if wanted == parting { Poll::Pending } else { Poll::Ready(Asked::Part(wanted)) }
    }
}

/// All connections.
#[derive(Default)]
pub struct Connections {
    next: AtomicU64,
    live: Mutex<HashMap<u64, Arc<Connection>>>,
    finished: Mutex<VecDeque<Record>>,
}

impl Connections {
    /// Enters a connection.
    pub fn open(&self, direction: Direction, peer: SocketAddr, original: SocketAddr) -> Arc<Connection> {
        let connection = Arc::new(Connection {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            direction,
            peer,
            original,
            started: SystemTime::now(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            told: (AtomicU64::new(0), AtomicU64::new(0)),
            details: Mutex::default(),
            series: OnceLock::new(),
            cut: OnceLock::new(),
            parting: AtomicBool::new(false),
            waits: AtomicWaker::new(),
        });
        self.lock().insert(connection.id, Arc::clone(&connection));
        connection
    }

    /// Takes a connection out, and remembers it. Returns its record.
    pub fn finish(&self, connection: &Connection) -> Record {
        if let Some(series) = connection.series.get() {
            series.closed.fetch_add(1, Ordering::Relaxed);
        }
        let record = Record::of(connection, Some(SystemTime::now()));
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        if finished.len() == MAX_FINISHED {
            finished.pop_front();
        }
        finished.push_back(record.clone());
        drop(finished);
        // Last, so that a connection is always to be found in one of the two.
        self.lock().remove(&connection.id);
        record
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// The open ones.
    #[must_use]
    pub fn live(&self) -> Vec<Arc<Connection>> {
        self.lock().values().cloned().collect()
    }

    /// How many open mesh connections hang on each trust anchor (`None`: it is not known on which), and when the last of the
    /// peers' certificates ends.
    #[must_use]
    pub fn anchored(&self) -> BTreeMap<Option<AnchorName>, (usize, SystemTime)> {
        let mut all = BTreeMap::new();
        for (anchor, end) in self.live().iter().filter_map(|connection| connection.anchored()) {
            let (count, last) = all.entry(anchor).or_insert((0, end));
            *count += 1;
            *last = end.max(*last);
        }
        all
    }

    /// The last finished ones, oldest first, then the open ones.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let mut live = self.live();
        let mut records: Vec<Record> = self.finished.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        // One that finished meanwhile is in both.
        live.retain(|connection| records.iter().all(|record| record.id != connection.id));
        live.sort_by_key(|connection| connection.id);
        records.extend(live.iter().map(|connection| Record::of(connection, None)));
        records
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
