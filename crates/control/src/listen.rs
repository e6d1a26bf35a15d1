//! Accepts connections of proxies: TLS only, the client's certificate verified when it shows one, every wait bounded.
//!
//! When all proxies of a large mesh come at once, so many handshakes are worked on as the processors keep up with; the
//! others wait in their order, and are turned away in time to try again. Worked on all at once, every one of them would
//! take longer than its client waits, and none would ever end.

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
/// How many handshakes are worked on at once.
const ACTIVE: usize = 256;
/// How long a handshake counts as worked on: after this time it waits for its client, not for us.
const TURN: Duration = Duration::from_secs(1);
/// How long a connection waits for its turn: half of what our clients wait for a whole handshake.
const QUEUE: Duration = Duration::from_secs(5);
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
        let turns = Turns { free: Arc::new(Semaphore::new(ACTIVE)), word: HANDSHAKE_TIMEOUT, queue: QUEUE, turn: TURN };
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
                    let caller = Caller { tcp, address, permits: (one, unproven), turns: turns.clone() };
                    tokio::spawn(caller.shake_hands(Arc::clone(&config), ready.clone()));
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

/// Whoever has opened a connection, before the handshake.
struct Caller {
    tcp: TcpStream,
    address: SocketAddr,
    permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
    turns: Turns,
}

impl Caller {
    async fn shake_hands(self, config: Arc<ArcSwap<ServerConfig>>, ready: mpsc::Sender<io::Result<Connection>>) {
        let address = self.address;
        // Without it, small messages wait for acknowledgements; a socket that refuses still works.
        let _ = self.tcp.set_nodelay(true);
        let Some(turn) = self.turns.next(&self.tcp).await else {
            return tracing::info!(%address, "a connection to the control plane is not served in time, or says nothing");
        };
        let (one, unproven) = self.permits;
        let config = config.load_full();
        let handshake = TlsStream::accept(&config, self.tcp);
        let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, self.turns.take(turn, handshake)).await {
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
}

/// Whose handshake is worked on.
#[derive(Clone)]
struct Turns {
    free: Arc<Semaphore>,
    /// How long the first bytes may take.
    word: Duration,
    /// How long a turn is waited for.
    queue: Duration,
    /// How long a turn lasts at most.
    turn: Duration,
}

impl Turns {
    /// Waits for the first bytes, which takes no turn from anybody, and then for a turn; `None` when either takes too long.
    async fn next(&self, tcp: &TcpStream) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(self.word, tcp.peek(&mut [0])).await.ok()?.ok().filter(|bytes| *bytes > 0)?;
        tokio::time::timeout(self.queue, Arc::clone(&self.free).acquire_owned()).await.ok()?.ok()
    }

    /// The handshake's end; the turn ends before it when the client is slow.
    async fn take<T>(&self, turn: OwnedSemaphorePermit, handshake: impl Future<Output = T>) -> T {
        let mut handshake = std::pin::pin!(handshake);
        match tokio::time::timeout(self.turn, &mut handshake).await {
            Ok(done) => done,
            Err(_) => {
                drop(turn);
                handshake.await
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Both ends of a connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connects");
        (client, listener.accept().await.expect("accepted").0)
    }

    #[tokio::test]
    async fn turns_are_for_those_who_say_something_and_end_with_the_time() {
        let (short, long) = (Duration::from_millis(30), Duration::from_secs(60));
        let turns = Turns { free: Arc::new(Semaphore::new(1)), word: long, queue: short, turn: short };
        let (_silent, silent) = pair().await;
        assert!(Turns { word: short, ..turns.clone() }.next(&silent).await.is_none(), "nothing was said");
        assert_eq!(turns.free.available_permits(), 1);
        let (mut first, first_end) = pair().await;
        let (mut second, second_end) = pair().await;
        first.write_all(&[0x16]).await.expect("written");
        second.write_all(&[0x16]).await.expect("written");
        let held = turns.next(&first_end).await.expect("free");
        assert!(turns.next(&second_end).await.is_none(), "turned away in time to try again");
        let patient = Turns { queue: long, ..turns.clone() };
        let slow = tokio::spawn(async move { turns.take(held, std::future::pending::<()>()).await });
        assert!(patient.next(&second_end).await.is_some(), "a slow client keeps no turn");
        slow.abort();
    }
}
