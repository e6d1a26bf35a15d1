//! Service account tokens: signed JSON Web Tokens (RFC 7519, RFC 7515), verified against a set of keys.
//!
//! Nothing of a token is believed before its signature holds, and no error repeats any part of it but names and numbers of
//! claims that were verified, or names of its header, shortened.

mod keys;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use keys::{JwtAlgorithm, KeySet, KeySetError, MAX_KEY_SET};

/// The longest token that is looked at, bytes: those of Kubernetes have one to two thousand.
pub const MAX_JWT: usize = 8 * 1024;
/// How far clocks may differ from the issuer's.
pub const JWT_LEEWAY: Duration = Duration::from_secs(30);
/// How much of a name is repeated in an error, characters.
const SHOWN: usize = 64;

/// What a token has to say to count here.
#[derive(Clone, Debug)]
pub struct JwtExpectation {
    /// Its `iss`, to the letter.
    pub issuer: String,
    /// Of its audiences one has to be among these.
    pub audiences: Vec<String>,
}

/// A service account that somebody has proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Account {
    /// Of a user name of Kubernetes: `system:serviceaccount:NAMESPACE:NAME`, exactly four parts. `None` for other users.
    #[must_use]
    pub fn from_user_name(user: &str) -> Option<Self> {
        let mut parts = user.strip_prefix("system:serviceaccount:")?.split(':');
        let (namespace, name) = (parts.next()?, parts.next()?);
        let whole = parts.next().is_none() && !namespace.is_empty() && !name.is_empty();
        whole.then(|| Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

/// Why a token does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Longer than [`MAX_JWT`].
    #[error("the token has {0} bytes, at most {MAX_JWT} are read")]
    TooLong(usize),
    /// Not three parts of base64url, of which the first two hold JSON of the right shape.
    #[error("the token is no signed JWT: {0}")]
    Malformed(&'static str),
    /// Its header names an algorithm that does not count: none, one with a shared secret, or one that is not known.
    #[error("the token's algorithm {0:?} is not accepted; RS256, PS256, ES256, ES384 and EdDSA are")]
    Algorithm(String),
    /// Its header asks for an extension (`crit`, RFC 7515 §4.1.11); none is understood.
    #[error("the token's header asks for extensions that are not understood")]
    Critical,
    /// No key of the set has this id, or the key of this id is for another algorithm.
    #[error("the key set holds no key {0:?} for the token's algorithm")]
    UnknownKey(String),
    /// The header names no key, and not exactly one of the set fits.
    #[error("the token names no key, and the key set holds {0} for its algorithm")]
    Unnamed(usize),
    /// The key has not signed it.
    #[error("the token's signature does not hold")]
    Signature,
    /// Another issuer.
    #[error("the token is of issuer {seen:?}, not of {expected:?}")]
    Issuer {
        /// Its `iss`.
        seen: String,
        /// The one that counts.
        expected: String,
    },
    /// For others.
    #[error("the token is for {seen}, not for {expected}")]
    Audience {
        /// Its audiences.
        seen: String,
        /// Those that count.
        expected: String,
    },
    /// Its time is over.
    #[error("the token expired {0} s ago")]
    Expired(u64),
    /// Its time has not begun.
    #[error("the token counts only in {0} s: the clocks of its issuer and of this machine differ")]
    NotYet(u64),
    /// `sub` is no service account.
    #[error("the token's subject {0:?} is not of the form system:serviceaccount:NAMESPACE:NAME")]
    Subject(String),
    /// `sub` and `kubernetes.io` name different accounts.
    #[error("the token's subject and its kubernetes.io claim name different service accounts")]
    Ambiguous,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audiences,
    exp: f64,
    nbf: Option<f64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

/// RFC 7519 §4.1.3: one, or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    List(Vec<String>),
}

/// What Kubernetes says of the account, the pod and the node that a token is bound to; only the account counts here.
#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// The service account that `token` proves at `now`.
///
/// # Errors
/// Why it proves nothing.
pub fn verify_jwt(token: &str, keys: &KeySet, expected: &JwtExpectation, now: SystemTime) -> Result<Account, JwtError> {
    if token.len() > MAX_JWT {
        return Err(JwtError::TooLong(token.len()));
    }
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(JwtError::Malformed("it has not three parts"));
    };
    let signed = &token[..header.len() + 1 + payload.len()];
    let header: Header = json(header, "its header cannot be read")?;
    let algorithm = JwtAlgorithm::from_name(&header.alg).ok_or_else(|| JwtError::Algorithm(shown(&header.alg)))?;
    if header.crit.is_some() {
        return Err(JwtError::Critical);
    }
    let key = keys.find(header.kid.as_deref(), algorithm)?;
    let signature = bytes(signature, "its signature cannot be read")?;
    key.verify_sig(signed.as_bytes(), &signature).map_err(|_| JwtError::Signature)?;
    let claims: Claims = json(payload, "its claims cannot be read, or iss, sub, aud or exp is missing")?;
    claims.check(expected, now)?;
    claims.account()
}

impl Claims {
    fn check(&self, expected: &JwtExpectation, now: SystemTime) -> Result<(), JwtError> {
        if self.iss != expected.issuer {
            return Err(JwtError::Issuer { seen: shown(&self.iss), expected: expected.issuer.clone() });
        }
        let audiences = match &self.aud {
            Audiences::One(one) => std::slice::from_ref(one),
            Audiences::List(all) => all,
        };
        if !audiences.iter().any(|audience| expected.audiences.contains(audience)) {
            let seen: Vec<String> = audiences.iter().take(4).map(|audience| format!("{:?}", shown(audience))).collect();
            let seen = if seen.is_empty() { "nobody".to_owned() } else { seen.join(", ") };
            return Err(JwtError::Audience { seen, expected: expected.audiences.join(", ") });
        }
        let (now, leeway) = (now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(), JWT_LEEWAY.as_secs_f64());
        if now >= self.exp + leeway {
            return Err(JwtError::Expired(seconds(now - self.exp)));
        }
        match self.nbf {
            Some(begin) if begin > now + leeway => Err(JwtError::NotYet(seconds(begin - now))),
            _ => Ok(()),
        }
    }

    fn account(self) -> Result<Account, JwtError> {
        let account = Account::from_user_name(&self.sub).ok_or_else(|| JwtError::Subject(shown(&self.sub)))?;
        match self.kubernetes {
            Some(bound) if bound.namespace != account.namespace || bound.serviceaccount.name != account.name => {
                Err(JwtError::Ambiguous)
            }
            _ => Ok(account),
        }
    }
}

fn bytes(part: &str, fault: &'static str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed(fault))
}

fn json<T: DeserializeOwned>(part: &str, fault: &'static str) -> Result<T, JwtError> {
    serde_json::from_slice(&bytes(part, fault)?).map_err(|_| JwtError::Malformed(fault))
}

/// Whole seconds of a positive span.
fn seconds(span: f64) -> u64 {
    Duration::try_from_secs_f64(span).map_or(u64::MAX, |span| span.as_secs())
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
