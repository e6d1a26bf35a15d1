//! Leads a change of root through its stages: who is waited for, and when it goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use mutua_identity::{AnchorName, Ca, IdentityError};
use tokio_util::sync::CancellationToken;

use super::remembered;
use super::rotation::{Record, RootPhase, RotationError};
use crate::Parts;
use crate::clock::{rfc3339, unix};
use crate::names::WorkloadName;
use crate::registry::{Proxy, Report};
use crate::revision::{Phase, Revision};

/// How often proxies are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long a report may have been on its way: one that comes later than all leaves are renewed, and this, tells of every
/// connection from before.
const UNDER_WAY: Duration = Duration::from_secs(2);
/// How long it takes until a change that could not begin by itself is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// A proxy that a change of root waits for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Its workload.
    pub workload: WorkloadName,
    /// Whether it is connected.
    pub connected: bool,
    /// Why.
    pub reason: Why,
    /// How many of its live connections are waited for.
    pub connections: u64,
    /// The end of the leaf it shows, or of those of its peers, Unix seconds: then it is waited for no more.
    pub until: i64,
}

/// Why a proxy is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is away.
    Away,
    /// It may not know the roots.
    Roots,
    /// It may show a leaf of the root that goes.
    Certificate,
    /// So many of its connections hang on the root that goes.
    Connections(u64),
    /// It has not told of its connections since all leaves are renewed.
    Report,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away => f.write_str("it is not connected"),
            Self::Roots => f.write_str("it has not acknowledged the roots"),
            Self::Certificate => f.write_str("it has not renewed its certificate"),
            Self::Connections(1) => f.write_str("1 live connection was verified by the root that goes"),
            Self::Connections(count) => write!(f, "{count} live connections were verified by the root that goes"),
            Self::Report => f.write_str("it has not told of its connections yet"),
        }
    }
}

impl serde::Serialize for Why {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Begins a change of root.
///
/// # Errors
/// It cannot begin.
pub fn begin(parts: &Parts) -> Result<(), RotationError> {
    let trust_domain = parts.world.current().trust_domain.clone();
    parts.rotation.begin(&trust_domain, known(parts))?;
    tracing::info!("a change of root begins: the new root is trusted beside the old one");
    parts.retrust.notify_one();
    Ok(())
}

/// Takes a change of root back.
///
/// # Errors
/// It cannot be taken back.
pub fn abort(parts: &Parts) -> Result<(), RotationError> {
    parts.rotation.abort()?;
    tracing::warn!("the change of root is taken back");
    parts.keeper.renew();
    parts.retrust.notify_one();
    Ok(())
}

/// Takes over the files of a plugged-in CA that have changed. Returns whether anything changed.
pub fn replaced(parts: &Parts, folder: &Path) -> bool {
    let next = Ca::from_dir(folder).and_then(|next| match next.end() {
        end if end <= SystemTime::now() => Err(IdentityError::SignerExpired(end)),
        _ => Ok(next),
    });
    match next.map_err(RotationError::Ca).and_then(|next| parts.rotation.replaced(next, known(parts))) {
        Ok(false) => {
            parts.signers.note(parts.ca.load().signer(), None);
            tracing::info!(folder = %folder.display(), "the signing CA is read again");
        }
        Ok(true) => tracing::info!(
            folder = %folder.display(),
            "the signing CA has another root: a change of root begins, the former CA signs until all proxies trust it"
        ),
        Err(error) => {
            parts.metrics.config_error();
            parts.rotation.note(Some(&error));
            tracing::error!(%error, "the signing CA is not changed; the one in use stays");
            return false;
        }
    }
    parts.rotation.note(None);
    note_revocations(&parts.ca.load());
    true
}

/// Tells what the revocation lists hold.
fn note_revocations(ca: &Ca) {
    for list in ca.bundle().revocation_infos() {
        let ends = list.next_update.map(rfc3339).unwrap_or_default();
        tracing::info!(issuer = list.issuer, revoked = list.revoked, ends, "a revocation list is in force");
    }
}

/// Leads until `shutdown`. A root of our own is changed before a fifth of its life remains.
pub async fn lead(parts: &Parts, shutdown: CancellationToken) {
    let (mut kept, mut begun, mut ended) = (Instant::now(), None::<Instant>, BTreeSet::new());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        if kept.elapsed() >= remembered::PERIOD {
            parts.remembered.keep(&parts.registry, &parts.leaves, SystemTime::now());
            tell_ended(parts, &mut ended);
            kept = Instant::now();
        }
        let Some(record) = parts.rotation.record() else {
            let due = parts.rotation.due().is_some_and(|due| due <= SystemTime::now());
            if due && begun.is_none_or(|last| last.elapsed() >= AGAIN) {
                begun = Some(Instant::now());
                tracing::warn!("less than a fifth of the root's life remains");
                let done = begin(parts);
                parts.rotation.note(done.as_ref().err());
                if let Err(error) = done {
                    tracing::error!(%error, "the root is not changed; it is tried again");
                }
            }
            continue;
        };
        if !in_force(parts, &record) {
            continue;
        }
        if awaited(parts, &record) {
            continue;
        }
        let done = parts.rotation.advance(known(parts));
        parts.rotation.note(done.as_ref().err());
        if let Err(error) = done {
            tracing::error!(%error, "the change of root stays where it stands");
            continue;
        }
        match parts.rotation.record() {
            Some(_) => tracing::info!("the new root signs; leaves of the old one are renewed"),
            None => tracing::info!("the old root is gone: the change is complete"),
        }
        if parts.rotation.is_plugged() {
            parts.signers.note(parts.ca.load().signer(), parts.rotation.record().as_ref());
        }
        parts.keeper.renew();
        parts.retrust.notify_one();
    }
}

/// Whether everything that is distributed speaks of this stage already.
fn in_force(parts: &Parts, record: &Record) -> bool {
    let stage = parts.world.stage();
    let trust = &stage.target.trust;
    stage.phase == Phase::Complete && *trust == parts.trust() && trust.renew_not_before == record.renew_not_before()
}

/// Tells of roots that have ended, each once. Proxies know it by themselves, and refuse whoever is below them.
fn tell_ended(parts: &Parts, told: &mut BTreeSet<String>) {
    let (now, snapshot) = (SystemTime::now(), parts.world.current());
    let further = snapshot.bundle.domain_infos().into_iter().map(|(_, root)| root);
    let all = snapshot.bundle.infos().into_iter().chain(further);
    for root in all.filter(|root| root.not_after <= now) {
        if told.insert(format!("{} {}", root.issuer, root.serial)) {
            let ended = rfc3339(root.not_after);
            tracing::warn!(root = root.subject, serial = root.serial, ended, "a root has ended: whoever is below it is refused");
        }
    }
}

/// Whether anybody is waited for; notes since when only reports on connections are.
fn awaited(parts: &Parts, record: &Record) -> bool {
    let (reissue, before) = (record.phase != RootPhase::Trust, parts.rotation.renewed());
    let waiting = waiting(parts, record);
    let renewed = |one: &Waiting| matches!(one.reason, Why::Connections(_) | Why::Report);
    parts.rotation.note_renewed(reissue && waiting.iter().all(renewed));
    !waiting.is_empty() || reissue && before.is_none()
}

/// The proxies that must come along before the next stage.
#[must_use]
pub fn waiting(parts: &Parts, record: &Record) -> Vec<Waiting> {
    let (now, proxies, stage) = (unix(SystemTime::now()), parts.registry.proxies(), parts.world.stage());
    let look = Look {
        now,
        told: (stage.target.trust == parts.trust()).then(|| stage.revision()),
        renew_not_before: record.renew_not_before(),
        going: (record.phase != RootPhase::Trust).then(|| parts.rotation.going(record)),
        reported: parts.rotation.renewed().map(|renewed| renewed + UNDER_WAY),
    };
    let mut names: BTreeMap<WorkloadName, i64> = record.expected.clone();
    names.extend(proxies.iter().filter(|(_, proxy)| proxy.connected).map(|(name, proxy)| (name.clone(), end(proxy))));
    let wait = |(workload, expected): (WorkloadName, i64)| {
        let proxy = proxies.get(&workload);
        let connected = proxy.is_some_and(|proxy| proxy.connected);
        let until = proxy.map_or(expected, |proxy| end(proxy).max(expected));
        let (reason, until) = match proxy.filter(|proxy| proxy.connected) {
            Some(proxy) => look.missing(proxy, until)?,
            None => (Why::Away, until),
        };
        let connections = if let Why::Connections(count) = reason { count } else { 0 };
        // A leaf that has ended needs no root any more.
        (connected || until > now).then_some(Waiting { workload, connected, reason, connections, until })
    };
    names.into_iter().filter_map(wait).collect()
}

/// What connected proxies are held against.
struct Look {
    /// Unix seconds.
    now: i64,
    /// The stage in which proxies are told of the roots, once there is one.
    told: Option<Revision>,
    renew_not_before: i64,
    /// The anchors that count no more after this stage, by name.
    going: Option<BTreeSet<AnchorName>>,
    /// When all leaves are renewed: reports that came before this say nothing of the connections.
    reported: Option<SystemTime>,
}

impl Look {
    /// What a proxy has not done yet, and until when that is waited for.
    fn missing(&self, proxy: &Proxy, until: i64) -> Option<(Why, i64)> {
        if self.told.is_none_or(|stage| proxy.progress.acknowledged < stage) {
            return Some((Why::Roots, until));
        }
        let going = self.going.as_ref()?;
        let report = proxy.report.as_ref();
        if report.map_or(0, |report| report.certificate_not_before) < self.renew_not_before {
            return Some((Why::Certificate, until));
        }
        let (connections, last) = self.hanging(report?, going);
        if connections > 0 {
            return Some((Why::Connections(connections), last));
        }
        let early = self.reported.is_some_and(|reported| report.and_then(|report| report.at) < Some(reported));
        early.then_some((Why::Report, until))
    }

    /// How many connections hang on what goes, by leaves that have not ended, and when the last of these ends. Connections
    /// of which it is not known on what they hang count.
    fn hanging(&self, report: &Report, going: &BTreeSet<AnchorName>) -> (u64, i64) {
        let goes = |anchor: &str| anchor.is_empty() || going.iter().any(|name| name.to_string() == anchor);
        let hanging = report.anchored.iter().filter(|one| goes(&one.anchor) && one.until > self.now);
        hanging.fold((0, 0), |(count, last), one| (count + u64::from(one.connections), one.until.max(last)))
    }
}

/// The proxies that hang on the root now, with the end of their leaves.
fn known(parts: &Parts) -> BTreeMap<WorkloadName, i64> {
    parts.remembered.with(&parts.registry, &parts.leaves, SystemTime::now())
}

pub(super) fn end(proxy: &Proxy) -> i64 {
    proxy.report.as_ref().map_or(0, |report| report.certificate_not_after)
}
