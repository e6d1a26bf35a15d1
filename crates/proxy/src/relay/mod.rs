//! Copies between two connections: both directions, half-closes and resets as they come, memory only while bytes wait.
//!
//! A direction is read only while nothing waits to be written on its other side, so a slow reader slows its sender down
//! and one direction holds at most one buffer of bytes. Buffers belong to the thread, not to the connection: an idle
//! connection holds none. Bytes are encrypted and decrypted in the buffer that they were read to, and written from there.

mod buffer;
mod output;
mod pump;
mod side;

use std::io;

use mutua_identity::TlsError;

pub use side::Side;

use crate::connections::Connection;
use crate::observe::Observer;
use crate::reasons::Reason;

/// Which end of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The one that was accepted.
    Downstream,
    /// The one that was dialled.
    Upstream,
}

/// How a relay ended.
#[derive(Debug)]
pub enum Ended {
    /// Both directions were closed in order. `first` closed before the other did.
    Closed {
        /// Who closed first.
        first: End,
    },
    /// One end reset the connection, and the other was reset in turn.
    Reset {
        /// Who reset.
        by: End,
        /// The system's reason.
        error: io::Error,
    },
    /// TLS broke on one end.
    Tls {
        /// Where.
        on: End,
        /// How.
        error: TlsError,
    },
    /// A TLS connection ended without its closing message.
    Truncated {
        /// Where.
        on: End,
    },
    /// It was cut, by a policy or a stop.
    Cut(Reason),
    /// The two ends were parted between two messages, as asked: the caller's end is whole and can be relayed to another
    /// connection.
    Parted,
}

/// What went wrong on one end.
pub(crate) enum Fault {
    Io(io::Error),
    Tls(TlsError),
    Truncated,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<TlsError> for Fault {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl Fault {
    fn on(self, end: End) -> Ended {
        match self {
            Self::Io(error) => Ended::Reset { by: end, error },
            Self::Tls(error) => Ended::Tls { on: end, error },
            Self::Truncated => Ended::Truncated { on: end },
        }
    }
}

/// Relays until both directions have ended, one end breaks, or the connection is cut or parted. Bytes are counted on
/// `connection`, and shown to `observer`, as the caller sees them, without TLS.
pub async fn relay(down: &mut Side, up: &mut Side, connection: &Connection, observer: &mut Observer) -> Ended {
    let ended = match begin(down, up, connection, observer) {
        Ok(()) => pump::run(down, up, connection, observer).await,
        Err(ended) => ended,
    };
    observer.end(&ended);
    if !matches!(ended, Ended::Closed { .. } | Ended::Parted) {
        // An alert or the last bytes may stand in `out`; whoever can still take them does.
        if matches!(ended, Ended::Tls { .. }) {
            let _ = (down.flush(), up.flush());
        }
        if !matches!(ended, Ended::Tls { on: End::Downstream, .. }) {
            crate::capture::reset_on_close(down.stream());
        }
        if !matches!(ended, Ended::Tls { on: End::Upstream, .. }) {
            crate::capture::reset_on_close(up.stream());
        }
    }
    ended
}

/// Passes on what was read before the relay began.
fn begin(down: &mut Side, up: &mut Side, connection: &Connection, observer: &mut Observer) -> Result<(), Ended> {
    let early = down.take_early();
    connection.received(early.len());
    observer.received(&early);
    up.send(&early).map_err(|fault| fault.on(End::Upstream))?;
    let early = up.take_early();
    connection.sent(early.len());
    observer.sent(&early);
    down.send(&early).map_err(|fault| fault.on(End::Downstream))?;
    if down.ended() {
        up.finish().map_err(|fault| fault.on(End::Upstream))?;
    }
    if up.ended() {
        down.finish().map_err(|fault| fault.on(End::Downstream))?;
    }
    Ok(())
}
