//! Puts the control plane together, in the order in which each part needs the one before.

mod error;
mod shared;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use mutua_identity::{Ca, TrustBundle, TrustDomain};
use mutua_wire::certificate::istio_certificate_service_server::IstioCertificateServiceServer;
use mutua_wire::discovery::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use mutua_wire::mesh::mesh_report_server::MeshReportServer;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::api::{self, guard::Names};
use crate::configure::{Abort, Configuration, reread};
use crate::distribute::service::Discovery;
use crate::listen;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::report::Reports;
use crate::rollout::{self, Rollouts};
use crate::settings::{MAX_LEAF_TTL, MIN_LEAF_TTL, Settings};
use crate::sign::accounts::AccountTokens;
use crate::sign::issued::IssuedLeaves;
use crate::sign::jwks::Jwks;
use crate::sign::own::{Own, own_names};
use crate::sign::remembered::Remembered;
use crate::sign::reroot;
use crate::sign::rotation::{self, Rotation};
use crate::sign::service::{LeafTtl, Signer};
use crate::sign::signers::Signers;
use crate::sign::tokens::Tokens;
use crate::source::folder::FolderSource;
use crate::source::leader::FileLeader;
use crate::source::status::StatusFile;
use crate::source::{First, Leader, Lease, Platform, Rejected, Sink, Source};
use crate::state::{PUBLIC, StateDir};
use crate::traffic::{self, Traffic};
use crate::world::World;

pub use error::StartError;
pub use shared::Parts;
use shared::trust;

/// The root bundle for clients to begin with, in the state folder.
pub const ROOT_FILE: &str = "root-cert.pem";
/// The API's socket, in the state folder.
pub const SOCKET: &str = "api.sock";
/// The life of a leaf when nobody says otherwise (Istio's `DEFAULT_WORKLOAD_CERT_TTL`).
const DEFAULT_LEAF_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long a stop waits for open streams.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// How often old join tokens are cleared away.
const TOKEN_SWEEP: Duration = Duration::from_secs(600);

/// A running control plane.
pub struct ControlPlane {
    /// Where proxies reach it.
    pub listen: SocketAddr,
    /// Where the API answers over TCP.
    pub api: SocketAddr,
    /// The API's socket.
    pub socket: PathBuf,
    /// The root bundle's file.
    pub root_file: PathBuf,
    /// What its parts share.
    pub parts: Arc<Parts>,
    tasks: JoinSet<Result<(), StartError>>,
    shutdown: CancellationToken,
    /// The lead, until the last part has stopped.
    _lease: Arc<dyn Send + Sync>,
}

/// Runs a standalone control plane until `shutdown`.
///
/// # Errors
/// It cannot start, or one of its listeners fails.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<(), StartError> {
    until_stopped(Box::pin(ControlPlane::start(settings, shutdown.clone())), shutdown).await
}

/// Runs a control plane that stands on `platform` until `shutdown`.
///
/// # Errors
/// It cannot start, one of its listeners fails, or it loses the lead.
pub async fn run_on<S: Source, K: Sink, L: Leader>(
    settings: Settings,
    state: Arc<StateDir>,
    platform: Platform<S, K, L>,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    until_stopped(Box::pin(ControlPlane::start_on(settings, state, platform, shutdown.clone())), shutdown).await
}

async fn until_stopped(
    starting: impl Future<Output = Result<ControlPlane, StartError>>,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let running = tokio::select! {
        started = starting => started?,
        () = shutdown.cancelled() => return Ok(()),
    };
    running.wait().await
}

impl ControlPlane {
    /// Starts a standalone control plane; everything listens when this returns. Waits while another one works on the
    /// same state folder.
    ///
    /// # Errors
    /// A part cannot start; nothing listens then.
    pub async fn start(settings: Settings, shutdown: CancellationToken) -> Result<Self, StartError> {
        let folder = settings.config.clone().ok_or(StartError::NoConfiguration)?;
        let state = Arc::new(StateDir::open(&settings.state)?);
        let platform = Platform {
            source: FolderSource::new(&folder, Arc::clone(&state)),
            sink: StatusFile::new(Arc::clone(&state)),
            leader: FileLeader::new(&state),
            accounts: Vec::new(),
        };
        Self::start_on(settings, state, platform, shutdown).await
    }

    /// As [`ControlPlane::start`], on what a platform gives.
    ///
    /// # Errors
    /// A part cannot start; nothing listens then.
    pub async fn start_on<S: Source, K: Sink, L: Leader>(
        settings: Settings,
        state: Arc<StateDir>,
        platform: Platform<S, K, L>,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        if !(MIN_LEAF_TTL..=MAX_LEAF_TTL).contains(&settings.leaf_ttl.unwrap_or(DEFAULT_LEAF_TTL)) {
            return Err(StartError::LeafTtl);
        }
        let Platform { mut source, sink, leader, accounts } = platform;
        let (name, place) = (source.name(), leader.place());
        let waiting = |who: &str| tracing::warn!(who, source = name, "another control plane leads {place}; waiting");
        let lease = Arc::new(Mutex::new(leader.lead(waiting).await?));
        let First { reading, rejected, before } = source.first().await.map_err(StartError::Config)?;
        let Ok(mesh) = &reading.mesh else { return Err(StartError::Config(Rejected::default())) };
        let trust_domain = TrustDomain::new(&mesh.config.trust_domain)?;
        let remembered = Remembered::load(Arc::clone(&state));
        let (ca, record) = match &settings.ca_dir {
            Some(folder) => plugged(&state, folder, &remembered)?,
            None => rotation::load(&state, &trust_domain)?,
        };
        let signers = Signers::begin(&state, settings.ca_dir.as_ref().map(|_| ca.signer()), record.as_ref());
        let trust = trust(&ca, record.as_ref(), signers.renew_not_before());
        let world = Arc::new(World::begin(Arc::clone(&state), &reading, &before, &trust, !settings.stage_timeout.is_zero())?);
        if let Some(rejected) = &rejected {
            tracing::error!(reason = rejected.summary, "the configuration is invalid; the last good one is in force");
            world.note_rejected(rejected);
        }
        state.write(ROOT_FILE, ca.bundle().to_pem().as_bytes(), PUBLIC)?;
        let tcp = TcpListener::bind(settings.listen).await;
        let tcp = tcp.map_err(|source| StartError::Listen { address: settings.listen, source })?;
        let listen = tcp.local_addr().map_err(|source| StartError::Listen { address: settings.listen, source })?;
        let bound = api::bind(settings.api, &state.join(SOCKET)).await?;
        let (api, socket, root_file) = (bound.address, state.join(SOCKET), state.join(ROOT_FILE));
        let metrics = Arc::new(Metrics::default());
        let mut tasks = JoinSet::new();
        let accounts = know_accounts(&mut tasks, settings.jwt.begin(&metrics).await?, accounts, &shutdown);
        let shown = (metrics, source.name(), listen);
        let (parts, aborts) = parts(&settings, &state, world, (ca, record, remembered, signers), accounts, shown)?;
        let parts = Arc::new(parts);
        spawn_servers(&mut tasks, &parts, &settings, (tcp, bound), &shutdown);
        let configuration = Configuration { source, sink, reading, state, aborts };
        spawn_keepers(&mut tasks, &parts, &settings, configuration, &shutdown);
        let (held, stop) = (Arc::clone(&lease), shutdown.clone());
        tasks.spawn(async move {
            let mut held = held.lock().await;
            tokio::select! {
                () = stop.cancelled() => Ok(()),
                lost = held.lost() => Err(StartError::Leader(lost)),
            }
        });
        let generation = parts.world.current().generation;
        tracing::info!(%listen, %api, generation, "the control plane is ready");
        Ok(Self { listen, api, socket, root_file, parts, tasks, shutdown, _lease: lease })
    }

    /// Waits until it has stopped: because of its shutdown token, or because a part failed.
    ///
    /// # Errors
    /// The part that failed.
    pub async fn wait(mut self) -> Result<(), StartError> {
        while let Some(ended) = tokio::select! {
            ended = self.tasks.join_next() => ended,
            () = stopped_for(&self.shutdown, STOP_PATIENCE) => None,
        } {
            let result = ended.unwrap_or_else(|panic| Err(StartError::Stopped { what: "a part", reason: panic.to_string() }));
            if let Err(error) = result {
                self.shutdown.cancel();
                return Err(error);
            }
        }
        self.tasks.shutdown().await;
        Ok(())
    }
}

/// The plugged-in CA, and the change of its root since proxies were last told of roots.
fn plugged(
    state: &StateDir,
    folder: &std::path::Path,
    remembered: &Remembered,
) -> Result<(Ca, Option<rotation::Record>), StartError> {
    let expected = remembered.with(&Registry::default(), &IssuedLeaves::default(), SystemTime::now());
    // A bundle that nobody hangs on, or that cannot be read, is not waited for.
    let told = state.read(ROOT_FILE)?.and_then(|text| TrustBundle::from_pem(&String::from_utf8_lossy(&text)).ok());
    rotation::load_plugged(state, folder, told.filter(|_| !expected.is_empty()), expected).map_err(|error| match error {
        rotation::RotationError::Ca(error) => StartError::Ca(error),
        other => StartError::Rotation(other),
    })
}

async fn stopped_for(shutdown: &CancellationToken, patience: Duration) {
    shutdown.cancelled().await;
    tokio::time::sleep(patience).await;
}

fn parts(
    settings: &Settings,
    state: &Arc<StateDir>,
    world: Arc<World>,
    (ca, record, remembered, signers): (Ca, Option<rotation::Record>, Remembered, Signers),
    accounts: Arc<[Arc<dyn AccountTokens>]>,
    (metrics, source, listen): (Arc<Metrics>, String, SocketAddr),
) -> Result<(Parts, mpsc::Receiver<Abort>), StartError> {
    let (aborts, asked) = mpsc::channel(1);
    let ca = Arc::new(ArcSwap::from_pointee(ca));
    let names = own_names(listen, &settings.advertise);
    let ttl = settings.leaf_ttl.unwrap_or(DEFAULT_LEAF_TTL);
    let keeper = Own::begin(Arc::clone(&ca), Arc::clone(&world), Arc::clone(&metrics), names, ttl)?;
    let rotation = Rotation::new(Arc::clone(state), Arc::clone(&ca), record, settings.ca_dir.clone());
    let parts = Parts {
        aborts,
        compliance: settings.compliance(),
        rotation: Arc::new(rotation),
        remembered,
        retrust: Notify::new(),
        signers,
        registry: Arc::new(Registry::default()),
        leaves: Arc::new(IssuedLeaves::default()),
        traffic: Arc::new(Traffic::load(state)?),
        rollouts: Arc::new(Rollouts::default()),
        tokens: Arc::new(Tokens::load(Arc::clone(state))?),
        accounts,
        own: keeper.credentials(),
        keeper: Arc::new(keeper),
        world,
        ca,
        metrics,
        source,
    };
    Ok((parts, asked))
}

/// Who knows tokens of service accounts: as in Istio those with keys first, which are kept current here, then the platform.
fn know_accounts(
    tasks: &mut JoinSet<Result<(), StartError>>,
    jwks: Option<Arc<Jwks>>,
    of_platform: Vec<Arc<dyn AccountTokens>>,
    shutdown: &CancellationToken,
) -> Arc<[Arc<dyn AccountTokens>]> {
    let keys = jwks.map(|jwks| {
        let (kept, stop) = (Arc::clone(&jwks), shutdown.clone());
        tasks.spawn(async move {
            kept.keep(stop).await;
            Ok(())
        });
        jwks as Arc<dyn AccountTokens>
    });
    keys.into_iter().chain(of_platform).collect()
}

fn spawn_servers(
    tasks: &mut JoinSet<Result<(), StartError>>,
    parts: &Arc<Parts>,
    settings: &Settings,
    (tcp, bound): (TcpListener, api::Bound),
    shutdown: &CancellationToken,
) {
    let leaf_ttl = LeafTtl { default: settings.leaf_ttl.unwrap_or(DEFAULT_LEAF_TTL), ceiling: settings.leaf_ttl };
    let discovery = Discovery::new(parts, settings.drain_duration, parts.compliance, shutdown.clone());
    let router = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .http2_max_header_list_size(16 * 1024)
        .max_concurrent_streams(16)
        .add_service(AggregatedDiscoveryServiceServer::new(discovery).max_decoding_message_size(8 << 20))
        .add_service(IstioCertificateServiceServer::new(Signer::new(parts, leaf_ttl)).max_decoding_message_size(64 << 10))
        .add_service(MeshReportServer::new(Reports::new(parts)).max_decoding_message_size(256 << 10));
    let connections = ReceiverStream::new(listen::accept(tcp, parts.keeper.config(), shutdown.clone()));
    let stop = shutdown.clone();
    tasks.spawn(async move {
        let served = router.serve_with_incoming_shutdown(connections, stop.cancelled_owned()).await;
        served.map_err(|error| StartError::Stopped { what: "the server for proxies", reason: error.to_string() })
    });
    let (router, names, stop) =
        (api::router(Arc::clone(parts), shutdown.clone()), Names::new(&settings.advertise), shutdown.clone());
    tasks.spawn(async move {
        let served = bound.serve(router, names, stop).await;
        served.map_err(|error| StartError::Stopped { what: "the API", reason: error.to_string() })
    });
}

fn spawn_keepers<S: Source, K: Sink>(
    tasks: &mut JoinSet<Result<(), StartError>>,
    parts: &Arc<Parts>,
    settings: &Settings,
    configuration: Configuration<S, K>,
    shutdown: &CancellationToken,
) {
    let (keeper, stop) = (Arc::clone(&parts.keeper), shutdown.clone());
    tasks.spawn(async move {
        keeper.keep(stop).await;
        Ok(())
    });
    let state = Arc::clone(&configuration.state);
    let (parts_for_config, ca_dir, stop) = (Arc::clone(parts), settings.ca_dir.clone(), shutdown.clone());
    tasks.spawn(async move {
        reread(configuration, &parts_for_config, ca_dir, stop).await;
        Ok(())
    });
    let keeping = traffic::keep(Arc::clone(&parts.traffic), Arc::clone(&state), shutdown.clone());
    tasks.spawn(async move {
        keeping.await;
        Ok(())
    });
    let (parts_for_rollouts, bound, stop) = (Arc::clone(parts), settings.stage_timeout, shutdown.clone());
    tasks.spawn(async move {
        rollout::lead(&parts_for_rollouts, state, bound, stop).await;
        Ok(())
    });
    let (parts_for_root, stop) = (Arc::clone(parts), shutdown.clone());
    tasks.spawn(async move {
        reroot::lead(&parts_for_root, stop).await;
        Ok(())
    });
    let (tokens, stop) = (Arc::clone(&parts.tokens), shutdown.clone());
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(TOKEN_SWEEP) => tokens.forget_old(SystemTime::now()),
            }
        }
    });
}

/// The parts of a control plane that listens nowhere, over the first reading.
#[cfg(test)]
pub(crate) fn parts_for_tests(
    state: &Arc<StateDir>,
    reading: &crate::source::Reading,
    ca_dir: Option<&std::path::Path>,
) -> (Parts, mpsc::Receiver<Abort>) {
    let arguments = ["c", "--config", "c", "--state", "s"];
    let mut settings = <crate::settings::Command as clap::Parser>::try_parse_from(arguments).expect("valid").settings;
    settings.ca_dir = ca_dir.map(std::path::Path::to_owned);
    let own = || rotation::load(state, &TrustDomain::new("cluster.local").expect("a name")).expect("a CA").0;
    let ca = ca_dir.map_or_else(own, |folder| Ca::from_dir(folder).expect("a CA"));
    let world = World::begin(Arc::clone(state), reading, &Default::default(), &trust(&ca, None, 0), false).expect("begins");
    let remembered = Remembered::load(Arc::clone(state));
    let shown = (Arc::default(), "a test".to_owned(), settings.listen);
    let made = (ca, None, remembered, Signers::begin(state, None, None));
    parts(&settings, state, Arc::new(world), made, Arc::default(), shown).expect("made")
}
