//! A change of the mesh's root, in stages, so that nobody is without trust at any moment:
//!
//! 1. `trust`: everybody gets the new root beside the old one, and acknowledges it;
//! 2. `reissue`: the new root signs, and every leaf that hangs on the old one is renewed;
//! 3. the old root goes, when no proxy shows a leaf of it any more, and no live connection was verified by one.
//!
//! The mesh's own root is changed by `mutua ca rotate`, and by itself before a fifth of its life remains; a plugged-in one
//! when the files of `--ca-dir` change. Where it stands is kept on the disk before anything follows from it; a restart
//! goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use mutua_identity::schedule::root_due;
use mutua_identity::{AnchorName, Ca, IdentityError, TrustBundle, TrustDomain};
use serde::{Deserialize, Serialize};

use super::root_files::{self, CURRENT, NEXT, RECORD};
use crate::clock::unix;
use crate::names::WorkloadName;
use crate::state::{StateDir, StateError};

/// How far the CA dates leaves back, seconds (Istio's two minutes).
const BACKDATED: i64 = 120;

/// Where a change of root stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootPhase {
    /// Both roots are trusted; the old one signs.
    Trust,
    /// Both roots are trusted; the new one signs, and leaves of the old one are renewed.
    Reissue,
    /// The files of the new root take the place of the old one's.
    Install,
}

/// A change of root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Where it stands.
    pub phase: RootPhase,
    /// When it began, Unix seconds.
    pub began: i64,
    /// Since when it stands there, Unix seconds.
    pub since: i64,
    /// Whether the old root stays after all: the change is being taken back.
    pub aborted: bool,
    /// The proxies that hang on the root that goes, with the end of the leaf each is known to show, Unix seconds.
    pub expected: BTreeMap<WorkloadName, i64>,
    /// Of a plugged-in CA: the roots from before the change, PEM. They are trusted until it is over.
    #[serde(default)]
    pub before: Option<String>,
    /// Of a plugged-in CA: serial number of the new signer, and the roots to come, PEM.
    #[serde(default)]
    pub target: Option<String>,
}

/// What tells one plugged-in CA from another.
fn target(ca: &Ca) -> String {
    format!("{}\n{}", ca.signer().serial, ca.bundle().to_pem())
}

impl Record {
    fn begin(expected: BTreeMap<WorkloadName, i64>, before: Option<String>) -> Self {
        let now = unix_now();
        Self { phase: RootPhase::Trust, began: now, since: now, aborted: false, expected, before, target: None }
    }

    /// The NotBefore from which on leaves surely hang on the root that stays; 0 while nothing is to be renewed. It has
    /// whole seconds, and within the second of the switch either root may have signed.
    #[must_use]
    pub fn renew_not_before(&self) -> i64 {
        if self.phase == RootPhase::Trust { 0 } else { self.since + 1 - BACKDATED }
    }
}

/// The NotBefore from which on leaves are surely of a signer that signs since now, as [`Record::renew_not_before`].
pub(super) fn renewed_from_now() -> i64 {
    unix_now() + 1 - BACKDATED
}

/// Why a root is not changed.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The CA is somebody else's.
    #[error("the signing CA comes from --ca-dir: put other files there, and the change goes through the same stages")]
    Plugged,
    /// A change of a plugged-in CA is to be taken back.
    #[error("the signing CA comes from --ca-dir: put the former files there again to take the change back")]
    PutBack,
    /// A change is under way.
    #[error("a change of root is under way (`mutua ca rotate --status`); --abort takes it back")]
    UnderWay,
    /// None is.
    #[error("no change of root is under way")]
    None,
    /// It is too late to take back.
    #[error("the new root is in its place already")]
    TooLate,
    /// The CA's files.
    #[error(transparent)]
    Ca(#[from] IdentityError),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The record cannot be read.
    #[error("{RECORD}: {0}")]
    Record(serde_json::Error),
}

/// The mesh's root, and the change of it.
pub struct Rotation {
    state: Arc<StateDir>,
    /// The folder of a plugged-in CA; without one the root is ours to change.
    plugged: Option<PathBuf>,
    ca: Arc<ArcSwap<Ca>>,
    record: Mutex<Option<Record>>,
    /// Why the last change could not begin, or not go on.
    failure: Mutex<Option<String>>,
    /// Since when nobody is known to show a leaf of the root that goes.
    renewed: Mutex<Option<SystemTime>>,
}

/// The CA to begin with: that of the state folder, and what a change under way adds to it.
///
/// # Errors
/// Files that cannot be read.
pub fn load(state: &StateDir, trust_domain: &TrustDomain) -> Result<(Ca, Option<Record>), RotationError> {
    let Some(record) = root_files::read(state)?.filter(|record| record.before.is_none()) else {
        // What a crash left of a change that had not begun, or was over.
        root_files::remove_next(state)?;
        return Ok((root_files::own(state, trust_domain)?, None));
    };
    if record.phase == RootPhase::Install {
        root_files::install(state)?;
        root_files::remove_next(state)?;
        return Ok((root_files::own(state, trust_domain)?, None));
    }
    Ok((root_files::compose(state, &record)?, Some(record)))
}

/// The plugged-in CA of `folder` to begin with. `known`: the roots that proxies were given last; those that the files
/// leave out now stay trusted until nobody hangs on them.
///
/// # Errors
/// Files that cannot be read.
pub fn load_plugged(
    state: &StateDir,
    folder: &std::path::Path,
    known: Option<TrustBundle>,
    expected: BTreeMap<WorkloadName, i64>,
) -> Result<(Ca, Option<Record>), RotationError> {
    let ca = Ca::from_dir(folder)?;
    let record = match root_files::read(state)?.filter(|record| record.before.is_some()) {
        Some(record) => record,
        None => match known.filter(|known| needs_stages(known, None, &ca)) {
            Some(known) => {
                let record = Record { target: Some(target(&ca)), ..Record::begin(expected, Some(known.to_pem())) };
                root_files::write(state, &record)?;
                record
            }
            None => return Ok((ca, None)),
        },
    };
    let before = TrustBundle::from_pem(record.before.as_deref().unwrap_or_default())?;
    Ok((ca.trusting(&before), Some(record)))
}

/// Whether a CA cannot take the place of another at once: a root goes, or it signs below one that signed nothing before.
fn needs_stages(known: &TrustBundle, anchors: Option<&[String]>, next: &Ca) -> bool {
    let (known, kept) = (known.roots_pem(), next.bundle().roots_pem());
    let anchors = anchors.unwrap_or(&known);
    known.iter().any(|root| !kept.contains(root)) || next.anchors().iter().any(|root| !anchors.contains(root))
}

impl Rotation {
    /// Over the CA that [`load`] or [`load_plugged`] gave, with its record.
    #[must_use]
    pub fn new(state: Arc<StateDir>, ca: Arc<ArcSwap<Ca>>, record: Option<Record>, plugged: Option<PathBuf>) -> Self {
        Self { state, plugged, ca, record: Mutex::new(record), failure: Mutex::default(), renewed: Mutex::default() }
    }

    /// The change under way.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        self.lock().clone()
    }

    /// Why the last attempt to change the root did not work; `None` once one has.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how an attempt went.
    pub(super) fn note(&self, error: Option<&RotationError>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = error.map(ToString::to_string);
    }

    /// The trust anchors that count no more once the change is over, while leaves are renewed.
    #[must_use]
    pub fn going(&self, record: &Record) -> BTreeSet<AnchorName> {
        let ca = self.ca.load();
        let stay = record.target.clone().unwrap_or_else(|| ca.anchors().concat());
        let stay = TrustBundle::from_pem(&stay).map(|stay| stay.anchors()).unwrap_or_default();
        ca.bundle().anchors().difference(&stay).copied().collect()
    }

    /// Since when nobody is known to show a leaf of the root that goes.
    #[must_use]
    pub fn renewed(&self) -> Option<SystemTime> {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether anybody is known to show a leaf of the root that goes.
    pub(super) fn note_renewed(&self, all: bool) {
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        *renewed = all.then(|| renewed.unwrap_or_else(SystemTime::now));
    }

    /// Whether the CA is plugged in.
    #[must_use]
    pub fn is_plugged(&self) -> bool {
        self.plugged.is_some()
    }

    /// When the root is changed by itself; `None` of a plugged-in one.
    #[must_use]
    pub fn due(&self) -> Option<SystemTime> {
        let ca = self.ca.load();
        (!self.is_plugged()).then(|| root_due(ca.signer().not_before, ca.signer().not_after))
    }

    /// Begins a change: a new root is made and trusted beside the old one. `expected`: the proxies that are known.
    ///
    /// # Errors
    /// A change is under way, the root is not ours, or the state folder cannot be written.
    pub fn begin(&self, trust_domain: &TrustDomain, expected: BTreeMap<WorkloadName, i64>) -> Result<(), RotationError> {
        if self.is_plugged() {
            return Err(RotationError::Plugged);
        }
        let mut record = self.lock();
        if record.is_some() {
            return Err(RotationError::UnderWay);
        }
        root_files::remove_next(&self.state)?;
        Ca::load_or_create(&self.state.create_dir(NEXT)?, trust_domain)?;
        self.enter(&mut record, Record::begin(expected, None))
    }

    /// Takes over the files of a plugged-in CA that have changed: at once where nobody can notice, else in stages. Returns
    /// whether stages are needed.
    ///
    /// # Errors
    /// The state folder cannot be written, or the revocation lists do not go with the roots in use; nothing is changed then.
    pub fn replaced(&self, next: Ca, expected: BTreeMap<WorkloadName, i64>) -> Result<bool, RotationError> {
        let (mut record, current) = (self.lock(), self.ca.load_full());
        let to = target(&next);
        next.check_revocations(current.bundle())?;
        if record.as_ref().is_some_and(|record| record.target.as_ref() == Some(&to)) {
            // Nothing but the revocation lists can be new.
            self.ca.store(Arc::new(Ca::clone(&current).trusting(next.bundle())));
            return Ok(true);
        }
        if record.is_none() && !needs_stages(current.bundle(), Some(current.anchors()), &next) {
            self.ca.store(Arc::new(next));
            return Ok(false);
        }
        // The current CA goes on signing. Where a change was under way, it begins anew from what is trusted by now.
        let before = current.bundle().to_pem();
        let begun = Record { target: Some(to), ..Record::begin(expected, Some(before)) };
        root_files::write(&self.state, &begun)?;
        self.ca.store(Arc::new(Ca::clone(&current).trusting(next.bundle())));
        *record = Some(begun);
        Ok(true)
    }

    /// Takes a change back: the new root goes as the old one would have gone.
    ///
    /// # Errors
    /// None is under way, or it is too late.
    pub fn abort(&self) -> Result<(), RotationError> {
        let mut record = self.lock();
        let Some(known) = record.clone() else { return Err(RotationError::None) };
        match known.phase {
            _ if known.before.is_some() => Err(RotationError::PutBack),
            _ if known.aborted => Err(RotationError::UnderWay),
            RootPhase::Install => Err(RotationError::TooLate),
            // No leaf hangs on the new root yet.
            RootPhase::Trust => self.finish(&mut record),
            RootPhase::Reissue => self.enter(&mut record, Record { aborted: true, since: unix_now(), ..known }),
        }
    }

    /// Goes to the next stage; the last one puts the new root in the old one's place.
    ///
    /// # Errors
    /// The state folder cannot be written, or the files cannot be read; the change stays where it stands.
    pub fn advance(&self, expected: BTreeMap<WorkloadName, i64>) -> Result<(), RotationError> {
        let mut record = self.lock();
        let Some(known) = record.clone() else { return Err(RotationError::None) };
        match known.phase {
            RootPhase::Trust => {
                let next = Record { phase: RootPhase::Reissue, since: unix_now(), expected, ..known };
                self.enter(&mut record, next)
            }
            RootPhase::Reissue | RootPhase::Install => {
                if !known.aborted && known.before.is_none() {
                    let installing = Record { phase: RootPhase::Install, ..known };
                    root_files::write(&self.state, &installing)?;
                    // From here on there is no way back, though the files may have to be written again.
                    *record = Some(installing);
                    root_files::install(&self.state)?;
                }
                self.finish(&mut record)
            }
        }
    }

    /// Records `next` on the disk, then lets it count.
    fn enter(&self, record: &mut Option<Record>, next: Record) -> Result<(), RotationError> {
        let ca = match (&self.plugged, &next.before) {
            (Some(folder), Some(before)) => Ca::from_dir(folder)?.trusting(&TrustBundle::from_pem(before)?),
            _ => root_files::compose(&self.state, &next)?,
        };
        root_files::write(&self.state, &next)?;
        self.ca.store(Arc::new(ca));
        *record = Some(next);
        Ok(())
    }

    /// Ends a change: only the files in place count.
    fn finish(&self, record: &mut Option<Record>) -> Result<(), RotationError> {
        let ca = Ca::from_dir(self.plugged.as_deref().unwrap_or(&self.state.join(CURRENT)))?;
        self.state.remove(RECORD)?;
        self.ca.store(Arc::new(ca));
        *record = None;
        // Without the record nothing reads them; the next change, or start, removes what is left.
        if let Err(error) = root_files::remove_next(&self.state) {
            tracing::warn!(%error, "files of a root that nobody needs are not removed");
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Record>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unix_now() -> i64 {
    unix(SystemTime::now())
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
