//! Tokens of service accounts, for which the API server vouches.

mod common;

use std::time::SystemTime;

use common::client;
use mutua_control::sign::accounts::{AccountError, AccountTokens};
use mutua_kubernetes::review::TokenReviews;
use mutua_testbed::kubernetes::{ApiServer, TokenUser};

fn user(audience: &str) -> TokenUser {
    TokenUser {
        username: "system:serviceaccount:shop:front".to_owned(),
        groups: vec!["system:serviceaccounts".to_owned(), "system:serviceaccounts:shop".to_owned()],
        audiences: vec![audience.to_owned()],
    }
}

#[tokio::test]
async fn a_token_proves_what_the_api_server_says_and_only_for_our_audience() {
    let server = ApiServer::start().await;
    server.token("good", user("istio-ca"));
    server.token("of-another", user("vault"));
    let reviews = TokenReviews::new(client(&server).await, "istio-ca");
    let ask = async |token: &str| reviews.account(token, SystemTime::now()).await;
    let account = ask("good").await.expect("an account");
    assert_eq!((account.namespace.as_str(), account.name.as_str()), ("shop", "front"));
    for token in ["of-another", "unknown"] {
        assert!(matches!(ask(token).await, Err(AccountError::Refused(_))), "{token}");
    }
    server.refuse("tokenreviews", Some(500));
    assert!(matches!(ask("good").await, Err(AccountError::Unavailable(_))), "the caller should try again");
}
