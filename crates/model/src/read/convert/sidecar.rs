//! `Sidecar`.

use super::service_entry::port;
use super::{istio, labels_if_any};
use crate::read::tree::Node;
use crate::service::TargetPort;
use crate::sidecar::Egress;
use crate::{Meta, ServicePort, Sidecar};

/// Reads a `Sidecar`.
pub fn sidecar(meta: Meta, node: &Node) -> Sidecar {
    let spec = node.get("spec");
    let selector = spec.get("workloadSelector");
    let egress = spec.get("egress").items();
    Sidecar {
        meta,
        workload_selector: selector.is_given().then(|| labels_if_any(selector.get("labels")).unwrap_or_default()),
        egress: (!egress.is_empty()).then(|| egress.iter().map(listener).collect()),
        ingress: spec.get("ingress").items().iter().filter_map(ingress).collect(),
        outbound_policy: istio::outbound_policy(spec.get("outboundTrafficPolicy")),
    }
}

fn listener(node: &Node) -> Egress {
    let proxy = node.at_path(&["port", "protocol"]).text().is_some_and(|protocol| protocol.eq_ignore_ascii_case("HTTP_PROXY"));
    let port = node.at_path(&["port", "number"]).port().filter(|_| !proxy).unwrap_or(0);
    Egress { port, hosts: node.get("hosts").strings() }
}

/// The target is the port of `defaultEndpoint`, where the application listens.
fn ingress(node: &Node) -> Option<ServicePort> {
    let mut port = port(node.get("port"))?;
    let endpoint = node.get("defaultEndpoint").text().unwrap_or_default();
    if let Some(target) = endpoint.rsplit(':').next().and_then(|target| target.parse().ok()).filter(|target| *target != 0) {
        port.target = TargetPort::Number(target);
    }
    Some(port)
}
