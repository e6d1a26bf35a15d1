//! Heads of HTTP/1 messages: where they end and what they say of the body (RFC 9112 §6).

use std::mem::MaybeUninit;

use crate::observe::exchange::MAX_TARGET;
use crate::observe::{Lost, RequestLine};

/// Bytes of a head that is put together from several reads.
pub const MAX_HEAD: usize = 64 * 1024;
/// Headers of one message.
const MAX_HEADERS: usize = 128;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes; none at all for 0.
    Counted(u64),
    /// Chunks.
    Chunked,
    /// To the end of the connection.
    UntilClose,
}

/// What the head of a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestHead {
    pub body: Body,
    pub is_head: bool,
    pub is_connect: bool,
    pub closes: bool,
    pub version: &'static str,
    pub line: Option<Box<RequestLine>>,
}

/// What the head of an answer says. `body` is as for an answer to GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResponseHead {
    pub status: u16,
    pub body: Body,
    pub closes: bool,
}

/// Reads a request's head at the start of `bytes`: what it says, and how long it is. `None`: it is not whole.
pub(super) fn request(bytes: &[u8], with_line: bool) -> Result<Option<(RequestHead, usize)>, Lost> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, &mut headers).map_err(lost)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let facts = facts(request.headers)?;
    let body = match (facts.coding, facts.length) {
        (Coding::None, length) => Body::Counted(length.unwrap_or(0)),
        (Coding::Chunked, None) => Body::Chunked,
        // A server may take it either way, or refuse it.
        (Coding::Chunked | Coding::Other, _) => return Err(Lost::Ambiguous),
    };
    let method = request.method.unwrap_or_default();
    let old = request.version == Some(0);
    let line = with_line.then(|| {
        let host = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("host"));
        let authority = host.map(|header| String::from_utf8_lossy(cut(header.value)).into_owned());
        Box::new(RequestLine {
            method: method.to_owned(),
            path: String::from_utf8_lossy(cut(request.path.unwrap_or_default().as_bytes())).into_owned(),
            authority: authority.unwrap_or_default(),
        })
    });
    let head = RequestHead {
        body,
        is_head: method == "HEAD",
        is_connect: method == "CONNECT",
        closes: facts.close || (old && !facts.keep_alive),
        version: if old { "HTTP/1.0" } else { "HTTP/1.1" },
        line,
    };
    Ok(Some((head, length)))
}

/// Reads an answer's head at the start of `bytes`.
pub(super) fn response(bytes: &[u8]) -> Result<Option<(ResponseHead, usize)>, Lost> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, &mut headers);
    let length = match parsed.map_err(lost)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let facts = facts(response.headers)?;
    let body = match (facts.coding, facts.length) {
        (Coding::None, Some(length)) => Body::Counted(length),
        (Coding::Chunked, None) => Body::Chunked,
        (Coding::Chunked | Coding::Other, Some(_)) => return Err(Lost::Ambiguous),
        (Coding::None | Coding::Other, None) => Body::UntilClose,
    };
    let old = response.version == Some(0);
    let status = response.code.unwrap_or_default();
    Ok(Some((ResponseHead { status, body, closes: facts.close || (old && !facts.keep_alive) }, length)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    None,
    /// The last coding is chunked.
    Chunked,
    Other,
}

struct Facts {
    coding: Coding,
    length: Option<u64>,
    close: bool,
    keep_alive: bool,
}

fn facts(headers: &[httparse::Header<'_>]) -> Result<Facts, Lost> {
    let mut facts = Facts { coding: Coding::None, length: None, close: false, keep_alive: false };
    for header in headers {
        // By length first: most names are none of these.
        match header.name.len() {
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                let length = number(header.value).ok_or(Lost::Malformed)?;
                if facts.length.is_some_and(|before| before != length) {
                    return Err(Lost::Ambiguous);
                }
                facts.length = Some(length);
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                let last = header.value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
                let chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
                facts.coding = if chunked { Coding::Chunked } else { Coding::Other };
            }
            10 if header.name.eq_ignore_ascii_case("connection") => {
                for option in header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    facts.close |= option.eq_ignore_ascii_case(b"close");
                    facts.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            _ => {}
        }
    }
    Ok(facts)
}

/// A length: digits, or the same digits several times in one list (RFC 9112 §6.3 no. 5).
fn number(value: &[u8]) -> Option<u64> {
    let mut numbers = value.split(|byte| *byte == b',').map(|part| {
        let part = part.trim_ascii();
        let digits = !part.is_empty() && part.len() <= 18 && part.iter().all(u8::is_ascii_digit);
        digits.then(|| part.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    });
    let first = numbers.next().flatten()?;
    numbers.all(|number| number == Some(first)).then_some(first)
}

fn cut(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(MAX_TARGET)]
}

fn lost(error: httparse::Error) -> Lost {
    match error {
        httparse::Error::TooManyHeaders => Lost::TooMuch,
        _ => Lost::Malformed,
    }
}
