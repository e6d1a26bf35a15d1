//! Peers whose chain was found good before.
//!
//! In a mesh the same few certificates come again and again, and checking a chain costs about as much as the peer's own
//! proof that it holds the key. A chain that a verifier has found good is therefore remembered: byte for byte, by this
//! verifier alone, and for no moment in which one of its certificates is not valid, or a root or a revocation list has ended. What a verifier decides by (roots,
//! revocation lists, whom it accepts) never changes: a change of any of them makes a new verifier, which knows nobody. The
//! peer's proof of its key is checked in every handshake.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::CertificateInfo;

/// Chains that one verifier remembers.
const MAX_KNOWN: usize = 1024;

/// The chains that one verifier has found good.
#[derive(Debug)]
pub(super) struct Known {
    /// The last second in which all revocation lists count.
    until: u64,
    chains: Mutex<HashMap<Name, Validity>>,
}

/// All bytes of a chain, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name([u8; SHA256_OUTPUT_LEN]);

/// When all certificates of a chain are valid, in seconds since 1970, both ends included.
#[derive(Clone, Copy, Debug)]
struct Validity {
    not_before: u64,
    not_after: u64,
}

impl Validity {
    /// `None` where a certificate cannot be read.
    fn of(leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Option<Self> {
        let mut validity = Self { not_before: 0, not_after: u64::MAX };
        for certificate in std::iter::once(leaf).chain(rest) {
            let info = CertificateInfo::from_der(certificate).ok()?;
            validity.not_before = validity.not_before.max(seconds(info.not_before)?);
            validity.not_after = validity.not_after.min(seconds(info.not_after)?);
        }
        Some(validity)
    }

    fn holds(self, now: UnixTime) -> bool {
        (self.not_before..=self.not_after).contains(&now.as_secs())
    }
}

impl Known {
    /// Nobody yet, and nobody after the second `until` since 1970: a revocation list of the verifier ends then.
    pub fn until(until: u64) -> Self {
        Self { until, chains: Mutex::default() }
    }

    /// What a chain is known by. Lengths are part of it, so that bytes cannot move from one certificate to the next.
    pub fn name(leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Name {
        let mut context = Context::new(&SHA256);
        for certificate in std::iter::once(leaf).chain(rest) {
            context.update(&certificate.len().to_be_bytes());
            context.update(certificate);
        }
        let mut name = [0; SHA256_OUTPUT_LEN];
        name.copy_from_slice(context.finish().as_ref());
        Name(name)
    }

    /// Whether this chain was found good, and is valid now.
    pub fn knows(&self, name: &Name, now: UnixTime) -> bool {
        let chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        chains.get(name).is_some_and(|validity| validity.holds(now))
    }

    /// Remembers a chain that was found good, until the second `until` since 1970: a root ends then.
    pub fn remember(&self, name: Name, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], now: UnixTime, until: u64) {
        let Some(mut validity) = Validity::of(leaf, rest) else { return };
        validity.not_after = validity.not_after.min(self.until).min(until);
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        if chains.len() >= MAX_KNOWN {
            chains.retain(|_, validity| validity.holds(now));
        }
        if chains.len() >= MAX_KNOWN {
            chains.clear();
        }
        chains.insert(name, validity);
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

fn seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().as_ref().map(Duration::as_secs)
}
