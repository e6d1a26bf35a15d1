//! What there is on this machine, and what is expected of it, step by step.

use super::files::{self, File};

/// One host of the network: a workload with its programs.
#[derive(Debug)]
pub(crate) struct Workload {
    /// `NAMESPACE/NAME`.
    pub name: &'static str,
    /// The last number of its address 10.91.0.x.
    pub number: u8,
    /// Whether it has a sidecar.
    pub sidecar: bool,
    /// The arguments of `mutua lab` for each of its programs.
    pub programs: &'static [&'static [&'static str]],
}

/// A service, as hosts files and kube-proxy know it; `examples/demo/mesh` says the same.
#[derive(Debug)]
pub(crate) struct Service {
    /// `NAME.NAMESPACE.svc.cluster.local`, or a name outside the cluster.
    pub host: &'static str,
    /// Its address.
    pub address: [u8; 4],
    /// (service port, port of the workload).
    pub ports: &'static [(u16, u16)],
    /// Who answers.
    pub workload: &'static str,
}

/// Where the control plane runs.
pub(crate) const CONTROL_PLANE: (&str, u8) = ("istio-system/istiod", 2);
/// The namespace whose service accounts are the names of its workloads.
pub(crate) const TRUST_DOMAIN: &str = "cluster.local";
/// The caller without a sidecar.
pub(crate) const LEGACY: &str = "legacy/cron";
/// Whose certificate the TLS 1.2 client shows.
pub(crate) const CERTIFICATE_OF: &str = "shop/storefront";

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "shop/storefront",
        number: 11,
        sidecar: true,
        programs: &[&[
            "shop",
            "--name",
            "storefront",
            "--listen",
            "0.0.0.0:8000",
            "--call",
            "http://catalog.shop:8080/items",
            "--call",
            "http://basket.shop/items",
        ]],
    },
    Workload {
        name: "shop/catalog",
        number: 12,
        sidecar: true,
        programs: &[
            &["shop", "--name", "catalog", "--listen", "0.0.0.0:8080"],
            &["shop", "--name", "catalog-metrics", "--listen", "0.0.0.0:9090"],
        ],
    },
    Workload {
        name: "shop/basket",
        number: 13,
        sidecar: true,
        programs: &[&["shop", "--name", "basket", "--listen", "0.0.0.0:8080"]],
    },
    Workload { name: "shop/ledger", number: 14, sidecar: true, programs: &[&["greet", "--listen", "0.0.0.0:9000"]] },
    Workload { name: LEGACY, number: 21, sidecar: false, programs: &[] },
    Workload {
        name: "default/kubernetes",
        number: 22,
        sidecar: false,
        programs: &[&["shop", "--name", "kubernetes", "--listen", "0.0.0.0:6443"]],
    },
    Workload { name: "steady/walker", number: 31, sidecar: true, programs: &[] },
    Workload {
        name: "steady/counter",
        number: 32,
        sidecar: true,
        programs: &[&["shop", "--name", "counter", "--listen", "0.0.0.0:8080"]],
    },
    Workload {
        name: "outside/partner",
        number: 40,
        sidecar: false,
        programs: &[&[
            "partner",
            "--folder",
            "/run/secrets/partner",
            "--name",
            "partner.example.com",
            "--simple",
            "0.0.0.0:8443",
            "--mutual",
            "0.0.0.0:9443",
        ]],
    },
];

pub(crate) const SERVICES: &[Service] = &[
    service("storefront.shop.svc.cluster.local", 11, &[(80, 8000)], "shop/storefront"),
    service("catalog.shop.svc.cluster.local", 12, &[(8080, 8080), (9090, 9090)], "shop/catalog"),
    service("basket.shop.svc.cluster.local", 13, &[(80, 8080)], "shop/basket"),
    service("ledger.shop.svc.cluster.local", 14, &[(9000, 9000)], "shop/ledger"),
    service("vault.shop.svc.cluster.local", 15, &[(8080, 8080)], "shop/catalog"),
    service("counter.steady.svc.cluster.local", 32, &[(80, 8080)], "steady/counter"),
    service("kubernetes.default.svc.cluster.local", 1, &[(443, 6443)], "default/kubernetes"),
    Service {
        host: "partner.example.com",
        address: [10, 96, 1, 10],
        ports: &[(80, 8443), (81, 9443)],
        workload: "outside/partner",
    },
];

const fn service(host: &'static str, number: u8, ports: &'static [(u16, u16)], workload: &'static str) -> Service {
    Service { host, address: [10, 96, 0, number], ports, workload }
}

/// The calls that go on through all steps: (caller, URL, requests on one connection).
pub(crate) const LOAD: &[(&str, &str, u32)] =
    &[("steady/walker", "http://counter.steady/new", 1), ("steady/walker", "http://counter.steady/kept", 100_000)];

/// How a caller calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// HTTP in the clear; who encrypts is the sidecar.
    Http,
    /// TCP, the server speaks first.
    Tcp,
    /// Mesh TLS done by the caller itself, of any version.
    Tls,
    /// The same, with TLS 1.2 as the newest version.
    Tls12,
}

/// Who ends a connection that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refuser {
    /// The caller's sidecar.
    Client,
    /// The sidecar of who is called.
    Server,
}

/// What is expected of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// An answer; mutual TLS between both sidecars, with both identities checked.
    Mtls,
    /// An answer; TLS 1.2 with the caller's own client.
    Tls12,
    /// An answer; TLS to a server outside the mesh, with or without a client certificate.
    Tls {
        /// The server asks for one.
        client_certificate: bool,
    },
    /// An answer, in the clear.
    Plaintext,
    /// No answer, with this reason.
    Refused {
        /// Who refuses.
        by: Refuser,
        /// The reason's stable code.
        code: &'static str,
    },
    /// No answer: the caller's sidecar finds that the server is not who it should be, which no policy can tell
    /// beforehand.
    WrongServer {
        /// The reason's stable code.
        code: &'static str,
        /// What `explain` says of the pair.
        explained: &'static str,
    },
}

/// One call and what is expected of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub from: &'static str,
    /// `HOST:PORT`.
    pub to: &'static str,
    pub by: By,
    pub expect: Expect,
}

/// One step: what is copied into the watched folder, and what holds then.
#[derive(Debug)]
pub(crate) struct Step {
    pub title: &'static str,
    /// Below `examples/demo`.
    pub folder: &'static str,
    pub files: &'static [File],
    /// What a reader should see in it.
    pub remark: &'static str,
    pub rows: &'static [Row],
}

const fn http(from: &'static str, to: &'static str, expect: Expect) -> Row {
    Row { from, to, by: By::Http, expect }
}

const fn refused(by: Refuser, code: &'static str) -> Expect {
    Expect::Refused { by, code }
}

const fn wrong_server(explained: &'static str) -> Expect {
    Expect::WrongServer { code: "PEER_IDENTITY_MISMATCH", explained }
}

/// Plaintext where mTLS is asked for.
const NEEDS_MTLS: Expect = refused(Refuser::Server, "PLAINTEXT_ON_STRICT_PORT");

pub(crate) const STEPS: &[Step] = &[
    Step {
        title: "default: PERMISSIVE, auto mTLS",
        folder: "mesh",
        files: &[],
        remark: "no policy at all: who has a sidecar gets mTLS, who has none is still served",
        rows: &[
            http("steady/walker", "storefront.shop:80", Expect::Mtls),
            http("shop/storefront", "catalog.shop:8080", Expect::Mtls),
            http("shop/storefront", "basket.shop:80", Expect::Mtls),
            Row { from: "shop/storefront", to: "ledger.shop:9000", by: By::Tcp, expect: Expect::Mtls },
            http(LEGACY, "catalog.shop:8080", Expect::Plaintext),
            Row { from: LEGACY, to: "ledger.shop:9000", by: By::Tcp, expect: Expect::Plaintext },
            http("shop/storefront", "kubernetes.default:443", Expect::Plaintext),
            Row { from: LEGACY, to: "catalog.shop:8080", by: By::Tls12, expect: Expect::Tls12 },
        ],
    },
    Step {
        title: "STRICT for a namespace",
        folder: "02-namespace-strict",
        files: files::NAMESPACE_STRICT,
        remark: "who has no sidecar is refused, and told why",
        rows: &[
            http("steady/walker", "storefront.shop:80", Expect::Mtls),
            http("shop/storefront", "catalog.shop:8080", Expect::Mtls),
            Row { from: "shop/storefront", to: "ledger.shop:9000", by: By::Tcp, expect: Expect::Mtls },
            http(LEGACY, "catalog.shop:8080", NEEDS_MTLS),
            Row { from: LEGACY, to: "ledger.shop:9000", by: By::Tcp, expect: NEEDS_MTLS },
        ],
    },
    Step {
        title: "STRICT for the whole mesh",
        folder: "03-mesh-strict",
        files: files::MESH_STRICT,
        remark: "the API server has no sidecar: auto mTLS sees that and sends plaintext",
        rows: &[
            http("shop/storefront", "basket.shop:80", Expect::Mtls),
            http(LEGACY, "counter.steady:80", NEEDS_MTLS),
            http("shop/storefront", "kubernetes.default:443", Expect::Plaintext),
        ],
    },
    Step {
        title: "mTLS to every host, said explicitly",
        folder: "04-mtls-to-every-host",
        files: files::MTLS_TO_EVERY_HOST,
        remark: "a rule for every host takes the choice from auto mTLS: the API server cannot answer TLS",
        rows: &[
            http("shop/storefront", "basket.shop:80", Expect::Mtls),
            http("shop/storefront", "kubernetes.default:443", refused(Refuser::Client, "TLS_PROTOCOL_ERROR")),
        ],
    },
    Step {
        title: "the API server by a rule of its own: DISABLE",
        folder: "05-api-server",
        files: files::API_SERVER,
        remark: "the exact host beats the wildcard: reachable again, everything else stays mTLS",
        rows: &[
            http("shop/storefront", "kubernetes.default:443", Expect::Plaintext),
            http("shop/storefront", "basket.shop:80", Expect::Mtls),
        ],
    },
    Step {
        title: "auto mTLS off",
        folder: "06-auto-mtls-off",
        files: files::AUTO_MTLS_OFF,
        remark: "nobody tells the callers to encrypt, and the namespace is STRICT: every call fails",
        rows: &[
            http("shop/storefront", "catalog.shop:8080", NEEDS_MTLS),
            http("steady/walker", "storefront.shop:80", NEEDS_MTLS),
            http("steady/walker", "counter.steady:80", Expect::Plaintext),
        ],
    },
    Step {
        title: "a DestinationRule for all hosts of the namespace: ISTIO_MUTUAL",
        folder: "07-enable-mtls",
        files: files::ENABLE_MTLS,
        remark: "with the rule the same calls are mTLS",
        rows: &[
            http("shop/storefront", "catalog.shop:8080", Expect::Mtls),
            http("steady/walker", "storefront.shop:80", Expect::Mtls),
            Row { from: "shop/storefront", to: "ledger.shop:9000", by: By::Tcp, expect: Expect::Mtls },
            http(LEGACY, "catalog.shop:8080", NEEDS_MTLS),
        ],
    },
    Step {
        title: "workload and port",
        folder: "08-workload-and-port",
        files: files::WORKLOAD_AND_PORT,
        remark: "the catalog is STRICT but for port 9090, the basket is PERMISSIVE but for port 8080",
        rows: &[
            http("shop/storefront", "catalog.shop:8080", Expect::Mtls),
            http("shop/storefront", "catalog.shop:9090", Expect::Plaintext),
            http(LEGACY, "catalog.shop:8080", NEEDS_MTLS),
            http(LEGACY, "catalog.shop:9090", Expect::Plaintext),
            http(LEGACY, "basket.shop:80", NEEDS_MTLS),
        ],
    },
    Step {
        title: "a DestinationRule DISABLE against STRICT",
        folder: "09-disable-against-strict",
        files: files::DISABLE_AGAINST_STRICT,
        remark: "the caller is told to send plaintext, the server does not take it",
        rows: &[
            http("shop/storefront", "catalog.shop:8080", NEEDS_MTLS),
            http("shop/storefront", "basket.shop:80", Expect::Mtls),
        ],
    },
    Step {
        title: "TLS to a server outside the mesh: SIMPLE and MUTUAL",
        folder: "10-tls-origination",
        files: files::TLS_ORIGINATION,
        remark: "the application calls over plain HTTP, its sidecar speaks TLS",
        rows: &[
            http("shop/storefront", "partner.example.com:80", Expect::Tls { client_certificate: false }),
            http("shop/storefront", "partner.example.com:81", Expect::Tls { client_certificate: true }),
        ],
    },
    Step {
        title: "the wrong server answers",
        folder: "11-wrong-server",
        files: files::WRONG_SERVER,
        remark: "behind the vault stands the catalog, and the partner's certificate holds another name: the caller refuses both",
        rows: &[
            http("shop/storefront", "vault.shop:8080", wrong_server("mtls")),
            http("shop/storefront", "partner.example.com:80", wrong_server("tls")),
        ],
    },
    Step {
        title: "minimum TLS version TLSV1_3",
        folder: "12-minimum-tls-version",
        files: files::MINIMUM_TLS_VERSION,
        remark: "a TLS 1.2 client is refused although its certificate is good; the same client with TLS 1.3 is served",
        rows: &[
            Row { from: LEGACY, to: "catalog.shop:8080", by: By::Tls12, expect: refused(Refuser::Server, "TLS_VERSION_TOO_LOW") },
            Row { from: LEGACY, to: "catalog.shop:8080", by: By::Tls, expect: Expect::Mtls },
            http("shop/storefront", "catalog.shop:8080", Expect::Mtls),
        ],
    },
];

/// The workload of that name.
pub(crate) fn workload(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|workload| workload.name == name)
}

/// Who answers at `HOST:PORT`, and on which port of its own.
pub(crate) fn callee(to: &str) -> Option<(&'static Workload, u16)> {
    let (host, port) = to.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let full = format!("{host}.svc.cluster.local");
    let service = SERVICES.iter().find(|service| service.host == host || service.host == full)?;
    let (_, target) = service.ports.iter().find(|(number, _)| *number == port)?;
    Some((workload(service.workload)?, *target))
}

impl Workload {
    /// Its SPIFFE id: the service account is named as the workload.
    pub fn identity(&self) -> String {
        let (namespace, name) = self.name.split_once('/').unwrap_or(("", self.name));
        format!("spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{name}")
    }
}

#[cfg(test)]
#[path = "scenario_tests.rs"]
mod tests;
