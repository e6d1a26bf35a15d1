//! Accepts connections of proxies: TLS only, the client's certificate verified when it shows one, every wait bounded.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use mutua_identity::stream::TlsStream;
use mutua_identity::{CertificateName, ServerConfig, SpiffeId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection without a certificate may live: long enough to join.
const ANONYMOUS_LIFE: Duration = Duration::from_secs(20);
/// How many connections may be open.
const MAX_CONNECTIONS: usize = 50_000;
/// How many connections without a certificate, and handshakes, may be open at once.
const MAX_ANONYMOUS: usize = 4_096;
/// How many accepted connections may wait to be served.
const BACKLOG: usize = 64;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: Option<SocketAddr>,
    /// The identity its certificate proves; `None` without a certificate.
    pub identity: Option<SpiffeId>,
    /// When that certificate ends.
    pub not_after: Option<SystemTime>,
    /// The names of that certificate and of those above it.
    pub path: Vec<CertificateName>,
}

/// One accepted connection.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    deadline: Option<Pin<Box<Sleep>>>,
    _permits: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

/// Accepts until `shutdown`; each handshake uses the configuration that is in `config` when it begins.
pub fn accept(
    listener: TcpListener,
    config: Arc<ArcSwap<ServerConfig>>,
    shutdown: CancellationToken,
) -> mpsc::Receiver<io::Result<Connection>> {
    let (ready, accepted) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        let all = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let anonymous = Arc::new(Semaphore::new(MAX_ANONYMOUS));
        loop {
            let permits = async { tokio::join!(Arc::clone(&all).acquire_owned(), Arc::clone(&anonymous).acquire_owned()) };
            let next = async {
                let permits = permits.await;
                (permits, listener.accept().await)
            };
            let (permits, accepted) = tokio::select! {
                () = shutdown.cancelled() => return,
                next = next => next,
            };
            let (Ok(one), Ok(unproven)) = permits else { return };
            match accepted {
                Ok((tcp, address)) => {
                    tokio::spawn(handshake(tcp, address, config.load_full(), (one, unproven), ready.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    });
    accepted
}

async fn handshake(
    tcp: TcpStream,
    address: SocketAddr,
    config: Arc<ServerConfig>,
    (one, unproven): (OwnedSemaphorePermit, OwnedSemaphorePermit),
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    // Without it, small messages wait for acknowledgements; a socket that refuses still works.
    let _ = tcp.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsStream::accept(&config, tcp)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::info!(%address, %error, "a TLS handshake with the control plane failed"),
        Err(_) => return tracing::info!(%address, "a TLS handshake with the control plane took too long"),
    };
    let peer = Peer {
        address: Some(address),
        identity: stream.peer_id().cloned(),
        not_after: stream.peer_not_after(),
        path: stream.peer_path(),
    };
    let proven = peer.identity.is_some();
    let connection = Connection {
        stream,
        peer,
        deadline: (!proven).then(|| Box::pin(tokio::time::sleep_until(Instant::now() + ANONYMOUS_LIFE))),
        _permits: (one, (!proven).then_some(unproven)),
    };
    // Nobody takes it when the server has stopped.
    let _ = ready.send(Ok(connection)).await;
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
