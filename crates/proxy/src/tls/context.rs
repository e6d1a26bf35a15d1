//! Everything TLS of one generation: certificate, roots and what is made of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use mutua_identity::{Algorithms, ClientConfig, Credentials, PeerExpectation, ServerConfig, ServerPolicy, TlsError, TrustBundle};

use super::origination::{Files, OriginationError};
use crate::world::ClientTls;

/// Client configurations kept per generation; beyond, they are made anew for each connection.
const MAX_CLIENTS: usize = 4096;

/// TLS of one generation of certificate, roots and inbound policy. A change makes a new one.
pub struct TlsContext {
    credentials: Credentials,
    bundle: TrustBundle,
    policy: ServerPolicy,
    server: ServerConfig,
    clients: Mutex<BTreeMap<PeerExpectation, ClientConfig>>,
}

impl TlsContext {
    /// Puts certificate, roots and what callers must satisfy together.
    ///
    /// # Errors
    /// Roots or cipher suites that cannot be used.
    pub fn new(credentials: Credentials, bundle: TrustBundle, policy: &ServerPolicy) -> Result<Self, TlsError> {
        let server = ServerConfig::mesh(&credentials, &bundle, policy)?;
        Ok(Self { credentials, bundle, policy: policy.clone(), server, clients: Mutex::default() })
    }

    /// The certificate shown to peers.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The roots of peers.
    #[must_use]
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// What the accepting side asks of callers.
    #[must_use]
    pub fn policy(&self) -> &ServerPolicy {
        &self.policy
    }

    /// The accepting side.
    #[must_use]
    pub fn server(&self) -> &ServerConfig {
        &self.server
    }

    /// The calling side of mesh mTLS towards a peer.
    ///
    /// # Errors
    /// Roots that cannot be used.
    pub fn mesh_client(&self, peer: &PeerExpectation) -> Result<ClientConfig, TlsError> {
        if let Some(known) = self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(peer) {
            return Ok(known.clone());
        }
        let made = ClientConfig::mesh_under(&self.credentials, &self.bundle, peer, self.policy.compliance)?;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() < MAX_CLIENTS {
            clients.insert(peer.clone(), made.clone());
        }
        Ok(made)
    }
}

/// Client configurations for servers outside the mesh, made from files or a secret: of each rule the last one.
#[derive(Default)]
pub struct Originations {
    made: Mutex<HashMap<Rule, (Files, ClientConfig)>>,
}

/// What a configuration is made for.
#[derive(PartialEq, Eq, Hash)]
struct Rule {
    tls: ClientTls,
    verify_server_name: bool,
    algorithms: Arc<Algorithms>,
}

impl Originations {
    /// The calling side of `SIMPLE` or `MUTUAL`. The files are read each time, so that a renewed file counts from the
    /// next connection; the configuration is made anew only when their contents changed.
    ///
    /// # Errors
    /// A file that is missing, outside the allowed folders, or unusable.
    pub fn client(
        &self,
        tls: &ClientTls,
        folders: &[std::path::PathBuf],
        verify_server_name: bool,
        algorithms: &Arc<Algorithms>,
    ) -> Result<ClientConfig, OriginationError> {
        let files = Files::read(tls, folders)?;
        // What it stands for is among the contents.
        let named = ClientTls { credential: None, ..tls.clone() };
        let rule = Rule { tls: named, verify_server_name, algorithms: Arc::clone(algorithms) };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, config)) = made.get(&rule)
            && *read == files
        {
            return Ok(config.clone());
        }
        // What the old contents gave is not kept, whether or not the new ones can be used.
        made.remove(&rule);
        let config = files.client(tls, verify_server_name, algorithms)?;
        if made.len() >= MAX_CLIENTS {
            made.clear();
        }
        made.insert(rule, (files, config.clone()));
        Ok(config)
    }

    /// How many configurations are kept.
    #[must_use]
    pub fn count(&self) -> usize {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl std::fmt::Debug for TlsContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsContext").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}
