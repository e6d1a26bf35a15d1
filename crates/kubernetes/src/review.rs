//! Service accounts' tokens, for which the API server vouches (TokenReview).

use std::time::{Duration, SystemTime};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use mutua_control::sign::accounts::{AccountError, AccountTokens};
use mutua_identity::issuer::Account;
use tokio::sync::Semaphore;

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many questions may be asked at once: strangers can cause them.
const AT_ONCE: usize = 32;
/// The group of all service accounts.
const GROUP: &str = "system:serviceaccounts";

/// Asks the API server of a cluster.
pub struct TokenReviews {
    reviews: Api<TokenReview>,
    audience: String,
    places: Semaphore,
}

impl TokenReviews {
    /// Of tokens for `audience`.
    #[must_use]
    pub fn new(client: Client, audience: &str) -> Self {
        Self { reviews: Api::all(client), audience: audience.to_owned(), places: Semaphore::new(AT_ONCE) }
    }

    async fn review(&self, token: &str) -> Result<TokenReviewStatus, AccountError> {
        let unavailable = |reason: String| AccountError::Unavailable(format!("the API server cannot be asked: {reason}"));
        let spec = TokenReviewSpec { audiences: Some(vec![self.audience.clone()]), token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let _place = self.places.acquire().await.map_err(|error| unavailable(error.to_string()))?;
        let answer = tokio::time::timeout(PATIENCE, self.reviews.create(&PostParams::default(), &review)).await;
        let answer = answer.map_err(|_| unavailable(format!("no answer within {} s", PATIENCE.as_secs())))?;
        answer.map_err(|error| unavailable(error.to_string()))?.status.ok_or_else(|| unavailable("no status".to_owned()))
    }
}

#[tonic::async_trait]
impl AccountTokens for TokenReviews {
    fn kind(&self) -> &'static str {
        "token review"
    }

    async fn account(&self, token: &str, _: SystemTime) -> Result<Account, AccountError> {
        account(&self.review(token).await?, &self.audience).map_err(AccountError::Refused)
    }
}

/// The account that a review proves, by Istio's rules (`security/pkg/k8s/tokenreview`): authenticated, for our audience, of
/// the group of service accounts, with a name of four parts.
fn account(status: &TokenReviewStatus, audience: &str) -> Result<Account, String> {
    if status.authenticated != Some(true) {
        let why = status.error.as_deref().filter(|why| !why.is_empty()).unwrap_or("it is not authenticated");
        return Err(format!("the API server does not accept the token: {why}"));
    }
    // A server that knows no audiences answers with none, and may have taken a token for anybody.
    if !status.audiences.iter().flatten().any(|one| one == audience) {
        return Err(format!("the token is not for the audience {audience}"));
    }
    let user = status.user.clone().unwrap_or_default();
    if !user.groups.iter().flatten().any(|group| group == GROUP) {
        return Err("the token is not of a service account".to_owned());
    }
    let account = user.username.as_deref().and_then(Account::from_user_name);
    account.ok_or_else(|| "the token's user is no service account".to_owned())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn status(name: &str, groups: &[&str], audiences: &[&str]) -> TokenReviewStatus {
        let list = |all: &[&str]| Some(all.iter().map(|one| (*one).to_owned()).collect());
        let user = UserInfo { username: Some(name.to_owned()), groups: list(groups), ..UserInfo::default() };
        TokenReviewStatus { authenticated: Some(true), audiences: list(audiences), user: Some(user), error: None }
    }

    #[test]
    fn an_account_is_what_the_server_vouches_for_and_nothing_near_it() {
        let good = status("system:serviceaccount:shop:front", &[GROUP, "system:authenticated"], &["istio-ca"]);
        let found = account(&good, "istio-ca").expect("an account");
        assert_eq!((found.namespace.as_str(), found.name.as_str()), ("shop", "front"));
        let not = TokenReviewStatus { authenticated: Some(false), error: Some("expired".to_owned()), ..good.clone() };
        let cases = [
            (not, "expired"),
            (TokenReviewStatus { authenticated: None, ..good.clone() }, "not authenticated"),
            (TokenReviewStatus { audiences: None, ..good }, "audience"),
            (status("system:serviceaccount:shop:front", &[GROUP], &["vault"]), "audience"),
            (status("system:serviceaccount:shop:front", &["system:authenticated"], &["istio-ca"]), "not of a service account"),
            (status("system:serviceaccount:shop:front:x", &[GROUP], &["istio-ca"]), "no service account"),
            (status("system:serviceaccount::front", &[GROUP], &["istio-ca"]), "no service account"),
            (status("admin", &[GROUP], &["istio-ca"]), "no service account"),
        ];
        for (status, why) in cases {
            let refused = account(&status, "istio-ca").expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
    }
}
