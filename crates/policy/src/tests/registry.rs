//! What services and workloads are made of: owners, shared endpoints, visibility of one host in several namespaces.

use super::*;

fn names(answer: &ConnectionAnswer) -> Vec<&str> {
    answer.endpoints.iter().filter_map(|endpoint| endpoint.workload.as_deref()).collect()
}

const DEPLOYED: &str = r"---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec: {containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.96.1.1, selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: api-7d9f-x
  namespace: shop
  labels: {app: api, pod-template-hash: 7d9f, security.istio.io/tlsMode: istio}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: api-7d9f, uid: u}]
status: {podIP: 10.0.2.1}
";

#[test]
fn a_pod_stands_in_place_of_its_deployment_though_the_replica_set_is_not_there() {
    let engine = engine(DEPLOYED);
    assert_eq!(names(&ask(&engine, "foo/sleep", "api.shop:80")), ["shop/api-7d9f-x"]);
    let deployment = workload(&engine, "shop/api");
    assert_eq!(deployment.ports.keys().collect::<Vec<_>>(), [&8080], "its ports are known all the same");
    let other = DEPLOYED.replace("pod-template-hash: 7d9f", "pod-template-hash: other");
    assert_eq!(names(&ask(&super::engine(&other), "foo/sleep", "api.shop:80")), ["shop/api", "shop/api-7d9f-x"]);
}

#[test]
fn a_service_entry_of_the_services_host_adds_endpoints_and_accounts() {
    let entry = r"---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vms, namespace: bar}
spec:
  hosts: [web.bar.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 8000, name: http, protocol: HTTP, targetPort: 8088}]
  endpoints: [{address: 192.0.2.9, serviceAccount: vm}]
";
    let answer = ask(&engine(entry), "foo/sleep", "web.bar:8000");
    let places: Vec<_> = answer.endpoints.iter().map(|one| (one.address.as_deref(), one.port)).collect();
    assert_eq!(places, [(Some("10.0.0.7"), 80), (Some("192.0.2.9"), 8088)]);
    assert_eq!(answer.client.subject_alt_names, ["spiffe://cluster.local/ns/bar/sa/vm", "spiffe://cluster.local/ns/bar/sa/web"]);
    let elsewhere = entry.replace("namespace: bar", "namespace: foo");
    assert_eq!(ask(&engine(&elsewhere), "foo/sleep", "web.bar:8000").endpoints.len(), 1, "another namespace");
}

#[test]
fn names_of_simple_tls_come_from_the_entry() {
    let entry = r"---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: bar}
spec:
  hosts: [api.example.com]
  resolution: DNS
  ports: [{number: 443, name: https, protocol: HTTPS}]
  subjectAltNames: [api.example.com]
";
    let simple =
        |host: &str| rule("bar", "r", &format!("{{host: {host}, trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: /r}}}}}}"));
    let answer = ask(&engine(&(entry.to_owned() + &simple("api.example.com"))), "foo/sleep", "api.example.com:443");
    assert_eq!((answer.client.subject_alt_names, answer.outcome), (vec!["api.example.com".to_owned()], Outcome::Tls));
    assert_eq!(
        (answer.endpoints[0].address.as_deref(), answer.endpoints[0].workload.as_deref()),
        (Some("api.example.com"), None)
    );
    let service = ask(&engine(&simple("old.bar.svc.cluster.local")), "foo/sleep", "old.bar:8000");
    assert!(service.client.subject_alt_names.is_empty(), "accounts are no names for SIMPLE");
}

#[test]
fn addresses_are_the_same_however_they_are_written() {
    let entry = r#"---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: six, namespace: bar}
spec:
  hosts: [six.example.com]
  addresses: ["fd00:0:0::0001", 198.51.100.0/24]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 192.0.2.1}]
"#;
    let engine = engine(entry);
    for to in ["[fd00::1]:80", "198.51.100.7:80", "six.example.com:80"] {
        assert_eq!(ask(&engine, "foo/sleep", to).endpoints.len(), 1, "{to}");
    }
}

/// Without its own addresses an entry is told by those of its endpoints, at its own ports.
#[test]
fn an_entry_without_addresses_is_found_by_its_endpoints() {
    let outside = |more: &str| {
        let entry = format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: out, namespace: bar}}\nspec: \
             {{hosts: [out.example.com], ports: [{{number: 443, name: tcp, protocol: TCP}}], {more}}}\n"
        );
        engine(&(entry + &rule("bar", "out", "{host: out.example.com, trafficPolicy: {tls: {mode: SIMPLE, sni: a.b}}}")))
    };
    let captured = |engine: &Engine| {
        let client = engine.workloads().iter().find(|workload| workload.name == "sleep").expect("in the base");
        let all = engine.destinations(client);
        all.into_iter().find(|one| one.host == "out.example.com").expect("visible").addresses
    };
    for resolution in ["STATIC", "DNS"] {
        let engine = outside(&format!("resolution: {resolution}, endpoints: [{{address: 192.0.2.1, ports: {{tcp: 8443}}}}]"));
        assert_eq!(captured(&engine), ["192.0.2.1"], "{resolution}");
        for to in ["192.0.2.1:443", "out.example.com:443"] {
            assert_eq!(ask(&engine, "bar/web", to).outcome, Outcome::Tls, "{resolution} {to}");
        }
    }
    let addressed = outside("resolution: STATIC, addresses: [198.51.100.1], endpoints: [{address: 192.0.2.1}]");
    assert_eq!(captured(&addressed), ["198.51.100.1"]);
}

#[test]
fn a_host_without_addresses_is_given_some_and_found_by_them() {
    let entry = |host: &str, rest: &str| {
        let name = host.trim_start_matches("*.").replace('.', "-");
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: bar}}\n\
             spec: {{hosts: ['{host}'], ports: [{{number: 443, name: tls, protocol: TLS}}], {rest}}}\n"
        )
    };
    let text = entry("plain.example.com", "resolution: DNS")
        + &entry("turns.example.com", "resolution: DNS_ROUND_ROBIN")
        + &entry("fixed.example.com", "resolution: STATIC, addresses: [10.9.9.9], endpoints: [{address: 10.9.9.1}]")
        + &entry("*.example.org", "resolution: NONE");
    let engine = engine(&text);
    let all = engine.destinations(engine.workload("foo/sleep").unwrap());
    let of = |host: &str| all.iter().find(|one| one.host == host).unwrap();
    let plain = of("plain.example.com");
    assert!(plain.allocated[0].starts_with("240.240.") && plain.allocated[1].starts_with("2001:2::f0f0:"), "{plain:?}");
    assert!(!plain.one_address && of("turns.example.com").one_address);
    assert_ne!(plain.allocated, of("turns.example.com").allocated);
    assert!(of("fixed.example.com").allocated.is_empty() && of("*.example.org").allocated.is_empty());
    let again = super::engine(&(entry("another.example.com", "resolution: DNS") + &text));
    let later = again.destinations(again.workload("foo/sleep").unwrap());
    assert_eq!(later.iter().find(|one| one.host == plain.host).unwrap().allocated, plain.allocated, "whatever else there is");
    let by_address = ask(&engine, "foo/sleep", &format!("{}:443", plain.allocated[0]));
    assert_eq!(by_address.endpoints[0].address.as_deref(), Some("plain.example.com"));
}
