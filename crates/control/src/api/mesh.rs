//! `GET /api/v1/mesh`: what policy says of every namespace, service and workload, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use mutua_model::{Severity, TlsVersion};
use mutua_policy::findings::{Asked, Finding, analyze};
use mutua_policy::{InboundPort, ServiceLocks};
use serde::Serialize;

use crate::clock::{rfc3339, unix};
use crate::names::WorkloadName;
use crate::world::{Member, Snapshot};

/// What policy says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshView {
    generation: u64,
    since: String,
    /// What workloads accept that no policy of a namespace or of theirs is about.
    mode: &'static str,
    /// The object that decided it, or `default`.
    decided_by: String,
    auto_mtls: bool,
    /// `TLSV1_2` or `TLSV1_3`.
    min_tls: &'static str,
    trust_domain: String,
    root_namespace: String,
    namespaces: Vec<NamespaceView>,
    services: Vec<ServiceLocks>,
    workloads: Vec<WorkloadView>,
    findings: Vec<Finding>,
}

/// A namespace.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NamespaceView {
    name: String,
    mode: &'static str,
    decided_by: String,
    /// Whether no policy of the namespace itself decides.
    inherited: bool,
    workloads: usize,
    with_sidecar: usize,
    /// Workloads with a sidecar of which some port is not as the namespace says.
    overridden: usize,
    errors: usize,
    warnings: usize,
}

/// A workload.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WorkloadView {
    workload: WorkloadName,
    service_account: String,
    /// Its SPIFFE id; none where no certificate is issued for it.
    identity: Option<String>,
    addresses: Vec<String>,
    sidecar: bool,
    mode: &'static str,
    decided_by: String,
    ports: Vec<PortView>,
}

/// A port of a workload.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PortView {
    port: u16,
    mode: &'static str,
    decided_by: String,
    /// The host of the Service that it belongs to.
    service: Option<String>,
}

/// The view of the snapshot in force, made when it is first asked for.
#[derive(Debug, Default)]
pub struct Surveys(Mutex<Option<Arc<MeshView>>>);

impl Surveys {
    /// The view of `snapshot`.
    pub fn of(&self, snapshot: &Snapshot) -> Arc<MeshView> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let made = last.take().filter(|view| view.generation == snapshot.generation);
        let view = made.unwrap_or_else(|| Arc::new(view(snapshot, SystemTime::now())));
        *last = Some(Arc::clone(&view));
        view
    }
}

fn view(snapshot: &Snapshot, now: SystemTime) -> MeshView {
    let (engine, config) = (&snapshot.engine, &snapshot.mesh().config);
    let findings = analyze(engine, &Asked { now: Some(unix(now)), ..Asked::default() });
    let mut members: Vec<&Member> = snapshot.members().collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let workloads: Vec<WorkloadView> = members.into_iter().map(|member| workload(snapshot, member)).collect();
    let (mode, decided_by) = engine.namespace_mode(&config.root_namespace);
    MeshView {
        generation: snapshot.generation,
        since: rfc3339(snapshot.since),
        mode: mode.as_str(),
        decided_by,
        auto_mtls: config.enable_auto_mtls,
        min_tls: match config.least_tls() {
            TlsVersion::V1_2 => "TLSV1_2",
            TlsVersion::V1_3 => "TLSV1_3",
        },
        trust_domain: config.trust_domain.clone(),
        root_namespace: config.root_namespace.clone(),
        namespaces: namespaces(snapshot, &workloads, &findings),
        services: engine.service_locks(),
        workloads,
        findings,
    }
}

fn workload(snapshot: &Snapshot, member: &Member) -> WorkloadView {
    let inbound = snapshot.engine.inbound(&snapshot.engine.workloads()[member.position]);
    let port = |port: InboundPort| PortView {
        port: port.port,
        mode: port.mode.as_str(),
        decided_by: port.decided_by,
        service: port.service.map(|service| service.host),
    };
    WorkloadView {
        workload: member.name.clone(),
        service_account: member.account.clone(),
        identity: snapshot.identity_of(member).ok().map(|identity| identity.to_string()),
        addresses: member.addresses.iter().map(ToString::to_string).collect(),
        sidecar: member.sidecar,
        mode: inbound.mode.as_str(),
        decided_by: inbound.decided_by,
        ports: inbound.ports.into_iter().map(port).collect(),
    }
}

fn namespaces(snapshot: &Snapshot, workloads: &[WorkloadView], findings: &[Finding]) -> Vec<NamespaceView> {
    let mut names: BTreeSet<&str> = snapshot.mesh().namespaces.iter().map(|one| one.meta.name()).collect();
    names.extend(workloads.iter().map(|one| one.workload.namespace()));
    let mut own: BTreeMap<&str, Vec<&WorkloadView>> = BTreeMap::new();
    for one in workloads {
        own.entry(one.workload.namespace()).or_default().push(one);
    }
    let of = |name: &str| {
        let (mode, decided_by) = snapshot.engine.namespace_mode(name);
        let mode = mode.as_str();
        let all = own.get(name).map(Vec::as_slice).unwrap_or_default();
        let sidecars = || all.iter().filter(|one| one.sidecar);
        let differs = |one: &&&WorkloadView| one.mode != mode || one.ports.iter().any(|port| port.mode != mode);
        let found = |severity| findings.iter().filter(|one| is_of(one, name) && one.severity == severity).count();
        NamespaceView {
            inherited: !decided_by.split(' ').nth(1).is_some_and(|object| object.starts_with(&format!("{name}/"))),
            name: name.to_owned(),
            mode,
            decided_by,
            workloads: all.len(),
            with_sidecar: sidecars().count(),
            overridden: sidecars().filter(differs).count(),
            errors: found(Severity::Error),
            warnings: found(Severity::Warning),
        }
    };
    names.into_iter().map(of).collect()
}

/// Whether a finding is about an object of a namespace (`Kind namespace/name`).
fn is_of(finding: &Finding, namespace: &str) -> bool {
    let object = finding.object.split(' ').nth(1).unwrap_or_default();
    object.split_once('/').is_some_and(|(of, _)| of == namespace)
}
