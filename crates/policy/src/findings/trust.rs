//! Trust domains that one half of the mesh knows and the other does not, and what `meshMTLS` does not bound.

use std::sync::Arc;

use mutua_model::{ClientTlsMode, DestinationRule, MeshConfig, Meta, TlsVersion};

use super::Findings;
use crate::engine::Engine;
use crate::service::CANONICAL_ACCOUNTS;

pub(super) fn check(engine: &Engine, out: &mut Findings) {
    let mesh = engine.mesh();
    let foreign = Foreign { config: &mesh.config };
    for rule in &mesh.destination_rules {
        foreign.rule(rule, out);
    }
    // Outside the mesh the names are those of certificates of others.
    for entry in mesh.service_entries.iter().filter(|entry| entry.mesh_internal) {
        foreign.names(&entry.meta, "spec/subjectAltNames", &entry.subject_alt_names, out);
    }
    for service in &mesh.services {
        let listed = service.meta.annotations.get(CANONICAL_ACCOUNTS).map(String::as_str).unwrap_or_default();
        let names: Vec<String> = listed.split(',').map(|name| name.trim().to_owned()).collect();
        foreign.names(&service.meta, &format!("metadata/annotations/{CANONICAL_ACCOUNTS}"), &names, out);
    }
    one_way(&mesh.config, out);
    floor(engine, out);
}

/// Identities of trust domains that are not the mesh's.
struct Foreign<'m> {
    config: &'m MeshConfig,
}

impl Foreign<'_> {
    fn rule(&self, rule: &DestinationRule, out: &mut Findings) {
        for (path, tls) in rule.tls().filter(|(_, tls)| tls.mode == ClientTlsMode::IstioMutual) {
            self.names(&rule.meta, &format!("{path}/subjectAltNames"), &tls.subject_alt_names, out);
        }
    }

    /// MUT0029.
    fn names(&self, meta: &Meta, path: &str, names: &[String], out: &mut Findings) {
        let Some((name, domain)) = names.iter().find_map(|name| Some((name, self.unknown_domain(name)?))) else { return };
        let own = &self.config.trust_domain;
        let message = format!(
            "{name} is of trust domain {domain}, which is neither the mesh's ({own}) nor one of its aliases: no workload of the mesh has it"
        );
        let corrected: Vec<String> = names
            .iter()
            .map(|name| match self.unknown_domain(name) {
                Some(domain) => name.replacen(&format!("//{domain}/"), &format!("//{own}/"), 1),
                None => name.clone(),
            })
            .collect();
        let fix = match path.rsplit_once('/') {
            Some((_, "subjectAltNames")) => format!("subjectAltNames: {corrected:?}"),
            _ => format!("metadata:\n  annotations:\n    {CANONICAL_ACCOUNTS}: {:?}\n", corrected.join(",")),
        };
        out.add("MUT0029", meta, path, message, fix);
    }

    fn unknown_domain<'n>(&self, name: &'n str) -> Option<&'n str> {
        let (domain, _) = name.strip_prefix("spiffe://")?.split_once('/')?;
        let config = self.config;
        let mut known = std::iter::once(&config.trust_domain).chain(&config.trust_domain_aliases).chain(&config.ca_trust_domains);
        (!known.any(|known| known.replace('@', ".") == domain)).then_some(domain)
    }
}

/// MUT0030.
fn one_way(config: &MeshConfig, out: &mut Findings) {
    let Some(from) = &config.from else { return };
    let lacks = |domain: &&String| **domain != config.trust_domain && !config.trust_domain_aliases.contains(domain);
    let missing: Vec<&String> = config.ca_trust_domains.iter().filter(lacks).collect();
    let Some(first) = missing.first() else { return };
    let message = format!(
        "callers of trust domain {first} are accepted (caCertificates names it), but it is no alias: clients of the mesh refuse its servers"
    );
    let mut aliases: Vec<&String> = config.trust_domain_aliases.iter().chain(missing.iter().copied()).collect();
    aliases.dedup();
    let fix = format!("trustDomainAliases: {aliases:?}");
    out.add("MUT0030", from, &format!("{}/trustDomainAliases", config.path), message, fix);
}

/// MUT0031.
fn floor(engine: &Engine, out: &mut Findings) {
    let mesh = engine.mesh();
    let Some(from) = mesh.config.from.as_ref().filter(|_| mesh.config.min_tls == TlsVersion::V1_3) else { return };
    let outward = |rule: &&Arc<DestinationRule>| rule.tls().any(|(_, tls)| tls.mode.originates());
    let Some(rule) = mesh.destination_rules.iter().filter(outward).min_by_key(|rule| rule.meta.age_order()) else { return };
    let message = format!(
        "TLSV1_3 holds where sidecars are servers of mutual TLS; TLS that {} originates may still be 1.2, as its server likes",
        rule.meta.object
    );
    let fix = "let those servers refuse TLS 1.2 themselves; nothing in the mesh configuration raises a client's floor".to_owned();
    out.add("MUT0031", from, &format!("{}/meshMTLS/minProtocolVersion", mesh.config.path), message, fix);
}
