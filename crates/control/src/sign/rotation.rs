//! A change of the mesh's own root, in stages, so that nobody is without trust at any moment:
//!
//! 1. `trust`: everybody gets the new root beside the old one, and acknowledges it;
//! 2. `reissue`: the new root signs, and every leaf that hangs on the old one is renewed;
//! 3. the old root goes, when no proxy shows a leaf of it any more.
//!
//! Where it stands is kept on the disk before anything follows from it; a restart goes on from there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use mutua_identity::{Ca, IdentityError, TrustDomain};
use serde::{Deserialize, Serialize};

use crate::names::WorkloadName;
use crate::state::{PRIVATE, PUBLIC, StateDir, StateError};

/// The folder of the CA, in the state folder.
pub(crate) const CURRENT: &str = "ca";
/// The folder of the root that takes the other's place, in the state folder.
const NEXT: &str = "next-ca";
/// A folder on its way from one name to the other.
const BETWEEN: &str = "moved-ca";
/// The record of the change, in the state folder.
const RECORD: &str = "ca-rotation.json";
/// The files of a CA, the key first.
const FILES: [(&str, u32); 4] =
    [("ca-key.pem", PRIVATE), ("cert-chain.pem", PUBLIC), ("root-cert.pem", PUBLIC), ("ca-cert.pem", PUBLIC)];
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
}

impl Record {
    /// The NotBefore from which on leaves surely hang on the root that stays; 0 while nothing is to be renewed. It has
    /// whole seconds, and within the second of the switch either root may have signed.
    #[must_use]
    pub fn renew_not_before(&self) -> i64 {
        if self.phase == RootPhase::Reissue { self.since + 1 - BACKDATED } else { 0 }
    }
}

/// Why a root is not changed.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The CA is somebody else's.
    #[error("the signing CA comes from --ca-dir: change its files there, adding the new root to root-cert.pem first")]
    Plugged,
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

/// The mesh's own root, and the change of it.
pub struct Rotation {
    state: Arc<StateDir>,
    /// Whether the root is ours to change.
    own: bool,
    ca: Arc<ArcSwap<Ca>>,
    record: Mutex<Option<Record>>,
}

/// The CA to begin with: that of the state folder, and what a change under way adds to it.
///
/// # Errors
/// Files that cannot be read.
pub fn load(state: &StateDir, trust_domain: &TrustDomain) -> Result<(Ca, Option<Record>), RotationError> {
    repair(state)?;
    let Some(record) = read(state)? else { return Ok((own(state, trust_domain)?, None)) };
    if record.phase == RootPhase::Install {
        install(state)?;
        return Ok((own(state, trust_domain)?, None));
    }
    Ok((compose(state, &record)?, Some(record)))
}

impl Rotation {
    /// Over the CA that [`load`] gave, with its record. `own`: the root is not plugged in.
    #[must_use]
    pub fn new(state: Arc<StateDir>, ca: Arc<ArcSwap<Ca>>, record: Option<Record>, own: bool) -> Self {
        Self { state, own, ca, record: Mutex::new(record) }
    }

    /// The change under way.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        self.lock().clone()
    }

    /// Begins a change: a new root is made and trusted beside the old one. `expected`: the proxies that are known.
    ///
    /// # Errors
    /// A change is under way, the root is not ours, or the state folder cannot be written.
    pub fn begin(&self, trust_domain: &TrustDomain, expected: BTreeMap<WorkloadName, i64>) -> Result<(), RotationError> {
        if !self.own {
            return Err(RotationError::Plugged);
        }
        let mut record = self.lock();
        if record.is_some() {
            return Err(RotationError::UnderWay);
        }
        let folder = self.state.create_dir(NEXT)?;
        Ca::load_or_create(&folder, trust_domain)?;
        let now = unix_now();
        let begun = Record { phase: RootPhase::Trust, began: now, since: now, aborted: false, expected };
        self.enter(&mut record, begun)
    }

    /// Takes a change back: the new root goes as the old one would have gone.
    ///
    /// # Errors
    /// None is under way, or it is too late.
    pub fn abort(&self) -> Result<(), RotationError> {
        let mut record = self.lock();
        let Some(known) = record.clone() else { return Err(RotationError::None) };
        match known.phase {
            _ if known.aborted => Err(RotationError::UnderWay),
            RootPhase::Install => Err(RotationError::TooLate),
            // No leaf hangs on the new root yet.
            RootPhase::Trust => {
                self.ca.store(Arc::new(Ca::from_dir(&self.state.join(CURRENT))?));
                self.finish(&mut record)
            }
            RootPhase::Reissue => {
                swap(&self.state)?;
                self.enter(&mut record, Record { aborted: true, since: unix_now(), ..known })
            }
        }
    }

    /// Goes to the next stage; the last one puts the new root in the old one's place.
    ///
    /// # Errors
    /// The state folder cannot be written; the change stays where it stands.
    pub fn advance(&self, expected: BTreeMap<WorkloadName, i64>) -> Result<(), RotationError> {
        let mut record = self.lock();
        let Some(known) = record.clone() else { return Err(RotationError::None) };
        match known.phase {
            RootPhase::Trust => {
                let next = Record { phase: RootPhase::Reissue, since: unix_now(), expected, ..known };
                self.enter(&mut record, next)
            }
            RootPhase::Reissue | RootPhase::Install => {
                let next = Record { phase: RootPhase::Install, since: unix_now(), ..known };
                self.write(&next)?;
                install(&self.state)?;
                self.ca.store(Arc::new(Ca::from_dir(&self.state.join(CURRENT))?));
                *record = None;
                Ok(())
            }
        }
    }

    /// Records `next` on the disk, then lets it count.
    fn enter(&self, record: &mut Option<Record>, next: Record) -> Result<(), RotationError> {
        self.write(&next)?;
        self.ca.store(Arc::new(compose(&self.state, &next)?));
        *record = Some(next);
        Ok(())
    }

    fn write(&self, record: &Record) -> Result<(), RotationError> {
        let text = serde_json::to_vec_pretty(record).map_err(RotationError::Record)?;
        Ok(self.state.write(RECORD, &text, PRIVATE)?)
    }

    fn finish(&self, record: &mut Option<Record>) -> Result<(), RotationError> {
        self.state.remove(RECORD)?;
        remove_next(&self.state)?;
        *record = None;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Record>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The CA of a stage: the signer, trusting the other root too.
fn compose(state: &StateDir, record: &Record) -> Result<Ca, RotationError> {
    let (old, next) = (Ca::from_dir(&state.join(CURRENT))?, Ca::from_dir(&state.join(NEXT))?);
    Ok(match record.phase {
        RootPhase::Trust => old.trusting(next.bundle()),
        RootPhase::Reissue | RootPhase::Install => next.trusting(old.bundle()),
    })
}

/// The files of the next CA become those of the CA. Done again after a crash, it ends in the same.
fn install(state: &StateDir) -> Result<(), RotationError> {
    if state.join(NEXT).join("ca-cert.pem").exists() {
        for (name, mode) in FILES {
            if let Some(content) = state.read(&format!("{NEXT}/{name}"))? {
                state.write(&format!("{CURRENT}/{name}"), &content, mode)?;
            }
        }
    }
    state.remove(RECORD)?;
    remove_next(state)
}

/// The two CAs change places: the folders, in three steps of which each is undone by [`repair`].
fn swap(state: &StateDir) -> Result<(), RotationError> {
    let (current, next, between) = (state.join(CURRENT), state.join(NEXT), state.join(BETWEEN));
    rename(&current, &between)?;
    rename(&next, &current)?;
    rename(&between, &next)
}

/// A crash within [`swap`] leaves the folder in between: it goes back to where one is missing.
fn repair(state: &StateDir) -> Result<(), RotationError> {
    let between = state.join(BETWEEN);
    if !between.exists() {
        return Ok(());
    }
    let missing = if state.join(CURRENT).exists() { NEXT } else { CURRENT };
    rename(&between, &state.join(missing))
}

fn rename(from: &Path, to: &Path) -> Result<(), RotationError> {
    let failed = |source| StateError { path: to.to_owned(), action: "put in place", source };
    Ok(std::fs::rename(from, to).map_err(failed)?)
}

/// The CA of the state folder, made when there is none.
fn own(state: &StateDir, trust_domain: &TrustDomain) -> Result<Ca, RotationError> {
    Ok(Ca::load_or_create(&state.create_dir(CURRENT)?, trust_domain)?)
}

fn remove_next(state: &StateDir) -> Result<(), RotationError> {
    for (name, _) in FILES {
        state.remove(&format!("{NEXT}/{name}"))?;
    }
    Ok(())
}

fn read(state: &StateDir) -> Result<Option<Record>, RotationError> {
    let Some(text) = state.read(RECORD)? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(RotationError::Record)
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
