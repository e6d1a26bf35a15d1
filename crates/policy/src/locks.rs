//! What callers may expect at the ports of each service: the lock that a console shows beside a port.
//!
//! Kiali drew a lock where an endpoint had a sidecar, whatever policy said. Here it is the mode that the endpoints
//! enforce on the port behind it.

use std::collections::BTreeSet;

use mutua_model::{AppProtocol, MtlsMode};
use serde::Serialize;

use crate::engine::Engine;
use crate::peer_authentication::decided_by;
use crate::service::Service;

/// What a port takes, over all of its endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Lock {
    /// Every endpoint takes mutual TLS only.
    Locked,
    /// Every endpoint takes both.
    Hollow,
    /// Endpoints differ.
    Mixed,
    /// Every endpoint takes plaintext only, or has no sidecar.
    Open,
    /// Nobody serves it, or it is UDP.
    NoEndpoints,
}

/// A service and its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceLocks {
    /// Its host.
    pub host: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Whether it is outside the mesh.
    pub external: bool,
    /// Its ports, as declared.
    pub ports: Vec<PortLock>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortLock {
    /// The Service port.
    pub port: u16,
    /// Its declared name; empty when it has none.
    pub name: String,
    /// What it takes.
    pub lock: Lock,
    /// The workload ports behind it.
    pub target_ports: BTreeSet<u16>,
    /// The objects that decided the modes of its endpoints, or `default`.
    pub decided_by: BTreeSet<String>,
    /// How many endpoints serve it.
    pub endpoints: usize,
    /// How many of them have no sidecar.
    pub without_sidecar: usize,
}

impl Engine {
    /// Every service with the locks of its ports.
    #[must_use]
    pub fn service_locks(&self) -> Vec<ServiceLocks> {
        let locks = |service: &Service| ServiceLocks {
            host: service.host.clone(),
            name: service.name.clone(),
            namespace: service.namespace.clone(),
            external: service.external,
            ports: (0..service.ports.len()).map(|position| self.port_lock(service, position)).collect(),
        };
        self.services.iter().map(locks).collect()
    }

    fn port_lock(&self, service: &Service, position: usize) -> PortLock {
        let declared = &service.ports[position];
        let mut lock = PortLock {
            port: declared.number,
            name: declared.name.clone(),
            lock: Lock::NoEndpoints,
            target_ports: BTreeSet::new(),
            decided_by: BTreeSet::new(),
            endpoints: 0,
            without_sidecar: 0,
        };
        if declared.protocol == AppProtocol::Udp {
            return lock;
        }
        for (endpoint, port) in service.serving(position) {
            let sidecar = self.has_sidecar(endpoint);
            let accepts = self.endpoint_accepts(endpoint);
            let one = if sidecar { of_mode(accepts.on(port)) } else { Lock::Open };
            lock.lock = if lock.endpoints == 0 || lock.lock == one { one } else { Lock::Mixed };
            lock.endpoints += 1;
            lock.without_sidecar += usize::from(!sidecar);
            lock.target_ports.insert(port);
            if sidecar {
                lock.decided_by.insert(decided_by(accepts.decided(port)));
            }
        }
        lock
    }
}

fn of_mode(mode: MtlsMode) -> Lock {
    match mode {
        MtlsMode::Strict => Lock::Locked,
        MtlsMode::Disable => Lock::Open,
        _ => Lock::Hollow,
    }
}
