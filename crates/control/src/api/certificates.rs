//! Every certificate of the mesh, and when it dies.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use mutua_identity::CertificateInfo;
use mutua_identity::schedule::root_due;
use serde::Serialize;

use super::views::text;
use crate::Parts;
use crate::clock::{at, rfc3339, unix};
use crate::names::WorkloadName;
use crate::registry::Proxy;
use crate::sign::reroot;
use crate::sign::rotation::Record;
use crate::sign::tokens::TokenRecord;
use crate::world::Snapshot;

/// `GET /api/v1/certificates`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificatesView {
    now: String,
    trust_domain: String,
    pub(super) certificates: Vec<CertificateView>,
}

/// One certificate, and when it dies.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateView {
    /// `root`, `issuer`, `revocation-list`, `control-plane`, `workload` or `token`.
    pub(super) kind: &'static str,
    /// The identity, or for roots the subject.
    pub(super) owner: String,
    /// The workloads whose proxies show it.
    workloads: Vec<WorkloadName>,
    serial: String,
    issuer: String,
    /// When it was issued; null when that was before this control plane ran.
    issued: Option<String>,
    not_after: String,
    pub(super) remaining_seconds: i64,
    /// When its renewal is due.
    renew_at: Option<String>,
    /// How long until then; negative when it is late.
    pub(super) renew_in_seconds: Option<i64>,
    renewals: u64,
    failed_renewals: u64,
    /// How the last attempt to renew went: `ok` or `failed`; null when there was none.
    pub(super) last_attempt: Option<&'static str>,
    last_renewal_error: Option<String>,
    pub(super) clock_skew_ms: Option<i64>,
    /// What will stop working, and when, while its renewal fails.
    forecast: Option<String>,
}

impl CertificateView {
    fn due(&mut self, due: Option<SystemTime>, now: SystemTime) {
        self.renew_at = due.map(rfc3339);
        self.renew_in_seconds = due.map(|due| unix(due) - unix(now));
    }
}

/// `GET /api/v1/certificates`.
#[must_use]
pub fn certificates(parts: &Parts, now: SystemTime) -> CertificatesView {
    let snapshot = parts.world.current();
    let mut certificates: Vec<CertificateView> =
        snapshot.bundle.infos().into_iter().map(|root| authority(parts, "root", root, now)).collect();
    let further = snapshot.bundle.domain_infos().into_iter().map(|(_, root)| (format!("{} {}", root.issuer, root.serial), root));
    let further: BTreeMap<String, CertificateInfo> = further.collect();
    certificates.extend(further.into_values().map(|root| authority(parts, "root", root, now)));
    certificates.extend(signer(parts, now));
    certificates.extend(revocation_lists(&snapshot, now));
    certificates.push(own(parts, now));
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

/// What makes a control plane useless: nobody can connect to it, or it can sign for nobody.
#[must_use]
pub fn dead(parts: &Parts, now: SystemTime) -> Option<&'static str> {
    if parts.own.load().not_after() <= now {
        return Some("the control plane's own certificate has ended");
    }
    (parts.ca.load().end() <= now).then_some("the signing certificate, or one above it, has ended")
}

/// A root, or the signing certificate below one.
fn authority(parts: &Parts, kind: &'static str, info: CertificateInfo, now: SystemTime) -> CertificateView {
    let (end, old) = (info.not_after, root_due(info.not_before, info.not_after) <= now);
    let ca = parts.ca.load();
    let signs = ca.signer().serial == info.serial;
    // Whoever is below another root is not of this CA.
    let ours = signs || ca.anchors().iter().any(|root| CertificateInfo::from_pem(root).is_ok_and(|root| root == info));
    let changing = parts.rotation.record().is_some() && ca.bundle().infos().contains(&info);
    let mut row = CertificateView { issuer: info.issuer, ..bare(kind, info.subject, info.serial, end, now) };
    row.issued = Some(rfc3339(info.not_before));
    row.due(parts.rotation.due().filter(|_| signs), now);
    if !ours && !changing {
        row.forecast = of_others(end, old, now);
        return row;
    }
    row.last_renewal_error = parts.rotation.failure();
    row.last_attempt = row.last_renewal_error.is_some().then_some("failed");
    let (end, plugged) = (rfc3339(end), parts.rotation.is_plugged());
    row.forecast = match parts.rotation.record() {
        Some(record) if signs => Some(under_way(parts, &record)),
        Some(_) => None,
        None if old && plugged => {
            Some(format!("nothing renews it; put its successor into --ca-dir, or the whole mesh stops working at {end}"))
        }
        None if row.last_renewal_error.is_some() => {
            Some(format!("its change fails; at this rate the whole mesh stops working at {end}"))
        }
        None => None,
    };
    row
}

/// What is to be said of a root that vouches for others than those whom our CA signs for.
fn of_others(end: SystemTime, old: bool, now: SystemTime) -> Option<String> {
    let (shown, place) = (rfc3339(end), "where it came from (meshConfig.caCertificates, --ca-dir)");
    match end <= now {
        true => Some(format!("it has ended: whoever is below it is refused since {shown}; put its successor {place}")),
        false => old.then(|| {
            format!("nothing here renews it; put its successor {place}, or whoever is below it is refused from {shown} on")
        }),
    }
}

fn under_way(parts: &Parts, record: &Record) -> String {
    let waiting = reroot::waiting(parts, record);
    let names: Vec<String> = waiting.iter().take(3).map(|one| format!("{} ({})", one.workload, one.reason)).collect();
    let more = waiting.len().saturating_sub(names.len());
    match (names.is_empty(), more) {
        (true, _) => "a change of root is under way".to_owned(),
        (_, 0) => format!("a change of root is under way and waits for {}", names.join(", ")),
        _ => format!("a change of root is under way and waits for {} and {more} more", names.join(", ")),
    }
}

/// The signing certificate, where it is an intermediate.
fn signer(parts: &Parts, now: SystemTime) -> Option<CertificateView> {
    let ca = parts.ca.load();
    let signer = ca.signer();
    if ca.bundle().infos().iter().any(|root| root.serial == signer.serial && root.subject == signer.subject) {
        return None;
    }
    Some(authority(parts, "issuer", signer.clone(), now))
}

fn own(parts: &Parts, now: SystemTime) -> CertificateView {
    let (own, issued, failures) = (parts.own.load(), parts.keeper.issued(), parts.keeper.failures());
    let owner = own.id().map(ToString::to_string).unwrap_or_default();
    let mut row = bare("control-plane", owner, own.serial().to_owned(), own.not_after(), now);
    row.issuer.clone_from(&own.info().issuer);
    row.issued = Some(rfc3339(issued));
    row.due(half(issued, own.not_after()), now);
    row.renewals = parts.metrics.own_renewals();
    row.failed_renewals = failures.count;
    row.last_attempt = Some(if failures.last.is_some() { "failed" } else { "ok" });
    row.last_renewal_error = failures.last;
    if row.last_renewal_error.is_some() {
        row.forecast = Some(match own.not_after() <= now {
            true => format!("renewal fails; no proxy can connect since {}", row.not_after),
            false => format!("renewal fails; at this rate no proxy can connect from {} on", row.not_after),
        });
    }
    row
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
            renewals: leaf.count.saturating_sub(1),
            last_attempt: Some("ok"),
            ..bare("workload", identity.to_string(), leaf.serial, leaf.not_after, now)
        };
        row.due(half(leaf.issued, leaf.not_after), now);
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
    rows.extend(away(parts, now));
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
    let end = rfc3339(at(report.certificate_not_after));
    if let Some(error) = text(&report.last_renewal_error) {
        row.forecast = Some(format!("renewal fails; at this rate {name} stops working at {end}"));
        row.last_renewal_error = Some(error);
        row.last_attempt = Some("failed");
    } else if row.last_attempt.is_none() {
        row.last_attempt = Some("ok");
    }
    let due = row.renew_in_seconds.is_none_or(|left| left <= 0);
    if !proxy.connected && due && row.forecast.is_none() {
        row.forecast = Some(format!("{name} is not connected and does not renew; at this rate it stops working at {end}"));
    }
}

/// Proxies that were seen before this control plane ran, and not since.
fn away(parts: &Parts, now: SystemTime) -> Vec<CertificateView> {
    let (snapshot, seen) = (parts.world.current(), parts.registry.proxies());
    let mut rows = Vec::new();
    for (name, end) in parts.remembered.with(&parts.registry, &parts.leaves, now) {
        if seen.contains_key(&name) {
            continue;
        }
        let identity = snapshot.member(&name).and_then(|member| snapshot.identity_of(member).ok());
        let owner = identity.map_or_else(|| name.to_string(), |identity| identity.to_string());
        let mut row = bare("workload", owner, String::new(), at(end), now);
        row.forecast =
            Some(format!("{name} is not connected and does not renew; at this rate it stops working at {}", row.not_after));
        row.workloads.push(name);
        rows.push(row);
    }
    rows
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
        renew_in_seconds: None,
        renewals: 0,
        failed_renewals: 0,
        last_attempt: None,
        last_renewal_error: None,
        clock_skew_ms: None,
        forecast: None,
    }
}

fn half(issued: SystemTime, not_after: SystemTime) -> Option<SystemTime> {
    not_after.duration_since(issued).ok().map(|life| issued + life / 2)
}
