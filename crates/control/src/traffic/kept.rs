//! The traffic over a restart: `traffic.json` in the state folder, written now and then and at the end.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Book, Edge, EdgeKey, Page, Run, Told, Traffic};
use crate::names::WorkloadName;
use crate::state::{PRIVATE, StateDir, StateError};

/// The file.
const FILE: &str = "traffic.json";
/// Time between two writes, at least.
const PERIOD: Duration = Duration::from_secs(15);
/// Of the time, writing takes at most one part in so many.
const SHARE: u32 = 50;

#[derive(Serialize, Deserialize)]
struct KeptPage {
    workload: WorkloadName,
    edges: Vec<(EdgeKey, Edge)>,
    runs: Vec<KeptRun>,
}

#[derive(Serialize, Deserialize)]
struct KeptRun {
    run: u64,
    last: u64,
    flows: Vec<(u64, Told)>,
}

impl Traffic {
    /// The traffic as it was kept. What cannot be read is set aside with a word in the log: it is history, not policy.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn load(state: &StateDir) -> Result<Self, StateError> {
        let Some(content) = state.read(FILE)? else { return Ok(Self::default()) };
        let pages: Vec<KeptPage> = serde_json::from_slice(&content).unwrap_or_else(|error| {
            tracing::warn!(%error, file = FILE, "what was observed before cannot be read; observation begins anew");
            Vec::new()
        });
        let mut book = Book::default();
        for page in pages {
            book.edges += page.edges.len();
            let run = |kept: KeptRun| (kept.run, Run { last: kept.last, flows: kept.flows.into_iter().collect() });
            let runs = page.runs.into_iter().map(run).collect();
            book.pages.insert(page.workload, Page { edges: page.edges.into_iter().collect(), runs });
        }
        Ok(Self { book: book.into() })
    }

    /// What is to be written, and the state of changes that it is of.
    pub(super) fn encoded(&self) -> (Vec<u8>, u64) {
        let book = self.lock();
        let run = |(run, kept): (&u64, &Run)| KeptRun {
            run: *run,
            last: kept.last,
            flows: kept.flows.iter().map(|(id, told)| (*id, told.clone())).collect(),
        };
        let page = |(workload, page): (&WorkloadName, &Page)| KeptPage {
            workload: workload.clone(),
            edges: page.edges.iter().map(|(key, edge)| (key.clone(), edge.clone())).collect(),
            runs: page.runs.iter().map(run).collect(),
        };
        let pages: Vec<KeptPage> = book.pages.iter().map(page).collect();
        let changes = book.changes;
        drop(book);
        (serde_json::to_vec(&pages).unwrap_or_default(), changes)
    }
}

/// Writes what changed, until `stop` and once more then.
pub async fn keep(traffic: Arc<Traffic>, state: Arc<StateDir>, stop: CancellationToken) {
    let (mut written, mut pause) = (0, PERIOD);
    loop {
        let stopping = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(pause) => false,
        };
        if traffic.changes() != written {
            let began = Instant::now();
            let (writing, folder) = (Arc::clone(&traffic), Arc::clone(&state));
            let done = tokio::task::spawn_blocking(move || {
                let (content, changes) = writing.encoded();
                folder.write(FILE, &content, PRIVATE).map(|()| changes)
            });
            match done.await {
                Ok(Ok(changes)) => written = changes,
                Ok(Err(error)) => tracing::warn!(%error, "what was observed is not kept; it would be lost by a restart"),
                Err(panic) => tracing::error!(%panic, "what was observed is not kept"),
            }
            pause = PERIOD.max(began.elapsed() * SHARE);
        }
        if stopping {
            return;
        }
    }
}
