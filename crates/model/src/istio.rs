//! The `Istio` resource (sailoperator.io) and the mesh configuration inside it.

use crate::{Certificate, LabelSelector, Meta, TrafficPolicy};

/// An `Istio` resource.
#[derive(Clone, Debug)]
pub struct Istio {
    /// Metadata.
    pub meta: Meta,
    /// `spec.namespace`, default `istio-system`.
    pub namespace: String,
    /// `spec.version`, as written.
    pub version: Option<String>,
    /// `spec.values.meshConfig` with Istio's defaults filled in.
    pub mesh_config: MeshConfig,
}

/// A protocol version of `meshMTLS.minProtocolVersion`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TlsVersion {
    /// `TLS_AUTO` or `TLSV1_2`: TLS 1.2, Istio's floor.
    #[default]
    V1_2,
    /// `TLSV1_3`.
    V1_3,
}

/// `outboundTrafficPolicy.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OutboundPolicy {
    /// Unknown destinations are reached, in plaintext.
    #[default]
    AllowAny,
    /// Unknown destinations are refused.
    RegistryOnly,
}

/// One entry of `caCertificates`: roots of others that are trusted too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshAuthority {
    /// `pem`.
    pub pem: String,
    /// `trustDomains` without `*`: whom the roots vouch for; empty: everybody.
    pub trust_domains: Vec<String>,
    /// The field path of `pem`.
    pub path: String,
}

/// What Mutua uses of Istio's `MeshConfig`, with Istio's defaults. `from` names the object that holds it
/// (an `Istio` resource or the ConfigMap `istio`), `None` when there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshConfig {
    /// Metadata of the object this was written in; its places are relative to that object.
    pub from: Option<Meta>,
    /// The field path of the mesh config within that object (`spec/values/meshConfig`).
    pub path: String,
    /// `rootNamespace`; defaults to the `Istio` resource's `spec.namespace`, else `istio-system`.
    pub root_namespace: String,
    /// `enableAutoMtls`.
    pub enable_auto_mtls: bool,
    /// `trustDomain`.
    pub trust_domain: String,
    /// `trustDomainAliases`.
    pub trust_domain_aliases: Vec<String>,
    /// `caCertificates[].trustDomains`, in one list, without `*`.
    pub ca_trust_domains: Vec<String>,
    /// `caCertificates[].pem`: how long the roots of others are valid.
    pub ca_certificates: Vec<Certificate>,
    /// `caCertificates[]`, as far as it stands in the configuration itself.
    pub authorities: Vec<MeshAuthority>,
    /// This cluster's name (`global.multiCluster.clusterName`), default `Kubernetes`.
    pub cluster_name: String,
    /// The cluster's DNS suffix (`global.proxy.clusterDomain`), default `cluster.local`.
    pub cluster_domain: String,
    /// `meshMTLS.minProtocolVersion`.
    pub min_tls: TlsVersion,
    /// `COMPLIANCE_POLICY` of istiod (`values.pilot.env`), empty when absent.
    pub compliance_policy: String,
    /// `meshMTLS.cipherSuites`.
    pub cipher_suites: Vec<String>,
    /// `tlsDefaults.cipherSuites`.
    pub tls_defaults_cipher_suites: Vec<String>,
    /// `tlsDefaults.ecdhCurves`.
    pub tls_defaults_ecdh_curves: Vec<String>,
    /// `outboundTrafficPolicy.mode`.
    pub outbound_policy: OutboundPolicy,
    /// `defaultDestinationRuleExportTo`, default `["*"]`.
    pub default_destination_rule_export_to: Vec<String>,
    /// `defaultServiceExportTo`, default `["*"]`.
    pub default_service_export_to: Vec<String>,
    /// `defaultTrafficPolicy`: never supplies TLS, kept for `analyze`.
    pub default_traffic_policy: Option<TrafficPolicy>,
    /// `discoverySelectors`: with any, only namespaces that one of them selects belong to the mesh.
    pub discovery_selectors: Vec<LabelSelector>,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            from: None,
            path: String::new(),
            root_namespace: "istio-system".to_owned(),
            enable_auto_mtls: true,
            trust_domain: "cluster.local".to_owned(),
            trust_domain_aliases: Vec::new(),
            ca_trust_domains: Vec::new(),
            ca_certificates: Vec::new(),
            authorities: Vec::new(),
            cluster_name: "Kubernetes".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            min_tls: TlsVersion::V1_2,
            compliance_policy: String::new(),
            cipher_suites: Vec::new(),
            tls_defaults_cipher_suites: Vec::new(),
            tls_defaults_ecdh_curves: Vec::new(),
            outbound_policy: OutboundPolicy::AllowAny,
            default_destination_rule_export_to: vec!["*".to_owned()],
            default_service_export_to: vec!["*".to_owned()],
            default_traffic_policy: None,
            discovery_selectors: Vec::new(),
        }
    }
}

impl MeshConfig {
    /// The least version of TLS that servers of mutual TLS accept: `meshMTLS` and over it the compliance policy.
    #[must_use]
    pub fn least_tls(&self) -> TlsVersion {
        if self.compliance_policy == "pqc" { TlsVersion::V1_3 } else { self.min_tls }
    }
}
