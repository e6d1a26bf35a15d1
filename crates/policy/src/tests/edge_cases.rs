//! Cases that are easy to miss, each named by what surprises. Every expected answer is what Istio's control plane builds
//! for the same objects. Those that other files test stand there.

use mutua_model::ClientTlsMode::{self, Disable, IstioMutual, Simple};

use super::*;

const WEB: &str = "web.bar.svc.cluster.local";

fn asked(more: &str, from: &str, subset: Option<&str>) -> ConnectionAnswer {
    let query = ConnectionQuery { from: from.to_owned(), to: "web.bar:8000".into(), subset: subset.map(str::to_owned) };
    engine(more).explain_connection(&query).expect("an answer")
}

fn tls(more: &str) -> ClientTlsMode {
    asked(more, "foo/sleep", None).client.tls
}

fn says(namespace: &str, name: &str, host: &str, mode: &str, more: &str) -> String {
    rule(namespace, name, &format!("{{host: \"{host}\", trafficPolicy: {{tls: {{mode: {mode}}}}}{more}}}"))
}

fn with_subset(namespace: &str, name: &str, subset: &str, more: &str) -> String {
    rule(namespace, name, &format!("{{host: {WEB}, subsets: [{{name: {subset}, labels: {{app: web}}}}]{more}}}"))
}

#[test]
fn sni_without_names_checks_no_name_and_nothing_of_tcp_comes_from_a_host_header() {
    let engine = |settings: &str| engine(&rule("bar", "r", &format!("{{host: {WEB}, trafficPolicy: {{tls: {settings}}}}}")));
    let settings = |text: &str| {
        let engine = engine(text);
        let client = engine.workload("foo/sleep").expect("a client");
        let destination = engine.destinations(client).into_iter().find(|one| one.host == WEB).expect("web");
        destination.ports[0].tls.clone()
    };
    let bare = settings("{mode: SIMPLE}");
    assert_eq!((bare.sni, bare.subject_alt_names.len(), bare.from_host_header), (None, 0, true));
    let named = settings("{mode: SIMPLE, sni: x.y}");
    assert_eq!((named.sni.as_deref(), named.subject_alt_names.len(), named.from_host_header), (Some("x.y"), 0, false));
    assert!(!settings("{mode: SIMPLE, insecureSkipVerify: true}").from_host_header);
}

#[test]
fn a_rules_tls_never_changes_what_a_server_accepts() {
    let off = says("bar", "r", "*.bar.svc.cluster.local", "DISABLE", "");
    assert_eq!(workload(&engine(&off), "bar/web"), workload(&engine(""), "bar/web"));
}

#[test]
fn rules_of_different_namespaces_never_merge() {
    let more = with_subset("bar", "subsets", "v1", "") + &says("istio-system", "root", WEB, "DISABLE", "");
    assert_eq!(tls(&more), IstioMutual, "the service's namespace has a rule, so the root's tls is not looked at");
}

#[test]
fn the_root_namespaces_own_clients_see_its_public_rules_last() {
    let client = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: inside, namespace: istio-system, labels: {security.istio.io/tlsMode: istio}}\nstatus: {podIP: 10.0.8.8}\n";
    let from_root = |more: &str| asked(&(client.to_owned() + more), "istio-system/inside", None).client.tls;
    let public = says("istio-system", "public", WEB, "DISABLE", "");
    let private = says("istio-system", "private", WEB, "DISABLE", ", exportTo: [\".\"]");
    let of_service = says("bar", "own", "*.bar.svc.cluster.local", "SIMPLE", "");
    assert_eq!(from_root(&(public.clone() + &of_service)), Simple);
    assert_eq!(from_root(&(private + &of_service)), Disable, "its private rules come first");
    assert_eq!(from_root(&public), Disable);
}

#[test]
fn the_exception_for_a_service_without_sidecar_is_hidden_by_a_rule_of_the_services_namespace() {
    let exception = says("istio-system", "api", "old.bar.svc.cluster.local", "DISABLE", "");
    let to_old = |more: &str| ask(&engine(more), "foo/sleep", "old.bar:8000").outcome;
    let wide = says("istio-system", "all", "*.local", "ISTIO_MUTUAL", "");
    assert_eq!(to_old(&(wide.clone() + &exception)), Outcome::Plaintext);
    let own = says("bar", "own", "*.bar.svc.cluster.local", "ISTIO_MUTUAL", "");
    assert_eq!(to_old(&(wide + &exception + &own)), Outcome::Refused);
}

#[test]
fn a_rule_without_selector_merges_into_selecting_ones_only_when_its_export_is_wider() {
    let selecting = says("foo", "a", WEB, "DISABLE", ", workloadSelector: {matchLabels: {app: sleep}}");
    let known = |export: &str| {
        let more = selecting.clone() + &with_subset("foo", "b", "v1", export);
        let query = ConnectionQuery { from: "foo/sleep".into(), to: "web.bar:8000".into(), subset: Some("v1".into()) };
        engine(&more).explain_connection(&query).is_ok()
    };
    assert!(!known(""), "nothing is no superset: clients that are selected miss its subsets");
    assert!(known(", exportTo: [\".\", baz]"));
    assert!(known(", exportTo: [\".\"]"), "equal: merged, and its own entry is gone");
    let gone = selecting.replace("app: sleep", "app: other") + &says("foo", "b", WEB, "SIMPLE", ", exportTo: [\".\"]");
    assert_eq!(tls(&gone), IstioMutual, "so clients that are not selected find nothing");
    let stays = gone.replace("exportTo: [\".\"]", "exportTo: [\".\", baz]");
    assert_eq!(tls(&stays), Simple);
}

#[test]
fn a_later_rule_with_a_wider_export_is_absorbed_into_the_narrower_one() {
    let narrow = says("bar", "a", WEB, "SIMPLE", ", exportTo: [baz]");
    let wide = with_subset("bar", "b", "v1", ", exportTo: [baz, foo]");
    assert_eq!(tls(&(narrow + &wide)), IstioMutual, "foo sees neither");
}

#[test]
fn of_two_entries_for_one_port_the_cluster_takes_the_first_and_endpoints_the_first_with_tls() {
    let ports = "portLevelSettings: [{port: {number: 8000}, connectionPool: {tcp: {maxConnections: 1}}}, {port: {number: 8000}, tls: {mode: DISABLE}}]";
    let answer = asked(&rule("bar", "r", &format!("{{host: {WEB}, trafficPolicy: {{{ports}}}}}")), "foo/sleep", None);
    assert_eq!((answer.client.tls, answer.client.auto, answer.outcome), (IstioMutual, true, Outcome::Plaintext));
}

#[test]
fn any_word_stands_in_the_tls_mode_label_and_only_istio_counts() {
    for (word, expected) in
        [("istio", Outcome::Mtls), ("disabled", Outcome::Plaintext), ("Istio", Outcome::Plaintext), ("", Outcome::Plaintext)]
    {
        let pod = BASE
            .replace("app: web, security.istio.io/tlsMode: istio", &format!("app: web, security.istio.io/tlsMode: \"{word}\""));
        let loaded = mutua_model::read::Inputs::from_texts([("b.yaml", pod)]).load().expect("readable");
        let answer = ask(&Engine::new(Arc::new(loaded.mesh)), "foo/sleep", "web.bar:8000");
        assert_eq!((answer.client.tls, answer.outcome), (IstioMutual, expected), "{word}");
    }
}

#[test]
fn a_service_without_any_account_is_accepted_with_any_identity() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: bar}\nspec: {hosts: [api.example.com], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: tcp, protocol: TCP}], endpoints: [{address: 192.0.2.1, labels: {security.istio.io/tlsMode: istio}}]}\n";
    let answer = ask(&engine(entry), "foo/sleep", "api.example.com:80");
    assert_eq!((answer.client.subject_alt_names.len(), answer.outcome), (0, Outcome::Mtls));
}

#[test]
fn accounts_of_endpoints_that_serve_no_port_do_not_count() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: none, namespace: bar}\nspec: {clusterIP: 10.96.7.7, selector: {app: web}, ports: [{name: http, port: 80, targetPort: nowhere}]}\n";
    let answer = ask(&engine(service), "foo/sleep", "none.bar:80");
    assert_eq!((answer.client.auto, answer.client.subject_alt_names.len(), answer.outcome), (true, 0, Outcome::Refused));
}

#[test]
fn accounts_that_a_service_names_are_added_in_its_namespace_or_verbatim() {
    let annotated = BASE.replace(
        "{name: web, namespace: bar}\nspec:\n",
        "{name: web, namespace: bar, annotations: {alpha.istio.io/kubernetes-serviceaccounts: \"x, y\", alpha.istio.io/canonical-serviceaccounts: \"spiffe://other/ns/a/sa/b,plain\"}}\nspec:\n",
    );
    let loaded = mutua_model::read::Inputs::from_texts([("b.yaml", annotated)]).load().expect("readable");
    let names = ask(&Engine::new(Arc::new(loaded.mesh)), "foo/sleep", "web.bar:8000").client.subject_alt_names;
    let own = |account: &str| format!("spiffe://cluster.local/ns/bar/sa/{account}");
    assert_eq!(names, ["plain".to_owned(), own("web"), own("x"), own("y"), "spiffe://other/ns/a/sa/b".to_owned()]);
}

#[test]
fn names_that_are_no_identity_of_the_endpoints_namespace_refuse_an_endpoint_of_an_unknown_account() {
    let entry = |names: &str| {
        let spec = format!(
            "{{hosts: [api.example.com], location: MESH_INTERNAL, resolution: STATIC, ports: [{{number: 80, name: tcp, protocol: TCP}}], endpoints: [{{address: 192.0.2.1, labels: {{security.istio.io/tlsMode: istio}}}}], subjectAltNames: [{names}]}}"
        );
        let text = format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: bar}}\nspec: {spec}\n"
        );
        ask(&engine(&text), "foo/sleep", "api.example.com:80").outcome
    };
    assert_eq!(entry("api.example.com"), Outcome::Refused, "no certificate of the mesh holds it");
    assert_eq!(entry("\"spiffe://cluster.local/ns/foo/sa/x\""), Outcome::Refused);
    assert_eq!(entry("api.example.com, \"spiffe://cluster.local/ns/bar/sa/x\""), Outcome::Mtls, "it may run as x");
}

#[test]
fn only_whole_identities_are_spoken_in_every_alias() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: bar}\nspec: {hosts: [api.example.com], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: tcp, protocol: TCP}], endpoints: [{address: 192.0.2.1, serviceAccount: vm}], subjectAltNames: [\"spiffe://x/ns/y\", plain]}\n";
    let aliased = entry.to_owned() + &istio("{trustDomain: my.td, trustDomainAliases: [old.td]}");
    let answer = ask(&engine(&aliased), "foo/sleep", "api.example.com:80");
    assert_eq!(
        answer.client.subject_alt_names,
        ["plain", "spiffe://my.td/ns/bar/sa/vm", "spiffe://old.td/ns/bar/sa/vm", "spiffe://x/ns/y"]
    );
}

#[test]
fn slices_of_a_manual_service_give_all_their_addresses_and_the_ports_of_every_slice() {
    let manual = r"---
apiVersion: v1
kind: Service
metadata: {name: man, namespace: bar}
spec: {clusterIP: 10.96.7.8, ports: [{name: a, port: 80}, {name: b, port: 81}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: man-1, namespace: bar, labels: {kubernetes.io/service-name: man}}
addressType: IPv4
ports: [{name: a, port: 8080}]
endpoints: [{addresses: [192.0.2.5, 192.0.2.6]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: man-2, namespace: bar, labels: {kubernetes.io/service-name: man}}
addressType: IPv4
ports: [{name: b, port: 8081}]
endpoints: [{addresses: [192.0.2.5]}, {addresses: [192.0.2.7], conditions: {ready: false}}]
";
    let engine = engine(manual);
    let places = |port: u16| -> Vec<(String, u16)> {
        let answer = ask(&engine, "foo/sleep", &format!("man.bar:{port}"));
        answer.endpoints.into_iter().map(|one| (one.address.unwrap_or_default(), one.port)).collect()
    };
    assert_eq!(places(80), [("192.0.2.5".to_owned(), 8080), ("192.0.2.6".to_owned(), 8080)]);
    assert_eq!(places(81), [("192.0.2.5".to_owned(), 8081)]);
}

#[test]
fn a_subsets_cluster_dials_the_original_address_when_the_one_without_subset_does() {
    // No mark is asked for then: the outer SIMPLE would keep endpoints from mutual TLS.
    let outer = "tls: {mode: SIMPLE, caCertificates: /r}, loadBalancer: {simple: PASSTHROUGH}";
    let entry = "portLevelSettings: [{port: {number: 8000}, connectionPool: {tcp: {maxConnections: 1}}}]";
    let with = |outer: &str| {
        let subset = format!("{{name: v1, labels: {{app: web}}, trafficPolicy: {{{entry}}}}}");
        let more = rule("bar", "r", &format!("{{host: {WEB}, trafficPolicy: {{{outer}}}, subsets: [{subset}]}}"));
        let answer = asked(&more, "foo/sleep", Some("v1"));
        (answer.client.tls, answer.client.auto, answer.outcome)
    };
    assert_eq!(with(outer), (IstioMutual, true, Outcome::Mtls));
    assert_eq!(with("tls: {mode: SIMPLE, caCertificates: /r}"), (IstioMutual, true, Outcome::Plaintext));
}

#[test]
fn a_credential_name_counts_when_its_rule_is_merged_into_one_with_a_selector() {
    let credential = "trafficPolicy: {tls: {mode: SIMPLE, credentialName: cred}}, exportTo: [\".\"]";
    let bare = rule("foo", "b", &format!("{{host: {WEB}, {credential}}}"));
    let selecting = with_subset("foo", "a", "v1", ", workloadSelector: {matchLabels: {app: sleep}}");
    let sent = |more: &str| ask(&engine(more), "foo/sleep", "web.bar:9000").outcome;
    assert_eq!(sent(&bare), Outcome::Plaintext, "Istio drops the TLS context");
    assert_eq!(sent(&(selecting + &bare)), Outcome::Tls);
}
