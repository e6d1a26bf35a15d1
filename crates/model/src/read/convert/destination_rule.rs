//! `DestinationRule`.

use super::labels_if_any;
use crate::destination_rule::PortPolicy;
use crate::read::object::labels;
use crate::read::tree::Node;
use crate::{ClientTls, ClientTlsMode, DestinationRule, Meta, Subset, TrafficPolicy};

/// Reads a `DestinationRule`.
pub fn destination_rule(meta: Meta, node: &Node) -> DestinationRule {
    let spec = node.get("spec");
    let selector = spec.get("workloadSelector");
    DestinationRule {
        meta,
        host: spec.get("host").string(),
        export_to: spec.get("exportTo").strings(),
        workload_selector: selector.is_given().then(|| labels_if_any(selector.get("matchLabels")).unwrap_or_default()),
        policy: traffic_policy(spec.get("trafficPolicy")),
        subsets: spec.get("subsets").items().iter().map(subset).collect(),
    }
}

fn subset(node: &Node) -> Subset {
    Subset {
        name: node.get("name").string(),
        labels: labels(node.get("labels")),
        policy: traffic_policy(node.get("trafficPolicy")),
    }
}

/// Reads a `TrafficPolicy`; `None` when there is none.
pub fn traffic_policy(node: &Node) -> Option<TrafficPolicy> {
    let port = |entry: &Node| {
        let policy = PortPolicy { tls: tls(entry.get("tls")), passthrough: passthrough(entry) };
        Some((entry.at_path(&["port", "number"]).port()?, policy))
    };
    node.is_given().then(|| TrafficPolicy {
        tls: tls(node.get("tls")),
        passthrough: passthrough(node),
        ports: node.get("portLevelSettings").items().iter().filter_map(port).collect(),
    })
}

fn passthrough(policy: &Node) -> bool {
    policy.at_path(&["loadBalancer", "simple"]).text() == Some("PASSTHROUGH")
}

fn tls(node: &Node) -> Option<ClientTls> {
    node.is_given().then(|| ClientTls {
        mode: mode(node.get("mode")),
        client_certificate: node.get("clientCertificate").string(),
        private_key: node.get("privateKey").string(),
        ca_certificates: node.get("caCertificates").string(),
        ca_crl: node.get("caCrl").string(),
        credential_name: node.get("credentialName").string(),
        subject_alt_names: node.get("subjectAltNames").strings(),
        sni: node.get("sni").string(),
        insecure_skip_verify: node.get("insecureSkipVerify").boolean().unwrap_or(false),
    })
}

fn mode(node: &Node) -> ClientTlsMode {
    match node.text() {
        Some("SIMPLE") => ClientTlsMode::Simple,
        Some("MUTUAL") => ClientTlsMode::Mutual,
        Some("ISTIO_MUTUAL") => ClientTlsMode::IstioMutual,
        _ => ClientTlsMode::Disable,
    }
}
