//! The files of the mesh's own root, and of a change of it. Every step can be interrupted at any moment and done again.

use mutua_identity::{Ca, TrustDomain};

use super::rotation::{Record, RootPhase, RotationError};
use crate::state::{PRIVATE, PUBLIC, StateDir};

/// The folder of the CA, in the state folder.
pub(crate) const CURRENT: &str = "ca";
/// The folder of the root that takes the other's place, in the state folder.
pub(super) const NEXT: &str = "next-ca";
/// The record of the change, in the state folder.
pub(super) const RECORD: &str = "ca-rotation.json";
/// The files of a CA, the key first.
const FILES: [(&str, u32); 4] =
    [("ca-key.pem", PRIVATE), ("cert-chain.pem", PUBLIC), ("root-cert.pem", PUBLIC), ("ca-cert.pem", PUBLIC)];

/// The CA of a stage: the signer, trusting the other root too.
pub(super) fn compose(state: &StateDir, record: &Record) -> Result<Ca, RotationError> {
    let (old, next) = (Ca::from_dir(&state.join(CURRENT))?, Ca::from_dir(&state.join(NEXT))?);
    Ok(match record.phase {
        RootPhase::Reissue | RootPhase::Install if !record.aborted => next.trusting(old.bundle()),
        _ => old.trusting(next.bundle()),
    })
}

/// The files of the next CA become those of the CA, and the change is over. Done again after a crash, it ends in the same.
pub(super) fn install(state: &StateDir) -> Result<(), RotationError> {
    // The last to be written before the change began, and the first to go once it is over.
    if state.join(NEXT).join("ca-cert.pem").exists() {
        for (name, mode) in FILES {
            if let Some(content) = state.read(&format!("{NEXT}/{name}"))? {
                state.write(&format!("{CURRENT}/{name}"), &content, mode)?;
            }
        }
    }
    Ok(state.remove(RECORD)?)
}

/// The CA of the state folder, made when there is none.
pub(super) fn own(state: &StateDir, trust_domain: &TrustDomain) -> Result<Ca, RotationError> {
    Ok(Ca::load_or_create(&state.create_dir(CURRENT)?, trust_domain)?)
}

/// Removes what there is of a next CA.
pub(super) fn remove_next(state: &StateDir) -> Result<(), RotationError> {
    for (name, _) in FILES.iter().rev() {
        state.remove(&format!("{NEXT}/{name}"))?;
    }
    Ok(())
}

/// The change under way.
pub(super) fn read(state: &StateDir) -> Result<Option<Record>, RotationError> {
    let Some(text) = state.read(RECORD)? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(RotationError::Record)
}

/// Records a change.
pub(super) fn write(state: &StateDir, record: &Record) -> Result<(), RotationError> {
    let text = serde_json::to_vec_pretty(record).map_err(RotationError::Record)?;
    Ok(state.write(RECORD, &text, PRIVATE)?)
}
