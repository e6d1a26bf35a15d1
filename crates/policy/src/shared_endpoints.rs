//! Services of one host and namespace share their endpoints, as when a ServiceEntry adds virtual machines to a
//! Kubernetes Service: Istio keeps endpoints by host and namespace, and matches them to ports by the port's name.

use std::collections::HashMap;

use crate::service::{Endpoint, Service};

/// Gives each service the endpoints of the others of its host and namespace.
pub(crate) fn share(services: &mut [Service]) {
    let mut groups: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
    for (at, service) in services.iter().enumerate().filter(|(_, service)| service.discovers()) {
        groups.entry((&service.host, &service.namespace)).or_default().push(at);
    }
    let groups: Vec<Vec<usize>> = groups.into_values().filter(|group| group.len() > 1).collect();
    for group in groups {
        let own: Vec<usize> = group.iter().map(|at| services[*at].endpoints.len()).collect();
        for at in &group {
            for (other, count) in group.iter().zip(&own).filter(|(other, _)| *other != at) {
                let more = (0..*count).filter_map(|number| translated(services, *at, (*other, number)));
                let more: Vec<Endpoint> = more.collect();
                services[*at].endpoints.extend(more);
            }
        }
    }
}

/// An endpoint of another service with the ports of `at`; `None` when it serves none, or is known there.
fn translated(services: &[Service], at: usize, (other, number): (usize, usize)) -> Option<Endpoint> {
    let (service, other) = (&services[at], &services[other]);
    let endpoint = &other.endpoints[number];
    let known = |known: &Endpoint| match endpoint.workload {
        Some(workload) => known.workload == Some(workload),
        None => known.workload.is_none() && known.address == endpoint.address,
    };
    if service.endpoints.iter().any(known) {
        return None;
    }
    let port = |name: &str| {
        let position = other.ports.iter().position(|port| port.name == name)?;
        endpoint.ports.get(position).copied().flatten()
    };
    let ports: Vec<Option<u16>> = service.ports.iter().map(|own| port(&own.name)).collect();
    ports.iter().any(Option::is_some).then(|| Endpoint { ports, ..endpoint.clone() })
}
