//! One simulated proxy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mutua_identity::Credentials;
use mutua_wire::MeshResource;
use mutua_wire::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use mutua_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mutua_wire::mesh::mesh_report_client::MeshReportClient;
use mutua_wire::mesh::{Destination, InboundPolicy, Mode, ProxyReport, ProxySettings, TrustBundle};
use mutua_wire::node::{WILDCARD, sidecar_node};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::pool::{Content, Held};
use super::{Shared, Workload};

/// What a sidecar subscribes to whole, in its order.
const TYPES: [&str; 4] = [TrustBundle::TYPE_URL, ProxySettings::TYPE_URL, InboundPolicy::TYPE_URL, Destination::TYPE_URL];
/// As a sidecar's pauses between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// As a sidecar's time between two reports of nothing new.
const REPORT: Duration = Duration::from_secs(10);

/// A simulated proxy.
pub struct Proxy {
    number: usize,
    /// Whose proxy it is.
    pub workload: Workload,
    credentials: Credentials,
    state: Mutex<State>,
}

/// What a proxy holds, and what happened to it.
#[derive(Debug)]
pub struct State {
    held: [BTreeMap<Arc<str>, Arc<Held>>; TYPES.len()],
    /// Which types have been answered on the connection that is open.
    answered: [bool; TYPES.len()],
    /// When it last acknowledged something.
    pub acknowledged: Instant,
    /// When it last began to connect.
    pub began: Instant,
    /// When the connection that is open had brought an answer for each type.
    pub completed: Instant,
    /// Connections that it opened.
    pub connections: u64,
    /// Responses that it was sent.
    pub responses: u64,
    /// Bytes of resources that it was sent.
    pub received: u64,
}

impl State {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            held: Default::default(),
            answered: Default::default(),
            acknowledged: now,
            began: now,
            completed: now,
            connections: 0,
            responses: 0,
            received: 0,
        }
    }

    /// Whether the connection that is open has brought an answer for each type.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.answered.iter().all(|answered| *answered)
    }

    /// The mode of ports that are not listed, once it is known.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        self.inbound().map(InboundPolicy::mode)
    }

    /// What it accepts.
    #[must_use]
    pub fn inbound(&self) -> Option<&InboundPolicy> {
        self.held[2].values().find_map(|held| if let Content::Inbound(policy) = &held.content { Some(policy) } else { None })
    }

    /// Whom it can call.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let all = self.held[3].values();
        all.filter_map(|held| if let Content::Destination(one) = &held.content { Some(one) } else { None })
    }
}

impl Proxy {
    pub(super) fn new(number: usize, workload: Workload, credentials: Credentials) -> Self {
        Self { number, workload, credentials, state: Mutex::new(State::new()) }
    }

    /// Looks at its state.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap())
    }

    pub(super) fn forget(&self) {
        *self.state.lock().unwrap() = State::new();
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// The requests that open a stream.
    fn opening(&self) -> Vec<DeltaDiscoveryRequest> {
        let node = sidecar_node(&self.workload.namespace, &self.workload.name, &self.workload.name, "10.0.0.1", "simulated");
        let mut requests: Vec<_> = TYPES
            .iter()
            .enumerate()
            .map(|(index, type_url)| DeltaDiscoveryRequest {
                type_url: (*type_url).to_owned(),
                resource_names_subscribe: vec![WILDCARD.to_owned()],
                initial_resource_versions: self.look(|state| {
                    state.held[index].values().map(|held| (held.name.to_string(), held.version.to_string())).collect()
                }),
                ..DeltaDiscoveryRequest::default()
            })
            .collect();
        requests[0].node = Some(node);
        requests
    }

    /// Takes a response, and says so.
    fn take(&self, shared: &Shared, response: &DeltaDiscoveryResponse) -> Result<DeltaDiscoveryRequest, String> {
        let index = TYPES.iter().position(|known| *known == response.type_url).ok_or("a type that was not asked for")?;
        let taken: Vec<_> = response.resources.iter().map(|one| shared.pool.take(one)).collect::<Result<_, _>>()?;
        self.change(|state| {
            for held in taken {
                state.held[index].insert(Arc::clone(&held.name), held);
            }
            for name in &response.removed_resources {
                state.held[index].remove(name.as_str());
            }
            if !std::mem::replace(&mut state.answered[index], true) && state.is_complete() {
                state.completed = Instant::now();
            }
            let sizes = response.resources.iter().filter_map(|one| one.resource.as_ref());
            state.received += sizes.map(|any| any.value.len() as u64).sum::<u64>();
        });
        Ok(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        })
    }

    /// A number below `bound` that differs from proxy to proxy and step to step, the same in each run.
    fn scatter(&self, seed: u64, step: u64, bound: u64) -> u64 {
        let mut x = (self.number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ (seed << 32 | step).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 31;
        (x.wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) % bound.max(1)
    }
}

/// Connects, again and again.
pub(super) async fn run(proxy: Arc<Proxy>, shared: Arc<Shared>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let attempt = proxy.change(|state| {
            state.answered = Default::default();
            state.began = Instant::now();
            state.connections += 1;
            state.connections
        });
        let _ended = session(&proxy, &shared).await;
        pause = if proxy.look(State::is_complete) { FIRST_PAUSE } else { (pause * 2).min(LAST_PAUSE) };
        let half = u64::try_from(pause.as_micros() / 2).unwrap();
        tokio::time::sleep(pause / 2 + Duration::from_micros(proxy.scatter(shared.pace.seed, attempt, half))).await;
    }
}

/// One connection, to its end.
async fn session(proxy: &Proxy, shared: &Shared) -> Result<(), String> {
    let channel = shared.control_plane.channel(Some(&proxy.credentials), None, None).await.map_err(|error| error.to_string())?;
    let (requests, stream) = mpsc::channel(8);
    for request in proxy.opening() {
        requests.send(request).await.map_err(|error| error.to_string())?;
    }
    let mut client = AggregatedDiscoveryServiceClient::new(channel.clone());
    let opened = client.delta_aggregated_resources(ReceiverStream::new(stream)).await;
    let mut responses = opened.map_err(|status| status.to_string())?.into_inner();
    let follow = async {
        while let Some(response) = responses.message().await.map_err(|status| status.to_string())? {
            let step = proxy.change(|state| {
                state.responses += 1;
                state.responses
            });
            if proxy.scatter(shared.pace.seed, step << 1, 1000) < shared.pace.losses {
                return Err("lost".to_owned());
            }
            let delay = u64::try_from(shared.pace.delay.as_micros()).unwrap();
            if delay > 0 {
                tokio::time::sleep(Duration::from_micros(proxy.scatter(shared.pace.seed, step << 1 | 1, delay))).await;
            }
            let answer = proxy.take(shared, &response)?;
            requests.send(answer).await.map_err(|error| error.to_string())?;
            proxy.change(|state| state.acknowledged = Instant::now());
        }
        Ok(())
    };
    tokio::select! {
        ended = follow => ended,
        () = report(proxy, channel), if shared.pace.reports => Err("the reports ended".to_owned()),
    }
}

async fn report(proxy: &Proxy, channel: Channel) {
    let (reports, stream) = mpsc::channel(1);
    let mut client = MeshReportClient::new(channel);
    let gather = async {
        loop {
            tokio::time::sleep(REPORT).await;
            let workload = format!("{}/{}", proxy.workload.namespace, proxy.workload.name);
            let report =
                ProxyReport { workload, certificate_serial: proxy.credentials.serial().to_owned(), ..ProxyReport::default() };
            if reports.send(report).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = client.report(ReceiverStream::new(stream)) => {}
        () = gather => {}
    }
}
