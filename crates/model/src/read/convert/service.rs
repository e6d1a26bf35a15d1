//! `Service` and `EndpointSlice`.

use std::net::IpAddr;

use super::{labels_if_any, protocol};
use crate::read::tree::Node;
use crate::service::{SliceEndpoint, TargetPort};
use crate::{EndpointSlice, Meta, Service, ServicePort};

/// Reads a `Service`.
pub fn service(meta: Meta, node: &Node) -> Service {
    let spec = node.get("spec");
    let cluster_ip = spec.get("clusterIP").text().unwrap_or_default();
    let mut cluster_ips = addresses(spec.get("clusterIPs").items());
    if cluster_ips.is_empty() {
        cluster_ips.extend(cluster_ip.parse::<IpAddr>());
    }
    let mut external_ips = addresses(spec.get("externalIPs").items());
    let balancers = node.at_path(&["status", "loadBalancer", "ingress"]).items();
    external_ips.extend(balancers.iter().filter_map(|ingress| ingress.get("ip").text()?.parse::<IpAddr>().ok()));
    let service_type = spec.get("type").text().unwrap_or("ClusterIP").to_owned();
    Service {
        meta,
        ports: spec.get("ports").items().iter().filter_map(port).collect(),
        selector: labels_if_any(spec.get("selector")),
        headless: cluster_ip == "None" || spec.get("clusterIPs").items().iter().any(|ip| ip.text() == Some("None")),
        cluster_ips,
        external_ips,
        external_name: spec.get("externalName").text().filter(|_| service_type == "ExternalName").map(str::to_owned),
        service_type,
    }
}

fn port(node: &Node) -> Option<ServicePort> {
    let number = node.get("port").port()?;
    let name = node.get("name").string();
    let protocol = protocol::of_service_port(number, &name, node.get("protocol").text(), node.get("appProtocol").text());
    let target = match (node.get("targetPort").port(), node.get("targetPort").text()) {
        (Some(target), _) => TargetPort::Number(target),
        (None, Some(target)) if !matches!(target, "" | "0") => TargetPort::Named(target.to_owned()),
        _ => TargetPort::Number(number),
    };
    Some(ServicePort { name, number, protocol, target, node_port: node.get("nodePort").port().unwrap_or(0) })
}

fn addresses(items: &[Node]) -> Vec<IpAddr> {
    items.iter().filter_map(|item| item.text()?.parse().ok()).collect()
}

/// Reads an `EndpointSlice`.
pub fn endpoint_slice(meta: Meta, node: &Node) -> EndpointSlice {
    let ports = node.get("ports").items().iter();
    let endpoints = node.get("endpoints").items().iter();
    EndpointSlice {
        ports: ports.filter_map(|port| Some((port.get("name").string(), port.get("port").port()?))).collect(),
        endpoints: endpoints.map(|endpoint| slice_endpoint(endpoint, meta.namespace())).collect(),
        meta,
    }
}

fn slice_endpoint(node: &Node, namespace: &str) -> SliceEndpoint {
    let target = node.get("targetRef");
    let is_pod = target.get("kind").text() == Some("Pod");
    let name = target.get("name").text().filter(|_| is_pod);
    let namespace = target.get("namespace").text().unwrap_or(namespace);
    SliceEndpoint {
        addresses: node.get("addresses").strings(),
        pod: name.map(|name| (namespace.to_owned(), name.to_owned())),
        ready: node.at_path(&["conditions", "ready"]).boolean().unwrap_or(true),
    }
}
