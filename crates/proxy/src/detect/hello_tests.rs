use proptest::prelude::*;

use super::*;

fn vector8(content: &[u8]) -> Vec<u8> {
    let mut out = vec![u8::try_from(content.len()).unwrap()];
    out.extend_from_slice(content);
    out
}

fn vector16(content: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(content.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(content);
    out
}

/// The bytes of a ClientHello that says `hello`, in records of at most `fragment` bytes.
fn encode(hello: &ClientHello, filler: usize, fragment: usize) -> Vec<u8> {
    let mut extensions = Vec::new();
    let mut put = |kind: u16, content: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend(vector16(content));
    };
    put(51, &vec![7; filler]);
    if let Some(name) = &hello.server_name {
        let entry = [vec![0], vector16(name.as_bytes())].concat();
        put(SERVER_NAME, &vector16(&entry));
    }
    if !hello.alpn.is_empty() {
        put(ALPN, &vector16(&hello.alpn.iter().flat_map(|name| vector8(name)).collect::<Vec<_>>()));
    }
    let versions: Vec<u8> = hello.versions.iter().flat_map(|version| version.to_be_bytes()).collect();
    put(SUPPORTED_VERSIONS, &vector8(&versions));
    let mut body = vec![3, 3];
    body.extend([9; 32]);
    body.extend(vector8(&[1; 32]));
    body.extend(vector16(&[0x13, 0x01]));
    body.extend(vector8(&[0]));
    body.extend(vector16(&extensions));
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[CLIENT_HELLO], &length[1..], &body].concat();
    let mut out = Vec::new();
    for piece in message.chunks(fragment) {
        out.extend([HANDSHAKE, 3, 1]);
        out.extend(vector16(piece));
    }
    out
}

fn any_hello() -> impl Strategy<Value = ClientHello> {
    let name = proptest::option::of("[a-z0-9_.-]{1,80}");
    let alpn = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..6);
    let versions = proptest::collection::vec(any::<u16>(), 1..6);
    (name, alpn, versions).prop_map(|(server_name, alpn, versions)| ClientHello { server_name, alpn, versions })
}

proptest! {
    #[test]
    fn every_prefix_waits_and_the_whole_is_read(hello in any_hello(), filler in 0_usize..3000, fragment in 1_usize..4000) {
        let bytes = encode(&hello, filler, fragment);
        for end in (0..bytes.len()).step_by(1.max(bytes.len() / 200)) {
            prop_assert_eq!(parse(&bytes[..end]), Hello::NeedMore, "at {}", end);
        }
        prop_assert_eq!(parse(&bytes[..bytes.len() - 1]), Hello::NeedMore);
        prop_assert_eq!(parse(&bytes), Hello::Complete(hello.clone()));
        let followed = [bytes, vec![0x14, 3, 3, 0, 1, 1]].concat();
        prop_assert_eq!(parse(&followed), Hello::Complete(hello));
    }

    #[test]
    fn a_decision_stands_whatever_follows(bytes in proptest::collection::vec(any::<u8>(), 0..600), tls in any::<bool>()) {
        let mut bytes = bytes;
        if tls {
            bytes.splice(0..0, [22, 3, 1, 1, 0, 1, 0, 0, 200]);
        }
        let mut decided = Hello::NeedMore;
        for end in 0..=bytes.len() {
            let now = parse(&bytes[..end]);
            prop_assert!(decided == Hello::NeedMore || decided == now, "{:?} became {:?} at {}", decided, now, end);
            decided = now;
        }
    }

    #[test]
    fn piece_by_piece_is_as_all_at_once(hello in any_hello(), fragment in 1_usize..300, cuts in proptest::collection::vec(1_usize..200, 1..40)) {
        let mut bytes = encode(&hello, 200, fragment);
        bytes.extend([HANDSHAKE, 3]);
        let (mut reader, mut end, mut cuts) = (Reader::default(), 0, cuts.into_iter().cycle());
        loop {
            end = (end + cuts.next().unwrap()).min(bytes.len());
            let now = reader.read(&bytes[..end]);
            prop_assert_eq!(&now, &parse(&bytes[..end]));
            if now != Hello::NeedMore || end == bytes.len() {
                break;
            }
        }
    }
}

#[test]
fn a_first_byte_other_than_a_handshake_is_decided_at_once() {
    for byte in (0..=255).filter(|byte| *byte != HANDSHAKE) {
        assert_eq!(parse(&[byte]), Hello::NotTls);
    }
    assert_eq!(parse(&[HANDSHAKE]), Hello::NeedMore);
    assert_eq!(parse(&[HANDSHAKE, 2]), Hello::NotTls);
    assert_eq!(parse(&[HANDSHAKE, 3, 1, 0, 5, 2]), Hello::NotTls, "a ServerHello");
}

#[test]
fn a_hello_without_end_is_bounded() {
    assert_eq!(parse(&[HANDSHAKE, 3, 1, 0x40, 0, CLIENT_HELLO, 0xff, 0, 0]), Hello::TooLarge);
    let endless: Vec<u8> = [HANDSHAKE, 3, 1, 0, 1, CLIENT_HELLO]
        .into_iter()
        .chain([HANDSHAKE, 3, 1, 0, 1, 0].into_iter().cycle())
        .take(40_000)
        .collect();
    assert!(matches!(parse(&endless), Hello::TooLarge | Hello::NotTls));
}

#[test]
fn the_hello_of_our_own_client_is_read() {
    use mutua_identity::tls::Roots;
    let settings = mutua_identity::Origination {
        client: None,
        roots: Roots::System,
        names: Vec::new(),
        verify_server_name: false,
        crl: None,
        insecure_skip_verify: true,
        algorithms: mutua_identity::Algorithms::default(),
    };
    let config = mutua_identity::ClientConfig::origination(&settings).unwrap();
    let sni = "outbound_.8000_._.cart.shop.svc.cluster.local";
    let mut session = mutua_identity::Session::client(&config, Some(sni), &[b"istio", b"h2"]).unwrap();
    let mut bytes = Vec::new();
    session.start(&mut bytes).unwrap();
    let Hello::Complete(hello) = parse(&bytes) else { panic!("not read") };
    assert_eq!(hello.server_name.as_deref(), Some(sni));
    assert_eq!(hello.alpn, [b"istio".to_vec(), b"h2".to_vec()]);
    assert!(hello.versions.contains(&0x0304) && hello.is_mesh() && hello.has_http_alpn());
    assert!(bytes.len() > 1200, "post-quantum key share");
}
