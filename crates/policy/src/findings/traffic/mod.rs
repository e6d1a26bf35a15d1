//! What clients send against what servers accept, by the engine's own decisions: rules that make connections fail or send
//! them in clear ([`rules`]), and services for which automatic mTLS does less than one thinks ([`services`]).

mod faces;
mod hosts;
mod rules;
mod services;

use super::Findings;
use crate::engine::Engine;
use crate::host::Hosts;

/// A namespace without rules of its own: how most clients see a service.
const STRANGER: &str = "";

pub(super) fn check(engine: &Engine, out: &mut Findings) {
    let hosts = Hosts::new(&engine.services);
    let mut faces = faces::Cache::default();
    for rule in &engine.mesh().destination_rules {
        let covered = hosts.covered(rule, &engine.mesh().config.cluster_domain);
        hosts::check(engine, rule, &covered, out);
        rules::check(engine, (rule, &covered), &mut faces, out);
    }
    for at in 0..engine.services.len() {
        services::check(engine, at, &mut faces, out);
    }
}
