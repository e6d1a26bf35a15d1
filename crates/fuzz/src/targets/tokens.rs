//! Join tokens: records on disk that may be damaged, and what callers show for a token.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mutua_control::sign::tokens::Tokens;
use mutua_control::state::StateDir;

use super::discovery;
use crate::{Random, Target};

/// The target. Its input is a record.
pub const TARGET: Target = Target {
    name: "tokens",
    run,
    grammar,
    words: &[
        b"{\"workload\":\"shop/front\",",
        b"\"created\":1700000000,",
        b"\"expires\":1700003600,",
        b"\"used\":null}",
        b"\"used\":{\"at\":1,\"key\":\"aa\"}",
        b"18446744073709551615",
        b"1e400",
        b"[[[[[[[[",
        b"\\ud800",
    ],
    longest: 8 * 1024,
    memory: 512 * 1024,
    memory_per_byte: 50,
};

/// SHA-256 of "token".
const NAME: &str = "3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0";

/// What must hold.
pub fn run(bytes: &[u8]) {
    let folder = discovery::folder();
    let state = Arc::new(StateDir::open(folder.path()).unwrap());
    std::fs::create_dir_all(folder.path().join("tokens")).unwrap();
    std::fs::write(folder.path().join("tokens").join(NAME), bytes).unwrap();
    let tokens = Tokens::load(state).unwrap();
    let known = tokens.list();
    for now in [0, 1_700_000_000, 1 << 40] {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        let checked = tokens.check("token", None, "aa", now);
        assert!(checked.is_err() || known.len() == 1, "a token whose record cannot be read");
        let foreign = tokens.check("token", Some("other/workload"), "aa", now);
        assert!(foreign.is_err() || known[0].workload.to_string() == "other/workload");
    }
    let text = String::from_utf8_lossy(bytes);
    assert!(text == "token" || tokens.check(&text, None, "aa", SystemTime::now()).is_err(), "a token that nobody made");
    tokens.forget_old(SystemTime::now());
}

fn grammar(random: &mut Random) -> Vec<u8> {
    let time =
        |random: &mut Random| random.mostly(&["0", "1700000000", "1800000000"], &["18446744073709551615", "-1", "1.5", "\"x\""]);
    let (created, expires, at) = (time(random), time(random), time(random));
    let used = if random.once_in(2) { "null".to_owned() } else { format!("{{\"at\":{at},\"key\":\"aa\"}}") };
    let workload = random.mostly(&["shop/front", "other/workload"], &["", "a", "a/b/c", "\\u0000/x"]);
    format!("{{\"workload\":\"{workload}\",\"created\":{created},\"expires\":{expires},\"used\":{used}}}").into_bytes()
}
