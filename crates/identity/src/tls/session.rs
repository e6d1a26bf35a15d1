//! One TLS connection without a socket: ciphertext in, plaintext out, and the other way.

use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, ProtocolVersion};

use super::{ClientConfig, ServerConfig, TlsError, TlsErrorKind};
use crate::{CertificateInfo, SpiffeId, certificate};

/// Most bytes that encryption adds to a record: header, nonce or type byte, and tag.
const RECORD_OVERHEAD: usize = 64;
/// The largest plaintext of one record (RFC 8446 §5.1).
const MAX_FRAGMENT: usize = 16 * 1024;

/// What both ends agreed on, and who the peer proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite by its IANA name.
    pub cipher_suite: String,
    /// The key-exchange group (`X25519MLKEM768`, `X25519`, `secp256r1` …).
    pub group: String,
    /// The application protocol, when one was agreed on.
    pub alpn: Option<String>,
    /// The peer's SPIFFE id, when its certificate has exactly one.
    pub peer_id: Option<SpiffeId>,
    /// The serial number of the peer's certificate, lower-case hex.
    pub peer_serial: Option<String>,
}

enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// One TLS connection, sans-IO. The caller owns sockets and buffers.
pub struct Session {
    connection: Connection,
    established: bool,
    peer_closed: bool,
    failed: bool,
}

/// What became of one step of the library's state machine.
enum Step {
    /// Call again: there may be more to do.
    Again,
    /// Nothing more can be done with the bytes at hand.
    Blocked,
    /// As `Blocked`, and application data may be written.
    Ready,
    /// The peer said that it sends nothing more.
    PeerClosed,
}

impl Session {
    /// The calling side. `server_name` is sent as SNI, none when `None`; `alpn` is offered in that order.
    ///
    /// # Errors
    /// A server name that is none.
    pub fn client(config: &ClientConfig, server_name: Option<&str>, alpn: &[&[u8]]) -> Result<Self, TlsError> {
        let name = match server_name {
            // An address is never sent as SNI (RFC 6066 §3), and no mesh peer is verified by it.
            None => ServerName::IpAddress(std::net::IpAddr::from([0, 0, 0, 0]).into()),
            Some(name) => ServerName::try_from(name.to_owned())
                .map_err(|_| TlsError::new(TlsErrorKind::Configuration, format!("{name:?} is no server name")))?,
        };
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let connection = UnbufferedClientConnection::new_with_alpn(Arc::clone(&config.inner), name, alpn)?;
        Ok(Self::new(Connection::Client(connection)))
    }

    /// The accepting side. `http_alpn`: select among `h2` and `http/1.1`; otherwise no protocol is ever selected.
    ///
    /// # Errors
    /// A configuration that the library refuses.
    pub fn server(config: &ServerConfig, http_alpn: bool) -> Result<Self, TlsError> {
        let config = if http_alpn { &config.http } else { &config.plain };
        Ok(Self::new(Connection::Server(UnbufferedServerConnection::new(Arc::clone(config))?)))
    }

    fn new(connection: Connection) -> Self {
        Self { connection, established: false, peer_closed: false, failed: false }
    }

    /// Whether application data may be written.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Whether the peer ended its direction with close_notify.
    #[must_use]
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Takes the ciphertext in `incoming`. Plaintext is appended to `plain`, bytes to be sent to `out` (handshake
    /// messages, key updates). Returns how many bytes of `incoming` were used; the caller keeps the rest, an
    /// incomplete record, and passes it again in front of what comes next. The used bytes are overwritten.
    ///
    /// # Errors
    /// The handshake or a record failed; `out` then holds the alert to be sent, and the session is of no further use.
    pub fn read(&mut self, incoming: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<usize, TlsError> {
        if self.failed {
            return Err(TlsError::new(TlsErrorKind::Closed, "the session has failed"));
        }
        let mut used = 0;
        loop {
            let (discard, step) = self.step(&mut incoming[used..], plain, out);
            used += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Blocked) => return Ok(used),
                Ok(Step::Ready) => {
                    self.established = true;
                    return Ok(used);
                }
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Err(error) => {
                    self.collect_alert(out);
                    return Err(error);
                }
            }
        }
    }

    /// Begins the handshake: for the calling side, the ClientHello is appended to `out`.
    ///
    /// # Errors
    /// As [`Session::read`].
    pub fn start(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.read(&mut [], &mut Vec::new(), out).map(|_| ())
    }

    /// Encrypts all of `plain` into records that are appended to `out`.
    ///
    /// # Errors
    /// The session is not established, or has ended.
    pub fn write(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        let fragments = plain.len().div_ceil(MAX_FRAGMENT).max(1);
        self.traffic(out, plain.len() + fragments * RECORD_OVERHEAD, |traffic, room| match traffic {
            Traffic::Client(traffic) => traffic.encrypt(plain, room),
            Traffic::Server(traffic) => traffic.encrypt(plain, room),
        })
    }

    /// Ends our direction: a close_notify is appended to `out`. Does nothing before the handshake is done.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if !self.established || self.failed {
            return;
        }
        // A session that cannot encrypt any more has nothing left to say to its peer.
        let _ = self.traffic(out, RECORD_OVERHEAD, |traffic, room| match traffic {
            Traffic::Client(traffic) => traffic.queue_close_notify(room),
            Traffic::Server(traffic) => traffic.queue_close_notify(room),
        });
    }

    /// What was agreed on, once the handshake is done.
    #[must_use]
    pub fn negotiated(&self) -> Option<Negotiated> {
        let common = self.common();
        let leaf = common.peer_certificates().and_then(<[_]>::first);
        let suite = common.negotiated_cipher_suite()?.suite().as_str().unwrap_or_default();
        Some(Negotiated {
            version: match common.protocol_version()? {
                ProtocolVersion::TLSv1_3 => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher_suite: suite.replacen("TLS13_", "TLS_", 1),
            group: common.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name())).unwrap_or_default(),
            alpn: common.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
            peer_id: leaf.and_then(|leaf| certificate::spiffe_id(leaf).ok()),
            peer_serial: leaf.and_then(|leaf| CertificateInfo::from_der(leaf).ok()).map(|info| info.serial),
        })
    }

    fn common(&self) -> &CommonState {
        match &self.connection {
            Connection::Client(connection) => connection,
            Connection::Server(connection) => connection,
        }
    }

    fn step(&mut self, incoming: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> (usize, Result<Step, TlsError>) {
        match &mut self.connection {
            Connection::Client(connection) => advance(connection.process_tls_records(incoming), plain, out),
            Connection::Server(connection) => advance(connection.process_tls_records(incoming), plain, out),
        }
    }

    /// After an error the library may hold an alert. It hands out what it holds before it looks at input, so it is
    /// only driven while there is something to send: looking at input again after an error is not safe in rustls 0.23
    /// (handshake bytes that it remembers by position are gone).
    fn collect_alert(&mut self, out: &mut Vec<u8>) {
        self.failed = true;
        while self.common().wants_write() {
            let before = out.len();
            let (_, step) = self.step(&mut [], &mut Vec::new(), out);
            if step.is_err() || out.len() == before {
                return;
            }
        }
    }

    /// Runs `encrypt` over `room` bytes at the end of `out`, and keeps what it wrote.
    fn traffic(
        &mut self,
        out: &mut Vec<u8>,
        room: usize,
        encrypt: impl FnOnce(Traffic<'_, '_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), TlsError> {
        if self.failed {
            return Err(TlsError::new(TlsErrorKind::Closed, "the session has failed"));
        }
        let start = out.len();
        out.resize(start + room, 0);
        let space = &mut out[start..];
        let written = match &mut self.connection {
            Connection::Client(connection) => match connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    encrypt(Traffic::Client(&mut traffic), space).map_err(|e| e.to_string())
                }
                other => Err(not_ready(other.err())),
            },
            Connection::Server(connection) => match connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    encrypt(Traffic::Server(&mut traffic), space).map_err(|e| e.to_string())
                }
                other => Err(not_ready(other.err())),
            },
        };
        out.truncate(start + written.as_ref().copied().unwrap_or(0));
        written.map(|_| ()).map_err(|detail| TlsError::new(TlsErrorKind::Closed, detail))
    }
}

enum Traffic<'t, 'c> {
    Client(&'t mut rustls::unbuffered::WriteTraffic<'c, ClientConnectionData>),
    Server(&'t mut rustls::unbuffered::WriteTraffic<'c, ServerConnectionData>),
}

fn not_ready(error: Option<rustls::Error>) -> String {
    error.map_or_else(|| "the session cannot send application data".to_owned(), |error| error.to_string())
}

/// Handles one state of the library; returns the bytes to drop from the input and what to do next.
fn advance<Data>(
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
