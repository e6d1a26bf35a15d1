//! One end of a relay: a socket, with or without TLS.

use std::cell::RefCell;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::task::{Context, Poll};

use mutua_identity::Session;
use mutua_identity::tls::FRAGMENT;
use rustix::io::readv;
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::Fault;
use super::buffer::{Buffer, CAPACITY, FRAGMENTS};
use super::output::Output;
use crate::capture::shutdown_write;
use crate::tls::Established;

thread_local! {
    static PIECES: RefCell<Vec<Range<usize>>> = const { RefCell::new(Vec::new()) };
}

/// A socket, its TLS session if it has one, and what waits to be written.
pub struct Side {
    stream: TcpStream,
    tls: Option<Box<Tls>>,
    /// Read before the relay began, without TLS.
    early: Vec<u8>,
    out: Output,
    read_ended: bool,
    finishing: bool,
    finished: bool,
    /// Whether the last read was full: the next one asks for more.
    flows: bool,
}

struct Tls {
    session: Session,
    /// Ciphertext of an incomplete record.
    partial: Vec<u8>,
    /// Whether an end without closing message is taken as an end: servers outside the mesh often close so.
    lenient: bool,
}

impl Side {
    /// A connection without TLS of ours. `early` was read from it already.
    #[must_use]
    pub fn plain(stream: TcpStream, early: Vec<u8>) -> Self {
        let out = Output::default();
        Self { stream, tls: None, early, out, read_ended: false, finishing: false, finished: false, flows: false }
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

    /// Whether there may be something to read; else the task is woken then.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(context)
    }

    /// Whether the socket may take something; else the task is woken then.
    pub(super) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(context)
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> Result<(), Fault> {
        self.out.flush(&self.stream)?;
        if self.out.is_empty() && self.finishing && !self.finished {
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
            let mut message = Vec::new();
            tls.session.close(&mut message);
            self.out.append(&message);
        }
        self.flush()
    }

    /// Sends `bytes`, encrypted where the connection has TLS; what the socket does not take waits.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        match &mut self.tls {
            Some(tls) => {
                let mut sealed = Vec::new();
                tls.session.write(bytes, &mut sealed)?;
                self.out.append(&sealed);
            }
            None => self.out.append(bytes),
        }
        self.flush()
    }

    /// Queues what TLS has to say before anything else: answers to key updates, alerts.
    fn queue_control(&mut self) {
        if let Some(tls) = self.tls.as_mut().filter(|tls| tls.session.has_control()) {
            let mut message = Vec::new();
            tls.session.control(&mut message);
            self.out.append(&message);
        }
    }

    /// Reads plaintext into the places of `buffer` where it can be sealed. Returns how much came.
    fn read_to_seal(&mut self, buffer: &mut Buffer) -> Result<usize, Fault> {
        let asked = if self.flows { FRAGMENTS } else { 1 };
        let count = read(&self.stream, asked * FRAGMENT, || {
            let mut slices: [IoSliceMut<'_>; FRAGMENTS] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
            for (slice, place) in slices.iter_mut().zip(Session::places(buffer, asked)) {
                *slice = IoSliceMut::new(place);
            }
            Ok(readv(&self.stream, &mut slices[..asked])?)
        })?;
        Ok(self.count_in(count, asked * FRAGMENT))
    }

    /// Reads to `buffer` from `start` on. `None`: nothing came after all.
    fn read_plain(&mut self, buffer: &mut Buffer, start: usize) -> Result<usize, Fault> {
        let asked = if self.flows { CAPACITY } else { start + FRAGMENT };
        let into = &mut buffer[start..asked];
        let wanted = into.len();
        let count = read(&self.stream, wanted, || Ok(recv(&self.stream, into, RecvFlags::empty())?.0))?;
        Ok(self.count_in(count, wanted))
    }

    fn count_in(&mut self, count: Option<usize>, asked: usize) -> usize {
        self.read_ended = count == Some(0);
        // More than half: whoever sends so much at once is not asking and answering.
        self.flows = count.is_some_and(|count| count == asked || count > FRAGMENT);
        count.unwrap_or(0)
    }

    /// Reads and decrypts in place; `pieces` say where plaintext stands.
    fn read_and_open(&mut self, buffer: &mut Buffer, pieces: &mut Vec<Range<usize>>) -> Result<(), Fault> {
        let Some(mut tls) = self.tls.take() else { return Ok(()) };
        let opened = self.open_into(&mut tls, buffer, pieces);
        self.tls = Some(tls);
        opened
    }

    fn open_into(&mut self, tls: &mut Tls, buffer: &mut Buffer, pieces: &mut Vec<Range<usize>>) -> Result<(), Fault> {
        let kept = tls.partial.len();
        buffer[..kept].copy_from_slice(&tls.partial);
        let count = self.read_plain(buffer, kept)?;
        if self.read_ended {
            return if tls.lenient { Ok(()) } else { Err(Fault::Truncated) };
        }
        if count == 0 {
            return Ok(());
        }
        let end = kept + count;
        let used = tls.session.open(&mut buffer[..end], pieces)?;
        self.read_ended = tls.session.peer_closed();
        if used < end {
            tls.partial.clear();
            tls.partial.extend_from_slice(&buffer[used..end]);
        } else if kept > 0 {
            tls.partial = Vec::new();
        }
        Ok(())
    }
}

/// Reads from `from` once and sends on to `to`. `seen` is shown the plaintext. A fault is of `from` (`true`) or of `to`.
pub(super) fn pass(from: &mut Side, to: &mut Side, seen: impl FnMut(&[u8])) -> Result<(), (bool, Fault)> {
    let mut pieces = PIECES.take();
    let passed = pass_with(from, to, &mut pieces, seen);
    pieces.clear();
    PIECES.set(pieces);
    passed
}

fn pass_with(
    from: &mut Side,
    to: &mut Side,
    pieces: &mut Vec<Range<usize>>,
    mut seen: impl FnMut(&[u8]),
) -> Result<(), (bool, Fault)> {
    let mut buffer = Buffer::take();
    if from.tls.is_none() && to.tls.is_some() {
        let length = from.read_to_seal(&mut buffer).map_err(|fault| (true, fault))?;
        if length == 0 {
            return Ok(());
        }
        for (at, place) in Session::places(&mut buffer, length.div_ceil(FRAGMENT)).enumerate() {
            seen(&place[..FRAGMENT.min(length - at * FRAGMENT)]);
        }
        return seal_and_send(to, buffer, length, pieces).map_err(|fault| (false, fault));
    }
    let received = if from.tls.is_some() {
        let opened = from.read_and_open(&mut buffer, pieces);
        // Answers and alerts are to be sent whatever else came.
        from.queue_control();
        let flushed = if from.is_drained() { Ok(()) } else { from.flush() };
        // What was decrypted before a fault is not passed on: its end is unknown.
        opened.and(flushed)
    } else {
        from.read_plain(&mut buffer, 0).map(|length| {
            if length > 0 {
                pieces.push(0..length);
            }
        })
    };
    received.map_err(|fault| (true, fault))?;
    pieces.iter().for_each(|piece| seen(&buffer[piece.clone()]));
    if pieces.is_empty() {
        return Ok(());
    }
    let sent = match to.tls {
        None => to.out.write(&to.stream, buffer, pieces).map_err(Fault::from),
        Some(_) => pieces.drain(..).try_for_each(|piece| to.send(&buffer[piece])),
    };
    sent.map_err(|fault| (false, fault))
}

fn seal_and_send(to: &mut Side, mut buffer: Buffer, length: usize, pieces: &mut Vec<Range<usize>>) -> Result<(), Fault> {
    to.queue_control();
    let Some(tls) = &mut to.tls else { return Ok(()) };
    let sealed = tls.session.seal(&mut buffer, length)?;
    pieces.push(0..sealed);
    Ok(to.out.write(&to.stream, buffer, pieces)?)
}

/// One call of `read`; `None`: nothing came after all. A socket that gives less than `wanted` is empty: no further call is
/// needed to find that out.
fn read(stream: &TcpStream, wanted: usize, read: impl FnOnce() -> io::Result<usize>) -> io::Result<Option<usize>> {
    let mut count = None;
    let outcome = stream.try_io(Interest::READABLE, || {
        let done = read()?;
        count = Some(done);
        if 0 < done && done < wanted { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(count),
    }
}
