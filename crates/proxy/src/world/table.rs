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

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
