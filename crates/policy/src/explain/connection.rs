//! The decision for one connection.

use mutua_model::{AppProtocol, ClientTlsMode, Labels, MtlsMode, OutboundPolicy};
use serde::{Deserialize, Serialize};

use super::target::{Target, split};
use crate::client::ClientDecision;
use crate::endpoint::Transport;
use crate::engine::{Engine, QueryError};
use crate::outcome::{Outcome, Server, outcome};
use crate::service::{self, Endpoint, Service};
use crate::trace::Step;
use crate::workload::{self, Workload};

/// A connection to be explained.
#[derive(Clone, Debug)]
pub struct ConnectionQuery {
    /// The client: `NAMESPACE/NAME` or `KIND/NAMESPACE/NAME`.
    pub from: String,
    /// `HOST:PORT`; the port is the Service's.
    pub to: String,
    /// A subset of the DestinationRule.
    pub subset: Option<String>,
}

/// The decision, in the form of `mutua explain -o json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionAnswer {
    /// What the client's side decides.
    pub client: ClientAnswer,
    /// What becomes of it at each endpoint.
    pub endpoints: Vec<EndpointAnswer>,
    /// What becomes of it in all.
    pub outcome: Outcome,
    /// Why.
    pub trace: Vec<Step>,
}

/// The client's side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientAnswer {
    /// Whether the client has a sidecar.
    pub sidecar: bool,
    /// What is sent.
    pub tls: ClientTlsMode,
    /// Whether auto mTLS chose it.
    pub auto: bool,
    /// Server name, when one is sent.
    pub sni: Option<String>,
    /// Names of which the server must show one.
    pub subject_alt_names: Vec<String>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointAnswer {
    /// `NAMESPACE/NAME`; null for an address that is no workload.
    pub workload: Option<String>,
    /// Its address; null for a controller.
    pub address: Option<String>,
    /// Its port.
    pub port: u16,
    /// Whether it has a sidecar.
    pub sidecar: bool,
    /// What its sidecar accepts on that port; null without one.
    pub server_mode: Option<MtlsMode>,
    /// What becomes of a connection to it.
    pub connection: Outcome,
    /// Why that becomes of it.
    pub reason: String,
}

impl Engine {
    /// The decision for one connection.
    ///
    /// # Errors
    /// A client, port or subset that is not there, or a text that is no `HOST:PORT`.
    pub fn explain_connection(&self, query: &ConnectionQuery) -> Result<ConnectionAnswer, QueryError> {
        let client = self.workload(&query.from)?;
        let (host, port) = split(&query.to)?;
        let subset = query.subset.as_deref().filter(|name| !name.is_empty());
        match self.target(client, &host, port)? {
            Target::Service { service, position, only } if client.sidecar => {
                let (decision, labels) = self.decision(client, service, position, subset)?;
                Ok(self.to_service(decision, service, (position, only), labels.as_ref()))
            }
            Target::Service { service, position, only } => {
                let step = Step::of_default(
                    "client.no-sidecar",
                    "the client has no sidecar: it sends what it sends, no rule is evaluated",
                );
                let mut answer = self.to_service(ClientDecision::plaintext(true, vec![step]), service, (position, only), None);
                answer.client.sidecar = false;
                Ok(answer)
            }
            Target::Hidden { service, position } => {
                let effect = format!("{} is not visible to {}: an unknown destination", service.host, client.full_name());
                let step = Step::of("client.hidden", &service.meta, "spec/exportTo", effect);
                Ok(self.restrict(
                    client,
                    self.to_service(ClientDecision::plaintext(false, vec![step]), service, (position, None), None),
                ))
            }
            Target::Direct { workload } => Ok(self.restrict(client, self.to_workload(client, workload, port))),
            Target::Unknown => {
                let step =
                    Step::of_default("client.unknown", format!("{host} is no service of the mesh: passed through as it is"));
                let answer = self.answer(ClientDecision::plaintext(false, vec![step]), Vec::new());
                Ok(self.restrict(client, ConnectionAnswer { outcome: Outcome::Plaintext, ..answer }))
            }
        }
    }

    fn decision(
        &self,
        client: &Workload,
        service: &Service,
        position: usize,
        subset: Option<&str>,
    ) -> Result<(ClientDecision, Option<Labels>), QueryError> {
        let rule = self.rule(client, service);
        if let Some(name) = subset
            && rule.is_none_or(|rule| rule.subset(name).is_none())
        {
            let known: Vec<&str> = rule.iter().flat_map(|rule| &rule.subsets).map(|subset| subset.value.name.as_str()).collect();
            let hint = if known.is_empty() { String::new() } else { format!("; it has {}", known.join(", ")) };
            return Err(QueryError::UnknownSubset { service: service.host.clone(), subset: name.to_owned(), hint });
        }
        let mut decision = self.decide_with_reasons(service, rule, (position, service.ports[position].number), subset);
        decision.trace.extend(self.other_rules(client, service, rule));
        let labels = subset.and_then(|name| rule?.subset(name)).map(|subset| subset.value.labels.clone());
        Ok((decision, labels))
    }

    fn to_service(
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
        let mut trace = Vec::new();
        let endpoints = chosen.map(|(endpoint, port)| self.to_endpoint(&decision, endpoint, port, http, &mut trace)).collect();
        let mut answer = self.answer(decision, endpoints);
        if answer.endpoints.is_empty() {
            trace.push(Step::of("service.no-endpoints", &service.meta, "spec", "no endpoint serves this port"));
        }
        answer.trace.extend(trace);
        answer
    }

    fn to_endpoint(
        &self,
        decision: &ClientDecision,
        endpoint: &Endpoint,
        port: u16,
        http: bool,
        trace: &mut Vec<Step>,
    ) -> EndpointAnswer {
        let sidecar = endpoint.workload.map_or_else(|| workload::is_istio(&endpoint.tls_mode), |at| self.workloads()[at].sidecar);
        let effective = self.endpoint_accepts(endpoint);
        let mode = sidecar.then(|| effective.on(port));
        let http = endpoint.workload.map_or(http, |at| self.is_http(&self.workloads()[at], port));
        let transport = self.transport_to(decision, endpoint, port);
        let (mut connection, mut why) = outcome(transport, &Server { mode, http });
        if connection == Outcome::Mtls && !self.accepts_identity(decision, endpoint) {
            (connection, why) = (Outcome::Refused, "the client's subjectAltNames do not hold the server's identity");
        }
        if sidecar {
            extend(trace, effective.trace_of(port));
        }
        let name = endpoint.workload.map(|at| self.workloads()[at].full_name());
        let shown = name.clone().or_else(|| endpoint.address.clone()).unwrap_or_default();
        extend(trace, vec![Step::of_default("connection", format!("{shown}:{port}: {why}"))]);
        EndpointAnswer {
            workload: name,
            address: endpoint.address.clone(),
            port,
            sidecar,
            server_mode: mode,
            connection,
            reason: why.to_owned(),
        }
    }

    /// Whether a rule's own names, if it has any, allow the identity that the endpoint shows.
    fn accepts_identity(&self, decision: &ClientDecision, endpoint: &Endpoint) -> bool {
        let own = decision.settings.as_ref().is_some_and(|settings| !settings.subject_alt_names.is_empty());
        if !own || decision.mode != ClientTlsMode::IstioMutual {
            return true;
        }
        let account = if endpoint.service_account.is_empty() { "default" } else { &endpoint.service_account };
        let identity = service::identity(&self.mesh().config.trust_domain, &endpoint.namespace, account);
        decision.subject_alt_names.contains(&identity)
    }

    /// A call to a workload's own address: always as the application wrote it.
    fn to_workload(&self, client: &Workload, at: usize, port: u16) -> ConnectionAnswer {
        let (rule, effect) = if client.sidecar {
            ("client.direct", "a workload's own address is no service: passed through as it is")
        } else {
            ("client.no-sidecar", "the client has no sidecar: it sends what it sends, no rule is evaluated")
        };
        let target = &self.workloads()[at];
        let mode = target.sidecar.then(|| self.accepts(at).on(port));
        let (connection, why) = outcome(Transport::Plaintext, &Server { mode, http: self.is_http(target, port) });
        let endpoint = EndpointAnswer {
            workload: Some(target.full_name()),
            address: target.address(),
            port,
            sidecar: target.sidecar,
            server_mode: mode,
            connection,
            reason: why.to_owned(),
        };
        let mut answer = self.answer(ClientDecision::plaintext(false, vec![Step::of_default(rule, effect)]), vec![endpoint]);
        if target.sidecar {
            answer.trace.extend(self.accepts(at).trace_of(port));
        }
        answer.trace.push(Step::of_default("connection", format!("{}:{port}: {why}", target.full_name())));
        answer
    }

    /// Unknown destinations are refused where only the registry counts.
    fn restrict(&self, client: &Workload, mut answer: ConnectionAnswer) -> ConnectionAnswer {
        answer.client.sidecar = client.sidecar;
        if !client.sidecar || self.outbound_policy(client) == OutboundPolicy::AllowAny {
            return answer;
        }
        for endpoint in &mut answer.endpoints {
            endpoint.connection = Outcome::Refused;
            endpoint.reason = "REGISTRY_ONLY: unknown destinations are refused".to_owned();
        }
        answer.outcome = Outcome::Refused;
        answer.trace.push(Step::of_default("outbound-traffic-policy", "REGISTRY_ONLY: unknown destinations are refused"));
        answer
    }

    fn answer(&self, decision: ClientDecision, endpoints: Vec<EndpointAnswer>) -> ConnectionAnswer {
        let outcome = Outcome::of_all(endpoints.iter().map(|endpoint| endpoint.connection));
        let client = ClientAnswer {
            sidecar: true,
            tls: decision.mode,
            auto: decision.auto,
            sni: decision.sni,
            subject_alt_names: decision.subject_alt_names.to_vec(),
        };
        ConnectionAnswer { client, endpoints, outcome, trace: decision.trace }
    }
}

/// Adds steps that are not there yet.
fn extend(trace: &mut Vec<Step>, steps: Vec<Step>) {
    for step in steps {
        if !trace.contains(&step) {
            trace.push(step);
        }
    }
}
