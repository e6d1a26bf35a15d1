//! Conversations in HTTP/1 as they could be, and nearly.

use super::http1::{CALLER, SERVER};
use crate::Random;

pub(super) const WORDS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"POST /a HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"Content-Length: ",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: a\r\n",
    b"\r\n\r\n",
    b"\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"ffffffffffffffff\r\n",
    b";ext=\"a\"",
    b"\n\n",
    b"\xfe",
    b"\xff",
    b" ",
    b"\t",
    b"\0",
];

/// Both sides, in turns.
pub(super) fn conversation(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.between(1, 4) {
        let pipelined = if random.once_in(3) { random.between(1, 3) } else { 1 };
        bytes.push(CALLER);
        let heads = (0..pipelined).map(|_| request(random, &mut bytes)).collect::<Vec<bool>>();
        bytes.push(SERVER);
        heads.into_iter().for_each(|head| answer(random, head, &mut bytes));
    }
    bytes
}

/// A request; whether it is HEAD.
fn request(random: &mut Random, out: &mut Vec<u8>) -> bool {
    let method = random.mostly(&["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE"], &["CONNECT", "G"]);
    let target = random.mostly(&["/", "/a?b=c", "http://a.example/x"], &["*", "a:443", "/%2e%2e/", "/#f"]);
    let version = random.mostly(&["1.1"], &["1.0", "1.2"]);
    let end = line_end(random);
    out.extend(format!("{method} {target} HTTP/{version}{end}Host: a.example{end}").bytes());
    if random.once_in(6) {
        out.extend(b"Expect: 100-continue\r\n");
    }
    let no_body = ["GET", "HEAD", "OPTIONS", "DELETE"].contains(&method) && !random.once_in(8);
    message(random, no_body, out);
    method == "HEAD"
}

fn answer(random: &mut Random, head: bool, out: &mut Vec<u8>) {
    if random.once_in(8) {
        out.extend(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let status = random.mostly(&[200, 200, 204, 304, 301, 404, 500, 103], &[101, 999]);
    let version = random.mostly(&["1.1"], &["1.0"]);
    out.extend(format!("HTTP/{version} {status} Some reason\r\nServer: x\r\n").bytes());
    let mut body = Vec::new();
    message(random, false, &mut body);
    if head || matches!(status, 204 | 304) {
        // Without the body that its head announces.
        let end = body.windows(4).position(|part| part == b"\r\n\r\n").map_or(body.len(), |at| at + 4);
        body.truncate(end);
    }
    out.extend(body);
}

/// The rest of a head, and the body.
fn message(random: &mut Random, no_body: bool, out: &mut Vec<u8>) {
    for _ in 0..random.below(3) {
        let name = random.one_of(&["Connection", "X-A", "accept", "Trailer", "Upgrade", "Keep-Alive"]);
        let value = random.mostly(&["keep-alive", "a, b", "", "h2c", "\"quoted\\\"\""], &["close", "upgrade, close"]);
        out.extend(format!("{name}:{}{value}\r\n", random.one_of(&["", " ", "\t "])).bytes());
    }
    if no_body {
        out.extend(b"\r\n");
        return;
    }
    let length = random.length(300);
    let body = vec![b'x'; length];
    match random.mostly(&[1, 2, 3, 5, 6], &[0, 4]) {
        0 => out.extend(b"\r\n"),
        1 | 2 => {
            let also = random.mostly(&[""], &["Transfer-Encoding: identity\r\n", "Content-Length: 3\r\n"]);
            out.extend(format!("Content-Length: {length}\r\n{also}\r\n").bytes());
            out.extend(body);
        }
        3 => {
            out.extend(format!("content-length: {length}, {length}\r\n\r\n").bytes());
            out.extend(body);
        }
        4 => {
            out.extend(
                format!("Content-Length: {}\r\n\r\n", random.one_of(&["+1", "1e1", "-1", "0x5", "99999999999999999999"])).bytes(),
            );
        }
        _ => chunked(random, &body, out),
    }
}

fn chunked(random: &mut Random, mut body: &[u8], out: &mut Vec<u8>) {
    let coding = random.mostly(&["chunked", "Chunked", "gzip, chunked"], &["chunked, gzip", "xchunked"]);
    out.extend(format!("Transfer-Encoding: {coding}\r\n\r\n").bytes());
    while !body.is_empty() {
        let (chunk, rest) = body.split_at(random.between(1, body.len()));
        body = rest;
        let extension = random.mostly(&["", "", ";a", ";a=\"b;c\""], &[" ", ";\t"]);
        let size = if random.once_in(2) { format!("{:x}", chunk.len()) } else { format!("{:03X}", chunk.len()) };
        out.extend(format!("{size}{extension}{}", line_end(random)).bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
    }
    let trailers = random.mostly(&["", "", "Digest: x\r\n", "A: b\r\nC: d\r\n"], &["bad trailer\r\n", " folded\r\n"]);
    out.extend(format!("{}\r\n{trailers}\r\n", random.one_of(&["0", "000", "0;last"])).bytes());
}

fn line_end(random: &mut Random) -> &'static str {
    if random.once_in(60) { "\n" } else { "\r\n" }
}
