//! What becomes of a connection at each endpoint.

use std::collections::HashMap;

use mutua_model::{AppProtocol, ClientTlsMode, Labels, TlsVersion};

use super::connection::{ClientAnswer, ConnectionAnswer, EndpointAnswer};
use crate::client::ClientDecision;
use crate::endpoint::Transport;
use crate::engine::Engine;
use crate::outcome::{Outcome, Server, outcome};
use crate::service::{self, Endpoint, Service};
use crate::trace::Step;
use crate::workload::Workload;

/// The step of a client without a sidecar.
pub(super) fn without_sidecar() -> Step {
    Step::of_default("client.no-sidecar", "the client has no sidecar: it sends what it sends, and no rule is evaluated")
}

/// Steps, each once.
#[derive(Default)]
struct Trace {
    steps: Vec<Step>,
    /// Where each stands.
    places: HashMap<Step, usize>,
}

impl Trace {
    /// Adds steps that are not there yet; returns where all of them stand.
    fn extend(&mut self, steps: Vec<Step>) -> Vec<usize> {
        let mut positions = Vec::with_capacity(steps.len());
        for step in steps {
            let next = self.steps.len();
            let at = *self.places.entry(step).or_insert_with_key(|step| {
                self.steps.push(step.clone());
                next
            });
            positions.push(at);
        }
        positions
    }
}

impl Engine {
    pub(super) fn to_service(
        &self,
        decision: ClientDecision,
        service: &Service,
        (position, only): (usize, Option<usize>),
        labels: Option<&Labels>,
    ) -> ConnectionAnswer {
        let chosen = service.serving(position).filter(|(endpoint, _)| {
            let alone = only.is_none_or(|only| endpoint.workload == Some(only));
            alone && labels.is_none_or(|labels| labels.iter().all(|(key, value)| endpoint.labels.get(key) == Some(value)))
        });
        let http = matches!(service.ports[position].protocol, AppProtocol::Http | AppProtocol::Http2);
        let mut trace = Trace::default();
        let endpoints: Vec<_> =
            chosen.map(|(endpoint, port)| self.to_endpoint(&decision, (endpoint, port), http, &mut trace)).collect();
        if endpoints.is_empty() {
            let effect = format!("no endpoint serves port {}", service.ports[position].number);
            trace.extend(vec![Step::of("service.no-endpoints", &service.meta, "spec/selector", effect)]);
        }
        self.answer(decision, endpoints, trace.steps)
    }

    fn to_endpoint(
        &self,
        decision: &ClientDecision,
        (endpoint, port): (&Endpoint, u16),
        http: bool,
        trace: &mut Trace,
    ) -> EndpointAnswer {
        let sidecar = self.has_sidecar(endpoint);
        let effective = self.endpoint_accepts(endpoint);
        let mode = sidecar.then(|| effective.on(port));
        let http = endpoint.workload.map_or(http, |at| self.is_http(&self.workloads()[at], port));
        let transport = self.transport_to(decision, endpoint, port);
        let (mut connection, mut why) = outcome(transport, &Server { mode, http });
        let identity = self.identity_of(&endpoint.namespace, &endpoint.service_account);
        if connection == Outcome::Mtls && !accepts_identity(decision, endpoint, &identity) {
            (connection, why) = (Outcome::Refused, "the client's subjectAltNames do not hold the server's identity");
        }
        why = against_its_decision(decision, transport, connection).unwrap_or(why);
        let because = if sidecar { trace.extend(effective.trace_of(port)) } else { Vec::new() };
        let name = endpoint.workload.map(|at| self.workloads()[at].full_name());
        let shown = name.clone().or_else(|| endpoint.address.clone()).unwrap_or_default();
        trace.extend(vec![Step::of_default("connection", format!("{shown}:{port}: {why}"))]);
        EndpointAnswer {
            workload: name,
            address: endpoint.address.clone(),
            port,
            sidecar,
            server_mode: mode,
            sent: sent(transport),
            identity: (connection == Outcome::Mtls || (sidecar && transport == Transport::IstioMutual)).then_some(identity),
            minimum_version: (connection == Outcome::Mtls).then(|| self.minimum_version().to_owned()),
            connection,
            reason: why.to_owned(),
            because,
            server_first: None,
        }
    }

    fn minimum_version(&self) -> &'static str {
        match self.mesh().config.least_tls() {
            TlsVersion::V1_2 => "TLSV1_2",
            TlsVersion::V1_3 => "TLSV1_3",
        }
    }

    /// The identity of what runs as an account; nothing said is `default`.
    pub(super) fn identity_of(&self, namespace: &str, account: &str) -> String {
        let account = if account.is_empty() { "default" } else { account };
        service::identity(&self.mesh().config.trust_domain, namespace, account)
    }

    /// A call to a workload's own address: always as the application wrote it.
    pub(super) fn to_workload(&self, client: &Workload, at: usize, port: u16) -> ConnectionAnswer {
        let target = &self.workloads()[at];
        let step = if client.sidecar {
            let effect =
                format!("the own address of {} is no service: what is sent to it is passed on as it is", target.full_name());
            Step::of_default("client.direct", effect)
        } else {
            without_sidecar()
        };
        let mode = target.sidecar.then(|| self.accepts(at).on(port));
        let (connection, why) = outcome(Transport::Plaintext, &Server { mode, http: self.is_http(target, port) });
        let mut trace = Trace::default();
        let because = if target.sidecar { trace.extend(self.accepts(at).trace_of(port)) } else { Vec::new() };
        trace.extend(vec![Step::of_default("connection", format!("{}:{port}: {why}", target.full_name()))]);
        let endpoint = EndpointAnswer {
            workload: Some(target.full_name()),
            address: target.address(),
            port,
            sidecar: target.sidecar,
            server_mode: mode,
            sent: Outcome::Plaintext,
            identity: None,
            minimum_version: None,
            connection,
            reason: why.to_owned(),
            because,
            server_first: None,
        };
        self.answer(ClientDecision::plaintext(false, vec![step]), vec![endpoint], trace.steps)
    }

    /// The answer; `trace` is what was said of the endpoints.
    pub(super) fn answer(
        &self,
        decision: ClientDecision,
        mut endpoints: Vec<EndpointAnswer>,
        trace: Vec<Step>,
    ) -> ConnectionAnswer {
        let outcome = Outcome::of_all(endpoints.iter().map(|endpoint| endpoint.connection));
        let client = ClientAnswer {
            sidecar: true,
            tls: decision.mode,
            auto: decision.auto,
            sni: decision.sni,
            subject_alt_names: decision.subject_alt_names.to_vec(),
        };
        // The client's steps come first.
        let first = decision.trace.len();
        endpoints.iter_mut().flat_map(|endpoint| &mut endpoint.because).for_each(|position| *position += first);
        let trace = decision.trace.into_iter().chain(trace).collect();
        ConnectionAnswer { client, endpoints, outcome, trace, client_identity: None, help: Vec::new() }
    }
}

/// Why plaintext is sent although the rule says something else, where the server is not the cause.
fn against_its_decision(decision: &ClientDecision, transport: Transport, connection: Outcome) -> Option<&'static str> {
    let marked_off = decision.auto && decision.endpoint_mode.is_some_and(|mode| mode != ClientTlsMode::IstioMutual);
    if transport != Transport::Plaintext || connection == Outcome::Refused {
        return None;
    }
    if decision.dropped {
        return Some("the TLS settings are dropped: credentialName counts for sidecars only in a rule with workloadSelector");
    }
    marked_off.then_some("the rule's outer tls mode marks the endpoint as one without mutual TLS")
}

fn sent(transport: Transport) -> Outcome {
    match transport {
        Transport::Plaintext => Outcome::Plaintext,
        Transport::Simple => Outcome::Tls,
        Transport::Mutual | Transport::IstioMutual => Outcome::Mtls,
    }
}

/// Whether the names that the client asks for allow what the endpoint shows. The accounts of a service's endpoints are among
/// its names; of an endpoint that does not say its account only the namespace is known.
fn accepts_identity(decision: &ClientDecision, endpoint: &Endpoint, identity: &String) -> bool {
    let names = &decision.subject_alt_names;
    if decision.mode != ClientTlsMode::IstioMutual || names.is_empty() {
        return true;
    }
    if decision.settings.as_ref().is_some_and(|settings| !settings.subject_alt_names.is_empty()) {
        return names.contains(identity);
    }
    if !endpoint.service_account.is_empty() {
        return true;
    }
    let account = format!("/ns/{}/sa/", endpoint.namespace);
    names.iter().any(|name| name.starts_with("spiffe://") && name.contains(&account))
}
