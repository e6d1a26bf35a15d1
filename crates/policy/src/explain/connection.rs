//! The decision for one connection.

use mutua_model::{ClientTlsMode, Labels, MtlsMode, OutboundPolicy};
use serde::{Deserialize, Serialize};

use super::endpoints::without_sidecar;
use super::target::{Target, split};
use super::workload::ServerFirst;
use crate::client::ClientDecision;
use crate::engine::{Engine, QueryError};
use crate::outcome::Outcome;
use crate::service::Service;
use crate::trace::Step;
use crate::workload::Workload;

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
    /// Why: what the client's side looked at, in order, then the receiving sides.
    pub trace: Vec<Step>,
    /// What the client shows, when it uses its certificate of the mesh.
    #[serde(default, rename = "clientIdentity", skip_serializing_if = "Option::is_none")]
    pub client_identity: Option<String>,
    /// What can be done about connections that fail or are in clear.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub help: Vec<String>,
}

impl ConnectionAnswer {
    /// The same where the control plane's own compliance policy, which its input need not name, refuses all but TLS 1.3.
    #[must_use]
    pub fn with_tls_1_3_only(mut self) -> Self {
        for version in self.endpoints.iter_mut().filter_map(|endpoint| endpoint.minimum_version.as_mut()) {
            "TLSV1_3".clone_into(version);
        }
        self
    }
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
    /// What is sent to it: `mtls`, `tls` or `plaintext`.
    #[serde(default = "in_clear")]
    pub sent: Outcome,
    /// What it shows, if it answers mutual TLS.
    #[serde(default)]
    pub identity: Option<String>,
    /// The least version of TLS that its sidecar accepts (`TLSV1_2`), where mutual TLS is agreed on.
    #[serde(default)]
    pub minimum_version: Option<String>,
    /// What becomes of a connection to it.
    pub connection: Outcome,
    /// Why that becomes of it.
    pub reason: String,
    /// The steps of the trace that tell what it accepts, by position.
    #[serde(default)]
    pub because: Vec<usize>,
    /// Its server speaks first on that port, as its sidecar has learned. No rule: only a control plane that hears of it
    /// fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_first: Option<ServerFirst>,
}

fn in_clear() -> Outcome {
    Outcome::Plaintext
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
        let target = self.target(client, &host, port)?;
        let mut answer = match &target {
            Target::Service { service, position, only } if client.sidecar => {
                let (decision, labels) = self.decision(client, service, *position, subset)?;
                self.to_service(decision, service, (*position, *only), labels.as_ref())
            }
            Target::Service { service, position, only } => {
                let decision = ClientDecision::plaintext(true, vec![without_sidecar()]);
                let mut answer = self.to_service(decision, service, (*position, *only), None);
                answer.client.sidecar = false;
                answer
            }
            Target::Hidden { service, position } => {
                let decision = ClientDecision::plaintext(false, vec![self.hidden(client, service)]);
                self.restrict(client, self.to_service(decision, service, (*position, None), None))
            }
            Target::Direct { workload } => self.restrict(client, self.to_workload(client, *workload, port)),
            Target::Unknown => {
                let step = if client.sidecar {
                    Step::of_default("client.unknown", format!("{host} is no service of the mesh: an unknown destination"))
                } else {
                    without_sidecar()
                };
                let answer = self.answer(ClientDecision::plaintext(false, vec![step]), Vec::new(), Vec::new());
                self.restrict(client, ConnectionAnswer { outcome: Outcome::Plaintext, ..answer })
            }
        };
        if answer.client.tls == ClientTlsMode::IstioMutual {
            answer.client_identity = Some(self.identity_of(&client.namespace, &client.service_account));
        }
        answer.help = self.help(client, &target, &answer);
        Ok(answer)
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
        let mut trace = self.search(client, service, rule);
        trace.append(&mut decision.trace);
        decision.trace = trace;
        let labels = subset.and_then(|name| rule?.subset(name)).map(|subset| subset.value.labels.clone());
        Ok((decision, labels))
    }

    /// Unknown destinations are refused where only the registry counts.
    fn restrict(&self, client: &Workload, mut answer: ConnectionAnswer) -> ConnectionAnswer {
        answer.client.sidecar = client.sidecar;
        if !client.sidecar || self.outbound_policy(client) == OutboundPolicy::AllowAny {
            return answer;
        }
        const REFUSED: &str = "REGISTRY_ONLY: unknown destinations are refused";
        for endpoint in &mut answer.endpoints {
            endpoint.connection = Outcome::Refused;
            endpoint.reason = REFUSED.to_owned();
        }
        answer.outcome = Outcome::Refused;
        let own = self.sidecars.of(client).filter(|sidecar| sidecar.outbound_policy.is_some());
        let config = &self.mesh().config;
        let rule = "outbound-traffic-policy";
        answer.trace.push(match (own, &config.from) {
            (Some(sidecar), _) => Step::of(rule, &sidecar.meta, "spec/outboundTrafficPolicy/mode", REFUSED),
            (None, Some(meta)) => Step::of(rule, meta, &format!("{}/outboundTrafficPolicy/mode", config.path), REFUSED),
            (None, None) => Step::of_default(rule, REFUSED),
        });
        answer
    }

    /// Why a client's sidecar does not know a service.
    fn hidden(&self, client: &Workload, service: &Service) -> Step {
        let unknown = format!("for {} it is an unknown destination", client.full_name());
        let exported = crate::visibility::exported(service, &client.namespace);
        let egress = self.sidecars.of(client).filter(|sidecar| exported && sidecar.egress.is_some());
        if let Some(sidecar) = egress {
            let effect = format!("none of its egress hosts is {}/{}: {unknown}", service.namespace, service.host);
            return Step::of("client.hidden", &sidecar.meta, "spec/egress", effect);
        }
        if exported {
            let effect = format!("another service of host {} counts here, without this port: {unknown}", service.host);
            return Step::of("client.hidden", &service.meta, "spec/hosts", effect);
        }
        let path = if service.entry { "spec/exportTo" } else { "metadata/annotations/networking.istio.io/exportTo" };
        let to = service.export_to.join(", ");
        Step::of("client.hidden", &service.meta, path, format!("{} is exported to {to} only: {unknown}", service.host))
    }
}
