//! The mesh's names and their addresses, as Istio's agent tells them (`pkg/dns/client`): every host that a connection can be
//! captured for; of Kubernetes Services the short names too; and names with the first search domain of the application's
//! resolver behind them, so that its search ends with the first question.

use std::net::IpAddr;

use super::message::Known;
use crate::world::{Destination, Table};

/// From where names are asked.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The namespace in which `name` alone is a service's name.
    pub namespace: &'a str,
    /// The first search domain of its resolver.
    pub search: Option<&'a str>,
}

/// What the mesh knows of `name` (lower case, without the last dot); `None` when it is not of the mesh.
#[must_use]
pub fn find(table: &Table, asker: Asker<'_>, name: &str) -> Option<Known> {
    let itself = |destination: &Destination| Known { alias: None, addresses: addresses(destination) };
    let searched = asker.search.and_then(|search| name.strip_suffix(search)?.strip_suffix('.'));
    let alias = |destination: &Destination| Known { alias: searched.map(str::to_owned), ..itself(destination) };
    let exact = |name: &str| exact(table, asker.namespace, name);
    let known = exact(name).map(itself).or_else(|| searched.and_then(exact).map(alias));
    known
        .or_else(|| wildcard(table, name).map(itself))
        .or_else(|| searched.and_then(|name| wildcard(table, name)).map(alias))
        .filter(|known| !known.addresses.is_empty())
}

/// A host, or a short name of a Kubernetes Service.
fn exact<'t>(table: &'t Table, namespace: &str, name: &str) -> Option<&'t Destination> {
    if let Some(destination) = table.named(name) {
        return Some(destination);
    }
    let domain = table.service_domain()?;
    let full = match name.split('.').count() {
        1 => format!("{name}.{namespace}.{domain}"),
        2 => format!("{name}.{domain}"),
        3 => format!("{}.{domain}", name.strip_suffix(".svc")?),
        _ => return None,
    };
    table.named(&full).filter(|destination| destination.is_kubernetes())
}

/// The host with a wildcard that covers most of the name.
fn wildcard<'t>(table: &'t Table, name: &str) -> Option<&'t Destination> {
    let mut rest = name;
    while let Some((_, parent)) = rest.split_once('.') {
        if let Some(destination) = table.named(&format!("*.{parent}")) {
            return Some(destination);
        }
        rest = parent;
    }
    None
}

/// What a host resolves to: the addresses that it was given, else its own, else those of its endpoints (headless).
fn addresses(destination: &Destination) -> Vec<IpAddr> {
    if !destination.allocated.is_empty() {
        return destination.allocated.clone();
    }
    let single = destination.addresses.iter().filter(|net| net.prefix_len() == net.max_prefix_len());
    let own: Vec<IpAddr> = single.map(ipnet::IpNet::addr).collect();
    if !own.is_empty() || !destination.by_endpoint {
        return own;
    }
    let endpoints = destination.ports.iter().flat_map(|port| &port.endpoints);
    let mut all: Vec<IpAddr> = endpoints.filter_map(|endpoint| Some(endpoint.socket()?.ip())).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::world::{Labels, Protocol};

    fn host(host: &str, name: &str, namespace: &str, addresses: &[&str]) -> Arc<Destination> {
        Arc::new(Destination {
            host: host.into(),
            name: name.into(),
            namespace: namespace.into(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            allocated: Vec::new(),
            by_endpoint: false,
            passthrough: false,
            one_address: false,
            ports: Vec::new(),
        })
    }

    fn table() -> Table {
        let mut given = Arc::into_inner(host("API.example.com", "api", "bar", &["192.0.2.1/32"])).unwrap();
        given.allocated = vec!["240.240.0.9".parse().unwrap(), "2001:2::f0f0:9".parse().unwrap()];
        let mut headless = Arc::into_inner(host("db.shop.svc.cluster.local", "db", "shop", &[])).unwrap();
        headless.by_endpoint = true;
        let mut port = crate::world::DestinationPort::plain(5432, Protocol::Tcp);
        port.endpoints = ["10.0.0.2", "10.0.0.1", "10.0.0.2"]
            .map(|ip| crate::world::Endpoint {
                address: crate::world::Address::Ip(ip.parse().unwrap()),
                port: 5432,
                workload: "".into(),
                tls: true,
                labels: Labels::default(),
            })
            .to_vec();
        headless.ports = vec![Arc::new(port)];
        Table::new(vec![
            host("cart.shop.svc.cluster.local", "cart", "shop", &["10.96.0.1/32", "fd00::1/128"]),
            host("cart.other.svc.cluster.local", "cart", "other", &["10.96.0.2/32"]),
            Arc::new(given),
            Arc::new(headless),
            host("*.example.org", "wide", "bar", &["192.0.2.7/32", "10.0.0.0/8"]),
            host("*.deep.example.org", "deep", "bar", &["192.0.2.8/32"]),
            host("range.example.net", "range", "bar", &["10.0.0.0/8"]),
        ])
    }

    #[test]
    fn names_are_told_as_by_istios_agent() {
        let table = table();
        let asker = Asker { namespace: "shop", search: Some("shop.svc.cluster.local") };
        let find = |name: &str| {
            let known = find(&table, asker, name)?;
            let first = known.addresses.first().map(ToString::to_string).unwrap();
            Some(known.alias.map_or_else(|| first.clone(), |alias| format!("{alias} {first}")))
        };
        for (name, wanted) in [
            ("cart.shop.svc.cluster.local", Some("10.96.0.1")),
            ("cart", Some("10.96.0.1")),
            ("cart.shop", Some("10.96.0.1")),
            ("cart.shop.svc", Some("10.96.0.1")),
            ("cart.other", Some("10.96.0.2")),
            ("cart.other.shop.svc.cluster.local", Some("cart.other 10.96.0.2")),
            ("cart.shop.svc.cluster.local.shop.svc.cluster.local", Some("cart.shop.svc.cluster.local 10.96.0.1")),
            ("api.example.com", Some("240.240.0.9")),
            ("api.example.com.shop.svc.cluster.local", Some("api.example.com 240.240.0.9")),
            ("api.example.com.svc.cluster.local", None),
            ("x.api.example.com", None),
            ("db", Some("10.0.0.1")),
            ("a.example.org", Some("192.0.2.7")),
            ("a.b.example.org", Some("192.0.2.7")),
            ("a.deep.example.org", Some("192.0.2.8")),
            ("a.deep.example.org.shop.svc.cluster.local", Some("a.deep.example.org 192.0.2.8")),
            ("example.org", None),
            ("range.example.net", None),
            ("other", None),
            ("com", None),
            ("", None),
        ] {
            assert_eq!(find(name).as_deref(), wanted, "{name}");
        }
    }

    #[test]
    fn a_short_name_belongs_to_the_askers_namespace() {
        let table = table();
        let first =
            |namespace| find(&table, Asker { namespace, search: None }, "cart").map(|known| known.addresses[0].to_string());
        assert_eq!(first("other").as_deref(), Some("10.96.0.2"));
        assert_eq!(first("bar"), None);
        assert!(find(&table, Asker { namespace: "bar", search: None }, "example.com.bar").is_none());
    }
}
