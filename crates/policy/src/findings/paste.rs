//! Fixes as one pastes them: a whole object with its name, or the field that is wrong as it should be. What takes more than
//! that, because only a person knows what was meant, is a sentence instead.
//!
//! A fix is read like this (and a test applies each so): `delete KIND NAMESPACE/NAME` and `remove PATH` are what they say;
//! YAML with an `apiVersion` is an object of its own; YAML that begins with `spec` or `metadata` goes into the finding's object
//! from its root; any other goes in the place of the field of its name on the finding's path, else into the field there.

use std::fmt::Write;

use mutua_model::{ClientTls, ClientTlsMode, DestinationRule, Kind, Labels, Mesh, MtlsMode, ObjectRef, PeerAuthentication};

use super::index::{Index, MOST};
use crate::credential::NoCredential;
use crate::engine::Engine;
use crate::service::Service;
use crate::workload::is_istio;

/// How many exceptions a fix writes out.
const MOST_RULES: usize = 10;

/// A PeerAuthentication as another mode makes it.
pub(super) fn policy_with(policy: &PeerAuthentication, mode: MtlsMode) -> String {
    policy_text(policy.meta.namespace(), policy.meta.name(), &policy.selector, Some(mode), policy.ports.iter())
}

/// A PeerAuthentication with other keys under `portLevelMtls`.
pub(super) fn policy_with_port(policy: &PeerAuthentication, wrong: u16, right: u16) -> String {
    let ports = policy.ports.iter().map(|(port, mode)| (if *port == wrong { right } else { *port }, *mode));
    let ports: std::collections::BTreeMap<u16, Option<MtlsMode>> = ports.collect();
    policy_text(policy.meta.namespace(), policy.meta.name(), &policy.selector, policy.mode, ports.iter())
}

/// The policy for a whole namespace: the one that counts there with another mode, else a new one.
pub(super) fn wide_policy(index: &Index<'_>, namespace: &str, mode: MtlsMode) -> String {
    match index.wide(namespace).first() {
        Some(policy) => policy_with(policy, mode),
        None => {
            let taken = |name: &str| {
                let policies = index.policies.iter();
                policies.map(|policy| &policy.meta).any(|meta| meta.namespace() == namespace && meta.name() == name)
            };
            policy_text(
                namespace,
                &free("default", taken),
                &Labels::new(),
                Some(mode),
                [].iter().map(|(port, mode)| (port, mode)),
            )
        }
    }
}

/// The policy that makes workloads with these labels STRICT: the one that is about them, else the namespace's.
pub(super) fn strict_for(index: &Index<'_>, namespace: &str, labels: &Labels) -> String {
    let about = |policy: &&&PeerAuthentication| {
        let covers = policy.selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        policy.meta.namespace() == namespace && !policy.selector.is_empty() && covers && policy.mode.is_some()
    };
    match index.policies.iter().find(about) {
        Some(policy) => policy_with(policy, MtlsMode::Strict),
        None => wide_policy(index, namespace, MtlsMode::Strict),
    }
}

fn policy_text<'p>(
    namespace: &str,
    name: &str,
    selector: &Labels,
    mode: Option<MtlsMode>,
    ports: impl Iterator<Item = (&'p u16, &'p Option<MtlsMode>)>,
) -> String {
    let mut text = head("security.istio.io/v1", "PeerAuthentication", namespace, name);
    if !selector.is_empty() {
        text.push_str("  selector:\n    matchLabels:\n");
        selector.iter().for_each(|(key, value)| text.push_str(&format!("      {key}: {value:?}\n")));
    }
    if let Some(mode) = mode {
        text.push_str(&format!("  mtls:\n    mode: {mode}\n"));
    }
    let written = |mode: &Option<MtlsMode>| mode.map_or("UNSET", MtlsMode::as_str);
    let ports: String = ports.map(|(port, mode)| format!("    {port}:\n      mode: {}\n", written(mode))).collect();
    if !ports.is_empty() {
        text.push_str(&format!("  portLevelMtls:\n{ports}"));
    }
    text
}

/// A new DestinationRule with nothing but a mode.
pub(super) fn rule(mesh: &Mesh, namespace: &str, host: &str, mode: &str) -> String {
    let taken = |name: &str| {
        let rules = mesh.destination_rules.iter();
        rules.map(|rule| &rule.meta).any(|meta| meta.namespace() == namespace && meta.name() == name)
    };
    let first = host.split('.').next().unwrap_or_default();
    let name = if first == "*" { "default" } else { first };
    let text = head("networking.istio.io/v1", "DestinationRule", namespace, &free(name, taken));
    text + &format!("  host: {host:?}\n  trafficPolicy:\n    tls:\n      mode: {mode}\n")
}

/// A rule that sends mutual TLS to all services of a namespace, or of the mesh, and exceptions for those that have no sidecar
/// to answer it.
pub(super) fn wide_rule(engine: &Engine, namespace: &str, host: &str, within: Option<&str>) -> String {
    let bare = |service: &&Service| {
        let mut endpoints = service.endpoints.iter().filter(|endpoint| endpoint.counts).peekable();
        let here = within.is_none_or(|namespace| service.namespace == namespace);
        here && !service.entry && endpoints.peek().is_some() && endpoints.all(|one| !is_istio(&one.tls_mode))
    };
    let mut rules = vec![rule(engine.mesh(), namespace, host, "ISTIO_MUTUAL")];
    let exceptions = engine.services.iter().filter(bare).take(MOST_RULES);
    rules.extend(exceptions.map(|service| rule(engine.mesh(), &service.namespace, &service.host, "DISABLE")));
    rules.join("---\n")
}

fn head(version: &str, kind: &str, namespace: &str, name: &str) -> String {
    format!("apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n")
}

/// The name, or with a number behind it the first that nothing has.
fn free(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
}

/// Where a fix looks for roots.
pub(super) const ROOTS: &str = "/etc/certs/root-cert.pem";

/// `tls` with files in place of what a `credentialName` stands for.
pub(super) fn tls_of_files(settings: &ClientTls) -> String {
    let mut files = ClientTls { credential_name: String::new(), ca_certificates: ROOTS.to_owned(), ..settings.clone() };
    if settings.mode == ClientTlsMode::Mutual {
        "/etc/certs/cert-chain.pem".clone_into(&mut files.client_certificate);
        "/etc/certs/key.pem".clone_into(&mut files.private_key);
    }
    tls(&files)
}

/// An object with what is missing, for a person to fill in. `None` where an object would not do.
pub(super) fn credential(why: &NoCredential) -> Option<String> {
    let (object, pair) = match why {
        NoCredential::Missing(object) | NoCredential::Incomplete { object, .. } | NoCredential::Unusable { object, .. } => {
            (object, object.kind == Kind::Secret)
        }
        NoCredential::NoRoots(_, object) => (object, false),
        NoCredential::NoKey(_) => return None,
    };
    let (kind, field) = (object.kind.as_str(), if object.kind == Kind::Secret { "stringData" } else { "data" });
    let mut text = format!(
        "apiVersion: v1\nkind: {kind}\nmetadata:\n  name: {}\n  namespace: {}\n{field}:\n",
        object.name, object.namespace
    );
    if pair {
        text.push_str("  tls.crt: the certificate chain, PEM\n  tls.key: the private key, PEM\n");
    }
    text.push_str("  ca.crt: the roots of the server, PEM\n");
    Some(text)
}

/// `tls` with all that it says.
pub(super) fn tls(tls: &ClientTls) -> String {
    let mut text = format!("tls:\n  mode: {}\n", tls.mode);
    for (key, value) in [
        ("clientCertificate", &tls.client_certificate),
        ("privateKey", &tls.private_key),
        ("caCertificates", &tls.ca_certificates),
        ("caCrl", &tls.ca_crl),
        ("credentialName", &tls.credential_name),
        ("sni", &tls.sni),
    ] {
        if !value.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {key}: {value:?}");
        }
    }
    if !tls.subject_alt_names.is_empty() {
        let _ = writeln!(text, "  subjectAltNames: {:?}", tls.subject_alt_names);
    }
    if tls.insecure_skip_verify {
        text.push_str("  insecureSkipVerify: true\n");
    }
    text
}

/// What takes these objects away.
pub(super) fn delete<'o>(objects: impl Iterator<Item = &'o ObjectRef>) -> String {
    objects.map(|object| format!("delete {object}")).collect::<Vec<_>>().join("\n")
}

/// What leaves only the first of some objects, told at the one at a position. Of many each says how it goes itself: a list of
/// all at each of them would be too much to print.
pub(super) fn keep_first(objects: &[&ObjectRef], at: usize) -> String {
    match at > 0 && objects.len() > MOST {
        true => delete(std::iter::once(objects[at])),
        false => delete(objects[1..].iter().take(MOST).copied()),
    }
}

/// What makes clients send the mesh's TLS where it is understood, instead of what `tls` at a path says.
pub(super) fn mesh_tls(mesh: &Mesh, rule: &DestinationRule, path: &str) -> String {
    match mesh.config.enable_auto_mtls {
        true => without_tls(rule, path),
        false => "tls:\n  mode: ISTIO_MUTUAL\n".to_owned(),
    }
}

/// What takes `tls` at a path away, with what would be empty without it: Istio refuses a policy without a field.
pub(super) fn without_tls(rule: &DestinationRule, path: &str) -> String {
    let holds = |path: &str, fields: &[&str]| fields.iter().any(|field| rule.meta.places.holds(&format!("{path}/{field}")));
    let Some((holder, _)) = path.rsplit_once('/') else { return format!("remove {path}") };
    let lists = &["portLevelSettings"];
    let gone = match holder.rsplit_once("/portLevelSettings[") {
        _ if holds(holder, &OTHERS) => path,
        None if holds(holder, lists) => path,
        Some((outer, _)) if holds(outer, &["portLevelSettings[1]"]) => holder,
        Some((outer, _)) if holds(outer, &OTHERS) || holds(outer, &["tls"]) => &format!("{outer}/portLevelSettings"),
        Some((outer, _)) => outer,
        None => holder,
    };
    format!("remove {gone}")
}

/// What a traffic policy may hold beside `tls` and `portLevelSettings`.
const OTHERS: [&str; 6] = ["loadBalancer", "connectionPool", "outlierDetection", "tunnel", "proxyProtocol", "retryBudget"];
