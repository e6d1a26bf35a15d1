//! Sets of public keys (JWKS, RFC 7517) by which tokens are verified.

use std::fmt;

use aws_lc_rs::signature::{
    self, EcdsaVerificationAlgorithm, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::{JwtError, shown};

/// The largest key set that is read, bytes.
pub const MAX_KEY_SET: usize = 256 * 1024;
/// The most keys that a set may have.
const MAX_KEYS: usize = 100;
/// The sizes of RSA keys that count, in bytes: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// How a token may be signed (RFC 7518 §3.1, RFC 8037): with a private key, never with a shared secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// RSA PSS with SHA-256.
    Ps256,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// ECDSA over P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl JwtAlgorithm {
    /// By its name in `alg`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "PS256" => Self::Ps256,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }
}

/// Why a key set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// Larger than [`MAX_KEY_SET`].
    #[error("the key set has {0} bytes, at most {MAX_KEY_SET} are read")]
    TooLarge(usize),
    /// Not JSON, or without a list `keys`.
    #[error("the key set is no JWKS: {0}")]
    Malformed(String),
    /// More than can be meant.
    #[error("the key set has {0} keys, at most {MAX_KEYS} are read")]
    TooMany(usize),
    /// None of its keys can verify a token.
    #[error("none of the {0} keys of the set can be used: RSA from 2048 bits, P-256, P-384 and Ed25519 can, for signatures")]
    Unusable(usize),
}

/// Public keys that verify tokens.
#[derive(Clone)]
pub struct KeySet(Vec<Key>);

#[derive(Clone)]
struct Key {
    id: Option<String>,
    /// The key for each algorithm that it may be used with.
    verifiers: Vec<(JwtAlgorithm, ParsedPublicKey)>,
}

/// A key as it is written (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Reads a JWKS. Keys of other kinds, too weak ones and those for other purposes are passed over (RFC 7517 §5).
    ///
    /// # Errors
    /// Text that is none, is too large, or holds no key that can be used.
    pub fn from_json(text: &[u8]) -> Result<Self, KeySetError> {
        if text.len() > MAX_KEY_SET {
            return Err(KeySetError::TooLarge(text.len()));
        }
        let document: Document = serde_json::from_slice(text).map_err(|error| KeySetError::Malformed(error.to_string()))?;
        let written = document.keys.len();
        if written > MAX_KEYS {
            return Err(KeySetError::TooMany(written));
        }
        let read = |key| serde_json::from_value::<Jwk>(key).ok().map(|key| key.usable());
        let keys: Vec<Key> = document.keys.into_iter().filter_map(read).filter(|key| !key.verifiers.is_empty()).collect();
        if keys.is_empty() { Err(KeySetError::Unusable(written)) } else { Ok(Self(keys)) }
    }

    /// The names of its keys, for display; a key without one is `-`.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| key.id.as_deref().unwrap_or("-"))
    }

    /// The key that a header names; where it names none, the only one for its algorithm.
    pub(super) fn find(&self, id: Option<&str>, algorithm: JwtAlgorithm) -> Result<&ParsedPublicKey, JwtError> {
        let named = self.0.iter().filter(|key| id.is_none() || key.id.as_deref() == id);
        let mut fit = named.flat_map(|key| &key.verifiers).filter(|(for_, _)| *for_ == algorithm).map(|(_, key)| key);
        match (id, fit.next(), fit.count()) {
            (Some(_), Some(key), _) | (None, Some(key), 0) => Ok(key),
            (Some(id), ..) => Err(JwtError::UnknownKey(shown(id))),
            (None, first, more) => Err(JwtError::Unnamed(more + usize::from(first.is_some()))),
        }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl Jwk {
    /// The key with what it can verify, which may be nothing.
    fn usable(self) -> Key {
        let signs = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|all| all.iter().any(|one| one == "verify"));
        let mut verifiers = if signs { self.verifiers().unwrap_or_default() } else { Vec::new() };
        // A key that names its algorithm is for no other.
        if let Some(only) = &self.alg {
            verifiers.retain(|(algorithm, _)| JwtAlgorithm::from_name(only) == Some(*algorithm));
        }
        Key { id: self.kid, verifiers }
    }

    fn verifiers(&self) -> Option<Vec<(JwtAlgorithm, ParsedPublicKey)>> {
        let curve = self.crv.as_deref();
        Some(match (self.kty.as_str(), curve) {
            ("RSA", _) => vec![
                (JwtAlgorithm::Rs256, self.rsa(&signature::RSA_PKCS1_2048_8192_SHA256)?),
                (JwtAlgorithm::Ps256, self.rsa(&signature::RSA_PSS_2048_8192_SHA256)?),
            ],
            ("EC", Some("P-256")) => vec![(JwtAlgorithm::Es256, self.point(&signature::ECDSA_P256_SHA256_FIXED, 32)?)],
            ("EC", Some("P-384")) => vec![(JwtAlgorithm::Es384, self.point(&signature::ECDSA_P384_SHA384_FIXED, 48)?)],
            ("OKP", Some("Ed25519")) => vec![(JwtAlgorithm::EdDsa, parsed(&signature::ED25519, &number(self.x.as_ref())?)?)],
            _ => return None,
        })
    }

    fn rsa(&self, parameters: &'static RsaParameters) -> Option<ParsedPublicKey> {
        let (n, e) = (number(self.n.as_ref())?, number(self.e.as_ref())?);
        let n = n.strip_prefix(&[0]).unwrap_or(&n);
        let fits = RSA_BYTES.contains(&n.len()) && n.first().is_some_and(|first| *first >= 0x80);
        // Exponents of more than 32 bits only cost time.
        let components = RsaPublicKeyComponents { n, e: e.as_slice() };
        (fits && e.len() <= 4).then(|| components.to_parsed_public_key(parameters).ok()).flatten()
    }

    fn point(&self, algorithm: &'static EcdsaVerificationAlgorithm, bytes: usize) -> Option<ParsedPublicKey> {
        let (x, y) = (number(self.x.as_ref())?, number(self.y.as_ref())?);
        let whole = x.len() == bytes && y.len() == bytes;
        // SEC 1 §2.3.3: not compressed.
        whole.then(|| parsed(algorithm, &[&[4], &x[..], &y[..]].concat())).flatten()
    }
}

fn parsed(algorithm: &'static dyn VerificationAlgorithm, bytes: &[u8]) -> Option<ParsedPublicKey> {
    ParsedPublicKey::new(algorithm, bytes).ok()
}

fn number(text: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}
