//! What a `credentialName` stands for: parts of a Secret or ConfigMap, looked up as istiod does
//! (`pilot/pkg/credentials/kube`, `pilot/pkg/xds/sds.go`). A Secret is of the client's own namespace, which is the rule's: only
//! a rule with workloadSelector gives a sidecar one, and such a rule is its namespace's own.

use std::collections::HashMap;
use std::sync::Arc;

use mutua_model::{ClientTls, ClientTlsMode, Kind, Mesh, ObjectRef, Secret, SecretText, SecretValue};

/// What a sidecar is given. What its mode does not use is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credential {
    /// The certificate chain that the client shows, PEM.
    pub certificate: Option<SecretText>,
    /// Its private key, PEM.
    pub private_key: Option<SecretText>,
    /// The roots that the server's certificate must chain to, PEM; `None` only when nothing is verified.
    pub roots: Option<SecretText>,
    /// Revocation lists, PEM.
    pub revocation_list: Option<SecretText>,
}

/// Why there is nothing to be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCredential {
    /// No such object.
    #[error("{0} does not exist")]
    Missing(ObjectRef),
    /// Neither object that may hold the roots exists.
    #[error("neither {0} nor {1} exists")]
    NoRoots(ObjectRef, ObjectRef),
    /// The object lacks what is needed.
    #[error("{object} holds neither {} nor {}", keys[0], keys[1])]
    Incomplete {
        /// The object.
        object: ObjectRef,
        /// Keys, either of which would do.
        keys: [&'static str; 2],
    },
    /// A value cannot be used.
    #[error("{object}: {key} {why}")]
    Unusable {
        /// The object.
        object: ObjectRef,
        /// The key.
        key: &'static str,
        /// Why.
        why: &'static str,
    },
    /// MUTUAL needs a key, and a ConfigMap has none.
    #[error("mode MUTUAL needs a certificate and a key, and {0} holds roots only: name a Secret")]
    NoKey(ObjectRef),
}

/// Secrets and ConfigMaps by their names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets(HashMap<ObjectRef, Arc<Secret>>);

impl Secrets {
    pub(crate) fn new(mesh: &Mesh) -> Self {
        Self(mesh.secrets.iter().map(|secret| (secret.meta.object.clone(), Arc::clone(secret))).collect())
    }

    /// What the `credentialName` of settings in a rule of `namespace` stands for.
    pub(crate) fn credential(&self, namespace: &str, tls: &ClientTls) -> Result<Credential, NoCredential> {
        let verifies = !tls.insecure_skip_verify;
        let mutual = tls.mode == ClientTlsMode::Mutual;
        if let Some(map) = tls.credential_name.strip_prefix(CONFIG_MAP) {
            let (namespace, name) = map.split_once('/').unwrap_or((namespace, map));
            let object = object(Kind::ConfigMap, namespace, name);
            if mutual {
                return Err(NoCredential::NoKey(object));
            }
            let secret = self.0.get(&object).ok_or(NoCredential::Missing(object))?;
            return Credential::default().with_roots(secret, verifies);
        }
        let name = tls.credential_name.strip_prefix(SECRET).unwrap_or(&tls.credential_name);
        let own = object(Kind::Secret, namespace, name);
        let mut credential = Credential::default();
        if mutual {
            let secret = self.0.get(&own).ok_or_else(|| NoCredential::Missing(own.clone()))?;
            let pair = first(secret, [["cert", "key"], ["tls.crt", "tls.key"]]);
            let [certificate, key] = pair.ok_or(incomplete(secret, ["cert and key", "tls.crt and tls.key"]))?;
            credential.certificate = Some(text(secret, certificate)?);
            credential.private_key = Some(text(secret, key)?);
        }
        let companion = object(Kind::Secret, namespace, &format!("{name}{COMPANION}"));
        match self.0.get(&companion).or_else(|| self.0.get(&own)) {
            Some(secret) => credential.with_roots(secret, verifies),
            None => Err(NoCredential::NoRoots(companion, own)),
        }
    }
}

impl Credential {
    fn with_roots(mut self, secret: &Secret, verifies: bool) -> Result<Self, NoCredential> {
        if !verifies {
            return Ok(self);
        }
        let pair = first(secret, [["cacert"], ["ca.crt"]]);
        let [roots] = pair.ok_or(incomplete(secret, ["cacert", "ca.crt"]))?;
        self.roots = Some(text(secret, roots)?);
        let list = if roots == "cacert" { "crl" } else { "ca.crl" };
        self.revocation_list = secret.value(list).map(|_| text(secret, list)).transpose()?;
        Ok(self)
    }
}

/// The first keys that are all there.
fn first<const N: usize>(secret: &Secret, sets: [[&'static str; N]; 2]) -> Option<[&'static str; N]> {
    sets.into_iter().find(|keys| keys.iter().all(|key| secret.value(key).is_some()))
}

fn text(secret: &Secret, key: &'static str) -> Result<SecretText, NoCredential> {
    match secret.value(key) {
        Some(SecretValue::Text(text)) => Ok(text.clone()),
        Some(SecretValue::Unusable(why)) => Err(NoCredential::Unusable { object: secret.meta.object.clone(), key, why }),
        None => Err(incomplete(secret, [key, key])),
    }
}

fn incomplete(secret: &Secret, keys: [&'static str; 2]) -> NoCredential {
    NoCredential::Incomplete { object: secret.meta.object.clone(), keys }
}

fn object(kind: Kind, namespace: &str, name: &str) -> ObjectRef {
    ObjectRef { kind, namespace: namespace.to_owned(), name: name.to_owned() }
}

/// What Istio puts before the name of a ConfigMap, and may put before that of a Secret.
const CONFIG_MAP: &str = "configmap://";
const SECRET: &str = "kubernetes://";
/// What stands behind the name of a Secret that holds the roots alone.
const COMPANION: &str = "-cacert";

#[cfg(test)]
mod tests {
    use mutua_model::read::Inputs;

    use super::*;

    fn secrets(objects: &[(&str, &str, &str)]) -> Secrets {
        let text = objects.iter().map(|(kind, name, values)| {
            let field = if *kind == "Secret" { "stringData" } else { "data" };
            format!("---\napiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: foo}}\n{field}: {{{values}}}\n")
        });
        Secrets::new(&Inputs::from_texts([("a.yaml", text.collect::<String>())]).load().unwrap().mesh)
    }

    fn found(secrets: &Secrets, mode: ClientTlsMode, name: &str, insecure: bool) -> String {
        let tls = ClientTls { mode, credential_name: name.to_owned(), insecure_skip_verify: insecure, ..ClientTls::default() };
        let shown = |text: &Option<SecretText>| text.as_ref().map_or("-".to_owned(), |text| text.get().to_owned());
        match secrets.credential("foo", &tls) {
            Ok(Credential { certificate, private_key, roots, revocation_list }) => {
                [certificate, private_key, roots, revocation_list].iter().map(shown).collect::<Vec<_>>().join(" ")
            }
            Err(why) => why.to_string(),
        }
    }

    #[test]
    fn parts_are_looked_up_as_istiod_does() {
        use ClientTlsMode::{Mutual, Simple};
        let opaque = "cert: c, key: k, cacert: r, crl: l";
        let kubernetes = "tls.crt: C, tls.key: K, ca.crt: R, ca.crl: L";
        for (objects, mode, name, expected) in [
            (vec![("Secret", "s", kubernetes)], Mutual, "s", "C K R L"),
            (vec![("Secret", "s", kubernetes)], Mutual, "kubernetes://s", "C K R L"),
            (vec![("Secret", "s", kubernetes)], Simple, "s", "- - R L"),
            (vec![("Secret", "s", opaque)], Mutual, "s", "c k r l"),
            // Of both, those of generic secrets.
            (vec![("Secret", "s", &*format!("{opaque}, {kubernetes}"))], Mutual, "s", "c k r l"),
            // The companion's roots count before the secret's own, and its lists alone.
            (vec![("Secret", "s", kubernetes), ("Secret", "s-cacert", "ca.crt: X")], Mutual, "s", "C K X -"),
            (vec![("Secret", "s", "cert: c, key: k"), ("Secret", "s-cacert", "cacert: X")], Mutual, "s", "c k X -"),
            (vec![("Secret", "s-cacert", "cacert: X")], Simple, "s", "- - X -"),
            (vec![("ConfigMap", "m", "ca.crt: M, ca.crl: N")], Simple, "configmap://foo/m", "- - M N"),
            // Half of a pair is none.
            (
                vec![("Secret", "s", "cert: c, tls.key: K, ca.crt: R")],
                Mutual,
                "s",
                "Secret foo/s holds neither cert and key nor tls.crt and tls.key",
            ),
            (
                vec![("Secret", "s", "tls.crt: C, tls.key: ''")],
                Mutual,
                "s",
                "Secret foo/s holds neither cert and key nor tls.crt and tls.key",
            ),
            (vec![("Secret", "s", "tls.crt: C, tls.key: K")], Mutual, "s", "Secret foo/s holds neither cacert nor ca.crt"),
            (
                vec![("Secret", "s", kubernetes), ("Secret", "s-cacert", "other: x")],
                Mutual,
                "s",
                "Secret foo/s-cacert holds neither cacert nor ca.crt",
            ),
            (vec![("Secret", "s", "ca.crt: [a]")], Simple, "s", "Secret foo/s: ca.crt is no text"),
            (vec![("Secret", "t", kubernetes)], Mutual, "s", "Secret foo/s does not exist"),
            (vec![("ConfigMap", "s", "ca.crt: M")], Simple, "s", "neither Secret foo/s-cacert nor Secret foo/s exists"),
            (vec![], Simple, "configmap://foo/m", "ConfigMap foo/m does not exist"),
            (vec![("Secret", "m", "ca.crt: R")], Simple, "configmap://foo/m", "ConfigMap foo/m does not exist"),
            (
                vec![("ConfigMap", "m", "ca.crt: M")],
                Mutual,
                "configmap://foo/m",
                "mode MUTUAL needs a certificate and a key, and ConfigMap foo/m holds roots only: name a Secret",
            ),
        ] {
            assert_eq!(found(&secrets(&objects), mode, name, false), expected, "{objects:?} {mode} {name}");
        }
        let bare = secrets(&[("Secret", "s", "tls.crt: C, tls.key: K, ca.crt: R")]);
        assert_eq!(found(&bare, Mutual, "s", true), "C K - -", "nothing is verified");
    }
}
