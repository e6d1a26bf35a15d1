//! Captured connections: where they wanted to go, and sockets of our own that are not captured in turn.

mod socket;

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

pub use socket::{Dialer, bind, listen, reset_on_close, shutdown_write};

/// Tells where a captured connection wanted to go.
pub trait Capture: Send + Sync + 'static {
    /// The destination that the caller dialled.
    ///
    /// # Errors
    /// The connection was not captured.
    fn original_destination(&self, stream: &TcpStream) -> io::Result<SocketAddr>;
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
