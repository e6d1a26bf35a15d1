//! `PeerAuthentication` (security.istio.io): what a sidecar accepts.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Labels, Meta};

/// A mutual TLS mode for the receiving side, after inheritance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MtlsMode {
    /// Plaintext only; TLS is not terminated.
    Disable,
    /// Both plaintext and mutual TLS. Istio's default.
    Permissive,
    /// Mutual TLS only.
    Strict,
}

impl MtlsMode {
    /// The name as in `mtls.mode`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
        }
    }
}

impl fmt::Display for MtlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A `PeerAuthentication`. `None` modes are UNSET: they inherit.
#[derive(Clone, Debug)]
pub struct PeerAuthentication {
    /// Metadata.
    pub meta: Meta,
    /// `spec.selector.matchLabels`; empty or absent is no selector.
    pub selector: Labels,
    /// Whether `spec.selector` was written at all (IST0133 warns of `selector: {}`).
    pub selector_present: bool,
    /// `spec.mtls.mode`.
    pub mode: Option<MtlsMode>,
    /// `spec.portLevelMtls`, by workload port.
    pub ports: BTreeMap<u16, Option<MtlsMode>>,
}
