//! `DestinationRule` (networking.istio.io), as far as TLS is concerned: what a sidecar sends.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Labels, Meta};

/// `ClientTLSSettings.mode`. There is no UNSET: `tls: {}` is DISABLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub enum ClientTlsMode {
    /// Plaintext.
    #[default]
    #[serde(rename = "DISABLE")]
    Disable,
    /// TLS without a client certificate.
    #[serde(rename = "SIMPLE")]
    Simple,
    /// TLS with the client certificate that the rule names.
    #[serde(rename = "MUTUAL")]
    Mutual,
    /// TLS with the mesh certificate.
    #[serde(rename = "ISTIO_MUTUAL")]
    IstioMutual,
}

impl ClientTlsMode {
    /// The name as in `tls.mode`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "DISABLE",
            Self::Simple => "SIMPLE",
            Self::Mutual => "MUTUAL",
            Self::IstioMutual => "ISTIO_MUTUAL",
        }
    }

    /// Whether it is TLS that is not the mesh's: SIMPLE and MUTUAL.
    #[must_use]
    pub fn originates(self) -> bool {
        matches!(self, Self::Simple | Self::Mutual)
    }
}

impl fmt::Display for ClientTlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `ClientTLSSettings`. Empty strings and lists are absent fields.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ClientTls {
    /// `mode`.
    pub mode: ClientTlsMode,
    /// `clientCertificate`: a file.
    pub client_certificate: String,
    /// `privateKey`: a file.
    pub private_key: String,
    /// `caCertificates`: a file; empty means the roots of the operating system.
    pub ca_certificates: String,
    /// `caCrl`: a file.
    pub ca_crl: String,
    /// `credentialName`.
    pub credential_name: String,
    /// `subjectAltNames`.
    pub subject_alt_names: Vec<String>,
    /// `sni`.
    pub sni: String,
    /// `insecureSkipVerify`.
    pub insecure_skip_verify: bool,
}

/// The parts of a `TrafficPolicy` that decide on TLS. "Present but without tls" matters, so this is
/// an object of its own even when `tls` is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TrafficPolicy {
    /// `tls`.
    pub tls: Option<ClientTls>,
    /// `loadBalancer.simple` is `PASSTHROUGH`.
    pub passthrough: bool,
    /// `portLevelSettings`, by Service port, in the order written (the first entry of a port counts).
    pub ports: Vec<(u16, PortPolicy)>,
}

/// One entry of `portLevelSettings`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PortPolicy {
    /// `tls`.
    pub tls: Option<ClientTls>,
    /// `loadBalancer.simple` is `PASSTHROUGH`.
    pub passthrough: bool,
}

/// One of `spec.subsets`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// The labels that choose its endpoints.
    pub labels: Labels,
    /// Its own policy.
    pub policy: Option<TrafficPolicy>,
}

/// A `DestinationRule`.
#[derive(Clone, Debug)]
pub struct DestinationRule {
    /// Metadata.
    pub meta: Meta,
    /// `spec.host`, as written.
    pub host: String,
    /// `spec.exportTo`; empty is the mesh default.
    pub export_to: Vec<String>,
    /// `spec.workloadSelector.matchLabels`; `None` without a `workloadSelector`.
    pub workload_selector: Option<Labels>,
    /// `spec.trafficPolicy`.
    pub policy: Option<TrafficPolicy>,
    /// `spec.subsets`.
    pub subsets: Vec<Subset>,
}

impl TrafficPolicy {
    /// Every `tls` in it with its field path, where the policy itself stands at `path`.
    pub fn tls_at<'p>(&'p self, path: &str) -> impl Iterator<Item = (String, &'p ClientTls)> + use<'p> {
        let (own, path) = (format!("{path}/tls"), path.to_owned());
        let ports = self.ports.iter().enumerate();
        let ports = ports.map(move |(at, (_, port))| (format!("{path}/portLevelSettings[{at}]/tls"), &port.tls));
        std::iter::once((own, &self.tls)).chain(ports).filter_map(|(path, tls)| Some((path, tls.as_ref()?)))
    }
}

impl DestinationRule {
    /// Its traffic policies with their field paths: its own and those of its subsets.
    pub fn policies(&self) -> impl Iterator<Item = (String, &TrafficPolicy)> {
        let subsets = self.subsets.iter().enumerate();
        let subsets = subsets.map(|(at, subset)| (format!("spec/subsets[{at}]/trafficPolicy"), &subset.policy));
        let all = std::iter::once(("spec/trafficPolicy".to_owned(), &self.policy)).chain(subsets);
        all.filter_map(|(path, policy)| Some((path, policy.as_ref()?)))
    }

    /// Every `tls` in it with its field path.
    pub fn tls(&self) -> impl Iterator<Item = (String, &ClientTls)> {
        self.policies().flat_map(|(path, policy)| policy.tls_at(&path))
    }
}
