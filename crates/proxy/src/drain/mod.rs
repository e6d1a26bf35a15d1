//! Connections that a new policy no longer allows live on for the time of draining, and are then cut; those of a peer whose
//! certificate is revoked are cut at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connections::{Connection, Details, Direction, Outcome};
use crate::reasons::Reason;
use crate::sidecar::Sidecar;
use crate::world::{Address, ClientMode, Match, Mode, Snapshot};

/// How often connections are looked at while a change is recent: one that was being decided when the change came is
/// found so.
const SWEEP: Duration = Duration::from_secs(1);
/// For how long after a change.
const RECENT: Duration = Duration::from_secs(15);
/// How long a connection that was cut may take to end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Follows the changes of policy until `stop`.
pub async fn follow(sidecar: Arc<Sidecar>, stop: CancellationToken) {
    let mut changes = sidecar.world.follow();
    let mut deadlines: HashMap<u64, Instant> = HashMap::new();
    let mut swept_until = Instant::now();
    loop {
        let idle = deadlines.is_empty() && Instant::now() >= swept_until;
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                swept_until = Instant::now() + RECENT;
            }
            () = tokio::time::sleep(SWEEP), if !idle => {}
            () = stop.cancelled() => return,
        }
        sweep(&sidecar, &mut deadlines);
    }
}

/// Looks at every open connection; cuts those whose time is over.
fn sweep(sidecar: &Sidecar, deadlines: &mut HashMap<u64, Instant>) {
    let snapshot = sidecar.world.current();
    let now = Instant::now();
    let live = sidecar.connections.live();
    let mut still: HashMap<u64, Instant> = HashMap::new();
    for connection in &live {
        let details = connection.details();
        if is_revoked(&details, &snapshot) {
            connection.close(Reason::CertificateRevoked);
            continue;
        }
        let allowed = is_allowed(connection, &details, &snapshot);
        if connection.direction == Direction::Outbound {
            // Between two messages it may go on as it would be opened now; what has no such moment is cut.
            connection.part(!allowed);
        }
        if allowed {
            continue;
        }
        let deadline = *deadlines.get(&connection.id).unwrap_or(&(now + snapshot.drain));
        if deadline <= now {
            sidecar.metrics.drained_by_force.fetch_add(1, Ordering::Relaxed);
            connection.close(Reason::PolicyChanged);
        } else {
            still.insert(connection.id, deadline);
        }
    }
    *deadlines = still;
}

/// Whether the peer's certificate has been taken back since the connection was opened: nothing more is exchanged with it.
fn is_revoked(details: &Details, snapshot: &Snapshot) -> bool {
    let mesh = details.tls.as_ref().filter(|_| details.outcome == Some(Outcome::Mtls));
    mesh.zip(snapshot.tls.as_ref()).is_some_and(|(tls, context)| context.bundle().revokes_peer(tls))
}

/// Whether a connection could be opened as it is under `snapshot`.
#[must_use]
pub fn is_allowed(connection: &Connection, details: &Details, snapshot: &Snapshot) -> bool {
    let Some(outcome) = details.outcome else { return true };
    match connection.direction {
        Direction::Inbound => allows_inbound(connection.original.port(), outcome, details, snapshot),
        Direction::Outbound => allows_outbound(connection, outcome, details, snapshot),
    }
}

fn allows_inbound(port: u16, outcome: Outcome, details: &Details, snapshot: &Snapshot) -> bool {
    let Some(inbound) = &snapshot.inbound else { return true };
    let (mode, protocol) = inbound.treatment(port);
    match outcome {
        Outcome::Plaintext => mode != Mode::Strict,
        Outcome::Tls => mode != Mode::Strict && !protocol.is_http(),
        Outcome::Mtls => {
            let Some(tls) = &details.tls else { return true };
            let domains = &inbound.server.trust_domains;
            let trusted = tls.peer_id.as_ref().is_none_or(|id| domains.is_empty() || domains.contains(id.trust_domain()));
            let version = inbound.server.min_version == mutua_identity::MinVersion::Tls12 || tls.version == "TLSv1.3";
            trusted && version
        }
        Outcome::Refused => true,
    }
}

fn allows_outbound(connection: &Connection, outcome: Outcome, details: &Details, snapshot: &Snapshot) -> bool {
    let Some(found) = snapshot.table.find(connection.original) else {
        // A destination that is in no service any more counts as any other unknown one.
        return !snapshot.registry_only;
    };
    let Some(expected) = expected(&found, details) else { return true };
    if expected != outcome {
        return false;
    }
    let ids = &found.port.tls.peer.0.ids;
    let peer = details.tls.as_ref().and_then(|tls| tls.peer_id.as_ref());
    outcome != Outcome::Mtls || ids.is_empty() || peer.is_some_and(|peer| ids.contains(&peer.to_string()))
}

/// What a connection to the same endpoint would be now; `None` when the endpoint is gone.
fn expected(found: &Match, details: &Details) -> Option<Outcome> {
    let by_mode = match found.port.tls.mode {
        ClientMode::Disable => Outcome::Plaintext,
        ClientMode::Simple | ClientMode::Mutual => Outcome::Tls,
        ClientMode::IstioMutual => Outcome::Mtls,
    };
    let dialled = details.endpoint?;
    let same = |address: &Address, port: u16| match address {
        Address::Ip(ip) => *ip == dialled.ip() && port == dialled.port(),
        Address::Name(_) => port == dialled.port(),
    };
    match found.port.endpoints.iter().find(|endpoint| same(&endpoint.address, endpoint.port)) {
        Some(endpoint) if !endpoint.tls => Some(Outcome::Plaintext),
        Some(_) => Some(by_mode),
        None if found.destination.passthrough => Some(by_mode),
        None => None,
    }
}

/// Lets open connections go on for `patience`, then cuts them. `served` are their tasks; nothing is accepted any more.
pub async fn stop(sidecar: &Sidecar, served: &TaskTracker, patience: Duration) {
    served.close();
    if tokio::time::timeout(patience, served.wait()).await.is_ok() {
        return;
    }
    for connection in sidecar.connections.live() {
        sidecar.metrics.drained_by_force.fetch_add(1, Ordering::Relaxed);
        connection.close(Reason::Shutdown);
    }
    // What was cut has its records and counters written.
    let _ = tokio::time::timeout(LAST_WORDS, served.wait()).await;
}
