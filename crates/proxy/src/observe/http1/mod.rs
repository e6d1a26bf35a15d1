//! HTTP/1.1 as it passes: heads by `httparse`, bodies by their framing, answers matched to requests in order
//! (RFC 9112). Bodies are not looked into.

mod body;
mod head;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Instant;

use self::body::Reading;
pub use self::head::MAX_HEAD;
use self::head::{Body, ResponseHead};
use super::{Exchange, ExchangeEnd, Lost, RequestLine, RequestProtocol, Standing};

/// Requests that may be unanswered at once (pipelining).
pub const MAX_OUTSTANDING: usize = 128;

/// The observer of one HTTP/1 connection.
#[derive(Debug)]
pub struct Http1 {
    with_line: bool,
    request: Half,
    response: Half,
    outstanding: VecDeque<Pending>,
    /// The request that is being read was answered before it was whole.
    answered_early: bool,
    /// One end has said that this exchange is the last one.
    closing: bool,
    status: u16,
}

/// One direction.
#[derive(Debug, Default)]
struct Half {
    /// `None`: within a head, or before one.
    body: Option<Reading>,
    /// A head that is not whole.
    partial: Vec<u8>,
    /// Bytes of the message so far.
    size: u64,
    /// When its first byte was seen.
    started: Option<Instant>,
}

impl Half {
    fn at_rest(&self) -> bool {
        self.body.is_none() && self.size == 0
    }
}

/// A request that is not answered.
#[derive(Debug)]
struct Pending {
    started: Instant,
    bytes: u64,
    is_head: bool,
    is_connect: bool,
    version: &'static str,
    line: Option<Box<RequestLine>>,
}

impl Http1 {
    /// An observer before the first request. `with_line`: method and target are wanted.
    #[must_use]
    pub fn new(with_line: bool) -> Self {
        Self {
            with_line,
            request: Half::default(),
            response: Half::default(),
            outstanding: VecDeque::new(),
            answered_early: false,
            closing: false,
            status: 0,
        }
    }

    /// Bytes of the caller.
    ///
    /// # Errors
    /// It makes no sense any more; the observer is of no use then.
    pub fn received(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Lost> {
        while !bytes.is_empty() {
            if self.request.body.is_none() {
                let with_line = self.with_line;
                let Some(head) = read_head(&mut self.request, &mut bytes, now, |bytes| head::request(bytes, with_line))? else {
                    return Ok(());
                };
                if self.outstanding.iter().any(|pending| pending.is_connect) {
                    // What follows a CONNECT before its answer is of no known protocol.
                    return Err(Lost::Ambiguous);
                }
                if self.outstanding.len() >= MAX_OUTSTANDING {
                    return Err(Lost::TooMuch);
                }
                self.closing |= head.closes;
                self.outstanding.push_back(Pending {
                    started: self.request.started.take().unwrap_or(now),
                    bytes: 0,
                    is_head: head.is_head,
                    is_connect: head.is_connect,
                    version: head.version,
                    line: head.line,
                });
                self.request.body = Some(head.body.into());
            }
            if self.request.take_body(&mut bytes)? {
                let size = std::mem::take(&mut self.request.size);
                match self.outstanding.back_mut() {
                    Some(pending) if !self.answered_early => pending.bytes = size,
                    _ => self.answered_early = false,
                }
            }
        }
        Ok(())
    }

    /// Bytes of the server. Each exchange that is whole is told to `out`.
    ///
    /// # Errors
    /// As [`Http1::received`].
    pub fn sent(&mut self, mut bytes: &[u8], now: Instant, out: &mut impl FnMut(Exchange)) -> Result<(), Lost> {
        while !bytes.is_empty() {
            if self.response.body.is_none() {
                let Some(head) = read_head(&mut self.response, &mut bytes, now, head::response)? else { return Ok(()) };
                let Some(asked) = self.outstanding.front() else { return Err(Lost::Unasked) };
                self.status = head.status;
                match body_of(&head, asked) {
                    Next::Body(body) => self.response.body = Some(body.into()),
                    Next::Informational => continue,
                    Next::Tunnel => {
                        self.answered(now, ExchangeEnd::Whole, out);
                        return Err(Lost::Switched);
                    }
                }
                self.closing |= head.closes || self.response.body == Some(Reading::UntilClose);
            }
            if self.response.take_body(&mut bytes)? {
                self.answered(now, ExchangeEnd::Whole, out);
            }
        }
        Ok(())
    }

    /// The server has ended: an answer that goes to the end of its connection is whole.
    pub fn sent_all(&mut self, now: Instant, out: &mut impl FnMut(Exchange)) {
        if self.response.body == Some(Reading::UntilClose) {
            self.answered(now, ExchangeEnd::Whole, out);
        }
    }

    /// The connection has ended; requests without a whole answer are told to `out`.
    pub fn end(&mut self, now: Instant, end: ExchangeEnd, out: &mut impl FnMut(Exchange)) {
        while !self.outstanding.is_empty() {
            self.answered(now, end, out);
        }
    }

    /// Where the connection stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        if self.closing {
            return Standing::Unknown;
        }
        match (self.request.at_rest(), self.response.at_rest(), self.outstanding.is_empty()) {
            (true, true, true) => Standing::Between,
            (true, _, false) => Standing::Asked,
            _ => Standing::Busy,
        }
    }

    /// The front request is answered, or never will be.
    fn answered(&mut self, now: Instant, end: ExchangeEnd, out: &mut impl FnMut(Exchange)) {
        let Some(mut pending) = self.outstanding.pop_front() else { return };
        if self.outstanding.is_empty() && self.request.body.is_some() {
            self.answered_early = true;
            pending.bytes = self.request.size;
        }
        self.response.body = None;
        self.response.partial = Vec::new();
        self.response.started = None;
        out(Exchange {
            protocol: RequestProtocol::Http,
            version: pending.version,
            status: std::mem::take(&mut self.status),
            grpc_status: None,
            request_bytes: pending.bytes,
            response_bytes: std::mem::take(&mut self.response.size),
            request_messages: 0,
            response_messages: 0,
            started: pending.started,
            ended: now,
            end,
            line: pending.line,
        });
    }
}

/// What follows an answer's head (RFC 9112 §6.3).
enum Next {
    Body(Body),
    Informational,
    Tunnel,
}

fn body_of(head: &ResponseHead, asked: &Pending) -> Next {
    match head.status {
        101 => Next::Tunnel,
        100..200 => Next::Informational,
        200..300 if asked.is_connect => Next::Tunnel,
        204 | 304 => Next::Body(Body::Counted(0)),
        _ if asked.is_head => Next::Body(Body::Counted(0)),
        _ => Next::Body(head.body),
    }
}

impl Half {
    /// Takes body bytes off the front of `bytes`. `true`: the message is whole.
    fn take_body(&mut self, bytes: &mut &[u8]) -> Result<bool, Lost> {
        let Some(reading) = &mut self.body else { return Ok(false) };
        let before = bytes.len();
        let whole = reading.take(bytes)?;
        self.size += (before - bytes.len()) as u64;
        if whole {
            self.body = None;
        }
        Ok(whole)
    }
}

/// Whether `bytes` begin with a whole request head; `None`: they may.
#[must_use]
pub fn is_request(bytes: &[u8]) -> Option<bool> {
    match head::request(bytes, false) {
        Ok(Some(_)) | Err(Lost::Ambiguous) => Some(true),
        Ok(None) => None,
        Err(_) => Some(false),
    }
}

/// Takes a head off the front of `bytes`, or keeps what there is of one. `None`: more is needed.
fn read_head<H>(
    half: &mut Half,
    bytes: &mut &[u8],
    now: Instant,
    parse: impl Fn(&[u8]) -> Result<Option<(H, usize)>, Lost>,
) -> Result<Option<H>, Lost> {
    if half.partial.is_empty() {
        // Empty lines before a message are passed over (RFC 9112 §2.2).
        let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
        *bytes = &bytes[start..];
        if bytes.is_empty() {
            return Ok(None);
        }
        half.started.get_or_insert(now);
        if let Some((head, length)) = parse(bytes)? {
            half.size += length as u64;
            *bytes = &bytes[length..];
            return Ok(Some(head));
        }
    }
    // Only what may end the head is parsed again, so that a head in many small pieces costs no more than one.
    let known = half.partial.len();
    let end = end_of_head(&half.partial, bytes);
    let taken = end.unwrap_or(bytes.len());
    if known + taken > MAX_HEAD {
        return Err(Lost::TooMuch);
    }
    half.partial.extend_from_slice(&bytes[..taken]);
    half.size += taken as u64;
    *bytes = &bytes[taken..];
    if end.is_none() {
        return Ok(None);
    }
    let parsed = parse(&half.partial)?;
    let length = half.partial.len();
    half.partial = Vec::new();
    match parsed {
        Some((head, used)) if used == length => Ok(Some(head)),
        _ => Err(Lost::Malformed),
    }
}

/// Where in `bytes` the head ends that began with `before`: behind its empty line.
fn end_of_head(before: &[u8], bytes: &[u8]) -> Option<usize> {
    // Bytes of the current line, without CR, as far as that matters: none or some.
    let mut empty = false;
    for byte in before.iter().rev().take(2) {
        match byte {
            b'\n' => {
                empty = true;
                break;
            }
            b'\r' => {}
            _ => break,
        }
    }
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if empty => return Some(at + 1),
            b'\n' => empty = true,
            b'\r' => {}
            _ => empty = false,
        }
    }
    None
}
