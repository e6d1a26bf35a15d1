//! Callers: of the mesh, of other TLS libraries, and openssl and curl as they are installed.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;

use mutua_identity::tls::Roots;
use mutua_identity::{ClientConfig, Credentials, Origination, PeerExpectation, Session, TrustDomain};
use mutua_proxy::reasons::Refusal;
use mutua_proxy::tls::{Established, handshake, read_some, write_all};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};

use crate::{Authority, PATIENCE, SERVER};

/// A mesh sidecar's way to call [`SERVER`].
#[must_use]
pub fn mesh_client(authority: &Authority, credentials: &Credentials) -> ClientConfig {
    let trust_domains = vec![TrustDomain::new("cluster.local").unwrap()];
    let peer = PeerExpectation { ids: vec![SERVER.to_owned()], trust_domains };
    ClientConfig::mesh(credentials, authority.bundle(), &peer).unwrap()
}

/// A TLS client without certificate that trusts the mesh's root.
#[must_use]
pub fn plain_client(authority: &Authority) -> ClientConfig {
    let settings = Origination {
        client: None,
        roots: Roots::Pem(authority.bundle().to_pem()),
        names: vec![SERVER.to_owned()],
        verify_server_name: false,
        crl: None,
        insecure_skip_verify: false,
        algorithms: mutua_identity::Algorithms::default(),
    };
    ClientConfig::origination(&settings).unwrap()
}

/// An established TLS connection.
pub struct Secured {
    /// Its socket.
    pub stream: TcpStream,
    /// Its session, and what came early.
    pub established: Established,
}

impl Secured {
    /// Runs a handshake over `stream`.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn over(stream: TcpStream, config: &ClientConfig, name: Option<&str>, alpn: &[&[u8]]) -> Result<Self, Refusal> {
        let session = Session::client(config, name, alpn).unwrap();
        let established = handshake(&stream, session, Vec::new()).await?;
        Ok(Self { stream, established })
    }

    /// Sends `text` encrypted.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, text: &[u8]) -> std::io::Result<()> {
        let mut out = Vec::new();
        self.established.session.write(text, &mut out).map_err(std::io::Error::other)?;
        write_all(&self.stream, &out).await
    }

    /// Sends `text` and reads as much back.
    ///
    /// # Errors
    /// The connection ended first.
    pub async fn echo(&mut self, text: &[u8]) -> std::io::Result<Vec<u8>> {
        self.send(text).await?;
        self.receive(text.len()).await
    }

    /// Reads `count` bytes.
    ///
    /// # Errors
    /// The connection ended first.
    pub async fn receive(&mut self, count: usize) -> std::io::Result<Vec<u8>> {
        let Established { session, partial, early } = &mut self.established;
        while early.len() < count {
            let read =
                tokio::time::timeout(PATIENCE, read_some(&self.stream, partial)).await.map_err(std::io::Error::other)??;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let used = session.read(partial, early, &mut Vec::new()).map_err(std::io::Error::other)?;
            partial.drain(..used);
        }
        Ok(early.drain(..count).collect())
    }

    /// Closes in order.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn close(mut self) -> std::io::Result<()> {
        let mut out = Vec::new();
        self.established.session.close(&mut out);
        write_all(&self.stream, &out).await
    }
}

/// Connects from an address of this machine.
///
/// # Errors
/// The connection is refused.
pub async fn connect_from(source: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source, 0))?;
    socket.connect(to).await
}

/// Key, chain and roots in files, for programs.
pub struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    /// Writes them.
    #[must_use]
    pub fn new(credentials: &Credentials, authority: &Authority) -> Self {
        Self::of(credentials.key_pem(), &credentials.chain_pem(), authority)
    }

    /// Writes a key and a chain of any kind.
    #[must_use]
    pub fn of(key_pem: &str, chain_pem: &str, authority: &Authority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key.pem"), key_pem).unwrap();
        std::fs::write(folder.path().join("chain.pem"), chain_pem).unwrap();
        std::fs::write(folder.path().join("roots.pem"), authority.bundle().to_pem()).unwrap();
        Self { folder }
    }

    /// The path of a file of that name.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `openssl s_client` with them and with `more`; talk to it by its standard input and output.
    ///
    /// # Panics
    /// openssl is not installed (`apt-get install openssl`).
    #[must_use]
    pub fn openssl(&self, to: SocketAddr, more: &[&str]) -> Child {
        let mut command = Command::new("openssl");
        command.arg("s_client").arg("-connect").arg(to.to_string());
        for (option, name) in [("-cert", "chain.pem"), ("-key", "key.pem"), ("-CAfile", "roots.pem")] {
            command.arg(option).arg(self.path(name));
        }
        command.args(more).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("openssl is installed")
    }
}
