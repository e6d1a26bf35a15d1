//! A world as the engine and the reference get it: objects of the model.

use std::sync::{Arc, OnceLock};

use mutua_model::destination_rule::PortPolicy;
use mutua_model::service::{Endpoint, TargetPort};
use mutua_model::sidecar::{Egress, Sidecar};
use mutua_model::workload::{ContainerPort, WorkloadEntry};
use mutua_model::{
    AppProtocol, ClientTls, ClientTlsMode, DestinationRule, Kind, Labels, Mesh, Meta, PeerAuthentication, Pod, Service,
    ServiceEntry, ServicePort, Subset, TrafficPolicy,
};

use super::registry::TLS_MODE;
use super::world::{Alternative, Entry, Inline, Level, OUTSIDE, Policy, Rule, Scope, Second, Tls, World};

/// Pods and the Service bar/web; what differs is added.
fn base() -> &'static Mesh {
    static LOADED: OnceLock<Mesh> = OnceLock::new();
    let gate = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: gate, namespace: istio-system, labels: {app: gate, security.istio.io/tlsMode: istio}}\nstatus: {podIP: 10.0.0.11}\n";
    let load = || mutua_model::read::Inputs::from_texts([("b.yaml", super::super::BASE.to_owned() + gate)]).load();
    LOADED.get_or_init(|| load().expect("readable").mesh)
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn meta(kind: Kind, namespace: &str, name: &str, age: Option<i64>) -> Meta {
    Meta { created: age, ..Meta::named(kind, namespace, name) }
}

fn port(name: &str, number: u16, protocol: AppProtocol, target: TargetPort) -> ServicePort {
    ServicePort { name: name.to_owned(), number, protocol, target, node_port: 0 }
}

pub(super) fn mesh(world: &World) -> Mesh {
    let mut mesh = base().clone();
    configure(&mut mesh, world);
    workloads(&mut mesh, world);
    services(&mut mesh, world);
    mesh.peer_authentications.extend(world.policies.iter().enumerate().map(|(at, policy)| Arc::new(of_policy(at, policy))));
    mesh.destination_rules.extend(world.rules.iter().enumerate().map(|(at, rule)| Arc::new(of_rule(at, rule))));
    mesh.service_entries.extend(world.entries.iter().enumerate().map(|(at, entry)| Arc::new(of_entry(at, entry))));
    mesh.sidecars.extend(world.sidecars.iter().enumerate().map(|(at, scope)| Arc::new(of_scope(at, scope))));
    mesh
}

fn configure(mesh: &mut Mesh, world: &World) {
    let only = |private: bool| vec![if private { "." } else { "*" }.to_owned()];
    let config = &mut mesh.config;
    config.enable_auto_mtls = world.config.auto;
    config.default_destination_rule_export_to = only(world.config.private_rules);
    config.default_service_export_to = only(world.config.private_services);
    config.outbound_policy = world.config.outbound;
    config.trust_domain = world.config.domain.to_owned();
    config.trust_domain_aliases = strings(&world.config.aliases);
    config.root_namespace = world.config.root.to_owned();
}

fn workloads(mesh: &mut Mesh, world: &World) {
    for pod in &mut mesh.pods {
        if pod.meta.name() == "web" {
            let pod = Arc::make_mut(pod);
            pod.meta.labels.insert("version".to_owned(), "v1".to_owned());
            pod.spec.ports = vec![ContainerPort { name: "web".to_owned(), number: 80, tcp: true }];
        }
    }
    if let Some(Second { tls_mode, port }) = &world.second {
        let mut meta = meta(Kind::Pod, "bar", "zz-second", None);
        meta.labels = labels(&[("app", "web"), ("version", "v2")]);
        meta.labels.extend(tls_mode.map(|word| (TLS_MODE.to_owned(), word.to_owned())));
        let mut spec = mutua_model::workload::PodSpec { service_account: "default".to_owned(), ..Default::default() };
        spec.ports = port.iter().map(|number| ContainerPort { name: "web".to_owned(), number: *number, tcp: true }).collect();
        mesh.pods.push(Arc::new(Pod { meta, spec, ips: vec![[10, 0, 0, 77].into()], ended: false }));
    }
    for (at, machine) in world.machines.iter().enumerate() {
        let mut endpoint = of_inline(&format!("192.0.2.{at}"), &machine.inline, "http");
        endpoint.labels.insert("app".to_owned(), machine.app.to_owned());
        let meta = meta(Kind::WorkloadEntry, machine.namespace, &format!("vm{at}"), None);
        mesh.workload_entries.push(Arc::new(WorkloadEntry { meta, endpoint }));
    }
}

fn of_inline(address: &str, inline: &Inline, port_name: &str) -> Endpoint {
    let mut own = Labels::new();
    own.extend(inline.tls_mode.map(|word| (TLS_MODE.to_owned(), word.to_owned())));
    own.extend(inline.version.map(|version| ("version".to_owned(), version.to_owned())));
    Endpoint {
        address: address.to_owned(),
        ports: inline.port.iter().map(|number| (port_name.to_owned(), *number)).collect(),
        labels: own,
        service_account: if inline.account { "vm" } else { "" }.to_owned(),
        network: String::new(),
    }
}

fn services(mesh: &mut Mesh, world: &World) {
    mesh.services.retain(|service| service.meta.name() == "web");
    for service in &mut mesh.services {
        let web = Arc::make_mut(service);
        web.meta.created = world.web.age;
        let annotations = &mut web.meta.annotations;
        annotations.extend(world.web.export.map(|to| ("networking.istio.io/exportTo".to_owned(), to.to_owned())));
        let accounts = world.web.accounts;
        annotations.extend(accounts.map(|names| ("alpha.istio.io/kubernetes-serviceaccounts".to_owned(), names.to_owned())));
        set_headless(web, world.web.headless);
        if world.web.named_target {
            web.ports[0].target = TargetPort::Named("web".to_owned());
        }
    }
    if let Some(Alternative { headless, tcp, age }) = world.alternative {
        let mut service = Service::clone(&mesh.services[0]);
        service.meta = meta(Kind::Service, "bar", "alt", age);
        service.cluster_ips = vec![[10, 96, 0, 55].into()];
        let protocol = if tcp { AppProtocol::Tcp } else { AppProtocol::Auto };
        service.ports = vec![port("x", 8000, protocol, TargetPort::Number(80))];
        set_headless(&mut service, headless);
        mesh.services.push(Arc::new(service));
    }
}

fn set_headless(service: &mut Service, headless: bool) {
    service.headless = headless;
    if headless {
        service.cluster_ips.clear();
    }
}

fn of_policy(at: usize, policy: &Policy) -> PeerAuthentication {
    PeerAuthentication {
        meta: meta(Kind::PeerAuthentication, policy.namespace, &format!("p{at}"), policy.age),
        selector: labels(policy.selector.as_slice()),
        selector_present: policy.selector.is_some(),
        mode: policy.mode,
        ports: policy.port.into_iter().collect(),
    }
}

fn of_rule(at: usize, rule: &Rule) -> DestinationRule {
    let subset = |(name, policy): &(&str, Option<Level>)| Subset {
        name: (*name).to_owned(),
        labels: labels(&[("version", name)]),
        policy: policy.as_ref().map(traffic),
    };
    DestinationRule {
        meta: meta(Kind::DestinationRule, rule.namespace, &format!("r{at}"), rule.age),
        host: rule.host.to_owned(),
        export_to: strings(&rule.export),
        workload_selector: rule.selector.map(|pair| labels(&[pair])),
        policy: rule.policy.as_ref().map(traffic),
        subsets: rule.subset.iter().map(subset).collect(),
    }
}

fn traffic(level: &Level) -> TrafficPolicy {
    let entry = |(port, tls, passthrough): &(u16, Option<Tls>, bool)| {
        (*port, PortPolicy { tls: tls.as_ref().map(settings), passthrough: *passthrough })
    };
    TrafficPolicy {
        tls: level.tls.as_ref().map(settings),
        passthrough: level.passthrough,
        ports: level.port.iter().map(entry).collect(),
    }
}

fn settings(tls: &Tls) -> ClientTls {
    let files = tls.mode == ClientTlsMode::Mutual && tls.credential.is_none();
    let file = |name: &str| if files { name.to_owned() } else { String::new() };
    ClientTls {
        mode: tls.mode,
        client_certificate: file("/c"),
        private_key: file("/k"),
        credential_name: tls.credential.unwrap_or_default().to_owned(),
        subject_alt_names: tls.names.iter().map(|name| (*name).to_owned()).collect(),
        sni: if tls.sni { "sni.example.com" } else { "" }.to_owned(),
        ..ClientTls::default()
    }
}

fn of_entry(at: usize, entry: &Entry) -> ServiceEntry {
    let (name, protocol) = if entry.tcp { ("tcp", AppProtocol::Tcp) } else { ("http", AppProtocol::Http) };
    let inline = |(number, inline): (usize, &Inline)| of_inline(&format!("203.0.113.{at}{number}"), inline, name);
    ServiceEntry {
        meta: meta(Kind::ServiceEntry, entry.namespace, &format!("e{at}"), entry.age),
        hosts: vec![OUTSIDE[at].to_owned()],
        addresses: if entry.address { vec![format!("198.51.100.{at}")] } else { Vec::new() },
        ports: vec![
            port(name, 80, protocol, TargetPort::Number(80)),
            port("tls", 8000, AppProtocol::Tcp, TargetPort::Number(8080)),
        ],
        mesh_internal: entry.internal,
        resolution: entry.resolution,
        endpoints: entry.endpoints.iter().enumerate().map(inline).collect(),
        workload_selector: entry.selector.map(|app| labels(&[("app", app)])),
        export_to: strings(&entry.export),
        subject_alt_names: strings(&entry.names),
    }
}

fn of_scope(at: usize, scope: &Scope) -> Sidecar {
    let listener = |(port, hosts): &(u16, Vec<&str>)| Egress { port: *port, hosts: strings(hosts) };
    let ingress = |(number, http): &(u16, bool)| {
        let protocol = if *http { AppProtocol::Http } else { AppProtocol::Tcp };
        port("in", *number, protocol, TargetPort::Number(*number))
    };
    Sidecar {
        meta: meta(Kind::Sidecar, scope.namespace, &format!("s{at}"), scope.age),
        workload_selector: scope.selector.map(|app| labels(&[("app", app)])),
        egress: scope.egress.as_ref().map(|listeners| listeners.iter().map(listener).collect()),
        ingress: scope.ingress.iter().map(ingress).collect(),
        outbound_policy: scope.outbound,
    }
}
