//! As much HTTP/1.1 as the sample programs need, by hand, so that each byte they send is known.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::Marker;

/// The header in which a marker travels.
pub const MARKER_HEADER: &str = "x-marker";
/// How long a caller waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_HEAD: u64 = 64 * 1024;
const LARGEST_BODY: usize = 16 * 1024 * 1024;

/// A URL of the kinds the callers know: `http://HOST:PORT/PATH`, `tcp://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub scheme: String,
    /// `HOST:PORT`.
    pub authority: String,
    pub path: String,
}

impl Url {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("{text}: no URL like http://HOST:PORT/"))?;
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, "/".to_owned()),
        };
        let authority = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Self { scheme: scheme.to_owned(), authority, path })
    }

    /// Connects; names are resolved by the system, as any program does.
    pub fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{} does not resolve", self.authority));
        for address in self.authority.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// A request or a response.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The first line.
    pub start: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Of a response.
    pub fn status(&self) -> Option<u16> {
        self.start.split(' ').nth(1)?.parse().ok()
    }

    pub fn wants_close(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Reads one message; `None` when the peer ended before its first byte.
pub fn read_message<R: Read>(reader: &mut BufReader<R>) -> io::Result<Option<Message>> {
    let mut head = reader.take(LONGEST_HEAD);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut message = Message { start: line.trim_end().to_owned(), ..Message::default() };
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.trim_end();
        if text.is_empty() {
            break;
        }
        let (name, value) = text.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        message.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length: usize = message.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    if length > LARGEST_BODY {
        return Err(io::ErrorKind::InvalidData.into());
    }
    message.body = vec![0; length];
    reader.read_exact(&mut message.body)?;
    Ok(Some(message))
}

/// Writes a GET request that carries a marker in its path and in a header.
pub fn write_request(writer: &mut impl Write, url: &Url, marker: Option<&Marker>) -> io::Result<()> {
    let Url { authority, path, .. } = url;
    let marker = marker.map(|marker| format!("{MARKER_HEADER}: {marker}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: mutua-lab\r\n{marker}\r\n");
    writer.write_all(request.as_bytes())?;
    writer.flush()
}

/// Writes a response with a JSON body.
pub fn write_response(writer: &mut impl Write, status: u16, body: &serde_json::Value) -> io::Result<()> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        _ => "Bad Gateway",
    };
    let body = serde_json::to_vec(body)?;
    let length = body.len();
    let head = format!("HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    let mut response = head.into_bytes();
    response.extend_from_slice(&body);
    writer.write_all(&response)?;
    writer.flush()
}
