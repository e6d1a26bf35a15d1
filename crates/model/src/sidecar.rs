//! Istio's `Sidecar` (networking.istio.io): what a workload can reach, and on which ports it is reached.

use crate::{Labels, Meta, OutboundPolicy};

/// A `Sidecar`.
#[derive(Clone, Debug)]
pub struct Sidecar {
    /// Metadata.
    pub meta: Meta,
    /// `workloadSelector.labels`; `None` when the Sidecar is for its whole namespace.
    pub workload_selector: Option<Labels>,
    /// `egress[]`: port (0 for all) and hosts (`namespace/host`); `None` when there is no egress section.
    pub egress: Option<Vec<Egress>>,
    /// `ingress[]`: ports with their own listener; empty when there is no ingress section.
    pub ingress: Vec<crate::ServicePort>,
    /// `outboundTrafficPolicy.mode`, when written.
    pub outbound_policy: Option<OutboundPolicy>,
}

/// One egress listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Its port; 0 for all ports, as for a forward proxy (`HTTP_PROXY`).
    pub port: u16,
    /// `namespace/host` patterns, as written.
    pub hosts: Vec<String>,
}

impl Egress {
    /// Whether it is for that port.
    #[must_use]
    pub fn takes(&self, port: u16) -> bool {
        self.port == 0 || self.port == port
    }
}
