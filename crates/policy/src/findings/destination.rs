//! Checks on DestinationRules.

use mutua_model::{ClientTls, ClientTlsMode, DestinationRule, MtlsMode, TrafficPolicy};

use super::Findings;
use super::index::Index;
use super::paste;
use crate::client::drops;

const MODE: &str = "spec/trafficPolicy/tls/mode";

pub(super) fn check(index: &Index<'_>, out: &mut Findings) {
    for rule in &index.rules {
        wide(index, rule, out);
        if let Some(policy) = &rule.policy {
            unverified(rule, policy, out);
            credentials(rule, policy, "spec/trafficPolicy", out);
        }
        for (position, subset) in rule.subsets.iter().enumerate() {
            if let Some(policy) = &subset.policy {
                credentials(rule, policy, &format!("spec/subsets[{position}]/trafficPolicy"), out);
            }
        }
    }
}

/// KIA0205 to KIA0208.
fn wide(index: &Index<'_>, rule: &DestinationRule, out: &mut Findings) {
    let Some(tls) = rule.policy.as_ref().and_then(|policy| policy.tls.as_ref()) else { return };
    let namespace = rule.meta.namespace();
    let mesh_wide = rule.host == "*.local";
    if !mesh_wide && rule.host != index.namespace_host(namespace) {
        return;
    }
    match tls.mode {
        ClientTlsMode::IstioMutual if !index.mesh.config.enable_auto_mtls => {
            let accepted = enabled_in(index, &index.mesh.config.root_namespace).is_some()
                || (!mesh_wide && enabled_in(index, namespace).is_some());
            if accepted {
                return;
            }
            let (code, scope) = if mesh_wide { ("KIA0205", "mesh") } else { ("KIA0206", "namespace or mesh") };
            let message = format!(
                "clients of {} send mutual TLS, and no {scope}-wide PeerAuthentication is STRICT or PERMISSIVE",
                rule.host
            );
            let owner = if mesh_wide { &index.mesh.config.root_namespace } else { namespace };
            out.add(code, &rule.meta, MODE, message, paste::wide_policy(index, owner, MtlsMode::Permissive));
        }
        ClientTlsMode::Disable => disabled(index, rule, mesh_wide, out),
        _ => {}
    }
}

/// KIA0207 and KIA0208.
fn disabled(index: &Index<'_>, rule: &DestinationRule, mesh_wide: bool, out: &mut Findings) {
    let namespace = rule.meta.namespace();
    let fix = paste::mesh_tls(index.mesh, rule, "spec/trafficPolicy/tls");
    let own = enabled_in(index, namespace);
    if !mesh_wide && own == Some(MtlsMode::Strict) {
        let message =
            format!("clients of {} send plaintext, which the STRICT policy of namespace {namespace} refuses", rule.host);
        out.add("KIA0207", &rule.meta, MODE, message, fix);
        return;
    }
    let has_own = own.is_some() || index.wide(namespace).iter().any(|policy| policy.mode == Some(MtlsMode::Disable));
    let strict_mesh = index.mesh_policies().iter().any(|policy| policy.mode == Some(MtlsMode::Strict));
    if strict_mesh && (mesh_wide || !has_own) {
        let message = format!("clients of {} send plaintext, which the mesh-wide STRICT policy refuses", rule.host);
        out.add("KIA0208", &rule.meta, MODE, message, fix);
    }
}

/// The first policy without selector of a namespace that is STRICT or PERMISSIVE.
fn enabled_in(index: &Index<'_>, namespace: &str) -> Option<MtlsMode> {
    index.wide(namespace).iter().filter_map(|policy| policy.mode).find(|mode| *mode != MtlsMode::Disable)
}

/// IST0128 and IST0129; subsets are not looked at, as in istioctl.
fn unverified(rule: &DestinationRule, policy: &TrafficPolicy, out: &mut Findings) {
    let bare = |tls: &ClientTls| {
        originates(tls) && tls.ca_certificates.is_empty() && (tls.credential_name.is_empty() || rule.workload_selector.is_none())
    };
    let message = |tls: &ClientTls| {
        format!("mode {} without caCertificates: the server's certificate is not checked against given roots", tls.mode)
    };
    let fix = || format!("caCertificates: {}", paste::ROOTS);
    if let Some(tls) = policy.tls.as_ref().filter(|tls| bare(tls)) {
        out.add("IST0128", &rule.meta, "spec/trafficPolicy/tls", message(tls), fix());
    }
    for (position, (_, port)) in policy.ports.iter().enumerate() {
        if let Some(tls) = port.tls.as_ref().filter(|tls| bare(tls)) {
            let path = format!("spec/trafficPolicy/portLevelSettings[{position}]/tls");
            out.add("IST0129", &rule.meta, &path, message(tls), fix());
        }
    }
}

/// MUT0001 and MUT0033, at every level.
fn credentials(rule: &DestinationRule, policy: &TrafficPolicy, path: &str, out: &mut Findings) {
    let ports = policy.ports.iter().enumerate();
    let ports = ports.map(|(position, (_, port))| (format!("{path}/portLevelSettings[{position}]/tls"), &port.tls));
    for (path, tls) in std::iter::once((format!("{path}/tls"), &policy.tls)).chain(ports) {
        let Some(tls) = tls.as_ref().filter(|tls| originates(tls)) else { continue };
        let name = &tls.credential_name;
        let (code, message) = match drops(tls, rule.workload_selector.is_some()) {
            _ if name.is_empty() => continue,
            true => (
                "MUT0001",
                format!("credentialName {name} without workloadSelector: sidecars drop the TLS settings and send plaintext"),
            ),
            false => ("MUT0033", format!("sidecars are not given what {name} holds: they refuse the connections that need it")),
        };
        out.add(code, &rule.meta, &format!("{path}/credentialName"), message, paste::tls_of_files(tls));
    }
}

fn originates(tls: &ClientTls) -> bool {
    matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual)
}
