//! The library's state machine, one state at a time.

use rustls::client::ClientConnectionData;
use rustls::server::ServerConnectionData;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};

use super::{TlsError, TlsErrorKind};

/// What became of one step of the library's state machine.
pub(super) enum Step {
    /// Call again: there may be more to do.
    Again,
    /// Nothing more can be done with the bytes at hand.
    Blocked,
    /// As `Blocked`, and application data may be written.
    Ready,
    /// The peer said that it sends nothing more.
    PeerClosed,
}

/// Writing, in either role.
pub(super) enum Traffic<'t, 'c> {
    Client(&'t mut rustls::unbuffered::WriteTraffic<'c, ClientConnectionData>),
    Server(&'t mut rustls::unbuffered::WriteTraffic<'c, ServerConnectionData>),
}

pub(super) fn not_ready(error: Option<rustls::Error>) -> String {
    error.map_or_else(|| "the session cannot send application data".to_owned(), |error| error.to_string())
}

/// Handles one state of the library; returns the bytes to drop from the input and what to do next.
pub(super) fn advance<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> (usize, Result<Step, TlsError>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => Err(error.into()),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    plain.extend_from_slice(record.payload);
                    discard += record.discard;
                }
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(Step::Again),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            encode(|room| data.encode(room), out);
            Ok(Step::Again)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => Ok(Step::Blocked),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Ready),
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerClosed),
        // Early data is never enabled; no other state exists today.
        Ok(_) => Err(TlsError::new(TlsErrorKind::Malformed, "unexpected early data")),
    };
    (discard, step)
}

fn encode(mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>, out: &mut Vec<u8>) {
    let start = out.len();
    let Err(EncodeError::InsufficientSize(size)) = encode(&mut []) else { return };
    out.resize(start + size.required_size, 0);
    let written = encode(&mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}
