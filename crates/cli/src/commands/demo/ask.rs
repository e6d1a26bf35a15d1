//! What the demo asks the control plane and the sidecars: the same questions that a person can ask.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::api_client::Api;

/// The control plane, by its state folder's socket.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    api: Api,
}

/// `GET /api/v1/proxies`, the part that counts here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Proxies {
    pub generation: u64,
    #[serde(default)]
    pub phase: String,
    #[serde(default)]
    pub rejected: Option<String>,
    pub proxies: Vec<Proxy>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Proxy {
    pub workload: String,
    pub current: bool,
    #[serde(default)]
    pub refused: Vec<Value>,
    #[serde(default)]
    pub certificate: Option<Certificate>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certificate {
    pub renewals: u64,
    pub failed_renewals: u64,
}

/// The answer of `explain`, the part that counts here.
#[derive(Debug, Deserialize)]
pub(crate) struct Explained {
    pub outcome: String,
    #[serde(default)]
    pub trace: Vec<Reason>,
}

/// One step of a trace.
#[derive(Debug, Deserialize)]
pub(crate) struct Reason {
    #[serde(default)]
    pub object: String,
    pub effect: String,
}

impl Explained {
    /// The trace in one line.
    pub fn why(&self) -> String {
        let word = |reason: &Reason| match reason.object.as_str() {
            "" => reason.effect.clone(),
            object => format!("{object}: {}", reason.effect),
        };
        self.trace.iter().map(word).collect::<Vec<_>>().join("; ")
    }
}

impl ControlPlane {
    /// The one with this state folder.
    pub fn new(state: &Path) -> Self {
        Self { api: Api { api: None, state: Some(state.to_owned()) } }
    }

    /// Every proxy, and what it runs.
    pub fn proxies(&self) -> anyhow::Result<Proxies> {
        self.api.get("/api/v1/proxies")
    }

    /// The decision for one connection.
    pub fn explain(&self, from: &str, to: &str) -> anyhow::Result<Explained> {
        self.api.get(&format!("/api/v1/explain?from={from}&to={to}"))
    }
}

impl Proxies {
    /// What is missing until generation `least` or a later one is in force at these workloads' sidecars.
    pub fn missing(&self, least: u64, sidecars: &[&str]) -> Option<String> {
        if let Some(reason) = &self.rejected {
            return Some(format!("the control plane refuses the folder: {reason}"));
        }
        if self.generation < least {
            return Some(format!("the control plane is at generation {}", self.generation));
        }
        let known: BTreeMap<&str, &Proxy> = self.proxies.iter().map(|proxy| (proxy.workload.as_str(), proxy)).collect();
        for sidecar in sidecars {
            match known.get(sidecar) {
                Some(proxy) if !proxy.refused.is_empty() => {
                    return Some(format!("the sidecar of {sidecar} refuses: {}", Value::from(proxy.refused.clone())));
                }
                Some(proxy) if proxy.current => {}
                _ => return Some(format!("the sidecar of {sidecar} has not acknowledged")),
            }
        }
        (self.phase != "complete").then(|| format!("the change is in its stage {}", self.phase))
    }

    /// Renewals of all leaves: how many went well, and how many did not.
    pub fn renewals(&self) -> (u64, u64) {
        let certificates = self.proxies.iter().filter_map(|proxy| proxy.certificate.as_ref());
        certificates.fold((0, 0), |(good, bad), one| (good + one.renewals, bad + one.failed_renewals))
    }
}
