//! Service account tokens and the key sets that verify them.

use std::sync::LazyLock;
use std::time::SystemTime;

use mutua_identity::issuer::{JwtExpectation, KeySet, verify_jwt};
use mutua_testbed::jwt::{ISSUER, TokenKey, claims, key_set};

use crate::{Random, Target};

/// The target. Its input is a token, or a key set when it begins with a brace.
pub const TARGET: Target = Target {
    name: "jwt",
    run,
    grammar,
    words: &[
        b"eyJhbGciOiJub25lIn0.",
        b"eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.",
        b".eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIn0.",
        b"..",
        b"{\"keys\":[",
        b"{\"kty\":\"RSA\",\"kid\":\"a\",",
        b"\"n\":\"",
        b"\"e\":\"AQAB\"}",
        b"\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"",
        b"\"y\":\"",
        b"\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"",
        b"[[[[[[[[",
        b"1e400",
    ],
    longest: 16 * 1024,
    memory: 1024 * 1024,
    memory_per_byte: 100,
};

struct Known {
    keys: KeySet,
    published: String,
    token: String,
    expected: JwtExpectation,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let key = TokenKey::new("a");
    let published = key_set(&[&key]);
    let keys = KeySet::from_json(published.as_bytes()).unwrap();
    let expected = JwtExpectation { issuer: ISSUER.to_owned(), audiences: vec!["istio-ca".to_owned()] };
    Known { keys, published, token: key.token(&claims("shop", "front")), expected }
});

/// What must hold.
pub fn run(bytes: &[u8]) {
    let known = &*KNOWN;
    let text = String::from_utf8_lossy(bytes);
    if bytes.starts_with(b"{") {
        let Ok(keys) = KeySet::from_json(bytes) else { return };
        assert!(keys.ids().count() > 0, "a set without keys");
        let ours = verify_jwt(&known.token, &keys, &known.expected, SystemTime::now()).is_ok();
        let modulus = known.published.split("\"n\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert!(!ours || text.contains(modulus), "a key that did not sign it verifies the token");
        return;
    }
    // The lines' end of a file of the corpus.
    let text = text.trim_end_matches('\n');
    match verify_jwt(text, &known.keys, &known.expected, SystemTime::now()) {
        Ok(account) => assert_eq!(text, known.token, "somebody who has no key is {account:?}"),
        Err(error) => assert!(error.to_string().len() < 1024, "an error that grows with its token"),
    }
}

fn grammar(random: &mut Random) -> Vec<u8> {
    if random.once_in(2) {
        let kind = random.mostly(&["RSA", "EC", "OKP"], &["oct", "", "rsa"]);
        let curve = random.mostly(&["P-256", "P-384", "Ed25519"], &["P-521", "secp256k1", ""]);
        let number = random.mostly(&["AQAB", "AA", "_____w"], &["", "=", "\\u0000", "A"]);
        let usage = random.mostly(&["sig"], &["enc", "x509-svid"]);
        return format!(
            "{{\"keys\":[{{\"kty\":\"{kind}\",\"kid\":\"a\",\"use\":\"{usage}\",\"crv\":\"{curve}\",\
             \"x\":\"{number}\",\"y\":\"{number}\",\"n\":\"{number}\",\"e\":\"AQAB\"}}]}}"
        )
        .into_bytes();
    }
    // Parts of the token that counts, put together anew.
    let good: Vec<&str> = KNOWN.token.split('.').collect();
    let part = |random: &mut Random, at: usize| {
        random.mostly(&[good[at]], &[good[0], good[1], good[2], "", "e30", "=", "AA"]).to_owned()
    };
    let parts = [part(random, 0), part(random, 1), part(random, 2)];
    let mut token = parts.join(".");
    if token == KNOWN.token {
        token.pop();
    }
    token.into_bytes()
}
