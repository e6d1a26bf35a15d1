//! Everything that a sidecar listens on: bound at the start, or inherited from the sidecar that ran before.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::bind_socket;
use crate::capture::{keep_alive, listen, listen_transparent};
use crate::connections::Direction;
use crate::handover::{Given, Inherited, SOCKET};
use crate::redirect::Interception;
use crate::run::StartError;
use crate::settings::Listen;

/// Listeners, all there before the first connection is served.
pub(crate) struct Listeners {
    /// For each worker.
    pub workers: Vec<Vec<(Direction, TcpListener)>>,
    /// Captured questions to name servers, by datagram and by stream.
    pub dns: Vec<(UdpSocket, TcpListener)>,
    /// `/stats/prometheus`.
    pub metrics: TcpListener,
    /// `/healthz/ready`.
    pub readiness: TcpListener,
    /// The admin socket.
    pub admin: UnixListener,
    /// Where a successor asks.
    pub successor: UnixListener,
}

impl Listeners {
    /// Takes what a predecessor gives, and binds the rest.
    ///
    /// # Errors
    /// An address, or a socket in the state folder, is in use or cannot be bound.
    pub fn bind(
        addresses: &Listen,
        workers: usize,
        folder: &Path,
        mut inherited: Option<&mut Inherited>,
    ) -> Result<Self, StartError> {
        let mut take = |name: &str| inherited.as_mut().map(|inherited| inherited.take(name)).unwrap_or_default();
        // Not shared, so that a second sidecar in this network namespace is found out.
        let mut alone = |what: &str, address: SocketAddr| match take(&name(what, address)).pop() {
            Some(socket) => Ok(TcpListener::from(socket)),
            None => listen(address, false).map_err(failed(address)),
        };
        let metrics = alone("metrics", addresses.metrics)?;
        let readiness = alone("readiness", addresses.readiness)?;
        let streams = addresses.dns.iter().map(|address| alone("names", *address)).collect::<Result<Vec<_>, _>>()?;
        let mut datagrams = |address: SocketAddr| match take(&name(DATAGRAMS, address)).pop() {
            Some(socket) => Ok(UdpSocket::from(socket)),
            None => UdpSocket::bind(address).map_err(failed(address)),
        };
        let datagrams = addresses.dns.iter().map(|address| datagrams(*address)).collect::<Result<Vec<_>, _>>()?;
        let mut local = |file: &str| match take(file).pop() {
            Some(socket) => Ok(UnixListener::from(socket)),
            None => bind_socket(&folder.join(file)).map_err(failed(folder.join(file).display())),
        };
        let (admin, successor) = (local(ADMIN_SOCKET)?, local(SOCKET)?);
        let mut workers: Vec<Vec<(Direction, TcpListener)>> = (0..workers).map(|_| Vec::new()).collect();
        let inbound = addresses.inbound.iter().map(|address| (Direction::Inbound, *address));
        for (direction, address) in inbound.chain(addresses.outbound.iter().map(|address| (Direction::Outbound, *address))) {
            let mut sockets: Vec<TcpListener> =
                take(&name(direction.as_str(), address)).into_iter().map(TcpListener::from).collect();
            while sockets.len() < workers.len() {
                let transparent = direction == Direction::Inbound && addresses.interception == Interception::Tproxy;
                let listener = if transparent { listen_transparent(address) } else { listen(address, true) };
                sockets.push(listener.map_err(failed(address))?);
            }
            // An inherited socket that nobody accepts from would hold connections for ever.
            let count = workers.len();
            for (at, socket) in sockets.into_iter().enumerate() {
                workers[at % count].push((direction, socket));
            }
        }
        Ok(Self { workers, dns: datagrams.into_iter().zip(streams).collect(), metrics, readiness, admin, successor })
    }

    /// Lets the kernel ask after so much silence whether who was accepted still lives.
    pub fn keep_alive(&self, silence: Duration) {
        self.workers.iter().flatten().for_each(|(_, listener)| keep_alive(listener, silence));
    }
}

/// The listeners that are served: the same sockets are given to a successor.
#[derive(Default)]
pub(crate) struct Served(pub Vec<Given>);

impl Served {
    /// Has a listener served by the event loop at hand.
    ///
    /// # Errors
    /// The system cannot watch it.
    pub fn tcp(&mut self, what: &str, listener: TcpListener) -> io::Result<Arc<tokio::net::TcpListener>> {
        let listener = Arc::new(tokio::net::TcpListener::from_std(listener)?);
        self.0.push((name(what, listener.local_addr()?), Arc::clone(&listener) as _));
        Ok(listener)
    }

    /// As [`Served::tcp`], for datagrams.
    ///
    /// # Errors
    /// As [`Served::tcp`].
    pub fn datagrams(&mut self, socket: UdpSocket) -> io::Result<Arc<tokio::net::UdpSocket>> {
        socket.set_nonblocking(true)?;
        let socket = Arc::new(tokio::net::UdpSocket::from_std(socket)?);
        self.0.push((name(DATAGRAMS, socket.local_addr()?), Arc::clone(&socket) as _));
        Ok(socket)
    }

    /// As [`Served::tcp`], for the socket `file` of the state folder.
    ///
    /// # Errors
    /// As [`Served::tcp`].
    pub fn local(&mut self, file: &str, listener: UnixListener) -> io::Result<Arc<tokio::net::UnixListener>> {
        listener.set_nonblocking(true)?;
        let listener = Arc::new(tokio::net::UnixListener::from_std(listener)?);
        self.0.push((file.to_owned(), Arc::clone(&listener) as _));
        Ok(listener)
    }
}

fn name(what: &str, address: SocketAddr) -> String {
    format!("{what} {address}")
}

fn failed(address: impl ToString) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Listen { address: address.to_string(), source }
}

/// Questions by datagram, in the names by which a successor asks.
const DATAGRAMS: &str = "names by datagram";
/// The admin socket in the state folder.
pub(crate) const ADMIN_SOCKET: &str = "admin.sock";
