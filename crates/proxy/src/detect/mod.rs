//! What the first bytes of a connection are. Never assumes that one read holds a whole message.

mod hello;
mod http;

pub use hello::{ClientHello, HANDSHAKE, Hello, MAX_HELLO, Reader, parse};
pub use http::{HttpVersion, host, http_version};

/// The application protocols by which a mesh client marks itself (Istio's names; semantics of its inbound filter chains).
const ISTIO_ALPN: [&[u8]; 5] = [b"istio", b"istio-peer-exchange", b"istio-http/1.0", b"istio-http/1.1", b"istio-h2"];

/// What a server can say from the first bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// It may be TLS; more bytes are needed.
    Undecided,
    /// Not TLS.
    Plaintext,
    /// A whole ClientHello.
    Tls(ClientHello),
    /// TLS whose ClientHello exceeds [`MAX_HELLO`].
    TooLarge,
}

/// Looks at the first bytes as they come, at none of them twice.
#[derive(Debug, Default)]
pub struct Detector(Reader);

impl Detector {
    /// What a server can say from `bytes`: all that came so far, which begin with those of the last time. A first byte
    /// other than 0x16 is decided at once.
    pub fn first(&mut self, bytes: &[u8]) -> First {
        match self.0.read(bytes) {
            Hello::NeedMore => First::Undecided,
            Hello::NotTls => First::Plaintext,
            Hello::Complete(hello) => First::Tls(hello),
            Hello::TooLarge => First::TooLarge,
        }
    }
}

impl ClientHello {
    /// Whether the caller marks itself as a mesh client.
    #[must_use]
    pub fn is_mesh(&self) -> bool {
        self.alpn.iter().any(|name| ISTIO_ALPN.contains(&name.as_slice()))
    }

    /// Whether a server of HTTP and the caller have a protocol name in common.
    #[must_use]
    pub fn has_http_alpn(&self) -> bool {
        self.alpn.iter().any(|name| name == b"h2" || name == b"http/1.1")
    }
}
