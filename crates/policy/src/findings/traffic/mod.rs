//! What clients send against what servers accept, by the engine's own decisions: rules that make connections fail or send
//! them in clear ([`rules`]), and services for which automatic mTLS does less than one thinks ([`services`]).

pub(super) mod callers;
mod faces;
mod hosts;
mod rules;
mod services;

use mutua_model::AppProtocol;

use self::callers::Callers;
use super::Findings;
use super::index::Index;
use crate::engine::Engine;
use crate::host::Hosts;

/// A namespace without rules of its own: how most clients see a service.
const STRANGER: &str = "";

pub(super) fn check(engine: &Engine, index: &Index<'_>, out: &mut Findings) {
    let hosts = Hosts::new(&engine.services);
    let mut faces = faces::Cache::default();
    for rule in &engine.mesh().destination_rules {
        let covered = hosts.covered(rule, &engine.mesh().config.cluster_domain);
        hosts::check((engine, index), rule, &covered, out);
        rules::check(engine, (rule, &covered), &mut faces, out);
    }
    let mut callers = Callers::new(engine);
    for (at, service) in engine.services.iter().enumerate() {
        services::check(engine, at, &mut faces, out);
        for (position, _) in service.ports.iter().enumerate().filter(|(_, port)| port.protocol != AppProtocol::Udp) {
            callers.meet(service, (at, position), &mut faces);
        }
    }
    callers.tell(out);
}
