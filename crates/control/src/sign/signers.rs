//! Which certificate of a plugged-in CA signs, remembered over a restart: leaves of a former one are to be renewed, also
//! where the files of `--ca-dir` were replaced while no control plane ran. They would die with it, or when the CA above
//! revokes it.

use std::sync::{Arc, Mutex, PoisonError};

use mutua_identity::CertificateInfo;
use serde::{Deserialize, Serialize};

use super::rotation::{Record, renewed_from_now};
use crate::state::{PRIVATE, StateDir, StateError};

/// The file, in the state folder.
const FILE: &str = "signer.json";

/// The signer, and since when it signs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    /// Issuer and serial number of its certificate (RFC 5280 §4.1.2.2).
    signer: String,
    /// The NotBefore from which on leaves are surely of it, Unix seconds; 0: it has always signed.
    renew_not_before: i64,
}

/// The signer that was noted last.
#[derive(Debug)]
pub struct Signers {
    state: Arc<StateDir>,
    known: Mutex<Option<Known>>,
}

impl Signers {
    /// What the state folder remembers, with the one of a plugged-in CA that signs now, in a change of root or not. A file
    /// that cannot be read counts as none, and is told of.
    #[must_use]
    pub fn begin(state: &Arc<StateDir>, signer: Option<&CertificateInfo>, change: Option<&Record>) -> Self {
        let read = state.read(FILE).map_err(|error| error.to_string()).and_then(|text| {
            text.map(|text| serde_json::from_slice(&text).map_err(|error| format!("{FILE}: {error}"))).transpose()
        });
        let known = read.unwrap_or_else(|error| {
            tracing::warn!(error, "who signed before this start is not known; leaves of another signer are not asked to renew");
            None
        });
        let signers = Self { state: Arc::clone(state), known: Mutex::new(known) };
        if let Some(signer) = signer {
            signers.note(signer, change);
        }
        signers
    }

    /// Notes who signs from now on, or since the stage of `change`. That it cannot be recorded is told of: a restart would
    /// note it again.
    pub fn note(&self, signer: &CertificateInfo, change: Option<&Record>) {
        let name = format!("{} {}", signer.issuer, signer.serial);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_some_and(|known| known.signer == name) {
            return;
        }
        let since = change.map(Record::renew_not_before).filter(|since| *since > 0);
        let renew_not_before = if known.is_some() { since.unwrap_or_else(renewed_from_now) } else { 0 };
        let next = Known { signer: name, renew_not_before };
        if let Err(error) = self.write(&next) {
            tracing::error!(%error, "who signs is not recorded; after a restart leaves may be asked to renew once more");
        }
        *known = Some(next);
    }

    /// The NotBefore from which on leaves are surely of the signer in use, Unix seconds; 0 until it changes.
    #[must_use]
    pub fn renew_not_before(&self) -> i64 {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, |known| known.renew_not_before)
    }

    fn write(&self, known: &Known) -> Result<(), StateError> {
        let text = serde_json::to_vec(known).expect("a text and a number have a JSON form");
        self.state.write(FILE, &text, PRIVATE)
    }
}
