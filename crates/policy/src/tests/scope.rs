//! Which service a client's sidecar takes a host for: several of one host, `exportTo`, `Sidecar` egress. Each expected
//! answer is what Istio's own control plane builds for the same objects.

use super::*;

/// A client in a namespace that has nothing of its own.
const OUTSIDER: &str = r"---
apiVersion: v1
kind: Pod
metadata: {name: outsider, namespace: baz, labels: {security.istio.io/tlsMode: istio}}
status: {podIP: 10.0.9.9}
";

const TWICE: &str = r"---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: old, namespace: bar, creationTimestamp: 2020-01-01T00:00:00Z}
spec:
  hosts: [db.example.com]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 5432, name: tcp, protocol: TCP}]
  endpoints: [{address: 192.0.2.1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: new, namespace: foo, creationTimestamp: 2021-01-01T00:00:00Z}
spec:
  hosts: [db.example.com]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 5432, name: tcp, protocol: TCP}]
  endpoints: [{address: 192.0.2.2}]
";

fn sidecar(namespace: &str, egress: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: default, namespace: {namespace}}}\nspec: {{egress: {egress}}}\n"
    )
}

fn entry(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

fn address(more: &str, from: &str, to: &str) -> Option<String> {
    ask(&engine(&(OUTSIDER.to_owned() + more)), from, to).endpoints.first()?.address.clone()
}

#[test]
fn of_one_host_the_clients_namespace_comes_first_then_the_oldest() {
    let to = "db.example.com:5432";
    assert_eq!(address(TWICE, "baz/outsider", to).as_deref(), Some("192.0.2.1"), "the oldest");
    assert_eq!(address(TWICE, "foo/sleep", to).as_deref(), Some("192.0.2.2"), "the client's own");
    let named = TWICE.replace("hosts: [db.example.com]", "hosts: [db.example.com]\n  exportTo: [baz]");
    assert_eq!(address(&named, "baz/outsider", to).as_deref(), Some("192.0.2.1"));
    assert_eq!(
        address(&named.replacen("exportTo: [baz]", "exportTo: [\"*\"]", 1), "baz/outsider", to).as_deref(),
        Some("192.0.2.2"),
        "what is exported by name comes before what is public"
    );
    let chosen = sidecar("baz", "[{port: {number: 5432, name: tcp, protocol: TCP}, hosts: [\"foo/*\"]}, {hosts: [\"bar/*\"]}]");
    assert_eq!(
        address(&(TWICE.to_owned() + &chosen), "baz/outsider", to).as_deref(),
        Some("192.0.2.2"),
        "the first listener that has it"
    );
}

#[test]
fn kubernetes_services_come_before_entries_of_their_host_but_for_the_entrys_own_namespace() {
    let squat = "{hosts: [web.bar.svc.cluster.local], resolution: STATIC, location: MESH_INTERNAL, ports: [{number: 8000, name: http, protocol: HTTP}], endpoints: [{address: 192.0.2.66}]}";
    let squatter = entry("foo", "squat", squat);
    assert_eq!(address(&squatter, "baz/outsider", "web.bar:8000").as_deref(), Some("10.0.0.7"));
    assert_eq!(address(&squatter, "bar/web", "web.bar:8000").as_deref(), Some("10.0.0.7"));
    assert_eq!(address(&squatter, "foo/sleep", "web.bar:8000").as_deref(), Some("192.0.2.66"), "foo sees its own entry");
    let engine = engine(&(OUTSIDER.to_owned() + &squatter));
    let class = |name: &str| engine.client_class(engine.workload(name).expect("a workload"));
    assert_ne!(class("foo/sleep"), class("baz/outsider"));
}

#[test]
fn a_port_that_only_a_hidden_entry_declares_is_an_unknown_destination() {
    let other = entry(
        "bar",
        "other",
        "{hosts: [web.bar.svc.cluster.local], resolution: STATIC, location: MESH_INTERNAL, ports: [{number: 7000, name: other, protocol: HTTP}], endpoints: [{address: 192.0.2.66}]}",
    );
    let answer = ask(&engine(&other), "foo/sleep", "web.bar:7000");
    assert_eq!((answer.client.tls, answer.client.sni), (mutua_model::ClientTlsMode::Disable, None));
}

#[test]
fn entries_of_one_host_and_namespace_that_are_alike_merge_port_by_port() {
    let one = |name: &str, number: u16, more: &str| {
        let spec = format!(
            "{{hosts: [m.example.com], resolution: STATIC, location: MESH_INTERNAL, ports: [{{number: {number}, name: p{number}, protocol: TCP}}], endpoints: [{{address: 192.0.2.{name}}}]{more}}}"
        );
        entry("bar", &format!("e{name}"), &spec)
    };
    let both = one("1", 1001, "") + &one("2", 1002, "");
    assert_eq!(address(&both, "foo/sleep", "m.example.com:1001").as_deref(), Some("192.0.2.1"));
    assert_eq!(address(&both, "foo/sleep", "m.example.com:1002").as_deref(), Some("192.0.2.2"));
    let tls = |more: &str| ask(&engine(more), "foo/sleep", "m.example.com:1002").client.sni;
    assert!(tls(&both).is_some());
    assert!(tls(&(one("1", 1001, "") + &one("2", 1002, ", exportTo: [foo, bar]"))).is_some(), "exported by name, so first");
    let unlike = one("1", 1001, "") + &one("2", 1002, "").replace("name: e2", "name: e2, labels: {a: b}");
    assert_eq!(tls(&unlike), None, "other labels: only the first counts");
}

#[test]
fn export_to_nobody_hides_and_a_star_beats_it() {
    let annotated = |to: &str| {
        BASE.replace(
            "{name: web, namespace: bar}\nspec:\n",
            &format!("{{name: web, namespace: bar, annotations: {{networking.istio.io/exportTo: \"{to}\"}}}}\nspec:\n"),
        )
    };
    let known = |to: &str, from: &str| {
        let loaded = mutua_model::read::Inputs::from_texts([("b.yaml", annotated(to))]).load().expect("readable");
        ask(&Engine::new(Arc::new(loaded.mesh)), from, "web.bar:8000").client.sni.is_some()
    };
    for (to, foo, bar) in
        [("~", false, false), (".,~", false, false), ("~,*", true, true), (". , foo", true, true), ("foo", true, false)]
    {
        assert_eq!((known(to, "foo/sleep"), known(to, "bar/web")), (foo, bar), "{to}");
    }
}

#[test]
fn egress_listeners_with_a_port_import_that_port_and_exclusions_exclude() {
    let known = |egress: &str, port: u16| {
        ask(&engine(&sidecar("foo", egress)), "foo/sleep", &format!("web.bar:{port}")).client.sni.is_some()
    };
    for (egress, http, tcp) in [
        ("[{hosts: [\"*/*\"]}]", true, true),
        ("[{hosts: [\"bar/*\"]}]", true, true),
        ("[{hosts: [\"*/web.bar.svc.cluster.local\"]}]", true, true),
        ("[{hosts: [\"./*\"]}]", false, false),
        ("[{hosts: [\"~/*\"]}]", false, false),
        ("[{port: {number: 8000, name: http, protocol: HTTP}, hosts: [\"bar/*\"]}, {hosts: [\"./*\"]}]", true, false),
        ("[{port: {number: 8000, name: http, protocol: HTTP_PROXY}, hosts: [\"bar/*\"]}, {hosts: [\"./*\"]}]", true, true),
        ("[{hosts: [\"bar/*\", \"~bar/web.bar.svc.cluster.local\"]}]", false, false),
        ("[{hosts: [\"*/*\", \"~*/*.bar.svc.cluster.local\"]}]", false, false),
    ] {
        assert_eq!((known(egress, 8000), known(egress, 9000)), (http, tcp), "{egress}");
    }
}

#[test]
fn workload_entries_of_a_service() {
    let vm = |target: &str, ports: &str, cluster_ip: &str| {
        let more = format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: vm, namespace: bar}}\nspec: {{clusterIP: {cluster_ip}, selector: {{app: vm}}, ports: [{{name: http, port: 80, targetPort: {target}}}]}}\n---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: vm, namespace: bar}}\nspec: {{address: 192.0.2.9, labels: {{app: vm}}, serviceAccount: vm, ports: {ports}}}\n"
        );
        let answer = ask(&engine(&more), "foo/sleep", "vm.bar:80");
        (answer.endpoints.first().map(|endpoint| endpoint.port), answer.client.subject_alt_names.len())
    };
    assert_eq!(vm("8080", "{}", "10.96.3.1"), (Some(8080), 1));
    assert_eq!(vm("8080", "{http: 9090}", "10.96.3.1"), (Some(9090), 1), "its port of the Service port's name");
    assert_eq!(vm("web", "{web: 9091}", "10.96.3.1"), (Some(9091), 1), "a named target is one of its ports");
    assert_eq!(vm("web", "{http: 9090}", "10.96.3.1"), (None, 0), "else it serves nothing, and gives no account");
    assert_eq!(vm("8080", "{}", "None"), (None, 0), "headless services select pods only");
}
