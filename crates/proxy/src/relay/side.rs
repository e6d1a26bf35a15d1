//! One end of a relay: a socket, with or without TLS.

use std::cell::RefCell;
use std::future::pending;
use std::io;

use mutua_identity::Session;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;

use super::Fault;
use crate::capture::shutdown_write;
use crate::tls::Established;

/// Bytes read at once; one for each thread, not for each connection.
const BUFFER: usize = 64 * 1024;

#[derive(Default)]
struct Buffers {
    incoming: Vec<u8>,
    plain: Vec<u8>,
    cipher: Vec<u8>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// A socket, its TLS session if it has one, and what waits to be written.
pub struct Side {
    stream: TcpStream,
    tls: Option<Box<Tls>>,
    /// Read before the relay began, without TLS.
    early: Vec<u8>,
    out: Vec<u8>,
    written: usize,
    read_ended: bool,
    finishing: bool,
    finished: bool,
}

struct Tls {
    session: Session,
    partial: Vec<u8>,
    /// Whether an end without closing message is taken as an end: servers outside the mesh often close so.
    lenient: bool,
}

impl Side {
    /// A connection without TLS of ours. `early` was read from it already.
    #[must_use]
    pub fn plain(stream: TcpStream, early: Vec<u8>) -> Self {
        Self { stream, tls: None, early, out: Vec::new(), written: 0, read_ended: false, finishing: false, finished: false }
    }

    /// A TLS connection. `lenient`: an end without TLS's closing message is an end, not a truncation.
    #[must_use]
    pub fn tls(stream: TcpStream, established: Established, lenient: bool) -> Self {
        let Established { session, partial, early } = established;
        let read_ended = session.peer_closed();
        let tls = Some(Box::new(Tls { session, partial, lenient }));
        Self { tls, read_ended, ..Self::plain(stream, early) }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn take_early(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.early)
    }

    /// Whether the peer sends nothing more.
    pub(super) fn ended(&self) -> bool {
        self.read_ended
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_drained(&self) -> bool {
        self.out.is_empty()
    }

    /// Whether both directions have ended.
    pub(super) fn done(&self) -> bool {
        self.read_ended && self.finished
    }

    /// Waits until there is something to do: to write what waits, and to read when `read` and the peer has not ended.
    pub(super) async fn ready(&self, read: bool) -> io::Result<Ready> {
        let interest = match (read && !self.read_ended, !self.out.is_empty()) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => return pending().await,
        };
        self.stream.ready(interest).await
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> Result<(), Fault> {
        while self.written < self.out.len() {
            match self.stream.try_write(&self.out[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.out = Vec::new();
        self.written = 0;
        if self.finishing && !self.finished {
            self.finished = true;
            shutdown_write(&self.stream)?;
        }
        Ok(())
    }

    /// The socket alone; TLS and what waits are given up.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Ends the connection in order, without waiting for the peer: it has nothing more to say.
    pub(crate) fn leave(mut self) {
        // What the socket does not take now is lost with it; a connection at rest has nothing waiting.
        let _ = self.finish();
    }

    /// Ends our direction once everything is written: TLS's closing message, then TCP's.
    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        if self.finishing {
            return Ok(());
        }
        self.finishing = true;
        if let Some(tls) = &mut self.tls {
            tls.session.close(&mut self.out);
        }
        self.flush()
    }

    /// Sends `bytes`, encrypted where the connection has TLS; what the socket does not take waits.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut cipher = BUFFERS.with_borrow_mut(|buffers| std::mem::take(&mut buffers.cipher));
        let sent = self.send_with(bytes, &mut cipher);
        cipher.clear();
        BUFFERS.with_borrow_mut(|buffers| buffers.cipher = cipher);
        sent
    }

    fn send_with(&mut self, bytes: &[u8], cipher: &mut Vec<u8>) -> Result<(), Fault> {
        let Some(tls) = &mut self.tls else { return self.write(bytes) };
        cipher.clear();
        tls.session.write(bytes, cipher)?;
        self.write(cipher)
    }

    /// Writes raw bytes behind what waits.
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while self.out.is_empty() && !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Reads once. Plaintext is in `buffers.plain` for a TLS connection, else in `buffers.incoming` up to the returned
    /// count.
    fn receive(&mut self, buffers: &mut Buffers) -> Result<usize, Fault> {
        let Buffers { incoming, plain, .. } = buffers;
        plain.clear();
        incoming.resize(BUFFER, 0);
        let Some(tls) = &mut self.tls else {
            return Ok(match read(&self.stream, incoming)? {
                None => 0,
                Some(0) => {
                    self.read_ended = true;
                    0
                }
                Some(count) => count,
            });
        };
        let kept = tls.partial.len();
        incoming[..kept].copy_from_slice(&tls.partial);
        let count = match read(&self.stream, &mut incoming[kept..])? {
            None => return Ok(0),
            Some(0) => {
                self.read_ended = true;
                return if tls.lenient { Ok(0) } else { Err(Fault::Truncated) };
            }
            Some(count) => count,
        };
        let used = tls.session.read(&mut incoming[..kept + count], plain, &mut self.out)?;
        tls.partial.clear();
        tls.partial.extend_from_slice(&incoming[used..kept + count]);
        if tls.partial.is_empty() {
            tls.partial = Vec::new();
        }
        self.read_ended = tls.session.peer_closed();
        Ok(plain.len())
    }
}

/// Reads from `from` once and sends on to `to`. A fault is of `from` (`true`) or of `to`.
pub(super) fn pass(from: &mut Side, to: &mut Side, seen: impl FnMut(&[u8])) -> Result<(), (bool, Fault)> {
    let mut buffers = BUFFERS.with_borrow_mut(std::mem::take);
    let result = pass_with(from, to, &mut buffers, seen);
    BUFFERS.with_borrow_mut(|place| *place = buffers);
    result
}

fn pass_with(from: &mut Side, to: &mut Side, buffers: &mut Buffers, mut seen: impl FnMut(&[u8])) -> Result<(), (bool, Fault)> {
    let received = from.receive(buffers);
    // Handshake messages after the handshake (a key update, an alert) are to be sent whatever else came.
    let flushed = if from.is_drained() { Ok(()) } else { from.flush() };
    let amount = match received {
        Ok(amount) => amount,
        // What was decrypted before the fault is not passed on: its end is unknown.
        Err(fault) => return Err((true, fault)),
    };
    flushed.map_err(|fault| (true, fault))?;
    if amount == 0 {
        return Ok(());
    }
    let Buffers { incoming, plain, cipher } = buffers;
    let bytes = if from.tls.is_some() { &plain[..] } else { &incoming[..amount] };
    let sent = to.send_with(bytes, cipher).map_err(|fault| (false, fault));
    seen(bytes);
    sent
}

/// `None`: nothing to read after all.
fn read(stream: &TcpStream, into: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.try_read(into) {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
