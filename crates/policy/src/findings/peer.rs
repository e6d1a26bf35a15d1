//! Checks on PeerAuthentications.

use mutua_model::{ClientTlsMode, DestinationRule, Labels, MtlsMode, PeerAuthentication};

use super::Findings;
use super::index::{Index, Workload, target_number};
use super::paste;
use super::reach::Scopes;
use crate::engine::Engine;

pub(super) fn check<'m>(engine: &Engine, index: &Index<'m>, scopes: &Scopes<'m>, out: &mut Findings) {
    for (namespace, policies) in index.wide_lists() {
        duplicates(namespace, policies, out);
    }
    overlaps(index, out);
    for policy in &index.policies {
        selector(index, policy, out);
        if policy.selector.is_empty() {
            wide((engine, index), scopes, policy, out);
        } else {
            strict_below_disable(index, policy, out);
            service_ports(index, policy, out);
        }
    }
}

/// KIA0002 and MUT0003.
fn duplicates(namespace: &str, policies: &[&PeerAuthentication], out: &mut Findings) {
    let [winner, second, ..] = policies else { return };
    let objects: Vec<_> = policies.iter().map(|policy| &policy.meta.object).collect();
    for (at, policy) in policies.iter().enumerate() {
        let message = format!(
            "{} PeerAuthentications of namespace {namespace} have no selector; only {} counts",
            policies.len(),
            winner.meta.object
        );
        out.add("KIA0002", &policy.meta, "spec/selector", message, paste::keep_first(&objects, at));
    }
    if winner.meta.created == second.meta.created {
        let message =
            format!("{} wins over {} by its name alone: both have the same age", winner.meta.object, second.meta.object);
        out.add("MUT0003", &winner.meta, "metadata/name", message, format!("delete {}", second.meta.object));
    }
}

/// KIA0003.
fn overlaps(index: &Index<'_>, out: &mut Findings) {
    let selectors: Vec<_> = index.policies.iter().map(|policy| (policy.meta.namespace(), &policy.selector)).collect();
    for (at, clash) in index.clashes(&selectors) {
        let meta = &index.policies[at].meta;
        let others: Vec<_> = clash.others.iter().map(|other| index.policies[*other].meta.object.to_string()).collect();
        let message = clash.tell(meta.namespace(), &others.join(", "), "the oldest wins whole, nothing is merged");
        let fix = format!("make the selectors exclude each other, or write one policy instead of {}", others.join(", "));
        out.add("KIA0003", meta, "spec/selector", message, fix);
    }
}

/// KIA0004, IST0133 and MUT0002.
fn selector(index: &Index<'_>, policy: &PeerAuthentication, out: &mut Findings) {
    let namespace = policy.meta.namespace();
    if policy.selector.is_empty() {
        if policy.selector_present {
            let message = "selector holds no labels, so this policy is one for everything in its scope".to_owned();
            out.add("IST0133", &policy.meta, "spec/selector", message, "remove spec/selector".to_owned());
        }
        return;
    }
    if index.selected(namespace, &policy.selector).is_empty() {
        let message = format!("no workload of namespace {namespace} has the labels {}", shown(&policy.selector));
        out.add("KIA0004", &policy.meta, "spec/selector/matchLabels", message, "write labels that the pods have".to_owned());
    }
    if namespace == index.mesh.config.root_namespace {
        let message = format!("{namespace} is the root namespace, where a policy with a selector has no effect");
        let meant = index.selected_anywhere(&policy.selector).into_iter().find(|(_, workload)| workload.namespace != namespace);
        let fix = match meant {
            Some((_, workload)) => format!("metadata:\n  namespace: {}\n", workload.namespace),
            None => "move it to the namespace of its workloads".to_owned(),
        };
        out.add("MUT0002", &policy.meta, "spec/selector", message, fix);
    }
}

/// KIA0401, KIA0501, KIA0505 and KIA0506.
fn wide<'m>((engine, index): (&Engine, &Index<'m>), scopes: &Scopes<'m>, policy: &PeerAuthentication, out: &mut Findings) {
    let namespace = policy.meta.namespace();
    let mesh_wide = namespace == index.mesh.config.root_namespace;
    let host = if mesh_wide { "*.local".to_owned() } else { index.namespace_host(namespace) };
    // Rules that the namespace does not see do not count.
    let seen = |host: &str| -> Vec<&'m DestinationRule> {
        index.rules_for(host).iter().copied().filter(|rule| scopes.exports(rule, namespace)).collect()
    };
    let narrow = if mesh_wide { Vec::new() } else { seen(&host) };
    let broad = seen("*.local");
    match policy.mode {
        Some(MtlsMode::Strict) if !index.mesh.config.enable_auto_mtls => {
            if narrow.iter().chain(&broad).any(|rule| mode(rule) == Some(ClientTlsMode::IstioMutual)) {
                return;
            }
            let fix = paste::wide_rule(engine, namespace, &host, (!mesh_wide).then_some(namespace));
            let code = if mesh_wide { "KIA0401" } else { "KIA0501" };
            let message =
                format!("automatic mTLS is off and no DestinationRule for {host} has mode ISTIO_MUTUAL: clients send plaintext");
            out.add(code, &policy.meta, "spec/mtls", message, fix);
        }
        Some(MtlsMode::Disable) => {
            let Some(rule) = sends_tls(&narrow, &broad) else { return };
            let code = if mesh_wide { "KIA0506" } else { "KIA0505" };
            let message = format!("{} makes clients send TLS, which mode DISABLE does not terminate", rule.meta.object);
            out.add(code, &policy.meta, "spec/mtls", message, "mtls:\n  mode: PERMISSIVE\n".to_owned());
        }
        _ => {}
    }
}

/// The first narrow rule that says something decides; without one, any broad rule that sends TLS.
fn sends_tls<'m>(narrow: &[&'m DestinationRule], broad: &[&'m DestinationRule]) -> Option<&'m DestinationRule> {
    let sends = |rule: &DestinationRule| matches!(mode(rule), Some(ClientTlsMode::IstioMutual | ClientTlsMode::Mutual));
    let decides = narrow.iter().find(|rule| sends(rule) || mode(rule) == Some(ClientTlsMode::Disable));
    match decides {
        Some(rule) => sends(rule).then_some(*rule),
        None => broad.iter().find(|rule| sends(rule)).copied(),
    }
}

/// MUT0004.
fn strict_below_disable(index: &Index<'_>, policy: &PeerAuthentication, out: &mut Findings) {
    let namespace = policy.meta.namespace();
    let ignored = namespace == index.mesh.config.root_namespace;
    if ignored || policy.mode != Some(MtlsMode::Strict) || index.client_view(namespace) != Some(MtlsMode::Disable) {
        return;
    }
    if !index.mesh.config.enable_auto_mtls {
        return;
    }
    let message = format!("clients see mode DISABLE for namespace {namespace} and send plaintext, which STRICT refuses");
    let own = index.wide(namespace).first().is_some_and(|policy| policy.mode.is_some());
    let decides = if own { namespace } else { &index.mesh.config.root_namespace };
    let fix = paste::wide_policy(index, decides, MtlsMode::Permissive);
    out.add("MUT0004", &policy.meta, "spec/mtls/mode", message, fix);
}

/// MUT0005: one finding per port that is known as a Service port only.
fn service_ports(index: &Index<'_>, policy: &PeerAuthentication, out: &mut Findings) {
    if policy.ports.is_empty() {
        return;
    }
    let namespace = policy.meta.namespace();
    let selected = index.selected(namespace, &policy.selector);
    for port in policy.ports.keys() {
        if selected.iter().any(|(_, workload)| listens(index, namespace, workload, *port)) {
            continue;
        }
        let Some((workload, service, target)) = selected.iter().find_map(|(_, workload)| {
            let service = index.services_of(namespace, workload).find_map(|service| {
                let entry = service.ports.iter().find(|entry| entry.number == *port)?;
                Some((service.meta.object.to_string(), target_number(&entry.target, workload)?))
            })?;
            Some((workload.name, service.0, service.1))
        }) else {
            continue;
        };
        let message =
            format!("{port} is a port of {service}; workload {workload} is reached on {target}, so this entry does nothing");
        out.add(
            "MUT0005",
            &policy.meta,
            &format!("spec/portLevelMtls/{port}"),
            message,
            paste::policy_with_port(policy, *port, target),
        );
    }
}

fn listens(index: &Index<'_>, namespace: &str, workload: &Workload<'_>, port: u16) -> bool {
    workload.spec.is_some_and(|spec| spec.ports.iter().any(|known| known.number == port))
        || index
            .services_of(namespace, workload)
            .any(|service| service.ports.iter().any(|entry| target_number(&entry.target, workload) == Some(port)))
}

fn mode(rule: &DestinationRule) -> Option<ClientTlsMode> {
    rule.policy.as_ref()?.tls.as_ref().map(|tls| tls.mode)
}

/// Labels as `key=value`.
pub(super) fn shown(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}
