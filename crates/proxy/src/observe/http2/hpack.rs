//! Decoding of HPACK (RFC 7541), for the few fields that an observer looks at. The dynamic table keeps the size of each
//! entry and what it means here, not its text: so no block, however often it refers back, costs more than its bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use super::huffman;
use crate::observe::Lost;
use crate::observe::exchange::MAX_TARGET;

/// The largest dynamic table that is followed. Encoders use 4096 unless the other end offers more (RFC 9113 §6.5.2).
pub const MAX_TABLE: usize = 64 * 1024;
/// The dynamic table until its encoder says otherwise.
const DEFAULT_TABLE: usize = 4096;
/// What an entry counts beside its text (RFC 7541 §4.1).
const OVERHEAD: usize = 32;
/// The largest integer that is taken for a length or an index.
const MAX_INTEGER: usize = 1 << 24;

/// A field of a header block, as far as it is of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// Anything else.
    Other,
    /// `:status`.
    Status(u16),
    /// A `content-type` of gRPC.
    GrpcContent,
    /// `grpc-status`; −1 when it is none.
    GrpcStatus(i8),
    /// `:method`, where lines are wanted.
    Method(Arc<str>),
    /// `:path`, where lines are wanted.
    Path(Arc<str>),
    /// `:authority`, where lines are wanted.
    Authority(Arc<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Other,
    Status,
    ContentType,
    GrpcStatus,
    Method,
    Path,
    Authority,
}

#[derive(Clone, Debug)]
struct Entry {
    name: Name,
    name_length: u32,
    size: u32,
    field: Field,
}

/// The decoder of one direction.
#[derive(Debug)]
pub struct Decoder {
    texts: bool,
    entries: VecDeque<Entry>,
    size: usize,
    limit: usize,
}

impl Decoder {
    /// A decoder at the start of a connection. `texts`: method, path and authority are wanted.
    #[must_use]
    pub fn new(texts: bool) -> Self {
        Self { texts, entries: VecDeque::new(), size: 0, limit: DEFAULT_TABLE }
    }

    /// Decodes a whole block and hands each field to `each`.
    ///
    /// # Errors
    /// It is no header block, or it asks for a larger table than [`MAX_TABLE`]. The table is of no use then.
    pub fn decode(&mut self, mut block: &[u8], mut each: impl FnMut(Field)) -> Result<(), Lost> {
        while let Some(first) = block.first().copied() {
            match first {
                0x80.. => {
                    let index = integer(&mut block, 7)?;
                    each(self.indexed(index)?);
                }
                0x40..=0x7f => {
                    let entry = self.literal(&mut block, 6, true)?;
                    each(entry.field.clone());
                    self.insert(entry);
                }
                0x20..=0x3f => {
                    let limit = integer(&mut block, 5)?;
                    if limit > MAX_TABLE {
                        return Err(Lost::TooMuch);
                    }
                    self.limit = limit;
                    self.evict(0);
                }
                // Not indexed, never indexed.
                0x00..=0x1f => each(self.literal(&mut block, 4, false)?.field),
            }
        }
        Ok(())
    }

    fn indexed(&self, index: usize) -> Result<Field, Lost> {
        if let Some((name, value)) = index.checked_sub(1).and_then(|at| STATIC.get(at)) {
            return Ok(self.field(classify(name.as_bytes()), value.as_bytes()));
        }
        self.dynamic(index).map(|entry| entry.field.clone())
    }

    fn dynamic(&self, index: usize) -> Result<&Entry, Lost> {
        let at = index.checked_sub(STATIC.len() + 1).ok_or(Lost::Malformed)?;
        self.entries.get(at).ok_or(Lost::Malformed)
    }

    /// A field whose value, and perhaps its name, is written out. `sized`: its length will be needed.
    fn literal(&self, block: &mut &[u8], prefix: u8, sized: bool) -> Result<Entry, Lost> {
        let index = integer(block, prefix)?;
        let (name, name_length) = if index == 0 {
            let mut scratch = [0; LONGEST_NAME];
            let text = string(block)?;
            let length = text.read(&mut scratch)?;
            (scratch.get(..length).map_or(Name::Other, classify), length)
        } else if let Some((name, _)) = STATIC.get(index - 1) {
            (classify(name.as_bytes()), name.len())
        } else {
            let entry = self.dynamic(index)?;
            (entry.name, entry.name_length as usize)
        };
        let value = string(block)?;
        let mut scratch = [0; MAX_TARGET];
        let wanted = name != Name::Other;
        let length = if wanted || sized { value.read(if wanted { &mut scratch } else { &mut [] })? } else { 0 };
        let size = u32::try_from(name_length + length + OVERHEAD).map_err(|_| Lost::TooMuch)?;
        let field = self.field(name, &scratch[..length.min(if wanted { MAX_TARGET } else { 0 })]);
        Ok(Entry { name, name_length: u32::try_from(name_length).map_err(|_| Lost::TooMuch)?, size, field })
    }

    fn insert(&mut self, entry: Entry) {
        let size = entry.size as usize;
        self.evict(size);
        if size <= self.limit {
            self.size += size;
            self.entries.push_front(entry);
        }
    }

    /// Makes room for `more` bytes; an entry that is larger than the table empties it (RFC 7541 §4.4).
    fn evict(&mut self, more: usize) {
        while self.size + more > self.limit
            && let Some(entry) = self.entries.pop_back()
        {
            self.size -= entry.size as usize;
        }
    }

    fn field(&self, name: Name, value: &[u8]) -> Field {
        let text = || Arc::from(String::from_utf8_lossy(value));
        match name {
            Name::Status => decimal(value).filter(|_| value.len() == 3).map_or(Field::Other, Field::Status),
            Name::ContentType if is_grpc(value) => Field::GrpcContent,
            Name::GrpcStatus => Field::GrpcStatus(
                decimal(value).and_then(|status| i8::try_from(status).ok()).filter(|status| *status <= 16).unwrap_or(-1),
            ),
            Name::Method if self.texts => Field::Method(text()),
            Name::Path if self.texts => Field::Path(text()),
            Name::Authority if self.texts => Field::Authority(text()),
            _ => Field::Other,
        }
    }
}

fn classify(name: &[u8]) -> Name {
    match name {
        b":status" => Name::Status,
        b"content-type" => Name::ContentType,
        b"grpc-status" => Name::GrpcStatus,
        b":method" => Name::Method,
        b":path" => Name::Path,
        b":authority" => Name::Authority,
        _ => Name::Other,
    }
}

/// As Envoy tells gRPC: `application/grpc`, alone or with a suffix (`+proto`).
fn is_grpc(value: &[u8]) -> bool {
    value.strip_prefix(b"application/grpc").is_some_and(|rest| rest.is_empty() || matches!(rest[0], b'+' | b';'))
}

fn decimal(value: &[u8]) -> Option<u16> {
    let digits = !value.is_empty() && value.len() <= 3 && value.iter().all(u8::is_ascii_digit);
    digits.then(|| value.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')))
}

/// An integer whose first byte has a prefix of `bits` bits (RFC 7541 §5.1).
fn integer(block: &mut &[u8], bits: u8) -> Result<usize, Lost> {
    let (first, mut rest) = block.split_first().ok_or(Lost::Malformed)?;
    let mask = (1u8 << bits) - 1;
    let mut value = usize::from(first & mask);
    if value == usize::from(mask) {
        let mut shift = 0;
        loop {
            let (byte, after) = rest.split_first().ok_or(Lost::Malformed)?;
            rest = after;
            // Four bytes of seven bits reach beyond the largest integer that is taken.
            if shift > 21 {
                return Err(Lost::TooMuch);
            }
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    if value > MAX_INTEGER { Err(Lost::TooMuch) } else { Ok(value) }
}

#[derive(Clone, Copy)]
struct Text<'a> {
    bytes: &'a [u8],
    huffman: bool,
}

impl Text<'_> {
    /// Writes what fits into `into`, and returns the length of the whole.
    fn read(&self, into: &mut [u8]) -> Result<usize, Lost> {
        if self.huffman {
            return huffman::decode(self.bytes, into).map_err(|_| Lost::Malformed);
        }
        let fits = self.bytes.len().min(into.len());
        into[..fits].copy_from_slice(&self.bytes[..fits]);
        Ok(self.bytes.len())
    }
}

fn string<'a>(block: &mut &'a [u8]) -> Result<Text<'a>, Lost> {
    let huffman = block.first().ok_or(Lost::Malformed)? & 0x80 != 0;
    let length = integer(block, 7)?;
    let bytes = block.get(..length).ok_or(Lost::Malformed)?;
    *block = &block[length..];
    Ok(Text { bytes, huffman })
}

/// The longest name that is looked for: `content-type`.
const LONGEST_NAME: usize = 12;

/// The static table (RFC 7541 Appendix A).
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"), (":scheme", "http"),
    (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""), ("accept-encoding", "gzip, deflate"), ("accept-language", ""),
    ("accept-ranges", ""), ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""),
    ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""),
    ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""),
    ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""),
    ("vary", ""), ("via", ""), ("www-authenticate", ""),
];
