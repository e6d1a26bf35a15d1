//! The effective decisions in the form that connections use them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use mutua_identity::{MinVersion, PeerExpectation, TrustDomain};
use serde::Serialize;

/// Draining until the control plane says otherwise (Istio's `drainDuration`).
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(45);

/// A receiving mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// Plaintext only, as it comes.
    Disable,
    /// Both.
    Permissive,
    /// Mutual TLS only.
    Strict,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
        })
    }
}

/// How a port is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// Not declared.
    Auto,
    /// Raw TCP.
    Tcp,
    /// HTTP.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
}

impl Protocol {
    /// Whether the port is declared as some HTTP.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2)
    }
}

/// What metrics say of a workload; empty texts are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[allow(missing_docs, reason = "the names are Istio's labels")]
pub struct Labels {
    pub name: Arc<str>,
    pub namespace: Arc<str>,
    pub service_account: Arc<str>,
    pub app: Arc<str>,
    pub version: Arc<str>,
    pub canonical_name: Arc<str>,
    pub canonical_revision: Arc<str>,
    pub cluster: Arc<str>,
}

/// What the server side of mesh mTLS is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerTls {
    /// Trust domains of callers.
    #[serde(serialize_with = "texts")]
    pub trust_domains: Vec<TrustDomain>,
    /// The floor of the TLS version.
    #[serde(serialize_with = "version")]
    pub min_version: MinVersion,
    /// TLS 1.2 suites; empty: Istio's default.
    pub cipher_suites: Vec<String>,
}

fn texts<S: serde::Serializer>(domains: &[TrustDomain], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(domains.iter().map(TrustDomain::as_str))
}

fn nets<S: serde::Serializer>(nets: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(nets.iter().map(ToString::to_string))
}

fn version<S: serde::Serializer>(version: &MinVersion, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match version {
        MinVersion::Tls12 => "TLSV1_2",
        MinVersion::Tls13 => "TLSV1_3",
    })
}

/// What the workload accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inbound {
    /// The mode of every port that is not listed.
    pub mode: Mode,
    /// The object that decided `mode`.
    pub decided_by: String,
    /// The listed ports, sorted.
    pub ports: Vec<InboundPort>,
    /// TLS of the accepting side.
    pub server: ServerTls,
    /// This workload.
    pub labels: Labels,
}

/// A port of the workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InboundPort {
    /// The workload's port.
    pub port: u16,
    /// Its mode.
    pub mode: Mode,
    /// How it is declared.
    pub protocol: Protocol,
    /// The object that decided the mode.
    pub decided_by: String,
    /// The service it belongs to: host, name, namespace; empty when none.
    pub service_host: Arc<str>,
    /// The service's name.
    pub service_name: Arc<str>,
    /// The service's namespace.
    pub service_namespace: Arc<str>,
}

impl Inbound {
    /// The entry of a port, if it is listed.
    #[must_use]
    pub fn port(&self, port: u16) -> Option<&InboundPort> {
        self.ports.binary_search_by_key(&port, |entry| entry.port).ok().map(|at| &self.ports[at])
    }

    /// Mode and protocol of a port.
    #[must_use]
    pub fn treatment(&self, port: u16) -> (Mode, Protocol) {
        self.port(port).map_or((self.mode, Protocol::Auto), |entry| (entry.mode, entry.protocol))
    }
}

/// How a client's TLS is originated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientMode {
    /// No TLS.
    Disable,
    /// TLS.
    Simple,
    /// TLS with a client certificate from files.
    Mutual,
    /// The mesh's mutual TLS.
    IstioMutual,
}

/// TLS towards the endpoints that ask for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ClientTls {
    /// The mode.
    pub mode: ClientMode,
    /// The server name; empty sends none.
    pub sni: String,
    /// SIMPLE, MUTUAL: names of which the server must show one.
    pub subject_alt_names: Vec<String>,
    /// ISTIO_MUTUAL: who the peer must be.
    #[serde(skip)]
    pub peer: Expected,
    /// Server name and check come from the HTTP Host.
    pub from_host_header: bool,
    /// `clientCertificate`.
    pub client_certificate: String,
    /// `privateKey`.
    pub private_key: String,
    /// `caCertificates`.
    pub ca_certificates: String,
    /// `caCrl`.
    pub ca_crl: String,
    /// `insecureSkipVerify`.
    pub insecure_skip_verify: bool,
    /// `credentialName`.
    pub credential_name: String,
    /// What it stands for.
    #[serde(skip)]
    pub credential: Option<Arc<Credential>>,
}

/// Contents of the Secret of a `credentialName`: PEM texts, empty where the mode does not use them. Printed nowhere.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credential {
    /// The certificate chain.
    pub certificate: String,
    /// Its private key.
    pub private_key: String,
    /// The roots of the server.
    pub roots: String,
    /// Revocation lists.
    pub revocation_list: String,
    /// Why there is nothing to be had.
    pub problem: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("problem", &self.problem).finish_non_exhaustive()
    }
}

/// A peer expectation that can be a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected(pub PeerExpectation);

impl std::hash::Hash for Expected {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.ids.hash(state);
        self.0.trust_domains.hash(state);
    }
}

/// A service as one client reaches it.
#[derive(Debug, Serialize)]
pub struct Destination {
    /// The host.
    pub host: Arc<str>,
    /// The service's name.
    pub name: Arc<str>,
    /// The service's namespace.
    pub namespace: Arc<str>,
    /// The captured addresses.
    #[serde(serialize_with = "nets")]
    pub addresses: Vec<IpNet>,
    /// Addresses that the host was given because it has none; captured too.
    pub allocated: Vec<IpAddr>,
    /// The endpoints' addresses are captured too.
    pub by_endpoint: bool,
    /// The original address is dialled.
    pub passthrough: bool,
    /// Of a name's addresses one is used at a time.
    pub one_address: bool,
    /// The ports.
    pub ports: Vec<Arc<DestinationPort>>,
}

impl Destination {
    /// The host of a Kubernetes Service is `NAME.NAMESPACE.svc.DOMAIN`: the part from `svc` on.
    #[must_use]
    pub fn service_domain(&self) -> Option<&str> {
        let rest = self.host.strip_prefix(&*self.name)?.strip_prefix('.')?.strip_prefix(&*self.namespace)?.strip_prefix('.')?;
        rest.starts_with("svc.").then_some(rest)
    }

    /// Whether it is a Kubernetes Service, by its host.
    #[must_use]
    pub fn is_kubernetes(&self) -> bool {
        self.service_domain().is_some()
    }
}

/// A port of a service.
#[derive(Debug, Serialize)]
pub struct DestinationPort {
    /// The service port.
    pub port: u16,
    /// How it is declared.
    pub protocol: Protocol,
    /// TLS.
    pub tls: ClientTls,
    /// Whom to dial.
    pub endpoints: Vec<Endpoint>,
    /// Whether some of them are names.
    #[serde(skip)]
    pub names: bool,
    /// The object that decided `tls`.
    pub decided_by: String,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// Its address, or a name to resolve.
    pub address: Address,
    /// Its port.
    pub port: u16,
    /// Its workload, empty when unknown.
    pub workload: Arc<str>,
    /// Whether TLS is used towards it.
    pub tls: bool,
    /// Its labels.
    pub labels: Labels,
}

/// An address, or a name to resolve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Address {
    /// An IP address.
    Ip(IpAddr),
    /// A host name.
    Name(Arc<str>),
}

impl Endpoint {
    /// The socket address, when the endpoint is given by its IP address.
    #[must_use]
    pub fn socket(&self) -> Option<SocketAddr> {
        match self.address {
            Address::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Address::Name(_) => None,
        }
    }
}

#[cfg(test)]
impl DestinationPort {
    /// A port without endpoints, in clear.
    pub(crate) fn plain(port: u16, protocol: Protocol) -> Self {
        let tls = ClientTls {
            mode: ClientMode::Disable,
            sni: String::new(),
            subject_alt_names: Vec::new(),
            peer: Expected::default(),
            from_host_header: false,
            client_certificate: String::new(),
            private_key: String::new(),
            ca_certificates: String::new(),
            ca_crl: String::new(),
            insecure_skip_verify: false,
            credential_name: String::new(),
            credential: None,
        };
        Self { port, protocol, tls, endpoints: Vec::new(), names: false, decided_by: String::new() }
    }
}
