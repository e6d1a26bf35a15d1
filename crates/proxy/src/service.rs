//! A sidecar at work: threads that serve, tasks that answer questions, and their end.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{Admin, Origin, Pages, serve_tcp, serve_unix};
use crate::dns::Dns;
use crate::handover::{self, Succession, Successor};
use crate::listeners::{ADMIN_SOCKET, Listeners, Served};
use crate::notify::Manager;
use crate::sidecar::Sidecar;
use crate::workers::Work;

/// What a sidecar is at work with.
pub(crate) struct Service {
    work: Work,
    origin: Origin,
    dns: Arc<Dns>,
    /// Ends what keeps certificate and configuration current.
    pub following: CancellationToken,
}

/// What was started.
pub(crate) struct Running {
    workers: Vec<JoinHandle<()>>,
    answers: Vec<AbortHandle>,
    succession: Succession,
}

impl Service {
    /// A service that is not started.
    pub fn new(sidecar: &Arc<Sidecar>, origin: &Origin, dns: Dns) -> Self {
        let end = CancellationToken::new();
        let following = end.child_token();
        let work = Work {
            sidecar: Arc::clone(sidecar),
            accepting: TaskTracker::new(),
            connections: TaskTracker::new(),
            stop: CancellationToken::new(),
            end,
        };
        Self { work, origin: origin.clone(), dns: Arc::new(dns), following }
    }

    /// Ends everything, also what was started.
    pub fn end(&self) -> CancellationToken {
        self.work.end.clone()
    }

    /// Serves and answers from now on.
    ///
    /// # Errors
    /// The system gives no thread or no descriptors.
    pub fn start(&self, listeners: Listeners) -> io::Result<Running> {
        let mut served = Served::default();
        let admin =
            Admin { sidecar: Arc::clone(&self.work.sidecar), origin: self.origin.clone(), stopping: self.work.stop.clone() };
        let successor = served.local(handover::SOCKET, listeners.successor)?;
        let workers = self.work.start(listeners.workers, &mut served)?;
        let mut answers = vec![
            tokio::spawn(serve_tcp(admin.clone(), Pages::Metrics, served.tcp("metrics", listeners.metrics)?)).abort_handle(),
            tokio::spawn(serve_tcp(admin.clone(), Pages::Readiness, served.tcp("readiness", listeners.readiness)?))
                .abort_handle(),
            tokio::spawn(serve_unix(admin, served.local(ADMIN_SOCKET, listeners.admin)?)).abort_handle(),
        ];
        for (datagrams, streams) in listeners.dns {
            let (datagrams, streams) = (served.datagrams(datagrams)?, served.tcp("names", streams)?);
            let (dns, end) = (&self.dns, &self.work.end);
            answers.push(tokio::spawn(Arc::clone(dns).serve_datagrams(datagrams, end.clone())).abort_handle());
            answers.push(tokio::spawn(Arc::clone(dns).serve_streams(streams, end.clone())).abort_handle());
        }
        Ok(Running { workers, answers, succession: Succession { listener: successor, sockets: served.0 } })
    }

    /// Serves until `asked` to stop, or until a successor does it; then lets open connections go on for a while, until
    /// asked (again) to stop.
    pub async fn run_to_end(&self, running: Running, asked: &mut impl AsyncFnMut(), drain: Duration, manager: &Manager) {
        let Running { workers, answers, succession } = running;
        let sidecar = &self.work.sidecar;
        let successor = tokio::select! {
            () = asked() => None,
            successor = succession.wait(sidecar, self.work.end.clone()) => successor,
        };
        let open = sidecar.connections.count();
        let patience = if let Some(successor) = successor {
            tracing::info!(open, "another process takes over: open connections go on for a while, new ones are its");
            self.hand_over(successor, &answers).await;
            drain.max(sidecar.world.current().drain)
        } else {
            tracing::info!(open, "stopping: open connections go on for a while, new ones are refused");
            manager.stopping();
            self.work.stop_accepting().await;
            drain
        };
        tokio::select! {
            () = crate::drain::stop(sidecar, &self.work.connections, patience) => {}
            () = asked() => crate::drain::stop(sidecar, &self.work.connections, Duration::ZERO).await,
        }
        sidecar.log.finish(Duration::from_secs(1));
        self.work.end.cancel();
        for worker in workers {
            // A worker that failed has said so.
            let _ = worker.join();
        }
    }

    /// Certificate, configuration and questions are the successor's from now on.
    async fn hand_over(&self, successor: Successor, answers: &[AbortHandle]) {
        self.following.cancel();
        answers.iter().for_each(AbortHandle::abort);
        self.work.stop_accepting().await;
        drop(successor);
    }
}
