//! Drives [`Session`]s over sockets: the handshake here, the data in the relay.

mod context;
mod origination;

use std::io;
use std::time::Duration;

use mutua_identity::{Session, TlsError};
use tokio::net::TcpStream;
use tokio::time::Instant;

pub use context::{Originations, TlsContext};
pub use origination::{Files, OriginationError};

use crate::limits::{HANDSHAKE_TIMEOUT, Limits, MAX_HANDSHAKE_BYTES};
use crate::reasons::{Reason, Refusal};

/// How long the peer of a failed handshake may take to read our alert.
const ALERT_PATIENCE: Duration = Duration::from_secs(1);
/// Characters of a peer's words in a record; a SPIFFE id has at most 2048.
const MAX_SHOWN: usize = 2048;
/// Bytes read at once during a handshake; whole handshakes have 2 to 6 KB.
const CHUNK: usize = 4096;
/// Bytes that the peer of a failed handshake may still send before it is left alone.
const MAX_FAREWELL: usize = 256 * 1024;

/// An established session with what was read beyond the handshake.
pub struct Established {
    /// The session.
    pub session: Session,
    /// Ciphertext of an incomplete record.
    pub partial: Vec<u8>,
    /// Application data that came with the handshake.
    pub early: Vec<u8>,
}

/// What a peer may take for its handshake.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Until when.
    pub deadline: Instant,
    /// How many bytes, those included that were read before the handshake began.
    pub bytes: usize,
}

impl Allowance {
    /// What `limits` allow from now on.
    #[must_use]
    pub fn from_now(limits: &Limits) -> Self {
        Self { deadline: Instant::now() + limits.handshake_timeout, bytes: limits.max_handshake_bytes.get() }
    }
}

/// As [`handshake_within`], with the bounds that are the default.
///
/// # Errors
/// As [`handshake_within`].
pub async fn handshake(stream: &TcpStream, session: Session, head: Vec<u8>) -> Result<Established, Refusal> {
    let allowance = Allowance { deadline: Instant::now() + HANDSHAKE_TIMEOUT, bytes: MAX_HANDSHAKE_BYTES };
    handshake_within(stream, session, head, allowance).await
}

/// Runs the handshake. `head` holds bytes that were read from `stream` already.
///
/// # Errors
/// The refusal to be recorded. The peer was sent an alert where TLS has one.
pub async fn handshake_within(
    stream: &TcpStream,
    mut session: Session,
    head: Vec<u8>,
    allowance: Allowance,
) -> Result<Established, Refusal> {
    let driven = drive(stream, &mut session, head, allowance.bytes);
    let Ok(done) = tokio::time::timeout_at(allowance.deadline, driven).await else {
        return Err(Refusal::new(Reason::HandshakeTimeout, "the handshake was not complete in time"));
    };
    match done {
        Ok((partial, early)) => Ok(Established { session, partial, early }),
        Err(Failure::Tls(error, alert)) => {
            say_goodbye(stream, &alert).await;
            Err(refusal(&error))
        }
        Err(Failure::Closed(detail)) => Err(Refusal::new(Reason::PeerClosedInHandshake, detail)),
        Err(Failure::TooLarge) => {
            let message = format!("more than {} bytes and no complete handshake", allowance.bytes);
            Err(Refusal::new(Reason::HandshakeTooLarge, message))
        }
    }
}

/// The refusal that a TLS error stands for.
#[must_use]
pub fn refusal(error: &TlsError) -> Refusal {
    let peer_identity = error.peer.as_deref().map(|peer| shown(peer, MAX_SHOWN));
    Refusal { reason: error.kind.into(), message: shown(&error.detail, MAX_SHOWN), peer_identity }
}

/// What a peer sent, fit for a record: cut, and without control characters.
fn shown(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

enum Failure {
    Tls(TlsError, Vec<u8>),
    Closed(String),
    TooLarge,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Closed(error.to_string())
    }
}

async fn drive(stream: &TcpStream, session: &mut Session, head: Vec<u8>, most: usize) -> Result<(Vec<u8>, Vec<u8>), Failure> {
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
        if session.peer_closed() {
            return Err(Failure::Closed("the peer ended the TLS connection during the handshake".to_owned()));
        }
        if total > most {
            return Err(Failure::TooLarge);
        }
        let read = read_some(stream, &mut incoming).await?;
        total += read;
        if read == 0 {
            return Err(Failure::Closed("the peer closed the connection during the handshake".to_owned()));
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
        let mut total = 0;
        loop {
            rest.clear();
            let read = read_some(stream, &mut rest).await?;
            total += read;
            if read == 0 || total > MAX_FAREWELL {
                break;
            }
        }
        Ok::<_, io::Error>(())
    };
    // The refusal is recorded whether or not the peer hears of it.
    let _ = tokio::time::timeout(ALERT_PATIENCE, farewell).await;
}
