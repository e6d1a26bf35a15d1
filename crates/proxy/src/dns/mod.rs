//! The sidecar's DNS (Istio's DNS capture): names of the mesh are answered here, hosts without addresses with those that
//! they were given ([`names`]); all else goes to the name servers of this machine and back, byte for byte ([`upstream`]).
//! [`resolver`] finds endpoints that are given by name.

pub mod message;
pub mod names;
pub mod resolv_conf;
pub mod resolver;
pub mod upstream;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use resolver::Resolver;
pub use upstream::Upstream;

use crate::connections::Direction;
use crate::sidecar::Sidecar;
use message::{Kind, Query};
use names::Asker;

/// The longest query that is looked at.
const MAX_QUERY: usize = 4096;
/// Questions by datagram that are worked on; more are dropped, as by any busy server.
const MAX_QUESTIONS: usize = 512;
/// Connections that are served; more wait to be accepted.
const MAX_STREAMS: usize = 64;
/// How long a connection may stay silent (RFC 7766 asks for a few seconds).
const SILENCE: Duration = Duration::from_secs(10);
/// How long a question waits for the first configuration. Askers wait for five seconds.
const READY_PATIENCE: Duration = Duration::from_secs(4);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers the questions of one workload.
pub struct Dns {
    sidecar: Arc<Sidecar>,
    /// The workload's namespace, where services are known by their names alone.
    namespace: String,
    upstream: Upstream,
}

impl Dns {
    /// For the workload of `sidecar` in `namespace`, with these name servers for what the mesh does not know.
    #[must_use]
    pub fn new(sidecar: Arc<Sidecar>, namespace: String, upstream: Upstream) -> Self {
        Self { sidecar, namespace, upstream }
    }

    /// Answers datagrams until `stop`.
    pub async fn serve_datagrams(self: Arc<Self>, socket: Arc<UdpSocket>, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(MAX_QUESTIONS));
        let mut buffer = vec![0; MAX_QUERY + 1];
        loop {
            let received = tokio::select! {
                received = socket.recv_from(&mut buffer) => received,
                () = stop.cancelled() => return,
            };
            // What a failed send of ours left behind (ECONNREFUSED) says nothing about the next question.
            let Ok((length @ ..=MAX_QUERY, asker)) = received else { continue };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (this, socket, query) = (Arc::clone(&self), Arc::clone(&socket), buffer[..length].to_vec());
            tokio::spawn(async move {
                if let Some(answer) = this.answer(&query, false).await {
                    // An asker that is gone needs none.
                    let _ = socket.send_to(&answer, asker).await;
                }
                drop(place);
            });
        }
    }

    /// Answers over connections until `stop`.
    pub async fn serve_streams(self: Arc<Self>, listener: Arc<TcpListener>, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(MAX_STREAMS));
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                listener.accept().await.map(|(stream, _)| (stream, place))
            };
            let accepted = tokio::select! {
                accepted = accepted => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, place)) => {
                    let this = Arc::clone(&self);
                    tokio::spawn(async move {
                        // However it ends, there is nobody to tell.
                        let _ = this.serve_stream(stream).await;
                        drop(place);
                    });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    async fn serve_stream(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let query = tokio::time::timeout(SILENCE, upstream::read_framed(&mut stream)).await??;
            let Some(answer) = self.answer(&query, true).await else { return Ok(()) };
            tokio::time::timeout(SILENCE, upstream::write_framed(&mut stream, &answer)).await??;
        }
    }

    /// The answer to a query; `None` when it is none, or nothing can be said.
    pub async fn answer(&self, query: &[u8], stream: bool) -> Option<Vec<u8>> {
        if !message::is_query(query) {
            return None;
        }
        // Before the configuration is there, any name may be one of the mesh.
        let ready = tokio::time::timeout(READY_PATIENCE, self.sidecar.ready(Direction::Outbound)).await;
        let Ok(Ok(snapshot)) = ready else { return message::failure(query) };
        if let Some(question) = Query::read(query) {
            let search = self.upstream.search();
            let asker = Asker { namespace: &self.namespace, search: search.first().map(String::as_str) };
            if let Some(mut known) = names::find(&snapshot.table, asker, &question.name) {
                if question.kind == Kind::Aaaa {
                    known.addresses.retain(|ip| !is_given(*ip) || upstream::is_routed(*ip));
                }
                return question.answer(&known, if stream { usize::from(u16::MAX) } else { question.datagram() });
            }
        }
        match self.upstream.exchange(query, stream).await {
            Ok(reply) => Some(reply),
            Err(error) => {
                tracing::debug!(%error, "a question could not be passed on");
                message::failure(query)
            }
        }
    }
}

/// Whether an IPv6 address is one that hosts without addresses are given (2001:2::/64). Where IPv6 leads nowhere, nobody is
/// told of it.
fn is_given(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.segments()[..4] == [0x2001, 2, 0, 0])
}
