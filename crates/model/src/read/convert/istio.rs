//! The `Istio` resource and the mesh configuration.

use super::destination_rule::traffic_policy;
use crate::discovery::{Expression, Operator};
use crate::read::certificates;
use crate::read::object::labels;
use crate::read::tree::Node;
use crate::{Istio, LabelSelector, MeshAuthority, MeshConfig, Meta, OutboundPolicy, TlsVersion};

/// Where the mesh configuration stands in an `Istio` resource.
pub const MESH_CONFIG_PATH: &str = "spec/values/meshConfig";

/// Reads an `Istio` resource.
pub fn istio(meta: Meta, node: &Node) -> Istio {
    let spec = node.get("spec");
    let namespace = spec.get("namespace").text().filter(|namespace| !namespace.is_empty()).unwrap_or("istio-system");
    let values = spec.get("values");
    let mut mesh_config = mesh_config(&meta, MESH_CONFIG_PATH, values.get("meshConfig"), namespace);
    if let Some(domain) = given(values.at_path(&["global", "proxy", "clusterDomain"])) {
        mesh_config.cluster_domain = domain;
    }
    if let Some(policy) = given(values.at_path(&["pilot", "env", "COMPLIANCE_POLICY"])) {
        mesh_config.compliance_policy = policy;
    }
    if let Some(name) = given(values.at_path(&["global", "multiCluster", "clusterName"])) {
        mesh_config.cluster_name = name;
    }
    Istio { namespace: namespace.to_owned(), version: spec.get("version").text().map(str::to_owned), mesh_config, meta }
}

/// Reads a `MeshConfig` that stands in `meta`'s object at `path`; `namespace` is the control plane's.
pub fn mesh_config(meta: &Meta, path: &str, node: &Node, namespace: &str) -> MeshConfig {
    let defaults = MeshConfig::default();
    let visibility =
        |key: &str, default: Vec<String>| Some(node.get(key).strings()).filter(|list| !list.is_empty()).unwrap_or(default);
    let authorities = node.get("caCertificates").items().iter();
    let roots = authorities.clone().enumerate().flat_map(|(at, authority)| {
        let pem = authority.get("pem").text().unwrap_or_default();
        certificates::of_pem(pem, &format!("{path}/caCertificates[{at}]/pem"))
    });
    // Istio looks for identities that begin with `spiffe://*/`: there are none.
    let of_domains = |authority: &Node| authority.get("trustDomains").strings().into_iter().filter(|domain| domain != "*");
    let entry = |(at, authority): (usize, &Node)| MeshAuthority {
        pem: authority.get("pem").string(),
        trust_domains: of_domains(authority).collect(),
        path: format!("{path}/caCertificates[{at}]/pem"),
    };
    // Roots for one signer of a Kubernetes cluster are of no use here.
    let general = authorities.clone().enumerate().filter(|(_, authority)| authority.get("certSigners").items().is_empty());
    let with_roots = general.map(entry).filter(|authority| !authority.pem.is_empty()).collect();
    MeshConfig {
        from: Some(meta.clone()),
        path: path.to_owned(),
        root_namespace: given(node.get("rootNamespace")).unwrap_or_else(|| namespace.to_owned()),
        enable_auto_mtls: node.get("enableAutoMtls").boolean().unwrap_or(true),
        trust_domain: given(node.get("trustDomain")).unwrap_or(defaults.trust_domain),
        trust_domain_aliases: node.get("trustDomainAliases").strings(),
        ca_trust_domains: authorities.flat_map(of_domains).collect(),
        ca_certificates: roots.collect(),
        authorities: with_roots,
        cluster_name: defaults.cluster_name,
        cluster_domain: defaults.cluster_domain,
        min_tls: match node.at_path(&["meshMTLS", "minProtocolVersion"]).text() {
            Some("TLSV1_3") => TlsVersion::V1_3,
            _ => TlsVersion::V1_2,
        },
        compliance_policy: defaults.compliance_policy,
        cipher_suites: node.at_path(&["meshMTLS", "cipherSuites"]).strings(),
        tls_defaults_cipher_suites: node.at_path(&["tlsDefaults", "cipherSuites"]).strings(),
        tls_defaults_ecdh_curves: node.at_path(&["tlsDefaults", "ecdhCurves"]).strings(),
        outbound_policy: outbound_policy(node.get("outboundTrafficPolicy")).unwrap_or_default(),
        default_destination_rule_export_to: visibility(
            "defaultDestinationRuleExportTo",
            defaults.default_destination_rule_export_to,
        ),
        default_service_export_to: visibility("defaultServiceExportTo", defaults.default_service_export_to),
        default_traffic_policy: traffic_policy(node.get("defaultTrafficPolicy")),
        discovery_selectors: node.get("discoverySelectors").items().iter().map(label_selector).collect(),
    }
}

fn label_selector(node: &Node) -> LabelSelector {
    let expression = |node: &Node| {
        let operator = Operator::parse(node.get("operator").text()?)?;
        Some(Expression { key: node.get("key").string(), operator, values: node.get("values").strings() })
    };
    LabelSelector {
        labels: labels(node.get("matchLabels")),
        expressions: node.get("matchExpressions").items().iter().filter_map(expression).collect(),
    }
}

/// `outboundTrafficPolicy`, in the mesh configuration or a `Sidecar`; `None` when it is not written. An empty one is
/// REGISTRY_ONLY, the enumeration's first value.
pub fn outbound_policy(node: &Node) -> Option<OutboundPolicy> {
    node.is_given().then(|| match node.get("mode").text() {
        Some("ALLOW_ANY" | "ALLOW_ANY_DYNAMIC_DNS") => OutboundPolicy::AllowAny,
        _ => OutboundPolicy::RegistryOnly,
    })
}

fn given(node: &Node) -> Option<String> {
    node.text().filter(|text| !text.is_empty()).map(str::to_owned)
}
