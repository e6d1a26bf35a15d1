use super::super::types::{Address, Labels, Protocol};
use super::*;

fn port(number: u16, endpoints: &[&str]) -> Arc<DestinationPort> {
    let endpoint = |text: &&str| {
        let address: SocketAddr = text.parse().unwrap();
        let (ip, port) = (address.ip(), address.port());
        Endpoint { address: Address::Ip(ip), port, workload: "".into(), tls: true, labels: Labels::default() }
    };
    let endpoints = endpoints.iter().map(endpoint).collect();
    Arc::new(DestinationPort { endpoints, ..DestinationPort::plain(number, Protocol::Auto) })
}

fn destination(host: &str, addresses: &[&str], by_endpoint: bool, ports: Vec<Arc<DestinationPort>>) -> Arc<Destination> {
    Arc::new(Destination {
        host: host.into(),
        name: host.into(),
        namespace: "shop".into(),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        allocated: Vec::new(),
        by_endpoint,
        passthrough: false,
        one_address: false,
        ports,
    })
}

#[test]
fn addresses_endpoints_and_prefixes_are_found_in_this_order() {
    let table = Table::new(vec![
        destination("cart", &["10.96.0.1/32", "fd00::1/128"], false, vec![port(80, &["10.0.0.1:8080"])]),
        destination("headless", &[], true, vec![port(9000, &["10.0.0.2:9001", "10.0.0.3:9001"])]),
        destination("wide", &["10.0.0.0/8"], false, vec![port(80, &[]), port(9001, &[])]),
        destination("narrow", &["10.96.0.0/16"], false, vec![port(80, &[])]),
    ]);
    let found = |text: &str| table.find(text.parse().unwrap()).map(|found| found.destination.host.to_string());
    assert_eq!(found("10.96.0.1:80").as_deref(), Some("cart"));
    assert_eq!(found("[fd00::1]:80").as_deref(), Some("cart"));
    assert_eq!(found("[::ffff:10.96.0.1]:80").as_deref(), Some("cart"));
    assert_eq!(found("10.96.0.2:80").as_deref(), Some("narrow"));
    assert_eq!(found("10.0.0.1:80").as_deref(), Some("wide"));
    assert_eq!(found("10.0.0.3:9001").as_deref(), Some("headless"));
    assert_eq!(found("10.0.0.1:8080"), None, "a pod behind a service address is no service");
    assert_eq!(found("10.96.0.1:81"), None, "an undeclared port");
    let one = table.find("10.0.0.3:9001".parse().unwrap()).unwrap();
    assert_eq!(one.endpoint.unwrap().socket(), Some("10.0.0.3:9001".parse().unwrap()));
    assert_eq!(one.port.port, 9000);
}
