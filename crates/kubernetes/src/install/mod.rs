//! The manifests of a control plane: what `mutua install` prints, in the order in which it is to be applied.
//!
//! [`rbac`] says verb by verb what the control plane may do and for what, [`workload`] how it runs, [`webhooks`] what API
//! servers ask it. With a revision every name ends in it, so that several control planes stand beside each other.

mod rbac;
mod webhooks;
mod workload;

use serde_json::{Value, json};

use crate::inject;

/// Where proxies join and get their configuration (Istio's).
pub const XDS_PORT: u16 = 15012;
/// Where API servers ask (Istio's).
pub const WEBHOOK_PORT: u16 = 15017;
/// Metrics, `/version` and `/debug/syncz` (Istio's).
pub const MONITORING_PORT: u16 = 15014;
/// `/ready` (Istio's).
pub const READINESS_PORT: u16 = 8080;

/// The arguments of `mutua install`.
#[derive(clap::Args, Clone, Debug)]
#[group(id = "installation")]
pub struct Settings {
    /// The namespace of the control plane
    #[arg(long, value_name = "NAME", default_value = "istio-system")]
    pub istio_namespace: String,
    /// How many control planes: one leads, the others wait
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub replicas: u16,
    /// The mesh's trust domain
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub trust_domain: String,
    /// What is injected, and by which revision
    #[command(flatten)]
    pub injection: inject::Settings,
}

impl Settings {
    /// The name of what belongs to this revision.
    pub(crate) fn named(&self, name: &str) -> String {
        self.injection.named(name)
    }

    /// Labels of everything: by them Kiali and others find a control plane and its revision.
    fn labels(&self) -> Value {
        json!({
            "app": "istiod",
            "istio.io/rev": self.injection.revision,
            "app.kubernetes.io/name": "istiod",
            "app.kubernetes.io/part-of": "mutua",
            "app.kubernetes.io/managed-by": "mutua-install",
            "app.kubernetes.io/version": env!("CARGO_PKG_VERSION"),
        })
    }

    /// By which labels its pods are selected.
    fn selector(&self) -> Value {
        json!({ "app": "istiod", "istio.io/rev": self.injection.revision })
    }

    fn names(&self) -> Names {
        Names::new(&self.injection, &self.istio_namespace)
    }

    fn metadata(&self, name: &str) -> Value {
        json!({ "name": name, "namespace": self.istio_namespace, "labels": self.labels() })
    }

    fn cluster_metadata(&self, name: &str) -> Value {
        json!({ "name": name, "labels": self.labels() })
    }
}

/// The names of the webhook configurations of one control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// That of injection.
    pub mutating: String,
    /// That of validation.
    pub validating: String,
}

impl Names {
    /// Those of a revision in a namespace: unique also beside another namespace's control plane (Istio's rule:
    /// `istio-system` goes without saying for injection).
    #[must_use]
    pub fn new(injection: &inject::Settings, namespace: &str) -> Self {
        let mutating = injection.named("istio-sidecar-injector");
        let elsewhere = if namespace == "istio-system" { String::new() } else { format!("-{namespace}") };
        Self {
            mutating: format!("{mutating}{elsewhere}"),
            validating: format!("{}-{namespace}", injection.named("istio-validator")),
        }
    }
}

/// Every manifest, in the order in which it is to be applied.
#[must_use]
pub fn manifests(settings: &Settings) -> Vec<Value> {
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": settings.istio_namespace, "labels": { "istio-injection": "disabled" } },
    });
    let mut all = vec![namespace, workload::service_account(settings)];
    all.extend(rbac::manifests(settings));
    all.extend([
        workload::mesh_config(settings),
        workload::deployment(settings),
        workload::service(settings),
        workload::disruption_budget(settings),
        workload::network_policy(settings),
        webhooks::mutating(settings),
        webhooks::validating(settings),
    ]);
    all
}

#[cfg(test)]
mod tests;
