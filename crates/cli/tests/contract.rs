//! The further rules of `explain` and `validate`, sentence by sentence, as a program that reads their JSON meets them.

mod common;

use std::path::Path;

use common::{mutua, said};
use serde_json::{Value, json};

const MESH: &str = include_str!("contract/mesh.yaml");

/// A folder with the mesh and one more file.
fn folder(more: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("mesh.yaml"), MESH).expect("written");
    std::fs::write(folder.path().join("more.yaml"), more).expect("written");
    folder
}

fn run(command: &str, folder: &Path, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let path = folder.to_str().expect("UTF-8");
    let output = mutua(&[&[command, "-f", path, "-o", "json"], arguments].concat());
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null), said(&output))
}

fn connection(more: &str, from: &str, to: &str) -> Value {
    let folder = folder(more);
    let (code, answer, said) = run("explain", folder.path(), &["--from", from, "--to", to]);
    assert_eq!(code, Some(0), "{from} {to}: {said}");
    answer
}

fn workload(more: &str, name: &str) -> Value {
    let folder = folder(more);
    let (code, answer, said) = run("explain", folder.path(), &["--workload", name]);
    assert_eq!(code, Some(0), "{name}: {said}");
    answer
}

/// The endpoints without their reasons.
fn endpoints(answer: &Value) -> Value {
    const FIELDS: [&str; 6] = ["workload", "address", "port", "sidecar", "serverMode", "connection"];
    let one = |endpoint: &Value| FIELDS.iter().map(|field| endpoint[field].clone()).collect::<Vec<_>>();
    json!(answer["endpoints"].as_array().expect("a list").iter().map(one).collect::<Vec<_>>())
}

fn istio(mesh_config: &str) -> String {
    format!(
        "apiVersion: sailoperator.io/v1\nkind: Istio\nmetadata: {{name: default}}\nspec: {{namespace: istio-system, version: v1.28.0, values: {{meshConfig: {mesh_config}}}}}\n"
    )
}

fn policy(spec: &str) -> String {
    format!("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n")
}

fn tls(host: &str, settings: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: tls, namespace: shop}}\nspec: {{host: {host}, trafficPolicy: {{tls: {settings}}}}}\n"
    )
}

#[test]
fn hosts_are_names_as_kubernetes_searches_them_or_addresses() {
    for host in ["server", "server.shop", "server.shop.svc", "server.shop.svc.cluster.local", "10.96.0.4"] {
        let answer = connection("", "shop/client", &format!("{host}:80"));
        assert_eq!(answer["client"]["sni"], "outbound_.80_._.server.shop.svc.cluster.local", "{host}");
        assert_eq!(endpoints(&answer), json!([["shop/server", "10.0.0.4", 8080, true, "PERMISSIVE", "mtls"]]));
    }
    let direct = connection("", "shop/client", "10.0.0.4:8080");
    assert_eq!(
        (&direct["client"]["tls"], &direct["client"]["sni"], &direct["outcome"]),
        (&json!("DISABLE"), &Value::Null, &json!("plaintext"))
    );
    let headless = connection("", "shop/client", "10.0.0.4:7000");
    assert_eq!(
        (&headless["client"]["sni"], &headless["outcome"]),
        (&json!("outbound_.7000_._.head.shop.svc.cluster.local"), &json!("mtls"))
    );
}

#[test]
fn unknown_destinations_pass_in_clear_or_are_refused() {
    for to in ["elsewhere:80", "nowhere.example.com:80", "203.0.113.9:80"] {
        let answer = connection("", "shop/client", to);
        let nothing = json!({"sidecar": true, "tls": "DISABLE", "auto": false, "sni": null, "subjectAltNames": []});
        assert_eq!((&answer["client"], &answer["outcome"]), (&nothing, &json!("plaintext")), "{to}");
        let only = istio("{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}");
        assert_eq!(connection(&only, "shop/client", to)["outcome"], "refused", "{to}");
    }
    let hides = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default, namespace: shop}\nspec: {egress: [{hosts: [\"istio-system/*\"]}]}\n";
    let answer = connection(hides, "shop/client", "server:80");
    assert_eq!(endpoints(&answer), json!([["shop/server", "10.0.0.4", 8080, true, "PERMISSIVE", "plaintext"]]));
    let strict = format!("{hides}---\n{}", policy("{mtls: {mode: STRICT}}"));
    assert_eq!(connection(&strict, "shop/client", "server:80")["outcome"], "refused");
}

#[test]
fn what_stands_for_an_endpoint() {
    let to = |to: &str| endpoints(&connection("", "shop/client", to));
    assert_eq!(to("bare:80"), json!([["shop/bare", "10.0.0.3", 80, false, null, "plaintext"]]));
    assert_eq!(to("api:80"), json!([["shop/api", null, 8080, true, "PERMISSIVE", "mtls"]]), "one, whatever its replicas");
    assert_eq!(to("manual:80"), json!([[null, "192.0.2.1", 8080, false, null, "plaintext"]]));
    assert_eq!(
        to("inline.example.com:80"),
        json!([[null, "192.0.2.10", 80, true, "PERMISSIVE", "mtls"], [null, "192.0.2.11", 80, false, null, "plaintext"]])
    );
    assert_eq!(to("api.example.com:443"), json!([[null, "api.example.com", 443, false, null, "plaintext"]]));
    let nobody = connection("", "shop/client", "nobody:80");
    assert_eq!((&nobody["endpoints"], &nobody["outcome"]), (&json!([]), &json!("refused")));
    assert_eq!(connection("", "shop/client", "inline.example.com:80")["outcome"], "mixed");
    let owned = "apiVersion: v1\nkind: Pod\nmetadata: {name: api-0, namespace: shop, labels: {app: api}, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: api, uid: u}]}\nstatus: {podIP: 10.0.0.9}\n";
    let answer = connection(owned, "shop/client", "api:80");
    assert_eq!(endpoints(&answer), json!([["shop/api-0", "10.0.0.9", 8080, false, null, "plaintext"]]), "judged by its label");
}

#[test]
fn workloads_are_named_and_what_is_not_clear_ends_with_2() {
    let folder = folder("");
    let code = |arguments: &[&str]| {
        let (code, _, said) = run("explain", folder.path(), arguments);
        (code, said)
    };
    let (two, said) = code(&["--workload", "shop/twice"]);
    assert!(two == Some(2) && said.contains("KIND/NAMESPACE/NAME"), "{said}");
    assert_eq!(code(&["--workload", "StatefulSet/shop/twice"]).0, Some(0));
    assert_eq!(code(&["--workload", "daemonset/shop/twice"]).0, Some(0));
    for wrong in [
        ["--from", "shop/client", "--to", "server:81"],
        ["--from", "shop/nobody", "--to", "server:80"],
        ["--from", "Deployment/shop/client", "--to", "server:80"],
    ] {
        assert_eq!(code(&wrong).0, Some(2), "{wrong:?}");
    }
    assert_eq!(code(&["--from", "shop/client", "--to", "server:80", "--subset", "v9"]).0, Some(2));
    let (_, answer, _) = run("explain", folder.path(), &["--from", "shop/client", "--to", "server:80", "--subset", "v1"]);
    assert_eq!(answer["client"]["sni"], "outbound_.80_.v1_.server.shop.svc.cluster.local");
    let (_, answer, _) = run("explain", folder.path(), &["--from", "shop/client", "--to", "server:80", "--subset", "v2"]);
    assert_eq!((&answer["endpoints"], &answer["outcome"]), (&json!([]), &json!("refused")), "nobody has its labels");
    let pod = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: client, namespace: shop}\nspec: {selector: {matchLabels: {app: c}}, template: {metadata: {labels: {app: c}}, spec: {containers: [{name: c, image: x}]}}}\n";
    assert_eq!(workload(pod, "shop/client")["trace"], workload("", "shop/client")["trace"], "pods before controllers");
}

#[test]
fn a_client_without_a_sidecar_evaluates_no_rule() {
    let more = tls("server", "{mode: ISTIO_MUTUAL}");
    let answer = connection(&more, "shop/bare", "server:80");
    assert_eq!(answer["client"], json!({"sidecar": false, "tls": "DISABLE", "auto": false, "sni": null, "subjectAltNames": []}));
    assert_eq!(answer["outcome"], "plaintext");
    let rules = answer["trace"].as_array().expect("a list").iter().map(|step| step["rule"].as_str().unwrap_or_default());
    assert!(!rules.into_iter().any(|rule| rule.starts_with("destination-rule")), "{answer}");
}

#[test]
fn tls_of_other_kinds_depends_on_the_servers_mode_and_protocol() {
    let files = "clientCertificate: /c, privateKey: /k, caCertificates: /r";
    let (simple, mutual) = ("{mode: SIMPLE, caCertificates: /r}".to_owned(), format!("{{mode: MUTUAL, {files}}}"));
    for (settings, mode, http, tcp) in [
        (&simple, "STRICT", "refused", "refused"),
        (&simple, "PERMISSIVE", "refused", "tls"),
        (&simple, "DISABLE", "refused", "tls"),
        (&mutual, "STRICT", "mtls", "mtls"),
        (&mutual, "PERMISSIVE", "refused", "tls"),
        (&mutual, "DISABLE", "refused", "tls"),
    ] {
        let more =
            format!("{}---\n{}", tls("\"*.shop.svc.cluster.local\"", settings), policy(&format!("{{mtls: {{mode: {mode}}}}}")));
        // The rule for `server` itself has no tls and would come first.
        let other = MESH.replace(
            "metadata: {name: server, namespace: shop}\nspec:\n  host: server",
            "metadata: {name: server, namespace: shop}\nspec:\n  host: other",
        );
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("mesh.yaml"), other + "---\n" + &more).expect("written");
        let to = |to: &str| run("explain", folder.path(), &["--from", "shop/client", "--to", to]).1;
        assert_eq!(
            (&to("server:80")["outcome"], &to("server:5432")["outcome"]),
            (&json!(http), &json!(tcp)),
            "{settings} {mode}"
        );
        assert_eq!((&to("bare:80")["outcome"], &to("bare:80")["client"]["sni"]), (&json!("tls"), &Value::Null));
    }
}

/// A Deployment in `namespace`; labels and annotations of its pods, and more of their spec.
fn deployment(namespace: &str, labels: &str, annotations: &str, spec: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d, namespace: {namespace}}}\nspec: {{selector: {{matchLabels: {{app: d}}}}, template: {{metadata: {{labels: {{app: d{labels}}}, annotations: {{{annotations}}}}}, spec: {{containers: [{{name: c, image: x}}]{spec}}}}}}}\n"
    )
}

#[test]
fn who_gets_a_sidecar() {
    for (namespace, labels, annotations, spec, expected) in [
        ("shop", "", "", "", true),
        ("shop", ", sidecar.istio.io/inject: \"false\"", "", "", false),
        ("shop", "", "sidecar.istio.io/inject: \"false\"", "", false),
        ("shop", ", sidecar.istio.io/inject: \"true\"", "sidecar.istio.io/inject: \"false\"", "", true),
        ("shop", ", sidecar.istio.io/inject: \"yes\"", "", "", true),
        ("shop", "", "", ", hostNetwork: true", false),
        ("shop", ", security.istio.io/tlsMode: disabled", "", "", false),
        ("rev", "", "", "", true),
        ("rev", ", sidecar.istio.io/inject: \"false\"", "", "", false),
        ("off", "", "", "", false),
        ("off", ", sidecar.istio.io/inject: \"true\"", "", "", false),
        ("kube-system", "", "", "", false),
        ("plain", "", "", "", false),
        ("plain", ", sidecar.istio.io/inject: \"true\"", "", "", true),
        ("plain", "", "sidecar.istio.io/inject: \"true\"", "", false),
        ("plain", ", istio.io/rev: stable", "", "", true),
        ("plain", ", istio.io/rev: stable, sidecar.istio.io/inject: \"false\"", "", "", false),
    ] {
        let answer = workload(&deployment(namespace, labels, annotations, spec), &format!("{namespace}/d"));
        assert_eq!(answer["sidecar"], json!(expected), "{namespace} {labels} {annotations} {spec}");
    }
    for (more, expected) in [
        ("", false),
        (", serviceAccount: vm", true),
        (", serviceAccount: vm, labels: {security.istio.io/tlsMode: disabled}", false),
        (", labels: {security.istio.io/tlsMode: istio}", true),
    ] {
        let entry = format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: vm, namespace: shop}}\nspec: {{address: 192.0.2.20{more}}}\n"
        );
        assert_eq!(workload(&entry, "shop/vm")["sidecar"], json!(expected), "{more}");
    }
    assert_eq!(workload("", "shop/bare")["sidecar"], json!(false), "a live pod by its label, in an injected namespace too");
}

#[test]
fn the_ports_of_a_workload_are_those_of_services_containers_and_policies() {
    let more = policy(
        "{selector: {matchLabels: {app: server}}, mtls: {mode: STRICT}, portLevelMtls: {\"5000\": {mode: DISABLE}, \"8080\": {}}}",
    );
    let answer = workload(&more, "shop/server");
    let ports = json!({"5000": "DISABLE", "5432": "STRICT", "7000": "STRICT", "8080": "STRICT", "9999": "STRICT"});
    assert_eq!((&answer["mode"], &answer["ports"]), (&json!("STRICT"), &ports));
    let bare = workload(&policy("{mtls: {mode: STRICT}}"), "shop/bare");
    assert_eq!((&bare["mode"], &bare["sidecar"]), (&json!("STRICT"), &json!(false)), "what the policies compose to");
}

#[test]
fn a_missing_timestamp_is_older_than_any_and_ties_go_by_name() {
    let one = |name: &str, mode: &str, created: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: shop{created}}}\nspec: {{mtls: {{mode: {mode}}}}}\n---\n"
        )
    };
    let at = |year: u16| format!(", creationTimestamp: \"{year}-01-01T00:00:00Z\"");
    let mode = |documents: &str| workload(documents, "shop/server")["mode"].as_str().unwrap_or_default().to_owned();
    assert_eq!(mode(&(one("a", "STRICT", &at(2001)) + &one("z", "DISABLE", ""))), "DISABLE");
    assert_eq!(mode(&(one("z", "STRICT", &at(2001)) + &one("a", "DISABLE", &at(2002)))), "STRICT");
    assert_eq!(mode(&(one("z", "STRICT", &at(2001)) + &one("a", "DISABLE", &at(2001)))), "DISABLE");
}

#[test]
fn the_mesh_configuration_stands_in_the_istio_resource_or_the_config_map() {
    let config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    trustDomain: me.corp\n    enableAutoMtls: false\n";
    let answer = connection(config_map, "shop/client", "server:80");
    assert_eq!((&answer["client"]["tls"], &answer["outcome"]), (&json!("DISABLE"), &json!("plaintext")));
    let named = |name: &str, config: &str| istio(config).replace("name: default", &format!("name: {name}"));
    let several = named("a", "{trustDomain: a.corp}") + "---\n" + &named("default", "{trustDomain: d.corp}");
    let names = |more: &str| connection(more, "shop/client", "server:80")["client"]["subjectAltNames"].clone();
    assert_eq!(names(&several), json!(["spiffe://d.corp/ns/shop/sa/default"]), "a missing serviceAccountName is `default`");
    let folder = folder(&(named("a", "{}") + "---\n" + &named("b", "{}")));
    assert_eq!(run("explain", folder.path(), &["--workload", "shop/server"]).0, Some(2), "none is called default");
    let root = istio("{rootNamespace: mesh-root}")
        + "---\n"
        + &policy("{mtls: {mode: STRICT}}").replace("namespace: shop", "namespace: mesh-root");
    assert_eq!(workload(&root, "shop/server")["mode"], "STRICT", "rootNamespace need not be the control plane's");
}

#[test]
fn validate_names_object_and_path_and_reports_a_missing_namespace() {
    let more = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p}\nspec: {selector: {matchLabels: {app: x}}, portLevelMtls: {\"8080\": {mode: STRCT}}}\n---\n".to_owned()
        + &istio("{meshMTLS: {ecdhCurves: [P-256]}}")
        + "---\n"
        + &tls("server", "{mode: SIMPLE}");
    let folder = folder(&more);
    let (code, answer, _) = run("validate", folder.path(), &[]);
    assert_eq!((code, &answer["valid"]), (Some(1), &json!(false)));
    let said = |list: &str| -> Vec<(String, String)> {
        let text = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
        answer[list].as_array().expect("a list").iter().map(|one| (text(one, "object"), text(one, "path"))).collect()
    };
    let pair = |object: &str, path: &str| (object.to_owned(), path.to_owned());
    assert_eq!(
        said("errors"),
        [
            pair("PeerAuthentication default/p", "spec/portLevelMtls/8080/mode"),
            pair("Istio default", "spec/values/meshConfig/meshMTLS/ecdhCurves"),
        ]
    );
    assert!(said("warnings").contains(&pair("DestinationRule shop/tls", "spec/trafficPolicy/tls")), "{answer}");
    assert!(said("infos").contains(&pair("PeerAuthentication default/p", "metadata/namespace")), "{answer}");
}
