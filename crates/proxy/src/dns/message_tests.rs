use super::*;
use proptest::prelude::*;

fn v4(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

#[test]
fn an_answer_says_what_was_asked() {
    let asked = question(7, "API.example.com", Kind::A).unwrap();
    let query = Query::read(&asked).unwrap();
    assert_eq!((query.name.as_str(), query.kind, query.datagram()), ("api.example.com", Kind::A, 1232));
    let known = Known { alias: None, addresses: vec![v4(1), "fd00::1".parse().unwrap(), v4(2)] };
    let answer = query.answer(&known, 1232).unwrap();
    assert_eq!(said(&answer, &asked), Said::Addresses(vec![v4(1), v4(2)], Some(30)));
    let packet = Packet::parse(&answer).unwrap();
    assert_eq!(packet.answers[0].name.to_string(), "API.example.com", "the name as it was written");
    assert!(packet.has_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_DESIRED) && packet.opt().is_some());
    let six = question(8, "api.example.com", Kind::Aaaa).unwrap();
    let none = Query::read(&six).unwrap().answer(&Known { addresses: vec![v4(1)], ..Known::default() }, 512).unwrap();
    assert_eq!(said(&none, &six), Said::Addresses(Vec::new(), None), "the name exists");
    assert_eq!(Packet::parse(&none).unwrap().rcode(), RCODE::NoError);
}

#[test]
fn an_alias_stands_before_its_addresses() {
    let asked = question(7, "api.example.com.shop.svc.cluster.local", Kind::A).unwrap();
    let known = Known { alias: Some("api.example.com".to_owned()), addresses: vec![v4(1)] };
    let answer = Query::read(&asked).unwrap().answer(&known, 512).unwrap();
    let packet = Packet::parse(&answer).unwrap();
    let names: Vec<String> = packet.answers.iter().map(|record| record.name.to_string()).collect();
    assert_eq!(names, ["api.example.com.shop.svc.cluster.local", "api.example.com"]);
    assert!(matches!(&packet.answers[0].rdata, RData::CNAME(CNAME(name)) if name.to_string() == "api.example.com"));
}

#[test]
fn what_does_not_fit_is_left_out_and_said() {
    let addresses: Vec<IpAddr> = (0..200).map(v4).collect();
    let six: Vec<IpAddr> = (0..200).map(|last: u16| [0xfd00, 0, 0, 0, 0, 0, 0, last].into()).collect();
    for (kind, addresses) in [(Kind::A, addresses), (Kind::Aaaa, six)] {
        let asked = question(7, "many.example.com", kind).unwrap();
        let query = Query::read(&asked).unwrap();
        for alias in [None, Some("a.b".to_owned())] {
            let known = Known { alias, addresses: addresses.clone() };
            for limit in [512, 513, 530, 1232] {
                let answer = query.answer(&known, limit).unwrap();
                assert!(answer.len() <= limit && answer.len() > limit - 64 && is_cut(&answer), "{} of {limit}", answer.len());
            }
            let whole = query.answer(&known, 65535).unwrap();
            assert!(!is_cut(&whole));
            assert_eq!(said(&whole, &asked), Said::Addresses(addresses.clone(), Some(30)));
        }
    }
}

#[test]
fn what_is_no_plain_question_about_addresses_is_not_ours() {
    let good = question(7, "a.b", Kind::A).unwrap();
    let change = |at: usize, byte: u8| {
        let mut message = good.clone();
        message[at] = byte;
        message
    };
    let type_at = 12 + 1 + 1 + 1 + 1 + 1 + 1;
    assert!(Query::read(&good).is_some());
    for (message, why) in [
        (change(2, 0x81), "a reply"),
        (change(2, 0x11), "another opcode"),
        (change(5, 2), "two questions"),
        (change(7, 1), "an answer"),
        (change(11, 5), "many more records"),
        (change(type_at, 15), "a mail exchange"),
        (change(type_at + 2, 3), "another class"),
        (good[..20].to_vec(), "half of it"),
        (Vec::new(), "nothing"),
    ] {
        assert!(Query::read(&message).is_none(), "{why}");
    }
}

#[test]
fn a_failure_answers_whatever_has_a_header() {
    let asked = question(0x1234, "a.b", Kind::A).unwrap();
    assert_eq!(said(&failure(&asked).unwrap(), &asked), Said::Failed);
    let strange = [0x12, 0x34, 0x29, 0xff, 9, 9, 9, 9, 9, 9, 9, 9, 1];
    assert_eq!(failure(&strange).unwrap()[..4], [0x12, 0x34, 0xa9, 0x82]);
    assert!(failure(&[0; 11]).is_none() && failure(&failure(&asked).unwrap()).is_none(), "never to a reply");
}

#[test]
fn a_reply_to_something_else_says_nothing() {
    let asked = question(7, "a.b", Kind::A).unwrap();
    let known = Known { addresses: vec![v4(1)], ..Known::default() };
    let other = |id, name, kind| {
        let other = question(id, name, kind).unwrap();
        Query::read(&other).unwrap().answer(&known, 512).unwrap()
    };
    assert_eq!(said(&other(7, "a.b", Kind::A), &asked), Said::Addresses(vec![v4(1)], Some(30)));
    for reply in [other(8, "a.b", Kind::A), other(7, "a.c", Kind::A), other(7, "a.b", Kind::Aaaa), asked.clone()] {
        assert_eq!(said(&reply, &asked), Said::Failed);
    }
    let mut counted = other(7, "a.b", Kind::A);
    counted[6] = 0xff;
    assert_eq!(said(&counted, &asked), Said::Failed, "more records than are looked at");
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic_nor_answer_a_reply(
        mut bytes in prop::collection::vec(any::<u8>(), 0..600), honest in any::<bool>(), limit in 0usize..2000,
    ) {
        if honest && bytes.len() > 12 {
            // A likely header, so that names and records are reached.
            bytes[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        }
        if let Some(query) = Query::read(&bytes) {
            let known = Known { alias: None, addresses: (0..90).map(v4).collect() };
            let answer = query.answer(&known, limit);
            prop_assert!(answer.is_none_or(|answer| answer.len() <= limit));
        }
        let failed = failure(&bytes);
        prop_assert_eq!(failed.is_some(), is_query(&bytes));
        let _ = said(&bytes, &bytes);
    }
}
