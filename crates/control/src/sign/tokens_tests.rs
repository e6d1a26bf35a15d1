use super::*;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

fn fresh() -> (tempfile::TempDir, Tokens) {
    let folder = tempfile::tempdir().expect("a folder");
    let state = Arc::new(StateDir::open(folder.path()).expect("opened"));
    (folder, Tokens::load(state).expect("loaded"))
}

fn reload(folder: &tempfile::TempDir) -> Tokens {
    Tokens::load(Arc::new(StateDir::open(folder.path()).expect("opened"))).expect("loaded")
}

fn front() -> WorkloadName {
    WorkloadName::new("shop", "front")
}

#[test]
fn a_token_works_once_and_repeats_for_the_same_key_for_five_minutes() {
    let (folder, tokens) = fresh();
    let token = tokens.create(front(), DEFAULT_TTL, at(0)).expect("made");
    assert_eq!(tokens.redeem(token.reveal(), None, "key1", at(10)).expect("fresh"), front());
    assert_eq!(tokens.redeem(token.reveal(), None, "key1", at(310)).expect("within five minutes"), front());
    assert!(matches!(tokens.redeem(token.reveal(), None, "key2", at(11)), Err(TokenError::Used(_))));
    assert!(matches!(tokens.redeem(token.reveal(), None, "key1", at(311)), Err(TokenError::Used(_))));
    let restarted = reload(&folder);
    assert!(matches!(restarted.redeem(token.reveal(), None, "key2", at(12)), Err(TokenError::Used(_))));
    assert_eq!(restarted.redeem(token.reveal(), None, "key1", at(12)).expect("survives a restart"), front());
}

#[test]
fn an_unused_token_expires() {
    let (_folder, tokens) = fresh();
    let token = tokens.create(front(), Duration::from_secs(60), at(0)).expect("made");
    assert!(matches!(tokens.check(token.reveal(), None, "key", at(60)), Err(TokenError::Expired(_))));
    assert_eq!(tokens.redeem(token.reveal(), None, "key", at(59)).expect("in time"), front());
}

#[test]
fn another_workload_is_refused_and_uses_nothing_up() {
    let (_folder, tokens) = fresh();
    let token = tokens.create(front(), DEFAULT_TTL, at(0)).expect("made");
    let error = tokens.redeem(token.reveal(), Some("shop/back"), "key", at(1)).expect_err("bound to another workload");
    assert_eq!(error.to_string(), "the join token is for shop/front, not for shop/back");
    tokens.redeem(token.reveal(), Some("shop/front"), "key2", at(1)).expect("still unused");
}

#[test]
fn only_hashes_are_stored() {
    let (folder, tokens) = fresh();
    let token = tokens.create(front(), DEFAULT_TTL, at(0)).expect("made");
    assert_eq!(token.reveal().len(), PREFIX.len() + 64);
    assert_eq!(format!("{token:?}"), "Token(..)");
    for entry in std::fs::read_dir(folder.path().join(FOLDER)).expect("listed") {
        let entry = entry.expect("an entry");
        let content = std::fs::read_to_string(entry.path()).expect("readable");
        let name = entry.file_name().into_string().expect("ASCII");
        assert!(!content.contains(token.reveal()) && !name.contains(&token.reveal()[PREFIX.len()..]));
    }
    assert!(matches!(tokens.redeem("mutua_00", None, "key", at(1)), Err(TokenError::Unknown)));
}

#[test]
fn a_use_that_cannot_be_recorded_is_no_use() {
    let (folder, tokens) = fresh();
    let token = tokens.create(front(), DEFAULT_TTL, at(0)).expect("made");
    let (there, away) = (folder.path().join(FOLDER), folder.path().join("away"));
    std::fs::rename(&there, &away).expect("moved");
    let error = tokens.redeem(token.reveal(), None, "key1", at(1)).expect_err("the folder is gone");
    assert!(matches!(error, TokenError::State(_)), "{error}");
    std::fs::rename(&away, &there).expect("moved back");
    tokens.redeem(token.reveal(), None, "key2", at(2)).expect("another key may use it still");
}

#[test]
fn old_tokens_are_forgotten_and_lives_are_bounded() {
    let (folder, tokens) = fresh();
    tokens.create(front(), Duration::from_secs(60), at(0)).expect("made");
    tokens.forget_old(at(60 + 24 * 3600));
    assert_eq!(tokens.list().len(), 1);
    tokens.forget_old(at(62 + 24 * 3600));
    assert!(tokens.list().is_empty());
    assert_eq!(std::fs::read_dir(folder.path().join(FOLDER)).expect("listed").count(), 0);
    assert!(matches!(tokens.create(front(), Duration::ZERO, at(0)), Err(TokenError::Ttl)));
    assert!(matches!(tokens.create(front(), MAX_TTL * 2, at(0)), Err(TokenError::Ttl)));
}
