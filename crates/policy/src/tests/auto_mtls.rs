//! What a client's sidecar does when no rule says so.

use mutua_model::ClientTlsMode;

use super::*;

const OFF: &str = "{enableAutoMtls: false}";

fn tls(more: &str) -> (ClientTlsMode, bool) {
    let answer = ask(&engine(more), "foo/sleep", "web.bar:8000");
    (answer.client.tls, answer.client.auto)
}

/// The consequences table: server policy, auto mTLS, rule, whether the server has a sidecar, outcome.
#[test]
fn consequences() {
    let to_web = |mode: &str| {
        rule("bar", "r", &format!("{{host: \"*.bar.svc.cluster.local\", trafficPolicy: {{tls: {{mode: {mode}}}}}}}"))
    };
    let namespace = |mode: &str| policy("bar", "default", &format!("{{mtls: {{mode: {mode}}}}}"));
    let on_workload =
        |mode: &str| policy("bar", "w", &format!("{{selector: {{matchLabels: {{app: web}}}}, mtls: {{mode: {mode}}}}}"));
    let on_port = policy("bar", "w", "{selector: {matchLabels: {app: web}}, portLevelMtls: {80: {mode: DISABLE}}}");
    for (server, more, to, expected) in [
        (String::new(), String::new(), "web", Outcome::Mtls),
        (namespace("STRICT"), String::new(), "web", Outcome::Mtls),
        (namespace("PERMISSIVE"), String::new(), "web", Outcome::Mtls),
        (namespace("STRICT"), String::new(), "old", Outcome::Plaintext),
        (namespace("DISABLE"), String::new(), "web", Outcome::Plaintext),
        (on_workload("DISABLE"), String::new(), "web", Outcome::Plaintext),
        (on_port, String::new(), "web", Outcome::Plaintext),
        (namespace("STRICT"), istio(OFF), "web", Outcome::Refused),
        (namespace("PERMISSIVE"), istio(OFF), "web", Outcome::Plaintext),
        (namespace("STRICT"), istio(OFF) + &to_web("ISTIO_MUTUAL"), "web", Outcome::Mtls),
        (namespace("PERMISSIVE"), to_web("ISTIO_MUTUAL"), "old", Outcome::Refused),
        (namespace("PERMISSIVE"), to_web("DISABLE"), "web", Outcome::Plaintext),
        (namespace("STRICT"), to_web("DISABLE"), "web", Outcome::Refused),
        (namespace("DISABLE"), to_web("ISTIO_MUTUAL"), "web", Outcome::Refused),
        (namespace("DISABLE") + &on_workload("STRICT"), String::new(), "web", Outcome::Refused),
    ] {
        let answer = ask(&engine(&(server.clone() + &more)), "foo/sleep", &format!("{to}.bar:8000"));
        assert_eq!(answer.outcome, expected, "{server}{more} -> {to}: {answer:#?}");
    }
}

#[test]
fn server_name_and_identities_are_istios() {
    let client = ask(&engine(""), "foo/sleep", "web.bar:8000").client;
    assert_eq!(client.sni.as_deref(), Some("outbound_.8000_._.web.bar.svc.cluster.local"));
    assert_eq!(client.subject_alt_names, ["spiffe://cluster.local/ns/bar/sa/web"]);
    let aliased = istio("{trustDomain: me.corp, trustDomainAliases: [old.corp]}");
    let client = ask(&engine(&aliased), "foo/sleep", "web.bar:8000").client;
    assert_eq!(client.subject_alt_names, ["spiffe://me.corp/ns/bar/sa/web", "spiffe://old.corp/ns/bar/sa/web"]);
    assert_eq!(
        ask(&engine(""), "foo/sleep", "old.bar:8000").client.subject_alt_names,
        ["spiffe://cluster.local/ns/bar/sa/default"]
    );
}

#[test]
fn a_rule_without_tls_leaves_auto_mtls_on_and_an_empty_tls_turns_it_off() {
    let host = "host: web.bar.svc.cluster.local";
    let pool = format!("{{{host}, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 1}}}}}}}}");
    assert_eq!(tls(&rule("bar", "r", &pool)), (ClientTlsMode::IstioMutual, true));
    assert_eq!(tls(&rule("bar", "r", &format!("{{{host}, trafficPolicy: {{tls: {{}}}}}}"))), (ClientTlsMode::Disable, false));
    let named = format!("{{{host}, trafficPolicy: {{tls: {{sni: x.y}}}}}}");
    assert_eq!(tls(&rule("bar", "r", &named)), (ClientTlsMode::Disable, false), "a name is no mode");
}

#[test]
fn strict_and_permissive_are_the_same_to_clients() {
    for namespace in ["bar", "istio-system"] {
        let client = |mode: &str| {
            let policy = policy(namespace, "p", &format!("{{mtls: {{mode: {mode}}}}}"));
            ask(&engine(&policy), "foo/sleep", "web.bar:8000").client
        };
        assert_eq!(client("STRICT"), client("PERMISSIVE"));
        assert!(client("STRICT").auto);
        assert_eq!(client("DISABLE").tls, ClientTlsMode::Disable);
    }
}

#[test]
fn a_strict_workload_of_a_disabled_namespace_is_lost_to_clients() {
    let policies = policy("bar", "default", "{mtls: {mode: DISABLE}}")
        + &policy("bar", "web", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}");
    let answer = ask(&engine(&policies), "foo/sleep", "web.bar:8000");
    assert_eq!((answer.client.tls, answer.outcome), (ClientTlsMode::Disable, Outcome::Refused));
}

const HEADLESS: &str = r"---
apiVersion: v1
kind: Service
metadata: {name: head, namespace: bar}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: tcp, port: 90}]}
";

#[test]
fn headless_services_ignore_workload_and_port_policies() {
    assert_eq!(ask(&engine(HEADLESS), "foo/sleep", "head.bar:90").outcome, Outcome::Mtls);
    let disabled =
        HEADLESS.to_owned() + &policy("bar", "w", "{selector: {matchLabels: {app: web}}, portLevelMtls: {90: {mode: DISABLE}}}");
    let answer = ask(&engine(&disabled), "foo/sleep", "head.bar:90");
    assert_eq!((answer.client.tls, answer.outcome), (ClientTlsMode::IstioMutual, Outcome::Refused), "istio issue 39439");
    assert_eq!(ask(&engine(HEADLESS), "foo/sleep", "10.0.0.7:90").outcome, Outcome::Mtls, "by the pod's address too");
}

#[test]
fn one_endpoint_without_sidecar_makes_a_headless_service_plaintext() {
    let both = HEADLESS.replace("selector: {app: web}", "selector: {tier: x}")
        + r"---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: bar, labels: {tier: x, security.istio.io/tlsMode: istio}}
status: {podIP: 10.0.1.1}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: bar, labels: {tier: x}}
status: {podIP: 10.0.1.2}
";
    let answer = ask(&engine(&both), "foo/sleep", "head.bar:90");
    assert_eq!((answer.client.tls, answer.outcome), (ClientTlsMode::Disable, Outcome::Plaintext));
    let normal = both.replace("clusterIP: None", "clusterIP: 10.96.0.9");
    let answer = ask(&engine(&normal), "foo/sleep", "head.bar:90");
    assert_eq!((answer.client.tls, answer.outcome), (ClientTlsMode::IstioMutual, Outcome::Mixed));
}

#[test]
fn service_entries_are_outside_unless_they_say_inside() {
    let entry = |more: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: bar}}\nspec: {{hosts: [api.example.com], ports: [{{number: 443, name: tcp, protocol: TCP}}], resolution: STATIC, endpoints: [{{address: 192.0.2.1, serviceAccount: api}}]{more}}}\n"
        )
    };
    let answer = ask(&engine(&entry("")), "foo/sleep", "api.example.com:443");
    assert_eq!((answer.client.tls, answer.outcome), (ClientTlsMode::Disable, Outcome::Plaintext));
    let answer = ask(&engine(&entry(", location: MESH_INTERNAL")), "foo/sleep", "api.example.com:443");
    assert_eq!((answer.client.auto, answer.outcome), (true, Outcome::Mtls), "an account makes an endpoint of the mesh");
    assert_eq!(answer.endpoints[0].workload, None);
}
