//! What the API shows, in its JSON form.

use std::collections::BTreeMap;

use mutua_policy::ServerFirst;
use serde::Serialize;

use crate::Parts;
use crate::clock::{at, rfc3339, unix};
use crate::metrics::Readings;
use crate::names::WorkloadName;
use crate::registry::Proxy;
use crate::revision::{Phase, Revision};
use crate::rollout::Record;
use crate::source::DiagnosticView;

/// `GET /api/v1/status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    generation: u64,
    since: String,
    trust_domain: String,
    root_namespace: String,
    version: &'static str,
    source: String,
    /// Why the newest content is not in force, when it is not.
    rejected: Option<String>,
    diagnostics: Vec<DiagnosticView>,
    /// Where the change to this generation stands: `widen`, `switch` or `complete`.
    phase: Phase,
    proxies_connected: usize,
    proxies_current: usize,
    workloads: usize,
}

/// `GET /api/v1/proxies`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxiesView {
    generation: u64,
    /// Where the change to this generation stands: `widen`, `switch` or `complete`.
    phase: Phase,
    /// Why the newest content is not in force, when it is not.
    rejected: Option<String>,
    /// Errors of the newest content, or warnings of the content in force.
    diagnostics: Vec<DiagnosticView>,
    /// Objects that matter for security, are read, and are not enforced.
    not_enforced: Vec<String>,
    proxies: Vec<ProxyView>,
}

/// One proxy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyView {
    workload: WorkloadName,
    identity: String,
    address: String,
    connected: bool,
    /// Since when it is connected, or away; null when it was never seen.
    since: Option<String>,
    version: String,
    sent: u64,
    acknowledged: u64,
    /// Whether it holds everything of the generation in force.
    current: bool,
    refused: Vec<RefusedView>,
    certificate: Option<LeafView>,
    open_connections: Option<u64>,
    /// Connections that it cut because their time for draining was over.
    drained_by_force: Option<u64>,
    /// Ports whose server was seen to speak first.
    server_first: BTreeMap<u16, ServerFirst>,
    refusals: Vec<RefusalCount>,
    recent_refusals: Vec<RefusalView>,
}

/// Configuration that a proxy refuses.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedView {
    r#type: String,
    generation: u64,
    error: String,
    resources: Vec<String>,
}

/// The certificate a proxy shows, as it reports.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeafView {
    serial: String,
    not_after: String,
    renewals: u64,
    failed_renewals: u64,
    last_renewal_error: Option<String>,
    clock_skew_ms: i64,
}

/// How many connections were refused for one reason.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusalCount {
    code: String,
    direction: String,
    count: u64,
}

/// Refused connections of one peer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusalView {
    code: String,
    direction: String,
    peer_address: String,
    peer_identity: String,
    port: u32,
    count: u64,
    message: String,
}

/// `GET /api/v1/status`.
#[must_use]
pub fn status(parts: &Parts) -> StatusView {
    let (snapshot, status) = (parts.world.current(), parts.world.status());
    let (proxies_connected, proxies_current) = parts.registry.counts(parts.world.stage().revision());
    StatusView {
        generation: snapshot.generation,
        since: rfc3339(snapshot.since),
        trust_domain: snapshot.trust_domain.as_str().to_owned(),
        root_namespace: snapshot.mesh().config.root_namespace.clone(),
        version: env!("CARGO_PKG_VERSION"),
        source: parts.source.clone(),
        rejected: status.rejected,
        diagnostics: status.diagnostics,
        phase: parts.world.stage().phase,
        proxies_connected,
        proxies_current,
        workloads: snapshot.members().count(),
    }
}

/// `GET /api/v1/proxies`: every proxy that was seen, and every workload that should have one.
#[must_use]
pub fn proxies(parts: &Parts) -> ProxiesView {
    let snapshot = parts.world.current();
    let mut seen = parts.registry.proxies();
    for member in snapshot.members().filter(|member| member.sidecar) {
        seen.entry(member.name.clone()).or_default();
    }
    let revision = parts.world.stage().revision();
    let status = parts.world.status();
    let proxies = seen.into_iter().map(|(name, proxy)| proxy_view(name, &proxy, revision)).collect();
    ProxiesView {
        generation: snapshot.generation,
        phase: parts.world.stage().phase,
        rejected: status.rejected,
        diagnostics: status.diagnostics,
        not_enforced: snapshot.mesh().unenforced.iter().map(|object| object.meta.object.to_string()).collect(),
        proxies,
    }
}

fn proxy_view(workload: WorkloadName, proxy: &Proxy, revision: Revision) -> ProxyView {
    let counts = proxy.refusals.iter();
    let refused = proxy.progress.refused.iter();
    ProxyView {
        workload,
        identity: proxy.identity.clone(),
        address: proxy.address.clone(),
        connected: proxy.connected,
        since: proxy.since.map(rfc3339),
        version: proxy.version.clone(),
        sent: proxy.progress.sent.generation(),
        acknowledged: proxy.progress.acknowledged.completed(),
        current: proxy.connected && proxy.progress.acknowledged >= revision,
        refused: refused
            .map(|one| RefusedView {
                r#type: one.type_url.rsplit('.').next().unwrap_or_default().to_owned(),
                generation: one.revision.generation(),
                error: one.error.clone(),
                resources: one.resources.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        certificate: proxy.report.as_ref().map(|report| LeafView {
            serial: report.certificate_serial.clone(),
            not_after: rfc3339(at(report.certificate_not_after)),
            renewals: report.renewals,
            failed_renewals: report.failed_renewals,
            last_renewal_error: text(&report.last_renewal_error),
            clock_skew_ms: report.clock_skew_ms,
        }),
        open_connections: proxy.report.as_ref().map(|report| report.open_connections),
        drained_by_force: proxy.report.as_ref().map(|report| report.drained_by_force),
        server_first: proxy.report.as_ref().map(|report| report.server_first.clone()).unwrap_or_default(),
        refusals: counts
            .map(|((code, direction), count)| RefusalCount { code: code.clone(), direction: direction.clone(), count: *count })
            .collect(),
        recent_refusals: proxy.recent_refusals.iter().map(refusal_view).collect(),
    }
}

fn refusal_view(refusal: &mutua_wire::mesh::Refusal) -> RefusalView {
    RefusalView {
        code: refusal.code.clone(),
        direction: refusal.direction.clone(),
        peer_address: refusal.peer_address.clone(),
        peer_identity: refusal.peer_identity.clone(),
        port: refusal.port,
        count: refusal.count,
        message: refusal.message.clone(),
    }
}

/// `GET /api/v1/rollouts`: one change.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutView {
    generation: u64,
    began: String,
    /// `widen`, `switch` or `complete`.
    phase: Phase,
    since: String,
    /// From when every connected proxy is known to enforce it.
    enforced: Option<String>,
    waiting_for: Vec<WorkloadName>,
    left_behind: Vec<LeftBehindView>,
    /// Whether a newer change took its place before every proxy enforced it.
    overtaken: bool,
    /// Whether it was taken back.
    aborted: bool,
}

/// A proxy that did not acknowledge a stage in time.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftBehindView {
    workload: WorkloadName,
    phase: Phase,
}

/// `GET /api/v1/rollouts`: the changes since the control plane runs, newest first.
#[must_use]
pub fn rollouts(parts: &Parts) -> Vec<RolloutView> {
    let view = |record: Record| RolloutView {
        generation: record.generation,
        began: rfc3339(record.began),
        phase: record.phase,
        since: rfc3339(record.since),
        enforced: record.enforced.map(rfc3339),
        waiting_for: record.waiting_for,
        left_behind: record.left_behind.into_iter().map(|(workload, phase)| LeftBehindView { workload, phase }).collect(),
        overtaken: record.overtaken,
        aborted: record.aborted,
    };
    parts.rollouts.list().into_iter().map(view).collect()
}

/// The numbers for `/metrics`.
#[must_use]
pub fn readings(parts: &Parts) -> Readings {
    let snapshot = parts.world.current();
    Readings {
        generation: snapshot.generation,
        rejected: parts.world.status().rejected.is_some(),
        stage: match parts.world.stage().phase {
            Phase::Complete => 0,
            Phase::Widen => 1,
            Phase::Switch => 2,
        },
        proxies: parts.registry.counts(parts.world.stage().revision()),
        root_expiry: snapshot.trust.roots.infos().iter().map(|root| unix(root.not_after)).min().unwrap_or(0),
        own_expiry: unix(parts.own.load().not_after()),
    }
}

pub(super) fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
