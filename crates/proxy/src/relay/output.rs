//! What is on its way to a socket: written at once as far as the socket takes it, the rest kept as it stands.

use std::io::{self, IoSlice};
use std::ops::Range;

use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::buffer::Buffer;

/// Pieces that are written by one call.
const PIECES: usize = 16;

/// Bytes that the socket has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Output {
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    bytes: Bytes,
    /// Where the bytes stand, in order; what is written is cut off in front.
    pieces: Vec<Range<usize>>,
    /// The first piece that is not written.
    at: usize,
}

#[derive(Debug)]
enum Bytes {
    Pooled(Buffer),
    Own(Vec<u8>),
}

impl Output {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_none()
    }

    /// Writes the `pieces` of `buffer`, behind what waits.
    pub fn write(&mut self, stream: &TcpStream, buffer: Buffer, pieces: &mut Vec<Range<usize>>) -> io::Result<()> {
        if !self.is_empty() {
            pieces.drain(..).for_each(|piece| self.append(&buffer[piece]));
            return self.flush(stream);
        }
        let mut at = 0;
        if write_pieces(stream, &buffer, pieces, &mut at)? {
            pieces.clear();
        } else {
            let left = pieces[at..].iter().map(ExactSizeIterator::len).sum::<usize>();
            self.waiting = Some(Box::new(Waiting::of(buffer, std::mem::take(pieces), at, left)));
        }
        Ok(())
    }

    /// Adds bytes behind what waits; they are not written yet.
    pub fn append(&mut self, more: &[u8]) {
        if more.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        if let Some(waiting) = self.waiting.take() {
            match *waiting {
                Waiting { bytes: Bytes::Own(own), pieces, at } => {
                    bytes = own;
                    bytes.drain(..pieces[at].start);
                }
                Waiting { bytes: Bytes::Pooled(buffer), pieces, at } => {
                    pieces[at..].iter().for_each(|piece| bytes.extend_from_slice(&buffer[piece.clone()]));
                }
            }
        }
        bytes.extend_from_slice(more);
        self.waiting = Some(Box::new(Waiting::own(bytes)));
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&mut self, stream: &TcpStream) -> io::Result<()> {
        let Some(waiting) = &mut self.waiting else { return Ok(()) };
        let bytes = match &waiting.bytes {
            Bytes::Pooled(buffer) => &buffer[..],
            Bytes::Own(bytes) => &bytes[..],
        };
        if write_pieces(stream, bytes, &mut waiting.pieces, &mut waiting.at)? {
            self.waiting = None;
        }
        Ok(())
    }
}

impl Waiting {
    /// A large rest keeps its buffer, a small one moves out of it: memory follows what waits.
    fn of(buffer: Buffer, pieces: Vec<Range<usize>>, at: usize, left: usize) -> Self {
        if left > buffer.len() / 2 {
            return Self { bytes: Bytes::Pooled(buffer), pieces, at };
        }
        let mut own = Vec::with_capacity(left);
        pieces[at..].iter().for_each(|piece| own.extend_from_slice(&buffer[piece.clone()]));
        Self::own(own)
    }

    fn own(bytes: Vec<u8>) -> Self {
        let all = 0..bytes.len();
        Self { bytes: Bytes::Own(bytes), pieces: vec![all], at: 0 }
    }
}

/// Writes pieces from `at` on until all are written (`true`) or the socket takes no more.
fn write_pieces(stream: &TcpStream, bytes: &[u8], pieces: &mut [Range<usize>], at: &mut usize) -> io::Result<bool> {
    while *at < pieces.len() {
        let some = &pieces[*at..pieces.len().min(*at + PIECES)];
        let wanted: usize = some.iter().map(ExactSizeIterator::len).sum();
        let mut written = write_some(stream, bytes, some)?;
        let full = written < wanted;
        while let Some(piece) = pieces.get_mut(*at).filter(|_| written > 0) {
            let count = piece.len().min(written);
            written -= count;
            piece.start += count;
            *at += usize::from(piece.start == piece.end);
        }
        if full {
            return Ok(false);
        }
    }
    Ok(true)
}

/// One call. A socket that takes less than all is full: no further call is needed to find that out.
fn write_some(stream: &TcpStream, bytes: &[u8], pieces: &[Range<usize>]) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); PIECES];
    let mut wanted = 0;
    for (slice, piece) in slices.iter_mut().zip(pieces) {
        *slice = IoSlice::new(&bytes[piece.clone()]);
        wanted += piece.len();
    }
    let mut done = 0;
    let outcome = stream.try_io(Interest::WRITABLE, || {
        done = match pieces {
            [_] => send(stream, &slices[0], SendFlags::NOSIGNAL)?,
            _ => sendmsg(stream, &slices[..pieces.len()], &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?,
        };
        if done < wanted { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(done),
    }
}
