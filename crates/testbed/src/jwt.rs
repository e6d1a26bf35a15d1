//! An issuer of service account tokens (JWT, RS256), by openssl.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The `iss` of [`claims`].
pub const ISSUER: &str = "https://issuer.example";

/// One key of an issuer.
pub struct TokenKey {
    folder: tempfile::TempDir,
    id: String,
}

impl TokenKey {
    /// A new RSA key of this name.
    #[must_use]
    pub fn new(id: &str) -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap(), id: id.to_owned() };
        this.openssl(&["genrsa", "-out", "key.pem", "2048"], b"");
        this
    }

    /// Its public half, as it stands in a key set.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let shown = self.openssl(&["rsa", "-in", "key.pem", "-noout", "-modulus"], b"");
        let shown = String::from_utf8(shown).unwrap();
        let digits = shown.trim().strip_prefix("Modulus=").unwrap();
        let modulus: Vec<u8> =
            (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
        json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id, "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB" })
    }

    /// A token that says `claims`.
    #[must_use]
    pub fn token(&self, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({ "alg": "RS256", "kid": self.id })), part(claims));
        let signature = self.openssl(&["dgst", "-sha256", "-sign", "key.pem"], signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn openssl(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(self.folder.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

/// A key set of these keys.
#[must_use]
pub fn key_set(keys: &[&TokenKey]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}

/// What Kubernetes says in a token of this service account for the audience `istio-ca`, good for an hour.
#[must_use]
pub fn claims(namespace: &str, account: &str) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({
        "iss": ISSUER, "sub": format!("system:serviceaccount:{namespace}:{account}"), "aud": ["istio-ca"],
        "iat": now, "nbf": now, "exp": now + 3600,
        "kubernetes.io": { "namespace": namespace, "serviceaccount": { "name": account, "uid": "0" } },
    })
}
