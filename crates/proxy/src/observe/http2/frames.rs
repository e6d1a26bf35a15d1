//! Frames of HTTP/2 as they pass (RFC 9113 §4): headers are gathered, data is only counted, all else is skipped.

use crate::observe::Lost;

/// Bytes of one header block, with all its continuations.
pub const MAX_BLOCK: usize = 64 * 1024;

const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// A whole header block.
    Block { stream: u32, promise: bool, end: bool, block: &'a [u8], wire: u64 },
    /// Bytes of data, without padding. `wire` counts the frame's header and padding too. `end`: the stream's last ones.
    Data { stream: u32, bytes: &'a [u8], end: bool, wire: u64 },
    /// The stream is reset.
    Reset { stream: u32 },
}

/// The frames of one direction.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The header of the current frame, as far as it is there.
    header: [u8; HEADER],
    have: usize,
    /// Bytes of the current frame's payload that are to come.
    left: usize,
    /// Bytes of the current data frame that no event has counted yet.
    wire: u64,
    /// Padding at the end of a data frame; `None` until its length is known.
    padding: Option<usize>,
    /// The payload of a frame that carries headers, when it comes in pieces.
    payload: Vec<u8>,
    /// A header block whose end has not come, and the stream it belongs to.
    open: Option<Open>,
    block: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    stream: u32,
    promise: bool,
    end: bool,
    wire: u64,
}

impl Frames {
    fn kind(&self) -> u8 {
        self.header[3]
    }

    fn has(&self, flag: u8) -> bool {
        self.header[4] & flag != 0
    }

    fn stream(&self) -> u32 {
        u32::from_be_bytes([self.header[5], self.header[6], self.header[7], self.header[8]]) & 0x7fff_ffff
    }

    fn length(&self) -> usize {
        usize::from(self.header[0]) << 16 | usize::from(self.header[1]) << 8 | usize::from(self.header[2])
    }

    /// Takes what makes the next event off the front of `bytes` and hands it to `on`. `false`: more bytes are needed.
    pub(super) fn next(&mut self, bytes: &mut &[u8], on: &mut impl FnMut(Event<'_>) -> Result<(), Lost>) -> Result<bool, Lost> {
        if self.have < HEADER && !self.begin(bytes)? {
            return Ok(false);
        }
        match self.kind() {
            DATA => self.data(bytes, on),
            HEADERS | CONTINUATION | PUSH_PROMISE => self.headers(bytes, on),
            kind => {
                let here = self.left.min(bytes.len());
                *bytes = &bytes[here..];
                self.left -= here;
                if self.left > 0 {
                    return Ok(false);
                }
                self.have = 0;
                if kind == RST_STREAM {
                    on(Event::Reset { stream: self.stream() })?;
                }
                Ok(true)
            }
        }
    }

    /// Reads a frame's header.
    fn begin(&mut self, bytes: &mut &[u8]) -> Result<bool, Lost> {
        let here = (HEADER - self.have).min(bytes.len());
        self.header[self.have..self.have + here].copy_from_slice(&bytes[..here]);
        self.have += here;
        *bytes = &bytes[here..];
        if self.have < HEADER {
            return Ok(false);
        }
        self.left = self.length();
        self.wire = HEADER as u64;
        self.padding = (!self.has(PADDED)).then_some(0);
        let continues = self.kind() == CONTINUATION;
        match self.open {
            // Nothing may come between the parts of a block (RFC 9113 §6.10).
            Some(open) if !continues || open.stream != self.stream() => return Err(Lost::Malformed),
            None if continues => return Err(Lost::Malformed),
            _ => {}
        }
        if matches!(self.kind(), DATA | HEADERS | RST_STREAM | PUSH_PROMISE) && self.stream() == 0 {
            return Err(Lost::Malformed);
        }
        if matches!(self.kind(), HEADERS | CONTINUATION | PUSH_PROMISE) && self.block.len() + self.left > MAX_BLOCK {
            return Err(Lost::TooMuch);
        }
        Ok(true)
    }

    fn data(&mut self, bytes: &mut &[u8], on: &mut impl FnMut(Event<'_>) -> Result<(), Lost>) -> Result<bool, Lost> {
        if self.padding.is_none() {
            let Some((padding, rest)) = bytes.split_first() else {
                return if self.left == 0 { Err(Lost::Malformed) } else { Ok(false) };
            };
            if usize::from(*padding) >= self.left {
                return Err(Lost::Malformed);
            }
            self.padding = Some(usize::from(*padding));
            self.left -= 1;
            self.wire += 1;
            *bytes = rest;
        }
        let here = self.left.min(bytes.len());
        if here == 0 && self.left > 0 {
            return Ok(false);
        }
        let content = self.left.saturating_sub(self.padding.unwrap_or(0)).min(here);
        let (taken, rest) = bytes.split_at(here);
        *bytes = rest;
        self.left -= here;
        let done = self.left == 0;
        if done {
            self.have = 0;
        }
        let wire = std::mem::take(&mut self.wire) + here as u64;
        on(Event::Data { stream: self.stream(), bytes: &taken[..content], end: done && self.has(END_STREAM), wire })?;
        Ok(done)
    }

    fn headers(&mut self, bytes: &mut &[u8], on: &mut impl FnMut(Event<'_>) -> Result<(), Lost>) -> Result<bool, Lost> {
        let here = self.left.min(bytes.len());
        let (taken, rest) = bytes.split_at(here);
        *bytes = rest;
        self.left -= here;
        if self.left > 0 {
            self.payload.extend_from_slice(taken);
            return Ok(false);
        }
        let mut gathered = std::mem::take(&mut self.payload);
        let payload = if gathered.is_empty() {
            taken
        } else {
            gathered.extend_from_slice(taken);
            &gathered
        };
        self.have = 0;
        let fragment = self.fragment(payload)?;
        let mut open = self.open.take().unwrap_or(Open {
            stream: self.stream(),
            promise: self.kind() == PUSH_PROMISE,
            end: self.kind() == HEADERS && self.has(END_STREAM),
            wire: 0,
        });
        open.wire += (HEADER + self.length()) as u64;
        let Open { stream, promise, end, wire } = open;
        if self.block.is_empty() && self.has(END_HEADERS) {
            on(Event::Block { stream, promise, end, block: fragment, wire })?;
            return Ok(true);
        }
        self.block.extend_from_slice(fragment);
        if self.has(END_HEADERS) {
            let block = std::mem::take(&mut self.block);
            on(Event::Block { stream, promise, end, block: &block, wire })?;
        } else {
            self.open = Some(open);
        }
        Ok(true)
    }

    /// The part of a header frame's payload that belongs to the block: without padding, priority and promised stream.
    fn fragment<'a>(&self, mut payload: &'a [u8]) -> Result<&'a [u8], Lost> {
        if self.kind() == CONTINUATION {
            return Ok(payload);
        }
        if self.has(PADDED) {
            let (padding, rest) = payload.split_first().ok_or(Lost::Malformed)?;
            let content = rest.len().checked_sub(usize::from(*padding)).ok_or(Lost::Malformed)?;
            payload = &rest[..content];
        }
        let skipped = match self.kind() {
            PUSH_PROMISE => 4,
            _ if self.has(PRIORITY) => 5,
            _ => 0,
        };
        payload.get(skipped..).ok_or(Lost::Malformed)
    }
}
