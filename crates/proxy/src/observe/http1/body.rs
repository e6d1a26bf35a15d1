//! Bodies of HTTP/1 messages: only their ends matter.

use super::head::Body;
use crate::observe::Lost;

/// Bytes of a line between chunks: a size with its extensions, or a trailer.
const MAX_LINE: usize = 16 * 1024;
/// Bytes of all trailers of one message.
const MAX_TRAILERS: usize = 64 * 1024;

/// Where a reader stands within a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// So many bytes are to come.
    Counted(u64),
    /// A chunk's size line: the size so far, digits seen, and the length of the line so far.
    Size { size: u64, digits: u8, extension: bool, length: usize },
    /// Within a chunk.
    Chunk(u64),
    /// The line end behind a chunk; whether its CR was seen.
    ChunkEnd { cr: bool },
    /// Trailers behind the last chunk: bytes of the line so far, without CR, and bytes in all.
    Trailers { line: usize, all: usize },
    /// Everything belongs to the body.
    UntilClose,
}

impl From<Body> for Reading {
    fn from(body: Body) -> Self {
        match body {
            Body::Counted(length) => Self::Counted(length),
            Body::Chunked => Self::size(),
            Body::UntilClose => Self::UntilClose,
        }
    }
}

impl Reading {
    fn size() -> Self {
        Self::Size { size: 0, digits: 0, extension: false, length: 0 }
    }

    /// Takes the body's bytes off the front of `bytes`. `true`: the body is whole.
    pub(super) fn take(&mut self, bytes: &mut &[u8]) -> Result<bool, Lost> {
        loop {
            match self {
                Self::Counted(left) => {
                    skip(bytes, left);
                    return Ok(*left == 0);
                }
                Self::UntilClose => {
                    *bytes = &[];
                    return Ok(false);
                }
                Self::Chunk(left) => {
                    skip(bytes, left);
                    if *left == 0 {
                        *self = Self::ChunkEnd { cr: false };
                    }
                }
                Self::Size { .. } | Self::ChunkEnd { .. } | Self::Trailers { .. } => {}
            }
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(false) };
            if matches!(self, Self::Chunk(_)) {
                continue;
            }
            *bytes = rest;
            if self.step(byte)? {
                return Ok(true);
            }
        }
    }

    /// One byte between chunks.
    fn step(&mut self, byte: u8) -> Result<bool, Lost> {
        match (&mut *self, byte) {
            (Self::Size { digits: 0, .. }, b'\n') => return Err(Lost::Malformed),
            (Self::Size { size: 0, .. }, b'\n') => *self = Self::Trailers { line: 0, all: 0 },
            (Self::Size { size, .. }, b'\n') => *self = Self::Chunk(*size),
            (Self::Size { size, digits, extension, length }, byte) => {
                *length += 1;
                if *length > MAX_LINE {
                    return Err(Lost::TooMuch);
                }
                match (char::from(byte).to_digit(16), *extension) {
                    (Some(digit), false) if *digits < 15 => {
                        *size = *size * 16 + u64::from(digit);
                        *digits += 1;
                    }
                    (_, true) => {}
                    (None, false) if matches!(byte, b';' | b' ' | b'\t' | b'\r') => *extension = true,
                    _ => return Err(Lost::Malformed),
                }
            }
            (Self::ChunkEnd { cr }, b'\r') if !*cr => *cr = true,
            (Self::ChunkEnd { .. }, b'\n') => *self = Self::size(),
            (Self::ChunkEnd { .. }, _) => return Err(Lost::Malformed),
            (Self::Trailers { line: 0, .. }, b'\n') => return Ok(true),
            (Self::Trailers { line, all }, byte) => {
                *all += 1;
                if *all > MAX_TRAILERS {
                    return Err(Lost::TooMuch);
                }
                match byte {
                    b'\n' => *line = 0,
                    b'\r' => {}
                    _ => *line += 1,
                }
            }
            (Self::Counted(_) | Self::Chunk(_) | Self::UntilClose, _) => return Err(Lost::Malformed),
        }
        Ok(false)
    }
}

fn skip(bytes: &mut &[u8], left: &mut u64) {
    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *bytes = &bytes[here..];
    *left -= here as u64;
}
