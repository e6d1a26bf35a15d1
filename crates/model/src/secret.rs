//! Secrets and ConfigMaps, as far as a `credentialName` can take something from them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::Meta;

/// A Secret, or a ConfigMap. Only the values of [`Secret::KEYS`] are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Metadata of the object.
    pub meta: Meta,
    values: BTreeMap<&'static str, SecretValue>,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretValue {
    /// A text.
    Text(SecretText),
    /// It cannot be used; says why, and nothing of itself.
    Unusable(&'static str),
}

impl Secret {
    /// The keys that Istio reads (`pilot/pkg/credentials/kube`): those of generic secrets, then those of TLS secrets.
    pub const KEYS: [&'static str; 8] = ["cert", "key", "cacert", "crl", "tls.crt", "tls.key", "ca.crt", "ca.crl"];
    /// The longest value that is taken, bytes: what Kubernetes allows a whole Secret.
    pub const MAX_VALUE: usize = 1 << 20;

    /// One with the values that `of` gives for the keys.
    pub(crate) fn new(meta: Meta, of: impl Fn(&str) -> Option<SecretValue>) -> Self {
        let values = Self::KEYS.into_iter().filter_map(|key| Some((key, of(key)?)));
        let values = values.filter(|(_, value)| !matches!(value, SecretValue::Text(text) if text.get().is_empty()));
        Self { meta, values: values.collect() }
    }

    /// The value of one of the keys, when it is there and not empty.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&SecretValue> {
        self.values.get(key)
    }
}

/// A text that is printed nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Arc<str>);

impl SecretText {
    /// Takes a text over.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}
