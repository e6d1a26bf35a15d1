//! The mesh's root, and the change of it.

use serde::Serialize;

use crate::Parts;
use crate::clock::{at, rfc3339};
use crate::sign::reroot::{self, Waiting};
use crate::sign::rotation::{Record, RootPhase};

/// `GET /api/v1/ca`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaView {
    /// The roots that everybody is to trust.
    roots: Vec<RootView>,
    /// Serial number of the certificate that signs.
    signer: String,
    /// The change under way, if there is one.
    rotation: Option<RotationView>,
}

/// One root.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RootView {
    serial: String,
    subject: String,
    not_after: String,
}

/// A change of root.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationView {
    /// `trust`: everybody gets both roots; `reissue`: the new one signs, old leaves are renewed.
    phase: RootPhase,
    began: String,
    since: String,
    aborted: bool,
    /// The proxies that are waited for.
    waiting_for: Vec<Waiting>,
}

/// `GET /api/v1/ca`.
#[must_use]
pub fn view(parts: &Parts) -> CaView {
    let ca = parts.ca.load();
    let roots = ca.bundle().infos().into_iter();
    let roots = roots.map(|root| RootView { serial: root.serial, subject: root.subject, not_after: rfc3339(root.not_after) });
    let rotation = parts.rotation.record().map(|record: Record| RotationView {
        phase: record.phase,
        began: rfc3339(at(record.began)),
        since: rfc3339(at(record.since)),
        aborted: record.aborted,
        waiting_for: reroot::waiting(parts, &record),
    });
    CaView { roots: roots.collect(), signer: ca.signer().serial.clone(), rotation }
}
