//! The resources that were sent, by type and name, with their versions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mutua_identity::{Algorithms, TrustBundle, TrustDomain};
use mutua_wire::discovery::Resource;
use mutua_wire::mesh;
use mutua_wire::{MeshResource, UnpackError};

use super::Table;
use super::compile::{self, CompileError};
use super::types::{DEFAULT_DRAIN, Destination, Inbound};

/// The changes of one response.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The type of all resources.
    pub type_url: &'a str,
    /// The generation that the response leads to.
    pub generation: &'a str,
    /// New and changed resources.
    pub resources: &'a [Resource],
    /// Names of resources that are gone.
    pub removed: &'a [String],
}

/// Why a response is refused; the text travels back to the control plane.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A resource without content.
    #[error("{0}: no content")]
    Empty(String),
    /// A resource that cannot be read.
    #[error("{name}: {error}")]
    Unpack {
        /// The resource.
        name: String,
        /// Why.
        error: UnpackError,
    },
    /// A resource that cannot be used.
    #[error("{name}: {error}")]
    Compile {
        /// The resource.
        name: String,
        /// Why.
        error: CompileError,
    },
    /// Roots that cannot be used.
    #[error("trust bundle: {0}")]
    Bundle(#[from] mutua_identity::IdentityError),
    /// Something of the first set is missing.
    #[error("it is not complete")]
    Incomplete,
    /// Certificate, roots and policy do not go together.
    #[error("TLS: {0}")]
    Tls(#[from] mutua_identity::TlsError),
}

/// Everything that is held.
#[derive(Clone, Default)]
pub struct Resources {
    pub(super) inbound: Option<Arc<Inbound>>,
    pub(super) bundle: Option<Arc<TrustBundle>>,
    /// A leaf whose NotBefore (Unix seconds) is earlier is to be renewed at once.
    pub(super) renew_not_before: i64,
    pub(super) table: Arc<Table>,
    pub(super) generation: Arc<str>,
    /// The algorithms that every connection is held to.
    pub(super) algorithms: Arc<Algorithms>,
    settings: Option<Arc<mesh::ProxySettings>>,
    destinations: BTreeMap<Arc<str>, Arc<Destination>>,
    versions: BTreeMap<String, BTreeMap<String, String>>,
}

impl Resources {
    /// These resources with `change` applied.
    ///
    /// # Errors
    /// A resource that cannot be read or used.
    pub fn with(&self, change: &Change<'_>) -> Result<Self, ApplyError> {
        let mut next = self.clone();
        let is_destinations = change.type_url == mesh::Destination::TYPE_URL;
        for resource in change.resources {
            next.put(change.type_url, resource)?;
        }
        for name in change.removed {
            if let Some(versions) = next.versions.get_mut(change.type_url) {
                versions.remove(name);
            }
            if is_destinations {
                next.destinations.remove(name.as_str());
            }
            // Policy, roots and settings are replaced, never taken away: without them nothing could be decided.
        }
        if is_destinations {
            next.table = Arc::new(Table::new(next.destinations.values().cloned().collect()));
        }
        if !change.generation.is_empty() {
            next.generation = change.generation.into();
        }
        Ok(next)
    }

    fn put(&mut self, type_url: &str, resource: &Resource) -> Result<(), ApplyError> {
        let name = &resource.name;
        if type_url == mesh::InboundPolicy::TYPE_URL {
            let compiled = compile::inbound(unpack(resource)?);
            self.inbound = Some(Arc::new(compiled.map_err(|error| ApplyError::Compile { name: name.clone(), error })?));
        } else if type_url == mesh::Destination::TYPE_URL {
            let compiled = compile::destination(unpack(resource)?);
            let compiled = compiled.map_err(|error| ApplyError::Compile { name: name.clone(), error })?;
            self.destinations.insert(name.as_str().into(), Arc::new(compiled));
        } else if type_url == mesh::TrustBundle::TYPE_URL {
            let bundle: mesh::TrustBundle = unpack(resource)?;
            self.bundle = Some(Arc::new(compile::bundle(&bundle)?));
            self.renew_not_before = bundle.renew_not_before;
        } else if type_url == mesh::ProxySettings::TYPE_URL {
            let settings: mesh::ProxySettings = unpack(resource)?;
            let compiled = compile::algorithms(&settings);
            self.algorithms = Arc::new(compiled.map_err(|error| ApplyError::Compile { name: name.clone(), error })?);
            self.settings = Some(Arc::new(settings));
        } else {
            return Ok(());
        }
        self.versions.entry(type_url.to_owned()).or_default().insert(name.clone(), resource.version.clone());
        Ok(())
    }

    pub(super) fn versions(&self, type_url: &str) -> BTreeMap<String, String> {
        self.versions.get(type_url).cloned().unwrap_or_default()
    }

    pub(super) fn registry_only(&self) -> bool {
        let policy = self.settings.as_ref().map(|settings| settings.outbound_policy);
        // Without settings, and for a value that is not known here, the closed side.
        policy != Some(mesh::OutboundPolicy::AllowAny as i32)
    }

    /// The mesh's trust domain, once it is known.
    pub(super) fn trust_domain(&self) -> Option<TrustDomain> {
        TrustDomain::new(&self.settings.as_ref()?.trust_domain).ok()
    }

    pub(super) fn drain(&self) -> Duration {
        self.settings.as_ref().map_or(DEFAULT_DRAIN, |settings| Duration::from_millis(settings.drain_duration_ms))
    }

    /// Whether everything that makes up the first set is here.
    pub(super) fn is_complete(&self) -> bool {
        let Some(settings) = &self.settings else { return false };
        let held = |type_url: &String| self.versions.get(type_url).map_or(0, BTreeMap::len);
        self.inbound.is_some()
            && self.bundle.is_some()
            && settings
                .complete_set
                .iter()
                .all(|(type_url, count)| held(type_url) >= usize::try_from(*count).unwrap_or(usize::MAX))
    }
}

fn unpack<M: MeshResource>(resource: &Resource) -> Result<M, ApplyError> {
    let any = resource.resource.as_ref().ok_or_else(|| ApplyError::Empty(resource.name.clone()))?;
    M::unpack(any).map_err(|error| ApplyError::Unpack { name: resource.name.clone(), error })
}
