//! The threads that serve connections. Each has its own event loop and its own listeners; the kernel spreads connections
//! over them (`SO_REUSEPORT`). Both sockets of a connection stay on the thread that accepted it, so no message wakes
//! another thread. What threads share is read without waiting: the snapshot (`arc-swap`) and counters.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connections::Direction;
use crate::listeners::Served;
use crate::sidecar::Sidecar;

/// Threads that serve connections unless asked otherwise; a sidecar takes little of a machine that is there for its application.
const WORKERS: usize = 2;
/// The stack of such a thread.
const STACK: usize = 1 << 20;
/// Threads of a worker for what blocks: resolving names.
const BLOCKING: usize = 8;

/// The most that may be asked for.
const MAX_WORKERS: usize = 128;

/// How many threads serve connections here: as many as asked for (0: one on each processor), else a few.
pub(crate) fn count(asked: Option<usize>) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match asked {
        Some(0) => processors,
        Some(asked) => asked.min(MAX_WORKERS),
        None => processors.min(WORKERS),
    }
}

/// The event loop of one thread.
///
/// # Errors
/// The system gives no descriptors.
pub(crate) fn event_loop() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().max_blocking_threads(BLOCKING).thread_stack_size(STACK).enable_all().build()
}

/// Everything that the workers share.
#[derive(Clone)]
pub(crate) struct Work {
    pub sidecar: Arc<Sidecar>,
    /// Those who accept.
    pub accepting: TaskTracker,
    /// Connections that are served.
    pub connections: TaskTracker,
    /// Ends accepting.
    pub stop: CancellationToken,
    /// Ends the threads, and with them what is still served.
    pub end: CancellationToken,
}

impl Work {
    /// Starts a thread for each set of listeners.
    ///
    /// # Errors
    /// The system gives no thread or no descriptors.
    pub fn start(&self, listeners: Vec<Vec<(Direction, TcpListener)>>, served: &mut Served) -> io::Result<Vec<JoinHandle<()>>> {
        listeners.into_iter().map(|listeners| self.thread(listeners, served)).collect()
    }

    fn thread(&self, listeners: Vec<(Direction, TcpListener)>, served: &mut Served) -> io::Result<JoinHandle<()>> {
        let (work, event_loop) = (self.clone(), event_loop()?);
        let mut watched = Vec::new();
        {
            // The thread's own event loop watches them.
            let _its = event_loop.enter();
            for (direction, listener) in listeners {
                watched.push((direction, served.tcp(direction.as_str(), listener)?));
            }
        }
        std::thread::Builder::new().name("worker".to_owned()).stack_size(STACK).spawn(move || {
            event_loop.block_on(work.serve(watched));
            event_loop.shutdown_background();
        })
    }

    /// Accepts no more connections. Whatever was accepted before is among those that are served when this is done.
    pub async fn stop_accepting(&self) {
        self.stop.cancel();
        self.accepting.close();
        self.accepting.wait().await;
    }

    async fn serve(&self, listeners: Vec<(Direction, Arc<tokio::net::TcpListener>)>) {
        for (direction, listener) in listeners {
            let served = Arc::clone(&self.sidecar).serve(listener, direction, self.connections.clone(), self.stop.clone());
            self.accepting.spawn(served);
        }
        self.end.cancelled().await;
    }
}
