//! Thousands of proxies in one process, each over a connection of its own, with the true protocols: mutual TLS, delta
//! discovery and reports. A simulated proxy asks for what a sidecar asks for, holds what it is sent, acknowledges at its
//! pace and comes back when it is lost; it serves no traffic.

mod layout;
mod pool;
mod proxy;
mod spread;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mutua_identity::{Ca, Credentials, PrivateKey, certificate_request};
use mutua_proxy::capture::Dialer;
use mutua_proxy::control_plane::ControlPlane;
use tokio::task::AbortHandle;

pub use layout::{Layout, Workload, policy};
pub use pool::{Content, Held};
pub use proxy::{Proxy, State};
pub use spread::Spread;

use crate::plane::ISTIOD;

/// How proxies behave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// The longest time before an acknowledgement; each is another part of it.
    pub delay: Duration,
    /// Of a thousand responses, so many are lost together with the connection.
    pub losses: u64,
    /// Another number is another course of events.
    pub seed: u64,
    /// Whether reports are sent, every ten seconds.
    pub reports: bool,
}

/// What all proxies of a swarm share.
struct Shared {
    control_plane: ControlPlane,
    pace: Pace,
    pool: pool::Pool,
}

/// Simulated proxies.
pub struct Swarm {
    shared: Arc<Shared>,
    proxies: Vec<Arc<Proxy>>,
    running: Mutex<Vec<Option<AbortHandle>>>,
}

impl Swarm {
    /// Proxies of the first `count` workloads of a [`Layout`], with certificates of `ca`, which are made here; nobody is
    /// connected yet.
    #[must_use]
    pub fn new(ca: &Ca, listen: std::net::SocketAddr, count: usize, pace: Pace) -> Self {
        let control_plane = ControlPlane {
            address: listen.to_string(),
            identity: ISTIOD.parse().unwrap(),
            roots: ca.bundle().clone(),
            dialer: Dialer::default(),
        };
        let proxies = (0..count).map(|number| {
            let workload = Workload::number(number);
            let credentials = issue(ca, &workload);
            Arc::new(Proxy::new(number, workload, credentials))
        });
        let proxies = proxies.collect();
        let shared = Arc::new(Shared { control_plane, pace, pool: pool::Pool::default() });
        Self { shared, proxies, running: Mutex::new(vec![None; count]) }
    }

    /// All proxies, connected or not.
    #[must_use]
    pub fn proxies(&self) -> &[Arc<Proxy>] {
        &self.proxies
    }

    /// The proxy connects, and comes back whenever its connection is lost.
    pub fn join(&self, number: usize) {
        let task = tokio::spawn(proxy::run(Arc::clone(&self.proxies[number]), Arc::clone(&self.shared)));
        self.running.lock().unwrap()[number] = Some(task.abort_handle());
    }

    /// The proxy is gone, with its connection and all that it held.
    pub fn leave(&self, number: usize) {
        if let Some(task) = self.running.lock().unwrap()[number].take() {
            task.abort();
        }
        self.proxies[number].forget();
    }

    /// Whether it has joined and not left.
    #[must_use]
    pub fn is_running(&self, number: usize) -> bool {
        self.running.lock().unwrap()[number].is_some()
    }

    /// Waits until `holds` of every proxy of `range`, and tells how long after `since` each had acknowledged it.
    ///
    /// # Panics
    /// After `patience`, saying how many are missing.
    pub async fn all(
        &self,
        range: std::ops::Range<usize>,
        since: Instant,
        patience: Duration,
        holds: impl Fn(&State) -> bool,
    ) -> Spread {
        loop {
            let proxies = &self.proxies[range.clone()];
            let times: Vec<Duration> = proxies
                .iter()
                .filter_map(|proxy| proxy.look(|state| holds(state).then(|| state.acknowledged.saturating_duration_since(since))))
                .collect();
            if times.len() == proxies.len() {
                return Spread::of(times);
            }
            let missing = proxies.len() - times.len();
            assert!(since.elapsed() < patience, "{missing} of {} proxies are not there after {patience:?}", proxies.len());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Bytes of resources that all proxies were sent so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.proxies.iter().map(|proxy| proxy.look(|state| state.received)).sum()
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.running.lock().unwrap().iter().flatten().for_each(AbortHandle::abort);
    }
}

fn issue(ca: &Ca, workload: &Workload) -> Credentials {
    let key = PrivateKey::generate().unwrap();
    let issued = ca.sign(&certificate_request(&key).unwrap(), &workload.identity().parse().unwrap(), LEAF).unwrap();
    let (_roots, chain) = issued.chain_pem.split_last().unwrap();
    Credentials::new(&key, chain).unwrap()
}

const LEAF: Duration = Duration::from_secs(24 * 3600);
/// How often the state of all is looked at.
const LOOK: Duration = Duration::from_millis(20);
