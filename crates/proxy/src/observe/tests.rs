//! Which protocol a connection's first bytes are.

use super::detecting::{Detecting, Found};

fn name(found: &Found) -> &'static str {
    match found {
        Found::Nothing => "",
        Found::Other => "other",
        Found::Http1(_) => "http1",
        Found::Http2 { .. } => "http2",
    }
}

#[test]
fn protocols_are_told_apart_in_any_pieces() {
    let cases: [(&[u8], &str); 9] = [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "http1"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2"),
        (b"PROPFIND / HTTP/1.0\r\n\r\n", "http1"),
        (b"\x16\x03\x01\x02", "other"),
        (b"HELO example.com\r\n", "other"),
        (b"*1\r\n$4\r\nPING\r\n", "other"),
        (b"SSH-2.0-OpenSSH\r\n", "other"),
        (b"averylongwordthatisnomethodofanyversionofhttp", "other"),
        (b"GET / HTTP/1.1\r\nHost: ", ""),
    ];
    for (bytes, expected) in cases {
        assert_eq!(name(&Detecting::default().received(bytes)), expected, "{:?}", String::from_utf8_lossy(bytes));
        let mut detecting = Detecting::default();
        let found = bytes.chunks(1).map(|byte| detecting.received(byte)).find(|found| !matches!(found, Found::Nothing));
        assert_eq!(found.as_ref().map_or("", name), expected, "{:?}, byte by byte", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_server_that_speaks_first_speaks_http2_or_none() {
    let mut greeting = Detecting::default();
    assert_eq!(name(&greeting.sent(b"220 ready\r\n")), "other");
    let mut settings = Detecting::default();
    assert_eq!(name(&settings.sent(b"\0\0\0\x04\0\0\0\0\0")), "");
    match settings.received(super::http2::PREFACE) {
        Found::Http2 { head, answer } => assert_eq!((head.len(), answer.len()), (24, 9)),
        found => panic!("{}", name(&found)),
    }
}
