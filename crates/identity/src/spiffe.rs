//! SPIFFE ids in Istio's form: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

use std::fmt;
use std::str::FromStr;

/// The longest id that is read (SPIFFE-ID §2: at most 2048 bytes).
const MAX_LENGTH: usize = 2048;

/// A trust domain: the part of an identity that says under whose roots it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// A trust domain; an `@` becomes a `.`, as Istio's `pkg/spiffe` does.
    ///
    /// # Errors
    /// An empty name, or characters other than letters, digits, `.`, `-` and `_`.
    pub fn new(name: &str) -> Result<Self, SpiffeIdError> {
        let name = name.replace('@', ".");
        if name.is_empty() || name.len() > 255 || !name.bytes().all(is_name_byte) {
            return Err(SpiffeIdError::TrustDomain(printable(&name)));
        }
        Ok(Self(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a workload: its trust domain, namespace and service account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    namespace: String,
    service_account: String,
}

impl SpiffeId {
    /// The identity of a service account.
    ///
    /// # Errors
    /// A namespace or service account that is empty or holds characters that cannot stand in a path segment.
    pub fn new(trust_domain: TrustDomain, namespace: &str, service_account: &str) -> Result<Self, SpiffeIdError> {
        for segment in [namespace, service_account] {
            if !is_segment(segment) {
                return Err(SpiffeIdError::Segment(printable(segment)));
            }
        }
        Ok(Self { trust_domain, namespace: namespace.to_owned(), service_account: service_account.to_owned() })
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The service account.
    #[must_use]
    pub fn service_account(&self) -> &str {
        &self.service_account
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    /// Reads exactly the form that [`SpiffeId`] prints: five parts, no escapes, no query, no fragment.
    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > MAX_LENGTH {
            return Err(SpiffeIdError::TooLong(text.len()));
        }
        let path = text.strip_prefix("spiffe://").ok_or_else(|| SpiffeIdError::Form(printable(text)))?;
        let parts: Vec<&str> = path.split('/').collect();
        let [trust_domain, "ns", namespace, "sa", service_account] = parts[..] else {
            return Err(SpiffeIdError::Form(printable(text)));
        };
        if trust_domain.contains('@') {
            return Err(SpiffeIdError::TrustDomain(printable(trust_domain)));
        }
        Self::new(TrustDomain::new(trust_domain)?, namespace, service_account)
    }
}

/// Why a text is no SPIFFE id of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// It has not the five parts.
    #[error("{0:?} is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
    Form(String),
    /// Its trust domain is none.
    #[error("{0:?} is no trust domain")]
    TrustDomain(String),
    /// Its namespace or service account cannot be one.
    #[error("{0:?} is no namespace or service account")]
    Segment(String),
    /// It is longer than SPIFFE allows.
    #[error("{0} bytes are more than a SPIFFE id may have")]
    TooLong(usize),
    /// The certificate has no URI name, or more than one.
    #[error("exactly one URI name is required, {0} found")]
    NotOne(usize),
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

fn is_segment(segment: &str) -> bool {
    let plain = |byte: u8| is_name_byte(byte) || matches!(byte, b':' | b'@' | b'~');
    !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain)
}

/// What a peer sent, fit for a message: cut, and without control characters.
fn printable(text: &str) -> String {
    text.chars().take(128).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        let id = SpiffeId::new(TrustDomain::new("cluster.local").unwrap(), "shop", "cart").unwrap();
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/shop/sa/cart");
        assert_eq!(id.to_string().parse::<SpiffeId>().unwrap(), id);
        assert_eq!(TrustDomain::new("me@corp").unwrap().as_str(), "me.corp");
    }

    #[test]
    fn everything_else_is_refused() {
        let bad = [
            "",
            "spiffe://",
            "spiffe://td",
            "spiffe://td/ns/a/sa",
            "spiffe://td/ns/a/sa/",
            "spiffe://td/ns//sa/b",
            "spiffe:///ns/a/sa/b",
            "spiffe://td/ns/a/sa/b/c",
            "spiffe://td/ns/a/sa/b?x",
            "spiffe://td/ns/a/sa/b#x",
            "spiffe://td/ns/a/sa/b\0",
            "SPIFFE://td/ns/a/sa/b",
            "spiffe://td/NS/a/sa/b",
            "spiffe://td/ns/a/sa/%62",
            "spiffe://td/ns/../sa/b",
            "https://td/ns/a/sa/b",
            "spiffe://t d/ns/a/sa/b",
            "spiffe://td:1/ns/a/sa/b",
            "spiffe://u@td/ns/a/sa/b",
            "spiffe://td/ns/a/sa/b\u{e9}",
            " spiffe://td/ns/a/sa/b",
        ];
        for text in bad {
            assert!(text.parse::<SpiffeId>().is_err(), "{text:?}");
        }
        let long = format!("spiffe://td/ns/a/sa/{}", "b".repeat(MAX_LENGTH));
        assert!(matches!(long.parse::<SpiffeId>(), Err(SpiffeIdError::TooLong(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_what_is_accepted_is_canonical(text in "(spiffe://)?[a-z./:@%\\PC]{0,40}(/ns/\\PC{0,6}/sa/\\PC{0,6})?") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                proptest::prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
