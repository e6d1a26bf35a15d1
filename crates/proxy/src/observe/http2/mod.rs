//! HTTP/2 and gRPC as they pass: frames, header blocks, and what each stream was asked and answered (RFC 9113).

mod frames;
mod hpack;
mod huffman;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Instant;

pub use self::frames::MAX_BLOCK;
use self::frames::{Event, Frames};
pub use self::hpack::{Decoder, Field, MAX_TABLE};
pub use self::huffman::{NotHuffman, decode as decode_huffman};
use super::{Exchange, ExchangeEnd, Lost, RequestLine, RequestProtocol};

/// What the caller begins with (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Streams that are followed at once.
pub const MAX_STREAMS: usize = 4096;

/// The observer of one HTTP/2 connection.
#[derive(Debug)]
pub struct Http2 {
    /// Bytes of the preface that were seen.
    preface: usize,
    with_line: bool,
    client: Frames,
    server: Frames,
    requests: Decoder,
    answers: Decoder,
    streams: HashMap<u32, Stream>,
    /// The highest stream that the caller has opened.
    last: u32,
}

/// One request and its answer.
#[derive(Debug)]
struct Stream {
    started: Instant,
    request_bytes: u64,
    response_bytes: u64,
    status: u16,
    grpc: bool,
    grpc_status: Option<i8>,
    request_messages: Messages,
    response_messages: Messages,
    line: Option<Box<RequestLine>>,
}

/// Messages in one direction of a gRPC stream: a flag, four bytes of length, the message.
#[derive(Debug, Default)]
struct Messages {
    count: u64,
    prefix: [u8; 5],
    have: u8,
    left: u64,
}

impl Messages {
    fn pass(&mut self, mut bytes: &[u8]) {
        loop {
            let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            bytes = &bytes[here..];
            self.left -= here as u64;
            let Some((byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            self.prefix[usize::from(self.have)] = *byte;
            self.have += 1;
            if usize::from(self.have) == self.prefix.len() {
                let [_, length @ ..] = self.prefix;
                self.left = u64::from(u32::from_be_bytes(length));
                self.have = 0;
                self.count += 1;
            }
        }
    }
}

impl Http2 {
    /// An observer before the preface. `with_line`: method and path are wanted.
    #[must_use]
    pub fn new(with_line: bool) -> Self {
        Self {
            preface: 0,
            with_line,
            client: Frames::default(),
            server: Frames::default(),
            requests: Decoder::new(with_line),
            answers: Decoder::new(false),
            streams: HashMap::new(),
            last: 0,
        }
    }

    /// Bytes of the caller. Each exchange that ends is told to `out`.
    ///
    /// # Errors
    /// It makes no sense any more; the observer is of no use then.
    pub fn received(&mut self, mut bytes: &[u8], now: Instant, out: &mut impl FnMut(Exchange)) -> Result<(), Lost> {
        let preface = &PREFACE[self.preface..];
        let here = preface.len().min(bytes.len());
        if bytes[..here] != preface[..here] {
            return Err(Lost::Malformed);
        }
        self.preface += here;
        bytes = &bytes[here..];
        let Self { with_line, client, requests, streams, last, .. } = self;
        let mut on = |event: Event<'_>| match event {
            Event::Block { promise: true, .. } => Err(Lost::Malformed),
            Event::Block { stream, block, wire, .. } => request(streams, last, (stream, block, wire), requests, now, *with_line),
            Event::Data { stream, bytes, wire, .. } => {
                if let Some(stream) = streams.get_mut(&stream) {
                    stream.request_bytes += wire;
                    if stream.grpc {
                        stream.request_messages.pass(bytes);
                    }
                }
                Ok(())
            }
            Event::Reset { stream } => {
                finish(streams.remove(&stream), now, ExchangeEnd::CallerReset, out);
                Ok(())
            }
        };
        while client.next(&mut bytes, &mut on)? {}
        Ok(())
    }

    /// Bytes of the server. Each exchange that ends is told to `out`.
    ///
    /// # Errors
    /// As [`Http2::received`].
    pub fn sent(&mut self, mut bytes: &[u8], now: Instant, out: &mut impl FnMut(Exchange)) -> Result<(), Lost> {
        let Self { server, answers, streams, .. } = self;
        let mut on = |event: Event<'_>| {
            let (id, end) = match event {
                // The table is shared by all blocks, also those of promises that nobody counts.
                Event::Block { promise: true, block, .. } => return answers.decode(block, |_| {}),
                Event::Block { stream, block, wire, end, .. } => {
                    answer(streams.get_mut(&stream), (block, wire), answers)?;
                    (stream, end)
                }
                Event::Data { stream, bytes, wire, end } => {
                    if let Some(stream) = streams.get_mut(&stream) {
                        stream.response_bytes += wire;
                        if stream.grpc {
                            stream.response_messages.pass(bytes);
                        }
                    }
                    (stream, end)
                }
                Event::Reset { stream } => {
                    finish(streams.remove(&stream), now, ExchangeEnd::ServerReset, out);
                    return Ok(());
                }
            };
            if end {
                finish(streams.remove(&id), now, ExchangeEnd::Whole, out);
            }
            Ok(())
        };
        while server.next(&mut bytes, &mut on)? {}
        Ok(())
    }

    /// The connection has ended; requests without a whole answer are told to `out`.
    pub fn end(&mut self, now: Instant, end: ExchangeEnd, out: &mut impl FnMut(Exchange)) {
        for (_, stream) in self.streams.drain() {
            finish(Some(stream), now, end, out);
        }
    }

    /// How many requests are unanswered.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.streams.len()
    }
}

/// Whether `bytes` may begin what a server of HTTP/2 says first: its settings (RFC 9113 §3.4).
#[must_use]
pub fn is_first_frame(bytes: &[u8]) -> bool {
    // Length below 256, type SETTINGS, no flags, stream 0.
    const SETTINGS: [Option<u8>; 9] = [Some(0), Some(0), None, Some(4), Some(0), Some(0), Some(0), Some(0), Some(0)];
    bytes.iter().zip(SETTINGS).all(|(byte, wanted)| wanted.is_none_or(|wanted| *byte == wanted))
}

/// A header block of the caller: a new request, or the trailers of one.
fn request(
    streams: &mut HashMap<u32, Stream>,
    last: &mut u32,
    (id, block, wire): (u32, &[u8], u64),
    decoder: &mut Decoder,
    now: Instant,
    with_line: bool,
) -> Result<(), Lost> {
    if id % 2 == 0 {
        return Err(Lost::Malformed);
    }
    if id <= *last {
        if let Entry::Occupied(mut stream) = streams.entry(id) {
            stream.get_mut().request_bytes += wire;
        }
        return decoder.decode(block, |_| {});
    }
    if streams.len() >= MAX_STREAMS {
        return Err(Lost::TooMuch);
    }
    *last = id;
    let mut stream = Stream {
        started: now,
        request_bytes: wire,
        response_bytes: 0,
        status: 0,
        grpc: false,
        grpc_status: None,
        request_messages: Messages::default(),
        response_messages: Messages::default(),
        line: with_line.then(Box::default),
    };
    // Of what stands there twice, which no request may have, the first counts, as for those servers that take it at all.
    decoder.decode(block, |field| match (field, &mut stream.line) {
        (Field::GrpcContent, _) => stream.grpc = true,
        (Field::Method(text), Some(line)) if line.method.is_empty() => line.method = text.to_string(),
        (Field::Path(text), Some(line)) if line.path.is_empty() => line.path = text.to_string(),
        (Field::Authority(text), Some(line)) if line.authority.is_empty() => line.authority = text.to_string(),
        _ => {}
    })?;
    streams.insert(id, stream);
    Ok(())
}

/// A header block of the server: an answer, an interim one, or trailers.
fn answer(stream: Option<&mut Stream>, (block, wire): (&[u8], u64), decoder: &mut Decoder) -> Result<(), Lost> {
    let Some(stream) = stream else { return decoder.decode(block, |_| {}) };
    stream.response_bytes += wire;
    decoder.decode(block, |field| match field {
        // Interim answers are followed by others; the last one counts.
        Field::Status(status) => stream.status = status,
        Field::GrpcStatus(status) => stream.grpc_status = Some(status),
        _ => {}
    })
}

fn finish(stream: Option<Stream>, now: Instant, end: ExchangeEnd, out: &mut impl FnMut(Exchange)) {
    let Some(stream) = stream else { return };
    let grpc_status = stream.grpc_status.or_else(|| from_http(stream.status));
    // An interim answer is none.
    let status = if (100..200).contains(&stream.status) { 0 } else { stream.status };
    out(Exchange {
        protocol: if stream.grpc { RequestProtocol::Grpc } else { RequestProtocol::Http },
        version: "HTTP/2",
        status,
        grpc_status: if stream.grpc { grpc_status } else { None },
        request_bytes: stream.request_bytes,
        response_bytes: stream.response_bytes,
        request_messages: stream.request_messages.count,
        response_messages: stream.response_messages.count,
        started: stream.started,
        ended: now,
        end,
        line: stream.line,
    });
}

/// gRPC's status where the answer holds none (gRPC's `http-grpc-status-mapping.md`, as Envoy applies it).
fn from_http(status: u16) -> Option<i8> {
    Some(match status {
        0 | 100..200 => return None,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    })
}
