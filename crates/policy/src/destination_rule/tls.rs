//! What one merged rule says about TLS for a port and subset. There are two readings in Istio, which inherit
//! differently: the one that builds the cluster, and the one that marks its endpoints.

use mutua_model::{ClientTls, ClientTlsMode, TrafficPolicy};

use super::{MergedRule, Written};

/// TLS settings with where they were written (`path` ends in `/tls`).
pub(crate) type WrittenTls = Written<ClientTls>;

/// A traffic policy or one entry of its port list.
struct Level<'p> {
    tls: Option<&'p ClientTls>,
    path: String,
    /// Whether it is an entry for the port.
    of_port: bool,
}

/// The port's entry taken whole if there is one, else the policy itself.
fn level<'p>(policy: &'p TrafficPolicy, path: &str, port: u16) -> Level<'p> {
    let entry = policy.ports.iter().enumerate().find(|(_, (number, _))| *number == port);
    match entry {
        Some((at, (_, entry))) => {
            Level { tls: entry.tls.as_ref(), path: format!("{path}/portLevelSettings[{at}]"), of_port: true }
        }
        None => Level { tls: policy.tls.as_ref(), path: path.to_owned(), of_port: false },
    }
}

fn written(rule: &std::sync::Arc<mutua_model::DestinationRule>, level: &Level<'_>) -> Option<WrittenTls> {
    let value = level.tls?.clone();
    Some(Written { rule: std::sync::Arc::clone(rule), path: format!("{}/tls", level.path), value })
}

/// TLS as built into the cluster: a port's entry replaces the level it stands in, whole (`MergeTrafficPolicy`).
pub(crate) fn of_cluster(rule: &MergedRule, port: u16, subset: Option<&str>) -> Option<WrittenTls> {
    let outer = rule.policy.as_ref().map(|policy| (policy, level(&policy.value, &policy.path, port)));
    let outer_tls = || outer.as_ref().and_then(|(policy, level)| written(&policy.rule, level));
    let Some(subset) = subset.and_then(|name| rule.subset(name)) else { return outer_tls() };
    let Some(policy) = &subset.value.policy else { return outer_tls() };
    let inner = level(policy, &format!("{}/trafficPolicy", subset.path), port);
    let tls = written(&subset.rule, &inner);
    if inner.of_port { tls } else { tls.or_else(outer_tls) }
}

/// The mode that marks endpoints: a port's entry counts only if it has `tls` (`mtlsDisabledByDR`).
pub(crate) fn of_endpoint(rule: &MergedRule, port: u16, subset: Option<&str>) -> Option<ClientTlsMode> {
    let mode = |policy: &TrafficPolicy| {
        let entries = policy.ports.iter().filter(|(number, _)| *number == port);
        entries.filter_map(|(_, entry)| entry.tls.as_ref()).next().or(policy.tls.as_ref()).map(|tls| tls.mode)
    };
    let inner = subset.and_then(|name| rule.subset(name)).and_then(|subset| subset.value.policy.as_ref()).and_then(mode);
    inner.or_else(|| rule.policy.as_ref().and_then(|policy| mode(&policy.value)))
}

/// Where [`of_endpoint`] found its mode: the rule, and the path of the mode.
pub(crate) fn endpoint_place(
    rule: &MergedRule,
    port: u16,
    subset: Option<&str>,
) -> Option<(std::sync::Arc<mutua_model::DestinationRule>, String)> {
    let path = |policy: &TrafficPolicy, path: &str| {
        let entry = policy.ports.iter().position(|(number, entry)| *number == port && entry.tls.is_some());
        let inner = entry.map(|at| format!("{path}/portLevelSettings[{at}]/tls/mode"));
        inner.or_else(|| policy.tls.as_ref().map(|_| format!("{path}/tls/mode")))
    };
    let subset = subset.and_then(|name| rule.subset(name));
    let inner = subset.and_then(|subset| {
        let policy = subset.value.policy.as_ref()?;
        Some((std::sync::Arc::clone(&subset.rule), path(policy, &format!("{}/trafficPolicy", subset.path))?))
    });
    inner.or_else(|| {
        let outer = rule.policy.as_ref()?;
        Some((std::sync::Arc::clone(&outer.rule), path(&outer.value, &outer.path)?))
    })
}

/// Whether the load balancer is written as PASSTHROUGH where Istio looks before it decides on auto mTLS: at the top
/// level, or of a subset at the subset's own (`BestEffortInferServiceMTLSMode` gets the unmerged policy).
pub(crate) fn is_passthrough(rule: &MergedRule, subset: Option<&str>) -> bool {
    match subset.and_then(|name| rule.subset(name)) {
        Some(subset) => subset.value.policy.as_ref().is_some_and(|policy| policy.passthrough),
        None => rule.policy.as_ref().is_some_and(|policy| policy.value.passthrough),
    }
}

/// Whether the cluster dials the original address. PASSTHROUGH of a port's entry counts in place of its level's; a
/// subset's cluster has the type of the one without subset, unless its own policy or port entry says PASSTHROUGH
/// (`buildSubsetCluster`).
pub(crate) fn dials_original(rule: &MergedRule, port: u16, subset: Option<&str>) -> bool {
    let entry = |policy: &TrafficPolicy| {
        let entry = policy.ports.iter().find(|(number, _)| *number == port);
        entry.map(|(_, entry)| entry.passthrough)
    };
    let outer = rule.policy.as_ref().map(|policy| &policy.value);
    let inner = subset.and_then(|name| rule.subset(name)).and_then(|subset| subset.value.policy.as_ref());
    outer.is_some_and(|policy| entry(policy).unwrap_or(policy.passthrough))
        || inner.is_some_and(|policy| policy.passthrough || entry(policy) == Some(true))
}
