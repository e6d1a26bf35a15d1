//! Services, their endpoints, and Istio's `ServiceEntry`.

use std::net::IpAddr;

use crate::{Labels, Meta};

/// How Istio treats a port: declared HTTP, declared TCP, or to be detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AppProtocol {
    /// Declared HTTP family (`http`, `http2`, `grpc`, `grpc-web`): by `appProtocol`, else by the port name's prefix.
    Http,
    /// Declared HTTP family over HTTP/2 (`http2`, `grpc`).
    Http2,
    /// Declared TCP family (`tcp`, `tls`, `https`, `mongo`, `redis`, `mysql` …).
    Tcp,
    /// Not declared: detected from the first bytes.
    Auto,
    /// UDP and SCTP: not served by the mesh.
    Udp,
}

/// A port of a Service or ServiceEntry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, empty when absent.
    pub name: String,
    /// The Service port.
    pub number: u16,
    /// Its protocol as Istio sees it.
    pub protocol: AppProtocol,
    /// `targetPort`.
    pub target: TargetPort,
    /// `nodePort`, 0 when absent.
    pub node_port: u16,
}

/// `targetPort`: the port of the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// A number; defaults to the Service port.
    Number(u16),
    /// The name of a container port, resolved per pod.
    Named(String),
}

/// A Kubernetes Service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Metadata.
    pub meta: Meta,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// `spec.selector`; `None` when the Service has none (its EndpointSlices count).
    pub selector: Option<Labels>,
    /// `spec.clusterIPs`; empty when none is written.
    pub cluster_ips: Vec<IpAddr>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// `spec.externalIPs` and load balancer addresses.
    pub external_ips: Vec<IpAddr>,
    /// `spec.externalName` of a Service of type ExternalName.
    pub external_name: Option<String>,
    /// `spec.type`, default `ClusterIP`.
    pub service_type: String,
}

/// A Kubernetes EndpointSlice.
#[derive(Clone, Debug)]
pub struct EndpointSlice {
    /// Metadata; the label `kubernetes.io/service-name` names its Service.
    pub meta: Meta,
    /// `ports`: name and number.
    pub ports: Vec<(String, u16)>,
    /// `endpoints`.
    pub endpoints: Vec<SliceEndpoint>,
}

/// One entry of an EndpointSlice's `endpoints`.
#[derive(Clone, Debug)]
pub struct SliceEndpoint {
    /// Its addresses.
    pub addresses: Vec<String>,
    /// `targetRef` to a Pod: namespace and name.
    pub pod: Option<(String, String)>,
    /// `conditions.ready`, true when absent.
    pub ready: bool,
}

/// `ServiceEntry.spec.resolution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// `NONE`: passthrough to the original address.
    None,
    /// `STATIC`.
    Static,
    /// `DNS`: every address of the name.
    Dns,
    /// `DNS_ROUND_ROBIN`: one address of the name at a time.
    DnsRoundRobin,
    /// `DYNAMIC_DNS`.
    DynamicDns,
}

/// Istio's `ServiceEntry`.
#[derive(Clone, Debug)]
pub struct ServiceEntry {
    /// Metadata.
    pub meta: Meta,
    /// `hosts`.
    pub hosts: Vec<String>,
    /// `addresses`: addresses or prefixes, as written.
    pub addresses: Vec<String>,
    /// `ports`.
    pub ports: Vec<ServicePort>,
    /// `location: MESH_INTERNAL`; the default is MESH_EXTERNAL.
    pub mesh_internal: bool,
    /// `resolution`.
    pub resolution: Resolution,
    /// `endpoints`, inline.
    pub endpoints: Vec<Endpoint>,
    /// `workloadSelector.labels`.
    pub workload_selector: Option<Labels>,
    /// `exportTo`; empty is the mesh default.
    pub export_to: Vec<String>,
    /// `subjectAltNames`.
    pub subject_alt_names: Vec<String>,
}

/// Istio's `WorkloadEntry` spec: an endpoint outside Kubernetes, inline or as a resource of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// `address`: an address, or a host name when the service resolves by DNS.
    pub address: String,
    /// `ports`: port name to number.
    pub ports: Vec<(String, u16)>,
    /// `labels`.
    pub labels: Labels,
    /// `serviceAccount`, empty when absent.
    pub service_account: String,
    /// `network`, empty when absent.
    pub network: String,
}
