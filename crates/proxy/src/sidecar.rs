//! What all connections of one sidecar share, and the way of every connection through it.

use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access_log::AccessLogger;
use crate::capture::{Capture, Dialer, reset_on_close};
use crate::connections::{Connection, Connections, Direction, Outcome};
use crate::dns::{Resolver, Upstream};
use crate::flows::Flows;
use crate::inbound::Greeters;
use crate::limits::{Gate, Limits, Place};
use crate::outbound::Loads;
use crate::peers::Peers;
use crate::probes::{Application, Probers};
use crate::reasons::{Reason, Refusal};
use crate::relay::{End, Ended};
use crate::telemetry::{Metrics, Refusals};
use crate::tls::{Originations, refusal};
use crate::world::{Snapshot, World};

/// How long a connection waits for the first complete configuration before it is refused.
const READY_PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A sidecar's shared parts.
pub struct Sidecar {
    /// What it knows.
    pub world: Arc<World>,
    /// Its connections.
    pub connections: Connections,
    /// Its metrics.
    pub metrics: Metrics,
    /// Its refusals.
    pub refusals: Refusals,
    /// What passes, for the control plane.
    pub flows: Flows,
    /// How it dials out.
    pub dialer: Dialer,
    /// What endpoints' names stand for.
    pub resolver: Resolver,
    /// How busy endpoints are.
    pub loads: Loads,
    /// TLS towards servers outside the mesh.
    pub originations: Originations,
    /// Folders of files that rules may name.
    pub tls_folders: Vec<PathBuf>,
    /// Where ended connections are logged.
    pub log: AccessLogger,
    /// Who is behind which address.
    pub peers: Peers,
    /// Where servers speak first.
    pub greeters: Greeters,
    /// Where captured connections wanted to go.
    pub capture: Box<dyn Capture>,
    /// Ports that are never a destination: the sidecar's own.
    pub own_ports: Vec<u16>,
    /// Lets connections in.
    pub gate: Gate,
    /// The workload's probes.
    pub probers: Probers,
    /// Where they are asked for.
    pub application: Application,
    /// Asks for a new connection to the control plane.
    pub reconnect: tokio::sync::Notify,
}

impl Sidecar {
    /// A sidecar that knows nothing yet.
    #[must_use]
    pub fn new(world: Arc<World>, dialer: Dialer, capture: Box<dyn Capture>, log: AccessLogger) -> Self {
        Self {
            world,
            connections: Connections::default(),
            metrics: Metrics::default(),
            refusals: Refusals::default(),
            flows: Flows::default(),
            dialer,
            resolver: Resolver::new(Upstream::of_machine(dialer)),
            loads: Loads::default(),
            originations: Originations::default(),
            tls_folders: Vec::new(),
            log,
            peers: Peers::default(),
            greeters: Greeters::default(),
            capture,
            own_ports: Vec::new(),
            gate: Gate::new(Limits::default()),
            probers: Probers::default(),
            application: Application { dialer, ..Application::default() },
            reconnect: tokio::sync::Notify::new(),
        }
    }

    /// Accepts connections of one direction until `stop`.
    pub async fn serve(
        self: Arc<Self>,
        listener: Arc<TcpListener>,
        direction: Direction,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    tasks.spawn(Arc::clone(&self).handle(stream, peer, direction));
                }
                Err(error) => {
                    tracing::warn!(%error, direction = direction.as_str(), "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves a connection to its end. A fault of ours on its way ends this connection alone.
    async fn handle(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, direction: Direction) {
        let local = stream.local_addr().unwrap_or(peer);
        let entered = OnceLock::new();
        let served = Box::pin(self.run(stream, (peer, local), direction, &entered));
        let refusal = match AssertUnwindSafe(served).catch_unwind().await {
            Ok(served) => served.err(),
            Err(_) => Some(Refusal::new(Reason::InternalError, "the sidecar failed; its log says where")),
        };
        let open = || self.connections.open(direction, canonical(peer), canonical(local));
        self.finish(entered.get_or_init(open), refusal.as_ref());
    }

    async fn run(
        self: &Arc<Self>,
        stream: TcpStream,
        (peer, local): (SocketAddr, SocketAddr),
        direction: Direction,
        entered: &OnceLock<Arc<Connection>>,
    ) -> Result<(), Refusal> {
        let origin = self.capture.original_destination(&stream);
        let original = canonical(*origin.as_ref().unwrap_or(&local));
        let connection = entered.get_or_init(|| self.connections.open(direction, canonical(peer), original));
        let _place = self.admit(origin.is_ok(), local, connection).inspect_err(|_| reset_on_close(&stream))?;
        match direction {
            Direction::Inbound => Box::pin(crate::inbound::serve(self, stream, connection)).await,
            Direction::Outbound => Box::pin(crate::outbound::serve(self, stream, connection)).await,
        }
    }

    fn admit(&self, captured: bool, local: SocketAddr, connection: &Connection) -> Result<Place, Refusal> {
        if !captured {
            return Err(Refusal::new(Reason::OriginUnknown, format!("dialled {local} directly")));
        }
        let uncaptured = connection.original == canonical(local) && !self.capture.keeps_addresses();
        if uncaptured || self.own_ports.contains(&connection.original.port()) {
            return Err(Refusal::new(Reason::Loop, format!("{} is the sidecar's own", connection.original)));
        }
        self.gate.enter(connection.direction, connection.peer.ip())
    }

    /// Records how a connection ended.
    fn finish(&self, connection: &Connection, refusal: Option<&Refusal>) {
        if let Some(refusal) = refusal {
            self.refusals.count(connection, refusal);
            connection.note(|details| {
                // A connection that was served and then cut or broken keeps what it was.
                let cut = connection.is_cut() || refusal.reason == Reason::Truncated;
                if details.outcome.is_none() || !(cut || connection.bytes().1 > 0) {
                    details.outcome = Some(Outcome::Refused);
                }
                details.refusal = Some(refusal.clone());
            });
        }
        self.flows.end(connection, refusal);
        let record = self.connections.finish(connection);
        self.log.log(&record, &self.metrics);
    }

    /// The snapshot in force once it is complete. Connections wait for it for a while.
    ///
    /// # Errors
    /// It did not become complete in time.
    pub async fn ready(&self, direction: Direction) -> Result<Arc<Snapshot>, Refusal> {
        let serves = |snapshot: &Snapshot| match direction {
            Direction::Inbound => snapshot.inbound.is_some() && snapshot.tls.is_some(),
            Direction::Outbound => snapshot.is_ready(),
        };
        let now = self.world.current();
        if serves(&now) {
            return Ok(now);
        }
        let mut changes = self.world.follow();
        let complete = async {
            while !serves(&self.world.current()) {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let waited = tokio::time::timeout(READY_PATIENCE, complete).await;
        waited.map_err(|_| Refusal::new(Reason::NotReady, "no complete configuration has arrived yet"))?;
        Ok(self.world.current())
    }
}

/// IPv4 addresses as such, also where the socket speaks of them as IPv6.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What a relay's end means: nothing for orderly ends, else a refusal to be recorded. `answered`: whether the dialled
/// end has sent anything.
///
/// # Errors
/// The refusal.
pub fn judge(ended: Ended, connection: &Connection) -> Result<(), Refusal> {
    let (received, sent) = connection.bytes();
    let outbound = connection.direction == Direction::Outbound;
    let silent = outbound && sent == 0;
    match ended {
        Ended::Closed { first: End::Upstream } if silent && received > 0 => {
            let message = format!("the other end closed after {received} bytes without an answer");
            Err(Refusal::new(Reason::PeerClosedBeforeAnswer, message))
        }
        Ended::Reset { by: End::Upstream, error } if silent => {
            Err(Refusal::new(Reason::PeerClosedBeforeAnswer, format!("{error} before any answer")))
        }
        Ended::Closed { .. } | Ended::Reset { .. } | Ended::Parted => Ok(()),
        Ended::Tls { on: _, error } => Err(refusal(&error)),
        // Callers that are done often just close; the application was reset, which is all that matters.
        Ended::Truncated { on: End::Downstream } => Ok(()),
        Ended::Truncated { on: End::Upstream } => {
            Err(Refusal::new(Reason::Truncated, "the dialled end closed without TLS's closing message"))
        }
        Ended::Cut(reason) => Err(Refusal::new(reason, reason.meaning())),
    }
}

/// Runs `work` unless the connection is cut meanwhile.
///
/// # Errors
/// Of `work`, or the reason of the cut.
pub async fn unless_cut<T>(connection: &Connection, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    tokio::select! {
        done = work => done,
        reason = connection.cut() => Err(Refusal::new(reason, reason.meaning())),
    }
}
