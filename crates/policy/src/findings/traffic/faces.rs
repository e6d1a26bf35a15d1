//! What the endpoints of a service port are like: one example of each kind.

use std::collections::HashMap;

use mutua_model::{AppProtocol, Labels, MtlsMode};

use crate::engine::Engine;
use crate::outcome::Server;
use crate::service::{Endpoint, Service};
use crate::workload;

/// An endpoint that stands for those like it.
#[derive(Clone, Copy)]
pub(super) struct Face<'e> {
    /// The mode of its port; `None` without a sidecar.
    pub(super) mode: Option<MtlsMode>,
    /// Whether its port is declared HTTP.
    pub(super) http: bool,
    /// Whether its tlsMode is `istio`.
    pub(super) istio: bool,
    pub(super) endpoint: &'e Endpoint,
    pub(super) port: u16,
}

impl Face<'_> {
    pub(super) fn server(&self) -> Server {
        Server { mode: self.mode, http: self.http }
    }

    /// The workload and port, as messages name them.
    pub(super) fn name(&self, engine: &Engine) -> String {
        let workload = self.endpoint.workload.map(|at| engine.workloads()[at].full_name());
        let name = workload.or_else(|| self.endpoint.address.clone()).unwrap_or_default();
        format!("{name}:{}", self.port)
    }
}

/// Faces by service and port position.
#[derive(Default)]
pub(super) struct Cache<'e>(HashMap<(usize, usize), Vec<Face<'e>>>);

impl<'e> Cache<'e> {
    /// The faces of a port of a service, both by position.
    pub(super) fn of(&mut self, engine: &'e Engine, service: usize, position: usize) -> &[Face<'e>] {
        self.0.entry((service, position)).or_insert_with(|| of(engine, &engine.services[service], position, None))
    }
}

/// The faces of those endpoints of a port that have these labels.
pub(super) fn of<'e>(engine: &'e Engine, service: &'e Service, position: usize, labels: Option<&Labels>) -> Vec<Face<'e>> {
    let declared = matches!(service.ports[position].protocol, AppProtocol::Http | AppProtocol::Http2);
    let mut faces: Vec<Face<'e>> = Vec::new();
    for (endpoint, port) in service.serving(position) {
        if labels.is_some_and(|labels| !labels.iter().all(|(key, value)| endpoint.labels.get(key) == Some(value))) {
            continue;
        }
        let istio = workload::is_istio(&endpoint.tls_mode);
        let sidecar = endpoint.workload.map_or(istio, |at| engine.workloads()[at].sidecar);
        let mode = sidecar.then(|| engine.endpoint_accepts(endpoint).on(port));
        let http = endpoint.workload.map_or(declared, |at| engine.is_http(&engine.workloads()[at], port));
        let same = |face: &Face<'_>| face.mode == mode && face.http == http && face.istio == istio;
        if !faces.iter().any(same) {
            faces.push(Face { mode, http, istio, endpoint, port });
        }
    }
    faces
}
