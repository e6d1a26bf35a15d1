//! The life of a sidecar process: start, certificate, configuration, service, stop.

use std::path::PathBuf;
use std::sync::Arc;

use mutua_identity::{SpiffeId, TrustBundle, TrustDomain};
use rustix::process::{Gid, Uid};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access_log::AccessLogger;
use crate::admin::{Admin, Pages, bind_socket, serve_tcp, serve_unix};
use crate::capture::{Dialer, Redirected, bind};
use crate::certificate::{CertificateError, Certificates, Store, StoreError};
use crate::connections::Direction;
use crate::control_plane::ControlPlane;
use crate::settings::{Listen, Settings};
use crate::sidecar::Sidecar;
use crate::world::World;

/// Threads that serve connections; a sidecar takes little of a machine that is there for its application.
const WORKERS: usize = 2;
/// The stack of such a thread.
const STACK: usize = 1 << 20;

/// Why a sidecar does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file of the command line.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that cannot be part of an identity.
    #[error("--trust-domain, --root-namespace: {0}")]
    Identity(#[from] mutua_identity::SpiffeIdError),
    /// A port that cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address, or the socket's path.
        address: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The state folder.
    #[error("--state: {0}")]
    Store(#[from] StoreError),
    /// No certificate.
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    /// The user could not be changed.
    #[error("cannot become user {uid}, group {gid}: {reason}")]
    User {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
        /// Why.
        reason: String,
    },
    /// Threads, signals.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Runs a sidecar until SIGTERM or SIGINT. Must be called before the process has other threads, because it may change
/// the user.
///
/// # Errors
/// The sidecar cannot start, or is refused by the control plane.
pub fn run(settings: &Settings) -> Result<(), StartError> {
    keep_memory_small();
    let prepared = Prepared::new(settings)?;
    become_user(settings, prepared.store.folder())?;
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(WORKERS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_stack_size(STACK)
        .thread_name("sidecar")
        .enable_all()
        .build()?;
    let done = runtime.block_on(Box::pin(serve(settings, prepared)));
    runtime.shutdown_background();
    done
}

/// The allocator asks for huge pages, of which a sidecar would leave most empty: megabytes instead of kilobytes. To be
/// called first of all, before memory is used. An old kernel that cannot do without huge pages costs memory, no more.
pub fn keep_memory_small() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// What is read before the user changes.
struct Prepared {
    roots: TrustBundle,
    token: Option<String>,
    store: Store,
    control_plane_identity: SpiffeId,
}

impl Prepared {
    fn new(settings: &Settings) -> Result<Self, StartError> {
        let file = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|error| StartError::File { path: path.clone(), reason: error.to_string() })
        };
        let roots = TrustBundle::from_pem(&file(&settings.ca_root)?)
            .map_err(|error| StartError::File { path: settings.ca_root.clone(), reason: error.to_string() })?;
        // A token that has been used may be gone; it is missed only when it is needed.
        let token = settings.token_file.as_ref().and_then(|path| match file(path) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(error) => {
                tracing::warn!(%error, "the token cannot be read");
                None
            }
        });
        let domain = TrustDomain::new(&settings.trust_domain)?;
        let control_plane_identity = SpiffeId::new(domain, &settings.root_namespace, "istiod")?;
        Ok(Self { roots, token, store: Store::open(settings.state_folder())?, control_plane_identity })
    }
}

/// Becomes the user that the capture rules exempt, when started as root and no mark does that.
fn become_user(settings: &Settings, state: &std::path::Path) -> Result<(), StartError> {
    if settings.mark.is_some() || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = (settings.uid, settings.gid);
    let failed = |reason: String| StartError::User { uid, gid, reason };
    let own =
        |path: &std::path::Path| std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(|error| failed(error.to_string()));
    own(state)?;
    for entry in std::fs::read_dir(state)?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())) {
        own(&entry.path())?;
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let changed = rustix::thread::set_thread_groups(&[])
        .and_then(|()| rustix::thread::set_thread_res_gid(group, group, group))
        .and_then(|()| rustix::thread::set_thread_res_uid(user, user, user));
    changed.map_err(|error| failed(error.to_string()))
}

/// Listeners, all bound before the first connection is served.
struct Listeners {
    inbound: Vec<TcpListener>,
    outbound: Vec<TcpListener>,
    metrics: TcpListener,
    readiness: TcpListener,
    socket: tokio::net::UnixListener,
}

impl Listeners {
    fn bind(listen: &Listen, store: &Store) -> Result<Self, StartError> {
        let one = |address: std::net::SocketAddr| {
            bind(address).map_err(|source| StartError::Listen { address: address.to_string(), source })
        };
        let all =
            |addresses: &[std::net::SocketAddr]| addresses.iter().map(|address| one(*address)).collect::<Result<Vec<_>, _>>();
        let path = store.folder().join("admin.sock");
        let socket = bind_socket(&path).map_err(|source| StartError::Listen { address: path.display().to_string(), source })?;
        Ok(Self {
            inbound: all(&listen.inbound)?,
            outbound: all(&listen.outbound)?,
            metrics: one(listen.metrics)?,
            readiness: one(listen.readiness)?,
            socket,
        })
    }
}

async fn serve(settings: &Settings, prepared: Prepared) -> Result<(), StartError> {
    let listen = Listen::standard(settings.status_address);
    let listeners = Listeners::bind(&listen, &prepared.store)?;
    let world = Arc::new(World::default());
    let dialer = Dialer { mark: settings.mark };
    let log = AccessLogger::stdout(settings.access_log)?;
    let mut sidecar = Sidecar::new(Arc::clone(&world), dialer, Box::new(Redirected), log);
    sidecar.tls_folders.clone_from(&settings.tls_dir);
    sidecar.own_ports = listen.inbound.iter().chain(&listen.outbound).map(std::net::SocketAddr::port).collect();
    let sidecar = Arc::new(sidecar);
    let control_plane = ControlPlane {
        address: settings.control_plane.clone(),
        identity: prepared.control_plane_identity,
        roots: prepared.roots,
        dialer,
    };
    let (workload, store, token) = (settings.workload.clone(), prepared.store, prepared.token);
    let certificates = Arc::new(Certificates::new(control_plane, workload, store, token, world));
    let (stop, end) = (CancellationToken::new(), CancellationToken::new());
    let connections = start(listeners, &sidecar, &certificates, &stop);
    let mut signals = Signals::new()?;
    tokio::select! {
        obtained = certificates.obtain() => obtained?,
        () = signals.stop() => return Ok(()),
    }
    tokio::spawn(crate::discovery::follow(Arc::clone(&sidecar), Arc::clone(&certificates), end.clone()));
    tokio::spawn(crate::drain::follow(Arc::clone(&sidecar), end.clone()));
    let keeper = Arc::clone(&certificates);
    let keeping = end.clone();
    tokio::spawn(async move { keeper.keep(keeping).await });
    signals.stop().await;
    tracing::info!(open = sidecar.connections.count(), "stopping: open connections go on for a while, new ones are refused");
    stop.cancel();
    crate::drain::stop(&sidecar, settings.drain).await;
    connections.close();
    // What was cut has its records and counters written.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), connections.wait()).await;
    end.cancel();
    Ok(())
}

/// Starts everything that listens.
fn start(
    listeners: Listeners,
    sidecar: &Arc<Sidecar>,
    certificates: &Arc<Certificates>,
    stop: &CancellationToken,
) -> TaskTracker {
    let connections = TaskTracker::new();
    for (direction, group) in [(Direction::Inbound, listeners.inbound), (Direction::Outbound, listeners.outbound)] {
        for listener in group {
            tokio::spawn(Arc::clone(sidecar).serve(listener, direction, connections.clone(), stop.clone()));
        }
    }
    let admin = Admin { sidecar: Arc::clone(sidecar), certificates: Arc::clone(certificates), stopping: stop.clone() };
    tokio::spawn(serve_tcp(admin.clone(), Pages::Metrics, listeners.metrics));
    tokio::spawn(serve_tcp(admin.clone(), Pages::Readiness, listeners.readiness));
    tokio::spawn(serve_unix(admin, listeners.socket));
    connections
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
