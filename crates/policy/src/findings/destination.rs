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
        }
        credentials(index, rule, out);
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
        tls.mode.originates()
            && tls.ca_certificates.is_empty()
            && (tls.credential_name.is_empty() || rule.workload_selector.is_none())
    };
    for (path, tls) in policy.tls_at("spec/trafficPolicy").filter(|(_, tls)| bare(tls)) {
        let code = if path == "spec/trafficPolicy/tls" { "IST0128" } else { "IST0129" };
        let message =
            format!("mode {} without caCertificates: the server's certificate is not checked against given roots", tls.mode);
        out.add(code, &rule.meta, &path, message, format!("caCertificates: {}", paste::ROOTS));
    }
}

/// MUT0001 and MUT0033, at every level.
fn credentials(index: &Index<'_>, rule: &DestinationRule, out: &mut Findings) {
    for (path, tls) in rule.tls().filter(|(_, tls)| tls.mode.originates()) {
        let name = &tls.credential_name;
        if name.is_empty() {
            continue;
        }
        let (code, message, fix) = match drops(tls, rule.workload_selector.is_some()) {
            true => (
                "MUT0001",
                format!("credentialName {name} without workloadSelector: sidecars drop the TLS settings and send plaintext"),
                paste::tls_of_files(tls),
            ),
            false => match index.secrets.credential(rule.meta.namespace(), tls) {
                Ok(_) => continue,
                Err(why) => {
                    let fix = paste::credential(&why).unwrap_or_else(|| paste::tls_of_files(tls));
                    ("MUT0033", format!("{why}: sidecars refuse the connections that need it"), fix)
                }
            },
        };
        out.add(code, &rule.meta, &format!("{path}/credentialName"), message, fix);
    }
}
