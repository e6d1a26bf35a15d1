//! The name of a workload, `NAMESPACE/NAME`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `NAMESPACE/NAME` of a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct WorkloadName {
    namespace: String,
    name: String,
}

/// A text that names no workload.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no workload: a workload is written NAMESPACE/NAME, like shop/frontend")]
pub struct NotAWorkload(String);

impl WorkloadName {
    /// The workload `name` in `namespace`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name within the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for WorkloadName {
    type Err = NotAWorkload;

    fn from_str(text: &str) -> Result<Self, NotAWorkload> {
        let allowed = |part: &str| {
            let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            !part.is_empty() && part.len() <= 253 && part.chars().all(letter)
        };
        match text.split_once('/') {
            Some((namespace, name)) if allowed(namespace) && allowed(name) => Ok(Self::new(namespace, name)),
            _ => Err(NotAWorkload(text.chars().take(128).collect())),
        }
    }
}

impl From<WorkloadName> for String {
    fn from(name: WorkloadName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for WorkloadName {
    type Error = NotAWorkload;

    fn try_from(text: String) -> Result<Self, NotAWorkload> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_two_plain_parts() {
        let name: WorkloadName = "shop/front.v1".parse().expect("valid");
        assert_eq!((name.namespace(), name.name(), name.to_string().as_str()), ("shop", "front.v1", "shop/front.v1"));
        for wrong in ["", "shop", "shop/", "/front", "a/b/c", "shop/fro nt", "shop/\n"] {
            assert!(wrong.parse::<WorkloadName>().is_err(), "{wrong:?}");
        }
    }
}
