//! The mesh's roots for the pods of every namespace: ConfigMap `istio-ca-root-cert`, as Istio's sidecars mount it.
//!
//! It is written where there is none, and kept right where it is ours. One that somebody else wrote (another mesh's control
//! plane) is left alone; unless it holds our roots too, that is said as an error.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Patch, PatchParams};
use kube::core::ObjectMeta;
use kube::core::metadata::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use mutua_control::start::ROOT_FILE;
use mutua_control::state::StateDir;

/// The ConfigMap.
const NAME: &str = "istio-ca-root-cert";
/// Its key.
const KEY: &str = "root-cert.pem";
/// Namespaces that Istio leaves out.
const LEFT_OUT: &[&str] = &["kube-public", "kube-node-lease", "local-path-storage"];
/// By this label a ConfigMap is known as ours.
const OURS: (&str, &str) = ("app.kubernetes.io/managed-by", "mutua");
/// Istio's label.
const CONFIG: (&str, &str) = ("istio.io/config", "true");
/// Who writes, for the API server's record of field owners.
pub const MANAGER: &str = "mutua";
/// How often the roots are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait after the API server refused.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the ConfigMaps.
pub struct Roots {
    client: Client,
    state: Arc<StateDir>,
    /// Those that are not ending.
    namespaces: BTreeSet<String>,
    /// What each namespace's ConfigMap says, and whether it is ours.
    known: BTreeMap<String, (bool, String)>,
    /// Where it was said that somebody else's stands.
    told: BTreeSet<String>,
}

impl Roots {
    /// Those of the state folder, in all namespaces.
    #[must_use]
    pub fn new(client: Client, state: Arc<StateDir>) -> Self {
        Self { client, state, namespaces: BTreeSet::new(), known: BTreeMap::new(), told: BTreeSet::new() }
    }

    /// Keeps them for as long as this runs.
    pub async fn keep(mut self) {
        let mut namespaces =
            pin!(watcher(Api::<PartialObjectMeta<Namespace>>::all(self.client.clone()), watcher::Config::default()));
        let only = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
        let mut maps = pin!(watcher(Api::<ConfigMap>::all(self.client.clone()), only));
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut listed, mut before) = ((false, false), String::new());
        loop {
            let trouble = tokio::select! {
                Some(event) = namespaces.next() => event.map(|event| listed.0 |= self.take_namespace(event)).err(),
                Some(event) = maps.next() => event.map(|event| listed.1 |= self.take_map(event)).err(),
                _ = look.tick() => {
                    let roots = self.roots();
                    if listed == (true, true) && !roots.is_empty() {
                        if std::mem::replace(&mut before, roots.clone()) != roots {
                            self.told.clear();
                        }
                        self.reconcile(&roots).await;
                    }
                    None
                }
            };
            if let Some(error) = trouble {
                tracing::warn!(%error, "namespaces and their {NAME} cannot be watched; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// The roots that the control plane hands out now.
    fn roots(&self) -> String {
        let text = self.state.read(ROOT_FILE).ok().flatten().unwrap_or_default();
        String::from_utf8(text).unwrap_or_default()
    }

    /// Returns whether all are known now.
    fn take_namespace(&mut self, event: Event<PartialObjectMeta<Namespace>>) -> bool {
        match event {
            Event::Init => self.namespaces.clear(),
            Event::InitDone => return true,
            Event::Delete(namespace) => {
                self.namespaces.remove(&namespace.name_any());
                self.known.remove(&namespace.name_any());
            }
            Event::Apply(namespace) | Event::InitApply(namespace) => {
                let name = namespace.name_any();
                if namespace.metadata.deletion_timestamp.is_some() || LEFT_OUT.contains(&name.as_str()) {
                    self.namespaces.remove(&name);
                } else {
                    self.namespaces.insert(name);
                }
            }
        }
        false
    }

    /// Returns whether all are known now.
    fn take_map(&mut self, event: Event<ConfigMap>) -> bool {
        match event {
            Event::Init => self.known.clear(),
            Event::InitDone => return true,
            Event::Delete(map) => {
                self.known.remove(&map.namespace().unwrap_or_default());
            }
            Event::Apply(map) | Event::InitApply(map) => {
                let ours = map.labels().get(OURS.0).is_some_and(|value| value == OURS.1);
                let text = map.data.as_ref().and_then(|data| data.get(KEY)).cloned().unwrap_or_default();
                self.known.insert(map.namespace().unwrap_or_default(), (ours, text));
            }
        }
        false
    }

    async fn reconcile(&mut self, roots: &str) {
        for namespace in self.namespaces.clone() {
            match self.known.get(&namespace) {
                Some((true, text)) if text == roots => {}
                Some((false, text)) => {
                    if !shares(text, roots) && self.told.insert(namespace.clone()) {
                        tracing::error!(
                            "ConfigMap {namespace}/{NAME} holds the roots of somebody else and is left alone: pods there do not \
                             trust this mesh; delete it, or share one root (Secret cacerts)"
                        );
                    }
                }
                Some((true, _)) | None => match self.write(&namespace, roots).await {
                    Ok(()) => {
                        self.known.insert(namespace, (true, roots.to_owned()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "ConfigMap {namespace}/{NAME} is not written; trying again");
                        tokio::time::sleep(RETRY).await;
                        return;
                    }
                },
            }
        }
    }

    async fn write(&self, namespace: &str, roots: &str) -> Result<(), kube::Error> {
        let label = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                labels: Some([OURS, CONFIG].map(label).into()),
                ..ObjectMeta::default()
            },
            data: Some([(KEY.to_owned(), roots.to_owned())].into()),
            ..ConfigMap::default()
        };
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        maps.patch(NAME, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&map)).await.map(|_| ())
    }
}

/// Whether a text of certificates holds all of ours.
fn shares(text: &str, ours: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<String>();
    let text = plain(text);
    let marker = "-----ENDCERTIFICATE-----";
    let ours = plain(ours);
    ours.split_inclusive(marker).all(|certificate| text.contains(certificate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_shared_when_all_of_ours_are_among_theirs() {
        let pem = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        let (one, two) = (pem("AAAA\nBBBB"), pem("CCCC"));
        assert!(shares(&format!("{two}{one}"), &one));
        assert!(shares(&pem("AAAABBBB"), &one), "however its lines are broken");
        assert!(!shares(&two, &one));
        assert!(!shares(&one, &format!("{one}{two}")));
        assert!(!shares("", &one));
    }
}
