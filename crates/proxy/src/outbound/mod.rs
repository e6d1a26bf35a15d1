//! Connections from the workload: destination, endpoint, TLS with the peer's identity checked, relay.

mod dial;
mod loads;
mod secure;

use std::sync::Arc;

use tokio::net::TcpStream;

use crate::capture::reset_on_close;
use crate::connections::{Connection, Outcome};
use crate::observe::{Observer, Scribe};
use crate::reasons::{Reason, Refusal};
use crate::relay::{Ended, Side, relay};
use crate::sidecar::{Sidecar, judge, unless_cut};
use crate::telemetry::{Parties, Reporter, Service};
use crate::world::{ClientMode, Endpoint, Labels, Match, Protocol, Snapshot};

pub use dial::{Candidates, Dialled, MAX_ATTEMPTS};
pub use loads::{Busy, Loads};

/// Serves one connection from the workload to its end. When policy changes, HTTP/1.1 goes on over another connection
/// between two messages: the application keeps its own.
///
/// # Errors
/// Why it was refused or cut.
pub async fn serve(sidecar: &Arc<Sidecar>, mut stream: TcpStream, connection: &Arc<Connection>) -> Result<(), Refusal> {
    loop {
        // What is awaited here stands in boxes of its own, so that the relay does without its memory.
        let prepared = match Box::pin(unless_cut(connection, prepare(sidecar, &stream, connection))).await {
            Ok(prepared) => prepared,
            Err(refusal) => {
                reset_on_close(&stream);
                return Err(refusal);
            }
        };
        let Prepared { head, mut up, mut observer, busy } = prepared;
        let mut down = Side::plain(stream, head);
        sidecar.flows.begin(connection);
        let ended = relay(&mut down, &mut up, connection, &mut observer).await;
        if !matches!(ended, Ended::Parted) {
            return judge(ended, connection);
        }
        up.leave();
        drop(busy);
        stream = down.into_stream();
        connection.parted();
        if !Box::pin(unless_cut(connection, async { Ok(goes_on(&stream).await) })).await? {
            return Ok(());
        }
    }
}

/// Waits for the application's next bytes; only then is it known what they are and worth a connection. `false`: it closed
/// instead.
async fn goes_on(stream: &TcpStream) -> bool {
    matches!(stream.peek(&mut [0]).await, Ok(1))
}

/// What the relay begins with.
struct Prepared {
    /// What was read of the application already.
    head: Vec<u8>,
    up: Side,
    observer: Observer,
    busy: Busy,
}

/// Everything up to the relay.
async fn prepare(sidecar: &Arc<Sidecar>, stream: &TcpStream, connection: &Arc<Connection>) -> Result<Prepared, Refusal> {
    let snapshot = sidecar.ready(connection.direction).await?;
    let Some(found) = snapshot.table.find(connection.original) else {
        return unknown(sidecar, &snapshot, connection).await;
    };
    connection.note(|details| details.service = Some(Arc::clone(&found.destination.host)));
    let mut head = Vec::new();
    // Nobody is dialled for what cannot be done.
    let plan = secure::prepare(sidecar, &snapshot, &found, (stream, &mut head)).await?;
    let Dialled { stream: up, endpoint, busy } = dial::dial(sidecar, &found, connection).await?;
    let uses_tls = endpoint.as_ref().is_none_or(|endpoint| endpoint.tls) && found.port.tls.mode != ClientMode::Disable;
    let up = if uses_tls {
        secure::originate(sidecar, (&snapshot, &found), connection, plan, (stream, &mut head, up)).await?
    } else {
        connection.note(|details| details.outcome = Some(Outcome::Plaintext));
        Side::plain(up, Vec::new())
    };
    let scribe = scribe(sidecar, &snapshot, connection, service(&found), endpoint.as_ref());
    Ok(Prepared { head, up, observer: scribe.observer(found.port.protocol), busy })
}

/// A destination of no service: passed through, or refused with REGISTRY_ONLY.
async fn unknown(sidecar: &Arc<Sidecar>, snapshot: &Snapshot, connection: &Arc<Connection>) -> Result<Prepared, Refusal> {
    let named = |name: &str| Service { name: name.into(), ..Service::default() };
    let address = connection.original;
    if snapshot.registry_only {
        scribe(sidecar, snapshot, connection, named("BlackHoleCluster"), None).is_tcp();
        let message = format!("{address} is in no service, and outboundTrafficPolicy is REGISTRY_ONLY");
        return Err(Refusal::new(Reason::UnknownDestination, message));
    }
    connection.note(|details| details.endpoint = Some(address));
    let dialled = sidecar.dialer.connect(address).await;
    let up = dialled.map_err(|error| Refusal::new(Reason::UpstreamConnectFailed, format!("{address}: {error}")))?;
    connection.note(|details| details.outcome = Some(Outcome::Plaintext));
    let scribe = scribe(sidecar, snapshot, connection, named("PassthroughCluster"), None);
    let busy = sidecar.loads.enter(address);
    Ok(Prepared { head: Vec::new(), up: Side::plain(up, Vec::new()), observer: scribe.observer(Protocol::Auto), busy })
}

fn service(found: &Match) -> Service {
    let destination = &found.destination;
    Service {
        host: Arc::clone(&destination.host),
        name: Arc::clone(&destination.name),
        namespace: Arc::clone(&destination.namespace),
    }
}

fn scribe(
    sidecar: &Arc<Sidecar>,
    snapshot: &Snapshot,
    connection: &Arc<Connection>,
    service: Service,
    endpoint: Option<&Endpoint>,
) -> Scribe {
    let details = connection.details();
    let peer = details.tls.as_ref().and_then(|tls| tls.peer_id.as_ref());
    let parties = Parties {
        source: snapshot.inbound.as_ref().map_or_else(Labels::default, |inbound| inbound.labels.clone()),
        destination: endpoint.map_or_else(Labels::default, |endpoint| endpoint.labels.clone()),
        source_principal: peer.and(details.local_identity),
        destination_principal: peer.map(ToString::to_string),
        service,
    };
    Scribe::new(sidecar, connection, Reporter::Source, parties)
}
