//! Services of one host and namespace share their endpoints, as when a ServiceEntry adds virtual machines to a
//! Kubernetes Service: Istio keeps endpoints by host and namespace, and matches them to ports by the port's name.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::service::{Endpoint, Service, identity};

/// Gives each service the endpoints of the others of its host and namespace.
pub(crate) fn share(services: &mut [Service], trust_domain: &str) {
    let mut groups: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
    for (at, service) in services.iter().enumerate() {
        groups.entry((&service.host, &service.namespace)).or_default().push(at);
    }
    let groups: Vec<Vec<usize>> = groups.into_values().filter(|group| group.len() > 1).collect();
    for group in groups {
        name_accounts(services, &group, trust_domain);
        let group: Vec<usize> = group.into_iter().filter(|at| !services[*at].undirected).collect();
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

/// All endpoints of a host and namespace give it their accounts, whatever port they serve; of those that services name
/// themselves, the youngest service's count (`addServiceAccounts`).
fn name_accounts(services: &mut [Service], group: &[usize], trust_domain: &str) {
    let age = |at: &&usize| {
        let service = &services[**at];
        (service.meta.created, if service.entry { &service.host } else { &service.name })
    };
    let Some(youngest) = group.iter().max_by_key(age) else { return };
    let mut accounts = services[*youngest].accounts.clone();
    let endpoints = group.iter().flat_map(|at| &services[*at].endpoints);
    let serving = endpoints.filter(|endpoint| endpoint.gives_account());
    accounts.extend(serving.map(|endpoint| identity(trust_domain, &endpoint.namespace, &endpoint.service_account)));
    group.iter().for_each(|at| services[*at].accounts.clone_from(&accounts));
}

/// An endpoint of another service with the ports of `at`; `None` when it serves none, or is known there.
fn translated(services: &[Service], at: usize, (other, number): (usize, usize)) -> Option<Endpoint> {
    let (service, other) = (&services[at], &services[other]);
    let endpoint = &other.endpoints[number];
    let known = |known: &Endpoint| match endpoint.workload {
        Some(workload) => known.workload == Some(workload),
        None => known.workload.is_none() && known.address == endpoint.address,
    };
    let named = endpoint.address.as_ref().is_some_and(|address| address.parse::<IpAddr>().is_err());
    // Names are found by DNS, where a service is.
    if service.endpoints.iter().any(known) || (named && !service.resolved_by_name()) {
        return None;
    }
    let port = |name: &str| {
        let position = other.ports.iter().position(|port| port.name == name)?;
        endpoint.ports.get(position).copied().flatten()
    };
    let ports: Vec<Option<u16>> = service.ports.iter().map(|own| port(&own.name)).collect();
    ports.iter().any(Option::is_some).then(|| Endpoint { ports, ..endpoint.clone() })
}
