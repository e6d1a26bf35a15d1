use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_800_000_000;

/// Keys that sign tokens, made once: RSA takes its time.
struct Signers {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

static SIGNERS: std::sync::LazyLock<Signers> = std::sync::LazyLock::new(|| Signers {
    rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
    p256: EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
    p384: EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
    ed: Ed25519KeyPair::generate().unwrap(),
});

fn text(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa_jwk(kid: &str) -> Value {
    let public = SIGNERS.rsa.public_key();
    let (n, e) = (public.modulus().big_endian_without_leading_zero().to_vec(), public.exponent());
    json!({ "kty": "RSA", "kid": kid, "n": text(n), "e": text(e.big_endian_without_leading_zero()) })
}

fn ec_jwk(kid: &str, curve: &str, pair: &EcdsaKeyPair) -> Value {
    let (x, y) = pair.public_key().as_ref()[1..].split_at(if curve == "P-256" { 32 } else { 48 });
    json!({ "kty": "EC", "kid": kid, "crv": curve, "x": text(x), "y": text(y), "use": "sig" })
}

fn ed_jwk(kid: &str) -> Value {
    json!({ "kty": "OKP", "kid": kid, "crv": "Ed25519", "x": text(SIGNERS.ed.public_key()) })
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::from_json(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn all_keys() -> KeySet {
    set(&[rsa_jwk("rsa"), ec_jwk("p256", "P-256", &SIGNERS.p256), ec_jwk("p384", "P-384", &SIGNERS.p384), ed_jwk("ed")])
}

fn sign(algorithm: &str, message: &[u8]) -> Vec<u8> {
    let (signers, random) = (&*SIGNERS, SystemRandom::new());
    let rsa = |padding: &'static dyn aws_lc_rs::signature::RsaEncoding| {
        let mut signature = vec![0; signers.rsa.public_modulus_len()];
        signers.rsa.sign(padding, &random, message, &mut signature).unwrap();
        signature
    };
    match algorithm {
        "RS256" => rsa(&aws_lc_rs::signature::RSA_PKCS1_SHA256),
        "PS256" => rsa(&aws_lc_rs::signature::RSA_PSS_SHA256),
        "RS512" => rsa(&aws_lc_rs::signature::RSA_PKCS1_SHA512),
        "ES256" => signers.p256.sign(&random, message).unwrap().as_ref().to_vec(),
        "ES384" => signers.p384.sign(&random, message).unwrap().as_ref().to_vec(),
        "EdDSA" => signers.ed.sign(message).as_ref().to_vec(),
        // With the public key as the shared secret: whoever lets the token choose the kind of algorithm believes it.
        "HS256" => {
            let secret = hmac::Key::new(hmac::HMAC_SHA256, signers.rsa.public_key().as_ref());
            hmac::sign(&secret, message).as_ref().to_vec()
        }
        _ => Vec::new(),
    }
}

fn token(header: &Value, claims: &Value) -> String {
    let signed = format!("{}.{}", text(header.to_string()), text(claims.to_string()));
    let signature = sign(header["alg"].as_str().unwrap_or_default(), signed.as_bytes());
    format!("{signed}.{}", text(signature))
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer.example", "sub": "system:serviceaccount:shop:cart", "aud": "istio-ca",
        "iat": NOW - 600, "nbf": NOW - 600, "exp": NOW + 600, "jti": "1",
        "kubernetes.io": { "namespace": "shop", "serviceaccount": { "name": "cart", "uid": "u" }, "pod": { "name": "p", "uid": "u" } },
    })
}

fn with(changes: &Value) -> Value {
    let mut all = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
            value => all[name] = value.clone(),
        }
    }
    all
}

fn verified(token: &str, keys: &KeySet) -> Result<Account, JwtError> {
    let expected = JwtExpectation {
        issuer: "https://issuer.example".to_owned(),
        audiences: vec!["istio-ca".to_owned(), "mutua".to_owned()],
    };
    verify_jwt(token, keys, &expected, UNIX_EPOCH + Duration::from_secs(NOW))
}

/// The error's words for claims that differ in `changes`, signed well.
fn fault(changes: &Value) -> String {
    let token = token(&json!({ "alg": "ES256", "kid": "p256" }), &with(changes));
    verified(&token, &all_keys()).map_or_else(|error| error.to_string(), |account| format!("{account:?}"))
}

fn cart() -> Account {
    Account { namespace: "shop".to_owned(), name: "cart".to_owned() }
}

#[test]
fn every_accepted_algorithm_proves_the_account() {
    for (algorithm, kid) in [("RS256", "rsa"), ("PS256", "rsa"), ("ES256", "p256"), ("ES384", "p384"), ("EdDSA", "ed")] {
        let token = token(&json!({ "alg": algorithm, "kid": kid, "typ": "JWT" }), &claims());
        assert_eq!(verified(&token, &all_keys()), Ok(cart()), "{algorithm}");
    }
}

#[test]
fn what_claims_may_say() {
    let good = [
        json!({}),
        json!({ "kubernetes.io": null }),
        json!({ "aud": ["istio-ca"] }),
        json!({ "aud": ["https://kubernetes.default.svc", "mutua"] }),
        json!({ "nbf": null, "iat": null }),
        json!({ "exp": NOW - 29 }),
        json!({ "nbf": NOW + 30 }),
        json!({ "exp": NOW as f64 + 0.5 }),
    ];
    for changes in good {
        assert_eq!(fault(&changes), format!("{:?}", cart()), "{changes}");
    }
    let unread = "the token is no signed JWT: its claims cannot be read, or iss, sub, aud or exp is missing";
    let subject = |seen: &str| format!("the token's subject {seen:?} is not of the form system:serviceaccount:NAMESPACE:NAME");
    let bad = [
        (json!({ "exp": NOW - 3600 }), "the token expired 3600 s ago".to_owned()),
        (json!({ "exp": NOW - 30 }), "the token expired 30 s ago".to_owned()),
        (json!({ "exp": null }), unread.to_owned()),
        (json!({ "exp": "soon" }), unread.to_owned()),
        (json!({ "exp": -1 }), format!("the token expired {} s ago", NOW + 1)),
        (
            json!({ "nbf": NOW + 31 }),
            "the token counts only in 31 s: the clocks of its issuer and of this machine differ".to_owned(),
        ),
        (json!({ "aud": "vault" }), "the token is for \"vault\", not for istio-ca, mutua".to_owned()),
        (json!({ "aud": ["a", "b"] }), "the token is for \"a\", \"b\", not for istio-ca, mutua".to_owned()),
        (json!({ "aud": [] }), "the token is for nobody, not for istio-ca, mutua".to_owned()),
        (json!({ "aud": null }), unread.to_owned()),
        (json!({ "aud": "istio-ca " }), "the token is for \"istio-ca \", not for istio-ca, mutua".to_owned()),
        (
            json!({ "iss": "https://issuer.example/" }),
            "the token is of issuer \"https://issuer.example/\", not of \"https://issuer.example\"".to_owned(),
        ),
        (json!({ "iss": null }), unread.to_owned()),
        (json!({ "sub": null }), unread.to_owned()),
        (json!({ "sub": "admin" }), subject("admin")),
        (json!({ "sub": "system:serviceaccount:shop" }), subject("system:serviceaccount:shop")),
        (json!({ "sub": "system:serviceaccount:shop:" }), subject("system:serviceaccount:shop:")),
        (json!({ "sub": "system:serviceaccount:shop:cart:x" }), subject("system:serviceaccount:shop:cart:x")),
        (
            json!({ "sub": "system:serviceaccount:shop:back" }),
            "the token's subject and its kubernetes.io claim name different service accounts".to_owned(),
        ),
        (json!({ "kubernetes.io": { "namespace": "shop" } }), unread.to_owned()),
    ];
    for (changes, expected) in bad {
        assert_eq!(fault(&changes), expected, "{changes}");
    }
}

#[test]
fn bad_tokens_are_refused_with_their_fault_and_without_their_bytes() {
    let good = token(&json!({ "alg": "ES256", "kid": "p256" }), &claims());
    let unknown = |kid: &str| JwtError::UnknownKey(kid.to_owned());
    let malformed = |fault| JwtError::Malformed(fault);
    let parts: Vec<&str> = good.split('.').collect();
    let header = "its header cannot be read";
    let cases = [
        (token(&json!({ "alg": "none", "kid": "rsa" }), &claims()), JwtError::Algorithm("none".to_owned())),
        (token(&json!({ "alg": "HS256", "kid": "rsa" }), &claims()), JwtError::Algorithm("HS256".to_owned())),
        (token(&json!({ "alg": "RS512", "kid": "rsa" }), &claims()), JwtError::Algorithm("RS512".to_owned())),
        (token(&json!({ "alg": "es256", "kid": "p256" }), &claims()), JwtError::Algorithm("es256".to_owned())),
        (token(&json!({ "alg": "ES256", "kid": "other" }), &claims()), unknown("other")),
        (token(&json!({ "alg": "ES256", "kid": "rsa" }), &claims()), unknown("rsa")),
        (token(&json!({ "alg": "ES256", "kid": "p256", "crit": ["b64"], "b64": false }), &claims()), JwtError::Critical),
        (token(&json!({ "kid": "p256" }), &claims()), malformed(header)),
        (good[..good.len() - 1].to_owned(), malformed("its signature cannot be read")),
        (good[..good.len() - 2].to_owned(), JwtError::Signature),
        (format!("{}.{}.", parts[0], parts[1]), JwtError::Signature),
        (format!("{}.{}", parts[0], parts[1]), malformed("it has not three parts")),
        (format!("{good}.x"), malformed("it has not three parts")),
        (
            format!("{}.{}.{}", parts[0], text(with(&json!({ "sub": "system:serviceaccount:a:b" })).to_string()), parts[2]),
            JwtError::Signature,
        ),
        (format!("{}={good}", parts[0]), malformed(header)),
        (String::new(), malformed("it has not three parts")),
        ("..".to_owned(), malformed(header)),
        (format!(" {good}"), malformed(header)),
        ("a".repeat(1 << 20), JwtError::TooLong(1 << 20)),
    ];
    for (token, expected) in cases {
        let error = verified(&token, &all_keys()).expect_err(&token);
        assert_eq!(error, expected, "{token:.60}");
        let shown = format!("{error} {error:?}");
        let leaked = token.split('.').find(|part| part.len() > 8 && shown.contains(*part));
        assert!(leaked.is_none(), "{shown}");
    }
    assert_eq!(verified(&good, &all_keys()), Ok(cart()), "the one that all were made of");
}

#[test]
fn a_token_without_a_key_name_needs_the_only_key() {
    let token = token(&json!({ "alg": "ES256" }), &claims());
    assert_eq!(verified(&token, &all_keys()), Ok(cart()), "one P-256 key is in the set");
    let two = set(&[ec_jwk("a", "P-256", &SIGNERS.p256), ec_jwk("b", "P-256", &SIGNERS.p256)]);
    assert_eq!(verified(&token, &two), Err(JwtError::Unnamed(2)));
    assert_eq!(verified(&token, &set(&[rsa_jwk("rsa")])), Err(JwtError::Unnamed(0)));
}

#[test]
fn keys_for_other_purposes_do_not_verify() {
    let key = |changes: &Value| {
        let mut key = ec_jwk("p256", "P-256", &SIGNERS.p256);
        changes.as_object().unwrap().iter().for_each(|(name, value)| key[name] = value.clone());
        KeySet::from_json(json!({ "keys": [key, ed_jwk("ed")] }).to_string().as_bytes()).unwrap()
    };
    let token = token(&json!({ "alg": "ES256", "kid": "p256" }), &claims());
    for good in [json!({}), json!({ "alg": "ES256" }), json!({ "key_ops": ["verify"] }), json!({ "x5c": ["MII"] })] {
        assert_eq!(verified(&token, &key(&good)), Ok(cart()), "{good}");
    }
    let bad = [
        json!({ "use": "enc" }),
        json!({ "alg": "ES384" }),
        json!({ "alg": "HS256" }),
        json!({ "key_ops": ["sign"] }),
        json!({ "kty": "oct", "k": "AAAA" }),
        json!({ "crv": "P-384" }),
        json!({ "crv": "secp256k1" }),
        json!({ "y": text([1; 32]) }),
        json!({ "y": text([1; 31]) }),
        json!({ "x": 7 }),
    ];
    for changes in bad {
        assert_eq!(verified(&token, &key(&changes)), Err(JwtError::UnknownKey("p256".to_owned())), "{changes}");
    }
}

#[test]
fn key_sets_that_cannot_be_used_are_refused() {
    let fault = |text: &str| KeySet::from_json(text.as_bytes()).expect_err(text).to_string();
    assert!(fault("<html>").starts_with("the key set is no JWKS: "));
    assert!(fault("{}").contains("missing field `keys`"));
    assert!(fault("{\"keys\":[]}").starts_with("none of the 0 keys"));
    let mut weak = rsa_jwk("weak");
    weak["n"] = text([0xff; 128]).into();
    let mut slow = rsa_jwk("slow");
    slow["e"] = text([0xff; 64]).into();
    for key in [weak, slow, json!({ "kty": "oct", "k": text([1; 32]) }), json!("x"), json!(null)] {
        assert!(fault(&json!({ "keys": [key] }).to_string()).starts_with("none of the 1 keys"), "{key}");
    }
    assert_eq!(fault(&json!({ "keys": vec![ed_jwk("ed"); 101] }).to_string()), "the key set has 101 keys, at most 100 are read");
    assert!(fault(&" ".repeat(MAX_KEY_SET + 1)).contains("at most 262144 are read"));
    assert_eq!(format!("{:?}", all_keys()), "[\"rsa\", \"p256\", \"p384\", \"ed\"]");
}
