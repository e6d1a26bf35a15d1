//! Codes over meshes written as users write them: what raises each, and a near miss that does not.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Asked, codes};
use crate::Engine;
use crate::tests::{BASE, istio, policy, rule};

/// Code, object, path, documents that raise it, and documents that do not.
pub(super) type Row = (&'static str, &'static str, &'static str, String, String);

const STRICT: &str = "{mtls: {mode: STRICT}}";
const ALL: &str = "{egress: [{hosts: [\"*/*\"]}]}";
const WEB: &str = "selector: {matchLabels: {app: web}}";

/// A day after the end of the older certificate of `CACERTS`.
pub(super) const NOW: i64 = 1_772_452_800;
const DAY: i64 = 86_400;
const CACERTS: &str = include_str!("cacerts.yaml");

fn found(more: &str) -> Vec<(&'static str, String, String)> {
    found_at(more, &Asked { now: Some(NOW), include: vec!["KIA1301"] })
}

fn found_at(more: &str, asked: &Asked) -> Vec<(&'static str, String, String)> {
    let loaded = mutua_model::read::Inputs::from_texts([("base.yaml", BASE), ("more.yaml", more)]).load().expect("readable");
    let errors: Vec<_> = loaded.errors().collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let findings = super::analyze(&Engine::new(Arc::new(loaded.mesh)), asked);
    for finding in &findings {
        assert!(!finding.fix.is_empty() && !finding.message.is_empty(), "{finding:?}");
        assert!(finding.line > 0, "{finding:?}");
    }
    findings.into_iter().map(|one| (one.code, one.object, one.path)).collect()
}

fn object(kind: &str, api: &str, namespace: &str, name: &str, spec: &str) -> String {
    format!("---\napiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n")
}

fn authorization(rules: &str) -> String {
    object("AuthorizationPolicy", "security.istio.io/v1", "bar", "a", &format!("{{{WEB}, rules: [{rules}]}}"))
}

fn sidecar(name: &str, spec: &str) -> String {
    object("Sidecar", "networking.istio.io/v1", "bar", name, spec)
}

fn entry(more: &str) -> String {
    let spec = format!("{{hosts: [api.example.com], ports: [{{number: 443, name: tcp, protocol: TCP}}], {more}}}");
    object("ServiceEntry", "networking.istio.io/v1", "bar", "e", &spec)
}

fn to_web(namespace: &str, name: &str, policy: &str) -> String {
    rule(namespace, name, &format!("{{host: web.bar.svc.cluster.local, trafficPolicy: {{{policy}}}}}"))
}

fn disable(more: &str) -> String {
    format!("{{{WEB}, mtls: {{mode: DISABLE}}{more}}}")
}

/// Codes of Kiali.
fn theirs() -> Vec<Row> {
    let from = |source: &str| authorization(&format!("{{from: [{{source: {{{source}}}}}]}}"));
    let principals = "principals: [cluster.local/ns/foo/sa/sleep]";
    let stopped = policy("bar", "p", "{mtls: {mode: DISABLE}}");
    let own = "AuthorizationPolicy bar/a";
    let remote = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: far, namespace: bar, labels: {topology.istio.io/cluster: far-away}}\nspec: {serviceAccountName: far}\n".to_owned();
    let in_cluster = |name: &str| {
        let values = format!("{{global: {{multiCluster: {{clusterName: {name}}}}}}}");
        istio("{}").replace("{meshConfig: {}}", &values)
    };
    let pool = "connectionPool: {tcp: {maxConnections: 1}}";
    let wide = |namespace: &str, mode: &str| {
        rule(namespace, "wide", &format!("{{host: \"*.bar.svc.cluster.local\", trafficPolicy: {{tls: {{mode: {mode}}}}}}}"))
    };
    vec![
        (
            "KIA0105",
            own,
            "spec/rules[0]/from[0]/source/principals",
            from(principals) + &stopped,
            from(principals) + &policy("bar", "p", STRICT),
        ),
        (
            "KIA0105",
            own,
            "spec/rules[0]/when[0]",
            authorization("{when: [{key: source.namespace, values: [foo]}]}") + &stopped,
            authorization("{when: [{key: source.ip, values: [10.0.0.1]}]}") + &stopped,
        ),
        (
            "KIA0106",
            own,
            "spec/rules[0]/from[0]/source/principals[1]",
            from("principals: [cluster.local/ns/foo/sa/sleep, cluster.local/ns/foo/sa/nobody]"),
            from("principals: [cluster.local/ns/foo/sa/sleep, \"*\", \"*/sa/web\", \"cluster.local/ns/bar/*\"]"),
        ),
        (
            "KIA0108",
            own,
            "spec/rules[0]/from[0]/source/principals[0]",
            from("principals: [other.org/ns/foo/sa/sleep]"),
            from("principals: [other.org/ns/foo/sa/sleep]") + &istio("{trustDomainAliases: [other.org]}"),
        ),
        (
            "KIA0107",
            own,
            "spec/rules[0]/from[0]/source/principals[0]",
            remote.clone() + &from("principals: [cluster.local/ns/bar/sa/far]"),
            remote + &from("principals: [cluster.local/ns/bar/sa/far]") + &in_cluster("far-away"),
        ),
        ("KIA1301", "Pod bar/web", "", authorization("{}").replace("namespace: bar", "namespace: foo"), authorization("{}")),
        ("KIA1301", "Pod bar/web", "", String::new(), authorization("{}").replace("namespace: bar", "namespace: istio-system")),
        (
            "KIA0201",
            "DestinationRule foo/b",
            "spec/host",
            to_web("bar", "a", pool) + &to_web("foo", "b", pool),
            to_web("foo", "b", pool),
        ),
        (
            "KIA0201",
            "DestinationRule bar/a",
            "spec/host",
            to_web("bar", "a", pool) + &wide("bar", "DISABLE"),
            to_web("bar", "a", pool) + &wide("bar", "ISTIO_MUTUAL"),
        ),
        (
            "KIA0204",
            "DestinationRule bar/a",
            "spec/trafficPolicy",
            to_web("bar", "a", pool) + &wide("istio-system", "ISTIO_MUTUAL"),
            to_web("bar", "a", "tls: {mode: DISABLE}") + &wide("istio-system", "ISTIO_MUTUAL"),
        ),
        ("KIA0002", "Sidecar bar/b", "spec/workloadSelector", sidecar("a", ALL) + &sidecar("b", ALL), sidecar("a", ALL)),
        (
            "KIA0003",
            "Sidecar bar/b",
            "spec/workloadSelector",
            sidecar("a", "{workloadSelector: {labels: {app: web}}, egress: [{hosts: [\"*/*\"]}]}")
                + &sidecar("b", "{workloadSelector: {labels: {app: web}}, egress: [{hosts: [\"*/*\"]}]}"),
            sidecar("a", "{workloadSelector: {labels: {app: web}}, egress: [{hosts: [\"*/*\"]}]}") + &sidecar("b", ALL),
        ),
        (
            "KIA0004",
            "Sidecar bar/a",
            "spec/workloadSelector/labels",
            sidecar("a", "{workloadSelector: {labels: {app: none}}, egress: [{hosts: [\"*/*\"]}]}"),
            sidecar("a", "{workloadSelector: {labels: {app: web}}, egress: [{hosts: [\"*/*\"]}]}"),
        ),
    ]
}

/// Codes of istioctl.
fn istioctl() -> Vec<Row> {
    let from = |source: &str| authorization(&format!("{{from: [{{source: {{{source}}}}}]}}"));
    let principals = "principals: [cluster.local/ns/foo/sa/sleep]";
    let own = "AuthorizationPolicy bar/a";
    let whole = |namespace: &str| object("AuthorizationPolicy", "security.istio.io/v1", namespace, "a", "{rules: [{}]}");
    let subset = |version: &str| rule("bar", "r", &format!("{{host: web, subsets: [{{name: v, labels: {{app: {version}}}}}]}}"));
    let wild = object(
        "ServiceEntry",
        "networking.istio.io/v1",
        "bar",
        "e",
        "{hosts: ['*.example.com'], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.9.0.1, labels: {app: vm}}]}",
    );
    let of_wild = |app: &str| wild.clone() + &subset(app).replace("host: web,", "host: api.example.com,");
    vec![
        (
            "IST0101",
            own,
            "spec/rules[0]/from[0]/source/namespaces[0]",
            from("namespaces: [nowhere]"),
            from("namespaces: [\"fo*\"]"),
        ),
        (
            "IST0101",
            "Sidecar bar/a",
            "spec/workloadSelector/labels",
            sidecar("a", &ALL.replace("{egress", "{workloadSelector: {labels: {app: none}}, egress")),
            sidecar("a", &ALL.replace("{egress", "{workloadSelector: {labels: {app: web}}, egress")),
        ),
        ("IST0127", own, "spec/selector", from(principals).replace("app: web", "app: none"), from(principals)),
        ("IST0127", own, "spec/selector", authorization("{}").replace("app: web", "app: old"), authorization("{}")),
        ("IST0127", "AuthorizationPolicy baz/a", "metadata/namespace", whole("baz"), whole("foo")),
        ("IST0173", "DestinationRule bar/r", "spec/subsets[0]/labels", subset("none"), subset("web")),
        ("MUT0032", "DestinationRule bar/r", "spec/subsets[0]/labels", subset("sleep"), subset("web")),
        ("IST0173", "DestinationRule bar/r", "spec/subsets[0]/labels", subset("none"), subset("sleep")),
        ("IST0173", "DestinationRule bar/r", "spec/subsets[0]/labels", of_wild("none"), of_wild("vm")),
        ("IST0174", "DestinationRule bar/r", "spec/host", rule("bar", "r", "{host: web.bar}"), rule("bar", "r", "{host: web}")),
    ]
}

/// Codes of Kiali, where it matters who sees a rule and whose workloads have the labels.
fn scopes() -> Vec<Row> {
    let exported = |to: &str, mode: &str| {
        let spec = format!("{{host: \"*.bar.svc.cluster.local\", exportTo: [{to}], trafficPolicy: {{tls: {{mode: {mode}}}}}}}");
        rule("foo", "wide", &spec)
    };
    let at_mode = |code, raises, does_not| (code, "PeerAuthentication bar/p", "spec/mtls", raises, does_not);
    let strict = istio("{enableAutoMtls: false}") + &policy("bar", "p", STRICT);
    let stopped = policy("bar", "p", "{mtls: {mode: DISABLE}}");
    let selected = |name: &str, label: &str| {
        policy("foo", name, &format!("{{selector: {{matchLabels: {{{label}}}}}, mtls: {{mode: STRICT}}}}"))
    };
    let pool = "connectionPool: {tcp: {maxConnections: 1}}";
    let two = to_web("bar", "a", pool) + &to_web("foo", "b", pool);
    let imports = |hosts: &str| {
        object("Sidecar", "networking.istio.io/v1", "istio-system", "s", &format!("{{egress: [{{hosts: [{hosts}]}}]}}"))
    };
    let principals = authorization("{from: [{source: {principals: [cluster.local/ns/foo/sa/sleep]}}]}");
    let unset = policy("bar", "p", "{mtls: {mode: UNSET}}");
    vec![
        at_mode(
            "KIA0501",
            strict.clone() + &exported("\".\"", "ISTIO_MUTUAL"),
            strict.clone() + &exported("bar", "ISTIO_MUTUAL"),
        ),
        at_mode("KIA0501", strict.clone() + &exported("foo", "ISTIO_MUTUAL"), strict + &exported("nowhere", "ISTIO_MUTUAL")),
        at_mode("KIA0505", stopped.clone() + &exported("\"*\"", "ISTIO_MUTUAL"), stopped + &exported("\".\"", "ISTIO_MUTUAL")),
        (
            "KIA0003",
            "PeerAuthentication foo/b",
            "spec/selector",
            selected("a", "app: web") + &selected("b", "app: web"),
            selected("a", "app: web") + &selected("b", "app: old"),
        ),
        (
            "KIA0201",
            "DestinationRule foo/b",
            "spec/host",
            two.clone() + &imports("\"*/*\""),
            two + &imports("\"*/*\", \"~bar/web.bar.svc.cluster.local\""),
        ),
        (
            "KIA0105",
            "AuthorizationPolicy bar/a",
            "spec/rules[0]/from[0]/source/principals",
            principals.clone() + &unset + &policy("istio-system", "m", STRICT),
            principals + &policy("istio-system", "m", STRICT),
        ),
    ]
}

/// Codes of our own: rules against servers.
fn traffic() -> Vec<Row> {
    let strict = policy("bar", "p", STRICT);
    let tls = |settings: &str| to_web("bar", "r", &format!("tls: {{{settings}}}"));
    let subject = "DestinationRule bar/r";
    let mode = "spec/trafficPolicy/tls/mode";
    let old =
        |mode: &str| rule("bar", "r", &format!("{{host: old.bar.svc.cluster.local, trafficPolicy: {{tls: {{mode: {mode}}}}}}}"));
    let port = |number: u16, settings: &str| {
        to_web("bar", "r", &format!("portLevelSettings: [{{port: {{number: {number}}}, tls: {{{settings}}}}}]"))
    };
    let named = |name: &str| tls(&format!("mode: ISTIO_MUTUAL, subjectAltNames: [\"spiffe://cluster.local/ns/bar/sa/{name}\"]"));
    let pool = "connectionPool: {tcp: {maxConnections: 1}}";
    let exact = to_web("bar", "exact", "tls: {mode: DISABLE}");
    let off = istio("{enableAutoMtls: false}");
    let on_web = policy("bar", "p", &format!("{{{WEB}, mtls: {{mode: STRICT}}}}"));
    vec![
        (
            "MUT0006",
            subject,
            mode,
            strict.clone() + &tls("mode: DISABLE"),
            policy("bar", "p", "{mtls: {mode: PERMISSIVE}}") + &tls("mode: DISABLE"),
        ),
        (
            "MUT0006",
            subject,
            "spec/trafficPolicy/portLevelSettings[0]/tls/mode",
            strict + &port(8000, "mode: DISABLE"),
            policy("bar", "p", &format!("{{{WEB}, mtls: {{mode: STRICT}}, portLevelMtls: {{80: {{mode: PERMISSIVE}}}}}}"))
                + &port(8000, "mode: DISABLE"),
        ),
        ("MUT0007", subject, mode, tls("mode: SIMPLE, caCertificates: /r"), old("SIMPLE, caCertificates: /r")),
        ("MUT0008", subject, mode, old("ISTIO_MUTUAL"), tls("mode: ISTIO_MUTUAL")),
        ("MUT0009", subject, mode, policy("bar", "p", &disable("")) + &tls("mode: ISTIO_MUTUAL"), tls("mode: ISTIO_MUTUAL")),
        ("MUT0010", subject, "spec/trafficPolicy/tls/subjectAltNames", named("other"), named("web")),
        ("MUT0011", subject, "spec/trafficPolicy/tls", old("SIMPLE, sni: x.y"), old("SIMPLE, sni: x.y, subjectAltNames: [x.y]")),
        (
            "MUT0012",
            "PeerAuthentication bar/p",
            "spec/mtls/mode",
            off.clone() + &on_web,
            off + &on_web + &tls("mode: ISTIO_MUTUAL"),
        ),
        (
            "MUT0013",
            "DestinationRule foo/r",
            "spec/host",
            exact.clone() + &rule("foo", "r", &format!("{{host: \"*\", trafficPolicy: {{{pool}}}}}")),
            exact.clone() + &rule("foo", "r", &format!("{{host: old.bar.svc.cluster.local, trafficPolicy: {{{pool}}}}}")),
        ),
        (
            "MUT0014",
            "DestinationRule bar/exact",
            "spec/trafficPolicy",
            to_web("bar", "a", pool) + &exact,
            rule("bar", "a", "{host: web.bar.svc.cluster.local, subsets: [{name: v, labels: {app: web}}]}") + &exact,
        ),
    ]
}

/// A rule that takes its roots from a secret.
fn credentials() -> Vec<Row> {
    let subject = "DestinationRule bar/r";
    let old = |more: &str, roots: &str| {
        let settings = format!("trafficPolicy: {{tls: {{mode: SIMPLE, {roots}}}}}");
        rule("bar", "r", &format!("{{host: old.bar.svc.cluster.local, {more}{settings}}}"))
    };
    let selecting = |roots: &str| old("workloadSelector: {matchLabels: {app: web}}, ", roots);
    let credential = "spec/trafficPolicy/tls/credentialName";
    let map = "credentialName: \"configmap://bar/roots\"";
    let secret = |name: &str, values: &str| {
        format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: bar}}\nstringData: {{{values}}}\n")
    };
    let roots = |kind: &str| {
        format!("---\napiVersion: v1\nkind: {kind}\nmetadata: {{name: roots, namespace: bar}}\ndata: {{ca.crt: AAAA}}\n")
    };
    let named = || selecting("credentialName: c");
    vec![
        ("MUT0033", subject, credential, named(), selecting("caCertificates: /r")),
        ("MUT0033", subject, credential, named() + &secret("c", "tls.crt: x"), named() + &secret("c", "ca.crt: x")),
        ("MUT0033", subject, credential, named() + &secret("c", "ca.crt: [x]"), named() + &secret("c-cacert", "cacert: x")),
        ("MUT0033", subject, credential, old("", map), old("", "credentialName: c")),
        ("MUT0033", subject, credential, old("", map) + &roots("Secret"), old("", map) + &roots("ConfigMap")),
    ]
}

const HEADLESS: &str = r"---
apiVersion: v1
kind: Service
metadata: {name: head, namespace: bar}
spec: {clusterIP: None, selector: {tier: x}, ports: [{name: tcp, port: 90}]}
---
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: bar, labels: {tier: x, security.istio.io/tlsMode: istio}}
status: {podIP: 10.0.1.1}
---
apiVersion: v1
kind: Pod
metadata: {name: two, namespace: bar, labels: {tier: x}}
status: {podIP: 10.0.1.2}
";

/// Codes of our own: services and single objects.
fn traps() -> Vec<Row> {
    let both = HEADLESS.replace(
        "{tier: x}}\nstatus: {podIP: 10.0.1.2}",
        "{tier: x, security.istio.io/tlsMode: istio}}\nstatus: {podIP: 10.0.1.2}",
    );
    let on_head = policy("bar", "p", "{selector: {matchLabels: {tier: x}}, portLevelMtls: {90: {mode: DISABLE}}}");
    let tls = |policy: &str| to_web("bar", "r", policy);
    let subject = "DestinationRule bar/r";
    let service = "Service bar/head";
    let endpoint = |more: &str| format!("resolution: STATIC, endpoints: [{{address: 192.0.2.1{more}}}]");
    let inside = |more: &str| entry(&format!("{}, location: MESH_INTERNAL", endpoint(more)));
    let marked = ", labels: {security.istio.io/tlsMode: istio}";
    let pod = |mode: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: odd, namespace: bar, labels: {{security.istio.io/tlsMode: {mode}}}}}\n"
        )
    };
    let outer = "tls: {mode: ISTIO_MUTUAL}, portLevelSettings: [{port: {number: 8000}, ";
    let normal = HEADLESS.replace("clusterIP: None", "clusterIP: 10.96.0.9");
    vec![
        (
            "MUT0015",
            "ServiceEntry bar/e",
            "spec/location",
            entry(&endpoint(", serviceAccount: api")),
            inside(", serviceAccount: api"),
        ),
        ("MUT0016", service, "spec/clusterIP", HEADLESS.to_owned(), normal),
        ("MUT0017", "PeerAuthentication bar/p", "spec/portLevelMtls/90/mode", both.clone() + &on_head, both),
        ("MUT0018", "ServiceEntry bar/e", "spec", inside(marked), inside(", serviceAccount: api")),
        ("MUT0019", "ServiceEntry bar/e", "spec/addresses", entry("resolution: NONE"), entry("resolution: DNS")),
        ("MUT0020", subject, "spec/trafficPolicy/tls", tls("tls: {}"), tls("tls: {mode: DISABLE}")),
        (
            "MUT0021",
            subject,
            "spec/trafficPolicy/portLevelSettings[0]",
            tls(&format!("{outer}connectionPool: {{tcp: {{maxConnections: 1}}}}}}]")),
            tls(&format!("{outer}tls: {{mode: ISTIO_MUTUAL}}}}]")),
        ),
        ("MUT0022", "PeerAuthentication bar/p", "spec/mtls/mode", policy("bar", "p", "{mtls: {}}"), policy("bar", "p", STRICT)),
        ("MUT0023", "Pod bar/odd", "metadata/labels", pod("Istio"), pod("disabled")),
        ("MUT0024", "AuthorizationPolicy bar/a", "", authorization("{}"), String::new()),
        (
            "MUT0025",
            "PeerAuthentication bar/p",
            "spec/mtls/mode",
            policy("bar", "p", STRICT),
            policy("bar", "p", "{mtls: {mode: PERMISSIVE}}"),
        ),
    ]
}

/// Codes of our own: callers and authorities.
fn callers() -> Vec<Row> {
    let subject = "PeerAuthentication bar/p";
    let on = |app: &str, mode: &str| {
        policy("bar", "p", &format!("{{selector: {{matchLabels: {{app: {app}}}}}, mtls: {{mode: {mode}}}}}"))
    };
    let port = |number: u16| policy("bar", "p", &format!("{{{WEB}, portLevelMtls: {{{number}: {{mode: STRICT}}}}}}"));
    let other = CACERTS.replace("name: cacerts", "name: other");
    vec![
        ("MUT0026", subject, "spec/mtls/mode", on("web", "STRICT"), on("web", "PERMISSIVE")),
        ("MUT0026", subject, "spec/mtls/mode", on("web", "STRICT"), on("old", "STRICT")),
        ("MUT0026", subject, "spec/portLevelMtls/90/mode", port(90), port(91)),
        ("MUT0027", "Secret istio-system/cacerts", "data/root-cert.pem", CACERTS.to_owned(), other),
    ]
}

/// Codes of our own: trust domains, and the floor of TLS.
fn trust() -> Vec<Row> {
    let (subject, config) = ("DestinationRule bar/r", "Istio default");
    let field = "spec/trafficPolicy/tls/subjectAltNames";
    let id = |domain: &str| format!("[\"spiffe://{domain}/ns/bar/sa/web\"]");
    let names = |domain: &str| to_web("bar", "r", &format!("tls: {{mode: ISTIO_MUTUAL, subjectAltNames: {}}}", id(domain)));
    let origin = to_web("bar", "r", "tls: {mode: SIMPLE, caCertificates: /r}");
    let callers = "caCertificates: [{pem: x, trustDomains: [td2]}]";
    let alias = "trustDomainAliases: [td2]";
    let floor = istio("{meshMTLS: {minProtocolVersion: TLSV1_3}}");
    let annotation = "alpha.istio.io/canonical-serviceaccounts";
    let annotated = |domain: &str| {
        let meta = format!("{{name: s, namespace: bar, annotations: {{{annotation}: \"spiffe://{domain}/ns/x/sa/y\"}}}}");
        format!("---\napiVersion: v1\nkind: Service\nmetadata: {meta}\nspec: {{ports: [{{name: tcp, port: 90}}]}}\n")
    };
    let entry_of =
        |location: &str| entry(&format!("resolution: STATIC, location: {location}, subjectAltNames: {}", id("old.org")));
    vec![
        ("MUT0029", subject, field, names("old.org"), names("cluster.local")),
        ("MUT0029", subject, field, names("td2"), names("td2") + &istio(&format!("{{{alias}}}"))),
        ("MUT0029", "ServiceEntry bar/e", "spec/subjectAltNames", entry_of("MESH_INTERNAL"), entry_of("MESH_EXTERNAL")),
        (
            "MUT0029",
            "Service bar/s",
            "metadata/annotations/alpha.istio.io/canonical-serviceaccounts",
            annotated("old.org"),
            annotated("cluster.local"),
        ),
        (
            "MUT0030",
            config,
            "spec/values/meshConfig/trustDomainAliases",
            istio(&format!("{{{callers}}}")),
            istio(&format!("{{{callers}, {alias}}}")),
        ),
        (
            "MUT0030",
            config,
            "spec/values/meshConfig/trustDomainAliases",
            istio(&format!("{{{callers}}}")),
            istio("{caCertificates: [{pem: x, trustDomains: [\"*\"]}]}"),
        ),
        (
            "MUT0031",
            config,
            "spec/values/meshConfig/meshMTLS/minProtocolVersion",
            floor.clone() + &origin,
            floor + &names("cluster.local"),
        ),
    ]
}

/// They have no sidecar either, and call nobody in the mesh.
#[test]
fn who_belongs_to_the_cluster_or_the_control_plane_is_no_caller() {
    let told = |namespaces: &[&str]| {
        let pod =
            |namespace: &&str| format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: bare, namespace: {namespace}}}\n");
        let more =
            policy("bar", "p", &format!("{{{WEB}, mtls: {{mode: STRICT}}}}")) + &namespaces.iter().map(pod).collect::<String>();
        let loaded = mutua_model::read::Inputs::from_texts([("base.yaml", BASE), ("more.yaml", &more)]).load().expect("readable");
        let findings = super::analyze(&Engine::new(Arc::new(loaded.mesh)), &Asked::default());
        findings.into_iter().find(|one| one.code == "MUT0026").expect("the base has callers").message
    };
    let base = told(&[]);
    for namespace in ["kube-system", "istio-system"] {
        assert_eq!(told(&[namespace]), base);
    }
    assert_ne!(told(&["baz"]), base);
}

#[test]
fn certificates_are_held_against_the_time_given() {
    let codes = |now: Option<i64>| -> Vec<_> {
        let asked = Asked { now, include: Vec::new() };
        found_at(CACERTS, &asked).into_iter().map(|(code, _, path)| format!("{code} {path}")).collect()
    };
    let (root, issuer) = ("data/root-cert.pem", "data/ca-cert.pem");
    let end = 1_772_366_400;
    assert_eq!(codes(None), [""; 0]);
    assert_eq!(codes(Some(end - 31 * DAY)), [""; 0]);
    assert_eq!(codes(Some(end - 29 * DAY)), [format!("MUT0028 {root}")]);
    assert_eq!(codes(Some(end)), [format!("MUT0028 {root}")]);
    assert_eq!(codes(Some(end + 1)), [format!("MUT0027 {root}")]);
    // Before the other's first second.
    assert_eq!(codes(Some(1_767_225_599)), [format!("MUT0027 {issuer}")]);
}

/// All rows.
pub(super) fn rows() -> impl Iterator<Item = Row> {
    let own = traffic().into_iter().chain(credentials()).chain(traps()).chain(callers()).chain(trust());
    theirs().into_iter().chain(istioctl()).chain(scopes()).chain(own)
}

/// The codes that are shown here.
pub(super) fn shown() -> BTreeSet<&'static str> {
    let mut seen = BTreeSet::new();
    for (code, object, path, hit, miss) in rows() {
        let is = |one: &(&str, String, String)| one.0 == code && one.1 == object && one.2 == path;
        let hits = found(&hit);
        assert!(hits.iter().any(is), "{code} on {object} at {path}: {hits:#?}\n{hit}");
        let misses = found(&miss);
        assert!(
            !misses.iter().any(|one| one.0 == code && one.1 == object),
            "near miss of {code} on {object}: {misses:#?}\n{miss}"
        );
        seen.insert(code);
    }
    // By `certificates_are_held_against_the_time_given`.
    seen.insert("MUT0028");
    seen
}

#[test]
fn one_finding_per_field_whatever_the_number_of_services() {
    let many: String = (0..20)
        .map(|at| {
            format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{at}, namespace: bar}}\nspec: {{selector: {{app: web}}, ports: [{{name: tcp, port: 90}}]}}\n")
        })
        .collect();
    let more = many + &policy("bar", "p", STRICT) + &rule("foo", "r", "{host: \"*\", trafficPolicy: {tls: {mode: DISABLE}}}");
    let count = found(&more).iter().filter(|one| one.0 == "MUT0006").count();
    assert_eq!(count, 1);
}

#[test]
fn the_base_mesh_is_clean() {
    assert_eq!(found_at("", &Asked::default()), []);
    assert!(codes::all().count() > 45);
}
