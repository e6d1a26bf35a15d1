//! Sockets: listening, dialling out with the sidecar's mark, and options of captured connections.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;
/// Silence after which the kernel asks whether the peer still lives, and the pause between two such questions.
pub const KEEPALIVE: Duration = Duration::from_secs(180);
/// Ports from which the application is dialled as its caller, and how many are tried.
const CALLER_PORTS: std::ops::Range<u16> = 1024..32_768;
const PORT_ATTEMPTS: usize = 32;
/// How long one endpoint may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Listens on `address`, on its family alone.
///
/// # Errors
/// The address cannot be bound.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::from_std(listen(address, false)?)
}

/// As [`bind`], outside of an event loop. What is accepted inherits the socket's options. `shared`: further listeners of this
/// user may take part in the address, and the kernel spreads connections over them.
///
/// # Errors
/// The address cannot be bound.
pub fn listen(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    listen_as(address, shared, |_| Ok(()))
}

/// As [`listen`], shared, for connections to any address that the kernel leads here (TPROXY).
///
/// # Errors
/// The address cannot be bound, or `CAP_NET_ADMIN` is missing.
pub fn listen_transparent(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    listen_as(address, true, |socket| transparent(socket, address))
}

fn transparent(socket: &Socket, of: SocketAddr) -> io::Result<()> {
    let set = if of.is_ipv4() { socket.set_ip_transparent_v4(true) } else { socket.set_ip_transparent_v6(true) };
    set.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => io::Error::new(error.kind(), format!("{error}: TPROXY needs CAP_NET_ADMIN")),
        _ => error,
    })
}

fn listen_as(
    address: SocketAddr,
    shared: bool,
    change: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    tune(&socket, KEEPALIVE);
    change(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Opens the sidecar's own connections, which the capture rules leave alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dialer {
    /// `SO_MARK` for every socket.
    pub mark: Option<u32>,
    /// The mark of connections to the application where it is to see the callers' own addresses (TPROXY).
    pub transparent: Option<u32>,
    /// Silence after which the kernel asks whether the peer still lives; [`KEEPALIVE`] when `None`.
    pub keepalive: Option<Duration>,
}

impl Dialer {
    /// Connects to `address`.
    ///
    /// # Errors
    /// The connection failed, or took longer than [`CONNECT_TIMEOUT`].
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.open(address, None).await
    }

    /// Connects to the application: from the address by which the capture rules know the sidecar (Istio's 127.0.0.6), or with
    /// TPROXY from that of `caller`.
    ///
    /// # Errors
    /// As [`Dialer::connect`].
    pub async fn connect_application(&self, address: SocketAddr, caller: IpAddr) -> io::Result<TcpStream> {
        if let Some(mark) = self.transparent.filter(|_| caller.is_ipv4() == address.is_ipv4()) {
            let socket = as_caller(address, caller, mark)?;
            return connected(TcpSocket::from_std_stream(socket.into()), address, self.keepalive).await;
        }
        let source = match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6)),
        };
        self.open(address, Some(source)).await
    }

    async fn open(&self, address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(mark) = self.mark {
            SockRef::from(&socket).set_mark(mark)?;
        }
        if let Some(source) = source {
            choose_port_later(&socket);
            socket.bind(SocketAddr::new(source, 0))?;
        }
        connected(socket, address, self.keepalive).await
    }
}

async fn connected(socket: TcpSocket, address: SocketAddr, keepalive: Option<Duration>) -> io::Result<TcpStream> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, socket.connect(address)).await;
    let stream = connected.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer to the connection request"))??;
    tune(&stream, keepalive.unwrap_or(KEEPALIVE));
    Ok(stream)
}

/// A socket with the address of `caller`. Its port is one that callers do not use for connections to `address` themselves, as
/// far as is known: below those that systems choose from by themselves.
fn as_caller(address: SocketAddr, caller: IpAddr, mark: u32) -> io::Result<Socket> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORT_ATTEMPTS {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        transparent(&socket, address)?;
        socket.set_mark(mark)?;
        match socket.bind(&SocketAddr::new(caller, fastrand::u16(CALLER_PORTS)).into()) {
            Ok(()) => return Ok(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Sends small writes at once, and finds out about dead peers. Neither is needed for correctness.
fn tune(socket: &impl AsFd, silence: Duration) {
    let _ = SockRef::from(socket).set_tcp_nodelay(true);
    keep_alive(socket, silence);
}

/// Lets the kernel ask, after so much silence and again as long after each question, whether the peer of `socket` still lives.
/// What a listening socket accepts inherits it. Not needed for correctness.
pub fn keep_alive(socket: &impl AsFd, silence: Duration) {
    let asking = TcpKeepalive::new().with_time(silence).with_interval(silence);
    let _ = SockRef::from(socket).set_tcp_keepalive(&asking);
}

/// Lets the kernel choose the port of a bound address when the socket connects, among all that are free towards that one
/// destination. Chosen at once, a port has to be free towards everybody: with some ten thousand connections that ended within
/// the last minute the search takes milliseconds, and then fails.
#[allow(unsafe_code)]
fn choose_port_later(socket: &TcpSocket) {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or(0);
    // SAFETY: the descriptor is open, and the kernel reads `size` bytes from `on`. Refused, the port is chosen at once.
    unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, (&raw const on).cast(), size)
    };
}

/// Makes the coming close of `stream` a reset, as when the other side was reset.
pub fn reset_on_close(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// The address from which this machine reaches `address`; `None` where there is no way to it. Connecting a datagram socket
/// sends nothing; it only chooses the route.
#[must_use]
pub fn source_towards(address: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    socket.connect(address).and_then(|()| socket.local_addr()).ok().map(|local| local.ip())
}

/// Ends our direction of `stream`.
///
/// # Errors
/// The connection is gone.
pub fn shutdown_write(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).shutdown(std::net::Shutdown::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_port_towards_the_application_is_chosen_when_it_is_dialled() {
        let socket = TcpSocket::new_v4().unwrap();
        choose_port_later(&socket);
        socket.bind("127.0.0.6:0".parse().unwrap()).unwrap();
        assert_eq!(socket.local_addr().unwrap().port(), 0);
    }

    #[tokio::test]
    async fn both_sockets_are_kept_alive_as_told() {
        let silence = Duration::from_secs(33);
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        keep_alive(&listener, silence);
        let dialer = Dialer { keepalive: Some(silence), ..Dialer::default() };
        let (dialled, accepted) = tokio::join!(dialer.connect(listener.local_addr().unwrap()), listener.accept());
        for stream in [dialled.unwrap(), accepted.unwrap().0] {
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().unwrap());
            assert_eq!((socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap()), (silence, silence));
        }
    }

    #[test]
    fn what_is_accepted_inherits_the_options() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _caller = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), KEEPALIVE);
    }
}
