//! From an original destination to the service it belongs to.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Destination, DestinationPort, Endpoint};

/// Destinations, indexed by address and port.
#[derive(Debug, Default)]
pub struct Table {
    destinations: Vec<Arc<Destination>>,
    exact: HashMap<IpAddr, Vec<usize>>,
    /// Wider prefixes, longest first.
    prefixes: Vec<(ipnet::IpNet, usize)>,
    by_endpoint: HashMap<SocketAddr, (usize, usize, usize)>,
    /// By host in lower case.
    by_host: HashMap<Arc<str>, usize>,
    /// What follows name and namespace in the hosts of Kubernetes Services: `svc.cluster.local`.
    service_domain: Option<Arc<str>>,
}

/// A destination that was found.
#[derive(Clone, Debug)]
pub struct Match {
    /// The service.
    pub destination: Arc<Destination>,
    /// Its port.
    pub port: Arc<DestinationPort>,
    /// The endpoint that was addressed itself (headless services).
    pub endpoint: Option<Endpoint>,
}

impl Table {
    /// Indexes `destinations`. Where two claim one address and port, the first counts.
    #[must_use]
    pub fn new(destinations: Vec<Arc<Destination>>) -> Self {
        let mut table = Self::default();
        for (at, destination) in destinations.iter().enumerate() {
            for net in &destination.addresses {
                if net.prefix_len() == net.max_prefix_len() {
                    table.exact.entry(net.addr()).or_default().push(at);
                } else {
                    table.prefixes.push((*net, at));
                }
            }
            for ip in &destination.allocated {
                table.exact.entry(*ip).or_default().push(at);
            }
            table.by_host.entry(lower(&destination.host)).or_insert(at);
            if table.service_domain.is_none() {
                table.service_domain = destination.service_domain().map(Arc::from);
            }
            if destination.by_endpoint {
                table.index_endpoints(at, destination);
            }
        }
        table.prefixes.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        table.destinations = destinations;
        table
    }

    fn index_endpoints(&mut self, at: usize, destination: &Destination) {
        for (port_at, port) in destination.ports.iter().enumerate() {
            for (endpoint_at, endpoint) in port.endpoints.iter().enumerate() {
                if let Some(address) = endpoint.socket() {
                    self.by_endpoint.entry(address).or_insert((at, port_at, endpoint_at));
                }
            }
        }
    }

    /// Every destination.
    #[must_use]
    pub fn destinations(&self) -> &[Arc<Destination>] {
        &self.destinations
    }

    /// The service of that host, in lower case.
    #[must_use]
    pub fn named(&self, host: &str) -> Option<&Destination> {
        self.by_host.get(host).map(|at| &*self.destinations[*at])
    }

    /// What follows name and namespace in the hosts of Kubernetes Services, once there is one.
    #[must_use]
    pub fn service_domain(&self) -> Option<&str> {
        self.service_domain.as_deref()
    }

    /// The service that `address` belongs to: by its own address and port, else by an endpoint's, else by a prefix.
    #[must_use]
    pub fn find(&self, address: SocketAddr) -> Option<Match> {
        let ip = address.ip().to_canonical();
        let exact = self.exact.get(&ip).into_iter().flatten().find_map(|at| self.port(*at, address.port()));
        exact.or_else(|| self.endpoint(SocketAddr::new(ip, address.port()))).or_else(|| {
            let mut covering = self.prefixes.iter().filter(|(net, _)| net.contains(&ip));
            covering.find_map(|(_, at)| self.port(*at, address.port()))
        })
    }

    fn port(&self, at: usize, port: u16) -> Option<Match> {
        let destination = &self.destinations[at];
        let port = destination.ports.iter().find(|candidate| candidate.port == port)?;
        Some(Match { destination: Arc::clone(destination), port: Arc::clone(port), endpoint: None })
    }

    fn endpoint(&self, address: SocketAddr) -> Option<Match> {
        let (at, port, endpoint) = *self.by_endpoint.get(&address)?;
        let destination = &self.destinations[at];
        let port = &destination.ports[port];
        Some(Match {
            destination: Arc::clone(destination),
            port: Arc::clone(port),
            endpoint: Some(port.endpoints[endpoint].clone()),
        })
    }
}

fn lower(host: &Arc<str>) -> Arc<str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { Arc::clone(host) }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
