//! The first bytes of a connection: TLS or not, HTTP or not, and where its `Host` wants to go.

use mutua_proxy::detect::{Detector, First, HANDSHAKE, HttpVersion, MAX_HELLO, host, http_version};

use crate::{Random, Target, ends};

/// The target.
pub const TARGET: Target = Target {
    name: "first_bytes",
    run,
    grammar,
    words: &[
        b"GET ",
        b" HTTP/1.1\r\n",
        b"\r\n",
        b"Host: ",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PROXY TCP4 ",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"\x16\x03\x01",
        b"\x16\x03\x01\x00\x01\x01",
        b"\x16\x03\x01\x40\x00",
        b"[::1]:",
        b"SSH-2.0-",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
    ],
    longest: 64 * 1024,
    memory: 256 * 1024,
    memory_per_byte: 8,
};

/// What must hold.
pub fn run(bytes: &[u8]) {
    let whole = first_in_pieces(bytes);
    if bytes.first().is_some_and(|byte| *byte != HANDSHAKE) {
        assert_eq!(whole, First::Plaintext, "a first byte that begins no TLS");
    }
    assert!(bytes.len() < 2 * MAX_HELLO || whole != First::Undecided, "undecided after {} bytes", bytes.len());
    let (version, name) = (http_version(bytes), host(bytes));
    for end in ends(bytes) {
        let (before, known) = (http_version(&bytes[..end]), host(&bytes[..end]));
        assert!(before.is_none() || before == version, "{before:?} at {end} became {version:?}");
        assert!(known.is_err() || known == name, "{known:?} at {end} became {name:?}");
    }
    if let Ok(Some(name)) = name {
        assert!(!name.is_empty() && bytes.windows(name.len()).any(|part| part == name.as_bytes()), "{name:?} was not said");
    }
    if is_plain_http(bytes) {
        assert_eq!(version, Some(HttpVersion::Http1));
    }
}

/// The answer for the whole, after a detector saw it piece by piece; what it decides stands.
fn first_in_pieces(bytes: &[u8]) -> First {
    let whole = Detector::default().first(bytes);
    let mut detector = Detector::default();
    for end in ends(bytes) {
        let now = detector.first(&bytes[..end]);
        assert_eq!(now, Detector::default().first(&bytes[..end]), "piece by piece at {end}");
        if now != First::Undecided {
            assert_eq!(now, whole, "decided at {end}");
            return whole;
        }
    }
    whole
}

/// Whether `httparse` finds a request of HTTP/1.1 whose method and line end are the usual ones.
fn is_plain_http(bytes: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes);
    let usual = request.method.is_some_and(|method| method.bytes().all(|byte| byte.is_ascii_uppercase()));
    let line = bytes.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    matches!(parsed, Ok(httparse::Status::Complete(_)))
        && request.version == Some(1)
        && usual
        && bytes[0].is_ascii_uppercase()
        && line.ends_with(b" HTTP/1.1\r\n")
}

fn grammar(random: &mut Random) -> Vec<u8> {
    match random.below(5) {
        0 => http1(random),
        1 => [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &random.bytes(20)].concat(),
        2 => proxy_header(random),
        3 => super::client_hello::grammar(random),
        _ => {
            let count = random.length(600);
            random.bytes(count)
        }
    }
}

fn http1(random: &mut Random) -> Vec<u8> {
    let method = random.one_of(&["GET", "POST", "OPTIONS", "M-SEARCH", "get", "G T", ""]);
    let target = random.one_of(&["/", "*", "http://a/b", "a:443", "/\u{e9}", "", " "]);
    let version = random.one_of(&["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.12"]);
    let host = random.one_of(&["a.example:80", "[::1]:8080", "[", "]", ":", "", "a b", "\u{e9}", "xn--a"]);
    let end = random.one_of(&["\r\n", "\n", "\r"]);
    format!("{method} {target} {version}{end}x: y{end}hOst: {host}{end}{end}").into_bytes()
}

/// HAProxy's header, version 1 or 2: nobody here reads it, so it is plaintext like all else.
fn proxy_header(random: &mut Random) -> Vec<u8> {
    if random.once_in(2) {
        return b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 443\r\n\x16\x03\x01\x00\x05".to_vec();
    }
    let family = random.one_of(&[0x11, 0x21, 0x31, 0x00]);
    let length = random.below(40);
    [&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], &[family, 0, length as u8], &random.bytes(length)].concat()
}
