//! DestinationRules against each other: several for one host (KIA0201), and rules that lose a wider rule's TLS (KIA0204).

use std::collections::BTreeMap;

use mutua_model::{ClientTlsMode, DestinationRule};

use super::Findings;
use super::index::Index;
use super::reach::{Reach, Scopes};

/// How many others a message names.
const NAMED: usize = 4;

struct Entry<'m> {
    rule: &'m DestinationRule,
    host: String,
    reach: Reach<'m>,
}

/// Rules by their host's bytes from behind, so that those below a wildcard stand together.
type ByHost = BTreeMap<Vec<u8>, Vec<usize>>;

fn backwards(host: &str) -> Vec<u8> {
    host.bytes().rev().collect()
}

pub(super) fn check<'m>(index: &Index<'m>, scopes: &Scopes<'m>, out: &mut Findings) {
    let rules = index.rules.iter().copied();
    let host = |rule: &DestinationRule| scopes.full_host(&rule.host, rule.meta.namespace());
    let entries: Vec<Entry<'_>> = rules.map(|rule| Entry { rule, host: host(rule), reach: scopes.reach(rule) }).collect();
    let mut by_host = ByHost::new();
    for (at, entry) in entries.iter().enumerate() {
        by_host.entry(backwards(&entry.host)).or_default().push(at);
    }
    for (at, entry) in entries.iter().enumerate() {
        if !is_wide_mutual(index, entry.rule) {
            rivals(scopes, (&entries, &by_host), at, index, out);
        }
        overridden(index, scopes, entry, out);
    }
}

/// KIA0201.
fn rivals<'m>(
    scopes: &Scopes<'m>,
    (entries, by_host): (&[Entry<'m>], &ByHost),
    at: usize,
    index: &Index<'_>,
    out: &mut Findings,
) {
    let entry = &entries[at];
    let key = backwards(&entry.host);
    let same = by_host.get(&key).into_iter().flatten();
    let wider = wildcards_over(&entry.host).filter_map(|pattern| by_host.get(&backwards(&pattern))).flatten();
    let narrower = entry.host.strip_prefix('*').filter(|suffix| suffix.starts_with('.')).map(|suffix| {
        let end = backwards(suffix);
        let within = by_host.range(end.clone()..).take_while(move |(host, _)| host.starts_with(&end));
        within.filter(|(host, _)| **host != key).flat_map(|(_, list)| list)
    });
    let others = same.chain(wider).chain(narrower.into_iter().flatten()).map(|other| &entries[*other]);
    let clashes = |other: &&Entry<'m>| {
        !std::ptr::eq(other.rule, entry.rule)
            && !is_wide_mutual(index, other.rule)
            && subsets_clash(entry.rule, other.rule)
            && scopes.meet((entry.rule, &entry.reach), (other.rule, &other.reach))
    };
    let mut found: Vec<&DestinationRule> = others.filter(clashes).take(NAMED).map(|other| other.rule).collect();
    found.sort_by(|a, b| a.meta.age_order().cmp(&b.meta.age_order()));
    let Some(first) = found.first() else { return };
    let names: Vec<String> = found.iter().map(|other| other.meta.object.to_string()).collect();
    let message = format!(
        "{} too is for host {} and the same subsets; clients use one of them, or what Istio merges of them",
        names.join(", "),
        entry.host
    );
    let fix = format!("merge it with {}, or give them different hosts or subsets", first.meta.object);
    out.add("KIA0201", &entry.rule.meta, "spec/host", message, fix);
}

/// `*.b.c` and `*.c` for `a.b.c` and for `*.a.b.c`'s inner part.
fn wildcards_over(host: &str) -> impl Iterator<Item = String> {
    let dots = host.char_indices().filter(|(_, letter)| *letter == '.').map(|(at, _)| at);
    // The first dot of a wildcard gives the wildcard itself.
    let own = usize::from(host.starts_with("*."));
    dots.skip(own).map(|at| format!("*{}", &host[at..]))
}

fn subsets_clash(a: &DestinationRule, b: &DestinationRule) -> bool {
    a.subsets.is_empty()
        || b.subsets.is_empty()
        || a.subsets.iter().any(|one| b.subsets.iter().any(|other| one.name == other.name))
}

/// Rules that turn on mutual TLS for the mesh or for their whole namespace; others are meant to stand beside them.
fn is_wide_mutual(index: &Index<'_>, rule: &DestinationRule) -> bool {
    sends_mesh_tls(rule) && (rule.host == "*.local" || rule.host == index.namespace_host(rule.meta.namespace()))
}

fn sends_mesh_tls(rule: &DestinationRule) -> bool {
    rule.policy.as_ref().and_then(|policy| policy.tls.as_ref()).is_some_and(|tls| tls.mode == ClientTlsMode::IstioMutual)
}

/// KIA0204.
fn overridden<'m>(index: &Index<'m>, scopes: &Scopes<'m>, entry: &Entry<'m>, out: &mut Findings) {
    let rule = entry.rule;
    let policy = rule.policy.as_ref();
    if policy.is_some_and(|policy| policy.tls.is_some() || policy.ports.iter().any(|(_, port)| port.tls.is_some())) {
        return;
    }
    // Here `name.namespace` is no service to Kiali.
    let full = if rule.host.contains('.') { &rule.host } else { &entry.host };
    let wide = scopes.namespace_of(full).map(|namespace| index.namespace_host(namespace)).unwrap_or_default();
    let candidates = index.rules_for("*.local").iter().chain(index.rules_for(&wide)).chain(index.rules_for(full));
    let loses = |other: &&&DestinationRule| {
        !std::ptr::eq(**other, rule) && sends_mesh_tls(other) && scopes.meet((rule, &entry.reach), (other, &scopes.reach(other)))
    };
    let Some(other) = candidates.into_iter().find(loses) else { return };
    let message = format!(
        "{} sets ISTIO_MUTUAL for {}, and this rule without tls stands in its way: clients that use it do not get that setting",
        other.meta.object, other.host
    );
    let fix = "spec:\n  trafficPolicy:\n    tls:\n      mode: ISTIO_MUTUAL\n".to_owned();
    out.add("KIA0204", &rule.meta, "spec/trafficPolicy", message, fix);
}
