//! One-time join tokens: 256 random bits, bound to one workload, stored hashed, used up when the certificate is issued.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::names::WorkloadName;
use crate::state::{PRIVATE, StateDir, StateError};

/// How long a token lives unless its maker says otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(3600);
/// The longest life that a token may have.
pub const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a used token is answered again for the same public key, so that a lost answer locks nobody out.
pub const REPEAT: Duration = Duration::from_secs(300);
/// How many tokens may be waiting for use at once.
const MAX_TOKENS: usize = 100_000;
const PREFIX: &str = "mutua_";
const FOLDER: &str = "tokens";

/// Why a token could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No such token was ever made here, or it was used or expired long ago.
    #[error("the join token is not known")]
    Unknown,
    /// It was not used in time.
    #[error("the join token for {0} has expired; make a new one with `mutua token create {0}`")]
    Expired(WorkloadName),
    /// It was used, with another key or longer than five minutes ago.
    #[error("the join token for {0} was used already; make a new one with `mutua token create {0}`")]
    Used(WorkloadName),
    /// The caller wants to join as another workload.
    #[error("the join token is for {bound}, not for {asked}")]
    WrongWorkload {
        /// The workload the token was made for.
        bound: WorkloadName,
        /// The workload that the caller named.
        asked: String,
    },
    /// A life of zero, or longer than [`MAX_TTL`].
    #[error("a join token lives between 1 second and 30 days")]
    Ttl,
    /// Too many unused tokens.
    #[error("{MAX_TOKENS} join tokens are waiting for use; let some expire first")]
    TooMany,
    /// The random number generator of the operating system failed.
    #[error("no random numbers from the operating system: {0}")]
    Random(std::io::Error),
    /// The state folder could not be written: nothing was made or used.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A token as its user holds it. `Debug` does not show it.
pub struct Token(String);

impl Token {
    /// The token as text, to be handed to the workload.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What is known of a token, for display: never the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The workload it is for.
    pub workload: WorkloadName,
    /// When it was made, Unix seconds.
    pub created: u64,
    /// Until when it may be used, Unix seconds.
    pub expires: u64,
    /// Its use, once it has been used.
    pub used: Option<Use>,
}

/// The use of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// When, Unix seconds.
    pub at: u64,
    /// SHA-256 of the public key that was certified, hexadecimal.
    pub key: String,
}

/// All tokens of one control plane.
#[derive(Debug)]
pub struct Tokens {
    state: Arc<StateDir>,
    records: Mutex<HashMap<String, TokenRecord>>,
}

impl Tokens {
    /// Reads the tokens of the state folder. Records that cannot be read are passed over with a warning: the token
    /// is refused then, which is safe.
    ///
    /// # Errors
    /// The folder of tokens cannot be created or listed.
    pub fn load(state: Arc<StateDir>) -> Result<Self, StateError> {
        let folder = state.create_dir(FOLDER)?;
        let listing = std::fs::read_dir(&folder).map_err(|source| StateError { path: folder, action: "read", source })?;
        let mut records = HashMap::new();
        for entry in listing.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let content = state.read(&format!("{FOLDER}/{name}"))?.unwrap_or_default();
            match serde_json::from_slice(&content) {
                Ok(record) => drop(records.insert(name, record)),
                Err(error) => tracing::warn!(file = name, %error, "a join token's record cannot be read; the token is refused"),
            }
        }
        Ok(Self { state, records: Mutex::new(records) })
    }

    /// Makes a token for `workload`. It is on the disk, hashed, when this returns.
    ///
    /// # Errors
    /// A life out of bounds, too many tokens, or a state folder that cannot be written.
    pub fn create(&self, workload: WorkloadName, ttl: Duration, now: SystemTime) -> Result<Token, TokenError> {
        if ttl < Duration::from_secs(1) || ttl > MAX_TTL {
            return Err(TokenError::Ttl);
        }
        self.forget_old(now);
        if self.lock().len() >= MAX_TOKENS {
            return Err(TokenError::TooMany);
        }
        let token = Token(format!("{PREFIX}{}", hex(&random()?)));
        let created = seconds(now);
        let record = TokenRecord { workload, created, expires: created + ttl.as_secs(), used: None };
        let name = digest(&token.0);
        self.store(&name, &record)?;
        self.lock().insert(name, record);
        Ok(token)
    }

    /// Uses `token` up for the public key whose SHA-256 is `key`, and returns its workload. The use is on the disk when
    /// this returns. The same key may use it again for [`REPEAT`].
    ///
    /// # Errors
    /// The token is unknown, expired, used, for another workload than `asked`, or its use cannot be recorded.
    pub fn redeem(&self, token: &str, asked: Option<&str>, key: &str, now: SystemTime) -> Result<WorkloadName, TokenError> {
        let name = digest(token);
        let (before, after) = {
            let mut records = self.lock();
            let record = records.get_mut(&name).ok_or(TokenError::Unknown)?;
            check(record, asked, key, seconds(now))?;
            let before = record.clone();
            if record.used.is_some() {
                return Ok(before.workload);
            }
            record.used = Some(Use { at: seconds(now), key: key.to_owned() });
            (before, record.clone())
        };
        if let Err(error) = self.store(&name, &after) {
            self.lock().insert(name, before);
            return Err(error.into());
        }
        Ok(after.workload)
    }

    /// The workload `token` is for, when it could be redeemed now; nothing is used up.
    ///
    /// # Errors
    /// As [`Tokens::redeem`].
    pub fn check(&self, token: &str, asked: Option<&str>, key: &str, now: SystemTime) -> Result<WorkloadName, TokenError> {
        let records = self.lock();
        let record = records.get(&digest(token)).ok_or(TokenError::Unknown)?;
        check(record, asked, key, seconds(now))?;
        Ok(record.workload.clone())
    }

    /// Every token that may still be answered, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<TokenRecord> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_by(|a, b| (a.created, &a.workload).cmp(&(b.created, &b.workload)));
        all
    }

    /// Drops tokens that nothing can be done with any more.
    pub fn forget_old(&self, now: SystemTime) {
        let now = seconds(now);
        let old: Vec<String> = {
            let mut records = self.lock();
            let old: Vec<_> = records.iter().filter(|(_, record)| over(record, now)).map(|(name, _)| name.clone()).collect();
            old.iter().for_each(|name| drop(records.remove(name)));
            old
        };
        for name in old {
            if let Err(error) = self.state.remove(&format!("{FOLDER}/{name}")) {
                tracing::warn!(%error, "the record of an old join token stays behind");
            }
        }
    }

    fn store(&self, name: &str, record: &TokenRecord) -> Result<(), StateError> {
        let content = serde_json::to_vec(record).expect("a record of strings and numbers has a JSON form");
        self.state.write(&format!("{FOLDER}/{name}"), &content, PRIVATE)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, TokenRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a caller's token is meant to be a join token.
#[must_use]
pub fn is_join_token(token: &str) -> bool {
    token.starts_with(PREFIX)
}

fn check(record: &TokenRecord, asked: Option<&str>, key: &str, now: u64) -> Result<(), TokenError> {
    if let Some(asked) = asked.filter(|asked| *asked != record.workload.to_string()) {
        return Err(TokenError::WrongWorkload { bound: record.workload.clone(), asked: asked.chars().take(128).collect() });
    }
    match &record.used {
        Some(used) if used.key == key && now <= used.at.saturating_add(REPEAT.as_secs()) => Ok(()),
        Some(_) => Err(TokenError::Used(record.workload.clone())),
        None if now >= record.expires => Err(TokenError::Expired(record.workload.clone())),
        None => Ok(()),
    }
}

/// A day after its end a token is forgotten; until then its user is told why it is refused.
fn over(record: &TokenRecord, now: u64) -> bool {
    const TOLD: u64 = 24 * 3600;
    now > record.used.as_ref().map_or(record.expires, |used| used.at).saturating_add(TOLD)
}

fn random() -> Result<[u8; 32], TokenError> {
    let mut bits = [0_u8; 32];
    let mut filled = 0;
    while filled < bits.len() {
        match rustix::rand::getrandom(&mut bits[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(TokenError::Random(error.into())),
        }
    }
    Ok(bits)
}

fn digest(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
