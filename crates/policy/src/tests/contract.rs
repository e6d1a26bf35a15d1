//! The further rules of `explain`: names, ports, visibility, controllers, outcomes of foreign TLS.

use mutua_model::ClientTlsMode;

use super::*;
use crate::QueryError;

#[test]
fn hosts_are_found_as_kubernetes_resolves_them() {
    let engine = engine("");
    for host in ["web.bar", "web.bar.svc", "web.bar.svc.cluster.local", "WEB.bar.svc.cluster.local.", "10.96.0.5"] {
        assert_eq!(ask(&engine, "foo/sleep", &format!("{host}:8000")).outcome, Outcome::Mtls, "{host}");
    }
    assert!(ask(&engine, "foo/sleep", "web:8000").endpoints.is_empty(), "web.foo is unknown");
    assert_eq!(ask(&engine, "bar/web", "web:8000").outcome, Outcome::Mtls);
}

#[test]
fn questions_that_cannot_be_answered_say_why() {
    let engine = engine("");
    let fails = |from: &str, to: &str| {
        let query = ConnectionQuery { from: from.to_owned(), to: to.to_owned(), subset: None };
        engine.explain_connection(&query).expect_err("no answer")
    };
    assert_eq!(fails("foo/sleep", "web.bar:1").to_string(), "web.bar.svc.cluster.local has no port 1; it declares 8000, 9000");
    assert_eq!(fails("foo/web", "web.bar:8000").to_string(), "no workload foo/web; did you mean bar/web?");
    for bad in ["web.bar", "web.bar:0", "web.bar:x", ":80", "http://web:80"] {
        assert!(matches!(fails("foo/sleep", bad), QueryError::Malformed { .. }), "{bad}");
    }
}

#[test]
fn unknown_destinations_pass_or_are_refused() {
    let answer = ask(&engine(""), "foo/sleep", "example.com:443");
    assert_eq!((answer.client.tls, answer.outcome), (ClientTlsMode::Disable, Outcome::Plaintext));
    let only = engine(&istio("{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"));
    assert_eq!(ask(&only, "foo/sleep", "example.com:443").outcome, Outcome::Refused);
    assert_eq!(ask(&only, "foo/sleep", "10.0.0.7:80").outcome, Outcome::Refused);
    assert_eq!(ask(&only, "foo/legacy", "example.com:443").outcome, Outcome::Plaintext, "nobody stops it");
}

#[test]
fn hidden_services_are_unknown_and_their_endpoints_are_listed() {
    let hidden = "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default, namespace: foo}\nspec: {egress: [{hosts: [\"./*\", \"istio-system/*\"]}]}\n";
    let answer = ask(&engine(hidden), "foo/sleep", "web.bar:8000");
    assert_eq!((answer.client.tls, answer.client.sni.is_none(), answer.endpoints.len()), (ClientTlsMode::Disable, true, 1));
    assert_eq!(answer.outcome, Outcome::Plaintext);
    let strict = hidden.to_owned() + &policy("bar", "default", "{mtls: {mode: STRICT}}");
    assert_eq!(ask(&engine(&strict), "foo/sleep", "web.bar:8000").outcome, Outcome::Refused);
    let annotated = BASE.replace(
        "{name: web, namespace: bar}\nspec:\n",
        "{name: web, namespace: bar, annotations: {networking.istio.io/exportTo: \".\"}}\nspec:\n",
    );
    let loaded = mutua_model::read::Inputs::from_texts([("b.yaml", annotated)]).load().expect("readable");
    let engine = Engine::new(Arc::new(loaded.mesh));
    assert_eq!(ask(&engine, "foo/sleep", "web.bar:8000").client.tls, ClientTlsMode::Disable);
    assert_eq!(ask(&engine, "bar/web", "web.bar:8000").client.tls, ClientTlsMode::IstioMutual);
}

#[test]
fn foreign_tls_depends_on_mode_and_protocol() {
    let mode = |mode: &str| policy("bar", "default", &format!("{{mtls: {{mode: {mode}}}}}"));
    let files = "clientCertificate: /c, privateKey: /k, caCertificates: /r";
    let tls = |settings: &str| {
        rule("bar", "r", &format!("{{host: \"*.bar.svc.cluster.local\", trafficPolicy: {{tls: {{{settings}}}}}}}"))
    };
    let (simple, mutual) = (tls("mode: SIMPLE, caCertificates: /r"), tls(&format!("mode: MUTUAL, {files}")));
    for (server, rule, http, tcp) in [
        ("STRICT", &simple, Outcome::Refused, Outcome::Refused),
        ("PERMISSIVE", &simple, Outcome::Refused, Outcome::Tls),
        ("DISABLE", &simple, Outcome::Refused, Outcome::Tls),
        ("STRICT", &mutual, Outcome::Mtls, Outcome::Mtls),
        ("PERMISSIVE", &mutual, Outcome::Refused, Outcome::Tls),
        ("DISABLE", &mutual, Outcome::Refused, Outcome::Tls),
    ] {
        let engine = engine(&(mode(server) + rule));
        assert_eq!(ask(&engine, "foo/sleep", "web.bar:8000").outcome, http, "{server} http {rule}");
        assert_eq!(ask(&engine, "foo/sleep", "web.bar:9000").outcome, tcp, "{server} tcp {rule}");
        assert_eq!(ask(&engine, "foo/sleep", "old.bar:8000").outcome, Outcome::Tls, "no sidecar {rule}");
    }
    assert_eq!(ask(&engine(&simple), "foo/sleep", "web.bar:8000").client.sni, None);
}

const DEPLOYMENT: &str = r"---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec: {serviceAccountName: api, containers: [{name: c, image: x, ports: [{name: web, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.96.1.1, selector: {app: api}, ports: [{name: http, port: 80, targetPort: web}]}
";

#[test]
fn a_controller_is_one_endpoint_until_its_pods_are_there() {
    let answer = ask(&engine(DEPLOYMENT), "foo/sleep", "api.shop:80");
    assert_eq!((answer.endpoints.len(), answer.outcome), (1, Outcome::Mtls));
    let endpoint = &answer.endpoints[0];
    assert_eq!((endpoint.workload.as_deref(), &endpoint.address, endpoint.port), (Some("shop/api"), &None, 8080));
    let outside = DEPLOYMENT.replace("istio-injection: enabled", "x: y");
    assert_eq!(ask(&engine(&outside), "foo/sleep", "api.shop:80").outcome, Outcome::Plaintext);
    let opted_out = DEPLOYMENT
        .replace("metadata: {labels: {app: api}}", "metadata: {labels: {app: api, sidecar.istio.io/inject: \"false\"}}");
    assert_eq!(ask(&engine(&opted_out), "foo/sleep", "api.shop:80").outcome, Outcome::Plaintext);
    let pods = DEPLOYMENT.to_owned()
        + r"---
apiVersion: v1
kind: Pod
metadata:
  name: api-1
  namespace: shop
  labels: {app: api}
  ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: api, uid: u}]
spec: {serviceAccountName: api, containers: [{name: c, image: x, ports: [{name: web, containerPort: 8081}]}]}
status: {podIP: 10.0.2.1}
";
    let answer = ask(&engine(&pods), "foo/sleep", "api.shop:80");
    assert_eq!((answer.endpoints.len(), answer.endpoints[0].workload.as_deref()), (1, Some("shop/api-1")));
    assert_eq!(answer.outcome, Outcome::Plaintext, "a live pod is judged by its label");
}

#[test]
fn a_service_without_endpoints_refuses() {
    let empty = "---\napiVersion: v1\nkind: Service\nmetadata: {name: e, namespace: bar}\nspec: {selector: {app: none}, ports: [{port: 80}]}\n";
    let answer = ask(&engine(empty), "foo/sleep", "e.bar:80");
    assert!(answer.endpoints.is_empty() && answer.outcome == Outcome::Refused);
}

#[test]
fn slices_and_workload_entries_serve_services() {
    let manual = r"---
apiVersion: v1
kind: Service
metadata: {name: vm, namespace: bar}
spec: {clusterIP: 10.96.2.1, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: vm-1, namespace: bar, labels: {kubernetes.io/service-name: vm}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [192.0.2.5]}, {addresses: [10.0.0.7]}]
---
apiVersion: v1
kind: Service
metadata: {name: we, namespace: bar}
spec: {clusterIP: 10.96.2.2, selector: {app: we}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: we-1, namespace: bar}
spec: {address: 192.0.2.7, labels: {app: we}, serviceAccount: we}
";
    let engine = engine(manual);
    let answer = ask(&engine, "foo/sleep", "vm.bar:80");
    let workloads: Vec<_> = answer.endpoints.iter().map(|endpoint| endpoint.workload.as_deref()).collect();
    assert_eq!((workloads, answer.outcome), (vec![None, Some("bar/web")], Outcome::Mixed));
    let answer = ask(&engine, "foo/sleep", "we.bar:80");
    assert_eq!((answer.endpoints[0].port, answer.outcome), (8080, Outcome::Mtls));
    assert_eq!(answer.client.subject_alt_names, ["spiffe://cluster.local/ns/bar/sa/we"]);
}

#[test]
fn a_workload_that_is_not_strict_is_told_how_it_would_be() {
    let help = |more: &str, name: &str| workload(&engine(more), name).help;
    let open = ["add a PeerAuthentication with mode: STRICT to namespace bar, and bar/web refuses plaintext"];
    assert_eq!(help("", "bar/web"), open);
    assert_eq!(help(&policy("bar", "p", "{mtls: {mode: STRICT}}"), "bar/web"), [""; 0]);
    assert_eq!(help("", "bar/old"), ["label namespace bar istio-injection: enabled, and restart bar/old"]);
    let web = "selector: {matchLabels: {app: web}}";
    let lost = policy("istio-system", "p", &format!("{{{web}, mtls: {{mode: STRICT}}}}"));
    assert_eq!(help(&lost, "bar/web")[0], "move PeerAuthentication istio-system/p to namespace bar, where its selector counts");
    let two = policy("bar", "a", "{mtls: {mode: STRICT}}") + &policy("bar", "b", "{mtls: {mode: STRICT}}");
    assert_eq!(
        help(&two, "bar/web"),
        ["merge PeerAuthentication bar/b into the older policy, or delete it: nothing of it counts"]
    );
    let port = policy("bar", "p", &format!("{{{web}, mtls: {{mode: STRICT}}, portLevelMtls: {{8000: {{mode: PERMISSIVE}}}}}}"));
    assert_eq!(
        help(&port, "bar/web"),
        [
            "write 80 instead of 8000 in portLevelMtls of PeerAuthentication bar/p: that is the port of Service bar/web, the workload's is 80"
        ]
    );
    let below =
        policy("bar", "a", "{mtls: {mode: DISABLE}}") + &policy("bar", "p", &format!("{{{web}, mtls: {{mode: STRICT}}}}"));
    assert!(help(&below, "bar/web")[0].starts_with("clients judge by PeerAuthentication bar/a"), "{:?}", help(&below, "bar/web"));
    let stopped = policy("bar", "a", "{mtls: {mode: DISABLE}}");
    assert_eq!(help(&stopped, "bar/web"), ["set PeerAuthentication bar/a to PERMISSIVE, and bar/web is called with mutual TLS"]);
}

#[test]
fn under_the_compliance_policy_pqc_the_least_version_is_1_3() {
    let least = |policy: &str| {
        let values = format!("values: {{pilot: {{env: {{COMPLIANCE_POLICY: {policy}}}}}}}");
        let engine = engine(&istio("{}").replace("values: {meshConfig: {}}", &values));
        ask(&engine, "foo/sleep", "web.bar:8000").endpoints[0].minimum_version.clone()
    };
    assert_eq!(least("pqc").as_deref(), Some("TLSV1_3"));
    assert_eq!(least("fips-140-2").as_deref(), Some("TLSV1_2"));
    let running = ask(&engine(""), "foo/sleep", "web.bar:8000");
    assert_eq!(running.endpoints[0].minimum_version.as_deref(), Some("TLSV1_2"));
    assert_eq!(running.with_tls_1_3_only().endpoints[0].minimum_version.as_deref(), Some("TLSV1_3"));
}

/// In Istio it is one more prefix that no identity begins with; for a proxy it would be no trust domain at all.
#[test]
fn a_star_among_trust_domains_is_nobodys() {
    let engine = engine(&istio("{caCertificates: [{pem: x, trustDomains: [\"*\", td2]}]}"));
    assert_eq!(engine.trust_domains(), ["cluster.local", "td2"]);
}
