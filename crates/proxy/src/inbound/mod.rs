//! Connections to the workload: mode of the port, first bytes, then mutual TLS ended here, passed on, or refused.
//!
//! A plaintext caller of a server-first protocol sends nothing first. On a port that takes plaintext the application is
//! therefore dialled after a short silence, shorter where this caller has been greeted before ([`Greeters`]); whoever
//! speaks first then decides: the application (plaintext), or the caller, whose bytes are looked at as ever. So a slow
//! mesh caller is still recognised, and nothing of the application's reaches a caller of a STRICT port before it has
//! proved who it is.

mod decide;
mod greeters;

use std::sync::Arc;
use std::time::Duration;

use mutua_identity::Session;
use tokio::net::TcpStream;

use crate::capture::reset_on_close;
use crate::connections::{Connection, Outcome};
use crate::detect::{Detector, First, HANDSHAKE};
use crate::limits::Turn;
use crate::observe::{Observer, Scribe};
use crate::reasons::{Reason, Refusal};
use crate::relay::{Side, relay};
use crate::sidecar::{Sidecar, judge, unless_cut};
use crate::telemetry::{Parties, Reporter, Service};
use crate::tls::{Allowance, handshake_within, read_some, refusal};
use crate::world::{Inbound, Mode, Protocol, Snapshot};

pub use decide::{Verdict, decide, needs_detection};
pub use greeters::{Greeters, ServerFirst};

/// How long a caller may be silent on a port that takes mutual TLS only. Clients of TLS speak at once; a mesh sidecar
/// waits at most one second for its application's first bytes.
const STRICT_SILENCE: Duration = Duration::from_secs(3);

/// What was seen of a connection, and the application if it was dialled already.
struct Sighted {
    first: First,
    head: Vec<u8>,
    application: Option<TcpStream>,
    /// What the caller has of the bounds on those who have not proved who they are.
    unproved: Option<Unproved>,
}

/// A turn, and what is allowed in it.
struct Unproved {
    _turn: Turn,
    allowance: Allowance,
}

/// Serves one connection to the workload to its end.
///
/// # Errors
/// Why it was refused or cut.
pub async fn serve(sidecar: &Arc<Sidecar>, stream: TcpStream, connection: &Arc<Connection>) -> Result<(), Refusal> {
    // In a box of its own, so that its memory is given back when the relay begins.
    let prepared = Box::pin(unless_cut(connection, prepare(sidecar, &stream, connection))).await;
    let (mut down, application, mut observer) = match prepared {
        Ok(Some((downstream, application, observer))) => (downstream.side(stream), application, observer),
        Ok(None) => return Ok(()),
        Err(refusal) => {
            // TLS peers have had their alert; everybody else is to see that nothing was taken.
            if !is_told_by_alert(refusal.reason) {
                reset_on_close(&stream);
            }
            return Err(refusal);
        }
    };
    let mut up = Side::plain(application, Vec::new());
    sidecar.flows.begin(connection);
    let ended = relay(&mut down, &mut up, connection, &mut observer).await;
    judge(ended, connection)
}

/// What the accepted connection is to be relayed as.
enum Downstream {
    Plain(Vec<u8>),
    Tls(Box<crate::tls::Established>),
}

impl Downstream {
    fn side(self, stream: TcpStream) -> Side {
        match self {
            Self::Plain(head) => Side::plain(stream, head),
            Self::Tls(established) => Side::tls(stream, *established, false),
        }
    }
}

fn is_told_by_alert(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoClientCertificate
            | Reason::UntrustedCertificate
            | Reason::CertificateExpired
            | Reason::CertificateWithoutIdentity
            | Reason::ForeignTrustDomain
            | Reason::TlsVersionTooLow
            | Reason::NoCommonCryptography
            | Reason::TlsProtocolError
            | Reason::PeerRefusedTls
    )
}

/// Everything up to the relay. `None`: the caller left before it said anything.
async fn prepare(
    sidecar: &Arc<Sidecar>,
    stream: &TcpStream,
    connection: &Arc<Connection>,
) -> Result<Option<(Downstream, TcpStream, Observer)>, Refusal> {
    let snapshot = sidecar.ready(connection.direction).await?;
    let port = connection.original.port();
    let inbound = snapshot.inbound.as_ref().ok_or_else(|| Refusal::new(Reason::NotReady, "no policy has arrived yet"))?;
    let (mode, protocol) = inbound.treatment(port);
    if let Some(entry) = inbound.port(port).filter(|entry| !entry.service_host.is_empty()) {
        connection.note(|details| details.service = Some(Arc::clone(&entry.service_host)));
    }
    let Some(sighted) = sight(sidecar, stream, connection, (mode, protocol)).await? else { return Ok(None) };
    let downstream = match decide(mode, protocol, &sighted.first) {
        Verdict::Refuse(reason) => {
            let message = format!("port {port} is {mode} by {}", decided_by(&snapshot, port));
            return Err(Refusal::new(reason, message));
        }
        Verdict::Forward(outcome) => {
            connection.note(|details| details.outcome = Some(outcome));
            Downstream::Plain(sighted.head)
        }
        Verdict::Terminate { http_alpn } => {
            let unproved = match sighted.unproved {
                Some(unproved) => unproved,
                None => take_turn(sidecar, connection).await?,
            };
            terminate(&snapshot, stream, connection, (sighted.head, http_alpn, unproved.allowance)).await?
        }
    };
    let observer = observer(sidecar, inbound, connection, protocol);
    let application = match sighted.application {
        Some(application) => application,
        None => dial(sidecar, connection).await?,
    };
    Ok(Some((downstream, application, observer)))
}

async fn terminate(
    snapshot: &Snapshot,
    stream: &TcpStream,
    connection: &Connection,
    (head, http_alpn, allowance): (Vec<u8>, bool, Allowance),
) -> Result<Downstream, Refusal> {
    let tls = snapshot.tls.as_ref().ok_or_else(|| Refusal::new(Reason::NotReady, "no certificate yet"))?;
    let session = Session::server(tls.server(), http_alpn).map_err(|error| refusal(&error))?;
    connection.note(|details| details.local_identity = tls.credentials().id().map(ToString::to_string));
    let mut established = handshake_within(stream, session, head, allowance).await?;
    connection.note(|details| {
        details.tls = established.session.take_negotiated();
        details.outcome = Some(Outcome::Mtls);
    });
    Ok(Downstream::Tls(Box::new(established)))
}

/// Reads first bytes until they are decided. `None`: the caller left before it said anything.
async fn sight(
    sidecar: &Arc<Sidecar>,
    stream: &TcpStream,
    connection: &Connection,
    (mode, protocol): (Mode, Protocol),
) -> Result<Option<Sighted>, Refusal> {
    let mut sighted = Sighted { first: First::Plaintext, head: Vec::new(), application: None, unproved: None };
    if !needs_detection(mode, protocol) {
        return Ok(Some(sighted));
    }
    let silence = STRICT_SILENCE.min(sidecar.gate.limits().handshake_timeout);
    if mode == Mode::Strict && tokio::time::timeout(silence, speaks(stream)).await.is_err() {
        let message = "the caller says nothing: it waits for the server to speak first, without TLS";
        return Err(Refusal::new(Reason::PlaintextOnStrictPort, message));
    }
    if mode != Mode::Strict {
        let (port, caller) = (connection.original.port(), connection.peer.ip());
        let patience = sidecar.greeters.patience(port, caller);
        if tokio::time::timeout(patience, speaks(stream)).await.is_err() {
            let application = dial(sidecar, connection).await?;
            let greeting = tokio::select! {
                biased;
                _ = speaks(stream) => None,
                greets = speaks(&application) => Some(greets),
            };
            sighted.application = Some(application);
            if let Some(greets) = greeting {
                if greets {
                    sidecar.greeters.greeted(port, caller);
                }
                return Ok(Some(sighted));
            }
        }
        sidecar.greeters.spoken_to(port, caller);
    }
    let mut byte = [0];
    if !matches!(stream.peek(&mut byte).await, Ok(1)) || byte[0] != HANDSHAKE {
        // Decided by this byte, or the end.
        return Ok(read_first(stream, &mut sighted.head, mode).await?.map(|first| Sighted { first, ..sighted }));
    }
    let unproved = take_turn(sidecar, connection).await?;
    let decided = tokio::time::timeout_at(unproved.allowance.deadline, read_first(stream, &mut sighted.head, mode)).await;
    let decided = decided.map_err(|_| Refusal::new(Reason::HandshakeTimeout, "no complete ClientHello came in time"))?;
    Ok(decided?.map(|first| Sighted { first, unproved: Some(unproved), ..sighted }))
}

/// Waits for the turn of a caller that has begun to speak.
async fn take_turn(sidecar: &Sidecar, connection: &Connection) -> Result<Unproved, Refusal> {
    let allowance = Allowance::from_now(sidecar.gate.limits());
    let turn = sidecar.gate.turn(connection.peer.ip(), allowance.deadline).await?;
    Ok(Unproved { _turn: turn, allowance })
}

/// Waits for the first byte, an end or an error; whether it was a byte. Readiness alone may be a false alarm.
async fn speaks(stream: &TcpStream) -> bool {
    matches!(stream.peek(&mut [0]).await, Ok(1))
}

async fn read_first(stream: &TcpStream, head: &mut Vec<u8>, mode: Mode) -> Result<Option<First>, Refusal> {
    let mut detector = Detector::default();
    loop {
        match read_some(stream, head).await {
            Ok(0) if !head.is_empty() => {
                let message = format!("the caller closed after {} bytes of a TLS handshake", head.len());
                return Err(Refusal::new(Reason::PeerClosedInHandshake, message));
            }
            // A probe that only connects, or a caller that only listens.
            Ok(0) if mode == Mode::Strict => return Ok(None),
            Ok(0) => return Ok(Some(First::Plaintext)),
            Ok(_) => {}
            Err(_) => return Ok(None),
        }
        match detector.first(head) {
            First::Undecided => {}
            decided => return Ok(Some(decided)),
        }
    }
}

async fn dial(sidecar: &Sidecar, connection: &Connection) -> Result<TcpStream, Refusal> {
    let address = connection.original;
    connection.note(|details| details.endpoint = Some(address));
    let dialled = sidecar.dialer.connect_application(address, connection.peer.ip()).await;
    dialled.map_err(|error| Refusal::new(Reason::ApplicationUnreachable, format!("{address}: {error}")))
}

fn decided_by(snapshot: &Snapshot, port: u16) -> String {
    let Some(inbound) = &snapshot.inbound else { return String::new() };
    inbound.port(port).map_or_else(|| inbound.decided_by.clone(), |entry| entry.decided_by.clone())
}

/// What looks at the connection and counts it.
fn observer(sidecar: &Arc<Sidecar>, inbound: &Inbound, connection: &Arc<Connection>, protocol: Protocol) -> Observer {
    let details = connection.details();
    let peer = details.tls.as_ref().and_then(|tls| tls.peer_id.as_ref());
    let service = inbound.port(connection.original.port()).filter(|entry| !entry.service_host.is_empty());
    let service = service.map_or_else(
        || Service { name: "InboundPassthroughCluster".into(), ..Service::default() },
        |entry| Service {
            host: Arc::clone(&entry.service_host),
            name: Arc::clone(&entry.service_name),
            namespace: Arc::clone(&entry.service_namespace),
        },
    );
    let caller = sidecar.peers.labels(connection.peer.ip(), peer);
    let known = caller.is_some();
    let parties = Parties {
        source: caller.unwrap_or_default(),
        destination: inbound.labels.clone(),
        source_principal: peer.map(ToString::to_string),
        destination_principal: peer.and(details.local_identity),
        service,
    };
    let scribe = Scribe::new(sidecar, connection, Reporter::Destination, parties);
    let scribe = if known { scribe } else { scribe.asking(connection.peer.ip(), peer.cloned()) };
    scribe.observer(protocol)
}
