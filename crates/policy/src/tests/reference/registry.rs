//! Services and their endpoints as Istio's registries give them.

use std::collections::BTreeSet;

use mutua_model::service::TargetPort;
use mutua_model::{AppProtocol, Labels, Mesh, Resolution, ServicePort};

pub(super) const TLS_MODE: &str = "security.istio.io/tlsMode";

/// A pod or WorkloadEntry.
#[derive(Clone)]
pub(super) struct Unit {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) address: String,
    pub(super) labels: Labels,
    pub(super) account: String,
    pub(super) tls_mode: String,
    /// Named ports: of a pod's containers, or of the WorkloadEntry.
    named: Vec<(String, u16)>,
    pub(super) pod: bool,
}

/// The label, else what the registry takes it for.
fn tls_mode(labels: &Labels, otherwise: &str) -> String {
    labels.get(TLS_MODE).cloned().unwrap_or_else(|| otherwise.to_owned())
}

fn entry_tls_mode(labels: &Labels, account: &str) -> String {
    tls_mode(labels, if account.is_empty() { "disabled" } else { "istio" })
}

pub(super) fn units(mesh: &Mesh) -> Vec<Unit> {
    let pods = mesh.pods.iter().map(|pod| Unit {
        name: pod.meta.name().to_owned(),
        namespace: pod.meta.namespace().to_owned(),
        address: pod.ips.first().map(ToString::to_string).unwrap_or_default(),
        labels: pod.meta.labels.clone(),
        account: pod.spec.service_account.clone(),
        tls_mode: tls_mode(&pod.meta.labels, "disabled"),
        named: pod.spec.ports.iter().map(|port| (port.name.clone(), port.number)).collect(),
        pod: true,
    });
    let entries = mesh.workload_entries.iter().map(|entry| Unit {
        name: entry.meta.name().to_owned(),
        namespace: entry.meta.namespace().to_owned(),
        address: entry.endpoint.address.clone(),
        labels: entry.endpoint.labels.clone(),
        account: entry.endpoint.service_account.clone(),
        tls_mode: entry_tls_mode(&entry.endpoint.labels, &entry.endpoint.service_account),
        named: entry.endpoint.ports.clone(),
        pod: false,
    });
    pods.chain(entries).collect()
}

/// A service of either registry.
pub(super) struct Registered {
    pub(super) host: String,
    /// The object's.
    name: String,
    pub(super) namespace: String,
    pub(super) created: Option<i64>,
    /// Of a ServiceEntry.
    pub(super) entry: bool,
    pub(super) external: bool,
    /// Headless, or resolution NONE.
    pub(super) passthrough: bool,
    pub(super) headless: bool,
    pub(super) export_to: Vec<String>,
    pub(super) ports: Vec<ServicePort>,
    pub(super) addresses: Vec<String>,
    named_accounts: Vec<String>,
    pub(super) endpoints: Vec<Endpoint>,
}

#[derive(Clone)]
pub(super) struct Endpoint {
    /// The workload, if it is one.
    pub(super) unit: Option<Unit>,
    pub(super) namespace: String,
    pub(super) address: String,
    pub(super) labels: Labels,
    pub(super) account: String,
    pub(super) tls_mode: String,
    /// By position of the service's ports.
    pub(super) ports: Vec<Option<u16>>,
}

impl Endpoint {
    /// Whether it is this workload.
    pub(super) fn is(&self, unit: &Unit) -> bool {
        self.unit.as_ref().is_some_and(|own| (&own.namespace, &own.name, own.pod) == (&unit.namespace, &unit.name, unit.pod))
    }

    pub(super) fn of(unit: &Unit, ports: Vec<Option<u16>>) -> Self {
        Self {
            unit: Some(unit.clone()),
            namespace: unit.namespace.clone(),
            address: unit.address.clone(),
            labels: unit.labels.clone(),
            account: unit.account.clone(),
            tls_mode: unit.tls_mode.clone(),
            ports,
        }
    }
}

impl Registered {
    /// The endpoints that serve a port, with theirs.
    pub(super) fn serving(&self, port: u16) -> Vec<(Endpoint, u16)> {
        let position = self.ports.iter().position(|one| one.number == port).expect("a declared port");
        self.endpoints.iter().filter_map(|endpoint| Some((endpoint.clone(), endpoint.ports[position]?))).collect()
    }

    /// Whether a workload is one of its endpoints.
    pub(super) fn serves(&self, unit: &Unit) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.is(unit))
    }

    /// Oldest first.
    pub(super) fn age(&self) -> (Option<i64>, String, String) {
        (self.created, self.name.clone(), self.namespace.clone())
    }

    pub(super) fn declares(&self, port: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|one| one.number == port)
    }

    /// Accounts of all endpoints that serve something, and those the service names, each in every trust domain.
    pub(super) fn names(&self, mesh: &Mesh) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = self.named_accounts.iter().cloned().collect();
        for endpoint in &self.endpoints {
            if !endpoint.account.is_empty() && endpoint.ports.iter().any(Option::is_some) {
                names.insert(identity(mesh, &endpoint.namespace, &endpoint.account));
            }
        }
        for name in names.clone() {
            let parts: Vec<&str> = name.split('/').collect();
            if let ["spiffe:", "", _, "ns", namespace, "sa", account] = parts[..] {
                let aliases = mesh.config.trust_domain_aliases.iter();
                names.extend(aliases.map(|alias| format!("spiffe://{alias}/ns/{namespace}/sa/{account}")));
            }
        }
        names
    }
}

/// SPIFFE ids of Istio.
pub(super) fn identity(mesh: &Mesh, namespace: &str, account: &str) -> String {
    format!("spiffe://{}/ns/{namespace}/sa/{account}", mesh.config.trust_domain.replace('@', "."))
}

/// All services of the mesh.
pub(super) fn services(mesh: &Mesh) -> Vec<Registered> {
    let units = units(mesh);
    let mut all: Vec<Registered> = mesh.services.iter().map(|service| kubernetes(mesh, service, &units)).collect();
    for entry in &mesh.service_entries {
        all.extend(entry.hosts.iter().map(|host| of_entry(mesh, entry, host, &units)));
    }
    all
}

fn kubernetes(mesh: &Mesh, service: &mutua_model::Service, units: &[Unit]) -> Registered {
    let (name, namespace) = (service.meta.name(), service.meta.namespace());
    let selector = service.selector.clone().unwrap_or_default();
    let selected = units.iter().filter(|unit| {
        // A headless service has the endpoints of its EndpointSlices alone, which are pods.
        unit.namespace == namespace && super::holds(&unit.labels, &selector) && (unit.pod || !service.headless)
    });
    let target = |unit: &Unit, port: &ServicePort| {
        let named = |name: &str| unit.named.iter().find(|(known, _)| known == name).map(|(_, number)| *number);
        match &port.target {
            TargetPort::Number(number) if unit.pod => Some(*number),
            // A WorkloadEntry's own port of that name counts before the number.
            TargetPort::Number(number) => named(&port.name).or(Some(*number)),
            TargetPort::Named(name) => named(name),
        }
    };
    let annotation = |key: &str| -> Vec<String> {
        let text = service.meta.annotations.get(key).cloned().unwrap_or_default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let export = annotation("networking.istio.io/exportTo");
    let own = annotation("alpha.istio.io/kubernetes-serviceaccounts");
    let own = own.iter().map(|account| identity(mesh, namespace, account));
    Registered {
        name: name.to_owned(),
        host: format!("{name}.{namespace}.svc.{}", mesh.config.cluster_domain),
        namespace: namespace.to_owned(),
        created: service.meta.created,
        entry: false,
        external: false,
        passthrough: service.headless,
        headless: service.headless,
        export_to: if export.is_empty() { mesh.config.default_service_export_to.clone() } else { export },
        ports: service.ports.clone(),
        addresses: service.cluster_ips.iter().map(ToString::to_string).collect(),
        named_accounts: own.chain(annotation("alpha.istio.io/canonical-serviceaccounts")).collect(),
        endpoints: selected
            .map(|unit| Endpoint::of(unit, service.ports.iter().map(|port| target(unit, port)).collect()))
            .collect(),
    }
}

fn of_entry(mesh: &Mesh, entry: &mutua_model::ServiceEntry, host: &str, units: &[Unit]) -> Registered {
    let namespace = entry.meta.namespace();
    let number = |named: &[(String, u16)], port: &ServicePort| {
        let own = named.iter().find(|(name, _)| *name == port.name).map(|(_, number)| *number);
        let TargetPort::Number(target) = port.target else { panic!("entries have numbers") };
        own.or(Some(target))
    };
    let numbers = |named: &[(String, u16)]| entry.ports.iter().map(|port| number(named, port)).collect::<Vec<_>>();
    let mut endpoints: Vec<Endpoint> = match &entry.workload_selector {
        Some(selector) => units
            .iter()
            .filter(|unit| unit.namespace == namespace && super::holds(&unit.labels, selector))
            .map(|unit| Endpoint::of(unit, numbers(if unit.pod { &[] } else { &unit.named })))
            .collect(),
        None => entry
            .endpoints
            .iter()
            .map(|inline| Endpoint {
                unit: None,
                namespace: namespace.to_owned(),
                address: inline.address.clone(),
                labels: inline.labels.clone(),
                account: inline.service_account.clone(),
                tls_mode: entry_tls_mode(&inline.labels, &inline.service_account),
                ports: numbers(&inline.ports),
            })
            .collect(),
    };
    // The host itself is the endpoint.
    if endpoints.is_empty() && entry.workload_selector.is_none() && entry.resolution != Resolution::Static {
        endpoints.push(Endpoint {
            unit: None,
            namespace: namespace.to_owned(),
            address: host.to_owned(),
            labels: Labels::new(),
            account: String::new(),
            tls_mode: "disabled".to_owned(),
            ports: numbers(&[]),
        });
    }
    Registered {
        name: entry.meta.name().to_owned(),
        host: host.to_owned(),
        namespace: namespace.to_owned(),
        created: entry.meta.created,
        entry: true,
        external: !entry.mesh_internal,
        passthrough: entry.resolution == Resolution::None,
        headless: false,
        export_to: if entry.export_to.is_empty() {
            mesh.config.default_service_export_to.clone()
        } else {
            entry.export_to.clone()
        },
        ports: entry.ports.clone(),
        addresses: entry.addresses.clone(),
        named_accounts: entry.subject_alt_names.clone(),
        endpoints,
    }
}

/// What a workload's port is declared as: the oldest service that selects it decides, unless its Sidecar lists its
/// ports.
pub(super) fn declared(mesh: &Mesh, services: &[Registered], unit: &Unit, port: u16) -> AppProtocol {
    let sidecar = super::scope::sidecar(mesh, &unit.namespace, &unit.labels);
    if let Some(sidecar) = sidecar.filter(|sidecar| !sidecar.ingress.is_empty()) {
        let listener = sidecar.ingress.iter().find(|listener| listener.number == port);
        return listener.map_or(AppProtocol::Auto, |listener| listener.protocol);
    }
    let mut selecting: Vec<(&Registered, &ServicePort)> = Vec::new();
    for service in services {
        for endpoint in service.endpoints.iter().filter(|endpoint| endpoint.is(unit)) {
            let own = service.ports.iter().zip(&endpoint.ports).find(|(_, number)| **number == Some(port));
            selecting.extend(own.map(|(declared, _)| (service, declared)));
        }
    }
    selecting.sort_by_key(|(service, _)| service.age());
    selecting.first().map_or(AppProtocol::Auto, |(_, declared)| declared.protocol)
}
