//! Replacing a running sidecar without refusing a connection: the successor is given the listening sockets themselves, over
//! a socket in the state folder. It begins to accept when it has its configuration; only then the predecessor stops, so
//! at every moment somebody accepts, and what waits in a socket's queue stays there. A successor that fails before changes
//! nothing.

mod passing;

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::sidecar::Sidecar;

/// The socket in the state folder on which a successor asks.
pub const SOCKET: &str = "next.sock";
/// How long a successor may take for its first complete configuration.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long either end waits for a word of the other that needs no thought.
const MOMENT: Duration = Duration::from_secs(10);
/// What a successor says when it accepts connections.
const ACCEPTING: u8 = b'A';

/// A listening socket that was received, and what it is for, such as `inbound 0.0.0.0:15006`.
pub type Named = (String, OwnedFd);
/// A listening socket that is served, and what it is for.
pub type Given = (String, Arc<dyn AsFd + Send + Sync>);

/// Sockets of a running sidecar, given to us, its successor.
pub struct Inherited {
    sockets: Vec<Named>,
    predecessor: UnixStream,
}

impl Inherited {
    /// Asks the sidecar that runs over the state folder `folder`. `None`: none runs there.
    ///
    /// # Errors
    /// There is one, and it does not give its sockets.
    pub fn ask(folder: &Path) -> io::Result<Option<Self>> {
        let predecessor = match UnixStream::connect(folder.join(SOCKET)) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(None),
            Err(error) => return Err(error),
        };
        predecessor.set_read_timeout(Some(MOMENT))?;
        predecessor.set_write_timeout(Some(MOMENT))?;
        let sockets = passing::receive(&predecessor)?;
        Ok(Some(Self { sockets, predecessor }))
    }

    /// Takes the sockets that are called `name`.
    pub fn take(&mut self, name: &str) -> Vec<OwnedFd> {
        let (taken, left) = std::mem::take(&mut self.sockets).into_iter().partition(|(of, _)| of == name);
        self.sockets = left;
        Vec::into_iter(taken).map(|(_, socket)| socket).collect()
    }

    /// Tells the predecessor that we accept connections, and waits until it does not any more. One that has ended
    /// meanwhile, or hangs, is no hindrance: its sockets are ours. Blocks its thread.
    pub fn accepting(mut self) {
        let told = self.predecessor.write_all(&[ACCEPTING]).and_then(|()| self.predecessor.read_to_end(&mut Vec::new()));
        match told {
            Ok(_) => tracing::info!("the sidecar that ran here accepts no more connections; this one does"),
            Err(error) => tracing::warn!(%error, "the sidecar that ran here does not answer; this one accepts connections"),
        }
    }
}

/// What is given to a successor.
pub struct Succession {
    /// Where it asks.
    pub listener: Arc<UnixListener>,
    /// The sockets. They stay open as long as this does.
    pub sockets: Vec<Given>,
}

/// A successor that accepts connections. It is told that we do not any more when this is dropped.
pub struct Successor(#[allow(dead_code, reason = "its end is the message")] UnixStream);

impl Succession {
    /// Waits for a successor that accepts connections, or for `stop`; the sockets are let go then.
    pub async fn wait(self, sidecar: &Sidecar, stop: CancellationToken) -> Option<Successor> {
        let sockets = Arc::new(self.sockets);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => return None,
            };
            let candidate = accepted.and_then(|(stream, _)| is_entitled(&stream).and_then(|()| stream.into_std()));
            let given = Arc::clone(&sockets);
            let served = tokio::task::spawn_blocking(move || candidate.and_then(|stream| give(stream, &given)));
            let served = tokio::select! {
                served = served => served.map_err(io::Error::other).flatten(),
                () = stop.cancelled() => return None,
            };
            match served {
                Ok(successor) => return Some(successor),
                Err(error) => {
                    tracing::error!(%error, "a successor asked for the sockets and failed; this sidecar goes on");
                    // The control plane knows the successor for us since it connected.
                    sidecar.reconnect.notify_one();
                }
            }
        }
    }
}

/// The folder lets nobody else in; this holds where the folder's rights were changed.
fn is_entitled(stream: &tokio::net::UnixStream) -> io::Result<()> {
    let user = stream.peer_cred()?.uid();
    if user == 0 || user == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it runs as user {user}")))
}

fn give(mut stream: UnixStream, sockets: &[Given]) -> io::Result<Successor> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(MOMENT))?;
    stream.set_read_timeout(Some(PATIENCE + MOMENT))?;
    passing::send(&stream, sockets)?;
    tracing::info!("a successor has the listening sockets; this sidecar accepts connections until that one does");
    let mut word = [0];
    stream.read_exact(&mut word).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it ended before it accepted connections"),
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "it did not accept connections in time"),
        _ => error,
    })?;
    if word != [ACCEPTING] {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it speaks otherwise"));
    }
    Ok(Successor(stream))
}
