//! Every certificate of the mesh, and when it dies.

use std::collections::HashMap;
use std::time::SystemTime;

use serde::Serialize;

use super::views::{at, rfc3339, text, unix};
use crate::Parts;
use crate::names::WorkloadName;
use crate::registry::Proxy;
use crate::sign::tokens::TokenRecord;
use crate::world::Snapshot;

/// `GET /api/v1/certificates`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificatesView {
    now: String,
    trust_domain: String,
    certificates: Vec<CertificateView>,
}

/// One certificate, and when it dies.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateView {
    /// `root`, `issuer`, `revocation-list`, `control-plane`, `workload` or `token`.
    kind: &'static str,
    /// The identity, or for roots the subject.
    owner: String,
    /// The workloads whose proxies show it.
    workloads: Vec<WorkloadName>,
    serial: String,
    issuer: String,
    /// When it was issued; null when that was before this control plane ran.
    issued: Option<String>,
    not_after: String,
    remaining_seconds: i64,
    /// When its renewal is due.
    renew_at: Option<String>,
    renewals: u64,
    failed_renewals: u64,
    last_renewal_error: Option<String>,
    clock_skew_ms: Option<i64>,
    /// What will stop working, and when, while its renewal fails.
    forecast: Option<String>,
}

/// `GET /api/v1/certificates`.
#[must_use]
pub fn certificates(parts: &Parts, now: SystemTime) -> CertificatesView {
    let snapshot = parts.world.current();
    let mut certificates = Vec::new();
    for root in snapshot.trust.roots.infos() {
        certificates
            .push(CertificateView { issuer: root.issuer, ..bare("root", root.subject, root.serial, root.not_after, now) });
    }
    certificates.extend(signer(parts, now));
    certificates.extend(revocation_lists(&snapshot, now));
    let own = parts.own.load();
    let owner = own.id().map(ToString::to_string).unwrap_or_default();
    let issued = parts.keeper.issued();
    certificates.push(CertificateView {
        issuer: own.info().issuer.clone(),
        issued: Some(rfc3339(issued)),
        renew_at: half(issued, own.not_after()).map(rfc3339),
        ..bare("control-plane", owner, own.serial().to_owned(), own.not_after(), now)
    });
    certificates.extend(leaves(parts, now));
    certificates.extend(tokens(parts, now));
    CertificatesView { now: rfc3339(now), trust_domain: snapshot.trust_domain.as_str().to_owned(), certificates }
}

/// The revocation lists: when one ends, nobody below its CA is served any more.
fn revocation_lists(snapshot: &Snapshot, now: SystemTime) -> impl Iterator<Item = CertificateView> {
    let lists = snapshot.trust.roots.revocation_infos().into_iter();
    lists.filter_map(move |list| {
        let issued = Some(rfc3339(list.issued));
        let row = bare("revocation-list", list.issuer.clone(), String::new(), list.next_update?, now);
        Some(CertificateView { issuer: list.issuer, issued, ..row })
    })
}

/// The signing certificate, where it is an intermediate.
fn signer(parts: &Parts, now: SystemTime) -> Option<CertificateView> {
    let ca = parts.ca.load();
    let signer = ca.signer();
    if ca.bundle().infos().iter().any(|root| root.serial == signer.serial && root.subject == signer.subject) {
        return None;
    }
    let row = bare("issuer", signer.subject.clone(), signer.serial.clone(), signer.not_after, now);
    Some(CertificateView { issuer: signer.issuer.clone(), ..row })
}

/// Join tokens that may still be used; never the token itself.
fn tokens(parts: &Parts, now: SystemTime) -> Vec<CertificateView> {
    let usable = parts.tokens.list().into_iter().filter(|token| token.used.is_none() && end_of(token) > now);
    let row = |token: TokenRecord| CertificateView {
        workloads: vec![token.workload.clone()],
        ..bare("token", token.workload.to_string(), String::new(), end_of(&token), now)
    };
    usable.map(row).collect()
}

fn end_of(token: &TokenRecord) -> SystemTime {
    at(i64::try_from(token.expires).unwrap_or(i64::MAX))
}

/// One row per identity that got a leaf here, and one per proxy that shows a leaf from before this process ran.
fn leaves(parts: &Parts, now: SystemTime) -> Vec<CertificateView> {
    // The signer signs the own certificate too.
    let issuer = parts.own.load().info().issuer.clone();
    let mut by_identity: HashMap<String, Vec<(WorkloadName, Proxy)>> = HashMap::new();
    for (name, proxy) in parts.registry.proxies() {
        by_identity.entry(proxy.identity.clone()).or_default().push((name, proxy));
    }
    let mut rows = Vec::new();
    for (identity, leaf) in parts.leaves.all() {
        let shown = by_identity.remove(&identity.to_string()).unwrap_or_default();
        let mut row = CertificateView {
            issued: Some(rfc3339(leaf.issued)),
            renew_at: half(leaf.issued, leaf.not_after).map(rfc3339),
            renewals: leaf.count.saturating_sub(1),
            ..bare("workload", identity.to_string(), leaf.serial, leaf.not_after, now)
        };
        shown.iter().for_each(|(name, proxy)| add_report(&mut row, name, proxy));
        rows.push(row);
    }
    for (identity, shown) in by_identity {
        for (name, proxy) in shown {
            let Some(report) = &proxy.report else { continue };
            let end = at(report.certificate_not_after);
            let mut row = bare("workload", identity.clone(), report.certificate_serial.clone(), end, now);
            row.renewals = report.renewals;
            add_report(&mut row, &name, &proxy);
            rows.push(row);
        }
    }
    rows.iter_mut().for_each(|row| row.issuer.clone_from(&issuer));
    rows.sort_by(|a, b| (&a.owner, &a.workloads).cmp(&(&b.owner, &b.workloads)));
    rows
}

fn add_report(row: &mut CertificateView, name: &WorkloadName, proxy: &Proxy) {
    row.workloads.push(name.clone());
    let Some(report) = &proxy.report else { return };
    row.renewals = row.renewals.max(report.renewals);
    row.failed_renewals += report.failed_renewals;
    row.clock_skew_ms = Some(report.clock_skew_ms);
    if let Some(error) = text(&report.last_renewal_error) {
        let end = rfc3339(at(report.certificate_not_after));
        row.forecast = Some(format!("renewal fails; at this rate {name} stops working at {end}"));
        row.last_renewal_error = Some(error);
    }
}

fn bare(kind: &'static str, owner: String, serial: String, not_after: SystemTime, now: SystemTime) -> CertificateView {
    CertificateView {
        kind,
        owner,
        workloads: Vec::new(),
        serial,
        issuer: String::new(),
        issued: None,
        not_after: rfc3339(not_after),
        remaining_seconds: unix(not_after) - unix(now),
        renew_at: None,
        renewals: 0,
        failed_renewals: 0,
        last_renewal_error: None,
        clock_skew_ms: None,
        forecast: None,
    }
}

fn half(issued: SystemTime, not_after: SystemTime) -> Option<SystemTime> {
    not_after.duration_since(issued).ok().map(|life| issued + life / 2)
}
