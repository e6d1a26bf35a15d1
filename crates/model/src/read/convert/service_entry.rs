//! `ServiceEntry` and `WorkloadEntry`.

use super::{labels_if_any, protocol};
use crate::read::object::labels;
use crate::read::tree::Node;
use crate::service::{Endpoint, TargetPort};
use crate::{Meta, Resolution, ServiceEntry, ServicePort, WorkloadEntry};

/// Reads a `ServiceEntry`.
pub fn service_entry(meta: Meta, node: &Node) -> ServiceEntry {
    let spec = node.get("spec");
    let selector = spec.get("workloadSelector");
    ServiceEntry {
        meta,
        hosts: spec.get("hosts").strings(),
        addresses: spec.get("addresses").strings(),
        ports: spec.get("ports").items().iter().filter_map(port).collect(),
        mesh_internal: spec.get("location").text() == Some("MESH_INTERNAL"),
        resolution: resolution(spec.get("resolution")),
        endpoints: spec.get("endpoints").items().iter().map(endpoint).collect(),
        workload_selector: selector.is_given().then(|| labels_if_any(selector.get("labels")).unwrap_or_default()),
        export_to: spec.get("exportTo").strings(),
        subject_alt_names: spec.get("subjectAltNames").strings(),
    }
}

fn resolution(node: &Node) -> Resolution {
    match node.text() {
        Some("STATIC") => Resolution::Static,
        Some("DNS") => Resolution::Dns,
        Some("DNS_ROUND_ROBIN") => Resolution::DnsRoundRobin,
        Some("DYNAMIC_DNS") => Resolution::DynamicDns,
        _ => Resolution::None,
    }
}

/// Reads one of Istio's ports: `{number, protocol, name, targetPort}`.
pub fn port(node: &Node) -> Option<ServicePort> {
    let number = node.get("number").port()?;
    Some(ServicePort {
        name: node.get("name").string(),
        number,
        protocol: protocol::parse(node.get("protocol").text().unwrap_or_default()),
        target: TargetPort::Number(node.get("targetPort").port().unwrap_or(number)),
        node_port: 0,
    })
}

/// Reads a `WorkloadEntry`'s spec, inline or of a resource.
pub fn endpoint(node: &Node) -> Endpoint {
    let ports = node.get("ports").entries().iter();
    Endpoint {
        address: node.get("address").string(),
        ports: ports.filter_map(|entry| Some((entry.key.to_string(), entry.node.port()?))).collect(),
        labels: labels(node.get("labels")),
        service_account: node.get("serviceAccount").string(),
        network: node.get("network").string(),
    }
}

/// Reads a `WorkloadEntry`; the labels of its spec stand over those of its metadata.
pub fn workload_entry(meta: Meta, node: &Node) -> WorkloadEntry {
    let mut endpoint = endpoint(node.get("spec"));
    let own = std::mem::replace(&mut endpoint.labels, meta.labels.clone());
    endpoint.labels.extend(own);
    WorkloadEntry { meta, endpoint }
}
