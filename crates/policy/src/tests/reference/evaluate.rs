//! One connection, step by step: what was dialled, what the client decides (`buildUpstreamTLSSettings`),
//! what that means for each endpoint (`mtlsChecker`), and what the server does with it (its filter chains, and the contract
//! of the command line).

use std::collections::BTreeSet;

use mutua_model::{AppProtocol, ClientTls, ClientTlsMode, Mesh, MtlsMode, OutboundPolicy};

use super::registry::{self, Endpoint, Registered, Unit};
use super::rules::{self, Entry};
use super::{peer, scope};
use crate::Outcome;

/// A question.
pub(super) struct Question<'q> {
    /// `NAMESPACE/NAME`.
    pub(super) from: &'q str,
    /// A host or an address.
    pub(super) to: &'q str,
    pub(super) port: u16,
    pub(super) subset: Option<&'q str>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) tls: ClientTlsMode,
    pub(super) auto: bool,
    pub(super) sni: Option<String>,
    pub(super) names: BTreeSet<String>,
    pub(super) endpoints: BTreeSet<Place>,
    pub(super) outcome: Outcome,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) workload: Option<String>,
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) sidecar: bool,
    pub(super) mode: Option<MtlsMode>,
    pub(super) sent: Outcome,
    pub(super) connection: Outcome,
}

/// The mesh with what is looked up often.
pub(super) struct Reference<'m> {
    mesh: &'m Mesh,
    units: Vec<Unit>,
    services: Vec<Registered>,
}

/// What the client sends, before endpoints are looked at.
struct Sending {
    tls: ClientTlsMode,
    auto: bool,
    settings: ClientTls,
    /// The TLS context is dropped, so all goes out in clear.
    dropped: bool,
    /// One transport for all endpoints.
    original: bool,
    marks: Option<ClientTlsMode>,
}

impl<'m> Reference<'m> {
    pub(super) fn new(mesh: &'m Mesh) -> Self {
        Self { mesh, units: registry::units(mesh), services: registry::services(mesh) }
    }

    /// The answer; `None` when the subset is not declared.
    pub(super) fn connection(&self, question: &Question<'_>) -> Option<Expected> {
        let client = self.units.iter().find(|unit| format!("{}/{}", unit.namespace, unit.name) == question.from)?;
        let scoped = (client.namespace.as_str(), &client.labels);
        let knows = |service: &&Registered| scope::knows(self.mesh, scoped, service, question.port);
        let of_host = |service: &&Registered| service.host == question.to;
        let wild = |service: &&Registered| service.host.strip_prefix('*').is_some_and(|end| question.to.ends_with(end));
        let at = |service: &&Registered| service.addresses.iter().any(|address| address == question.to);
        let services = || self.services.iter();
        if let Some(service) = services().find(of_host).or_else(|| services().find(wild)).or_else(|| services().find(at)) {
            let sidecar = client.tls_mode == "istio";
            return if !sidecar {
                Some(self.in_clear(service, question.port, None))
            } else if knows(&service) {
                self.to_service(client, service, question, None)
            } else {
                Some(self.restricted(client, self.in_clear(service, question.port, None)))
            };
        }
        let unit = self.units.iter().find(|unit| unit.address == question.to);
        let Some(unit) = unit else {
            let nothing = Expected { outcome: Outcome::Plaintext, ..nothing() };
            return Some(self.restricted(client, nothing));
        };
        let mut headless: Vec<&Registered> = services().filter(|service| service.headless && service.serves(unit)).collect();
        headless.sort_by_key(|service| service.age());
        let headless = headless.into_iter().find(|service| service.declares(question.port).is_some() && knows(service));
        match headless {
            Some(service) if client.tls_mode == "istio" => self.to_service(client, service, question, Some(unit)),
            // The contract: a pod's address with a port of a headless service is the service.
            Some(service) => Some(self.in_clear(service, question.port, Some(unit))),
            None => {
                let endpoint = Endpoint::of(unit, Vec::new());
                let place = self.at_endpoint(ClientTlsMode::Disable, &endpoint, question.port, None);
                Some(self.restricted(client, collected(nothing(), vec![place])))
            }
        }
    }

    /// Unknown destinations (PassthroughCluster, BlackHoleCluster): as they are, or refused.
    fn restricted(&self, client: &Unit, mut expected: Expected) -> Expected {
        let policy = scope::outbound_policy(self.mesh, &client.namespace, &client.labels);
        if client.tls_mode == "istio" && policy == OutboundPolicy::RegistryOnly {
            let refused = |place: Place| Place { connection: Outcome::Refused, ..place };
            expected.endpoints = expected.endpoints.into_iter().map(refused).collect();
            expected.outcome = Outcome::Refused;
        }
        expected
    }

    fn in_clear(&self, service: &Registered, port: u16, only: Option<&Unit>) -> Expected {
        let endpoints = service.serving(port).into_iter().filter(|(endpoint, _)| only.is_none_or(|only| endpoint.is(only)));
        let places = endpoints.map(|(endpoint, port)| self.at_endpoint(ClientTlsMode::Disable, &endpoint, port, Some(service)));
        collected(nothing(), places.collect())
    }

    fn to_service(&self, client: &Unit, service: &Registered, question: &Question<'_>, only: Option<&Unit>) -> Option<Expected> {
        let Question { port, subset, .. } = *question;
        let entry = rules::used(self.mesh, (&client.namespace, &client.labels), (&service.host, &service.namespace));
        let labels = match subset {
            Some(name) => entry.as_ref()?.subset(name)?.labels.clone(),
            None => mutua_model::Labels::new(),
        };
        let sending = self.sending(service, entry.as_ref(), port, subset);
        let own_sni = Some(sending.settings.sni.clone()).filter(|sni| !sni.is_empty());
        let own_names: BTreeSet<String> = sending.settings.subject_alt_names.iter().cloned().collect();
        let of_service = || service.names(self.mesh);
        let given = |otherwise: BTreeSet<String>| if own_names.is_empty() { otherwise } else { own_names.clone() };
        let default_sni = || format!("outbound_.{port}_.{}_.{}", subset.unwrap_or_default(), service.host);
        // `applyUpstreamTLSSettings`.
        let (sni, names) = match sending.tls {
            ClientTlsMode::Disable => (None, BTreeSet::new()),
            ClientTlsMode::IstioMutual => (Some(own_sni.unwrap_or_else(default_sni)), given(of_service())),
            ClientTlsMode::Simple | ClientTlsMode::Mutual if service.entry => (own_sni, given(of_service())),
            ClientTlsMode::Simple | ClientTlsMode::Mutual => (own_sni, own_names.clone()),
        };
        let expected = Expected { tls: sending.tls, auto: sending.auto, sni, names, ..nothing() };
        let chosen = service.serving(port).into_iter().filter(|(endpoint, _)| {
            let alone = only.is_none_or(|only| endpoint.is(only));
            alone && super::holds(&endpoint.labels, &labels)
        });
        let places = chosen.map(|(endpoint, number)| {
            let sent = self.sent(&sending, &endpoint, number);
            let mut place = self.at_endpoint(sent, &endpoint, number, Some(service));
            let account = if endpoint.account.is_empty() { "default" } else { &endpoint.account };
            let shown = registry::identity(self.mesh, &endpoint.namespace, account);
            // The names are checked against what the server shows; of an account that is not said, its namespace.
            let possible = |name: &String| match name.split('/').collect::<Vec<_>>()[..] {
                ["spiffe:", "", _, "ns", namespace, "sa", _] => namespace == endpoint.namespace,
                _ => false,
            };
            let fits = if own_names.is_empty() && endpoint.account.is_empty() {
                expected.names.is_empty() || expected.names.iter().any(possible)
            } else {
                own_names.is_empty() || own_names.contains(&shown)
            };
            let checks = sending.tls == ClientTlsMode::IstioMutual && !fits;
            if place.connection == Outcome::Mtls && checks {
                place.connection = Outcome::Refused;
            }
            place
        });
        let places = places.collect();
        Some(collected(expected, places))
    }

    /// `buildUpstreamTLSSettings`.
    fn sending(&self, service: &Registered, entry: Option<&Entry>, port: u16, subset: Option<&str>) -> Sending {
        let tls = entry.and_then(|entry| entry.of_cluster(port, subset));
        let original = service.passthrough || entry.is_some_and(|entry| entry.dials_original(port, subset));
        let marks = entry.and_then(|entry| entry.of_endpoint(port, subset));
        let plain =
            Sending { tls: ClientTlsMode::Disable, auto: false, settings: ClientTls::default(), dropped: false, original, marks };
        if let Some(settings) = tls {
            let outside = matches!(settings.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
            let credential = !settings.credential_name.is_empty() && !settings.credential_name.starts_with("configmap://");
            let dropped = outside && credential && entry.is_some_and(|entry| entry.selector.is_none());
            return Sending { tls: settings.mode, dropped, settings, ..plain };
        }
        if service.external || !self.mesh.config.enable_auto_mtls {
            return plain;
        }
        if service.passthrough || entry.is_some_and(|entry| entry.asks_every_endpoint(subset)) {
            let endpoints = service.serving(port);
            if endpoints.is_empty() || endpoints.iter().any(|(endpoint, _)| endpoint.tls_mode == "disabled") {
                return plain;
            }
        }
        if peer::hint(self.mesh, &service.namespace) == MtlsMode::Disable {
            return plain;
        }
        Sending { tls: ClientTlsMode::IstioMutual, auto: true, ..plain }
    }

    /// `mtlsChecker` and the socket matches: what is sent to one endpoint.
    fn sent(&self, sending: &Sending, endpoint: &Endpoint, port: u16) -> ClientTlsMode {
        if sending.dropped {
            return ClientTlsMode::Disable;
        }
        if !sending.auto || sending.original {
            return sending.tls;
        }
        let enabled = match sending.marks {
            Some(mode) => mode == ClientTlsMode::IstioMutual,
            None if endpoint.tls_mode != "istio" => false,
            None => peer::accepts(self.mesh, &endpoint.namespace, &endpoint.labels, Some(port)) != MtlsMode::Disable,
        };
        let marked = enabled && !["", "disabled"].contains(&endpoint.tls_mode.as_str());
        // The first socket match wants exactly `istio`; all else is raw.
        if marked && endpoint.tls_mode == "istio" { ClientTlsMode::IstioMutual } else { ClientTlsMode::Disable }
    }

    /// What becomes of it there.
    fn at_endpoint(&self, sent: ClientTlsMode, endpoint: &Endpoint, port: u16, service: Option<&Registered>) -> Place {
        let sidecar = endpoint.tls_mode == "istio";
        let mode = sidecar.then(|| peer::accepts(self.mesh, &endpoint.namespace, &endpoint.labels, Some(port)));
        let declared = match &endpoint.unit {
            Some(unit) => registry::declared(self.mesh, &self.services, unit, port),
            None => service
                .and_then(|service| service.ports.iter().zip(&endpoint.ports).find(|(_, number)| **number == Some(port)))
                .map_or(AppProtocol::Auto, |(declared, _)| declared.protocol),
        };
        let http = matches!(declared, AppProtocol::Http | AppProtocol::Http2);
        Place {
            workload: endpoint.unit.as_ref().map(|unit| format!("{}/{}", unit.namespace, unit.name)),
            address: endpoint.address.clone(),
            port,
            sidecar,
            mode,
            sent: match sent {
                ClientTlsMode::Disable => Outcome::Plaintext,
                ClientTlsMode::Simple => Outcome::Tls,
                ClientTlsMode::Mutual | ClientTlsMode::IstioMutual => Outcome::Mtls,
            },
            connection: becomes(sent, mode, http),
        }
    }

    /// The hosts and ports that the sidecar of a client knows.
    pub(super) fn known(&self, from: &str) -> BTreeSet<(String, u16)> {
        let client = self.units.iter().find(|unit| format!("{}/{}", unit.namespace, unit.name) == from).expect("generated");
        let scoped = (client.namespace.as_str(), &client.labels);
        let all = self.services.iter().flat_map(|service| service.ports.iter().map(move |port| (service, port.number)));
        let known = all.filter(|(service, port)| scope::knows(self.mesh, scoped, service, *port));
        known.map(|(service, port)| (service.host.clone(), port)).collect()
    }

    /// What a workload accepts: its mode, and that of a port.
    pub(super) fn workload(&self, name: &str, port: Option<u16>) -> MtlsMode {
        let unit = self.units.iter().find(|unit| format!("{}/{}", unit.namespace, unit.name) == name).expect("generated");
        peer::accepts(self.mesh, &unit.namespace, &unit.labels, port)
    }

    /// Ports of a workload that must be known: of the services that select it, and those with a mode of their own.
    pub(super) fn ports(&self, name: &str) -> BTreeSet<u16> {
        let unit = self.units.iter().find(|unit| format!("{}/{}", unit.namespace, unit.name) == name).expect("generated");
        let serving = self.services.iter().flat_map(|service| &service.endpoints);
        let own = serving.filter(|endpoint| endpoint.is(unit));
        let of_services = own.flat_map(|endpoint| endpoint.ports.iter().flatten().copied());
        of_services.chain(peer::ports_of(self.mesh, &unit.namespace, &unit.labels)).collect()
    }
}

/// The inbound filter chains, as far as a connection is concerned.
fn becomes(sent: ClientTlsMode, mode: Option<MtlsMode>, http: bool) -> Outcome {
    use ClientTlsMode::{Disable, IstioMutual, Mutual, Simple};
    match (sent, mode) {
        (Disable, None | Some(MtlsMode::Disable | MtlsMode::Permissive)) => Outcome::Plaintext,
        (Disable, Some(MtlsMode::Strict)) => Outcome::Refused,
        (IstioMutual, None | Some(MtlsMode::Disable)) => Outcome::Refused,
        (IstioMutual, Some(MtlsMode::Permissive | MtlsMode::Strict)) => Outcome::Mtls,
        (Simple | Mutual, None) => Outcome::Tls,
        (Mutual, Some(MtlsMode::Strict)) => Outcome::Mtls,
        (Simple, Some(MtlsMode::Strict)) => Outcome::Refused,
        (Simple | Mutual, Some(MtlsMode::Disable | MtlsMode::Permissive)) if http => Outcome::Refused,
        (Simple | Mutual, Some(MtlsMode::Disable | MtlsMode::Permissive)) => Outcome::Tls,
    }
}

fn nothing() -> Expected {
    Expected {
        tls: ClientTlsMode::Disable,
        auto: false,
        sni: None,
        names: BTreeSet::new(),
        endpoints: BTreeSet::new(),
        outcome: Outcome::Refused,
    }
}

fn collected(expected: Expected, places: Vec<Place>) -> Expected {
    let outcomes: BTreeSet<Outcome> = places.iter().map(|place| place.connection).collect();
    let outcome = match outcomes.iter().collect::<Vec<_>>()[..] {
        [] => Outcome::Refused,
        [only] => *only,
        _ => Outcome::Mixed,
    };
    Expected { endpoints: places.into_iter().collect(), outcome, ..expected }
}
