use clap::Parser;
use mutua_model::MeshConfig;
use mutua_model::read::manifests;

use super::*;

#[derive(clap::Parser)]
struct Command {
    #[arg(long, default_value = "istio-system")]
    istio_namespace: String,
    #[command(flatten)]
    settings: Settings,
}

fn settings(arguments: &[&str]) -> Settings {
    Command::try_parse_from(["inject"].iter().chain(arguments)).expect("arguments").settings
}

fn injector(arguments: &[&str]) -> Injector {
    let Command { istio_namespace, settings } = Command::try_parse_from(["inject"].iter().chain(arguments)).expect("arguments");
    Injector::new(&settings, &istio_namespace, &MeshConfig::default()).expect("no template")
}

fn namespace(labels: &[(&str, &str)]) -> Namespace {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Namespace { name: "shop".to_owned(), labels: Some(labels), annotations: Labels::new() }
}

fn web() -> Owner {
    Owner { kind: "Deployment".to_owned(), name: "web".to_owned() }
}

fn yaml(text: &str) -> Value {
    manifests("t", text).expect("YAML").remove(0).value.expect("a value")
}

fn asked() -> Namespace {
    namespace(&[("istio-injection", "enabled")])
}

fn injected(injector: &Injector, pod: &Value) -> Value {
    match injector.inject(pod, &web(), &asked()) {
        Ok(Outcome::Injected(pod, _)) => *pod,
        other => panic!("{other:?}"),
    }
}

fn pod(annotations: &[(&str, &str)]) -> Value {
    let annotations: Labels = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    json!({
        "metadata": { "labels": { "app": "web" }, "annotations": annotations },
        "spec": { "initContainers": [{ "name": "migrate" }], "containers": [{ "name": "web", "image": "web:1" }, { "name": "log" }] },
    })
}

fn container<'a>(pod: &'a Value, list: &str, name: &str) -> &'a Value {
    let found = pod["spec"][list].as_array().and_then(|all| all.iter().find(|one| one["name"] == name));
    found.unwrap_or_else(|| panic!("no {name} in {list} of {pod:#}"))
}

fn arguments(container: &Value) -> Vec<&str> {
    container["args"].as_array().expect("arguments").iter().filter_map(Value::as_str).collect()
}

#[test]
fn a_native_sidecar_stands_after_the_rules_and_before_all_others() {
    let pod = injected(&injector(&[]), &pod(&[]));
    assert_eq!(names(&pod["spec"], "initContainers"), [INIT, PROXY, "migrate"]);
    assert_eq!(names(&pod["spec"], "containers"), ["web", "log"]);
    assert_eq!(container(&pod, "initContainers", PROXY)["restartPolicy"], "Always");
}

#[test]
fn a_classic_sidecar_stands_last_or_first_when_others_wait_for_it() {
    let classic = injector(&["--native-sidecar", "false"]);
    let plain = injected(&classic, &pod(&[]));
    assert_eq!(names(&plain["spec"], "initContainers"), ["migrate", INIT]);
    assert_eq!(names(&plain["spec"], "containers"), ["web", "log", PROXY]);
    assert_eq!(container(&plain, "containers", PROXY)["restartPolicy"], Value::Null);
    let held = injected(&classic, &pod(&[("proxy.istio.io/config", "holdApplicationUntilProxyStarts: true")]));
    assert_eq!(names(&held["spec"], "containers"), [PROXY, "web", "log"]);
    assert_eq!(container(&held, "containers", PROXY)["lifecycle"]["postStart"]["httpGet"]["path"], "/wait/ready");
    let native = injected(&classic, &pod(&[("sidecar.istio.io/nativeSidecar", "true")]));
    assert_eq!(names(&native["spec"], "containers"), ["web", "log"]);
}

#[test]
fn the_sidecar_finds_control_plane_token_and_root() {
    let injector = injector(&["--revision", "canary", "--istio-namespace", "mesh", "--image-pull-secret", "key"]);
    let pod = match injector.inject(&pod(&[]), &web(), &namespace(&[("istio.io/rev", "canary")])) {
        Ok(Outcome::Injected(pod, _)) => *pod,
        other => panic!("{other:?}"),
    };
    let expected = [
        "proxy",
        "--workload=$(POD_NAMESPACE)/$(POD_NAME)",
        "--control-plane=istiod-canary.mesh.svc:15012",
        "--ca-root=/var/run/secrets/istio/root-cert.pem",
        "--token-file=/var/run/secrets/tokens/istio-token",
        "--state=/etc/istio/proxy/state",
        "--trust-domain=cluster.local",
        "--root-namespace=mesh",
    ];
    let proxy = container(&pod, "initContainers", PROXY);
    assert_eq!(arguments(proxy), expected);
    let volume =
        |name: &str| pod["spec"]["volumes"].as_array().and_then(|all| all.iter().find(|one| one["name"] == name)).cloned();
    let token = json!({"path": "istio-token", "expirationSeconds": 43200, "audience": "istio-ca"});
    let projected = json!({"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": token}]}});
    assert_eq!(volume("istio-token"), Some(projected));
    assert_eq!(volume("istiod-ca-cert"), Some(json!({"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}})));
    assert_eq!(volume("istio-envoy"), Some(json!({"name": "istio-envoy", "emptyDir": {"medium": "Memory"}})));
    let mounted: Vec<_> = proxy["volumeMounts"].as_array().expect("mounts").iter().map(|one| one["mountPath"].clone()).collect();
    for folder in ["/var/run/secrets/istio", "/var/run/secrets/tokens", "/etc/istio/proxy"] {
        assert!(mounted.contains(&json!(folder)), "{folder}");
    }
    let security = json!({
        "allowPrivilegeEscalation": false, "privileged": false, "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true, "runAsGroup": 1337, "runAsNonRoot": true, "runAsUser": 1337,
    });
    assert_eq!(proxy["securityContext"], security);
    assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "key"}]));
    assert_eq!(pod["metadata"]["annotations"]["istio.io/rev"], "canary");
}

#[test]
fn labels_and_annotations_are_those_that_others_look_for() {
    let pod = injected(&injector(&[]), &pod(&[]));
    let expected = json!({
        "app": "web",
        "security.istio.io/tlsMode": "istio",
        "service.istio.io/canonical-name": "web",
        "service.istio.io/canonical-revision": "latest",
    });
    assert_eq!(pod["metadata"]["labels"], expected);
    let annotations = &pod["metadata"]["annotations"];
    let status: Value = serde_json::from_str(annotations[STATUS].as_str().expect("a status")).expect("JSON");
    let expected = json!({
        "initContainers": [INIT, PROXY], "containers": null, "imagePullSecrets": null, "revision": "default",
        "volumes": ["istio-envoy", "istio-podinfo", "istio-token", "istiod-ca-cert"],
    });
    assert_eq!(status, expected);
    let plain = |name: &str| annotations[name].as_str().expect("an annotation").to_owned();
    assert_eq!(plain("istio.io/rev"), "default");
    assert_eq!(plain("kubectl.kubernetes.io/default-container"), "web");
    assert_eq!([plain("prometheus.io/scrape"), plain("prometheus.io/port")], ["true", "15020"]);
}

#[test]
fn what_the_pod_says_of_itself_stands_above() {
    let mut given = pod(&[("prometheus.io/port", "9100"), ("kubectl.kubernetes.io/default-container", "log")]);
    given["metadata"]["labels"] = json!({
        "app": "web", "app.kubernetes.io/name": "front", "version": "v2", "security.istio.io/tlsMode": "disabled",
    });
    let pod = injected(&injector(&[]), &given);
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["service.istio.io/canonical-name"], "front");
    assert_eq!(labels["service.istio.io/canonical-revision"], "v2");
    assert_eq!(labels["security.istio.io/tlsMode"], "disabled");
    assert_eq!(pod["metadata"]["annotations"]["prometheus.io/port"], "9100", "the application's own scraping stays");
    assert_eq!(pod["metadata"]["annotations"]["prometheus.io/scrape"], Value::Null);
    assert_eq!(pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"], "log");
    given["metadata"]["labels"] = json!({});
    let long = Owner { name: format!("{}-tail", "x".repeat(62)), ..web() };
    let Ok(Outcome::Injected(pod, _)) = injector(&[]).inject(&given, &long, &asked()) else { panic!("not injected") };
    assert_eq!(pod["metadata"]["labels"]["service.istio.io/canonical-name"], "x".repeat(62), "63 characters, no dash at the end");
}

#[test]
fn a_second_injection_changes_nothing() {
    let injector = injector(&[]);
    let once = injected(&injector, &pod(&[]));
    assert_eq!(injector.inject(&once, &web(), &asked()), Ok(Outcome::Already));
}

#[test]
fn the_decision_is_the_engines() {
    let (injector, plain) = (injector(&[]), pod(&[]));
    let decided = |pod: &Value, namespace: &Namespace| injector.inject(pod, &web(), namespace);
    assert_eq!(decided(&plain, &namespace(&[])), Ok(Outcome::Not(NotInjected::NotAsked)));
    assert_eq!(decided(&plain, &namespace(&[("istio.io/rev", "canary")])), Ok(Outcome::Not(NotInjected::NotAsked)));
    let mut node = plain.clone();
    node["spec"]["hostNetwork"] = json!(true);
    assert_eq!(decided(&node, &asked()), Ok(Outcome::Not(NotInjected::HostNetwork)));
    let says_no = pod(&[("sidecar.istio.io/inject", "false")]);
    assert_eq!(decided(&says_no, &asked()), Ok(Outcome::Not(NotInjected::PodSaysNo)));
    // A namespace that nobody knows: whoever calls has decided, the pod may still say no.
    let unknown = Namespace { name: "shop".to_owned(), ..Namespace::default() };
    assert!(matches!(decided(&plain, &unknown), Ok(Outcome::Injected(..))));
    assert_eq!(decided(&says_no, &unknown), Ok(Outcome::Not(NotInjected::PodSaysNo)));
}

#[test]
fn capture_follows_the_annotations() {
    let annotations = [
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/8, fd00::/8"),
        ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.1.0.0/16"),
        ("traffic.sidecar.istio.io/includeInboundPorts", "80,443"),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "9090"),
        ("traffic.sidecar.istio.io/includeOutboundPorts", "5432"),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "25"),
        ("traffic.sidecar.istio.io/excludeInterfaces", "eth1"),
        ("status.sidecar.istio.io/port", "16020"),
    ];
    let pod = injected(&injector(&[]), &pod(&annotations));
    let expected = [
        "redirect",
        "apply",
        "--uid=1337",
        "--gid=1337",
        "--include-outbound-ip-ranges=10.0.0.0/8,fd00::/8",
        "--exclude-outbound-ip-ranges=10.1.0.0/16",
        "--include-inbound-ports=80,443",
        "--include-outbound-ports=5432",
        "--exclude-outbound-ports=25",
        "--exclude-interfaces=eth1",
        "--exclude-inbound-ports=9090,16020",
    ];
    assert_eq!(arguments(container(&pod, "initContainers", INIT)), expected);
    assert!(arguments(container(&pod, "initContainers", PROXY)).contains(&"--status-port=16020"));
}

#[test]
fn an_annotation_that_cannot_be_is_refused_by_name() {
    let cases = [
        ("sidecar.istio.io/interceptionMode", "ALL"),
        ("traffic.sidecar.istio.io/includeInboundPorts", "http"),
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/33"),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "*"),
        ("traffic.sidecar.istio.io/excludeInterfaces", "-x"),
        ("status.sidecar.istio.io/port", "70000"),
        ("sidecar.istio.io/proxyCPU", "much"),
        ("sidecar.istio.io/userVolume", "[]"),
        ("readiness.status.sidecar.istio.io/periodSeconds", "-1"),
        ("proxy.istio.io/config", "concurrency: many"),
        ("proxy.istio.io/config", "a: 1\na: 2"),
    ];
    for (name, value) in cases {
        match injector(&[]).inject(&pod(&[(name, value)]), &web(), &asked()) {
            Err(error) => assert!(error.to_string().contains(name), "{error}"),
            Ok(_) => panic!("{name}: {value} is accepted"),
        }
    }
    let error = injector(&[]).inject(&pod(&[("inject.istio.io/templates", "sidecar, gateway")]), &web(), &asked());
    assert_eq!(error, Err(InjectError::Template("gateway".to_owned())));
}

#[test]
fn modes_of_capture() {
    let tproxy = injected(&injector(&[]), &pod(&[("sidecar.istio.io/interceptionMode", "TPROXY")]));
    let proxy = container(&tproxy, "initContainers", PROXY);
    assert_eq!(proxy["securityContext"]["capabilities"]["add"], json!(["CHOWN", "NET_ADMIN", "SETGID", "SETUID"]));
    assert!(arguments(container(&tproxy, "initContainers", INIT)).contains(&"--inbound-interception-mode=TPROXY"));
    let mode = |proxy: &Value| {
        proxy["env"].as_array().expect("env").iter().find(|one| one["name"] == "ISTIO_META_INTERCEPTION_MODE").cloned()
    };
    assert_eq!(mode(proxy).expect("a mode")["value"], "TPROXY");
    let none = injected(&injector(&[]), &pod(&[("sidecar.istio.io/interceptionMode", "NONE")]));
    assert_eq!(names(&none["spec"], "initContainers"), [PROXY, "migrate"]);
}

#[test]
fn user_and_group_are_of_the_namespaces_range_on_openshift() {
    let mut openshift = asked();
    openshift.annotations.insert("openshift.io/sa.scc.uid-range".to_owned(), "1000650000/10000".to_owned());
    let Ok(Outcome::Injected(pod, _)) = injector(&[]).inject(&pod(&[]), &web(), &openshift) else { panic!("not injected") };
    let context = &container(&pod, "initContainers", PROXY)["securityContext"];
    assert_eq!((&context["runAsUser"], &context["runAsGroup"]), (&json!(1_000_659_999), &json!(1_000_659_999)));
    assert!(arguments(container(&pod, "initContainers", INIT)).contains(&"--uid=1000659999"));
}

#[test]
fn proxy_configuration_resources_and_volumes_are_the_pods() {
    let annotations = [
        (
            "proxy.istio.io/config",
            "concurrency: 4\nproxyMetadata: {ISTIO_META_DNS_CAPTURE: \"false\", X: 1}\nterminationDrainDuration: 30s\ntracing: {}",
        ),
        ("sidecar.istio.io/proxyMemory", "64Mi"),
        ("sidecar.istio.io/proxyCPULimit", "1500m"),
        ("sidecar.istio.io/userVolume", r#"{"certs": {"secret": {"secretName": "s"}}}"#),
        ("sidecar.istio.io/userVolumeMount", r#"{"certs": {"mountPath": "/etc/certs", "readOnly": true}}"#),
        ("sidecar.istio.io/proxyImage", "registry/mutua:2"),
    ];
    let Ok(Outcome::Injected(pod, warnings)) = injector(&[]).inject(&pod(&annotations), &web(), &asked()) else { panic!() };
    assert_eq!(warnings, ["annotation proxy.istio.io/config: `tracing` does nothing here"]);
    let proxy = container(&pod, "initContainers", PROXY);
    for argument in ["--concurrency=4", "--drain=30s", "--tls-dir=/etc/certs"] {
        assert!(arguments(proxy).contains(&argument), "{argument}");
    }
    assert_eq!(proxy["resources"], json!({"requests": {"memory": "64Mi"}, "limits": {"cpu": "1500m"}}));
    assert_eq!(proxy["image"], "registry/mutua:2");
    let mounts = proxy["volumeMounts"].as_array().expect("mounts");
    assert!(mounts.contains(&json!({"name": "certs", "mountPath": "/etc/certs", "readOnly": true})));
    let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
    assert!(volumes.contains(&json!({"name": "certs", "secret": {"secretName": "s"}})));
    for name in [INIT, PROXY] {
        let environment = container(&pod, "initContainers", name)["env"].as_array().expect("env").clone();
        assert!(environment.contains(&json!({"name": "ISTIO_META_DNS_CAPTURE", "value": "false"})), "{name}");
        assert!(environment.contains(&json!({"name": "X", "value": "1"})), "{name}");
    }
}

#[test]
fn probes_go_by_way_of_the_sidecar_unless_the_pod_says_no() {
    let with = |annotations: &[(&str, &str)]| {
        let mut pod = pod(annotations);
        pod["spec"]["containers"][0]["readinessProbe"] = json!({"httpGet": {"path": "/ok", "port": 8080}});
        let pod = injected(&injector(&[]), &pod);
        let env = container(&pod, "initContainers", PROXY)["env"].as_array().expect("env").clone();
        let probers = env.iter().find(|one| one["name"] == "ISTIO_KUBE_APP_PROBERS").map(|one| one["value"].clone());
        (container(&pod, "containers", "web")["readinessProbe"]["httpGet"].clone(), probers)
    };
    let (probe, probers) = with(&[]);
    assert_eq!(probe, json!({"path": "/app-health/web/readyz", "port": 15020}));
    assert_eq!(probers, Some(json!(r#"{"/app-health/web/readyz":{"httpGet":{"path":"/ok","port":8080}}}"#)));
    for off in [("sidecar.istio.io/rewriteAppHTTPProbers", "false"), ("status.sidecar.istio.io/port", "0")] {
        assert_eq!(with(&[off]), (json!({"path": "/ok", "port": 8080}), None), "{off:?}");
    }
}

#[test]
fn a_template_is_laid_over_and_the_pods_own_container_over_both() {
    let mut injector = injector(&[]);
    injector.template = Some(yaml(
        "spec:\n  initContainers:\n  - name: istio-proxy\n    resources: {limits: {memory: 2Gi}}\n    env: [{name: MUTUA_LOG, value: debug}]\n  volumes: [{name: extra, emptyDir: {}}]\nmetadata: {labels: {team: mesh}}\n",
    ));
    let mut own = pod(&[]);
    own["spec"]["containers"].as_array_mut().expect("containers").push(json!({
        "name": PROXY, "image": "auto", "securityContext": {"runAsUser": 4711}, "env": [{"name": "MUTUA_LOG", "value": "trace"}],
    }));
    let pod = injected(&injector, &own);
    let proxy = container(&pod, "initContainers", PROXY);
    assert_eq!(names(&pod["spec"], "containers"), ["web", "log"], "it moves to where the sidecar is");
    assert_eq!(proxy["resources"]["limits"], json!({"cpu": "2", "memory": "2Gi"}));
    let logs: Vec<_> = proxy["env"].as_array().expect("env").iter().filter(|one| one["name"] == "MUTUA_LOG").collect();
    assert_eq!(logs, [&json!({"name": "MUTUA_LOG", "value": "trace"})]);
    assert_eq!(proxy["image"], settings(&[]).image, "auto is the injector's own image");
    assert_eq!(proxy["securityContext"]["runAsUser"], 4711);
    assert!(arguments(container(&pod, "initContainers", INIT)).contains(&"--uid=4711"), "the rules exempt whom it runs as");
    assert_eq!(pod["metadata"]["labels"]["team"], "mesh");
    assert!(pod["metadata"]["annotations"][STATUS].as_str().is_some_and(|status| status.contains("extra")));
}

fn known(namespaces: &[Namespace]) -> Namespaces {
    let known = namespaces.iter().map(|one| (one.name.clone(), one.clone())).collect();
    Namespaces { known, default: "default".to_owned() }
}

fn file(text: &str) -> (String, Vec<Report>) {
    inject_text(&injector(&[]), &known(&[asked()]), ("f", text), &|value| format!("{value}\n")).expect("YAML")
}

#[test]
fn untouched_documents_stay_byte_by_byte() {
    let text = "# head\r\n---\nkind: Other # c\na: [ 1,2 ]\n---   # second\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: kube-system}\nspec: {}\n--- # third\n# inside\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\nspec: {containers: [{name: c}]}\n---\nkind: Last";
    let (out, reports) = file(text);
    let (before, after) = text.split_once("--- # third\n").expect("a marker");
    let injected = out.strip_prefix(before).expect("the documents before");
    let injected = injected.strip_prefix("--- # third\n").expect("the marker stays");
    let injected = injected.strip_suffix(&after[after.find("---\n").expect("a marker")..]).expect("the documents after");
    let pod: Value = serde_json::from_str(injected).expect("the pod");
    assert_eq!(names(&pod["spec"], "initContainers"), [INIT, PROXY]);
    let told: Vec<_> = reports.iter().map(|one| (one.object.as_str(), one.line, one.outcome.is_ok())).collect();
    assert_eq!(told, [("Pod kube-system/p", 5, true), ("Pod shop/p", 10, true)]);
    assert_eq!(file(&text.replace("shop", "kube-public")).0, text.replace("shop", "kube-public"));
}

#[test]
fn every_kind_that_makes_pods_is_found() {
    let template = json!({"metadata": {}, "spec": {"containers": [{"name": "c"}]}});
    let object = |group: &str, kind: &str, spec: &Value| json!({"apiVersion": group, "kind": kind, "metadata": {"name": "x", "namespace": "shop"}, "spec": spec});
    let simple = json!({ "template": template });
    let cases = [
        object("apps/v1", "Deployment", &simple),
        object("apps/v1", "StatefulSet", &simple),
        object("apps/v1", "DaemonSet", &simple),
        object("apps/v1", "ReplicaSet", &simple),
        object("batch/v1", "Job", &simple),
        object("batch/v1", "CronJob", &json!({"jobTemplate": {"spec": simple}})),
        object("v1", "Pod", &template["spec"]),
    ];
    let list = json!({"apiVersion": "v1", "kind": "List", "items": cases});
    let (out, reports) = file(&list.to_string());
    assert!(reports.iter().all(|report| report.outcome == Ok(Injected::Now(Vec::new()))), "{reports:?}");
    assert_eq!(reports.len(), cases.len());
    let out: Value = serde_json::from_str(&out).expect("JSON stays JSON");
    for (item, path) in out["items"].as_array().expect("items").iter().zip([
        "/template",
        "/template",
        "/template",
        "/template",
        "/template",
        "/jobTemplate/spec/template",
        "",
    ]) {
        let spec = item["spec"].pointer(path).expect("a template");
        let spec = if path.is_empty() { spec } else { &spec["spec"] };
        assert_eq!(names(spec, "initContainers"), [INIT, PROXY], "{item}");
    }
    let other = object("example.com/v1", "Deployment", &simple).to_string();
    assert_eq!(file(&other), (other, Vec::new()));
}
