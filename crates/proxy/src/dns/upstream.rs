//! The name servers of this machine, asked from sockets that the capture rules leave alone.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::Instant;

use super::message;
use super::resolv_conf::ResolvConf;
use crate::capture::{Dialer, source_towards};

/// The port of name servers.
const PORT: u16 = 53;
/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long what `resolv.conf` says is not read again.
const CONF_LIFE: Duration = Duration::from_secs(10);
/// The largest reply in a datagram.
const MAX_DATAGRAM: usize = 65_535;

/// The name servers.
#[derive(Clone, Debug)]
pub struct Upstream {
    dialer: Dialer,
    servers: Servers,
}

#[derive(Clone, Debug)]
enum Servers {
    /// Those of `resolv.conf`.
    Machine(Arc<Mutex<Option<(Instant, ResolvConf)>>>),
    /// These.
    Fixed(Arc<[SocketAddr]>),
}

impl Upstream {
    /// Those of `/etc/resolv.conf`, as it is at the time.
    #[must_use]
    pub fn of_machine(dialer: Dialer) -> Self {
        Self { dialer, servers: Servers::Machine(Arc::default()) }
    }

    /// These servers.
    #[must_use]
    pub fn fixed(dialer: Dialer, servers: &[SocketAddr]) -> Self {
        Self { dialer, servers: Servers::Fixed(servers.into()) }
    }

    /// The search domains of this machine.
    #[must_use]
    pub fn search(&self) -> Vec<String> {
        match &self.servers {
            Servers::Machine(conf) => current(conf).search,
            Servers::Fixed(_) => Vec::new(),
        }
    }

    fn servers(&self) -> Vec<SocketAddr> {
        match &self.servers {
            Servers::Machine(conf) => current(conf).servers.into_iter().map(|ip| SocketAddr::new(ip, PORT)).collect(),
            Servers::Fixed(servers) => servers.to_vec(),
        }
    }

    /// The reply to a query, as it comes: of the first server that gives one, beginning with one by chance. `stream`: over
    /// TCP.
    ///
    /// # Errors
    /// No server replies in time.
    pub async fn exchange(&self, query: &[u8], stream: bool) -> io::Result<Vec<u8>> {
        let mut servers = self.servers();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "there is no name server");
        let start = if servers.is_empty() { 0 } else { fastrand::usize(..servers.len()) };
        servers.rotate_left(start);
        for server in servers {
            let asked =
                async { if stream { self.by_stream(server, query).await } else { self.by_datagram(server, query).await } };
            match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{server} does not answer")),
            }
        }
        Err(last)
    }

    async fn by_datagram(&self, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
        let socket = self.socket(server)?;
        socket.send(query).await?;
        let mut reply = vec![0; MAX_DATAGRAM];
        loop {
            let length = socket.recv(&mut reply).await?;
            // Anything else is somebody's guess.
            if message::answers(&reply[..length], query) {
                reply.truncate(length);
                return Ok(reply);
            }
        }
    }

    /// A socket of its own for each question, with a port by chance, that takes datagrams of this server alone.
    fn socket(&self, server: SocketAddr) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(server), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if let Some(mark) = self.dialer.mark {
            socket.set_mark(mark)?;
        }
        socket.connect(&server.into())?;
        UdpSocket::from_std(socket.into())
    }

    async fn by_stream(&self, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = self.dialer.connect(server).await?;
        write_framed(&mut stream, query).await?;
        let reply = read_framed(&mut stream).await?;
        let answers = message::answers(&reply, query);
        if answers {
            Ok(reply)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("{server} replies to another question")))
        }
    }
}

fn current(conf: &Mutex<Option<(Instant, ResolvConf)>>) -> ResolvConf {
    let mut known = conf.lock().unwrap_or_else(PoisonError::into_inner);
    match &*known {
        Some((read, conf)) if read.elapsed() < CONF_LIFE => conf.clone(),
        _ => known.insert((Instant::now(), ResolvConf::of_machine())).1.clone(),
    }
}

/// Reads a message with its length before it (RFC 1035 §4.2.2).
///
/// # Errors
/// The stream ends.
pub(super) async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes a message with its length before it.
///
/// # Errors
/// The stream is gone, or the message too long.
pub(super) async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

/// Whether this machine has a way to `ip`.
#[must_use]
pub fn is_routed(ip: IpAddr) -> bool {
    source_towards(SocketAddr::new(ip, PORT)).is_some()
}
