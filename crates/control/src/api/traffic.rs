//! `GET /api/v1/traffic` and `/api/v1/plaintext`: what the wire shows.
//!
//! Both ends of an edge report where both have a sidecar. Then the called side counts, as in Kiali: it alone knows which
//! connections came without TLS. Where it says otherwise than the caller, the edge says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::Parts;
use crate::clock::{at, rfc3339};
use crate::names::WorkloadName;
use crate::traffic::{Amount, EdgeView, Party, Reporter, Seen};

/// The code of a connection without TLS to a port that takes mutual TLS only (`docs/reasons.md`).
const PLAINTEXT_REFUSED: &str = "PLAINTEXT_ON_STRICT_PORT";

/// `GET /api/v1/traffic`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficView {
    from: String,
    until: String,
    nodes: Vec<NodeView>,
    edges: Vec<TrafficEdge>,
}

/// Who takes part.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeView {
    /// `NAMESPACE/NAME`, an address, the host of a service outside the mesh, or `many`.
    id: String,
    /// `workload`, `service`, `address` or `many`.
    kind: &'static str,
    namespace: Option<String>,
    /// Whether it has a sidecar; unknown outside the mesh.
    sidecar: Option<bool>,
}

/// From one to another.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TrafficEdge {
    from: String,
    to: String,
    state: State,
    services: BTreeSet<String>,
    ports: BTreeSet<u16>,
    mtls: Amount,
    tls: Amount,
    plaintext: Amount,
    /// Connections that are open now.
    open: u64,
    failures: Vec<FailureView>,
    protections: Vec<ProtectionView>,
    /// Identities that the caller proved to the called, and the called to the caller.
    from_identities: BTreeSet<String>,
    to_identities: BTreeSet<String>,
    first_seen: String,
    last_seen: String,
    /// Whose sidecars tell of it.
    reporters: BTreeSet<Reporter>,
    /// What the two ends tell differently.
    disagreement: Option<String>,
}

/// What an edge is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// Mutual TLS, all of it.
    Mtls,
    /// Some with mutual TLS and some without.
    Mixed,
    /// Without TLS, all of it.
    Plaintext,
    /// TLS that is not the mesh's.
    Tls,
    /// Nothing was served.
    Refused,
}

/// Connections that were refused or cut.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FailureView {
    code: String,
    reporter: Reporter,
    count: u64,
}

/// Connections of one kind of TLS.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProtectionView {
    tls_version: String,
    cipher: String,
    group: String,
    connections: u64,
}

/// `GET /api/v1/plaintext`: who calls without TLS.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaintextView {
    from: String,
    until: String,
    callers: Vec<PlaintextCaller>,
}

/// One caller of one port.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PlaintextCaller {
    workload: String,
    port: u16,
    service: Option<String>,
    caller: String,
    caller_kind: &'static str,
    /// Whether the caller has a sidecar; unknown outside the mesh.
    caller_sidecar: Option<bool>,
    connections: u64,
    requests: u64,
    /// Connections that were refused because the port takes mutual TLS only.
    refused: u64,
    first_seen: String,
    last_seen: String,
}

/// All edges of the last `window`.
#[must_use]
pub fn traffic(parts: &Parts, window: Duration, now: SystemTime) -> TrafficView {
    let mut pairs: BTreeMap<(String, String), Vec<EdgeView>> = BTreeMap::new();
    let mut nodes: BTreeMap<String, NodeView> = BTreeMap::new();
    for view in views(parts, window, now) {
        let ends = [node(parts, &view.key.from, ""), node(parts, &view.key.to, &view.key.service)];
        let [from, to] = ends.map(|end| {
            let id = end.id.clone();
            nodes.entry(id.clone()).or_insert(end);
            id
        });
        pairs.entry((from, to)).or_default().push(view);
    }
    TrafficView {
        from: rfc3339(now - window),
        until: rfc3339(now),
        nodes: nodes.into_values().collect(),
        edges: pairs.into_iter().map(|((from, to), views)| edge(from, to, &views)).collect(),
    }
}

/// Who called which port without TLS in the last `window`.
#[must_use]
pub fn plaintext(parts: &Parts, window: Duration, now: SystemTime) -> PlaintextView {
    let mut callers: BTreeMap<(String, u16, String), PlaintextCaller> = BTreeMap::new();
    for view in views(parts, window, now) {
        let served = view.key.seen == Seen::Plaintext && view.key.reason.is_empty();
        if view.key.reporter != Reporter::Destination || !(served || view.key.reason == PLAINTEXT_REFUSED) {
            continue;
        }
        let caller = node(parts, &view.key.from, "");
        let key = (view.key.to.to_string(), view.key.port, caller.id.clone());
        let entry = callers.entry(key).or_insert_with(|| PlaintextCaller {
            workload: view.key.to.to_string(),
            port: view.key.port,
            service: None,
            caller: caller.id,
            caller_kind: caller.kind,
            caller_sidecar: caller.sidecar,
            connections: 0,
            requests: 0,
            refused: 0,
            first_seen: time(view.first_seen),
            last_seen: String::new(),
        });
        entry.service = entry.service.take().or_else(|| Some(view.key.service.clone()).filter(|service| !service.is_empty()));
        entry.connections += view.amount.connections;
        entry.requests += view.amount.requests;
        entry.refused += view.amount.failed;
        entry.first_seen = entry.first_seen.clone().min(time(view.first_seen));
        entry.last_seen = std::mem::take(&mut entry.last_seen).max(time(view.last_seen));
    }
    let callers = callers.into_values().collect();
    PlaintextView { from: rfc3339(now - window), until: rfc3339(now), callers }
}

fn views(parts: &Parts, window: Duration, now: SystemTime) -> Vec<EdgeView> {
    let connected: BTreeSet<WorkloadName> = parts.registry.connected().into_iter().collect();
    parts.traffic.since(now - window, now, |workload| connected.contains(workload))
}

/// `service`: by which host an address was reached.
fn node(parts: &Parts, party: &Party, service: &str) -> NodeView {
    let outside = |id: String, kind| NodeView { id, kind, namespace: None, sidecar: None };
    match party {
        Party::Workload(name) => NodeView {
            id: name.to_string(),
            kind: "workload",
            namespace: Some(name.namespace().to_owned()),
            sidecar: parts.world.current().member(name).map(|member| member.sidecar),
        },
        Party::Address(_) if !service.is_empty() => outside(service.to_owned(), "service"),
        Party::Address(address) => outside(address.to_string(), "address"),
        Party::Many => outside("many".to_owned(), "many"),
    }
}

fn edge(from: String, to: String, views: &[EdgeView]) -> TrafficEdge {
    let reporters: BTreeSet<Reporter> = views.iter().map(|view| view.key.reporter).collect();
    let counts = if reporters.contains(&Reporter::Destination) { Reporter::Destination } else { Reporter::Source };
    let counting = || views.iter().filter(|view| view.key.reporter == counts);
    let sum = |seen: Seen| {
        let of = counting().filter(|view| view.key.seen == seen && view.key.reason.is_empty());
        of.fold(Amount::default(), |sum, view| sum.and(&view.amount))
    };
    let identities = |end: Reporter| {
        let proved = views.iter().filter(|view| view.key.reporter == end && view.key.reason.is_empty());
        proved.map(|view| view.key.peer_identity.clone()).filter(|identity| !identity.is_empty()).collect()
    };
    TrafficEdge {
        state: state(&kinds(views, counts)),
        services: views.iter().map(|view| view.key.service.clone()).filter(|service| !service.is_empty()).collect(),
        ports: counting().map(|view| view.key.port).filter(|port| *port != 0).collect(),
        mtls: sum(Seen::Mtls),
        tls: sum(Seen::Tls),
        plaintext: sum(Seen::Plaintext),
        open: counting().map(|view| view.open).sum(),
        failures: failures(views),
        protections: protections(counting()),
        from_identities: identities(Reporter::Destination),
        to_identities: identities(Reporter::Source),
        first_seen: time(views.iter().map(|view| view.first_seen).min().unwrap_or(0)),
        last_seen: time(views.iter().map(|view| view.last_seen).max().unwrap_or(0)),
        disagreement: disagreement(views),
        reporters,
        from,
        to,
    }
}

/// What one end saw served.
fn kinds(views: &[EdgeView], reporter: Reporter) -> BTreeSet<Seen> {
    let served = views.iter().filter(|view| view.key.reporter == reporter && view.key.reason.is_empty());
    let carries = |view: &&EdgeView| view.open > 0 || view.amount.connections + view.amount.requests > 0;
    served.filter(carries).map(|view| view.key.seen).collect()
}

fn state(kinds: &BTreeSet<Seen>) -> State {
    let only = |seen| kinds.len() == 1 && kinds.contains(&seen);
    if kinds.is_empty() || only(Seen::Refused) {
        State::Refused
    } else if only(Seen::Mtls) {
        State::Mtls
    } else if only(Seen::Plaintext) {
        State::Plaintext
    } else if only(Seen::Tls) {
        State::Tls
    } else {
        State::Mixed
    }
}

/// Where both ends tell of connections, and one of a kind that the other does not know. What the called side passes on is
/// plaintext or TLS by its first bytes, which the caller may not look at.
fn disagreement(views: &[EdgeView]) -> Option<String> {
    let [source, destination] = [Reporter::Source, Reporter::Destination].map(|end| kinds(views, end));
    let mutual = |kinds: &BTreeSet<Seen>| kinds.contains(&Seen::Mtls);
    if source.is_empty() || destination.is_empty() || mutual(&source) == mutual(&destination) {
        return None;
    }
    let (says, not) = if mutual(&source) { ("caller", "called") } else { ("called", "caller") };
    Some(format!("the {says} side's sidecar tells of mutual TLS, the {not} side's of none"))
}

fn failures(views: &[EdgeView]) -> Vec<FailureView> {
    let mut counts: BTreeMap<(&str, Reporter), u64> = BTreeMap::new();
    for view in views.iter().filter(|view| view.amount.failed > 0) {
        *counts.entry((&view.key.reason, view.key.reporter)).or_default() += view.amount.failed;
    }
    let view = |((code, reporter), count): ((&str, Reporter), u64)| FailureView { code: code.to_owned(), reporter, count };
    counts.into_iter().map(view).collect()
}

fn protections<'v>(views: impl Iterator<Item = &'v EdgeView>) -> Vec<ProtectionView> {
    let mut counts: BTreeMap<[&str; 3], u64> = BTreeMap::new();
    for view in views.filter(|view| !view.key.tls_version.is_empty() && view.key.reason.is_empty()) {
        let key = [&*view.key.tls_version, &*view.key.cipher, &*view.key.group];
        *counts.entry(key).or_default() += view.amount.connections.max(view.open);
    }
    let view = |([version, cipher, group], connections): ([&str; 3], u64)| ProtectionView {
        tls_version: version.to_owned(),
        cipher: cipher.to_owned(),
        group: group.to_owned(),
        connections,
    };
    counts.into_iter().map(view).collect()
}

fn time(seconds: u64) -> String {
    rfc3339(at(i64::try_from(seconds).unwrap_or(0)))
}
