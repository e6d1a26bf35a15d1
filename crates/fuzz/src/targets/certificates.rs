//! Certificates, requests, revocation lists and keys, as PEM or as what PEM holds.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use mutua_identity::issuer::CertificateRequest;
use mutua_identity::tls::Roots;
use mutua_identity::{
    Algorithms, Ca, CertificateInfo, ClientConfig, Credentials, Origination, PrivateKey, SpiffeId, TrustBundle, TrustDomain,
    certificate_request,
};

use crate::{Random, Target};

/// The target. Its input is a PEM text, or DER: then it is tried under every label.
pub const TARGET: Target = Target {
    name: "certificates",
    run,
    grammar,
    words: &[
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----END CERTIFICATE-----\n",
        b"-----BEGIN X509 CRL-----\n",
        b"-----BEGIN CERTIFICATE REQUEST-----\n",
        b"-----BEGIN PRIVATE KEY-----\n",
        b"\x30\x80",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x06\x03\x55\x1d\x11",
        b"\x86\x26spiffe://cluster.local/ns/shop/sa/cart",
        b"\x82\x01a",
        b"\x87\x04\x0a\x00\x00\x01",
        b"\x17\x0d999999999999Z",
        b"\x18\x0f99991231235959Z",
        b"\x00\x00",
    ],
    longest: 32 * 1024,
    memory: 4 * 1024 * 1024,
    memory_per_byte: 200,
};

const LABELS: [&str; 4] = ["CERTIFICATE", "CERTIFICATE REQUEST", "X509 CRL", "PRIVATE KEY"];

struct Known {
    ca: Ca,
    leaf: Credentials,
    key: PrivateKey,
    id: SpiffeId,
    /// Root, leaf, and a request, DER.
    ders: Vec<Vec<u8>>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::load_or_create(folder.path(), &TrustDomain::new("cluster.local").unwrap()).unwrap();
    let id: SpiffeId = "spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap();
    let key = PrivateKey::generate().unwrap();
    let request = certificate_request(&key).unwrap();
    let issued = ca.sign(&request, &id, Duration::from_secs(3600)).unwrap();
    let leaf = Credentials::new(&key, &issued.chain_pem).unwrap();
    let texts = [ca.bundle().to_pem(), issued.chain_pem[0].clone(), request];
    let ders = texts.iter().map(|text| pem::parse(text).unwrap().into_contents()).collect();
    Known { ca, leaf, key, id, ders }
});

/// What must hold.
pub fn run(bytes: &[u8]) {
    if bytes.windows(11).any(|part| part == b"-----BEGIN ") {
        return read(&String::from_utf8_lossy(bytes));
    }
    for label in LABELS {
        read(&pem::encode(&pem::Pem::new(label, bytes)));
    }
}

fn read(text: &str) {
    let known = &*KNOWN;
    if let Ok(info) = CertificateInfo::from_pem(text) {
        assert!(!info.serial.is_empty() && info.serial.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    if let Ok(bundle) = TrustBundle::from_pem(text) {
        assert_eq!(TrustBundle::from_pem(&bundle.to_pem()).unwrap(), bundle, "what is handed out is what was read");
        assert_eq!(bundle.infos().len(), bundle.roots_pem().len());
        let trusted = known.leaf.check_chain(&bundle, SystemTime::now()).is_ok();
        // An anchor is a name and a key (RFC 5280 §6.1.1); what else its certificate says does not count.
        let ours = point(&known.ders[0]);
        let held = |root: &String| pem::parse(root).is_ok_and(|root| point(root.contents()) == ours);
        assert!(!trusted || bundle.roots_pem().iter().any(held), "a chain is good below strangers' roots");
    }
    if let Ok(credentials) = Credentials::new(&known.key, &[text.to_owned()]) {
        let good = credentials.check_chain(known.ca.bundle(), SystemTime::now()).is_ok();
        assert!(!good || credentials.id() == Some(&known.id), "{:?} is of nobody that we signed", credentials.id());
    }
    if let Ok(key) = PrivateKey::from_pem(text) {
        let again = PrivateKey::from_pem(&key.to_pkcs8_pem()).unwrap();
        assert_eq!(again.to_pkcs8_pem(), key.to_pkcs8_pem());
    }
    signed(text);
    let settings = Origination {
        client: None,
        roots: Roots::Pem(text.to_owned()),
        names: vec!["a.example".to_owned()],
        verify_server_name: false,
        crl: Some(text.to_owned()),
        insecure_skip_verify: false,
        algorithms: Algorithms::default(),
    };
    assert!(ClientConfig::origination(&settings).is_err() || text.contains("BEGIN X509 CRL"), "a list that is none");
}

/// The point of an elliptic curve that a certificate holds: a bit string of 65 bytes, not compressed.
fn point(der: &[u8]) -> Option<&[u8]> {
    let at = der.windows(4).position(|part| part == [3, 0x42, 0, 4])?;
    der.get(at..at + 68)
}

/// Of a request nothing but its key is taken.
fn signed(text: &str) {
    let known = &*KNOWN;
    let (Ok(digest), issued) = (
        CertificateRequest::from_pem(text).map(|request| request.key_digest()),
        known.ca.sign(text, &known.id, Duration::from_secs(60)),
    ) else {
        return;
    };
    let issued = issued.unwrap();
    let info = CertificateInfo::from_pem(&issued.chain_pem[0]).unwrap();
    assert_eq!((info.uris, info.is_ca), (vec![known.id.to_string()], false));
    assert!(info.subject.is_empty() && digest.len() <= 64);
}

/// A certificate, request or list, with one of its parts changed and all lengths right again.
fn grammar(random: &mut Random) -> Vec<u8> {
    let ders = &KNOWN.ders;
    let mut node = Node::read(&ders[random.below(ders.len())]).remove(0);
    for _ in 0..random.between(1, 3) {
        let mut left = random.below(node.count());
        node.change(&mut left, random);
    }
    let mut der = Vec::new();
    node.write(&mut der);
    der
}

/// A part of DER.
struct Node {
    tag: u8,
    content: Content,
}

enum Content {
    Bytes(Vec<u8>),
    Parts(Vec<Node>),
}

impl Node {
    /// The parts of well-formed DER with one-byte tags and lengths below 64 KiB.
    fn read(mut bytes: &[u8]) -> Vec<Self> {
        let mut nodes = Vec::new();
        while let [tag, rest @ ..] = bytes {
            let (length, rest) = match rest {
                [0x81, length, rest @ ..] => (usize::from(*length), rest),
                [0x82, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
                [length, rest @ ..] => (usize::from(*length), rest),
                [] => break,
            };
            let (content, rest) = rest.split_at(length.min(rest.len()));
            let parts = tag & 0x20 != 0;
            let content = if parts { Content::Parts(Self::read(content)) } else { Content::Bytes(content.to_vec()) };
            nodes.push(Self { tag: *tag, content });
            bytes = rest;
        }
        nodes
    }

    fn count(&self) -> usize {
        match &self.content {
            Content::Bytes(_) => 1,
            Content::Parts(parts) => 1 + parts.iter().map(Self::count).sum::<usize>(),
        }
    }

    /// Changes the part number `left`.
    fn change(&mut self, left: &mut usize, random: &mut Random) {
        if *left == 0 {
            *left = usize::MAX;
            return self.change_here(random);
        }
        *left -= 1;
        if let Content::Parts(parts) = &mut self.content {
            for part in parts {
                if *left == usize::MAX {
                    return;
                }
                part.change(left, random);
            }
        }
    }

    fn change_here(&mut self, random: &mut Random) {
        match &mut self.content {
            Content::Parts(parts) if !parts.is_empty() => {
                let at = random.below(parts.len());
                match random.below(3) {
                    0 => drop(parts.remove(at)),
                    1 => parts.swap(0, at),
                    _ => {
                        let mut copy = Vec::new();
                        parts[at].write(&mut copy);
                        parts.extend(Self::read(&copy));
                    }
                }
            }
            Content::Parts(_) => self.tag ^= 1 << random.below(8),
            Content::Bytes(bytes) => match random.below(4) {
                0 => self.tag ^= 1 << random.below(6),
                1 => *bytes = random.text().into_bytes(),
                2 => bytes.clear(),
                _ => {
                    let count = random.length(40);
                    *bytes = random.bytes(count);
                }
            },
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut content = Vec::new();
        match &self.content {
            Content::Bytes(bytes) => content.extend(bytes),
            Content::Parts(parts) => parts.iter().for_each(|part| part.write(&mut content)),
        }
        out.push(self.tag);
        match content.len() {
            length @ 0..=0x7f => out.push(length as u8),
            length => out.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        out.extend(content);
    }
}
