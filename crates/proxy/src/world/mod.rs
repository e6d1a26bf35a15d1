//! What the sidecar knows: the resources it was sent, and the snapshot made of them that connections look at.

mod compile;
mod resources;
mod table;
mod types;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use mutua_identity::{Algorithms, Compliance, Credentials, ServerPolicy, TrustBundle, TrustDomain};
use tokio::sync::watch;

pub use compile::labels;
pub use resources::{ApplyError, Change, Resources};
pub use table::{Match, Table};
pub(crate) use types::DEFAULT_DRAIN;
pub use types::{
    Address, ClientMode, ClientTls, Credential, Destination, DestinationPort, Endpoint, Inbound, InboundPort, Labels, Mode,
    Protocol,
};

use crate::tls::TlsContext;

/// Everything that decides a connection, at one moment. Never changes.
#[derive(Clone)]
pub struct Snapshot {
    /// What the workload accepts; `None` until it is known.
    pub inbound: Option<Arc<Inbound>>,
    /// Where the workload may go.
    pub table: Arc<Table>,
    /// Certificate, roots and what is made of them; `None` until all are known.
    pub tls: Option<Arc<TlsContext>>,
    /// Suites and groups towards servers outside the mesh, and the compliance policy of all connections.
    pub algorithms: Arc<Algorithms>,
    /// Whether unknown destinations are refused.
    pub registry_only: bool,
    /// How long connections that are no longer allowed may live on.
    pub drain: std::time::Duration,
    /// Whether everything of the first set has arrived. Stays true.
    pub complete: bool,
    /// The generation of the last applied change, as the control plane names it.
    pub generation: Arc<str>,
}

impl Snapshot {
    /// Whether connections can be served.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.complete && self.inbound.is_some() && self.tls.is_some()
    }
}

/// The sidecar's state. One task changes it, every connection reads it.
pub struct World {
    current: ArcSwap<Snapshot>,
    changing: Mutex<Changing>,
    revision: watch::Sender<u64>,
}

struct Changing {
    resources: Resources,
    credentials: Option<Credentials>,
    /// When what is in force was written to the state folder; `None` once the control plane has spoken.
    kept: Option<SystemTime>,
}

impl Default for World {
    fn default() -> Self {
        let empty = Snapshot {
            inbound: None,
            table: Arc::default(),
            tls: None,
            algorithms: Arc::default(),
            registry_only: true,
            drain: types::DEFAULT_DRAIN,
            complete: false,
            generation: Arc::from(""),
        };
        Self {
            current: ArcSwap::from_pointee(empty),
            changing: Mutex::new(Changing { resources: Resources::default(), credentials: None, kept: None }),
            revision: watch::Sender::new(0),
        }
    }
}

impl World {
    /// The snapshot in force.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Follows changes of the snapshot.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Takes over the changes of one response, all or none.
    ///
    /// # Errors
    /// A resource that cannot be used; nothing is changed then.
    pub fn apply(&self, change: &Change<'_>) -> Result<(), ApplyError> {
        let mut changing = self.lock();
        let next = changing.resources.with(change)?;
        let snapshot = self.snapshot(&next, changing.credentials.as_ref())?;
        changing.resources = next;
        changing.kept = None;
        self.publish(snapshot);
        Ok(())
    }

    /// Puts a whole configuration in force that was kept over a restart, written at `written`.
    ///
    /// # Errors
    /// It cannot be used, or is not complete; nothing is changed then.
    pub fn restore(&self, changes: &[Change<'_>], written: SystemTime) -> Result<(), ApplyError> {
        let mut changing = self.lock();
        let mut next = Resources::default();
        for change in changes {
            next = next.with(change)?;
        }
        if !next.is_complete() {
            return Err(ApplyError::Incomplete);
        }
        let snapshot = self.snapshot(&next, changing.credentials.as_ref())?;
        (changing.resources, changing.kept) = (next, Some(written));
        self.publish(snapshot);
        Ok(())
    }

    /// When the configuration in force was written to the state folder, while the control plane has not spoken since the
    /// start.
    #[must_use]
    pub fn kept(&self) -> Option<SystemTime> {
        self.lock().kept
    }

    /// Takes over a new certificate.
    ///
    /// # Errors
    /// The certificate cannot be used together with the roots; the old one stays.
    pub fn set_credentials(&self, credentials: Credentials) -> Result<(), ApplyError> {
        let mut changing = self.lock();
        let snapshot = self.snapshot(&changing.resources, Some(&credentials))?;
        changing.credentials = Some(credentials);
        self.publish(snapshot);
        Ok(())
    }

    /// The certificate in use.
    #[must_use]
    pub fn credentials(&self) -> Option<Credentials> {
        self.lock().credentials.clone()
    }

    /// The roots that were sent last.
    #[must_use]
    pub fn bundle(&self) -> Option<TrustBundle> {
        self.lock().resources.bundle.as_deref().cloned()
    }

    /// The mesh's trust domain as the control plane named it last.
    #[must_use]
    pub fn trust_domain(&self) -> Option<TrustDomain> {
        self.lock().resources.trust_domain()
    }

    /// Whether the control plane asks for a certificate other than the one in use: its root is about to go, or the mesh has
    /// another trust domain by now.
    #[must_use]
    pub fn must_renew(&self) -> bool {
        let changing = self.lock();
        let id = changing.credentials.as_ref().and_then(Credentials::id);
        if id.zip(changing.resources.trust_domain()).is_some_and(|(id, domain)| *id.trust_domain() != domain) {
            return true;
        }
        let start = changing.credentials.as_ref().map(Credentials::not_before);
        let start = start.and_then(|start| start.duration_since(SystemTime::UNIX_EPOCH).ok());
        start.is_some_and(|start| i64::try_from(start.as_secs()).unwrap_or(i64::MAX) < changing.resources.renew_not_before)
    }

    /// What is held of a type, by name, with its version: for the control plane after a reconnect.
    #[must_use]
    pub fn versions(&self, type_url: &str) -> std::collections::BTreeMap<String, String> {
        self.lock().resources.versions(type_url)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
        self.revision.send_modify(|revision| *revision += 1);
    }

    fn snapshot(&self, resources: &Resources, credentials: Option<&Credentials>) -> Result<Snapshot, ApplyError> {
        let before = self.current.load();
        let tls = match (credentials, &resources.bundle, &resources.inbound) {
            (Some(credentials), Some(bundle), Some(inbound)) => {
                let policy = server_policy(inbound, resources.algorithms.compliance);
                Some(context(before.tls.as_ref(), credentials, bundle, &policy)?)
            }
            _ => None,
        };
        Ok(Snapshot {
            inbound: resources.inbound.clone(),
            table: Arc::clone(&resources.table),
            tls,
            algorithms: Arc::clone(&resources.algorithms),
            registry_only: resources.registry_only(),
            drain: resources.drain(),
            complete: before.complete || resources.is_complete(),
            generation: Arc::clone(&resources.generation),
        })
    }
}

fn server_policy(inbound: &Inbound, compliance: Compliance) -> ServerPolicy {
    ServerPolicy {
        trust_domains: inbound.server.trust_domains.clone(),
        min_version: inbound.server.min_version,
        cipher_suites: inbound.server.cipher_suites.clone(),
        compliance,
    }
}

/// The TLS of the next snapshot: the one before when nothing that it is made of has changed.
fn context(
    before: Option<&Arc<TlsContext>>,
    credentials: &Credentials,
    bundle: &TrustBundle,
    policy: &ServerPolicy,
) -> Result<Arc<TlsContext>, ApplyError> {
    if let Some(before) = before
        && before.credentials().serial() == credentials.serial()
        && before.bundle() == bundle
        && before.policy() == policy
    {
        return Ok(Arc::clone(before));
    }
    Ok(Arc::new(TlsContext::new(credentials.clone(), bundle.clone(), policy)?))
}
