//! The ClientHello: our bounded reader against the TLS library's own.

use mutua_proxy::detect::{ClientHello, Hello, MAX_HELLO, parse};
use mutua_testbed::hello as wire;
use rustls::server::Acceptor;

use crate::{Random, Target};

/// The target.
pub const TARGET: Target = Target {
    name: "client_hello",
    run,
    grammar,
    words: &[
        b"\x16\x03\x01",
        b"\x16\x03\x03\x00\x01",
        b"\x01\x00\x00",
        b"\x00\x00\x00",
        b"\x00\x10",
        b"\x00\x2b",
        b"\x02h2",
        b"\x08http/1.1",
        b"\x05istio",
        b"\x13istio-peer-exchange",
        b"outbound_.80_._.a.b.svc.cluster.local",
        b"\x03\x04",
        b"\x11\xec",
        b"\xfe\x0d",
    ],
    longest: 40 * 1024,
    memory: 256 * 1024,
    memory_per_byte: 16,
};

/// What must hold.
pub fn run(bytes: &[u8]) {
    let ours = parse(bytes);
    if let Hello::Complete(hello) = &ours {
        let said: usize = hello.alpn.iter().map(|name| name.len() + 1).sum();
        let name = hello.server_name.as_ref().map_or(0, String::len);
        assert!(said + name + 2 * hello.versions.len() <= bytes.len().min(MAX_HELLO + 64), "more than was said");
    }
    // More than we look at is refused, whatever the library would say.
    if ours == Hello::TooLarge {
        return;
    }
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        if !acceptor.read_tls(&mut rest).is_ok_and(|count| count > 0) {
            return;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => return same(&ours, &accepted.client_hello()),
            Err(_) => return,
        }
    }
    // What the library holds for the beginning of a hello, we do not hold for a whole one; but it waits for the end of a
    // record, and we for that of the message.
    assert!(!whole_records(bytes) || !matches!(ours, Hello::Complete(_)), "the library waits, we have {ours:?}");
}

fn whole_records(mut bytes: &[u8]) -> bool {
    while let [_, _, _, high, low, rest @ ..] = bytes {
        let Some(after) = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) else { return false };
        bytes = after;
    }
    bytes.is_empty()
}

/// What the library accepts, we have read, and in the same way.
fn same(ours: &Hello, library: &rustls::server::ClientHello<'_>) {
    let Hello::Complete(ClientHello { server_name, alpn, .. }) = ours else {
        panic!("the library accepts what we call {ours:?}");
    };
    if let Some(name) = library.server_name() {
        // The library leaves out the dot of the root.
        let ours = server_name.as_ref().map(|ours| ours.strip_suffix('.').unwrap_or(ours));
        assert!(ours.is_some_and(|ours| ours.eq_ignore_ascii_case(name)), "{ours:?}, not {name:?}");
    }
    let theirs: Vec<Vec<u8>> = library.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
    assert_eq!(alpn, &theirs);
}

/// A hello that mostly makes sense, in records of some size.
pub(super) fn grammar(random: &mut Random) -> Vec<u8> {
    let names: [&[u8]; 8] = [b"istio", b"h2", b"http/1.1", b"istio-http/1.1", b"istio-h2", b"istio-peer-exchange", b"", b"\xff"];
    let hosts: [&[u8]; 7] = [
        b"outbound_.8000_._.cart.shop.svc.cluster.local",
        b"EXAMPLE.com",
        b"10.0.0.1",
        b"a..b",
        b"",
        b"\xc3\xa9.example",
        b"\xff",
    ];
    let mut hello = wire::Hello { server_name: None, ..wire::Hello::default() };
    if !random.once_in(4) {
        hello.server_name =
            Some(if random.once_in(10) { vec![b'a'; random.below(3000)] } else { random.one_of(&hosts).to_vec() });
    }
    hello.alpn = (0..random.below(5)).map(|_| random.one_of(&names).to_vec()).collect();
    hello.versions = (!random.once_in(5))
        .then(|| (0..random.between(1, 4)).map(|_| random.one_of(&[0x0304, 0x0303, 0x0302, 0x7f1c, 0x2a2a])).collect());
    for _ in 0..random.below(4) {
        let kind = random.one_of(&[0, 16, 43, 51, 10, 13, 0xfe0d, 0x2a2a, 41, 42]);
        let length = random.length(2000);
        hello.more.push((kind, random.bytes(length)));
    }
    let fragment = random.one_of(&[1, 7, 100, 500, 16_384]);
    let mut bytes = hello.records(fragment);
    if random.once_in(4) {
        bytes.extend(wire::record(random.one_of(&[20, 21, 22, 23]), &[1]));
    }
    bytes
}
