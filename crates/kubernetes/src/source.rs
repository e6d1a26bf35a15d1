//! A cluster as the source of a mesh.
//!
//! Users configure the mesh by some kinds ([`Watched::configures`](crate::kinds::Watched)); what merely exists (pods, their
//! addresses, services) comes and goes by itself. So only configuration is kept for a restart in the middle of a change and
//! is what an abort goes back to; it is always seen together with what exists now.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use mutua_control::source::content::Content;
use mutua_control::source::kept::{KeptContents, Mark};
use mutua_control::source::{First, NoWayBack, Reading, Rejected, Source};
use mutua_control::state::{StateDir, StateError};
use mutua_control::world::Before;
use mutua_model::{Diagnostic, Severity};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::kinds::WATCHED;
use crate::store::Store;
use crate::watch::{self, Change};

/// How long the cluster must have been quiet before it is read.
const QUIET: Duration = Duration::from_millis(100);
/// A cluster that is never quiet is read after this time all the same.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is said what the first reading waits for.
const REMIND: Duration = Duration::from_secs(10);
/// How many changes may wait to be taken.
const BACKLOG: usize = 256;

/// A watched cluster.
pub struct KubernetesSource {
    name: String,
    store: Store,
    changes: mpsc::Receiver<(usize, Change)>,
    kept: KeptContents,
    /// The configuration that was given out last.
    given: Option<Given>,
    /// A configuration that was given up, and the one that is in force in its place.
    given_up: Option<GivenUp>,
    /// Whether there may be something newer than what was given out.
    stale: bool,
    written: HashSet<String>,
    _watches: JoinSet<()>,
}

struct Given {
    digest: String,
    content: Content,
    refused: Vec<Diagnostic>,
}

struct GivenUp {
    digest: String,
    instead: Content,
}

impl KubernetesSource {
    /// Watches the cluster of `client`. `namespace` is the control plane's; what is in force is kept in the state folder.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, state: Arc<StateDir>) -> Self {
        let (told, changes) = mpsc::channel(BACKLOG);
        let mut watches = JoinSet::new();
        for (at, kind) in WATCHED.iter().enumerate() {
            watches.spawn(watch::follow(client.clone(), at, kind, namespace.to_owned(), told.clone()));
        }
        Self {
            name: format!("Kubernetes, namespace {namespace}"),
            store: Store::default(),
            changes,
            kept: KeptContents::new(state),
            given: None,
            given_up: None,
            stale: true,
            written: HashSet::new(),
            _watches: watches,
        }
    }

    /// Waits until all kinds have been listed: before that a policy may be missing.
    async fn listed(&mut self) {
        let mut said = Instant::now();
        loop {
            let missing: Vec<_> = self.store.missing().collect();
            if missing.is_empty() {
                return;
            }
            if said.elapsed() > REMIND {
                tracing::warn!("waiting for the API server to list {}", missing.join(", "));
                said = Instant::now();
            }
            match tokio::time::timeout(REMIND, self.changes.recv()).await {
                Ok(Some(change)) => self.store.take(change),
                Ok(None) => std::future::pending().await,
                Err(_) => {}
            }
        }
    }

    /// Takes the next change, and those that follow it quickly.
    async fn changed(&mut self) {
        let Some(change) = self.changes.recv().await else { return std::future::pending().await };
        self.store.take(change);
        // Remembered, so that nothing is lost when the caller stops waiting now.
        self.stale = true;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match tokio::time::timeout(QUIET, self.changes.recv()).await {
                Ok(Some(change)) => self.store.take(change),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// The cluster as it is known now.
    fn read(&mut self) -> Reading {
        let content = self.store.content();
        let digest = content.digest();
        if self.given_up.as_ref().is_some_and(|given_up| given_up.digest != digest) {
            self.given_up = None;
        }
        let reading = match &self.given_up {
            Some(given_up) => reading(&self.store, Some(&given_up.instead), &given_up.instead.digest()),
            None => reading(&self.store, None, &digest),
        };
        self.tell_refused();
        let refused = self.store.refused().cloned().collect();
        self.given = Some(Given { digest: reading.digest.clone(), content, refused });
        reading
    }

    /// Logs what is wrong with objects, once.
    fn tell_refused(&self) {
        for found in self.store.refused().filter(|found| found.severity == Severity::Error) {
            if !self.given.as_ref().is_some_and(|given| given.refused.contains(found)) {
                tracing::error!(path = found.path, "{} is invalid and not in force as it is: {}", found.place, found.message);
            }
        }
    }

    fn marked(&self, mark: Mark) -> Option<String> {
        self.kept.marked(mark).unwrap_or_else(|error| {
            tracing::error!(%error, "what was in force before is lost");
            None
        })
    }

    /// What is configured now, if a reading is of it.
    fn content_of(&self, reading: &Reading) -> Option<&Content> {
        let given = self.given.as_ref().filter(|_| self.given_up.is_none())?;
        (given.content.digest() == reading.content).then_some(&given.content)
    }

    fn mark_in_force(&self, content: &str) -> Result<(), StateError> {
        self.kept.mark(Mark::Last, content)?;
        self.kept.unmark(Mark::GivenUp)
    }
}

impl Source for KubernetesSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn first(&mut self) -> Result<First, Rejected> {
        self.listed().await;
        let last = self.marked(Mark::Last).and_then(|digest| self.kept.load(&digest).ok().flatten());
        if let Some(last) = &last {
            self.store.remember(last);
        }
        let now = self.store.content().digest();
        let given_up = self.marked(Mark::GivenUp).filter(|digest| *digest == now);
        if let (Some(digest), Some(instead)) = (given_up, last) {
            self.given_up = Some(GivenUp { digest, instead });
        }
        let kept = self.kept.all();
        let before = kept.iter().map(|content| reading(&self.store, Some(content), &content.digest())).collect();
        let reading = self.read();
        self.stale = false;
        if let Err(rejected) = &reading.mesh {
            return Err(rejected.clone());
        }
        let rejected = self.given_up.is_some().then(Rejected::given_up);
        Ok(First { reading, rejected, before: Before { readings: before } })
    }

    async fn next(&mut self) -> Reading {
        loop {
            if !self.stale {
                self.changed().await;
            }
            self.listed().await;
            let before = self.given.as_ref().map(|given| (given.digest.clone(), given.refused.clone()));
            let reading = self.read();
            self.stale = false;
            // An object that is newly invalid changes nothing of the mesh, and is told of.
            if before != self.given.as_ref().map(|given| (given.digest.clone(), given.refused.clone())) {
                return reading;
            }
        }
    }

    fn keep(&mut self, reading: &Reading) {
        if self.written.contains(&reading.content) {
            return;
        }
        let Some(content) = self.content_of(reading) else { return };
        match self.kept.keep(content) {
            Ok(()) => {
                self.written.insert(reading.content.clone());
            }
            Err(error) => tracing::error!(%error, "a restart would not find the configuration that comes into force now"),
        }
    }

    fn in_force(&mut self, reading: &Reading) {
        if self.content_of(reading).is_none() {
            return;
        }
        if let Err(error) = self.mark_in_force(&reading.content) {
            tracing::error!(%error, "a restart would not find the configuration in force now");
        }
    }

    fn needed(&mut self, contents: &[String]) {
        let needed: Vec<String> = contents.iter().cloned().chain(self.marked(Mark::Last)).collect();
        self.written.retain(|content| needed.contains(content));
        if let Err(error) = self.kept.retain(&needed) {
            tracing::warn!(%error, "configuration that nobody needs any more is not removed");
        }
    }

    fn give_up(&mut self, back_to: &str) -> Result<Reading, NoWayBack> {
        let instead = self.kept.load(back_to)?.ok_or(NoWayBack::Forgotten)?;
        self.kept.mark(Mark::Last, back_to)?;
        let now = self.store.content().digest();
        self.kept.mark(Mark::GivenUp, &now)?;
        self.given_up = Some(GivenUp { digest: now, instead });
        Ok(self.read())
    }
}

/// What exists, configured by `content` or, without it, by what is configured now.
fn reading(store: &Store, content: Option<&Content>, name: &str) -> Reading {
    let loaded = store.load(content);
    let (errors, mut warnings): (Vec<Diagnostic>, Vec<Diagnostic>) = loaded
        .diagnostics
        .into_iter()
        .filter(|diagnostic| diagnostic.severity != Severity::Info)
        .partition(|diagnostic| diagnostic.severity == Severity::Error);
    let mesh = match errors.first() {
        None => Ok(Arc::new(loaded.mesh)),
        Some(first) => Err(Rejected { summary: first.message.clone(), errors }),
    };
    warnings.extend(store.refused().cloned());
    Reading { mesh, digest: format!("{name}.{}", store.registry()), content: name.to_owned(), warnings }
}
