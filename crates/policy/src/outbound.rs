//! What a workload's proxy needs to reach every service its sidecar knows.

use std::collections::BTreeSet;

use mutua_model::{AppProtocol, ClientTls, ClientTlsMode, Resolution};

use crate::client::ClientDecision;
use crate::credential::{Credential, NoCredential};
use crate::endpoint::{Transport, transport};
use crate::engine::Engine;
use crate::service::{Endpoint, Service};
use crate::workload::Workload;

/// How clients of a class reach one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// Its host.
    pub host: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The addresses or prefixes that are captured for it.
    pub addresses: Vec<String>,
    /// The addresses that a host without any was given; captured too.
    pub allocated: Vec<String>,
    /// Its ports.
    pub ports: Vec<DestinationPort>,
    /// The endpoints' own addresses are captured too (headless services).
    pub by_endpoint: bool,
    /// The original address is dialled, whatever it is.
    pub passthrough: bool,
    /// Of a name's addresses one is used at a time (ServiceEntry resolution DNS_ROUND_ROBIN).
    pub one_address: bool,
}

/// One port of it.
#[derive(Clone, Debug, PartialEq)]
pub struct DestinationPort {
    /// The Service port.
    pub port: u16,
    /// Its protocol.
    pub protocol: AppProtocol,
    /// How TLS is originated towards the endpoints that ask for it.
    pub tls: TlsSettings,
    /// The object that decided, `auto-mtls`, or empty.
    pub decided_by: String,
    /// Where it is served.
    pub endpoints: Vec<DestinationEndpoint>,
}

/// How TLS is originated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// What is sent.
    pub mode: ClientTlsMode,
    /// Whether auto mTLS chose it.
    pub auto: bool,
    /// Server name, when one is sent.
    pub sni: Option<String>,
    /// Names of which the server must show one.
    pub subject_alt_names: Vec<String>,
    /// SIMPLE and MUTUAL without SNI and names: both come from the request's Host.
    pub from_host_header: bool,
    /// ISTIO_MUTUAL without names: the server's identity must be of one of these.
    pub trust_domains: Vec<String>,
    /// The rule's files and switches.
    pub files: Option<ClientTls>,
    /// What stands in place of files: contents for a `credentialName`.
    pub credential: Option<Result<Credential, NoCredential>>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationEndpoint {
    /// An IP address or a host name.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// The workload's position in [`Engine::workloads`], when it is one.
    pub workload: Option<usize>,
    /// Whether TLS is used towards it.
    pub tls: bool,
}

impl Engine {
    /// Every service that a workload's sidecar knows, by host.
    #[must_use]
    pub fn destinations(&self, workload: &Workload) -> Vec<Destination> {
        let hosts: BTreeSet<&str> = self.services.iter().map(|service| service.host.as_str()).collect();
        hosts.into_iter().filter_map(|host| self.destination(workload, host)).collect()
    }

    fn destination(&self, client: &Workload, host: &str) -> Option<Destination> {
        let candidates = self.services_of_exact_host(host);
        let numbers: BTreeSet<u16> = candidates.iter().flat_map(|service| service.ports.iter().map(|port| port.number)).collect();
        let known: Vec<_> = numbers.iter().filter_map(|port| Some((*port, self.visible(client, &candidates, *port)?))).collect();
        let (_, service) = known.first().copied()?;
        let rule = self.rule(client, service);
        let of_port = |(port, service): (u16, &Service)| {
            let (position, _) = service.port(port)?;
            let decision = self.decide(service, rule, (position, port), None);
            Some(self.destination_port(service, position, &decision))
        };
        let ports = known.into_iter().filter_map(of_port).collect();
        let passthrough = service.undirected || rule.is_some_and(|rule| crate::destination_rule::tls::is_passthrough(rule, None));
        Some(Destination {
            host: service.host.clone(),
            name: service.name.clone(),
            namespace: service.namespace.clone(),
            addresses: service.addresses.clone(),
            allocated: service.allocated.iter().flat_map(|allocated| allocated.texts()).collect(),
            ports,
            by_endpoint: service.headless,
            passthrough,
            one_address: service.resolution == Some(Resolution::DnsRoundRobin),
        })
    }

    fn destination_port(&self, service: &Service, position: usize, decision: &ClientDecision) -> DestinationPort {
        let port = &service.ports[position];
        let endpoints = service.serving(position).filter_map(|(endpoint, number)| {
            let transport = self.transport_to(decision, endpoint, number);
            let tls = transport != Transport::Plaintext;
            Some(DestinationEndpoint { address: endpoint.address.clone()?, port: number, workload: endpoint.workload, tls })
        });
        let endpoints = endpoints.collect();
        DestinationPort {
            port: port.number,
            protocol: port.protocol,
            tls: self.tls_settings(decision),
            decided_by: decision.decided_by.clone(),
            endpoints,
        }
    }

    pub(crate) fn transport_to(&self, decision: &ClientDecision, endpoint: &Endpoint, port: u16) -> Transport {
        let server = self.endpoint_accepts(endpoint).on(port);
        transport(decision, &endpoint.tls_mode, server)
    }

    fn tls_settings(&self, decision: &ClientDecision) -> TlsSettings {
        if decision.mode == ClientTlsMode::Disable || decision.dropped {
            return TlsSettings::default();
        }
        let mesh = decision.mode == ClientTlsMode::IstioMutual;
        let insecure = decision.settings.as_ref().is_some_and(|settings| settings.insecure_skip_verify);
        TlsSettings {
            mode: decision.mode,
            auto: decision.auto,
            sni: decision.sni.clone(),
            subject_alt_names: decision.subject_alt_names.to_vec(),
            from_host_header: !mesh && !insecure && decision.sni.is_none(),
            trust_domains: if mesh { self.trust_domains() } else { Vec::new() },
            files: if mesh { None } else { decision.settings.clone() },
            credential: decision.credential.clone(),
        }
    }
}
