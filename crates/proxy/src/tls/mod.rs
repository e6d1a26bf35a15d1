//! Drives [`Session`]s over sockets: the handshake here, the data in the relay.

mod context;
mod origination;

use std::io;
use std::time::Duration;

use mutua_identity::{Session, TlsError};
use tokio::net::TcpStream;

pub use context::{Originations, TlsContext};
pub use origination::{Files, OriginationError};

use crate::reasons::{Reason, Refusal};

/// How long a peer may take for its part of the handshake, and how long the first bytes may stay undecided.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the peer of a failed handshake may take to read our alert.
const ALERT_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes read at once during a handshake; whole handshakes have 2 to 6 KB.
const CHUNK: usize = 4096;
/// Bytes of a handshake: more is refused.
const MAX_HANDSHAKE: usize = 256 * 1024;

/// An established session with what was read beyond the handshake.
pub struct Established {
    /// The session.
    pub session: Session,
    /// Ciphertext of an incomplete record.
    pub partial: Vec<u8>,
    /// Application data that came with the handshake.
    pub early: Vec<u8>,
}

/// Runs the handshake. `head` holds bytes that were read from `stream` already.
///
/// # Errors
/// The refusal to be recorded. The peer was sent an alert where TLS has one.
pub async fn handshake(stream: &TcpStream, mut session: Session, head: Vec<u8>) -> Result<Established, Refusal> {
    let Ok(done) = tokio::time::timeout(HANDSHAKE_TIMEOUT, drive(stream, &mut session, head)).await else {
        return Err(Refusal::new(Reason::HandshakeTimeout, format!("no complete handshake within {HANDSHAKE_TIMEOUT:?}")));
    };
    match done {
        Ok((partial, early)) => Ok(Established { session, partial, early }),
        Err(Failure::Tls(error, alert)) => {
            say_goodbye(stream, &alert).await;
            Err(refusal(&error))
        }
        Err(Failure::Closed(detail)) => Err(Refusal::new(Reason::PeerClosedInHandshake, detail)),
    }
}

/// The refusal that a TLS error stands for.
#[must_use]
pub fn refusal(error: &TlsError) -> Refusal {
    Refusal { reason: error.kind.into(), message: error.detail.clone(), peer_identity: error.peer.clone() }
}

enum Failure {
    Tls(TlsError, Vec<u8>),
    Closed(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Closed(error.to_string())
    }
}

async fn drive(stream: &TcpStream, session: &mut Session, head: Vec<u8>) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let (mut incoming, mut early, mut out) = (head, Vec::new(), Vec::new());
    let mut total = incoming.len();
    loop {
        match session.read(&mut incoming, &mut early, &mut out) {
            Ok(used) => drop(incoming.drain(..used)),
            Err(error) => return Err(Failure::Tls(error, out)),
        }
        write_all(stream, &out).await?;
        out.clear();
        if session.is_established() {
            incoming.shrink_to_fit();
            return Ok((incoming, early));
        }
        let read = read_some(stream, &mut incoming).await?;
        total += read;
        if read == 0 {
            return Err(Failure::Closed("the peer closed the connection during the handshake".to_owned()));
        }
        if total > MAX_HANDSHAKE {
            return Err(Failure::Closed(format!("the handshake has more than {MAX_HANDSHAKE} bytes")));
        }
    }
}

/// Appends what there is to read, waiting for at least one byte. 0: the peer ended its direction.
///
/// # Errors
/// The connection is gone.
pub async fn read_some(stream: &TcpStream, into: &mut Vec<u8>) -> io::Result<usize> {
    let before = into.len();
    loop {
        stream.readable().await?;
        into.resize(before + CHUNK, 0);
        let read = stream.try_read(&mut into[before..]);
        into.truncate(before + read.as_ref().copied().unwrap_or(0));
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

/// Writes all of `bytes`.
///
/// # Errors
/// The connection is gone.
pub async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends an alert and takes what the peer still sends, for a moment: closing with unread bytes would reset the
/// connection, and the alert could be lost.
async fn say_goodbye(stream: &TcpStream, alert: &[u8]) {
    let farewell = async {
        write_all(stream, alert).await?;
        crate::capture::shutdown_write(stream)?;
        let mut rest = Vec::new();
        while read_some(stream, &mut rest).await? > 0 && rest.len() < MAX_HANDSHAKE {}
        Ok::<_, io::Error>(())
    };
    // The refusal is recorded whether or not the peer hears of it.
    let _ = tokio::time::timeout(ALERT_PATIENCE, farewell).await;
}
