//! Rules that make connections fail, or that do not do what they say.

use std::collections::BTreeSet;
use std::sync::Arc;

use mutua_model::{AppProtocol, ClientTlsMode, DestinationRule, MtlsMode};

use super::STRANGER;
use super::faces::{self, Cache, Face};
use crate::client::drops;
use crate::destination_rule::MergedRule;
use crate::destination_rule::tls::{self, WrittenTls};
use crate::endpoint::Transport;
use crate::engine::Engine;
use crate::findings::{Findings, paste};
use crate::outcome::{Outcome, outcome};
use crate::service::{self, Service};

/// One rule that is looked at, and the codes it has got already: one example of each is enough.
struct Subject<'e, 'o> {
    engine: &'e Engine,
    rule: &'e Arc<DestinationRule>,
    raised: BTreeSet<(&'static str, String)>,
    out: &'o mut Findings,
}

pub(super) fn check<'e>(
    engine: &'e Engine,
    (rule, covered): (&'e Arc<DestinationRule>, &[usize]),
    faces: &mut Cache<'e>,
    out: &mut Findings,
) {
    let mut subject = Subject { engine, rule, raised: BTreeSet::new(), out };
    let own = rule.meta.namespace();
    let listed = rule.export_to.iter().map(String::as_str).filter(|to| !matches!(*to, "*" | "." | "~"));
    let views: BTreeSet<&str> = [own, STRANGER].into_iter().chain(listed).collect();
    for at in covered {
        let service = &engine.services[*at];
        for view in &views {
            for merged in engine.candidates(view, service) {
                if !merged.rules.iter().any(|one| Arc::ptr_eq(one, rule)) {
                    continue;
                }
                subject.ports(merged, *at, faces);
                subject.merged(merged);
            }
        }
        subject.hides(own, service);
    }
}

impl<'e> Subject<'e, '_> {
    fn add(&mut self, code: &'static str, path: &str, message: String, fix: String) {
        if self.raised.insert((code, path.to_owned())) {
            self.out.add(code, &self.rule.meta, path, message, fix);
        }
    }

    /// Every port of a service, with and without the rule's subsets.
    fn ports(&mut self, merged: &MergedRule, at: usize, cache: &mut Cache<'e>) {
        let engine = self.engine;
        let service = &engine.services[at];
        for (position, port) in service.ports.iter().enumerate().filter(|(_, port)| port.protocol != AppProtocol::Udp) {
            if let Some(written) = tls::of_cluster(merged, port.number, None).filter(|tls| Arc::ptr_eq(&tls.rule, self.rule)) {
                let faces = cache.of(engine, at, position);
                self.against(service, &written, faces, port.protocol);
            }
            for subset in &merged.subsets {
                let written = tls::of_cluster(merged, port.number, Some(&subset.value.name));
                let Some(written) = written.filter(|tls| Arc::ptr_eq(&tls.rule, self.rule)) else { continue };
                if written.path.starts_with("spec/subsets") {
                    let faces = faces::of(engine, service, position, Some(&subset.value.labels));
                    self.against(service, &written, &faces, port.protocol);
                }
            }
        }
    }

    /// What the settings meet at the endpoints.
    fn against(&mut self, service: &Service, written: &WrittenTls, faces: &[Face<'_>], protocol: AppProtocol) {
        let settings = &written.value;
        if is_dropped(written) {
            return;
        }
        self.unchecked_name(service, written, protocol);
        for face in faces {
            let (result, _) = outcome(transport(settings.mode), &face.server());
            if result == Outcome::Refused {
                self.refused(service, written, face);
            } else if settings.mode == ClientTlsMode::IstioMutual {
                self.identity(service, written, face);
            }
        }
    }

    /// MUT0006 to MUT0009.
    fn refused(&mut self, service: &Service, written: &WrittenTls, face: &Face<'_>) {
        let (name, host, path) = (face.name(self.engine), &service.host, format!("{}/mode", written.path));
        let to_mesh = || paste::mesh_tls(self.engine.mesh(), &written.rule, &written.path);
        let removed = || paste::without_tls(&written.rule, &written.path);
        let (code, message, fix) = match (written.value.mode, face.mode) {
            (ClientTlsMode::Disable, _) => {
                ("MUT0006", format!("clients of {host} send plaintext, which {name} refuses: it is STRICT"), to_mesh())
            }
            (ClientTlsMode::Simple | ClientTlsMode::Mutual, mode) => {
                let mode = mode.map(MtlsMode::as_str).unwrap_or_default();
                let message = format!(
                    "clients of {host} send TLS of mode {}, which the sidecar of {name} ({mode}) refuses",
                    written.value.mode
                );
                ("MUT0007", message, to_mesh())
            }
            (ClientTlsMode::IstioMutual, None) => (
                "MUT0008",
                format!("clients of {host} send mutual TLS to {name}, which has no sidecar to answer it"),
                // Automatic mTLS decides per endpoint.
                match self.engine.mesh().config.enable_auto_mtls {
                    true => removed(),
                    false => paste::rule(self.engine.mesh(), &service.namespace, host, "DISABLE"),
                },
            ),
            (ClientTlsMode::IstioMutual, Some(_)) => {
                ("MUT0009", format!("clients of {host} send mutual TLS to {name}, whose sidecar is in DISABLE mode"), removed())
            }
        };
        self.add(code, &path, message, fix);
    }

    /// MUT0010.
    fn identity(&mut self, service: &Service, written: &WrittenTls, face: &Face<'_>) {
        let names = &written.value.subject_alt_names;
        let endpoint = face.endpoint;
        let account = if endpoint.service_account.is_empty() { "default" } else { &endpoint.service_account };
        let identity = service::identity(&self.engine.mesh().config.trust_domain, &endpoint.namespace, account);
        if names.is_empty() || names.contains(&identity) {
            return;
        }
        let of_service = names.iter().filter(|name| service.identities.contains(name));
        let kept: Vec<&String> = of_service.chain(std::iter::once(&identity)).collect();
        let message = format!(
            "{} of {} shows {identity}, which is none of the subjectAltNames: clients refuse it",
            face.name(self.engine),
            service.host
        );
        self.add("MUT0010", &format!("{}/subjectAltNames", written.path), message, format!("subjectAltNames: {kept:?}"));
    }

    /// MUT0011.
    fn unchecked_name(&mut self, service: &Service, written: &WrittenTls, protocol: AppProtocol) {
        let settings = &written.value;
        let named = !settings.subject_alt_names.is_empty() || (service.entry && !service.accounts.is_empty());
        if !settings.mode.originates() || named || settings.insecure_skip_verify {
            return;
        }
        let why = match (settings.sni.is_empty(), protocol) {
            (false, _) => "with sni and without subjectAltNames",
            (true, AppProtocol::Tcp) => "without subjectAltNames on a TCP port, where there is no Host header to compare with",
            (true, _) => return,
        };
        let name = if settings.sni.is_empty() { &service.host } else { &settings.sni };
        let message = format!("{} {why}: any certificate of these roots is accepted for {}", settings.mode, service.host);
        self.add("MUT0011", &written.path.clone(), message, format!("subjectAltNames: [\"{name}\"]"));
    }

    /// MUT0014: what an older rule of the same host and namespace keeps from counting.
    fn merged(&mut self, merged: &MergedRule) {
        let rule = self.rule;
        let Some(policy) = rule.policy.as_ref() else { return };
        let says = policy.tls.is_some() || policy.ports.iter().any(|(_, port)| port.tls.is_some());
        let Some(older) = merged.policy.as_ref().filter(|used| says && !Arc::ptr_eq(&used.rule, rule)) else { return };
        let first = &older.rule.meta.object;
        let message =
            format!("{first} is for the same host and counts first; its trafficPolicy counts whole, and this tls never");
        self.add("MUT0014", "spec/trafficPolicy", message, format!("write the tls settings into {first}"));
    }

    /// MUT0013: in its own namespace a rule without tls hides what the service's namespace or the root say.
    fn hides(&mut self, own: &str, service: &Service) {
        let engine = self.engine;
        if own == service.namespace || own == engine.mesh().config.root_namespace {
            return;
        }
        let mine = engine.candidates(own, service);
        if !mine.iter().any(|merged| merged.rules.iter().any(|one| Arc::ptr_eq(one, self.rule))) {
            return;
        }
        let theirs = engine.candidates(STRANGER, service);
        for port in service.ports.iter().filter(|port| port.protocol != AppProtocol::Udp) {
            let said = theirs.iter().find_map(|merged| tls::of_cluster(merged, port.number, None));
            let Some(said) = said else { continue };
            if mine.iter().any(|merged| tls::of_cluster(merged, port.number, None).is_some()) {
                continue;
            }
            let message = format!(
                "clients in {own} use this rule for {} and never see {}, which sets {}",
                service.host, said.rule.meta.object, said.value.mode
            );
            let tls: String = paste::tls(&said.value).lines().map(|line| format!("    {line}\n")).collect();
            let fix = format!("spec:\n  trafficPolicy:\n{tls}");
            self.add("MUT0013", "spec/host", message, fix);
            return;
        }
    }
}

fn is_dropped(written: &WrittenTls) -> bool {
    written.value.mode.originates() && drops(&written.value, written.rule.workload_selector.is_some())
}

fn transport(mode: ClientTlsMode) -> Transport {
    match mode {
        ClientTlsMode::Disable => Transport::Plaintext,
        ClientTlsMode::Simple => Transport::Simple,
        ClientTlsMode::Mutual => Transport::Mutual,
        ClientTlsMode::IstioMutual => Transport::IstioMutual,
    }
}
