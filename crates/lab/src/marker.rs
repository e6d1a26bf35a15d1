//! Random words that requests carry, so that they can be recognised on the wire.

use std::fmt;
use std::io::Read;

/// What every marker begins with.
pub const PREFIX: &[u8] = b"mutua-marker-";
/// Random hexadecimal digits after the prefix.
pub const DIGITS: usize = 32;

/// 128 random bits behind [`PREFIX`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Marker(String);

impl Marker {
    /// A fresh one.
    ///
    /// # Panics
    /// The operating system gives no random bytes, without which nothing on this machine can be trusted.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0_u8; DIGITS / 2];
        let read = std::fs::File::open("/dev/urandom").and_then(|mut urandom| urandom.read_exact(&mut bytes));
        read.expect("the operating system gives random bytes");
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("{}{digits}", String::from_utf8_lossy(PREFIX)))
    }

    /// The marker at the start of `bytes`, when one stands there.
    #[must_use]
    pub fn at_start(bytes: &[u8]) -> Option<Self> {
        let text = bytes.get(..PREFIX.len() + DIGITS)?;
        let digits = text.strip_prefix(PREFIX)?;
        digits.iter().all(u8::is_ascii_hexdigit).then(|| Self(String::from_utf8_lossy(text).into_owned()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
