//! TLS towards the endpoint: the mesh's own, or originated for a server outside the mesh.

use std::time::Duration;

use mutua_identity::{ClientConfig, Session};
use tokio::net::TcpStream;

use crate::connections::{Connection, Outcome};
use crate::detect::{HttpVersion, host, http_version};
use crate::reasons::{Reason, Refusal};
use crate::relay::Side;
use crate::sidecar::Sidecar;
use crate::tls::{Allowance, handshake_within, read_some, refusal};
use crate::world::{ClientMode, Match, Protocol, Snapshot};

/// How long the application's first bytes are waited for on a port declared HTTP. An application that stays silent for
/// longer (a connection kept in reserve) is served all the same, without a name for its protocol.
const FIRST_BYTES: Duration = Duration::from_secs(1);
/// How long a request's head is waited for where TLS takes the server's name from it.
const HOST_PATIENCE: Duration = Duration::from_secs(10);
/// The longest head that is read for its Host.
const MAX_HEAD: usize = 64 * 1024;

/// What the TLS client is made with.
pub(super) struct Plan {
    config: ClientConfig,
    server_name: Option<String>,
    alpn: Vec<&'static [u8]>,
    outcome: Outcome,
    local_identity: Option<String>,
}

/// What can fail before anybody is dialled: the files and names of `SIMPLE` and `MUTUAL`. `None` for all else. What was read
/// of the application (`down`) meanwhile is in `head`.
pub(super) async fn prepare(
    sidecar: &Sidecar,
    snapshot: &Snapshot,
    found: &Match,
    (down, head): (&TcpStream, &mut Vec<u8>),
) -> Result<Option<Plan>, Refusal> {
    match found.port.tls.mode {
        ClientMode::Simple | ClientMode::Mutual => to_outside(sidecar, snapshot, found, down, head).await.map(Some),
        ClientMode::Disable | ClientMode::IstioMutual => Ok(None),
    }
}

/// Runs the handshake with `up`, by the plan, else as within the mesh. `head` is what was read of the application (`down`).
pub(super) async fn originate(
    sidecar: &Sidecar,
    (snapshot, found): (&Snapshot, &Match),
    connection: &Connection,
    plan: Option<Plan>,
    (down, head, up): (&TcpStream, &mut Vec<u8>, TcpStream),
) -> Result<Side, Refusal> {
    let plan = match plan {
        Some(plan) => plan,
        None => {
            if found.port.protocol.is_http() {
                first_bytes(down, head).await;
            }
            to_mesh(snapshot, found, head)?
        }
    };
    connection.note(|details| details.local_identity.clone_from(&plan.local_identity));
    let session = Session::client(&plan.config, plan.server_name.as_deref(), &plan.alpn).map_err(|error| refusal(&error))?;
    let mut established = handshake_within(&up, session, Vec::new(), Allowance::from_now(sidecar.gate.limits())).await?;
    connection.note(|details| {
        details.tls = established.session.take_negotiated();
        details.outcome = Some(plan.outcome);
    });
    Ok(Side::tls(up, established, plan.outcome == Outcome::Tls))
}

async fn first_bytes(down: &TcpStream, head: &mut Vec<u8>) {
    // Silence and an early end say nothing about the protocol; the relay sees an end again.
    let _ = tokio::time::timeout(FIRST_BYTES, read_some(down, head)).await;
}

/// The mesh's mutual TLS. `istio` is always offered; names of HTTP only when the first bytes prove it.
fn to_mesh(snapshot: &Snapshot, found: &Match, head: &[u8]) -> Result<Plan, Refusal> {
    let tls = snapshot.tls.as_ref().ok_or_else(|| Refusal::new(Reason::NotReady, "no certificate yet"))?;
    let alpn: Vec<&'static [u8]> = match http_version(head) {
        Some(HttpVersion::Http1) => vec![b"istio-http/1.1", b"istio", b"http/1.1"],
        Some(HttpVersion::Http2) => vec![b"istio-h2", b"istio", b"h2"],
        None => vec![b"istio"],
    };
    Ok(Plan {
        config: tls.mesh_client(&found.port.tls.peer.0).map_err(|error| refusal(&error))?,
        server_name: name(&found.port.tls.sni),
        alpn,
        outcome: Outcome::Mtls,
        local_identity: tls.credentials().id().map(ToString::to_string),
    })
}

/// `SIMPLE` and `MUTUAL`, with the files of the rule.
async fn to_outside(
    sidecar: &Sidecar,
    snapshot: &Snapshot,
    found: &Match,
    down: &TcpStream,
    head: &mut Vec<u8>,
) -> Result<Plan, Refusal> {
    let port = &found.port;
    let by_host = port.tls.from_host_header && port.protocol.is_http() && port.tls.sni.is_empty();
    let server_name = if by_host { Some(read_host(down, head).await?) } else { name(&port.tls.sni) };
    let verify_name = by_host && port.tls.subject_alt_names.is_empty() && !port.tls.insecure_skip_verify;
    let made = sidecar.originations.client(&port.tls, &sidecar.tls_folders, verify_name, &snapshot.algorithms);
    // `h2` is offered only where the port is declared HTTP/2, as in Istio.
    let alpn: Vec<&'static [u8]> = if port.protocol == Protocol::Http2 { vec![b"h2"] } else { Vec::new() };
    Ok(Plan {
        config: made.map_err(|error| Refusal::new(Reason::TlsSettings, error.to_string()))?,
        server_name: server_name.filter(|name| name.parse::<std::net::IpAddr>().is_err() || verify_name),
        alpn,
        outcome: Outcome::Tls,
        local_identity: None,
    })
}

fn name(sni: &str) -> Option<String> {
    (!sni.is_empty()).then(|| sni.to_owned())
}

async fn read_host(down: &TcpStream, head: &mut Vec<u8>) -> Result<String, Refusal> {
    let missing = |message: &str| Refusal::new(Reason::HostMissing, message);
    let read = async {
        loop {
            match host(head) {
                Ok(Some(host)) => return Ok(host),
                Ok(None) => return Err(missing("the request has no usable Host header")),
                Err(()) if head.len() >= MAX_HEAD => return Err(missing("the head of the request is too long")),
                Err(()) => {}
            }
            if read_some(down, head).await.unwrap_or(0) == 0 {
                return Err(missing("the application closed before its request was complete"));
            }
        }
    };
    tokio::time::timeout(HOST_PATIENCE, read).await.unwrap_or_else(|_| Err(missing("no complete request in time")))
}
