//! What a workload accepts, port by port: everything its proxy needs for the receiving side.

use std::collections::BTreeMap;

use mutua_model::{AppProtocol, MtlsMode, TlsVersion};

use crate::engine::Engine;
use crate::peer_authentication::decided_by;
use crate::workload::Workload;

/// What a workload accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// On every port that is not listed.
    pub mode: MtlsMode,
    /// The object that decided it, or `default`.
    pub decided_by: String,
    /// Known ports: target ports of Services, container ports, ports with a mode of their own.
    pub ports: Vec<InboundPort>,
    /// Callers must be of one of these.
    pub trust_domains: Vec<String>,
    /// `meshMTLS.minProtocolVersion`.
    pub min_tls: TlsVersion,
    /// `meshMTLS.cipherSuites`; empty for Istio's default.
    pub cipher_suites: Vec<String>,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPort {
    /// The workload's port.
    pub port: u16,
    /// Its mode.
    pub mode: MtlsMode,
    /// How its bytes are treated.
    pub protocol: AppProtocol,
    /// The object that decided the mode, or `default`.
    pub decided_by: String,
    /// The Service it belongs to; the oldest if there are several.
    pub service: Option<ServiceRef>,
}

/// Names a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceRef {
    /// Its host.
    pub host: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

/// What is known of a port before its mode.
#[derive(Clone, Default)]
pub(crate) struct Known {
    protocol: Option<AppProtocol>,
    service: Option<ServiceRef>,
}

impl Engine {
    /// What a workload accepts.
    #[must_use]
    pub fn inbound(&self, workload: &Workload) -> Inbound {
        let at = self.place_of(workload);
        let effective = at.map_or_else(
            || std::sync::Arc::new(self.policies.effective(&workload.namespace, &workload.labels)),
            |at| std::sync::Arc::clone(self.accepts(at)),
        );
        let port = |(number, known): (u16, Known)| InboundPort {
            port: number,
            mode: effective.on(number),
            protocol: known.protocol.unwrap_or(AppProtocol::Auto),
            decided_by: decided_by(effective.decided(number)),
            service: known.service,
        };
        let config = &self.mesh().config;
        Inbound {
            mode: effective.mode,
            decided_by: decided_by(&effective.by),
            ports: self.known_ports(workload).into_iter().map(port).collect(),
            trust_domains: self.trust_domains(),
            min_tls: config.min_tls,
            cipher_suites: config.cipher_suites.clone(),
        }
    }

    /// The trust domains whose identities are accepted, without duplicates, the mesh's own first.
    #[must_use]
    pub fn trust_domains(&self) -> Vec<String> {
        let config = &self.mesh().config;
        let mut domains: Vec<String> = Vec::new();
        for domain in std::iter::once(&config.trust_domain).chain(&config.trust_domain_aliases).chain(&config.ca_trust_domains) {
            if !domain.is_empty() && !domains.contains(domain) {
                domains.push(domain.clone());
            }
        }
        domains
    }

    pub(crate) fn place_of(&self, workload: &Workload) -> Option<usize> {
        fn key(one: &Workload) -> (&str, &str, mutua_model::Kind) {
            (&one.namespace, &one.name, one.kind)
        }
        self.workloads().binary_search_by(|one| key(one).cmp(&key(workload))).ok()
    }

    /// Known ports. A `Sidecar` with an ingress section replaces what Services say.
    pub(crate) fn known_ports(&self, workload: &Workload) -> BTreeMap<u16, Known> {
        let mut ports: BTreeMap<u16, Known> = BTreeMap::new();
        let at = self.place_of(workload);
        let mut selecting: Vec<_> = at.into_iter().flat_map(|at| self.services_of(at)).collect();
        selecting.sort_by(|(a, _), (b, _)| a.meta.age_order().cmp(&b.meta.age_order()));
        for (service, endpoint) in selecting {
            for (declared, number) in service.ports.iter().zip(&endpoint.ports) {
                let Some(number) = number.filter(|_| declared.protocol != AppProtocol::Udp) else { continue };
                let known = ports.entry(number).or_default();
                known.protocol.get_or_insert(declared.protocol);
                known.service.get_or_insert_with(|| ServiceRef {
                    host: service.host.clone(),
                    name: service.name.clone(),
                    namespace: service.namespace.clone(),
                });
            }
        }
        for port in workload.ports.iter().filter(|port| port.tcp) {
            ports.entry(port.number).or_default();
        }
        if let Some(at) = at {
            for port in self.accepts(at).ports.keys() {
                ports.entry(*port).or_default();
            }
        }
        let ingress = self.sidecars.of(workload).map(|sidecar| sidecar.ingress.as_slice()).unwrap_or_default();
        if !ingress.is_empty() {
            ports.values_mut().for_each(|known| known.protocol = None);
            for listener in ingress.iter().filter(|listener| listener.protocol != AppProtocol::Udp) {
                ports.entry(listener.number).or_default().protocol = Some(listener.protocol);
            }
        }
        ports
    }

    /// Whether a port of a workload is declared HTTP.
    pub(crate) fn is_http(&self, workload: &Workload, port: u16) -> bool {
        let known = self.known_ports(workload);
        known.get(&port).is_some_and(|known| matches!(known.protocol, Some(AppProtocol::Http | AppProtocol::Http2)))
    }
}
