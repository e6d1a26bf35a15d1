//! The signing CA in Secrets, under Istio's names: `cacerts` is a plugged-in CA; without it the mesh's own root stands in
//! `istio-ca-secret`, so that it outlives every pod.
//!
//! The control plane works on files of its state folder. Before it starts they are taken from the Secret; afterwards what
//! changes in them (a change of root, step by step) is written to the Secret within a second.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use mutua_control::state::{PRIVATE, StateDir, StateError};

/// A plugged-in CA, as Istio names it.
const PLUGGED: &str = "cacerts";
/// The mesh's own root, as Istio names it.
const OWN: &str = "istio-ca-secret";
/// The type of [`OWN`].
const OWN_TYPE: &str = "istio.io/ca-root";
/// The files of a plugged-in CA that count, among them those of a TLS secret.
const PLUGGED_FILES: &[&str] =
    &["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem", "ca-crl.pem", "tls.crt", "tls.key", "ca.crt"];
/// Keys of [`OWN`] and the files of the state folder that they hold: the root, and a change of it that is under way.
const OWN_FILES: &[(&str, &str)] = &[
    ("ca-key.pem", "ca/ca-key.pem"),
    ("ca-cert.pem", "ca/ca-cert.pem"),
    ("next-ca-key.pem", "next-ca/ca-key.pem"),
    ("next-ca-cert.pem", "next-ca/ca-cert.pem"),
    ("ca-rotation.json", "ca-rotation.json"),
];
/// What Istio's own Secret holds empty.
const EMPTY: &[&str] = &["cert-chain.pem", "key.pem", "root-cert.pem"];
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait after the API server refused.
const RETRY: Duration = Duration::from_secs(5);

/// Why the CA cannot be taken from its Secret.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// It cannot be read.
    #[error("the Secret {name} cannot be read: {source}")]
    Read {
        /// Its name.
        name: &'static str,
        /// The API server's answer.
        source: kube::Error,
    },
    /// It holds no CA.
    #[error("the Secret {name} has no {key}: it holds no CA (delete it, and a new root is made)")]
    Incomplete {
        /// Its name.
        name: &'static str,
        /// What is missing.
        key: &'static str,
    },
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The Secrets of the CA.
#[derive(Clone)]
pub struct Authority {
    secrets: Api<Secret>,
    state: Arc<StateDir>,
}

impl Authority {
    /// Those in `namespace`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, state: Arc<StateDir>) -> Self {
        Self { secrets: Api::namespaced(client, namespace), state }
    }

    /// Takes the CA from its Secret. Returns the folder of a plugged-in one.
    ///
    /// # Errors
    /// A Secret that cannot be read, or holds no CA: no other root is made in its place.
    pub async fn take(&self) -> Result<Option<PathBuf>, AuthorityError> {
        if let Some(secret) = self.get(PLUGGED).await? {
            self.write_plugged(&secret)?;
            return Ok(Some(self.state.join(PLUGGED)));
        }
        let Some(secret) = self.get(OWN).await? else { return Ok(None) };
        let data = secret.data.unwrap_or_default();
        if let Some(key) =
            ["ca-cert.pem", "ca-key.pem"].into_iter().find(|key| data.get(*key).is_none_or(|value| value.0.is_empty()))
        {
            return Err(AuthorityError::Incomplete { name: OWN, key });
        }
        let certificate = &data["ca-cert.pem"].0;
        for folder in ["ca", "next-ca"] {
            self.state.create_dir(folder)?;
        }
        for (key, file) in OWN_FILES {
            match data.get(*key).filter(|value| !value.0.is_empty()) {
                Some(value) => self.state.write(file, &value.0, PRIVATE)?,
                None => self.state.remove(file)?,
            }
        }
        for (folder, root) in [("ca", Some(certificate)), ("next-ca", data.get("next-ca-cert.pem").map(|value| &value.0))] {
            // A root is its own chain.
            for file in ["root-cert.pem", "cert-chain.pem"] {
                match root {
                    Some(root) => self.state.write(&format!("{folder}/{file}"), root, PRIVATE)?,
                    None => self.state.remove(&format!("{folder}/{file}"))?,
                }
            }
        }
        Ok(None)
    }

    /// Keeps Secret and files the same for as long as this runs.
    pub async fn keep(self, plugged: bool) {
        if plugged { self.follow_plugged().await } else { self.mirror_own().await }
    }

    async fn get(&self, name: &'static str) -> Result<Option<Secret>, AuthorityError> {
        self.secrets.get_opt(name).await.map_err(|source| AuthorityError::Read { name, source })
    }

    fn write_plugged(&self, secret: &Secret) -> Result<(), StateError> {
        self.state.create_dir(PLUGGED)?;
        let data = secret.data.clone().unwrap_or_default();
        for name in PLUGGED_FILES {
            let file = format!("{PLUGGED}/{name}");
            match data.get(*name) {
                Some(value) if self.state.read(&file)?.as_ref() != Some(&value.0) => {
                    self.state.write(&file, &value.0, PRIVATE)?;
                }
                Some(_) => {}
                None => self.state.remove(&file)?,
            }
        }
        Ok(())
    }

    /// The control plane watches the folder, and refuses what does not fit together.
    async fn follow_plugged(&self) {
        let config = watcher::Config::default().fields(&format!("metadata.name={PLUGGED}"));
        let mut events = pin!(watcher(self.secrets.clone(), config));
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(secret) | Event::InitApply(secret)) => {
                    if let Err(error) = self.write_plugged(&secret) {
                        tracing::error!(%error, "the Secret {PLUGGED} has changed and is not taken over");
                    }
                }
                Ok(Event::Delete(_)) => {
                    tracing::warn!("the Secret {PLUGGED} is deleted; its CA signs until the control plane ends");
                }
                Ok(Event::Init | Event::InitDone) => {}
                Err(error) => {
                    tracing::warn!(%error, "the Secret {PLUGGED} cannot be watched; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn mirror_own(&self) {
        let mut written = None;
        loop {
            match self.own_files() {
                Ok(files) if written.as_ref() != Some(&files) => match self.write_own(&files).await {
                    Ok(()) => written = Some(files),
                    Err(error) => {
                        tracing::error!(%error, "the mesh's root is not kept in the Secret {OWN}: if this pod ends now, it is lost");
                        tokio::time::sleep(RETRY).await;
                    }
                },
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "the mesh's root cannot be read"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn own_files(&self) -> Result<BTreeMap<&'static str, Vec<u8>>, StateError> {
        let mut files = BTreeMap::new();
        for (key, file) in OWN_FILES {
            files.insert(*key, self.state.read(file)?.unwrap_or_default());
        }
        Ok(files)
    }

    async fn write_own(&self, files: &BTreeMap<&'static str, Vec<u8>>) -> Result<(), kube::Error> {
        let mut data: BTreeMap<String, ByteString> =
            files.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.clone()))).collect();
        data.extend(EMPTY.iter().map(|key| ((*key).to_owned(), ByteString(Vec::new()))));
        let secret = Secret { data: Some(data), ..Secret::default() };
        let patched = self.secrets.patch(OWN, &PatchParams::default(), &Patch::Merge(&secret)).await;
        if !matches!(&patched, Err(kube::Error::Api(status)) if status.code == 404) {
            return patched.map(|_| ());
        }
        let metadata = ObjectMeta { name: Some(OWN.to_owned()), ..ObjectMeta::default() };
        let secret = Secret { metadata, type_: Some(OWN_TYPE.to_owned()), ..secret };
        self.secrets.create(&PostParams::default(), &secret).await.map(|_| ())
    }
}
