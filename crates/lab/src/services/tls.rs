//! TLS over blocking sockets.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use mutua_identity::{
    ClientConfig, Credentials, Negotiated, PeerExpectation, PrivateKey, ServerConfig, Session, TlsError, TrustBundle, TrustDomain,
};

/// Who a caller is that speaks mesh TLS itself, without a sidecar.
#[derive(Clone, Debug)]
pub struct MeshClient {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// The mesh's roots, PEM.
    pub roots: PathBuf,
    /// The trust domain that the server must be of.
    pub trust_domain: String,
    /// TLS 1.2 is the newest version that it offers.
    pub tls12: bool,
}

impl MeshClient {
    fn config(&self) -> io::Result<ClientConfig> {
        let key = PrivateKey::from_pem(&read(&self.key)?).map_err(io::Error::other)?;
        let credentials = Credentials::new(&key, &[read(&self.certificate)?]).map_err(io::Error::other)?;
        let bundle = TrustBundle::from_pem(&read(&self.roots)?).map_err(io::Error::other)?;
        let trust_domain = TrustDomain::new(&self.trust_domain).map_err(io::Error::other)?;
        let peer = PeerExpectation { ids: Vec::new(), trust_domains: vec![trust_domain] };
        let config = if self.tls12 {
            ClientConfig::mesh_tls12(&credentials, &bundle, &peer)
        } else {
            ClientConfig::mesh(&credentials, &bundle, &peer)
        };
        config.map_err(io::Error::other)
    }
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// A TLS connection; reading gives plaintext, what is written is encrypted.
pub struct TlsStream {
    session: Session,
    socket: TcpStream,
    /// Ciphertext that is not a whole record yet.
    incoming: Vec<u8>,
    /// Plaintext that was not asked for yet.
    plain: Vec<u8>,
}

impl TlsStream {
    pub fn connect(client: &MeshClient, socket: TcpStream) -> io::Result<Self> {
        let mut session = Session::client(&client.config()?, None, &[b"istio"]).map_err(io::Error::other)?;
        let mut hello = Vec::new();
        session.start(&mut hello).map_err(io::Error::other)?;
        (&socket).write_all(&hello)?;
        Self::shake_hands(session, socket)
    }

    pub fn accept(config: &ServerConfig, socket: TcpStream) -> io::Result<Self> {
        Self::shake_hands(Session::server(config, false).map_err(io::Error::other)?, socket)
    }

    pub fn negotiated(&self) -> Option<Negotiated> {
        self.session.negotiated()
    }

    fn shake_hands(session: Session, socket: TcpStream) -> io::Result<Self> {
        let mut stream = Self { session, socket, incoming: Vec::new(), plain: Vec::new() };
        while !stream.session.is_established() {
            if stream.fill()? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed during the TLS handshake"));
            }
        }
        Ok(stream)
    }

    /// Reads once from the socket; gives the bytes read, zero at the end.
    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let length = self.socket.read(&mut chunk)?;
        self.incoming.extend_from_slice(&chunk[..length]);
        let mut out = Vec::new();
        let read = self.session.read(&mut self.incoming, &mut self.plain, &mut out);
        if !out.is_empty() {
            // An alert that cannot be sent any more changes nothing.
            let _ = self.socket.write_all(&out);
        }
        let used = read.map_err(|error: TlsError| io::Error::other(error))?;
        self.incoming.drain(..used);
        Ok(length)
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.plain.is_empty() {
            if self.session.peer_closed() || self.fill()? == 0 {
                return Ok(0);
            }
        }
        let length = buffer.len().min(self.plain.len());
        buffer[..length].copy_from_slice(&self.plain[..length]);
        self.plain.drain(..length);
        Ok(length)
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut out = Vec::new();
        self.session.write(bytes, &mut out).map_err(io::Error::other)?;
        self.socket.write_all(&out)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Drop for TlsStream {
    /// Says that nothing more comes, as every good peer does.
    fn drop(&mut self) {
        let mut out = Vec::new();
        self.session.close(&mut out);
        // Who has gone already does not need to be told.
        let _ = self.socket.write_all(&out);
    }
}
