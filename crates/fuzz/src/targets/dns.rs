//! DNS: questions of applications, answers of name servers, and the files of resolvers.

use std::net::IpAddr;

use mutua_proxy::dns::message::{Kind, Known, Query, Said, answers, failure, is_query, question, said};
use mutua_proxy::dns::resolv_conf::{ResolvConf, in_hosts};

use crate::{Random, Target};

/// The target.
pub const TARGET: Target = Target {
    name: "dns",
    run,
    grammar,
    words: &[
        b"\xc0\x0c",
        b"\xc0\x00",
        b"\x3f",
        b"\x00\x01\x00\x01",
        b"\x00\x1c\x00\x01",
        b"\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00",
        b"\x03www\x07example\x03com\x00",
        b"\x00\x00\x00\x1e\x00\x04",
        b"nameserver 10.0.0.1\n",
        b"search a.b c.d\n",
        b"options ndots:5\n",
        b"127.0.0.1 localhost\n",
    ],
    longest: 4096,
    // Room is made for as many records as a header announces, up to a bound, in each of three sections.
    memory: 3 * 1024 * 1024,
    memory_per_byte: 2000,
};

/// What must hold.
pub fn run(bytes: &[u8]) {
    let known = Known { alias: Some("a.example".to_owned()), addresses: addresses() };
    let failed = failure(bytes);
    assert_eq!(failed.is_some(), is_query(bytes));
    assert!(failed.as_ref().is_none_or(|failed| answers(failed, bytes)));
    if let Some(query) = Query::read(bytes) {
        assert!(is_query(bytes) && query.name.len() < 1100, "{:?}", query.name);
        for limit in [512, query.datagram()] {
            let Some(answer) = query.answer(&known, limit) else { continue };
            assert!(answer.len() <= limit && answers(&answer, bytes), "{} bytes of {limit}", answer.len());
            let Said::Addresses(told, _) = said(&answer, bytes) else { panic!("our own answer says nothing") };
            let of_kind = |ip: &&IpAddr| if query.kind == Kind::A { ip.is_ipv4() } else { ip.is_ipv6() };
            assert!(told.iter().all(|ip| known.addresses.iter().filter(of_kind).any(|one| one == ip)));
        }
    }
    let asked = question(u16::from_be_bytes([bytes.first().copied().unwrap_or(0), 7]), "www.example.com", Kind::A).unwrap();
    if let Said::Addresses(told, _) = said(bytes, &asked) {
        assert!(told.len() <= bytes.len() / 4);
    }
    let text = String::from_utf8_lossy(bytes);
    let _ = ResolvConf::read(&text);
    assert!(in_hosts(&text, "localhost").len() <= text.lines().count());
}

fn addresses() -> Vec<IpAddr> {
    let v4 = (0..90).map(|last| IpAddr::from([10, 0, 0, last]));
    v4.chain((0..40).map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last]))).collect()
}

fn grammar(random: &mut Random) -> Vec<u8> {
    if random.once_in(8) {
        return format!(
            "# x\nnameserver {}\nsearch {} {}\noptions ndots:{} x\n{} localhost {}\n",
            random.text(),
            random.text(),
            random.text(),
            random.number(),
            random.text(),
            random.text()
        )
        .into_bytes();
    }
    let name = random.mostly(&["www.example.com", "cart.shop", "A.b"], &["x.y.z.a.b.c.d"]);
    let kind = random.one_of(&[Kind::A, Kind::Aaaa]);
    let asked = question(random.number() as u16, name, kind).unwrap();
    if random.once_in(3) {
        return asked;
    }
    // An answer, as a name server would give it to our own question.
    let known =
        Known { alias: random.once_in(2).then(|| "b.example".to_owned()), addresses: addresses().split_off(random.below(130)) };
    Query::read(&asked).and_then(|query| query.answer(&known, random.one_of(&[512, 1232, 4096]))).unwrap_or(asked)
}
