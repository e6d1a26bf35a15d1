//! One TLS connection without a socket: ciphertext in, plaintext out, and the other way.
//!
//! The library makes the handshake. Then, in TLS 1.3, its keys go to [`Records`], which work in place; TLS 1.2 stays with
//! the library and its copies.

use std::ops::Range;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncryptError};
use rustls::{AlertDescription, CommonState, ProtocolVersion};

use super::record::{FRAGMENT, PREFIX, Records, STRIDE};
use super::secrets::{Secrets, hear};
use super::step::{Step, Traffic, advance, not_ready};
use super::{ClientConfig, Negotiated, ServerConfig, TlsError, TlsErrorKind};

use crate::anchor::Anchors;

/// Most bytes that encryption adds to a record: header, nonce or type byte, and tag.
const RECORD_OVERHEAD: usize = 64;

enum Connection {
    Client(Box<(UnbufferedClientConnection, Secrets)>),
    Server(Box<(UnbufferedServerConnection, Secrets)>),
    /// TLS 1.3 after the handshake.
    Records(Box<Records>),
}

/// One TLS connection, sans-IO. The caller owns sockets and buffers.
pub struct Session {
    /// Nothing only when taking over the keys has failed.
    connection: Option<Connection>,
    established: bool,
    peer_closed: bool,
    failed: bool,
    negotiated: Option<Box<Negotiated>>,
    /// Whom the peer's chain may lead to; until the handshake is done.
    anchors: Option<Arc<Anchors>>,
    /// What is to be sent before anything else: an alert, an answer to a key update.
    control: Vec<u8>,
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
        Ok(Self::new(Connection::Client(Box::new((connection, Secrets::default()))), config.anchors.clone()))
    }

    /// The accepting side. `http_alpn`: select among `h2` and `http/1.1`; otherwise no protocol is ever selected.
    ///
    /// # Errors
    /// A configuration that the library refuses.
    pub fn server(config: &ServerConfig, http_alpn: bool) -> Result<Self, TlsError> {
        let inner = if http_alpn { &config.http } else { &config.plain };
        let connection = UnbufferedServerConnection::new(Arc::clone(inner))?;
        Ok(Self::new(Connection::Server(Box::new((connection, Secrets::default()))), config.anchors.clone()))
    }

    fn new(connection: Connection, anchors: Option<Arc<Anchors>>) -> Self {
        Self {
            connection: Some(connection),
            established: false,
            peer_closed: false,
            failed: false,
            negotiated: None,
            anchors,
            control: Vec::new(),
        }
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
        if !matches!(self.connection, Some(Connection::Records(_))) {
            return self.read_by_library(incoming, plain, out);
        }
        let mut pieces = Vec::new();
        let used = self.open(incoming, &mut pieces);
        self.control(out);
        let used = used?;
        pieces.into_iter().for_each(|piece| plain.extend_from_slice(&incoming[piece]));
        Ok(used)
    }

    fn read_by_library(&mut self, incoming: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<usize, TlsError> {
        if self.failed {
            return Err(gone());
        }
        let mut used = 0;
        loop {
            let (discard, step) = self.step(&mut incoming[used..], plain, out);
            used += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Blocked) => return Ok(used),
                Ok(Step::Ready) if self.established => return Ok(used),
                Ok(Step::Ready) => return self.establish().map(|()| used),
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Err(error) => {
                    self.collect_alert(out);
                    return Err(error);
                }
            }
        }
    }

    /// As [`Session::read`], once the session is established, and in place: `pieces` are added that say where plaintext
    /// stands within the used bytes of `incoming`. What is to be sent is kept for [`Session::control`].
    ///
    /// # Errors
    /// A record failed; the session is of no further use.
    pub fn open(&mut self, incoming: &mut [u8], pieces: &mut Vec<Range<usize>>) -> Result<usize, TlsError> {
        if self.failed {
            return Err(gone());
        }
        let Some(Connection::Records(records)) = &mut self.connection else { return self.open_by_library(incoming, pieces) };
        if self.peer_closed {
            return Ok(incoming.len());
        }
        match records.open(incoming, pieces) {
            Ok(opened) => {
                self.peer_closed = opened.closed;
                Ok(opened.used)
            }
            Err((error, alert)) => {
                self.failed = true;
                if let Some(alert) = alert {
                    records.alert(AlertDescription::from(alert), &mut self.control)?;
                }
                Err(error)
            }
        }
    }

    fn open_by_library(&mut self, incoming: &mut [u8], pieces: &mut Vec<Range<usize>>) -> Result<usize, TlsError> {
        let (mut plain, mut control) = (Vec::new(), std::mem::take(&mut self.control));
        let used = self.read_by_library(incoming, &mut plain, &mut control);
        self.control = control;
        let used = used?;
        // A record is longer than its content, so it has room for it.
        incoming[..plain.len()].copy_from_slice(&plain);
        if !plain.is_empty() {
            pieces.push(0..plain.len());
        }
        Ok(used)
    }

    /// Whether something is to be sent before anything else.
    #[must_use]
    pub fn has_control(&self) -> bool {
        !self.control.is_empty() || matches!(&self.connection, Some(Connection::Records(records)) if records.owes())
    }

    /// Appends to `out` what is to be sent before anything else: an alert, a key update.
    pub fn control(&mut self, out: &mut Vec<u8>) {
        if let (false, Some(Connection::Records(records))) = (self.failed, &mut self.connection) {
            // Without the next key nothing more can be sent; the next attempt says so.
            self.failed |= records.pay(&mut self.control).is_err();
        }
        out.append(&mut self.control);
    }

    /// Takes the keys over from the library.
    fn establish(&mut self) -> Result<(), TlsError> {
        self.established = true;
        let anchors = self.anchors.take();
        self.negotiated = self.common().and_then(|common| Negotiated::of(common, anchors.as_deref())).map(Box::new);
        if self.common().and_then(CommonState::protocol_version) != Some(ProtocolVersion::TLSv1_3) {
            return Ok(());
        }
        let (keys, secrets, client) = match self.connection.take() {
            Some(Connection::Client(both)) => {
                let (connection, secrets) = *both;
                (connection.dangerous_into_kernel_connection()?.0, secrets, true)
            }
            Some(Connection::Server(both)) => {
                let (connection, secrets) = *both;
                (connection.dangerous_into_kernel_connection()?.0, secrets, false)
            }
            other => {
                self.connection = other;
                return Ok(());
            }
        };
        self.connection = Some(Connection::Records(Box::new(Records::new(keys, secrets, client)?)));
        Ok(())
    }

    /// Begins the handshake: for the calling side, the ClientHello is appended to `out`.
    ///
    /// # Errors
    /// As [`Session::read`].
    pub fn start(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.read(&mut [], &mut Vec::new(), out).map(|_| ())
    }

    /// Encrypts all of `plain` into records that are appended to `out`, behind what [`Session::control`] has.
    ///
    /// # Errors
    /// The session is not established, or has ended.
    pub fn write(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        self.control(out);
        if self.failed {
            return Err(gone());
        }
        if let Some(Connection::Records(records)) = &mut self.connection {
            return records.write(plain, out);
        }
        let fragments = plain.len().div_ceil(FRAGMENT).max(1);
        self.traffic(out, plain.len() + fragments * RECORD_OVERHEAD, |traffic, room| match traffic {
            Traffic::Client(traffic) => traffic.encrypt(plain, room),
            Traffic::Server(traffic) => traffic.encrypt(plain, room),
        })
    }

    /// The size of a buffer that holds `fragments` of plaintext and can be sealed.
    #[must_use]
    pub const fn sealed_size(fragments: usize) -> usize {
        fragments * (STRIDE + RECORD_OVERHEAD)
    }

    /// The places for plaintext in a buffer that is to be sealed, of [`FRAGMENT`] bytes each; they are filled in order.
    pub fn places(buffer: &mut [u8], fragments: usize) -> impl Iterator<Item = &mut [u8]> {
        buffer.chunks_exact_mut(STRIDE).take(fragments).map(|place| &mut place[PREFIX..PREFIX + FRAGMENT])
    }

    /// Encrypts `length` bytes in place, which fill the [`Session::places`] of `buffer`. Returns how many bytes of
    /// `buffer` are to be sent. [`Session::control`] has to be empty.
    ///
    /// # Errors
    /// As [`Session::write`].
    pub fn seal(&mut self, buffer: &mut [u8], length: usize) -> Result<usize, TlsError> {
        if self.failed {
            return Err(gone());
        }
        if let Some(Connection::Records(records)) = &mut self.connection {
            return records.seal(buffer, length);
        }
        let mut plain = Vec::with_capacity(length);
        for place in Self::places(buffer, length.div_ceil(FRAGMENT)) {
            plain.extend_from_slice(&place[..FRAGMENT.min(length - plain.len())]);
        }
        let mut sealed = Vec::new();
        self.write(&plain, &mut sealed)?;
        buffer[..sealed.len()].copy_from_slice(&sealed);
        Ok(sealed.len())
    }

    /// Ends our direction: a close_notify is appended to `out`. Does nothing before the handshake is done.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.control(out);
        if !self.established || self.failed {
            return;
        }
        // A session that cannot encrypt any more has nothing left to say to its peer.
        if let Some(Connection::Records(records)) = &mut self.connection {
            let _ = records.alert(AlertDescription::CloseNotify, out);
            return;
        }
        let _ = self.traffic(out, RECORD_OVERHEAD, |traffic, room| match traffic {
            Traffic::Client(traffic) => traffic.queue_close_notify(room),
            Traffic::Server(traffic) => traffic.queue_close_notify(room),
        });
    }

    /// What was agreed on, once the handshake is done.
    #[must_use]
    pub fn negotiated(&self) -> Option<Negotiated> {
        self.negotiated.as_deref().cloned()
    }

    /// As [`Session::negotiated`], and the session does not keep it.
    pub fn take_negotiated(&mut self) -> Option<Box<Negotiated>> {
        self.negotiated.take()
    }

    fn common(&self) -> Option<&CommonState> {
        match self.connection.as_ref()? {
            Connection::Client(both) => Some(&both.0),
            Connection::Server(both) => Some(&both.0),
            Connection::Records(_) => None,
        }
    }

    fn step(&mut self, incoming: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> (usize, Result<Step, TlsError>) {
        match &mut self.connection {
            Some(Connection::Client(both)) => {
                let (connection, secrets) = &mut **both;
                advance(hear(secrets, || connection.process_tls_records(incoming)), plain, out)
            }
            Some(Connection::Server(both)) => {
                let (connection, secrets) = &mut **both;
                advance(hear(secrets, || connection.process_tls_records(incoming)), plain, out)
            }
            Some(Connection::Records(_)) | None => (0, Ok(Step::Blocked)),
        }
    }

    /// After an error the library may hold an alert. It hands out what it holds before it looks at input, so it is
    /// only driven while there is something to send: looking at input again after an error is not safe in rustls 0.23
    /// (handshake bytes that it remembers by position are gone).
    fn collect_alert(&mut self, out: &mut Vec<u8>) {
        self.failed = true;
        while self.common().is_some_and(CommonState::wants_write) {
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
        let start = out.len();
        out.resize(start + room, 0);
        let space = &mut out[start..];
        let written = match &mut self.connection {
            Some(Connection::Client(both)) => match both.0.process_tls_records(&mut []).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    encrypt(Traffic::Client(&mut traffic), space).map_err(|e| e.to_string())
                }
                other => Err(not_ready(other.err())),
            },
            Some(Connection::Server(both)) => match both.0.process_tls_records(&mut []).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    encrypt(Traffic::Server(&mut traffic), space).map_err(|e| e.to_string())
                }
                other => Err(not_ready(other.err())),
            },
            Some(Connection::Records(_)) | None => Err(not_ready(None)),
        };
        out.truncate(start + written.as_ref().copied().unwrap_or(0));
        written.map(|_| ()).map_err(|detail| TlsError::new(TlsErrorKind::Closed, detail))
    }
}

#[cfg(test)]
impl Session {
    /// The records of an established session of TLS 1.3.
    pub(super) fn records(self) -> Records {
        match self.connection {
            Some(Connection::Records(records)) => *records,
            _ => panic!("no session of TLS 1.3"),
        }
    }

    /// As if the key had encrypted all that it may.
    pub(super) fn wear_out(&mut self) {
        match &mut self.connection {
            Some(Connection::Records(records)) => records.wear_out(),
            _ => panic!("no session of TLS 1.3"),
        }
    }
}

fn gone() -> TlsError {
    TlsError::new(TlsErrorKind::Closed, "the session has failed")
}
