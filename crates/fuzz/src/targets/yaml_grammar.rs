//! Meshes as they could be, and nearly; and YAML of every shape.

use std::fmt::Write;

use crate::Random;

pub(super) const WORDS: &[&[u8]] = &[
    b"---\n",
    b"apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n",
    b"apiVersion: networking.istio.io/v1\nkind: DestinationRule\n",
    b"kind: Sidecar\n",
    b"kind: List\nitems:\n",
    b"metadata: {name: a, namespace: b}\n",
    b"spec:\n",
    b"  mtls: {mode: STRICT}\n",
    b"  host: \"*.local\"\n",
    b"  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n",
    b"  portLevelMtls: {80: {mode: DISABLE}}\n",
    b"&a ",
    b"*a",
    b"<<: *a\n",
    b"!!binary ",
    b"|+\n",
    b">-\n",
    b"? ",
    b"[",
    b"{",
    b"\"\\u0000\"",
    b"\"\\e[31m\"",
    b"\t",
    b"\r\n",
    b"\xef\xbb\xbf",
    b"# ",
    b"%YAML 1.2\n---\n",
    b"null",
    b"~",
    b"0x1F",
    b"1e999",
    b"security.istio.io/tlsMode: istio",
    b"kiali.io/ignore-validations: \"\"",
    b"networking.istio.io/exportTo: \"~\"",
];

/// Where connections are tried to.
pub(super) const DESTINATIONS: [&str; 9] = [
    "web.shop:8000",
    "web.shop:9000",
    "db.shop.svc.cluster.local:5432",
    "api.example.com:443",
    "10.0.0.1:80",
    "10.96.0.1:8000",
    "web:8000",
    "nowhere:1",
    "[::1]:80",
];

const NAMESPACES: [&str; 4] = ["istio-system", "shop", "legacy", "default"];
const MODES: [&str; 6] = ["UNSET", "DISABLE", "PERMISSIVE", "STRICT", "STRICT", "MUTUAL"];
const HOSTS: [&str; 9] = [
    "*",
    "*.local",
    "*.shop.svc.cluster.local",
    "web",
    "web.shop",
    "web.shop.svc.cluster.local",
    "db.shop.svc.cluster.local",
    "api.example.com",
    "*.example.com",
];

/// A mesh of a few namespaces, with rules of every kind.
pub(super) fn mesh(random: &mut Random) -> Vec<u8> {
    let mut text = BASE.to_owned();
    for number in 0..random.between(1, 7) {
        let document = match random.below(9) {
            0..=2 => peer_authentication(random),
            3..=5 => destination_rule(random),
            6 => sidecar(random),
            7 => service_entry(random),
            _ => istio(random),
        };
        let namespace = random.one_of(&NAMESPACES);
        let time = random.one_of(&[
            "",
            ", creationTimestamp: \"2024-01-01T00:00:00Z\"",
            ", annotations: {kiali.io/ignore-validations: \"\"}",
        ]);
        let _ = writeln!(text, "---\n{document}metadata: {{name: n{number}, namespace: {namespace}{time}}}");
    }
    text.into_bytes()
}

fn peer_authentication(random: &mut Random) -> String {
    let (mode, port) = (random.one_of(&MODES), random.one_of(&MODES));
    let selector =
        random.one_of(&["", "selector: {matchLabels: {app: web}}, ", "selector: {}, ", "selector: {matchLabels: {app: none}}, "]);
    let ports = match random.below(3) {
        0 => format!(", portLevelMtls: {{{}: {{mode: {port}}}}}", random.one_of(&["80", "8080", "5432", "0", "70000", "\"80\""])),
        _ => String::new(),
    };
    let mtls = random.one_of(&["mtls: {mode: ", "mtls: {mode: ", "mTLS: {mode: "]);
    format!("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nspec: {{{selector}{mtls}{mode}}}{ports}}}\n")
}

fn tls(random: &mut Random) -> &'static str {
    random.one_of(&[
        "tls: {mode: DISABLE}",
        "tls: {mode: ISTIO_MUTUAL}",
        "tls: {mode: SIMPLE}",
        "tls: {mode: SIMPLE, caCertificates: /r.pem, sni: a.b, subjectAltNames: [a, a]}",
        "tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /r}",
        "tls: {mode: MUTUAL, credentialName: secret}",
        "tls: {}",
        "connectionPool: {tcp: {maxConnections: 1}}",
        "tls: {mode: SIMPLE, insecureSkipVerify: true}",
    ])
}

fn destination_rule(random: &mut Random) -> String {
    let host = random.one_of(&HOSTS);
    let mut spec = format!("host: \"{host}\"");
    if !random.once_in(6) {
        let port = random.one_of(&[8000, 9000, 5432, 443, 0]);
        let ports = if random.once_in(2) {
            format!(", portLevelSettings: [{{port: {{number: {port}}}, {}}}]", tls(random))
        } else {
            String::new()
        };
        let _ = write!(spec, ", trafficPolicy: {{{}{ports}}}", tls(random));
    }
    if random.once_in(3) {
        let _ = write!(spec, ", subsets: [{{name: v1, labels: {{app: web}}, trafficPolicy: {{{}}}}}]", tls(random));
    }
    if random.once_in(3) {
        let _ = write!(spec, ", exportTo: [{}]", random.one_of(&["\".\"", "\"*\"", "shop", "\"~\"", "\"\""]));
    }
    if random.once_in(4) {
        spec.push_str(", workloadSelector: {matchLabels: {app: web}}");
    }
    format!("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nspec: {{{spec}}}\n")
}

fn sidecar(random: &mut Random) -> String {
    let hosts = random.one_of(&[
        "\"./*\"",
        "\"*/*\"",
        "\"shop/web.shop.svc.cluster.local\"",
        "\"~/*\"",
        "\"istio-system/*\", \"./*\"",
        "\"x\"",
    ]);
    let policy =
        random.one_of(&["", ", outboundTrafficPolicy: {mode: REGISTRY_ONLY}", ", workloadSelector: {labels: {app: web}}"]);
    format!("apiVersion: networking.istio.io/v1\nkind: Sidecar\nspec: {{egress: [{{hosts: [{hosts}]}}]{policy}}}\n")
}

fn service_entry(random: &mut Random) -> String {
    let resolution = random.one_of(&["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "X"]);
    let location = random.one_of(&["MESH_EXTERNAL", "MESH_INTERNAL"]);
    let more = random.one_of(&[
        "",
        ", endpoints: [{address: 10.9.9.9, ports: {https: 8443}}]",
        ", addresses: [10.96.7.7, 10.97.0.0/16]",
        ", workloadSelector: {labels: {app: web}}",
        ", endpoints: [{address: a.example}]",
        ", subjectAltNames: [\"spiffe://cluster.local/ns/shop/sa/web\"]",
    ]);
    let protocol = random.one_of(&["TLS", "HTTPS", "HTTP", "TCP", "GRPC", "UDP", "nonsense"]);
    let port = format!("{{number: 443, name: https, protocol: {protocol}}}");
    let host = random.one_of(&["api.example.com", "*.example.com", "web.shop.svc.cluster.local", ""]);
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nspec: {{hosts: [\"{host}\"], ports: [{port}], resolution: {resolution}, location: {location}{more}}}\n"
    )
}

fn istio(random: &mut Random) -> String {
    let config = random.one_of(&[
        "enableAutoMtls: false",
        "trustDomain: other.example, trustDomainAliases: [cluster.local]",
        "outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
        "rootNamespace: shop",
        "meshMTLS: {minProtocolVersion: TLSV1_3, cipherSuites: [X]}",
        "tlsDefaults: {ecdhCurves: [P-256, X]}",
        "defaultDestinationRuleExportTo: [\".\"]",
    ]);
    format!(
        "apiVersion: sailoperator.io/v1\nkind: Istio\nspec: {{namespace: istio-system, values: {{meshConfig: {{{config}}}}}}}\n"
    )
}

/// YAML that means a mesh, nothing, or more than it seems.
pub(super) fn text(random: &mut Random) -> Vec<u8> {
    if random.once_in(2) {
        let mut text = mesh(random);
        if random.once_in(8) {
            text = [b"\xef\xbb\xbf".to_vec(), text].concat();
        }
        if random.once_in(8) {
            text = String::from_utf8_lossy(&text).replace('\n', "\r\n").into_bytes();
        }
        return text;
    }
    let mut text = random.one_of(&["", "---\n", "%YAML 1.2\n---\n", "kind: List\napiVersion: v1\nitems:\n- "]).to_owned();
    node(random, 0, &mut text);
    text.push('\n');
    text.into_bytes()
}

fn node(random: &mut Random, depth: usize, out: &mut String) {
    if random.once_in(12) {
        let _ = write!(out, "&a{} ", random.below(3));
    }
    if random.once_in(20) {
        out.push_str(random.one_of(&["!!str ", "!!int ", "!x ", "!!binary ", "!<tag:yaml.org,2002:map> "]));
    }
    if depth > 5 {
        return scalar(random, out);
    }
    let indent = "  ".repeat(depth + 1);
    match random.below(8) {
        0 | 1 => {
            for _ in 0..random.between(1, 4) {
                let _ = write!(out, "\n{indent}");
                key(random, out);
                out.push_str(": ");
                node(random, depth + 1, out);
            }
        }
        2 => {
            for _ in 0..random.between(1, 3) {
                let _ = write!(out, "\n{indent}- ");
                node(random, depth + 1, out);
            }
        }
        3 => {
            out.push('{');
            for _ in 0..random.below(4) {
                key(random, out);
                out.push_str(": ");
                scalar(random, out);
                out.push_str(", ");
            }
            out.push('}');
        }
        4 => {
            let _ = write!(out, "{}\n{indent}line\n{indent} more\n{indent}", random.one_of(&["|", ">", "|-", ">+", "|2"]));
        }
        5 => {
            let _ = write!(out, "*a{}", random.below(3));
        }
        _ => scalar(random, out),
    }
}

fn key(random: &mut Random, out: &mut String) {
    out.push_str(random.one_of(&[
        "kind",
        "apiVersion",
        "metadata",
        "name",
        "namespace",
        "spec",
        "labels",
        "mtls",
        "mode",
        "items",
        "80",
        "<<",
        "\"a b\"",
        "? x",
        "on",
        "~",
        "{a: b}",
    ]));
}

fn scalar(random: &mut Random, out: &mut String) {
    match random.below(4) {
        0 => {
            out.push_str(random.one_of(&[
                "Pod",
                "Service",
                "PeerAuthentication",
                "v1",
                "security.istio.io/v1",
                "shop",
                "STRICT",
            ]));
        }
        1 => out.push_str(random.one_of(&[
            "1",
            "-0",
            "0o17",
            "0x1f",
            ".inf",
            "1_000",
            "true",
            "no",
            "null",
            "2001-01-01",
            "99999999999999999999",
        ])),
        2 => {
            let _ = write!(out, "{:?}", random.text());
        }
        _ => out.push_str(&random.text().replace('\n', " ")),
    }
}

/// Workloads with and without a sidecar, a service with a cluster address, one without.
const BASE: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{name: http, port: 8000, targetPort: 80}, {name: tcp, port: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: tcp-pg, port: 5432}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: web, containers: [{name: c, ports: [{containerPort: 80}, {containerPort: 8080}]}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: db-1, namespace: shop, labels: {app: db}}
status: {podIP: 10.0.0.2}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, namespace: legacy}
spec: {address: 10.0.0.3, labels: {app: web}, serviceAccount: vm}
";
