//! The control plane's own certificate: signed by the mesh's CA, renewed at half of its life, swapped under the listener
//! without a connection noticing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use mutua_identity::{Ca, Credentials, IdentityError, ServerConfig, SpiffeId, TrustBundle};
use tokio_util::sync::CancellationToken;

use crate::clock::sleep_until;
use crate::metrics::Metrics;
use crate::world::{CONTROL_PLANE_ACCOUNT, Snapshot, World};

/// How long to wait after a renewal that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Why there is no certificate of the control plane.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// The CA did not sign it.
    #[error("the control plane's own certificate: {0}")]
    Sign(#[from] IdentityError),
    /// The TLS configuration cannot be made.
    #[error("the control plane's own certificate: {0}")]
    Tls(#[from] mutua_identity::TlsError),
    /// The root namespace fits into no SPIFFE id.
    #[error("the control plane's own identity: {0}")]
    Form(#[from] mutua_identity::SpiffeIdError),
}

/// Renewals that did not work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Since the start.
    pub count: u64,
    /// The last one's reason; `None` once a renewal has worked.
    pub last: Option<String>,
}

/// The certificate in use, and what it is made of.
pub struct Own {
    ca: Arc<ArcSwap<Ca>>,
    world: Arc<World>,
    metrics: Arc<Metrics>,
    /// Names and addresses beside Istio's.
    names: Vec<String>,
    ttl: Duration,
    current: Arc<ArcSwap<Credentials>>,
    issued: ArcSwap<SystemTime>,
    failures: std::sync::Mutex<Failures>,
    config: Arc<ArcSwap<ServerConfig>>,
    asked: tokio::sync::Notify,
}

impl Own {
    /// Issues the first certificate. `names` are further DNS names and IP addresses.
    ///
    /// # Errors
    /// The CA refuses, or the root namespace fits into no SPIFFE id.
    pub fn begin(
        ca: Arc<ArcSwap<Ca>>,
        world: Arc<World>,
        metrics: Arc<Metrics>,
        names: Vec<String>,
        ttl: Duration,
    ) -> Result<Self, OwnError> {
        let (credentials, config) = issue(&ca.load(), &world.current(), &names, ttl)?;
        Ok(Self {
            ca,
            world,
            metrics,
            names,
            ttl,
            current: Arc::new(ArcSwap::from_pointee(credentials)),
            issued: ArcSwap::from_pointee(SystemTime::now()),
            failures: std::sync::Mutex::default(),
            config: Arc::new(ArcSwap::from_pointee(config)),
            asked: tokio::sync::Notify::new(),
        })
    }

    /// The certificate in use.
    #[must_use]
    pub fn credentials(&self) -> Arc<ArcSwap<Credentials>> {
        Arc::clone(&self.current)
    }

    /// When the certificate in use was issued.
    #[must_use]
    pub fn issued(&self) -> SystemTime {
        **self.issued.load()
    }

    /// Renewals that did not work.
    #[must_use]
    pub fn failures(&self) -> Failures {
        self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn note(&self, error: Option<&OwnError>) {
        let mut failures = self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        failures.count += u64::from(error.is_some());
        failures.last = error.map(ToString::to_string);
    }

    /// The configuration for new connections.
    #[must_use]
    pub fn config(&self) -> Arc<ArcSwap<ServerConfig>> {
        Arc::clone(&self.config)
    }

    /// Asks for a renewal at once: the CA has another key.
    pub fn renew(&self) {
        self.asked.notify_one();
    }

    /// Renews until `shutdown`: at half of the life, and at once when trust domain, root namespace or roots change. A
    /// renewal that fails is tried again; the certificate in use stays.
    pub async fn keep(self: Arc<Self>, shutdown: CancellationToken) {
        let mut stages = self.world.follow();
        let mut made_for = key(&stages.borrow_and_update().target);
        loop {
            let due = half_life(self.issued(), self.current.load().not_after());
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep_until(due) => {}
                () = self.asked.notified() => {}
                changed = stages.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if key(&stages.borrow_and_update().target) == made_for {
                        continue;
                    }
                }
            }
            let snapshot = self.world.current();
            match issue(&self.ca.load(), &snapshot, &self.names, self.ttl) {
                Ok((credentials, config)) => {
                    tracing::info!(serial = credentials.serial(), "the control plane's own certificate is renewed");
                    self.current.store(Arc::new(credentials));
                    self.issued.store(Arc::new(SystemTime::now()));
                    self.config.store(Arc::new(config));
                    self.metrics.own_renewed();
                    self.note(None);
                    made_for = key(&snapshot);
                }
                Err(error) => {
                    tracing::error!(%error, "the control plane's own certificate could not be renewed");
                    self.note(Some(&error));
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

fn half_life(issued: SystemTime, not_after: SystemTime) -> SystemTime {
    issued + not_after.duration_since(issued).unwrap_or_default() / 2
}

fn key(snapshot: &Snapshot) -> (String, String, TrustBundle) {
    let root_namespace = snapshot.mesh().config.root_namespace.clone();
    (snapshot.trust_domain.as_str().to_owned(), root_namespace, snapshot.trust.roots.clone())
}

fn issue(ca: &Ca, snapshot: &Snapshot, names: &[String], ttl: Duration) -> Result<(Credentials, ServerConfig), OwnError> {
    let namespace = &snapshot.mesh().config.root_namespace;
    let id = SpiffeId::new(snapshot.trust_domain.clone(), namespace, CONTROL_PLANE_ACCOUNT)?;
    let mut all = istio_names(namespace);
    all.extend(names.iter().cloned());
    let all: Vec<String> = all.into_iter().collect();
    let credentials = ca.sign_server(&id, &all, ttl)?;
    let config = ServerConfig::control_plane(&credentials, &snapshot.trust.roots)?;
    Ok((credentials, config))
}

/// The DNS names of istiod, and loopback.
fn istio_names(namespace: &str) -> BTreeSet<String> {
    let services = ["istiod", "istiod-remote", "istio-pilot"];
    let mut names: BTreeSet<String> = services.iter().map(|service| format!("{service}.{namespace}.svc")).collect();
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    names
}

/// The names of a control plane that listens on `listen` and is advertised as `advertised`.
#[must_use]
pub fn own_names(listen: SocketAddr, advertised: &[String]) -> Vec<String> {
    let mut names = advertised.to_vec();
    if !listen.ip().is_unspecified() {
        names.push(listen.ip().to_string());
    }
    names
}
