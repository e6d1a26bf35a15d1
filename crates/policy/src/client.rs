//! What a client's sidecar does for one service port: the rule-level decision (Istio's `buildUpstreamTLSSettings`).

use std::sync::Arc;

use mutua_model::{ClientTls, ClientTlsMode, Mesh, MtlsMode};

use crate::credential::{Credential, NoCredential, Secrets};
use crate::destination_rule::MergedRule;
use crate::destination_rule::tls::{self, WrittenTls};
use crate::peer_authentication::PeerPolicies;
use crate::service::Service;
use crate::trace::Step;
use crate::workload;

/// The rule-level decision of a client for a service port.
#[derive(Clone, Debug)]
pub struct ClientDecision {
    /// What is sent.
    pub mode: ClientTlsMode,
    /// Whether auto mTLS chose ISTIO_MUTUAL.
    pub auto: bool,
    /// Whether the client's sidecar knows the service; unknown destinations are reached as they are.
    pub known: bool,
    /// Server name, when one is sent.
    pub sni: Option<String>,
    /// Names of which the server must show one.
    pub subject_alt_names: Arc<[String]>,
    /// The settings of the DestinationRule, when one decided.
    pub settings: Option<ClientTls>,
    /// The object that decided (`DestinationRule bar/x`), `auto-mtls`, or empty.
    pub decided_by: String,
    /// All endpoints get the same transport, because the original address is dialled.
    pub(crate) uniform: bool,
    /// The mode that marks endpoints, when the rule gives one (it inherits differently).
    pub(crate) endpoint_mode: Option<ClientTlsMode>,
    /// `credentialName` in a rule without workloadSelector: Istio drops the TLS context, traffic is plaintext.
    pub(crate) dropped: bool,
    /// What the `credentialName` stands for, when it counts.
    pub credential: Option<Result<Credential, NoCredential>>,
    /// Why; empty when reasons were not asked for.
    pub trace: Vec<Step>,
}

impl ClientDecision {
    /// Plaintext, for the reason in `trace`.
    pub(crate) fn plaintext(known: bool, trace: Vec<Step>) -> Self {
        Self {
            mode: ClientTlsMode::Disable,
            auto: false,
            known,
            sni: None,
            subject_alt_names: Arc::default(),
            settings: None,
            decided_by: String::new(),
            uniform: false,
            endpoint_mode: None,
            dropped: false,
            credential: None,
            trace,
        }
    }
}

/// What the decision looks at.
pub(crate) struct Question<'e> {
    pub(crate) mesh: &'e Mesh,
    pub(crate) policies: &'e PeerPolicies,
    pub(crate) secrets: &'e Secrets,
    pub(crate) service: &'e Service,
    /// The Service port, and its position.
    pub(crate) port: (usize, u16),
    pub(crate) subset: Option<&'e str>,
    pub(crate) rule: Option<&'e MergedRule>,
    /// Whether the trace is wanted.
    pub(crate) reasons: bool,
}

impl Question<'_> {
    /// Adds a step to the trace, if one is wanted.
    fn tell(&self, trace: &mut Vec<Step>, step: impl FnOnce() -> Step) {
        if self.reasons {
            trace.push(step());
        }
    }

    fn tell_all(&self, trace: &mut Vec<Step>, steps: impl FnOnce() -> Vec<Step>) {
        if self.reasons {
            trace.extend(steps());
        }
    }
}

/// The decision.
pub(crate) fn decide(question: &Question<'_>) -> ClientDecision {
    let Question { rule, subset, port: (_, number), .. } = question;
    let mut decision = match rule.and_then(|rule| tls::of_cluster(rule, *number, *subset)) {
        Some(written) => by_rule(question, &written),
        None => by_auto_mtls(question),
    };
    decision.uniform =
        question.service.original_destination() || rule.is_some_and(|rule| tls::dials_original(rule, *number, *subset));
    decision.endpoint_mode = rule.and_then(|rule| tls::of_endpoint(rule, *number, *subset));
    decision
}

fn by_rule(question: &Question<'_>, written: &WrittenTls) -> ClientDecision {
    let (settings, meta) = (&written.value, &written.rule.meta);
    let mut trace = Vec::new();
    question.tell(&mut trace, || {
        let path = format!("{}/mode", written.path);
        Step::of("destination-rule.tls", meta, &path, format!("tls mode {}", settings.mode))
    });
    let mut decision = ClientDecision {
        mode: settings.mode,
        settings: Some(settings.clone()),
        decided_by: meta.object.to_string(),
        ..ClientDecision::plaintext(true, trace)
    };
    let given = |names: &[String]| (!names.is_empty()).then(|| Arc::from(names));
    let of_service = || Arc::clone(&question.service.identities);
    match settings.mode {
        ClientTlsMode::Disable => {}
        ClientTlsMode::IstioMutual => {
            decision.sni = Some(if settings.sni.is_empty() { default_sni(question) } else { settings.sni.clone() });
            decision.subject_alt_names = given(&settings.subject_alt_names).unwrap_or_else(of_service);
        }
        ClientTlsMode::Simple | ClientTlsMode::Mutual => {
            decision.sni = (!settings.sni.is_empty()).then(|| settings.sni.clone());
            // Accounts become names only for services of the registry of ServiceEntries.
            let of_entry = || if question.service.entry { of_service() } else { Arc::default() };
            decision.subject_alt_names = given(&settings.subject_alt_names).unwrap_or_else(of_entry);
            take_credentials(question, &mut decision, written);
        }
    }
    decision
}

/// Whether Istio drops SIMPLE and MUTUAL: a `credentialName` reaches a sidecar only through a rule with a workloadSelector (or
/// as a ConfigMap).
pub(crate) fn drops(settings: &ClientTls, selects: bool) -> bool {
    let name = &settings.credential_name;
    !name.is_empty() && !name.starts_with("configmap://") && !selects
}

fn take_credentials(question: &Question<'_>, decision: &mut ClientDecision, written: &WrittenTls) {
    if written.value.credential_name.is_empty() {
        return;
    }
    // A rule without selector that was merged into one with counts as one with.
    decision.dropped = drops(&written.value, question.rule.is_some_and(MergedRule::selects));
    let (rule, effect) = match decision.dropped {
        true => (
            "destination-rule.credential-name",
            "plaintext: credentialName counts for sidecars only in a rule with workloadSelector".to_owned(),
        ),
        false => {
            let credential = question.secrets.credential(written.rule.meta.namespace(), &written.value);
            let said = match &credential {
                Ok(_) => ("destination-rule.credential", "the sidecar is given what it names".to_owned()),
                Err(why) => (CREDENTIAL_MISSING, format!("{why}: the sidecar refuses the connection")),
            };
            decision.credential = Some(credential);
            said
        }
    };
    question
        .tell(&mut decision.trace, || Step::of(rule, &written.rule.meta, &format!("{}/credentialName", written.path), effect));
}

/// The rule of the step that tells of a `credentialName` with nothing behind it.
pub(crate) const CREDENTIAL_MISSING: &str = "destination-rule.credential-missing";

fn by_auto_mtls(question: &Question<'_>) -> ClientDecision {
    let mut trace = Vec::new();
    if let Some(rule) = question.rule {
        question.tell_all(&mut trace, || without_tls(question, rule));
    }
    let service = question.service;
    if service.external {
        question
            .tell(&mut trace, || Step::of("service-entry.external", &service.meta, "spec/location", "outside the mesh: no TLS"));
        return ClientDecision::plaintext(true, trace);
    }
    let config = &question.mesh.config;
    let of_config = |rule, effect| match &config.from {
        Some(meta) => Step::of(rule, meta, &format!("{}/enableAutoMtls", config.path), effect),
        None => Step::of_default(rule, effect),
    };
    if !config.enable_auto_mtls {
        question.tell(&mut trace, || of_config("auto-mtls.off", "auto mTLS is off: no TLS"));
        return ClientDecision::plaintext(true, trace);
    }
    if let Some(effect) = not_for_all_endpoints(question) {
        question.tell(&mut trace, || Step::of("auto-mtls.passthrough", &service.meta, "spec", effect));
        return ClientDecision::plaintext(true, trace);
    }
    question.tell_all(&mut trace, || question.policies.namespace_mode_steps(&service.namespace));
    if question.policies.namespace_mode(&service.namespace) == MtlsMode::Disable {
        return ClientDecision::plaintext(true, trace);
    }
    question.tell(&mut trace, || of_config("auto-mtls.on", "ISTIO_MUTUAL to endpoints with a sidecar"));
    ClientDecision {
        mode: ClientTlsMode::IstioMutual,
        auto: true,
        sni: Some(default_sni(question)),
        subject_alt_names: Arc::clone(&service.identities),
        decided_by: "auto-mtls".to_owned(),
        ..ClientDecision::plaintext(true, trace)
    }
}

/// The rule that is used sets no tls; where its outer level does, that counts for the endpoints all the same.
fn without_tls(question: &Question<'_>, rule: &MergedRule) -> Vec<Step> {
    let mut steps = Vec::new();
    let (port, subset) = (question.port.1, question.subset);
    if let Some(first) = rule.policy.as_ref().map(|policy| &policy.rule).or_else(|| rule.rules.first()) {
        let effect = format!("it sets no tls for port {port}");
        steps.push(Step::of("destination-rule.no-tls", &first.meta, "spec/trafficPolicy", effect));
    }
    let outer = tls::of_endpoint(rule, port, subset).filter(|mode| *mode != ClientTlsMode::IstioMutual);
    if let (Some(mode), Some((written, path))) = (outer, tls::endpoint_place(rule, port, subset)) {
        let effect = format!("but the mode {mode} around it marks every endpoint as one without mutual TLS");
        steps.push(Step::of("destination-rule.endpoints", &written.meta, &path, effect));
    }
    steps
}

/// Where the original address is dialled, one endpoint without the mesh's TLS turns it off for all.
fn not_for_all_endpoints(question: &Question<'_>) -> Option<&'static str> {
    let passthrough = question.rule.is_some_and(|rule| tls::is_passthrough(rule, question.subset));
    if !question.service.original_destination() && !passthrough {
        return None;
    }
    let mut endpoints = question.service.serving(question.port.0).peekable();
    if endpoints.peek().is_none() {
        return Some("headless or passthrough without endpoints: no TLS");
    }
    let bare = endpoints.any(|(endpoint, _)| workload::is_disabled(&endpoint.tls_mode));
    bare.then_some("headless or passthrough, and an endpoint has no sidecar: no TLS to any of them")
}

fn default_sni(question: &Question<'_>) -> String {
    format!("outbound_.{}_.{}_.{}", question.port.1, question.subset.unwrap_or_default(), question.service.host)
}
