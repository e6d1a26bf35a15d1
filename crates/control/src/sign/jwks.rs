//! JWT callers: the key set by which their tokens are verified, from a file or a URL, kept current.
//!
//! The last good set counts until a newer one is read, however long that takes: an issuer that is away for a day must not
//! take the mesh down. A token of a key that is not in the set has it read anew at once, but not more often than
//! [`Pace::unknown`] allows, whoever asks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use mutua_identity::issuer::{Account, JwtError, JwtExpectation, KeySet, KeySetError, MAX_KEY_SET, verify_jwt};
use mutua_identity::tls::Roots;
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::accounts::{AccountError, AccountTokens};
use crate::fetch::{FetchError, Fetcher, Url};
use crate::metrics::Metrics;

/// What `mutua control-plane` is told of JWT callers.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct JwtSettings {
    /// Public keys (JWKS) by which service account tokens (JWT) are verified: whoever asks for a certificate with one gets
    /// that of its account. A URL is asked every 5 minutes, and at once for a key that is not known yet
    #[arg(long, value_name = "FILE|URL", requires = "jwt_issuer")]
    pub jwks: Option<String>,
    /// The issuer (iss) that those tokens must name, to the letter
    #[arg(long, value_name = "ISSUER", requires = "jwks")]
    pub jwt_issuer: Option<String>,
    /// An audience (aud) of which those tokens must name one; may be repeated
    #[arg(long, value_name = "AUDIENCE", default_value = "istio-ca")]
    pub jwt_audience: Vec<String>,
    /// The roots below which the server of a JWKS URL proves itself, PEM, instead of those of the operating system
    #[arg(long, value_name = "FILE", requires = "jwks")]
    pub jwks_ca: Option<PathBuf>,
}

/// Why there is no key set.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// A file cannot be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// The argument is no URL that is taken.
    #[error("{0}")]
    Url(String),
    /// The URL.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What was read.
    #[error("{origin}: {error}")]
    Content {
        /// Where it was read.
        origin: String,
        /// What is wrong with it.
        error: KeySetError,
    },
}

/// How often the set is read.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// After a success.
    pub refresh: Duration,
    /// After a first failure; doubled with each further one, up to `refresh`.
    pub retry: Duration,
    /// At most, for tokens of keys that are not known.
    pub unknown: Duration,
}

/// A URL is somebody else's machine.
const OF_URL: Pace = Pace { refresh: Duration::from_secs(300), retry: Duration::from_secs(1), unknown: Duration::from_secs(10) };
const OF_FILE: Pace = Pace { refresh: Duration::from_secs(10), retry: Duration::from_secs(1), unknown: Duration::from_secs(1) };

#[derive(Debug)]
enum Origin {
    File(PathBuf),
    Url(Fetcher),
}

/// The key set, and what a token must say besides.
pub struct Jwks {
    origin: Origin,
    expected: JwtExpectation,
    pace: Pace,
    metrics: Arc<Metrics>,
    keys: ArcSwapOption<KeySet>,
    /// One reads at a time; when it was done last, and what went wrong then.
    last: Mutex<Option<(Instant, Option<String>)>>,
}

impl JwtSettings {
    /// The key set that is asked for, if any: a file has to be there and right, a URL may answer later.
    ///
    /// # Errors
    /// A URL or roots that cannot be used, or a file that holds no key set.
    pub async fn begin(&self, metrics: &Arc<Metrics>) -> Result<Option<Arc<Jwks>>, JwksError> {
        let (Some(from), Some(issuer)) = (&self.jwks, &self.jwt_issuer) else { return Ok(None) };
        let expected = JwtExpectation { issuer: issuer.clone(), audiences: self.jwt_audience.clone() };
        let (origin, pace) = if from.contains("://") {
            let url: Url = from.parse().map_err(JwksError::Url)?;
            if !url.is_secure() {
                tracing::warn!(%url, "the key set comes over plain HTTP: whoever is on the way can make up callers");
            }
            (Origin::Url(Fetcher::new(url, self.roots()?, MAX_KEY_SET)), OF_URL)
        } else {
            (Origin::File(from.into()), OF_FILE)
        };
        let jwks = Jwks::new(origin, expected, pace, Arc::clone(metrics));
        if matches!(jwks.origin, Origin::File(_)) {
            jwks.keys.store(Some(Arc::new(jwks.read().await?)));
        }
        Ok(Some(Arc::new(jwks)))
    }

    fn roots(&self) -> Result<Roots, JwksError> {
        let Some(path) = &self.jwks_ca else { return Ok(Roots::System) };
        let text = std::fs::read_to_string(path);
        text.map(Roots::Pem).map_err(|reason| JwksError::File { path: path.clone(), reason })
    }
}

impl Jwks {
    fn new(origin: Origin, expected: JwtExpectation, pace: Pace, metrics: Arc<Metrics>) -> Self {
        Self { origin, expected, pace, metrics, keys: ArcSwapOption::empty(), last: Mutex::default() }
    }

    /// Keeps the set current until `stop`.
    pub async fn keep(&self, stop: CancellationToken) {
        let mut failures = 0_u32;
        loop {
            let pause = match self.reread(Duration::ZERO).await {
                Ok(()) => {
                    failures = 0;
                    self.pace.refresh
                }
                Err(_) => {
                    failures += 1;
                    self.pace.retry.saturating_mul(1 << (failures - 1).min(16)).min(self.pace.refresh)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Reads the set anew, unless that was done less than `pause` ago: then that counts.
    ///
    /// # Errors
    /// Why the set could not be read; the one before stays.
    async fn reread(&self, pause: Duration) -> Result<(), String> {
        let mut last = self.last.lock().await;
        if let Some((_, fault)) = last.as_ref().filter(|(at, _)| at.elapsed() < pause) {
            return fault.clone().map_or(Ok(()), Err);
        }
        let read = self.read().await.map_err(|error| error.to_string());
        self.metrics.key_set(read.is_ok());
        *last = Some((Instant::now(), read.as_ref().err().cloned()));
        match read {
            Ok(keys) => {
                self.tell(&keys);
                self.keys.store(Some(Arc::new(keys)));
                Ok(())
            }
            Err(fault) => {
                let kept = self.keys.load().is_some();
                tracing::warn!(fault, kept, "the key set for JWTs could not be read; the last good one stays");
                Err(fault)
            }
        }
    }

    fn tell(&self, keys: &KeySet) {
        let before = self.keys.load().as_ref().map(|before| format!("{before:?}"));
        let now = format!("{keys:?}");
        if before.as_ref() != Some(&now) {
            tracing::info!(keys = now, "the key set for JWTs is read");
        }
    }

    async fn read(&self) -> Result<KeySet, JwksError> {
        let (origin, text) = match &self.origin {
            Origin::File(path) => {
                let text = read_file(path).await.map_err(|reason| JwksError::File { path: path.clone(), reason })?;
                (path.display().to_string(), text)
            }
            Origin::Url(fetcher) => (fetcher.url().to_string(), fetcher.get().await?),
        };
        KeySet::from_json(&text).map_err(|error| JwksError::Content { origin, error })
    }

    fn verify(&self, token: &str, now: SystemTime) -> Option<Result<Account, JwtError>> {
        self.keys.load().as_ref().map(|keys| verify_jwt(token, keys, &self.expected, now))
    }
}

#[tonic::async_trait]
impl AccountTokens for Jwks {
    fn kind(&self) -> &'static str {
        "jwt"
    }

    async fn account(&self, token: &str, now: SystemTime) -> Result<Account, AccountError> {
        let mut verified = self.verify(token, now);
        if matches!(verified, None | Some(Err(JwtError::UnknownKey(_)))) {
            self.reread(self.pace.unknown).await.map_err(AccountError::Unavailable)?;
            verified = self.verify(token, now);
        }
        match verified {
            Some(verified) => verified.map_err(|error| AccountError::Refused(error.to_string())),
            None => Err(AccountError::Unavailable("the key set for JWTs was not read yet".to_owned())),
        }
    }
}

/// At most one byte more than a key set may have.
async fn read_file(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = tokio::fs::File::open(path).await?;
    file.take(MAX_KEY_SET as u64 + 1).read_to_end(&mut text).await?;
    Ok(text)
}

#[cfg(test)]
#[path = "jwks_tests.rs"]
mod tests;
