//! Our records against the library's own record layer, in both roles.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{CipherSuite, ClientConnection, Connection as Foreign, KeyLog, ServerConnection};

use super::*;
use crate::tls::provider;
use crate::tls::secrets::Tap;
use crate::tls::session::Session;
use crate::tls::verify::NoVerification;
use crate::{Ca, ClientConfig, Credentials, PeerExpectation, PrivateKey, ServerConfig, ServerPolicy, TrustDomain};

/// Plaintext and what is to be sent, or the failure and its alert.
type Heard = Result<(Vec<u8>, Vec<u8>), (TlsError, Vec<u8>)>;

/// Our established session, and a foreign end that the library serves whole.
struct Pair {
    ours: Session,
    /// What came for us and was not used yet.
    incoming: Vec<u8>,
    foreign: Foreign,
    /// What the foreign end has read.
    heard: Vec<u8>,
}

/// A client with the same certificate that offers one suite, to whatever server.
fn offering(suite: CipherSuite, like: &ClientConfig) -> ClientConfig {
    let mut provider = (*provider::plain()).clone();
    provider.cipher_suites.retain(|known| known.suite() == suite);
    let builder =
        rustls::ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.unwrap().dangerous().with_custom_certificate_verifier(Arc::new(NoVerification));
    let mut inner = builder.with_client_cert_resolver(Arc::clone(&like.inner.client_auth_cert_resolver));
    inner.enable_secret_extraction = true;
    inner.key_log = Arc::clone(&like.inner.key_log);
    ClientConfig { inner: Arc::new(inner), anchors: None }
}

impl Pair {
    /// `client`: ours is the calling side. `tickets`: the foreign server sends as many.
    fn new(client: bool, tickets: usize) -> Self {
        Self::of(client, tickets, CipherSuite::TLS13_AES_128_GCM_SHA256)
    }

    /// As `of`, before the handshake.
    fn begin(client: bool, tickets: usize, suite: CipherSuite) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let domain = TrustDomain::new("cluster.local").unwrap();
        let ca = Ca::load_or_create(folder.path(), &domain).unwrap();
        let key = PrivateKey::generate().unwrap();
        let id = "spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap();
        let issued = ca.sign(&crate::certificate_request(&key).unwrap(), &id, Duration::from_secs(600)).unwrap();
        let leaf = Credentials::new(&key, &issued.chain_pem).unwrap();
        let peer = PeerExpectation { ids: Vec::new(), trust_domains: vec![domain.clone()] };
        let calling = offering(suite, &ClientConfig::mesh(&leaf, ca.bundle(), &peer).unwrap());
        let policy = ServerPolicy { trust_domains: vec![domain], ..Default::default() };
        let mut accepting = ServerConfig::mesh(&leaf, ca.bundle(), &policy).unwrap();
        Arc::make_mut(&mut accepting.plain).send_tls13_tickets = tickets;
        let (ours, foreign) = if client {
            let foreign = ServerConnection::new(Arc::clone(&accepting.plain)).unwrap();
            (Session::client(&calling, Some("cart"), &[]).unwrap(), foreign.into())
        } else {
            let name = ServerName::try_from("cart").unwrap();
            (Session::server(&accepting, false).unwrap(), ClientConnection::new(Arc::clone(&calling.inner), name).unwrap().into())
        };
        let mut pair = Self { ours, incoming: Vec::new(), foreign, heard: Vec::new() };
        let mut hello = Vec::new();
        if client {
            pair.ours.start(&mut hello).unwrap();
        }
        pair.give(&hello);
        pair
    }

    /// Whether the handshake goes on.
    fn is_handshaking(&self) -> bool {
        self.foreign.is_handshaking() || !self.ours.is_established()
    }

    /// As `new`, with this suite.
    fn of(client: bool, tickets: usize, suite: CipherSuite) -> Self {
        let mut pair = Self::begin(client, tickets, suite);
        while pair.is_handshaking() {
            assert_eq!(pair.take(), b"");
        }
        assert_eq!(pair.foreign.negotiated_cipher_suite().map(|suite| suite.suite()), Some(suite));
        pair
    }

    /// Hands `bytes` to the foreign end.
    fn give(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.foreign.read_tls(&mut bytes).unwrap();
            let count = self.foreign.process_new_packets().unwrap().plaintext_bytes_to_read();
            let start = self.heard.len();
            self.heard.resize(start + count, 0);
            self.foreign.reader().read_exact(&mut self.heard[start..]).unwrap();
        }
    }

    /// What the foreign end has sent, as our plaintext; our answers go back.
    fn take(&mut self) -> Vec<u8> {
        let (plain, out) = self.try_take().unwrap();
        self.give(&out);
        plain
    }

    fn try_take(&mut self) -> Heard {
        while self.foreign.wants_write() {
            self.foreign.write_tls(&mut self.incoming).unwrap();
        }
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        match self.ours.read(&mut self.incoming, &mut plain, &mut out) {
            Ok(used) => drop(self.incoming.drain(..used)),
            Err(error) => return Err((error, out)),
        }
        Ok((plain, out))
    }

    fn say(&mut self, text: &[u8]) {
        self.foreign.writer().write_all(text).unwrap();
    }
}

#[test]
fn the_library_reads_what_is_sealed_in_place_and_we_what_it_writes() {
    for client in [true, false] {
        let mut pair = Pair::new(client, 4);
        for length in [1, 1000, FRAGMENT, FRAGMENT + 1, 3 * FRAGMENT - 1] {
            let text: Vec<u8> = (0..length).map(|n| (n % 253) as u8).collect();
            let mut buffer = vec![0; Session::sealed_size(3)];
            let mut rest = &text[..];
            for place in Session::places(&mut buffer, 3) {
                let count = rest.len().min(place.len());
                place[..count].copy_from_slice(&rest[..count]);
                rest = &rest[count..];
            }
            let sealed = pair.ours.seal(&mut buffer, length).unwrap();
            assert_eq!(sealed, length + length.div_ceil(FRAGMENT) * (PREFIX + SUFFIX));
            pair.give(&buffer[..sealed]);
            assert!(std::mem::take(&mut pair.heard) == text, "{length}");
            pair.say(&text);
            assert!(pair.take() == text, "{length}");
        }
    }
}

#[test]
fn key_updates_are_followed_and_answered() {
    let suites = [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    for (suite, client) in suites.into_iter().flat_map(|suite| [(suite, true), (suite, false)]) {
        let mut pair = Pair::of(client, 0, suite);
        for round in 0..3 {
            pair.foreign.refresh_traffic_keys().unwrap();
            pair.say(b"under the next key");
            assert_eq!(pair.take(), b"under the next key", "{suite:?} {round}");
            let mut out = Vec::new();
            pair.ours.write(b"and back", &mut out).unwrap();
            pair.give(&out);
            assert_eq!(std::mem::take(&mut pair.heard), b"and back");
        }
    }
}

#[test]
fn handshakes_that_take_turns_on_one_thread_keep_their_secrets_apart() {
    let mut pairs = [true, false, true].map(|client| Pair::begin(client, 0, CipherSuite::TLS13_AES_128_GCM_SHA256));
    while pairs.iter().any(Pair::is_handshaking) {
        for pair in &mut pairs {
            assert_eq!(pair.take(), b"");
        }
        assert!(!Tap.will_log("CLIENT_TRAFFIC_SECRET_0"), "between the steps of sessions nobody listens");
    }
    for pair in &mut pairs {
        pair.foreign.refresh_traffic_keys().unwrap();
        pair.say(b"under the next key");
        assert_eq!(pair.take(), b"under the next key");
    }
}

#[test]
fn several_key_updates_are_answered_by_one() {
    let mut pair = Pair::new(true, 0);
    for _ in 0..5 {
        pair.foreign.refresh_traffic_keys().unwrap();
    }
    let (plain, out) = pair.try_take().unwrap();
    assert_eq!((plain.len(), out.len()), (0, PREFIX + 5 + SUFFIX));
    pair.give(&out);
}

#[test]
fn a_worn_key_is_replaced_before_the_next_record() {
    let mut pair = Pair::new(true, 0);
    pair.ours.wear_out();
    let mut out = Vec::new();
    pair.ours.write(b"last under the old key", &mut out).unwrap();
    assert!(pair.ours.has_control());
    pair.ours.write(b"first under the new one", &mut out).unwrap();
    assert!(!pair.ours.has_control());
    pair.give(&out);
    assert_eq!(pair.heard, b"last under the old keyfirst under the new one");
}

#[test]
fn a_changed_record_is_refused_with_an_alert_that_is_understood() {
    for client in [true, false] {
        let mut pair = Pair::new(client, 0);
        pair.say(b"secret");
        while pair.foreign.wants_write() {
            pair.foreign.write_tls(&mut pair.incoming).unwrap();
        }
        *pair.incoming.last_mut().unwrap() ^= 1;
        let (error, alert) = pair.try_take().unwrap_err();
        assert_eq!(error.kind, TlsErrorKind::Decrypt);
        pair.foreign.read_tls(&mut &alert[..]).unwrap();
        let understood = pair.foreign.process_new_packets().unwrap_err();
        assert_eq!(understood, Error::AlertReceived(AlertDescription::BadRecordMac));
        assert!(pair.ours.write(b"x", &mut Vec::new()).is_err());
        assert_eq!(pair.ours.open(&mut [], &mut Vec::new()).unwrap_err().kind, TlsErrorKind::Closed);
    }
}

#[test]
fn ends_are_said_and_heard() {
    for client in [true, false] {
        let mut pair = Pair::new(client, 0);
        let mut out = Vec::new();
        pair.ours.close(&mut out);
        pair.foreign.read_tls(&mut &out[..]).unwrap();
        assert!(pair.foreign.process_new_packets().unwrap().peer_has_closed());
        pair.say(b"still");
        pair.foreign.send_close_notify();
        assert_eq!(pair.take(), b"still");
        assert!(pair.ours.peer_closed());
    }
}

/// Records that a peer may not send, each with the alert it is answered with.
#[test]
fn what_does_not_belong_after_the_handshake_is_refused() {
    let long = u16::try_from(MAX_CIPHERTEXT + 1).unwrap().to_be_bytes();
    for (record, description) in [
        (vec![20, 3, 3, 0, 1, 1], AlertDescription::UnexpectedMessage),
        (vec![22, 3, 3, 0, 1, 1], AlertDescription::UnexpectedMessage),
        (vec![CONTENT_DATA, 3, 3, long[0], long[1]], AlertDescription::RecordOverflow),
        (vec![CONTENT_DATA, 3, 3, 0, 1, 0], AlertDescription::BadRecordMac),
    ] {
        let mut pair = Pair::new(true, 0);
        pair.incoming = record;
        let (_, alert) = pair.try_take().unwrap_err();
        pair.foreign.read_tls(&mut &alert[..]).unwrap();
        assert_eq!(pair.foreign.process_new_packets().unwrap_err(), Error::AlertReceived(description));
    }
}

/// Content that our own record layer encrypts for us, as a hostile peer would.
fn hostile(client: bool, contents: &[(u8, &[u8])]) -> Result<Vec<u8>, TlsErrorKind> {
    let mut ours = Pair::new(client, 0).ours.records();
    // What we receive under, the peer sends under.
    let (mut out, begin) = (Vec::new(), ours.receive.sequence);
    for (kind, content) in contents {
        let start = out.len();
        out.extend_from_slice(&[0; PREFIX]);
        out.extend_from_slice(content);
        out.extend_from_slice(&[0; SUFFIX]);
        ours.receive.seal(*kind, &mut out[start..], content.len()).unwrap();
    }
    ours.receive.sequence = begin;
    let mut pieces = Vec::new();
    match ours.open(&mut out, &mut pieces) {
        Ok(_) => Ok(pieces.into_iter().flat_map(|piece| out[piece].to_vec()).collect()),
        Err((error, _)) => Err(error.kind),
    }
}

#[test]
fn hostile_content_is_bounded_and_refused() {
    let ticket: &[u8] = &[MESSAGE_TICKET, 0, 0, 3, 1, 2, 3];
    let asks: &[u8] = &[MESSAGE_KEY_UPDATE, 0, 0, 1, 1];
    let (data, message) = (CONTENT_DATA, CONTENT_HANDSHAKE);
    let refused = Err(TlsErrorKind::Malformed);
    assert_eq!(hostile(true, &[(message, ticket), (data, b"x")]), Ok(b"x".to_vec()));
    assert_eq!(hostile(true, &[(message, &ticket[..2]), (message, &ticket[2..]), (data, b"x")]), Ok(b"x".to_vec()));
    assert_eq!(hostile(false, &[(message, ticket)]), refused, "a client has no tickets");
    assert_eq!(hostile(true, &[(message, &ticket[..2]), (data, b"x")]), refused, "data within a message");
    assert_eq!(hostile(true, &[(message, &[asks, ticket].concat())]), refused, "a key changes at a record's end");
    assert_eq!(hostile(true, &[(message, &[MESSAGE_KEY_UPDATE, 0, 0, 1, 2])]), refused);
    assert_eq!(hostile(true, &[(message, &[1, 0, 0, 0])]), refused, "a ClientHello");
    assert_eq!(hostile(true, &[(message, &[MESSAGE_TICKET, 0xff, 0, 0])]), refused, "a message of 16 MB");
    assert_eq!(hostile(true, &[(message, b"")]), refused);
    assert_eq!(hostile(true, &[(CONTENT_ALERT, &[1])]), refused);
    assert_eq!(hostile(true, &[(CONTENT_ALERT, &[2, 40])]), Err(TlsErrorKind::AlertReceived));
    assert_eq!(hostile(true, &[(CONTENT_ALERT, &[1, 90]), (data, b"x")]), Ok(b"x".to_vec()));
    assert_eq!(hostile(true, &[(data, b"x"), (CONTENT_ALERT, &[1, 0]), (data, b"y")]), Ok(b"x".to_vec()));
    assert_eq!(hostile(true, &[(24, b"x")]), refused);
    assert_eq!(hostile(true, &[(0, b"")]), refused, "nothing but padding");
    assert_eq!(hostile(true, &vec![(data, &b""[..]); MAX_QUIET as usize]), Ok(Vec::new()));
    assert_eq!(hostile(true, &vec![(data, &b""[..]); MAX_QUIET as usize + 1]), refused, "empty records without end");
    let full = vec![7; FRAGMENT];
    assert_eq!(hostile(true, &[(data, &full)]), Ok(full.clone()));
    assert_eq!(hostile(true, &[(data, &vec![7; FRAGMENT + 1])]), refused, "more than a record may hold");
}
