//! Captured connections: where they wanted to go, and sockets of our own that are not captured in turn.

mod socket;

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

pub use socket::{
    Dialer, KEEPALIVE, bind, keep_alive, listen, listen_transparent, reset_on_close, shutdown_write, source_towards,
};

/// Tells where a captured connection wanted to go.
pub trait Capture: Send + Sync + 'static {
    /// The destination that the caller dialled.
    ///
    /// # Errors
    /// The connection was not captured.
    fn original_destination(&self, stream: &TcpStream) -> io::Result<SocketAddr>;

    /// Whether a connection may arrive at its original destination itself (TPROXY).
    fn keeps_addresses(&self) -> bool {
        false
    }
}

/// TPROXY: inbound connections arrive with both addresses as they were; all others are redirected.
#[derive(Clone, Copy, Debug)]
pub struct Transparent {
    /// The sidecar's own ports, where redirected connections arrive.
    pub own_ports: [u16; 2],
}

impl Capture for Transparent {
    fn original_destination(&self, stream: &TcpStream) -> io::Result<SocketAddr> {
        let local = stream.local_addr()?;
        if self.own_ports.contains(&local.port()) { Redirected.original_destination(stream) } else { Ok(local) }
    }

    fn keeps_addresses(&self) -> bool {
        true
    }
}

/// The kernel's redirection (`SO_ORIGINAL_DST`), for both families.
#[derive(Clone, Copy, Debug, Default)]
pub struct Redirected;

impl Capture for Redirected {
    fn original_destination(&self, stream: &TcpStream) -> io::Result<SocketAddr> {
        let socket = SockRef::from(stream);
        let address = if stream.local_addr()?.is_ipv4() { socket.original_dst_v4()? } else { socket.original_dst_v6()? };
        address.as_socket().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the original destination is no address"))
    }
}
