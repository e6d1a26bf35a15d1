//! The choice of an endpoint: in turns, and the next one when a connection fails.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::turn;
use crate::connections::Connection;
use crate::reasons::{Reason, Refusal};
use crate::sidecar::Sidecar;
use crate::world::{Address, Endpoint, Match};

/// Endpoints that are tried for one connection.
pub const MAX_ATTEMPTS: usize = 3;

/// A connection to an endpoint.
pub struct Dialled {
    /// The connection.
    pub stream: TcpStream,
    /// The endpoint; `None` when the original address was dialled.
    pub endpoint: Option<Endpoint>,
}

/// Connects to an endpoint of `found`.
///
/// # Errors
/// There is none, or none of those tried accepts connections.
pub(super) async fn dial(sidecar: &Sidecar, found: &Match, connection: &Connection) -> Result<Dialled, Refusal> {
    if found.destination.passthrough {
        let stream = connect(sidecar, connection.original, connection).await;
        let failed = |error| Refusal::new(Reason::UpstreamConnectFailed, format!("{}: {error}", connection.original));
        let ip = connection.original.ip();
        let endpoint = found.port.endpoints.iter().find(|endpoint| endpoint.address == Address::Ip(ip)).cloned();
        return Ok(Dialled { stream: stream.map_err(failed)?, endpoint });
    }
    let mut failures = Vec::new();
    for endpoint in candidates(found) {
        match reach(sidecar, &endpoint, connection).await {
            Ok(stream) => return Ok(Dialled { stream, endpoint: Some(endpoint) }),
            Err(error) => failures.push(format!("{}: {error}", place(&endpoint))),
        }
    }
    let (host, port) = (&found.destination.host, found.port.port);
    if failures.is_empty() {
        return Err(Refusal::new(Reason::NoEndpoint, format!("{host}:{port} has no endpoint")));
    }
    Err(Refusal::new(Reason::UpstreamConnectFailed, failures.join("; ")))
}

/// The endpoints to try, in order.
fn candidates(found: &Match) -> Vec<Endpoint> {
    if let Some(endpoint) = &found.endpoint {
        return vec![endpoint.clone()];
    }
    let endpoints = &found.port.endpoints;
    if endpoints.is_empty() {
        return Vec::new();
    }
    let start = turn(found) % endpoints.len();
    endpoints.iter().cycle().skip(start).take(endpoints.len().min(MAX_ATTEMPTS)).cloned().collect()
}

async fn reach(sidecar: &Sidecar, endpoint: &Endpoint, connection: &Connection) -> io::Result<TcpStream> {
    let name = match &endpoint.address {
        Address::Ip(ip) => return connect(sidecar, SocketAddr::new(*ip, endpoint.port), connection).await,
        Address::Name(name) => name,
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((&**name, endpoint.port)).await?.take(MAX_ATTEMPTS) {
        match connect(sidecar, address, connection).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect(sidecar: &Sidecar, address: SocketAddr, connection: &Connection) -> io::Result<TcpStream> {
    connection.note(|details| details.endpoint = Some(address));
    sidecar.dialer.connect(address).await
}

fn place(endpoint: &Endpoint) -> String {
    match &endpoint.address {
        Address::Ip(ip) => SocketAddr::new(*ip, endpoint.port).to_string(),
        Address::Name(name) => format!("{name}:{}", endpoint.port),
    }
}
