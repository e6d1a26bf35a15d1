//! The traffic secrets of an established TLS 1.3 connection, from which key updates come (RFC 8446 §7.2).
//!
//! The library would keep them, in an object that also holds the peer's certificates and everything else it may ever be
//! asked for: 1.4 KB for each connection at rest. It tells secrets to a key log at the moment of their making; [`Tap`] is one
//! that hands them to the session whose handshake is driven at that moment ([`hear`]). Outside of that nothing is kept, and
//! nothing is ever written anywhere.

use std::cell::RefCell;

use aws_lc_rs::hkdf::{HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use rustls::KeyLog;

use super::{TlsError, TlsErrorKind};

const CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER: &str = "SERVER_TRAFFIC_SECRET_0";
/// Bytes of a secret of SHA-384; all others are of SHA-256.
const OF_SHA384: usize = 48;

thread_local! {
    static HEARD: RefCell<Option<Secrets>> = const { RefCell::new(None) };
}

/// The secret of one direction. It stands in a place of its own, so that moving it leaves no copy behind.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(Box<[u8]>);

/// The secrets of both directions, as far as they exist.
#[derive(Default)]
pub(super) struct Secrets {
    /// For what the calling side sends.
    pub client: Option<Secret>,
    /// For what the accepting side sends.
    pub server: Option<Secret>,
}

/// Runs `drive`, a step of one handshake, and keeps the secrets that the library makes in it.
pub(super) fn hear<T>(secrets: &mut Secrets, drive: impl FnOnce() -> T) -> T {
    HEARD.set(Some(std::mem::take(secrets)));
    let driven = drive();
    *secrets = HEARD.take().unwrap_or_default();
    driven
}

/// The key log of our configurations.
#[derive(Debug)]
pub(crate) struct Tap;

impl KeyLog for Tap {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        HEARD.with_borrow_mut(|heard| match (heard, label) {
            (Some(secrets), CLIENT) => secrets.client = Some(Secret(secret.into())),
            (Some(secrets), SERVER) => secrets.server = Some(Secret(secret.into())),
            _ => {}
        });
    }

    fn will_log(&self, label: &str) -> bool {
        [CLIENT, SERVER].contains(&label) && HEARD.with_borrow(Option::is_some)
    }
}

impl Secret {
    /// The secret that follows.
    pub fn next(&self) -> Result<Self, TlsError> {
        let mut next = Self(vec![0; self.0.len()].into());
        self.expand("traffic upd", &mut next.0)?;
        Ok(next)
    }

    /// `HKDF-Expand-Label` with an empty context (§7.1), by the hash of the cipher suite.
    pub fn expand(&self, label: &str, into: &mut [u8]) -> Result<(), TlsError> {
        let algorithm = if self.0.len() == OF_SHA384 { HKDF_SHA384 } else { HKDF_SHA256 };
        let full = ["tls13 ", label].concat();
        let sizes =
            [u16::try_from(into.len()).unwrap_or(u16::MAX).to_be_bytes(), [u8::try_from(full.len()).unwrap_or(u8::MAX), 0]];
        let information = [&sizes[0][..], &sizes[1][..1], full.as_bytes(), &[0]];
        let made = Prk::new_less_safe(algorithm, &self.0);
        let filled = made.expand(&information, Length(into.len())).and_then(|made| made.fill(into));
        filled.map_err(|_| TlsError::new(TlsErrorKind::Configuration, "the next key cannot be derived"))
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // So that the line above is not left out.
        std::hint::black_box(&self.0);
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}
