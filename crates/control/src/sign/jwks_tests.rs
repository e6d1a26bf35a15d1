use mutua_identity::{Ca, ServerConfig, TrustDomain};
use mutua_testbed::documents::Documents;
use mutua_testbed::jwt::{ISSUER, TokenKey, claims, key_set};

use super::*;

/// So that the keeper never reads in between.
const NEVER: Duration = Duration::from_secs(3600);

fn jwks_at(origin: Origin, unknown: Duration) -> Jwks {
    let expected = JwtExpectation { issuer: ISSUER.to_owned(), audiences: vec!["istio-ca".to_owned()] };
    Jwks::new(origin, expected, Pace { refresh: NEVER, retry: NEVER, unknown }, Arc::default())
}

fn origin(documents: &Documents) -> Origin {
    let url = format!("http://{}/openid/v1/jwks?secret=1", documents.address).parse().expect("a URL");
    Origin::Url(Fetcher::new(url, Roots::System, MAX_KEY_SET))
}

async fn ask(jwks: &Jwks, token: &str) -> Result<(), AccountError> {
    let account = jwks.account(token, SystemTime::now()).await?;
    assert_eq!((account.namespace.as_str(), account.name.as_str()), ("shop", "front"));
    Ok(())
}

#[tokio::test]
async fn a_new_key_is_fetched_when_it_is_first_seen() {
    let (old, new) = (TokenKey::new("old"), TokenKey::new("new"));
    let documents = Documents::start(&key_set(&[&old]), None).await;
    let jwks = jwks_at(origin(&documents), Duration::ZERO);
    let [by_old, by_new] = [&old, &new].map(|key| key.token(&claims("shop", "front")));
    assert_eq!(ask(&jwks, &by_old).await, Ok(()), "nothing was read before the first token came");
    assert_eq!(ask(&jwks, &by_old).await, Ok(()));
    assert_eq!(documents.asked(), 1, "a known key needs no fetch");
    documents.set(&key_set(&[&old, &new]));
    assert_eq!(ask(&jwks, &by_new).await, Ok(()));
    documents.set(&key_set(&[&new]));
    jwks.reread(Duration::ZERO).await.expect("answers");
    let refused = ask(&jwks, &by_old).await.expect_err("the old key is gone");
    assert_eq!(refused, AccountError::Refused("the key set holds no key \"old\" for the token's algorithm".to_owned()));
}

#[tokio::test]
async fn unknown_keys_ask_no_more_often_than_is_allowed() {
    let (known, stranger) = (TokenKey::new("known"), TokenKey::new("stranger"));
    let documents = Documents::start(&key_set(&[&known]), None).await;
    let jwks = jwks_at(origin(&documents), NEVER);
    let [good, strange] = [&known, &stranger].map(|key| key.token(&claims("shop", "front")));
    assert_eq!(ask(&jwks, &good).await, Ok(()));
    let many: Vec<_> = (0..50).map(|_| ask(&jwks, &strange)).collect();
    for one in many {
        assert!(matches!(one.await, Err(AccountError::Refused(_))));
    }
    assert_eq!(documents.asked(), 1);
}

#[tokio::test]
async fn the_last_good_set_counts_while_nothing_better_comes() {
    let (key, stranger) = (TokenKey::new("a"), TokenKey::new("b"));
    let documents = Documents::start(&key_set(&[&key]), None).await;
    let jwks = jwks_at(origin(&documents), Duration::ZERO);
    let [good, strange] = [&key, &stranger].map(|key| key.token(&claims("shop", "front")));
    assert_eq!(ask(&jwks, &good).await, Ok(()));
    let long = " ".repeat(MAX_KEY_SET + 1);
    let answers = [
        ("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_owned(), "answers 503 Service Unavailable"),
        (
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "redirections are not followed",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"keys\":[]}\n".to_owned(), "none of the 0 keys"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>".to_owned(), "no JWKS"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_owned(), "HTTP with"),
        (format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{long}"), "is longer than the 262144 bytes"),
        ("SSH-2.0-x\r\n".to_owned(), "HTTP with"),
    ];
    for (answer, fault) in answers {
        documents.set_answer(&answer);
        let error = jwks.reread(Duration::ZERO).await.expect_err(fault);
        assert!(error.contains(fault) && error.contains("/openid/v1/jwks") && !error.contains("secret"), "{error}");
        assert_eq!(ask(&jwks, &good).await, Ok(()), "{fault}");
        let later = ask(&jwks, &strange).await.expect_err("not known");
        assert!(matches!(&later, AccountError::Unavailable(reason) if reason.contains(fault)), "{later}");
    }
    drop(documents);
    let error = jwks.reread(Duration::ZERO).await.expect_err("it is gone");
    assert!(error.contains("cannot be reached"), "{error}");
    assert_eq!(ask(&jwks, &good).await, Ok(()));
}

#[tokio::test]
async fn a_url_that_never_answered_refuses_nobody_for_good() {
    let key = TokenKey::new("a");
    let documents = Documents::start("", None).await;
    let origin = origin(&documents);
    drop(documents);
    let error = ask(&jwks_at(origin, NEVER), &key.token(&claims("shop", "front"))).await.expect_err("no keys");
    assert!(matches!(error, AccountError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn the_server_of_an_https_url_must_prove_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Ca::load_or_create(folder.path(), &TrustDomain::new("web").expect("a name")).expect("a CA");
    let id = "spiffe://web/ns/a/sa/b".parse().expect("an id");
    let own = |name: &str| {
        let leaf = ca.sign_server(&id, &[name.to_owned()], Duration::from_secs(600)).expect("signed");
        ServerConfig::control_plane(&leaf, ca.bundle()).expect("a configuration")
    };
    let key = TokenKey::new("a");
    for (name, roots, good) in [
        ("localhost", Roots::Pem(ca.bundle().to_pem()), true),
        ("other.example", Roots::Pem(ca.bundle().to_pem()), false),
        ("localhost", Roots::System, false),
    ] {
        let documents = Documents::start(&key_set(&[&key]), Some(own(name))).await;
        let url = format!("https://localhost:{}/keys", documents.address.port()).parse().expect("a URL");
        let jwks = jwks_at(Origin::Url(Fetcher::new(url, roots, MAX_KEY_SET)), NEVER);
        let asked = ask(&jwks, &key.token(&claims("shop", "front"))).await;
        let refused = matches!(&asked, Err(AccountError::Unavailable(reason)) if reason.contains("TLS with https://localhost"));
        assert!(if good { asked.is_ok() } else { refused }, "{name}: {asked:?}");
    }
}

#[tokio::test]
async fn the_keeper_follows_a_file_and_tries_again_after_a_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jwks.json");
    let (old, new) = (TokenKey::new("old"), TokenKey::new("new"));
    std::fs::write(&path, key_set(&[&old])).expect("written");
    let settings =
        JwtSettings { jwks: Some(path.display().to_string()), jwt_issuer: Some(ISSUER.to_owned()), ..JwtSettings::default() };
    assert!(settings.begin(&Arc::default()).await.expect("a set").is_some());
    std::fs::write(&path, "{").expect("written");
    let error = settings.begin(&Arc::default()).await.err().expect("no set").to_string();
    assert!(error.contains("jwks.json: the key set is no JWKS"), "{error}");

    let pace = Pace { refresh: Duration::from_millis(20), retry: Duration::from_millis(1), unknown: NEVER };
    let jwks = Arc::new(Jwks { pace, ..jwks_at(Origin::File(path.clone()), NEVER) });
    let (stop, keeper) = (CancellationToken::new(), Arc::clone(&jwks));
    let kept = tokio::spawn({
        let stop = stop.clone();
        async move { keeper.keep(stop).await }
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    while jwks.last.lock().await.as_ref().is_none_or(|(_, fault)| fault.is_none()) {
        assert!(Instant::now() < deadline, "the damaged file is not read");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    std::fs::write(&path, key_set(&[&new])).expect("written");
    let by_new = new.token(&claims("shop", "front"));
    while jwks.verify(&by_new, SystemTime::now()).is_none_or(|verified| verified.is_err()) {
        assert!(Instant::now() < deadline, "the new key does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    kept.await.expect("ends");
}

#[test]
fn urls_are_http_and_hold_no_password() {
    let url = |text: &str| text.parse::<Url>().map(|url| url.to_string());
    assert_eq!(url("https://keys.example/a?b=c"), Ok("https://keys.example/a".to_owned()));
    assert_eq!(url("http://[::1]:8080"), Ok("http://[::1]:8080/".to_owned()));
    for wrong in ["", "keys.json", "ftp://a/b", "https://", "https://user:hunter2@keys.example/", "https://a b/", "https:///x"] {
        let fault = url(wrong).expect_err(wrong);
        assert!(!fault.contains("hunter2"), "{fault}");
    }
}
