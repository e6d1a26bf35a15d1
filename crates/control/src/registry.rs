//! What the control plane knows of every proxy: connected or not, how far it has come, its certificate, what it refused.
//!
//! Everything is kept under the identity that the connection's certificate proves, and under the workload that this
//! identity was allowed to ask for; what a report claims about itself changes nothing but its own entry.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use mutua_policy::ServerFirst;
use mutua_wire::mesh::{Anchored, ProxyReport, Refusal};

use crate::distribute::subscriptions::Progress;
use crate::names::WorkloadName;
use crate::revision::Revision;

/// How many proxies are remembered; the one that left longest ago is forgotten first.
const MAX_PROXIES: usize = 50_000;
/// How long a proxy that has left is waited for: it may only be opening another stream.
const MOMENT: Duration = Duration::from_secs(1);
/// How many kinds of refusals (code and direction) are counted per proxy.
const MAX_CODES: usize = 64;
/// How many refusals are kept with their peer, per proxy.
const RECENT_REFUSALS: usize = 16;
/// How many ports are taken from a report.
const MAX_PORTS: usize = 64;
/// How many kinds of trust anchors are taken from a report.
const MAX_ANCHORS: usize = 17;
/// The longest text taken from a report.
const MAX_TEXT: usize = 512;

/// One connection's right to change its entry; an older connection of the same workload has lost it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    workload: WorkloadName,
    connection: u64,
}

/// One proxy.
#[derive(Clone, Debug, Default)]
pub struct Proxy {
    /// The identity of its certificate, as a URI.
    pub identity: String,
    /// The address it is connected from.
    pub address: String,
    /// Since when it is connected, or when it left.
    pub since: Option<SystemTime>,
    /// Whether its discovery stream is open.
    pub connected: bool,
    /// Whether the last stream ended without its doing.
    pub lost: bool,
    /// How far it has come with the configuration.
    pub progress: Progress,
    /// The software it runs, as it says.
    pub version: String,
    /// What it reported last, refusals left out.
    pub report: Option<Report>,
    /// Refused connections by code and direction, since the control plane runs.
    pub refusals: BTreeMap<(String, String), u64>,
    /// The last refusals with their peers, newest last.
    pub recent_refusals: VecDeque<Refusal>,
    connection: u64,
}

/// What a proxy says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// When it arrived.
    pub at: Option<SystemTime>,
    /// Serial number of the leaf it shows, hexadecimal.
    pub certificate_serial: String,
    /// Start of that leaf's validity, Unix seconds.
    pub certificate_not_before: i64,
    /// End of that leaf, Unix seconds.
    pub certificate_not_after: i64,
    /// Successful renewals since it runs.
    pub renewals: u64,
    /// Failed renewals since it runs.
    pub failed_renewals: u64,
    /// The last renewal's error, empty when it worked.
    pub last_renewal_error: String,
    /// Its clock minus ours at the last renewal, in milliseconds.
    pub clock_skew_ms: i64,
    /// Connections open now.
    pub open_connections: u64,
    /// Connections cut since it runs because their time for draining was over.
    pub drained_by_force: u64,
    /// Ports whose server speaks first.
    pub server_first: BTreeMap<u16, ServerFirst>,
    /// Live mesh connections by the trust anchor that their peers were verified by.
    pub anchored: Vec<Anchored>,
}

/// The registry.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    proxies: HashMap<WorkloadName, Proxy>,
    connections: u64,
}

impl Registry {
    /// A proxy has opened its discovery stream.
    pub fn connect(&self, workload: &WorkloadName, identity: &str, address: &str, version: &str, now: SystemTime) -> Ticket {
        let mut inner = self.lock();
        inner.make_room(workload);
        inner.connections += 1;
        let connection = inner.connections;
        let proxy = inner.proxies.entry(workload.clone()).or_default();
        proxy.identity = identity.to_owned();
        proxy.address = address.to_owned();
        proxy.version = bounded(version);
        proxy.since = Some(now);
        proxy.connected = true;
        proxy.progress = Progress::default();
        proxy.connection = connection;
        Ticket { workload: workload.clone(), connection }
    }

    /// Its stream has ended: by its own doing, or the connection was `lost`. Nothing happens when it has connected again
    /// meanwhile.
    pub fn disconnect(&self, ticket: &Ticket, lost: bool, now: SystemTime) {
        self.change(ticket, |proxy| {
            proxy.connected = false;
            proxy.lost = lost;
            proxy.since = Some(now);
        });
    }

    /// It has come further.
    pub fn progress(&self, ticket: &Ticket, progress: Progress) {
        self.change(ticket, |proxy| proxy.progress = progress);
    }

    /// It reports. The entry is that of the identity's own workload; a workload that never connected is not entered.
    pub fn report(&self, workload: &WorkloadName, identity: &str, report: &ProxyReport, now: SystemTime) {
        let mut inner = self.lock();
        let Some(proxy) = inner.proxies.get_mut(workload).filter(|proxy| proxy.identity == identity) else { return };
        for refusal in &report.refusals {
            proxy.count(refusal);
        }
        proxy.report = Some(Report {
            at: Some(now),
            certificate_serial: bounded(&report.certificate_serial),
            certificate_not_before: report.certificate_not_before,
            certificate_not_after: report.certificate_not_after,
            renewals: report.renewals,
            failed_renewals: report.failed_renewals,
            last_renewal_error: bounded(&report.last_renewal_error),
            clock_skew_ms: report.clock_skew_ms,
            open_connections: report.open_connections,
            drained_by_force: report.drained_by_force,
            server_first: server_first(report),
            anchored: anchored(report),
        });
    }

    /// Every proxy that is or was connected, by workload.
    #[must_use]
    pub fn proxies(&self) -> BTreeMap<WorkloadName, Proxy> {
        self.lock().proxies.iter().map(|(name, proxy)| (name.clone(), proxy.clone())).collect()
    }

    /// Ports of a workload whose server speaks first, as its proxy reports.
    #[must_use]
    pub fn server_first(&self, workload: &WorkloadName) -> BTreeMap<u16, ServerFirst> {
        let inner = self.lock();
        let report = inner.proxies.get(workload).and_then(|proxy| proxy.report.as_ref());
        report.map(|report| report.server_first.clone()).unwrap_or_default()
    }

    /// How many are connected now, and how many of these hold everything of the stage `revision`.
    #[must_use]
    pub fn counts(&self, revision: Revision) -> (usize, usize) {
        let inner = self.lock();
        let connected = inner.proxies.values().filter(|proxy| proxy.connected);
        connected.fold((0, 0), |(all, current), proxy| (all + 1, current + usize::from(proxy.progress.acknowledged >= revision)))
    }

    /// The workloads whose proxies are connected, in order.
    #[must_use]
    pub fn connected(&self) -> Vec<WorkloadName> {
        let inner = self.lock();
        let connected = inner.proxies.iter().filter(|(_, proxy)| proxy.connected);
        let mut names: Vec<WorkloadName> = connected.map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// Whether each of these workloads has a proxy connected.
    #[must_use]
    pub fn all_connected(&self, names: &[&WorkloadName]) -> bool {
        let inner = self.lock();
        names.iter().all(|name| inner.proxies.get(*name).is_some_and(|proxy| proxy.connected))
    }

    /// The proxies that do not hold everything of the stage `revision`, at most `most` of them. A proxy that has left a
    /// moment ago counts, or that was lost less than `patience` ago: it may be back.
    #[must_use]
    pub fn behind(&self, revision: Revision, most: usize, patience: Duration, now: SystemTime) -> Vec<WorkloadName> {
        let inner = self.lock();
        let counts = |proxy: &Proxy| {
            let since = proxy.since.and_then(|since| now.duration_since(since).ok()).unwrap_or_default();
            proxy.connected || since < if proxy.lost { patience } else { MOMENT }
        };
        let present = inner.proxies.iter().filter(|(_, proxy)| counts(proxy));
        present.filter(|(_, proxy)| proxy.progress.acknowledged < revision).map(|(name, _)| name.clone()).take(most).collect()
    }

    fn change(&self, ticket: &Ticket, change: impl FnOnce(&mut Proxy)) {
        let mut inner = self.lock();
        let proxy = inner.proxies.get_mut(&ticket.workload);
        if let Some(proxy) = proxy.filter(|proxy| proxy.connection == ticket.connection) {
            change(proxy);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn make_room(&mut self, arriving: &WorkloadName) {
        if self.proxies.len() < MAX_PROXIES || self.proxies.contains_key(arriving) {
            return;
        }
        let gone = self.proxies.iter().filter(|(_, proxy)| !proxy.connected);
        let oldest = gone.min_by_key(|(_, proxy)| proxy.since).map(|(name, _)| name.clone());
        if let Some(oldest) = oldest {
            self.proxies.remove(&oldest);
        }
    }
}

impl Proxy {
    fn count(&mut self, refusal: &Refusal) {
        let key = (bounded(&refusal.code), bounded(&refusal.direction));
        if self.refusals.len() >= MAX_CODES && !self.refusals.contains_key(&key) {
            return;
        }
        let count = self.refusals.entry(key).or_default();
        *count = count.saturating_add(refusal.count);
        if self.recent_refusals.len() >= RECENT_REFUSALS {
            self.recent_refusals.pop_front();
        }
        self.recent_refusals.push_back(Refusal {
            code: bounded(&refusal.code),
            direction: bounded(&refusal.direction),
            peer_address: bounded(&refusal.peer_address),
            peer_identity: bounded(&refusal.peer_identity),
            message: bounded(&refusal.message),
            port: refusal.port,
            count: refusal.count,
        });
    }
}

/// The first [`MAX_PORTS`] ports that are ports.
fn server_first(report: &ProxyReport) -> BTreeMap<u16, ServerFirst> {
    let one = |first: &mutua_wire::mesh::ServerFirst| {
        let learned = ServerFirst { callers: first.callers, learned_callers: first.learned_callers };
        u16::try_from(first.port).ok().map(|port| (port, learned))
    };
    report.server_first.iter().take(MAX_PORTS).filter_map(one).collect()
}

/// What its connections hang on. What is more than a proxy tells counts as not known: nobody hides behind others.
fn anchored(report: &ProxyReport) -> Vec<Anchored> {
    let name = |at: usize, anchor: &str| if at + 1 < MAX_ANCHORS { bounded(anchor) } else { String::new() };
    let all = report.anchored.iter().take(MAX_ANCHORS).enumerate();
    all.map(|(at, one)| Anchored { anchor: name(at, &one.anchor), ..one.clone() }).collect()
}

fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::Phase;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn complete(generation: u64) -> Revision {
        Revision::new(generation, Phase::Complete)
    }

    fn front() -> WorkloadName {
        WorkloadName::new("shop", "front")
    }

    #[test]
    fn an_older_connection_changes_nothing_any_more() {
        let registry = Registry::default();
        let now = SystemTime::now();
        let old = registry.connect(&front(), "spiffe://a/ns/shop/sa/front", "1.2.3.4:5", "1", now);
        let new = registry.connect(&front(), "spiffe://a/ns/shop/sa/front", "1.2.3.4:6", "1", now);
        registry.disconnect(&old, false, now);
        registry.progress(&old, Progress { sent: complete(9), acknowledged: complete(9), refused: vec![] });
        let proxy = &registry.proxies()[&front()];
        assert!(proxy.connected && proxy.progress.sent == Revision::default() && proxy.address == "1.2.3.4:6");
        registry.progress(&new, Progress { sent: complete(3), acknowledged: complete(3), refused: vec![] });
        assert_eq!((registry.counts(complete(3)), registry.counts(complete(4))), ((1, 1), (1, 0)));
        assert_eq!(
            (registry.behind(complete(3), 9, PATIENCE, now), registry.behind(complete(4), 9, PATIENCE, now)),
            (vec![], vec![front()])
        );
        registry.disconnect(&new, false, now);
        assert_eq!(registry.counts(complete(3)), (0, 0));
        assert_eq!(registry.behind(complete(4), 9, PATIENCE, now), [front()], "it may be back at once");
        assert_eq!(registry.behind(complete(4), 9, PATIENCE, now + MOMENT), []);
        let again = registry.connect(&front(), "spiffe://a/ns/shop/sa/front", "1.2.3.4:7", "1", now);
        assert!(registry.all_connected(&[&front()]) && !registry.all_connected(&[&WorkloadName::new("shop", "back")]));
        registry.disconnect(&again, true, now);
        assert!(!registry.all_connected(&[&front()]));
        assert_eq!(registry.behind(complete(4), 9, PATIENCE, now + MOMENT), [front()], "its connection broke");
        assert_eq!(registry.behind(complete(4), 9, PATIENCE, now + PATIENCE), []);
    }

    #[test]
    fn reports_are_attributed_to_the_certificate_and_bounded() {
        let registry = Registry::default();
        let now = SystemTime::now();
        registry.connect(&front(), "spiffe://a/ns/shop/sa/front", "", "", now);
        let refusal = |code: &str| Refusal { code: code.to_owned(), count: 2, ..Refusal::default() };
        let foreign = ProxyReport { renewals: 7, ..ProxyReport::default() };
        registry.report(&front(), "spiffe://a/ns/shop/sa/other", &foreign, now);
        assert_eq!(registry.proxies()[&front()].report, None);
        let refusals = (0..200).map(|n| refusal(&format!("code{n}"))).chain([refusal("code1")]).collect();
        let greets = |port| mutua_wire::mesh::ServerFirst { port, callers: 2, learned_callers: 1 };
        let server_first = (1..200).map(greets).chain([greets(70_000)]).collect();
        let last_renewal_error = "x\n".repeat(9_000);
        let own = ProxyReport { refusals, last_renewal_error, server_first, drained_by_force: 3, ..ProxyReport::default() };
        registry.report(&front(), "spiffe://a/ns/shop/sa/front", &own, now);
        let proxy = registry.proxies().remove(&front()).expect("entered");
        assert_eq!(proxy.refusals.len(), MAX_CODES);
        assert_eq!(proxy.refusals[&("code1".to_owned(), String::new())], 4);
        assert_eq!(proxy.recent_refusals.len(), RECENT_REFUSALS);
        let report = proxy.report.expect("kept");
        assert_eq!(
            (report.last_renewal_error.len(), report.server_first.len(), report.drained_by_force),
            (MAX_TEXT, MAX_PORTS, 3)
        );
        assert_eq!(report.server_first[&7], ServerFirst { callers: 2, learned_callers: 1 });
    }
}
