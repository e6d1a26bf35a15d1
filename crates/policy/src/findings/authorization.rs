//! Checks on AuthorizationPolicies: rules that lean on identities which mutual TLS alone can prove.

use std::collections::{BTreeMap, BTreeSet};

use mutua_model::{AuthorizationPolicy, Mesh};

use super::Findings;
use super::index::Index;
use super::reach::Scopes;
use super::status::Judge;

/// Condition keys that need mutual TLS.
const KEYS: [&str; 3] = ["source.namespace", "source.principal", "connection.sni"];

pub(super) fn check<'m>(index: &Index<'m>, scopes: &Scopes<'m>, out: &mut Findings) {
    let policies = &index.mesh.authorization_policies;
    if policies.is_empty() {
        return;
    }
    let identities = identities(index.mesh);
    let mut judges: BTreeMap<&str, Judge<'_, 'm>> = BTreeMap::new();
    for policy in policies {
        let judge = judges.entry(policy.meta.namespace()).or_insert_with(|| Judge::new(index, scopes, policy.meta.namespace()));
        if !judge.receives(&policy.selector) {
            needs_mtls(policy, out);
        }
        principals(policy, &identities, index.mesh, out);
        source_namespaces(policy, scopes, out);
        workloads(index, policy, out);
    }
}

/// KIA0105, once per field.
fn needs_mtls(policy: &AuthorizationPolicy, out: &mut Findings) {
    let mut add = |path: &str| {
        let message =
            "this field compares identities, which callers prove by mutual TLS only, and its workloads do not receive it";
        let fix = "make its workloads STRICT by a PeerAuthentication, and clients send ISTIO_MUTUAL";
        out.add("KIA0105", &policy.meta, path, message.to_owned(), fix.to_owned());
    };
    for (at, rule) in policy.rules.iter().enumerate() {
        for (from, source) in rule.from.iter().enumerate() {
            for (name, list) in [
                ("principals", &source.principals),
                ("notPrincipals", &source.not_principals),
                ("namespaces", &source.namespaces),
                ("notNamespaces", &source.not_namespaces),
            ] {
                if !list.is_empty() {
                    add(&format!("spec/rules[{at}]/from[{from}]/source/{name}"));
                }
            }
        }
        for (when, _) in rule.when.iter().enumerate().filter(|(_, key)| KEYS.contains(&key.as_str())) {
            add(&format!("spec/rules[{at}]/when[{when}]"));
        }
    }
}

/// The identities of the mesh, without `spiffe://`, in every trust domain.
fn identities(mesh: &Mesh) -> BTreeSet<String> {
    let config = &mesh.config;
    let domains: Vec<&String> = std::iter::once(&config.trust_domain).chain(&config.trust_domain_aliases).collect();
    let accounts = (mesh.service_accounts.iter().map(|account| (account.namespace(), account.name())))
        .chain(mesh.pods.iter().map(|pod| (pod.meta.namespace(), pod.spec.service_account.as_str())))
        .chain(mesh.controllers.iter().map(|one| (one.meta.namespace(), one.spec.service_account.as_str())))
        .chain(mesh.workload_entries.iter().map(|one| (one.meta.namespace(), one.endpoint.service_account.as_str())));
    let in_domains = |(namespace, account): (&str, &str)| {
        domains.iter().map(|domain| format!("{domain}/ns/{namespace}/sa/{account}")).collect::<Vec<_>>()
    };
    accounts.flat_map(in_domains).collect()
}

/// KIA0106 and KIA0108.
fn principals(policy: &AuthorizationPolicy, identities: &BTreeSet<String>, mesh: &Mesh, out: &mut Findings) {
    let config = &mesh.config;
    let known_domain =
        |domain: &str| domain == config.trust_domain || config.trust_domain_aliases.iter().any(|one| one == domain);
    for (at, rule) in policy.rules.iter().enumerate() {
        for (from, source) in rule.from.iter().enumerate() {
            for (position, principal) in source.principals.iter().enumerate() {
                if exists(principal, identities) {
                    continue;
                }
                let path = format!("spec/rules[{at}]/from[{from}]/source/principals[{position}]");
                let domain = principal.split_once("/ns/").map(|(domain, _)| domain);
                match domain.filter(|domain| !principal.contains('*') && !domain.is_empty() && !known_domain(domain)) {
                    Some(domain) => {
                        let message = format!("{principal} is of trust domain {domain}, which this mesh does not know");
                        let fix = format!("add {domain} to trustDomainAliases if it is the mesh's, or correct the principal");
                        out.add("KIA0108", &policy.meta, &path, message, fix);
                    }
                    None => {
                        let message = format!("no workload runs as {principal}");
                        let fix = format!("write {}/ns/NAMESPACE/sa/ACCOUNT of an account that exists", config.trust_domain);
                        out.add("KIA0106", &policy.meta, &path, message, fix);
                    }
                }
            }
        }
    }
}

/// A `*` at one end stands for anything.
fn exists(principal: &str, identities: &BTreeSet<String>) -> bool {
    match (principal.strip_prefix('*'), principal.strip_suffix('*')) {
        (Some(suffix), None) => identities.iter().any(|one| one.ends_with(suffix)),
        (None, Some(prefix)) => identities.iter().any(|one| one.starts_with(prefix)),
        (Some(_), Some(_)) => {
            let middle = principal.trim_matches('*');
            identities.iter().any(|one| one.contains(middle)) || principal == "*"
        }
        (None, None) => identities.contains(principal),
    }
}

/// IST0101.
fn source_namespaces(policy: &AuthorizationPolicy, scopes: &Scopes<'_>, out: &mut Findings) {
    for (at, rule) in policy.rules.iter().enumerate() {
        for (from, source) in rule.from.iter().enumerate() {
            for (field, list) in [("namespaces", &source.namespaces), ("notNamespaces", &source.not_namespaces)] {
                for (position, name) in list.iter().enumerate() {
                    if scopes.namespaces().iter().any(|namespace| matches(name, namespace)) {
                        continue;
                    }
                    let path = format!("spec/rules[{at}]/from[{from}]/source/{field}[{position}]");
                    let message = format!("namespace {name:?} does not exist");
                    out.add("IST0101", &policy.meta, &path, message, "write the name of a namespace that exists".to_owned());
                }
            }
        }
    }
}

fn matches(pattern: &str, namespace: &str) -> bool {
    if let Some(suffix) = pattern.strip_prefix('*') {
        return namespace.ends_with(suffix);
    }
    match pattern.strip_suffix('*') {
        Some(prefix) => namespace.starts_with(prefix),
        None => namespace.eq_ignore_ascii_case(pattern),
    }
}

/// KIA0004 and IST0127: a selector that matches nothing.
fn workloads(index: &Index<'_>, policy: &AuthorizationPolicy, out: &mut Findings) {
    let namespace = policy.meta.namespace();
    if policy.selector.is_empty() || policy.has_target {
        return;
    }
    let shown = super::peer::shown(&policy.selector);
    let here = !index.selected(namespace, &policy.selector).is_empty();
    if !here {
        let message = format!("no workload of namespace {namespace} has the labels {shown}");
        out.add("KIA0004", &policy.meta, "spec/selector/matchLabels", message, "write labels that the pods have".to_owned());
    }
    // In the root namespace a policy is for the whole mesh.
    let mesh_wide = namespace == index.mesh.config.root_namespace;
    let selects = here || (mesh_wide && !index.selected_anywhere(&policy.selector).is_empty());
    if !selects {
        let message = format!("no workload has the labels {shown}, so this policy protects nothing");
        out.add("IST0127", &policy.meta, "spec/selector", message, "write labels that the pods have".to_owned());
    }
}
