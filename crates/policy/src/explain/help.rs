//! What can be done about a connection that fails or is in clear, by what decided it.

use mutua_model::{ClientTlsMode, MtlsMode};

use super::connection::{ConnectionAnswer, EndpointAnswer};
use super::target::Target;
use crate::client::CREDENTIAL_MISSING;
use crate::engine::Engine;
use crate::outcome::Outcome;
use crate::service::Service;
use crate::trace::{Step, Verdict};
use crate::workload::Workload;

impl Engine {
    /// One sentence for each kind of trouble at the endpoints.
    pub(super) fn help(&self, client: &Workload, target: &Target<'_>, answer: &ConnectionAnswer) -> Vec<String> {
        let mut help: Vec<String> = Vec::new();
        if answer.endpoints.is_empty() {
            help.extend(self.without_endpoints(target, answer));
        }
        let service = match target {
            Target::Service { service, .. } | Target::Hidden { service, .. } => Some(*service),
            Target::Direct { .. } | Target::Unknown => None,
        };
        for endpoint in &answer.endpoints {
            let sentence = match (endpoint.sent, endpoint.connection) {
                (_, Outcome::Mtls) => None,
                _ if step(answer, "outbound-traffic-policy").is_some() => Some(registered(target, answer)),
                (Outcome::Plaintext, _) if !endpoint.sidecar && (answer.client.auto || !answer.client.sidecar) => {
                    bare(client, endpoint)
                }
                (Outcome::Plaintext, _) => self.in_clear(client, target, answer, endpoint),
                (_, Outcome::Refused) => refused(service, answer, endpoint),
                _ => None,
            };
            help.extend(sentence.filter(|sentence| !help.contains(sentence)));
            help.extend(self.wrong_port(service, endpoint).filter(|sentence| !help.contains(sentence)));
        }
        help.extend(step(answer, CREDENTIAL_MISSING).map(|step| credential_for(&step.object)));
        help
    }

    fn without_endpoints(&self, target: &Target<'_>, answer: &ConnectionAnswer) -> Option<String> {
        if step(answer, "outbound-traffic-policy").is_some() {
            return Some(registered(target, answer));
        }
        let Target::Service { service, .. } = target else { return None };
        Some(match service.endpoints.is_empty() {
            true => format!("no workload has the labels that {} selects", service.meta.object),
            false => format!("the workloads behind {} do not serve this port: compare targetPort", service.meta.object),
        })
    }

    /// Why plaintext is sent, turned into what would make it mutual TLS.
    fn in_clear(
        &self,
        client: &Workload,
        target: &Target<'_>,
        answer: &ConnectionAnswer,
        endpoint: &EndpointAnswer,
    ) -> Option<String> {
        let server = name(endpoint);
        let host = match target {
            Target::Service { service, .. } | Target::Hidden { service, .. } => service.host.as_str(),
            Target::Direct { .. } | Target::Unknown => "",
        };
        let rule_of = |rule: &str| step(answer, rule).map(|step| step.object.clone());
        if !answer.client.sidecar {
            let meanwhile = match endpoint.server_mode {
                Some(MtlsMode::Strict) => {
                    format!("; until then only PERMISSIVE lets it reach port {} of {server}", endpoint.port)
                }
                _ => String::new(),
            };
            return Some(format!("give {} a sidecar{meanwhile}", client.full_name()));
        }
        if let Target::Direct { workload } = target {
            let (service, _) = self.services_of(*workload).next()?;
            return Some(format!("call the service instead of the pod: {}", service.host));
        }
        if let Some(hidden) = step(answer, "client.hidden") {
            let service = host.split('.').next().unwrap_or_default();
            return Some(match hidden.object.starts_with("Sidecar") {
                true => format!("add \"{}/*\" to the egress hosts of {}", namespace(host), hidden.object),
                false => format!("export {service} to namespace {} too", client.namespace),
            });
        }
        if let Some(rule) = rule_of("destination-rule.credential-name") {
            return Some(format!(
                "give {rule} a workloadSelector for the client, or name files below the sidecar's --tls-dir instead of credentialName"
            ));
        }
        if let Some(rule) = rule_of("destination-rule.tls") {
            return Some(format!("set mode: ISTIO_MUTUAL in {rule}, or remove its tls so that automatic mTLS decides"));
        }
        if let Some(rule) = rule_of("destination-rule.endpoints") {
            return Some(format!("write tls into the port's own entry of {rule}"));
        }
        self.without_rule(answer, endpoint, host)
    }

    /// No rule sets tls: what keeps automatic mTLS from it.
    fn without_rule(&self, answer: &ConnectionAnswer, endpoint: &EndpointAnswer, host: &str) -> Option<String> {
        let hides = self.hiding(answer);
        if step(answer, "auto-mtls.off").is_some() {
            return Some(hides.unwrap_or_else(|| {
                format!("set meshConfig.enableAutoMtls: true, or add a DestinationRule for {host} with mode: ISTIO_MUTUAL")
            }));
        }
        if step(answer, "auto-mtls.passthrough").is_some() {
            let bare = answer.endpoints.iter().find(|endpoint| !endpoint.sidecar).map_or_else(String::new, name);
            return Some(format!(
                "give {bare} a sidecar: the endpoints are dialled by their own addresses, and all get the same"
            ));
        }
        if let Some(external) = step(answer, "service-entry.external") {
            let inside = format!("set location: MESH_INTERNAL in {} if it is of the mesh", external.object);
            return Some(format!("{inside}, or add a DestinationRule for {host} with mode: SIMPLE"));
        }
        let judged = ["auto-mtls.namespace", "auto-mtls.mesh"].iter().find_map(|rule| step(answer, rule));
        if let Some(policy) = judged.filter(|_| !answer.client.auto) {
            return Some(format!(
                "clients judge by {}, not by the workload's policy: set it to PERMISSIVE, or add a DestinationRule for {host} with mode: ISTIO_MUTUAL",
                policy.object
            ));
        }
        let policy = endpoint.because.iter().rev().map(|at| &answer.trace[*at]).find(|step| step.verdict == Verdict::Decided)?;
        let disabled = endpoint.server_mode == Some(MtlsMode::Disable);
        disabled.then(|| format!("set {} to PERMISSIVE, and {} is called with mutual TLS", policy.object, name(endpoint)))
    }

    /// A rule that is used sets no tls, and one that it hides does.
    fn hiding(&self, answer: &ConnectionAnswer) -> Option<String> {
        let used = step(answer, "destination-rule.used")?;
        let hidden = answer.trace.iter().find(|step| {
            let sets_tls = |object: &str| {
                let rules = self.mesh().destination_rules.iter().filter(|rule| rule.meta.object.to_string() == object);
                rules.filter_map(|rule| rule.policy.as_ref()).any(|policy| policy.tls.is_some())
            };
            matches!(&*step.rule, "destination-rule.not-used" | "destination-rule.merged") && sets_tls(&step.object)
        })?;
        Some(format!("write the tls of {} into {}, which is used instead of it", hidden.object, used.object))
    }

    /// `portLevelMtls` with the number of the Service's port.
    fn wrong_port(&self, service: Option<&Service>, endpoint: &EndpointAnswer) -> Option<String> {
        let at = self.position(endpoint.workload.as_deref()?).ok()?;
        let effective = self.accepts(at);
        let service = service?;
        let (written, _) = service
            .ports
            .iter()
            .zip(&service.endpoints.iter().find(|one| one.workload == Some(at))?.ports)
            .find(|(declared, target)| **target == Some(endpoint.port) && declared.number != endpoint.port)?;
        let (_, (policy, _)) = effective.ports.iter().find_map(|(port, (mode, by))| {
            let by = by.as_ref().filter(|_| *port == written.number && !effective.ports.contains_key(&endpoint.port))?;
            Some((mode, by))
        })?;
        Some(format!(
            "portLevelMtls of {} says {}, which is the Service's port; the workload's is {}",
            policy.meta.object, written.number, endpoint.port
        ))
    }
}

/// TLS that the other side does not take.
fn refused(service: Option<&Service>, answer: &ConnectionAnswer, endpoint: &EndpointAnswer) -> Option<String> {
    let (rule, server) = (step(answer, "destination-rule.tls"), name(endpoint));
    let host = service.map_or("", |service| &service.host);
    match (rule, endpoint.server_mode) {
        (Some(rule), _) if answer.client.tls != ClientTlsMode::IstioMutual => {
            Some(format!("set mode: ISTIO_MUTUAL in {}: {server} has a sidecar", rule.object))
        }
        (Some(rule), None) => Some(format!(
            "give {server} a sidecar, or remove tls from {} so that automatic mTLS decides per endpoint, or add a DestinationRule for {host} with mode: DISABLE",
            rule.object
        )),
        (Some(_), Some(MtlsMode::Disable)) | (None, Some(MtlsMode::Disable)) => {
            Some(format!("let {server} accept mutual TLS: a PeerAuthentication with mode: PERMISSIVE"))
        }
        (Some(rule), Some(_)) => {
            let identity = endpoint.identity.as_deref().unwrap_or_default();
            Some(format!(
                "{server} shows {identity}: name it in subjectAltNames of {}, or correct its service account",
                rule.object
            ))
        }
        (None, _) => None,
    }
}

fn bare(client: &Workload, endpoint: &EndpointAnswer) -> Option<String> {
    let server = name(endpoint);
    Some(match client.sidecar {
        true => format!("give {server} a sidecar"),
        false => format!("give {} and {server} sidecars", client.full_name()),
    })
}

fn credential_for(rule: &str) -> String {
    format!("write what credentialName of {rule} names, or name files below the sidecar's --tls-dir instead")
}

fn registered(target: &Target<'_>, answer: &ConnectionAnswer) -> String {
    let policy = step(answer, "outbound-traffic-policy").map(|step| step.object.as_str()).unwrap_or_default();
    match (target, step(answer, "client.hidden")) {
        (_, Some(hidden)) => format!("let {} show the service to the client", hidden.object),
        (Target::Direct { .. }, _) => "call a service instead of the workload's own address".to_owned(),
        _ => format!("register the host with a ServiceEntry, or set outboundTrafficPolicy of {policy} to ALLOW_ANY"),
    }
}

fn step<'a>(answer: &'a ConnectionAnswer, rule: &str) -> Option<&'a Step> {
    answer
        .trace
        .iter()
        .find(|step| step.rule == rule && step.verdict != Verdict::Unused)
        .or_else(|| answer.trace.iter().find(|step| step.rule == rule))
}

fn name(endpoint: &EndpointAnswer) -> String {
    endpoint.workload.clone().or_else(|| endpoint.address.clone()).unwrap_or_else(|| "the endpoint".to_owned())
}

/// The namespace in a service's host.
fn namespace(host: &str) -> &str {
    host.split('.').nth(1).unwrap_or_default()
}
