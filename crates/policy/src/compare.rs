//! What changes between two snapshots: connections and ports whose protection is not the same.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mutua_model::{AppProtocol, MtlsMode};
use serde::Serialize;

use crate::engine::Engine;
use crate::explain::ConnectionQuery;
use crate::outcome::Outcome;

/// Which way it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Less protected than before.
    Weaker,
    /// It worked and does not any more.
    Broken,
    /// It depends on the endpoint, without being weaker at its weakest.
    Other,
    /// It did not work and does now, protected.
    Opened,
    /// Better protected than before.
    Stronger,
}

/// A connection whose outcome changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edge {
    /// Which way.
    pub change: Change,
    /// The clients for which it is so.
    pub from: Vec<String>,
    /// `HOST:PORT`.
    pub to: String,
    /// The outcome before.
    pub old: Outcome,
    /// The outcome after.
    pub new: Outcome,
}

/// A port that accepts something else than before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Port {
    /// Which way.
    pub change: Change,
    /// `NAMESPACE/NAME`.
    pub workload: String,
    /// The port; 0 for all that are not listed.
    pub port: u16,
    /// The mode before.
    pub old: MtlsMode,
    /// The mode after.
    pub new: MtlsMode,
}

/// Everything that changes, weaker things first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Connections.
    pub edges: Vec<Edge>,
    /// Ports.
    pub ports: Vec<Port>,
}

impl Comparison {
    /// Whether anything got weaker.
    #[must_use]
    pub fn is_weaker(&self) -> bool {
        let edges = self.edges.iter().map(|edge| edge.change);
        edges.chain(self.ports.iter().map(|port| port.change)).any(|change| change == Change::Weaker)
    }
}

/// Compares what is in both: clients and service ports that one of them lacks are left out.
#[must_use]
pub fn compare(old: &Engine, new: &Engine) -> Comparison {
    let mut comparison = Comparison { edges: edges(old, new), ports: ports(old, new) };
    comparison.edges.sort();
    comparison.ports.sort();
    comparison
}

fn names(engine: &Engine) -> BTreeSet<String> {
    let counting = engine.workloads().iter().filter(|one| one.counts);
    counting.map(|one| format!("{}/{}/{}", one.kind.as_str(), one.namespace, one.name)).collect()
}

fn destinations(engine: &Engine) -> BTreeSet<String> {
    let ports = engine.services.iter().filter(|service| !crate::host::is_wildcard(&service.host));
    let of = |service: &crate::service::Service| {
        let tcp = service.ports.iter().filter(|port| port.protocol != AppProtocol::Udp);
        tcp.map(|port| format!("{}:{}", service.host, port.number)).collect::<Vec<_>>()
    };
    ports.flat_map(of).collect()
}

/// Clients that both snapshots treat alike are asked for once.
fn edges(old: &Engine, new: &Engine) -> Vec<Edge> {
    let mut classes: Vec<((_, _, bool, bool), Vec<String>)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for name in names(old).intersection(&names(new)) {
        let (Ok(before), Ok(after)) = (old.workload(name), new.workload(name)) else { continue };
        let class = (old.client_class(before), new.client_class(after), before.sidecar, after.sidecar);
        let at = *places.entry(class.clone()).or_insert_with(|| {
            classes.push((class, Vec::new()));
            classes.len() - 1
        });
        classes[at].1.push(name.clone());
    }
    let (before, after) = (destinations(old), destinations(new));
    let targets: Vec<&String> = before.intersection(&after).collect();
    let mut edges = Vec::new();
    for (_, clients) in &classes {
        for to in &targets {
            let query = ConnectionQuery { from: clients[0].clone(), to: (*to).clone(), subset: None };
            let (Ok(before), Ok(after)) = (old.explain_connection(&query), new.explain_connection(&query)) else { continue };
            let weakest = |answer: &crate::ConnectionAnswer| answer.endpoints.iter().map(|one| rank(one.connection)).min();
            let ranks = (
                weakest(&before).unwrap_or_else(|| rank(before.outcome)),
                weakest(&after).unwrap_or_else(|| rank(after.outcome)),
            );
            let Some(change) = change(ranks, before.outcome != after.outcome) else { continue };
            let from = clients.iter().filter_map(|name| name.split_once('/')).map(|(_, name)| name.to_owned()).collect();
            edges.push(Edge { change, from, to: (*to).clone(), old: before.outcome, new: after.outcome });
        }
    }
    edges
}

/// How well an outcome protects: nothing passes a refusal.
fn rank(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Plaintext | Outcome::Mixed => 0,
        Outcome::Tls => 1,
        Outcome::Mtls => 2,
        Outcome::Refused => 3,
    }
}

fn change((old, new): (u8, u8), differs: bool) -> Option<Change> {
    match (old, new) {
        _ if old == new => differs.then_some(Change::Other),
        (3, 2) => Some(Change::Opened),
        (_, 3) => Some(Change::Broken),
        _ if new < old => Some(Change::Weaker),
        _ => Some(Change::Stronger),
    }
}

fn ports(old: &Engine, new: &Engine) -> Vec<Port> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for name in names(old).intersection(&names(new)) {
        let (Ok(before), Ok(after)) = (old.explain_workload(name), new.explain_workload(name)) else { continue };
        if !before.sidecar && !after.sidecar {
            continue;
        }
        let modes = |answer: &crate::WorkloadAnswer| answer.ports.clone();
        let (old_ports, new_ports): (BTreeMap<_, _>, BTreeMap<_, _>) = (modes(&before), modes(&after));
        let all: BTreeSet<u16> = old_ports.keys().chain(new_ports.keys()).copied().chain([0]).collect();
        for port in all {
            let was = old_ports.get(&port).copied().unwrap_or(before.mode);
            let is = new_ports.get(&port).copied().unwrap_or(after.mode);
            if was != is && seen.insert((before.workload.clone(), port)) {
                let change = if is < was { Change::Weaker } else { Change::Stronger };
                found.push(Port { change, workload: before.workload.clone(), port, old: was, new: is });
            }
        }
    }
    found
}
