//! The choice of an endpoint: of two that chance names, the one with fewer connections; others when it cannot be reached.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::loads::Busy;
use crate::connections::Connection;
use crate::dns::Resolver;
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
    /// Counts the connection for the choices of others.
    pub busy: Busy,
}

/// Connects to an endpoint of `found`.
///
/// # Errors
/// There is none, or none of those tried accepts connections.
pub(super) async fn dial(sidecar: &Sidecar, found: &Match, connection: &Connection) -> Result<Dialled, Refusal> {
    if found.destination.passthrough {
        let busy = sidecar.loads.enter(connection.original);
        let stream = connect(sidecar, connection.original, connection).await;
        let failed = |error| Refusal::new(Reason::UpstreamConnectFailed, format!("{}: {error}", connection.original));
        let ip = connection.original.ip();
        let endpoint = found.port.endpoints.iter().find(|endpoint| endpoint.address == Address::Ip(ip)).cloned();
        return Ok(Dialled { stream: stream.map_err(failed)?, endpoint, busy });
    }
    let mut failures = Vec::new();
    let candidates = Candidates::of(&sidecar.resolver, found, &mut failures).await;
    let mut tried = Vec::new();
    let addressed = |at| candidates.at(at).map(|(address, _)| address);
    while let Some((at, busy)) = sidecar.loads.choose(candidates.count(), &tried, addressed)
        && let Some((address, endpoint)) = candidates.at(at)
    {
        match connect(sidecar, address, connection).await {
            Ok(stream) => return Ok(Dialled { stream, endpoint: Some(endpoint.clone()), busy }),
            Err(error) => failures.push(format!("{}: {error}", place(endpoint, address))),
        }
        tried.push(at);
        if tried.len() == MAX_ATTEMPTS {
            break;
        }
    }
    let (host, port) = (&found.destination.host, found.port.port);
    if failures.is_empty() {
        return Err(Refusal::new(Reason::NoEndpoint, format!("{host}:{port} has no endpoint")));
    }
    Err(Refusal::new(Reason::UpstreamConnectFailed, failures.join("; ")))
}

/// Where a connection may go.
pub enum Candidates<'m> {
    /// Endpoints that all have an address: they are looked at where they stand, however many there are.
    Standing(&'m [Endpoint]),
    /// Names were resolved.
    Resolved(Vec<(SocketAddr, &'m Endpoint)>),
}

impl<'m> Candidates<'m> {
    /// Those of `found`. Names that cannot be resolved are left out, and said in `failures`.
    pub async fn of(resolver: &Resolver, found: &'m Match, failures: &mut Vec<String>) -> Self {
        let endpoints = found.endpoint.as_ref().map_or(&*found.port.endpoints, std::slice::from_ref);
        if !found.port.names {
            return Self::Standing(endpoints);
        }
        let mut candidates = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            match &endpoint.address {
                Address::Ip(ip) => candidates.push((SocketAddr::new(*ip, endpoint.port), endpoint)),
                Address::Name(name) => match resolver.resolve(name).await {
                    Ok(ips) => {
                        let used = if found.destination.one_address { 1 } else { ips.len() };
                        candidates.extend(ips.iter().take(used).map(|ip| (SocketAddr::new(*ip, endpoint.port), endpoint)));
                    }
                    Err(error) => failures.push(format!("{name}:{}: {error}", endpoint.port)),
                },
            }
        }
        Self::Resolved(candidates)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Standing(endpoints) => endpoints.len(),
            Self::Resolved(candidates) => candidates.len(),
        }
    }

    /// One of them.
    #[must_use]
    pub fn at(&self, at: usize) -> Option<(SocketAddr, &'m Endpoint)> {
        match self {
            Self::Standing(endpoints) => endpoints.get(at).and_then(|endpoint| Some((endpoint.socket()?, endpoint))),
            Self::Resolved(candidates) => candidates.get(at).copied(),
        }
    }
}

async fn connect(sidecar: &Sidecar, address: SocketAddr, connection: &Connection) -> io::Result<TcpStream> {
    connection.note(|details| details.endpoint = Some(address));
    sidecar.dialer.connect(address).await
}

/// An endpoint as a person reads it: its name where it has one.
fn place(endpoint: &Endpoint, address: SocketAddr) -> String {
    match &endpoint.address {
        Address::Ip(_) => address.to_string(),
        Address::Name(name) => format!("{name} ({address})"),
    }
}
