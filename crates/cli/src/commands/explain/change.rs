//! What `--assume` changes.

use std::collections::BTreeMap;

use mutua_policy::{ConnectionAnswer, EndpointAnswer, Outcome, WorkloadAnswer};

use super::text::style_of;
use crate::output::HEAD;

/// From one answer about a connection to another.
pub fn of_connection(before: Option<&ConnectionAnswer>, after: &ConnectionAnswer) -> String {
    let Some(before) = before else { return changes(&["there was no answer before".to_owned()]) };
    let mut lines = Vec::new();
    if before.outcome != after.outcome {
        lines.push(format!("outcome: {} → {}", shown(before.outcome), shown(after.outcome)));
    }
    if before.client.tls != after.client.tls {
        lines.push(format!("client: {} → {}", before.client.tls, after.client.tls));
    }
    let old: BTreeMap<_, _> = before.endpoints.iter().map(|one| (key(one), one)).collect();
    let new: BTreeMap<_, _> = after.endpoints.iter().map(|one| (key(one), one)).collect();
    for (name, endpoint) in &new {
        match old.get(name) {
            None => lines.push(format!("{}: new, {}", label(endpoint), shown(endpoint.connection))),
            Some(was) if was.connection != endpoint.connection => {
                lines.push(format!("{}: {} → {}", label(endpoint), shown(was.connection), shown(endpoint.connection)));
            }
            Some(was) if was.server_mode != endpoint.server_mode => {
                let mode = |one: &EndpointAnswer| one.server_mode.map_or_else(|| "none".to_owned(), |mode| mode.to_string());
                lines.push(format!("{}: accepts {} → {}", label(endpoint), mode(was), mode(endpoint)));
            }
            Some(_) => {}
        }
    }
    let gone = old.iter().filter(|(name, _)| !new.contains_key(*name));
    lines.extend(gone.map(|(_, endpoint)| format!("{}: gone", label(endpoint))));
    changes(&lines)
}

/// From one answer about a workload to another.
pub fn of_workload(before: Option<&WorkloadAnswer>, after: &WorkloadAnswer) -> String {
    let Some(before) = before else { return changes(&["there was no answer before".to_owned()]) };
    let mut lines = Vec::new();
    if before.sidecar != after.sidecar {
        lines.push(format!("sidecar: {} → {}", before.sidecar, after.sidecar));
    }
    if before.mode != after.mode {
        lines.push(format!("mode: {} → {}", before.mode, after.mode));
    }
    for (port, mode) in &after.ports {
        let was = before.ports.get(port).copied().unwrap_or(before.mode);
        if was != *mode {
            lines.push(format!("port {port}: {was} → {mode}"));
        }
    }
    for (port, was) in before.ports.iter().filter(|(port, was)| !after.ports.contains_key(port) && **was != after.mode) {
        lines.push(format!("port {port}: {was} → {}", after.mode));
    }
    changes(&lines)
}

fn key(endpoint: &EndpointAnswer) -> (Option<&str>, Option<&str>, u16) {
    (endpoint.workload.as_deref(), endpoint.address.as_deref(), endpoint.port)
}

fn label(endpoint: &EndpointAnswer) -> String {
    let name = endpoint.workload.as_deref().or(endpoint.address.as_deref()).unwrap_or("endpoint");
    format!("{name}:{}", endpoint.port)
}

fn shown(outcome: Outcome) -> String {
    let style = style_of(outcome);
    format!("{style}{}{style:#}", outcome.as_str())
}

fn changes(lines: &[String]) -> String {
    if lines.is_empty() {
        return format!("\n{HEAD}what was assumed changes nothing here{HEAD:#}\n");
    }
    let lines: String = lines.iter().map(|line| format!("  {line}\n")).collect();
    format!("\n{HEAD}changed by what was assumed{HEAD:#}\n{lines}")
}
