//! Pods and the controllers that make them.

use crate::read::object::labels;
use crate::read::tree::Node;
use crate::workload::{ContainerPort, PodSpec};
use crate::{Controller, Kind, Meta, Pod};

/// Reads a `Pod`.
pub fn pod(meta: Meta, node: &Node) -> Pod {
    let status = node.get("status");
    let mut ips: Vec<_> = status.get("podIPs").items().iter().filter_map(|ip| ip.get("ip").text()?.parse().ok()).collect();
    if ips.is_empty() {
        ips.extend(status.get("podIP").text().and_then(|ip| ip.parse::<std::net::IpAddr>().ok()));
    }
    let ended = matches!(status.get("phase").text(), Some("Succeeded" | "Failed"));
    Pod { meta, spec: pod_spec(node.get("spec")), ips, ended }
}

/// Reads a controller by its pod template.
pub fn controller(meta: Meta, node: &Node) -> Controller {
    let template: &[&str] = match meta.object.kind {
        Kind::CronJob => &["spec", "jobTemplate", "spec", "template"],
        _ => &["spec", "template"],
    };
    let template = node.at_path(template);
    Controller {
        meta,
        labels: labels(template.at_path(&["metadata", "labels"])),
        annotations: labels(template.at_path(&["metadata", "annotations"])),
        spec: pod_spec(template.get("spec")),
    }
}

fn pod_spec(node: &Node) -> PodSpec {
    let account = ["serviceAccountName", "serviceAccount"].iter().find_map(|key| node.get(key).text());
    let (containers, init) = (node.get("containers").items(), node.get("initContainers").items());
    // A native sidecar is an init container that keeps running.
    let running = init.iter().filter(|container| container.get("restartPolicy").text() == Some("Always")).chain(containers);
    PodSpec {
        service_account: account.filter(|account| !account.is_empty()).unwrap_or("default").to_owned(),
        host_network: node.get("hostNetwork").boolean().unwrap_or(false),
        ports: running.flat_map(|container| container.get("ports").items()).filter_map(container_port).collect(),
        containers: containers.iter().chain(init).map(|container| container.get("name").string()).collect(),
    }
}

fn container_port(node: &Node) -> Option<ContainerPort> {
    let tcp = node.get("protocol").text().is_none_or(|protocol| protocol == "TCP");
    Some(ContainerPort { name: node.get("name").string(), number: node.get("containerPort").port()?, tcp })
}
