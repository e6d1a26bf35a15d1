//! Bearer tokens that prove a service account, whoever vouches for them: here keys ([`super::jwks`]), on Kubernetes the API
//! server.

use std::time::SystemTime;

use mutua_identity::issuer::Account;

/// Why a token does not prove an account. Neither says anything of the token that could be used again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// It proves none.
    #[error("{0}")]
    Refused(String),
    /// Whoever could tell cannot be asked now: the caller should try again.
    #[error("{0}")]
    Unavailable(String),
}

/// Whoever can tell which service account a bearer token proves. Several may be asked in turn; the first that knows one counts.
#[tonic::async_trait]
pub trait AccountTokens: Send + Sync + 'static {
    /// What the tokens are called in logs and metrics (`jwt`).
    fn kind(&self) -> &'static str;

    /// The account that `token` proves at `now`. Bounded in time, and in memory whatever the token is.
    ///
    /// # Errors
    /// Why it proves none.
    async fn account(&self, token: &str, now: SystemTime) -> Result<Account, AccountError>;
}
