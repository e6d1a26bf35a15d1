//! Istio's `COMPLIANCE_POLICY`: what a policy leaves of versions, suites and groups, on both sides and over every other
//! setting. It restricts algorithms; it does not make the cryptographic module a validated one.

use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs::kx_group};
use rustls::{CipherSuite, SupportedProtocolVersion};

use super::MinVersion;

/// A value of `COMPLIANCE_POLICY`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compliance {
    /// No restriction.
    #[default]
    None,
    /// `fips-140-2`: TLS 1.2 only, ECDHE with AES-GCM, P-256.
    Fips140_2,
    /// `fips-140-3`: TLS 1.2 and 1.3, AES-GCM, P-256 and P-384.
    Fips140_3,
    /// `pqc`: TLS 1.3 only, AES-GCM, X25519MLKEM768: requires the post-quantum group of every peer.
    Pqc,
}

impl Compliance {
    /// The policies by the names that Istio knows.
    pub const NAMED: [(&'static str, Self); 3] =
        [("fips-140-2", Self::Fips140_2), ("fips-140-3", Self::Fips140_3), ("pqc", Self::Pqc)];

    /// The policy of a name; the empty one is no restriction. `None` for another.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name.is_empty() {
            return Some(Self::None);
        }
        Self::NAMED.iter().find(|(known, _)| *known == name).map(|(_, policy)| *policy)
    }

    /// The protocol versions that are left above a floor, which the policy may raise or lower.
    pub(crate) fn versions(self, floor: MinVersion) -> &'static [&'static SupportedProtocolVersion] {
        static ONLY_1_2: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
        match self {
            Self::None | Self::Fips140_3 => floor.versions(),
            Self::Fips140_2 => &ONLY_1_2,
            Self::Pqc => MinVersion::Tls13.versions(),
        }
    }

    /// Takes away what the policy does not allow. Groups are those of the policy, whatever was chosen before.
    pub(crate) fn restrict(self, provider: &mut CryptoProvider) {
        let groups: &[&'static dyn SupportedKxGroup] = match self {
            Self::None => return,
            Self::Fips140_2 => &[kx_group::SECP256R1],
            Self::Fips140_3 => &[kx_group::SECP256R1, kx_group::SECP384R1],
            Self::Pqc => &[kx_group::X25519MLKEM768],
        };
        provider.kx_groups = groups.to_vec();
        provider.cipher_suites.retain(|suite| ALLOWED.contains(&suite.suite()));
    }
}

/// What every policy leaves of the suites: AES-GCM with ephemeral keys.
const ALLOWED: [CipherSuite; 6] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
];
