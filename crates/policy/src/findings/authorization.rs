//! Checks on AuthorizationPolicies: rules that lean on identities which mutual TLS alone can prove.

use std::collections::{BTreeMap, BTreeSet};

use mutua_model::{AuthorizationPolicy, Mesh};

use super::Findings;
use super::index::Index;
use super::paste;
use super::reach::Scopes;
use super::status::Judge;
use crate::workload;

/// Label of an object that stands on another cluster.
const CLUSTER: &str = "topology.istio.io/cluster";
/// Raised only when asked for, as in Kiali.
pub(super) const UNCOVERED: &str = "KIA1301";

/// Condition keys that need mutual TLS.
const KEYS: [&str; 3] = ["source.namespace", "source.principal", "connection.sni"];

pub(super) fn check<'m>(index: &Index<'m>, scopes: &Scopes<'m>, out: &mut Findings) {
    let policies = &index.mesh.authorization_policies;
    if policies.is_empty() {
        return;
    }
    let identities = Identities::new(index.mesh);
    let mut judges: BTreeMap<&str, Judge<'_, 'm>> = BTreeMap::new();
    for policy in policies {
        let judge = judges.entry(policy.meta.namespace()).or_insert_with(|| Judge::new(index, scopes, policy.meta.namespace()));
        if !judge.receives(&policy.selector) {
            needs_mtls(index, policy, out);
        }
        principals(policy, &identities, index.mesh, out);
        source_namespaces(policy, scopes, out);
        workloads(index, policy, out);
    }
}

/// KIA0105, once per field.
fn needs_mtls(index: &Index<'_>, policy: &AuthorizationPolicy, out: &mut Findings) {
    let fix = paste::strict_for(index, policy.meta.namespace(), &policy.selector);
    let mut add = |path: &str| {
        let message =
            "this field compares identities, which callers prove by mutual TLS only, and its workloads do not receive it";
        out.add("KIA0105", &policy.meta, path, message.to_owned(), fix.clone());
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
struct Identities {
    here: BTreeSet<String>,
    /// Those of objects that a label places on another cluster.
    elsewhere: BTreeSet<String>,
}

impl Identities {
    fn new(mesh: &Mesh) -> Self {
        let config = &mesh.config;
        let domains: Vec<&String> = std::iter::once(&config.trust_domain).chain(&config.trust_domain_aliases).collect();
        let accounts = (mesh.service_accounts.iter().map(|one| (one.as_ref(), &one.labels, one.name())))
            .chain(mesh.pods.iter().map(|one| (&one.meta, &one.meta.labels, one.spec.service_account.as_str())))
            .chain(mesh.controllers.iter().map(|one| (&one.meta, &one.labels, one.spec.service_account.as_str())))
            .chain(
                mesh.workload_entries.iter().map(|one| (&one.meta, &one.endpoint.labels, one.endpoint.service_account.as_str())),
            );
        let mut identities = Self { here: BTreeSet::new(), elsewhere: BTreeSet::new() };
        for (meta, labels, account) in accounts {
            let remote = labels.get(CLUSTER).is_some_and(|cluster| *cluster != config.cluster_name);
            let list = if remote { &mut identities.elsewhere } else { &mut identities.here };
            list.extend(domains.iter().map(|domain| format!("{domain}/ns/{}/sa/{account}", meta.namespace())));
        }
        identities
    }
}

/// KIA0106, KIA0107 and KIA0108.
fn principals(policy: &AuthorizationPolicy, identities: &Identities, mesh: &Mesh, out: &mut Findings) {
    let config = &mesh.config;
    let known_domain =
        |domain: &str| domain == config.trust_domain || config.trust_domain_aliases.iter().any(|one| one == domain);
    for (at, rule) in policy.rules.iter().enumerate() {
        for (from, source) in rule.from.iter().enumerate() {
            for (position, principal) in source.principals.iter().enumerate() {
                if exists(principal, &identities.here) {
                    continue;
                }
                let path = format!("spec/rules[{at}]/from[{from}]/source/principals[{position}]");
                if exists(principal, &identities.elsewhere) {
                    let message = format!("{principal} is an account of another cluster only; what it is there is not checked");
                    let fix =
                        format!("nothing, if the clusters share their root; else create the account on {}", config.cluster_name);
                    out.add("KIA0107", &policy.meta, &path, message, fix);
                    continue;
                }
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

/// KIA0004 and IST0127: a policy for nothing.
fn workloads(index: &Index<'_>, policy: &AuthorizationPolicy, out: &mut Findings) {
    let namespace = policy.meta.namespace();
    // In the root namespace a policy is for the whole mesh.
    let mesh_wide = namespace == index.mesh.config.root_namespace;
    if policy.has_target {
        return;
    }
    if policy.selector.is_empty() {
        if !mesh_wide && !index.has_mesh_workloads(namespace) {
            let message = format!("namespace {namespace} has no workload of the mesh, so this policy protects nothing");
            out.add(
                "IST0127",
                &policy.meta,
                "metadata/namespace",
                message,
                "write it for a namespace that has workloads".to_owned(),
            );
        }
        return;
    }
    let shown = super::peer::shown(&policy.selector);
    let here = index.selected(namespace, &policy.selector);
    if here.is_empty() {
        let message = format!("no workload of namespace {namespace} has the labels {shown}");
        out.add("KIA0004", &policy.meta, "spec/selector/matchLabels", message, "write labels that the pods have".to_owned());
    }
    let selected = if mesh_wide { index.selected_anywhere(&policy.selector) } else { here };
    if !selected.iter().any(|(_, workload)| workload.in_mesh) {
        let message = format!("no workload of the mesh has the labels {shown}, so this policy protects nothing");
        out.add("IST0127", &policy.meta, "spec/selector", message, "write labels that the pods have".to_owned());
    }
}

/// KIA1301: workloads that no AuthorizationPolicy is for; what a controller owns is told of once, at the controller.
pub(super) fn uncovered(index: &Index<'_>, out: &mut Findings) {
    let root = &index.mesh.config.root_namespace;
    for (meta, labels) in workload::topmost(index.mesh) {
        let covers = |policy: &&std::sync::Arc<AuthorizationPolicy>| {
            let namespace = policy.meta.namespace();
            (namespace == root || namespace == meta.namespace())
                && policy.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        if index.mesh.authorization_policies.iter().any(|policy| covers(&policy)) {
            continue;
        }
        let message = "no AuthorizationPolicy covers this workload: whoever reaches it may call it".to_owned();
        let fix = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: same-namespace\n  namespace: {0}\nspec:\n  rules:\n  - from:\n    - source:\n        namespaces: [{0}]\n",
            meta.namespace()
        );
        out.add(UNCOVERED, meta, "", message, fix);
    }
}
