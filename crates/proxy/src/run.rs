//! The life of a sidecar process: start, certificate, configuration, service, stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mutua_identity::{SpiffeId, TrustBundle, TrustDomain};
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use tokio_util::sync::CancellationToken;

use crate::access_log::AccessLogger;
use crate::admin::Origin;
use crate::capture::{Capture, Dialer, Redirected, Transparent};
use crate::certificate::{CertificateError, Certificates, Store, StoreError, Token};
use crate::control_plane::ControlPlane;
use crate::dns::{Dns, Upstream};
use crate::handover::{self, Inherited};
use crate::limits::Gate;
use crate::listeners::Listeners;
use crate::notify::Manager;
use crate::probes::Application;
use crate::redirect::{INBOUND_PORT, Interception, OUTBOUND_PORT, TPROXY_MARK};
use crate::service::Service;
use crate::settings::{Listen, Settings, Workload};
use crate::sidecar::Sidecar;
use crate::static_file::{StaticConfig, StaticError};
use crate::world::World;

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
    /// The sidecar that runs goes on.
    #[error("--take-over: {0}; the sidecar that runs here goes on")]
    TakeOver(std::io::Error),
    /// No certificate.
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    /// The static configuration.
    #[error("{0}")]
    Static(#[from] StaticError),
    /// Neither a control plane nor a static configuration.
    #[error("--workload and --ca-root, or --static, are needed")]
    Nothing,
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
    // The first thread keeps configuration and certificate current and answers questions; others serve connections.
    let runtime = crate::workers::event_loop()?;
    let done = runtime.block_on(Box::pin(serve(settings, prepared)));
    runtime.shutdown_background();
    done
}

/// A sidecar would leave most of a huge page empty: megabytes instead of kilobytes. The allocator is built not to ask for
/// them (`no_thp`); here the kernel is told not to give them unasked, where its setting is `always`. To be called first of
/// all, before memory is used. A kernel that cannot do without huge pages costs memory, no more.
pub fn keep_memory_small() {
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// What is read before the user changes.
struct Prepared {
    workload: Workload,
    store: Store,
    source: Source,
}

/// Where certificate and configuration come from.
enum Source {
    ControlPlane { address: String, identity: SpiffeId, roots: TrustBundle, token: Option<Token> },
    Static(StaticConfig),
}

impl Prepared {
    fn new(settings: &Settings) -> Result<Self, StartError> {
        let (workload, source) = match (&settings.static_file, &settings.workload, &settings.ca_root) {
            (Some(file), ..) => {
                let config = StaticConfig::read(file)?;
                (config.workload.clone(), Source::Static(config))
            }
            (None, Some(workload), Some(ca_root)) => (workload.clone(), Source::control_plane(settings, ca_root)?),
            // The command line does not allow it.
            (None, ..) => return Err(StartError::Nothing),
        };
        let uid = if settings.becomes_user() { settings.uid } else { rustix::process::geteuid().as_raw() };
        let store = Store::open_for(settings.state_folder(&workload), uid)?;
        Ok(Self { workload, store, source })
    }
}

impl Source {
    fn control_plane(settings: &Settings, ca_root: &Path) -> Result<Self, StartError> {
        let file = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| StartError::File { path: path.to_owned(), reason: error.to_string() })
        };
        let roots = TrustBundle::from_pem(&file(ca_root)?)
            .map_err(|error| StartError::File { path: ca_root.to_owned(), reason: error.to_string() })?;
        // A token that has been used may be gone; it is missed only when it is needed.
        let token = settings.token_file.as_ref().and_then(|path| match file(path) {
            Ok(text) => Some(Token::of_file(path, &text)),
            Err(error) => {
                tracing::warn!(%error, "the token cannot be read");
                None
            }
        });
        let domain = TrustDomain::new(&settings.trust_domain)?;
        let identity = SpiffeId::new(domain, &settings.root_namespace, "istiod")?;
        Ok(Self::ControlPlane { address: settings.control_plane.clone(), identity, roots, token })
    }
}

/// Of root's rights the one that sockets with others' addresses need.
fn keep_network_rights() -> rustix::io::Result<()> {
    let (own, none) = (CapabilitySet::NET_ADMIN, CapabilitySet::empty());
    rustix::thread::set_capabilities(None, CapabilitySets { effective: own, permitted: own, inheritable: none })
}

/// Becomes the user that the capture rules exempt, when started as root and no mark does that.
fn become_user(settings: &Settings, state: &std::path::Path) -> Result<(), StartError> {
    if !settings.becomes_user() {
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
    let transparent = settings.inbound_interception_mode == Interception::Tproxy;
    let changed = rustix::thread::set_keep_capabilities(transparent)
        .and_then(|()| rustix::thread::set_thread_groups(&[]))
        .and_then(|()| rustix::thread::set_thread_res_gid(group, group, group))
        .and_then(|()| rustix::thread::set_thread_res_uid(user, user, user))
        .and_then(|()| if transparent { keep_network_rights() } else { Ok(()) });
    changed.map_err(|error| failed(error.to_string()))
}

async fn serve(settings: &Settings, prepared: Prepared) -> Result<(), StartError> {
    let mut addresses = Listen::standard(settings.status_address, settings.status_port);
    addresses.interception = settings.inbound_interception_mode;
    if !settings.dns_capture {
        addresses.dns.clear();
    }
    let folder = prepared.store.folder().to_owned();
    let mut inherited = if settings.take_over { Inherited::ask(&folder).map_err(StartError::TakeOver)? } else { None };
    let listeners = Listeners::bind(&addresses, crate::workers::count(settings.concurrency), &folder, inherited.as_mut())?;
    listeners.keep_alive(settings.tcp_keepalive);
    let transparent = settings.inbound_interception_mode == Interception::Tproxy;
    let keepalive = Some(settings.tcp_keepalive);
    let dialer = Dialer { mark: settings.mark, transparent: transparent.then_some(TPROXY_MARK), keepalive };
    let own_ports = [OUTBOUND_PORT, INBOUND_PORT];
    let capture: Box<dyn Capture> = if transparent { Box::new(Transparent { own_ports }) } else { Box::new(Redirected) };
    let log = AccessLogger::stdout(&settings.access_log)?;
    let mut sidecar = Sidecar::new(Arc::new(World::default()), dialer, capture, log);
    sidecar.gate = Gate::new(settings.limits.of_this_process());
    sidecar.tls_folders.clone_from(&settings.tls_dir);
    sidecar.probers = settings.app_probers.clone();
    sidecar.application = Application { address: settings.instance_ip, dialer, status_port: settings.status_port };
    sidecar.own_ports = addresses.inbound.iter().chain(&addresses.outbound).map(SocketAddr::port).collect();
    let sidecar = Arc::new(sidecar);
    let dns = Dns::new(Arc::clone(&sidecar), prepared.workload.namespace.clone(), Upstream::of_machine(dialer));
    let origin = origin(prepared, &sidecar)?;
    let service = Service::new(&sidecar, &origin, dns);
    // However this ends, the workers end with it.
    let _ending = service.end().drop_guard();
    let mut signals = Signals::new()?;
    let (manager, workload) = (Arc::new(Manager::of_this_process()), origin.workload().to_string());
    let configured = configure(&origin, &sidecar, settings, &service.following);
    let running = if let Some(inherited) = inherited {
        // The predecessor serves until this one can.
        tokio::select! {
            configured = async { configured.await?; complete(&sidecar).await } => configured?,
            () = signals.stop() => return Ok(()),
        }
        let running = service.start(listeners)?;
        // A task that waits cannot fail.
        let _ = tokio::task::spawn_blocking(|| inherited.accepting()).await;
        manager.ready(&workload);
        running
    } else {
        let running = service.start(listeners)?;
        tokio::select! {
            configured = configured => configured?,
            () = signals.stop() => return Ok(()),
        }
        tell_when_ready(Arc::clone(&manager), workload, Arc::clone(&sidecar), service.end());
        running
    };
    if let Origin::ControlPlane(certificates) = &origin {
        let (keeper, keeping) = (Arc::clone(certificates), service.following.clone());
        // Also what is under way when a successor takes over is given up: the state folder is its.
        tokio::spawn(async move { keeping.run_until_cancelled(keeper.keep(keeping.clone())).await });
    }
    tokio::spawn(crate::drain::follow(Arc::clone(&sidecar), service.end()));
    service.run_to_end(running, &mut async || signals.stop().await, settings.drain, &manager).await;
    Ok(())
}

/// Tells the service manager as soon as the sidecar serves.
fn tell_when_ready(manager: Arc<Manager>, workload: String, sidecar: Arc<Sidecar>, end: CancellationToken) {
    let told = async move {
        until_ready(&sidecar).await;
        manager.ready(&workload);
    };
    tokio::spawn(async move { end.run_until_cancelled(told).await });
}

/// Waits until everything is there that connections of both directions need.
async fn until_ready(sidecar: &Sidecar) {
    let mut changes = sidecar.world.follow();
    while !sidecar.world.current().is_ready() {
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The same, within the time that a successor has for it.
async fn complete(sidecar: &Sidecar) -> Result<(), StartError> {
    tokio::time::timeout(handover::PATIENCE, until_ready(sidecar)).await.map_err(|_| {
        let late = format!("no complete configuration came within {} s", handover::PATIENCE.as_secs());
        StartError::TakeOver(std::io::Error::new(std::io::ErrorKind::TimedOut, late))
    })
}

/// A static configuration is put in force here; a control plane's comes later.
fn origin(prepared: Prepared, sidecar: &Sidecar) -> Result<Origin, StartError> {
    let Prepared { workload, store, source } = prepared;
    Ok(match source {
        Source::Static(config) => {
            config.apply(&sidecar.world)?;
            Origin::Static(workload)
        }
        Source::ControlPlane { address, identity, roots, token } => {
            let control_plane = ControlPlane { address, identity, roots, dialer: sidecar.dialer };
            let world = Arc::clone(&sidecar.world);
            Origin::ControlPlane(Arc::new(Certificates::new(control_plane, workload, store, token, world)))
        }
    })
}

/// Starts what keeps certificate and configuration current, once there is a certificate.
async fn configure(
    origin: &Origin,
    sidecar: &Arc<Sidecar>,
    settings: &Settings,
    end: &CancellationToken,
) -> Result<(), StartError> {
    let certificates = match origin {
        Origin::ControlPlane(certificates) => certificates,
        Origin::Static(workload) => {
            let file = settings.static_file.clone().unwrap_or_default();
            tokio::spawn(crate::static_file::follow(file, workload.clone(), Arc::clone(sidecar), end.clone()));
            return Ok(());
        }
    };
    certificates.obtain().await?;
    tokio::spawn(crate::discovery::follow(Arc::clone(sidecar), Arc::clone(certificates), end.clone()));
    Ok(())
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
