//! A mesh of any size, the same on every machine: for each namespace a hundred workloads behind ten services, two
//! PeerAuthentications and five DestinationRules of the kinds that people write.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use mutua_model::destination_rule::PortPolicy;
use mutua_model::service::TargetPort;
use mutua_model::workload::{ContainerPort, PodSpec};
use mutua_model::{
    AppProtocol, ClientTls, ClientTlsMode, DestinationRule, Kind, Labels, Mesh, Meta, MtlsMode, Namespace, PeerAuthentication,
    Pod, Service, ServicePort, Subset, TrafficPolicy,
};

/// Workloads of a namespace.
pub const PER_NAMESPACE: usize = 100;
/// Services of a namespace.
pub const SERVICES: usize = 10;

/// A mesh of so many namespaces.
pub fn mesh(namespaces: usize) -> Mesh {
    let mut mesh = Mesh::default();
    mesh.peer_authentications.push(policy("istio-system", "default", Labels::new(), Some(MtlsMode::Permissive)));
    for number in 0..namespaces {
        let name = namespace(number);
        let labels = Labels::from([("istio-injection".to_owned(), "enabled".to_owned())]);
        let meta = Meta { labels, ..Meta::named(Kind::Namespace, "", &name) };
        mesh.namespaces.push(Arc::new(Namespace { meta }));
        mesh.services.extend((0..SERVICES).map(|service| a_service(number, service)));
        mesh.pods.extend((0..PER_NAMESPACE).map(|pod| a_pod(number, pod)));
        mesh.peer_authentications.extend(policies(number));
        mesh.destination_rules.extend(rules(number, namespaces));
    }
    mesh
}

/// The name of a namespace.
pub fn namespace(number: usize) -> String {
    format!("team-{number:04}")
}

/// The host of a service.
pub fn host(number: usize, service: usize) -> String {
    format!("app-{service}.{}.svc.cluster.local", namespace(number))
}

fn labels(pairs: &[(&str, String)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

fn app(service: usize) -> Labels {
    labels(&[("app", format!("app-{service}"))])
}

fn a_service(number: usize, service: usize) -> Arc<Service> {
    let port = |name: &str, number, protocol, target| ServicePort {
        name: name.to_owned(),
        number,
        protocol,
        target: TargetPort::Number(target),
        node_port: 0,
    };
    let headless = service == 9;
    let address = |number: usize| u8::try_from(number % 256).unwrap_or(0);
    let cluster_ip = IpAddr::V4(Ipv4Addr::new(172, address(number / 256), address(number), address(service + 1)));
    Arc::new(Service {
        meta: Meta::named(Kind::Service, &namespace(number), &format!("app-{service}")),
        ports: vec![port("http", 80, AppProtocol::Http, 8080), port("tcp-data", 5432, AppProtocol::Tcp, 5432)],
        selector: Some(app(service)),
        cluster_ips: if headless { Vec::new() } else { vec![cluster_ip] },
        headless,
        external_ips: Vec::new(),
        external_name: None,
        service_type: "ClusterIP".to_owned(),
    })
}

fn a_pod(number: usize, pod: usize) -> Arc<Pod> {
    let service = pod % SERVICES;
    // Of the last service's pods one has no sidecar in every tenth namespace.
    let bare = number % 10 == 3 && pod == 8;
    let mode = if bare { "disabled" } else { "istio" };
    let version = if pod < PER_NAMESPACE / 2 { "v1" } else { "v2" };
    let mut meta = Meta::named(Kind::Pod, &namespace(number), &format!("app-{service}-{pod:02}"));
    meta.labels = labels(&[
        ("app", format!("app-{service}")),
        ("version", version.to_owned()),
        ("pod-template-hash", format!("{number:04x}{service}")),
        ("security.istio.io/tlsMode", mode.to_owned()),
    ]);
    let port = |name: &str, number| ContainerPort { name: name.to_owned(), number, tcp: true };
    let spec = PodSpec {
        service_account: format!("app-{service}"),
        host_network: false,
        ports: vec![port("http", 8080), port("data", 5432)],
        containers: vec!["app".to_owned(), "istio-proxy".to_owned()],
    };
    let at = u32::try_from(number * PER_NAMESPACE + pod).unwrap_or(u32::MAX);
    let ips = vec![IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + at + 1))];
    Arc::new(Pod { meta, spec, ips, ended: false })
}

/// A policy without ports.
pub fn policy(namespace: &str, name: &str, selector: Labels, mode: Option<MtlsMode>) -> Arc<PeerAuthentication> {
    let meta = Meta::named(Kind::PeerAuthentication, namespace, name);
    let selector_present = !selector.is_empty();
    Arc::new(PeerAuthentication { meta, selector, selector_present, mode, ports: std::collections::BTreeMap::new() })
}

/// One for the namespace, one for a workload with a port of its own.
fn policies(number: usize) -> [Arc<PeerAuthentication>; 2] {
    const MODES: [Option<MtlsMode>; 5] =
        [Some(MtlsMode::Strict), Some(MtlsMode::Strict), Some(MtlsMode::Permissive), None, Some(MtlsMode::Disable)];
    let name = namespace(number);
    let wide = policy(&name, "default", Labels::new(), MODES[number % MODES.len()]);
    let mut one = policy(&name, "app-1", app(1), Some(MtlsMode::Permissive));
    if let Some(policy) = Arc::get_mut(&mut one) {
        policy.ports.insert(5432, Some(MtlsMode::Strict));
    }
    [wide, one]
}

/// Five rules: for all services of the namespace, for two of them with subsets, for one of another namespace, and for
/// one port.
fn rules(number: usize, namespaces: usize) -> [Arc<DestinationRule>; 5] {
    let name = namespace(number);
    let tls = |mode| Some(ClientTls { mode, ..ClientTls::default() });
    let wide_mode = if number.is_multiple_of(3) { tls(ClientTlsMode::IstioMutual) } else { None };
    let other = (number * 7 + 1) % namespaces;
    let mut port = TrafficPolicy::default();
    port.ports.push((5432, PortPolicy { tls: tls(ClientTlsMode::IstioMutual), passthrough: false }));
    [
        rule(&name, "default", format!("*.{name}.svc.cluster.local"), policy_of(wide_mode), &[]),
        rule(&name, "app-0", host(number, 0), policy_of(None), &["v1", "v2"]),
        rule(&name, "app-1", "app-1".to_owned(), policy_of(tls(ClientTlsMode::IstioMutual)), &["v1", "v2"]),
        rule(&name, "elsewhere", host(other, 2), policy_of(tls(ClientTlsMode::IstioMutual)), &[]),
        rule(&name, "app-3", host(number, 3), port, &[]),
    ]
}

fn policy_of(tls: Option<ClientTls>) -> TrafficPolicy {
    TrafficPolicy { tls, passthrough: false, ports: Vec::new() }
}

fn rule(namespace: &str, name: &str, host: String, policy: TrafficPolicy, subsets: &[&str]) -> Arc<DestinationRule> {
    let subset =
        |name: &&str| Subset { name: (*name).to_owned(), labels: labels(&[("version", (*name).to_owned())]), policy: None };
    Arc::new(DestinationRule {
        meta: Meta::named(Kind::DestinationRule, namespace, name),
        host,
        export_to: Vec::new(),
        workload_selector: None,
        policy: Some(policy),
        subsets: subsets.iter().map(subset).collect(),
    })
}
