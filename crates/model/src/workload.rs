//! What runs: pods, controllers with their templates, WorkloadEntries, and the namespaces they live in.

use std::net::IpAddr;

use crate::service::Endpoint;
use crate::{Labels, Meta};

/// A namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Metadata; its labels decide on injection.
    pub meta: Meta,
}

/// A container port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// Its name, empty when absent.
    pub name: String,
    /// `containerPort`.
    pub number: u16,
    /// Whether its protocol is TCP.
    pub tcp: bool,
}

/// The part of a pod that its template has too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSpec {
    /// `serviceAccountName`, default `default`.
    pub service_account: String,
    /// `hostNetwork`.
    pub host_network: bool,
    /// `containers[].ports` (and those of native sidecars), in order.
    pub ports: Vec<ContainerPort>,
    /// Names of all containers and init containers.
    pub containers: Vec<String>,
}

/// A live pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Metadata.
    pub meta: Meta,
    /// Its spec.
    pub spec: PodSpec,
    /// `status.podIPs`, else `status.podIP`.
    pub ips: Vec<IpAddr>,
    /// `status.phase` is Succeeded or Failed: it takes no traffic.
    pub ended: bool,
}

/// A controller (Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob): one workload, by its template.
#[derive(Clone, Debug)]
pub struct Controller {
    /// Metadata.
    pub meta: Meta,
    /// The template's labels.
    pub labels: Labels,
    /// The template's annotations.
    pub annotations: Labels,
    /// The template's spec.
    pub spec: PodSpec,
}

/// Istio's `WorkloadEntry`.
#[derive(Clone, Debug)]
pub struct WorkloadEntry {
    /// Metadata.
    pub meta: Meta,
    /// Its spec. Its labels are `spec.labels` over `metadata.labels`.
    pub endpoint: Endpoint,
}

/// An object of a kind that matters for security and is read but not enforced (AuthorizationPolicy,
/// RequestAuthentication, EnvoyFilter, VirtualService, Gateway, WorkloadGroup): only its metadata is kept.
#[derive(Clone, Debug)]
pub struct Unenforced {
    /// Metadata.
    pub meta: Meta,
}
