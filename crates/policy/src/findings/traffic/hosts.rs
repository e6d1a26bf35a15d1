//! Which services a rule is for, and rules that are for none.

use mutua_model::DestinationRule;

use crate::engine::Engine;
use crate::findings::Findings;
use crate::findings::index::Index;
use crate::host;
use crate::service::Service;

/// IST0173, IST0174 and MUT0032.
pub(super) fn check((engine, index): (&Engine, &Index<'_>), rule: &DestinationRule, covered: &[usize], out: &mut Findings) {
    // A rule for one name of a wildcard service is for no service, and istioctl holds its subsets against that one.
    let of: Vec<&Service> = match covered {
        [] => unknown(engine, rule, out),
        _ => covered.iter().map(|at| &engine.services[*at]).collect(),
    };
    if of.is_empty() {
        return;
    }
    for (at, subset) in rule.subsets.iter().enumerate().filter(|(_, subset)| !subset.labels.is_empty()) {
        let selected = of
            .iter()
            .flat_map(|service| &service.endpoints)
            .any(|endpoint| subset.labels.iter().all(|(key, value)| endpoint.labels.get(key) == Some(value)));
        if !selected {
            let shown = crate::findings::peer::shown(&subset.labels);
            let elsewhere = index.selected_anywhere(&subset.labels);
            let (code, message) = match elsewhere.first() {
                None => ("IST0173", format!("no workload has the labels {shown} of subset {}", subset.name)),
                Some((_, other)) => {
                    let (namespace, name) = (other.namespace, other.name);
                    let who = format!("workload {namespace}/{name} has the labels {shown} of subset {}", subset.name);
                    ("MUT0032", format!("{who}, but no endpoint of {}", rule.host))
                }
            };
            let fix = "write labels that its workloads have".to_owned();
            out.add(code, &rule.meta, &format!("spec/subsets[{at}]/labels"), message, fix);
        }
    }
}

/// IST0174; returns the wildcard services that the host belongs to. Without any service in the input nothing can be said,
/// and wildcards may be meant for services to come.
fn unknown<'e>(engine: &'e Engine, rule: &DestinationRule, out: &mut Findings) -> Vec<&'e Service> {
    let mesh = engine.mesh();
    let nothing_known = mesh.services.is_empty() && mesh.service_entries.is_empty();
    if nothing_known || host::is_wildcard(&rule.host) || rule.host.parse::<std::net::IpAddr>().is_ok() {
        return Vec::new();
    }
    let domain = &mesh.config.cluster_domain;
    let full = host::resolve_short(&rule.host, rule.meta.namespace(), domain);
    let named = mesh.services.iter().any(|one| full == format!("{}.{}.svc.{domain}", one.meta.name(), one.meta.namespace()));
    // Every cluster has the API server's.
    let wild = engine.services_covering(&full);
    if named || full == format!("kubernetes.default.svc.{domain}") || !wild.is_empty() {
        return wild;
    }
    let message = format!("no service has the host {full}, so this rule does nothing");
    let parts: Vec<&str> = rule.host.split('.').collect();
    let fix = match parts[..] {
        [name, namespace] | [name, namespace, "svc"] => format!("host: {name}.{namespace}.svc.{domain}"),
        _ => format!("write the full name of a service, like {}.NAMESPACE.svc.{domain}", parts[0]),
    };
    out.add("IST0174", &rule.meta, "spec/host", message, fix);
    Vec::new()
}
