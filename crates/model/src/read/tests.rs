use std::net::IpAddr;

use proptest::prelude::*;

use super::{InputError, Inputs, Loaded};
use crate::service::TargetPort;
use crate::{AppProtocol, ClientTlsMode, MtlsMode, OutboundPolicy, Severity, TlsVersion};

fn load(text: &str) -> Loaded {
    Inputs::from_texts([("a.yaml", text)]).load().unwrap()
}

fn syntax(text: &str) -> (u32, u32, String) {
    match Inputs::from_texts([("a.yaml", text)]).load() {
        Err(InputError::Syntax { place, message }) => (place.line, place.column, message),
        other => panic!("{other:?}"),
    }
}

fn errors(loaded: &Loaded) -> Vec<String> {
    loaded.errors().map(|error| format!("{}: {}: {}", error.place, error.path, error.message)).collect()
}

const POLICY: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: httpbin
  namespace: bar
  creationTimestamp: 2024-02-29T12:00:00Z
spec:
  selector:
    matchLabels:
      app: httpbin
  mtls:
    mode: STRICT
  portLevelMtls:
    8080:
      mode: DISABLE
    9090:
";

#[test]
fn a_peer_authentication_is_read_with_its_places() {
    let loaded = load(POLICY);
    assert_eq!(errors(&loaded), Vec::<String>::new());
    let policy = &loaded.mesh.peer_authentications[0];
    assert_eq!(policy.meta.object.to_string(), "PeerAuthentication bar/httpbin");
    assert_eq!(policy.meta.created, Some(1_709_208_000));
    assert_eq!(policy.mode, Some(MtlsMode::Strict));
    assert_eq!(policy.ports.iter().collect::<Vec<_>>(), [(&8080, &Some(MtlsMode::Disable)), (&9090, &None)]);
    assert_eq!(policy.selector["app"], "httpbin");
    let place = |path: &str| policy.meta.places.of(path).to_string();
    assert_eq!(place("spec/mtls/mode"), "a.yaml:12:11");
    assert_eq!(place("spec/portLevelMtls"), "a.yaml:13:3");
    assert_eq!(place("spec/portLevelMtls/8080/mode"), "a.yaml:15:13");
    assert_eq!(place(""), "a.yaml:1:1");
}

#[test]
fn json_is_yaml() {
    let json = r#"{"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
	"metadata": {"name": "default", "namespace": "bar"},
	"spec": {"mtls": {"mode": "STRICT"}}}"#;
    let loaded = load(json);
    assert_eq!(loaded.mesh.peer_authentications[0].mode, Some(MtlsMode::Strict));
    assert_eq!(loaded.mesh.peer_authentications[0].meta.places.of("spec/mtls/mode").line, 3);
}

#[test]
fn an_address_may_end_in_colons_in_a_list_of_one_line() {
    let entry = |addresses: &str| {
        let spec = format!("{{hosts: [a.b], addresses: {addresses}, ports: [{{number: 80, name: http}}]}}");
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: foo}}\nspec: {spec}\n"
        );
        load(&text).mesh.service_entries[0].addresses.clone()
    };
    assert_eq!(entry("[1.2.3.4, 2001:db8::]"), ["1.2.3.4", "2001:db8::"]);
    assert_eq!(entry("[fd00::, 1.2.3.4]"), ["fd00::", "1.2.3.4"]);
    assert!(entry("[key: ]").is_empty(), "a mapping is no address");
}

#[test]
fn a_destination_rule_is_read() {
    let loaded = load(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r, namespace: foo}\nspec:\n  host: h.bar\n  \
         exportTo: ['.']\n  trafficPolicy:\n    tls: {}\n    portLevelSettings:\n    - port: {number: 80}\n      tls: {mode: SIMPLE, \
         sni: on, insecureSkipVerify: yes}\n  subsets:\n  - name: v1\n    labels: {version: v1}\n    trafficPolicy: {loadBalancer: \
         {simple: PASSTHROUGH}}\n",
    );
    let rule = &loaded.mesh.destination_rules[0];
    let policy = rule.policy.as_ref().unwrap();
    assert_eq!(policy.tls.as_ref().unwrap().mode, ClientTlsMode::Disable);
    let (port, simple) = &policy.ports[0];
    let tls = simple.tls.as_ref().unwrap();
    assert_eq!((*port, tls.mode, tls.sni.as_str(), tls.insecure_skip_verify), (80, ClientTlsMode::Simple, "on", true));
    assert!(rule.subsets[0].policy.as_ref().unwrap().passthrough);
    assert_eq!(rule.meta.places.of("spec/trafficPolicy/portLevelSettings[0]/tls/sni").line, 11);
}

#[test]
fn core_kinds_are_read() {
    let loaded = load(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: db, namespace: bar}\n  spec:\n    \
         clusterIP: 10.0.0.1\n    selector: {app: db}\n    ports:\n    - {port: 80, name: http-web, targetPort: web}\n    - {port: \
         3306}\n    - {port: 53, protocol: UDP}\n    - {port: 81, appProtocol: kubernetes.io/h2c, targetPort: '8081'}\n- apiVersion: \
         batch/v1\n  kind: CronJob\n  metadata: {name: nightly}\n  spec: {jobTemplate: {spec: {template: {metadata: {labels: {a: 1}}, \
         spec: {serviceAccount: robot, containers: [{name: c, ports: [{containerPort: 9}]}]}}}}}\n- apiVersion: v1\n  kind: Pod\n  \
         metadata: {name: p, namespace: bar}\n  spec: nonsense\n  status: {podIP: 10.1.0.1, phase: Running}\n",
    );
    assert_eq!(errors(&loaded), Vec::<String>::new());
    let service = &loaded.mesh.services[0];
    assert_eq!(service.cluster_ips, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    let ports: Vec<_> = service.ports.iter().map(|port| (port.number, port.protocol, port.target.clone())).collect();
    assert_eq!(
        ports,
        [
            (80, AppProtocol::Http, TargetPort::Named("web".to_owned())),
            (3306, AppProtocol::Tcp, TargetPort::Number(3306)),
            (53, AppProtocol::Udp, TargetPort::Number(53)),
            (81, AppProtocol::Http2, TargetPort::Number(8081)),
        ]
    );
    let job = &loaded.mesh.controllers[0];
    assert_eq!((job.meta.namespace(), job.spec.service_account.as_str(), job.spec.ports[0].number), ("default", "robot", 9));
    assert_eq!(job.labels["a"], "1");
    assert_eq!(loaded.mesh.pods[0].ips.len(), 1);
    assert_eq!(loaded.mesh.pods[0].spec.service_account, "default");
}

#[test]
fn protocols_are_derived_as_istio_does() {
    use super::convert::of_service_port as of;
    let cases = [
        ("http", AppProtocol::Http),
        ("HTTP-x", AppProtocol::Http),
        ("http2-x", AppProtocol::Http2),
        ("grpc", AppProtocol::Http2),
        ("grpc-web-x", AppProtocol::Http),
        ("https-x", AppProtocol::Tcp),
        ("mongo", AppProtocol::Tcp),
        ("udp-x", AppProtocol::Udp),
        ("web", AppProtocol::Auto),
        ("httpx", AppProtocol::Auto),
    ];
    for (name, expected) in cases {
        assert_eq!(of(8080, name, None, None), expected, "{name}");
    }
    assert_eq!(of(25, "mail", None, None), AppProtocol::Tcp);
    assert_eq!(of(80, "http", None, Some("kubernetes.io/wss")), AppProtocol::Tcp);
    assert_eq!(of(80, "tcp", Some("TCP"), Some("http")), AppProtocol::Http);
    assert_eq!(of(80, "http", Some("UDP"), None), AppProtocol::Udp);
}

const ISTIO: &str = "apiVersion: sailoperator.io/v1\nkind: Istio\nmetadata: {name: default}\nspec:\n  namespace: mesh\n  values:\n    \
                     global: {proxy: {clusterDomain: c.example}}\n    meshConfig:\n      enableAutoMtls: false\n      trustDomain: \
                     td\n      meshMTLS: {minProtocolVersion: TLSV1_3}\n      outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n";

#[test]
fn the_istio_resource_configures_the_mesh() {
    let config = load(ISTIO).mesh.config;
    assert_eq!(
        (config.root_namespace.as_str(), config.trust_domain.as_str(), config.cluster_domain.as_str()),
        ("mesh", "td", "c.example")
    );
    assert_eq!(
        (config.enable_auto_mtls, config.min_tls, config.outbound_policy),
        (false, TlsVersion::V1_3, OutboundPolicy::RegistryOnly)
    );
    assert_eq!(config.from.unwrap().places.of(&format!("{}/enableAutoMtls", config.path)).line, 9);
}

#[test]
fn several_istio_resources_need_a_default() {
    let other = ISTIO.replace("name: default", "name: other").replace("enableAutoMtls: false", "enableAutoMtls: true");
    let third = other.replace("name: other", "name: third");
    let with_default = load(&format!("{other}---\n{ISTIO}"));
    assert!(with_default.is_valid() && !with_default.mesh.config.enable_auto_mtls);
    assert!(load(&other).is_valid(), "one of another name counts");
    let without = load(&format!("{other}---\n{third}"));
    let [error] = &errors(&without)[..] else { panic!("{without:?}") };
    assert!(error.contains("2 Istio resources (`other`, `third`) and none is named `default`"), "{error}");
}

#[test]
fn the_config_map_istio_stands_in() {
    let map =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: cp}\ndata:\n  mesh: |\n    enableAutoMtls: false\n";
    let config = load(map).mesh.config;
    assert_eq!((config.enable_auto_mtls, config.root_namespace.as_str()), (false, "cp"));
    assert!(load(&format!("{map}---\n{}", ISTIO.replace("false", "true"))).mesh.config.enable_auto_mtls);
}

#[test]
fn other_kinds_are_passed_over_and_counted() {
    let loaded = load(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\n---\napiVersion: v1\nkind: Node\n---\n\
         apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: g}\n",
    );
    assert_eq!((loaded.mesh.passed_over, loaded.mesh.unenforced.len()), (2, 1));
    assert_eq!(loaded.passed_over["gateway.networking.k8s.io/Gateway"], 1);
}

#[test]
fn a_misspelt_kind_of_istio_is_an_error_that_says_what_was_meant() {
    let of = |version: &str, kind: &str| {
        let loaded = load(&format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n"));
        assert_eq!((loaded.mesh.passed_over, loaded.diagnostics.len()), (1, 1), "{version} {kind}: {loaded:?}");
        let one = &loaded.diagnostics[0];
        assert_eq!((one.severity, one.object.is_none()), (Severity::Error, true), "{version} {kind}");
        format!("{}:{}: {}: {}", one.place.line, one.place.column, one.path, one.message)
    };
    let meant = "did you mean `PeerAuthentication`?";
    let expected = format!("2:7: kind: security.istio.io has no kind `PeerAuthentcation`; {meant}");
    assert_eq!(of("security.istio.io/v1", "PeerAuthentcation"), expected);
    assert_eq!(of("v1", "peerauthentication"), format!("2:7: kind: `v1` has no kind `peerauthentication`; {meant}"));
    let both = format!("2:7: kind: `securty.istio.io/v1` has no kind `PeerAuthentification`; {meant}");
    assert_eq!(of("securty.istio.io/v1", "PeerAuthentification"), both);
    let sail = "2:7: kind: sailoperator.io has no kind `Itsio`; did you mean `Istio`?";
    assert_eq!(of("sailoperator.io/v1", "Itsio"), sail);
    let of_kind = "1:13: apiVersion: PeerAuthentication is a kind of security.istio.io, ";
    let write = ": `apiVersion: security.istio.io/v1`";
    let other = format!("{of_kind}not of `networking.istio.io/v1`{write}");
    assert_eq!(of("networking.istio.io/v1", "PeerAuthentication"), other);
    for version in ["v1", "security.istio.io", "securty.istio.io/v1", "security.isto.io/v1", "istio.io/v1", "apps/v1"] {
        let start = if version == "securty.istio.io/v1" { "not of" } else { "there is no" };
        assert_eq!(of(version, "PeerAuthentication"), format!("{of_kind}{start} `{version}`{write}"), "{version}");
    }
    let rule = "1:13: apiVersion: DestinationRule is a kind of networking.istio.io, there is no \
                `netwroking.istio.i/v1`: `apiVersion: networking.istio.io/v1`";
    assert_eq!(of("netwroking.istio.i/v1", "DestinationRule"), rule);
}

#[test]
fn unknown_kinds_of_istio_and_misspelt_ones_of_kubernetes_are_warned_about_and_others_are_not() {
    let of = |version: &str, kind: &str| {
        let loaded = load(&format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n"));
        assert_eq!((loaded.mesh.passed_over, loaded.is_valid()), (1, true), "{version} {kind}");
        loaded.warnings().map(|one| format!("{}: {}", one.path, one.message)).collect::<Vec<_>>()
    };
    let unknown = "kind: `MeshPolicy` of authentication.istio.io/v1alpha1 is no kind of Istio that Mutua knows; passed over";
    assert_eq!(of("authentication.istio.io/v1alpha1", "MeshPolicy"), [unknown]);
    assert_eq!(
        of("networking.istio.io/v1", "ProxyConfg"),
        ["kind: networking.istio.io has no kind `ProxyConfg`; did you mean `ProxyConfig`?"]
    );
    assert_eq!(of("apps/v1", "Deploymnt"), ["kind: Kubernetes has no kind `Deploymnt`; did you mean `Deployment`? passed over"]);
    assert_eq!(of("v1", "Deployment"), ["apiVersion: Deployment is a kind of apps; this one is passed over"]);
    for (version, kind) in [
        ("networking.istio.io/v1beta1", "ProxyConfig"),
        ("telemetry.istio.io/v1", "Telemetry"),
        ("sailoperator.io/v1", "IstioCNI"),
        ("sailoperator.io/v1", "IstioRevision"),
        ("example.org/v1", "PeerAuthentication"),
        ("gateway.networking.k8s.io/v1", "Gateway"),
        ("policy.linkerd.io/v1alpha1", "AuthorizationPolicy"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
        ("v1", "Node"),
        ("v1", "Event"),
    ] {
        assert_eq!(of(version, kind), Vec::<String>::new(), "{version} {kind}");
    }
}

#[test]
fn generated_names_may_repeat_and_names_may_not() {
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {generateName: x-, namespace: n}\n---\n";
    let twice = load(&format!("{job}{}", job.replace("kind", "spec: {}\nkind")));
    assert!(twice.is_valid() && twice.mesh.controllers.len() == 2, "{twice:?}");
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: n}\n";
    let secrets = load(&format!("{secret}---\n{secret}data: {{a: b}}\n"));
    assert!(secrets.is_valid() && secrets.warnings().count() == 1, "{secrets:?}");
}

#[test]
fn a_missing_namespace_is_default_and_said_so() {
    let loaded = load("apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: x\n");
    assert_eq!(loaded.mesh.peer_authentications[0].meta.namespace(), "default");
    let [info] = &loaded.diagnostics[..] else { panic!("{loaded:?}") };
    assert_eq!((info.severity, info.path.as_str()), (Severity::Info, "metadata/namespace"));
}

#[test]
fn what_is_no_object_is_an_error_with_its_place() {
    let of = |text: &str| errors(&load(text));
    assert_eq!(
        of("just text"),
        ["a.yaml:1:1: : a Kubernetes object is a mapping with `apiVersion` and `kind`; found string \"just text\""]
    );
    assert_eq!(of("kind: Pod\n"), ["a.yaml:1:1: : `apiVersion` is missing: every Kubernetes object has `apiVersion` and `kind`"]);
    assert_eq!(of("replicas: 3\n"), Vec::<String>::new());
    let long = format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {}\n", "a".repeat(254));
    assert!(of(&long)[0].contains("must be no more than 253 characters; it has 254"));
    let version = POLICY.replace("istio.io/v1", "istio.io/v7");
    assert_eq!(of(&version), ["a.yaml:1:13: apiVersion: security.istio.io has no version `v7`; allowed: v1, v1beta1"]);
    let twice = format!("{POLICY}---\n{}", POLICY.replace("STRICT", "DISABLE"));
    assert!(of(&twice)[0].contains("PeerAuthentication bar/httpbin is defined twice; it stands at a.yaml:1:1 too"));
    assert!(of(&format!("{POLICY}---\n{POLICY}")).is_empty());
}

#[test]
fn unreadable_text_is_an_input_error_with_its_place() {
    let (line, _, message) = syntax("a: 1\nb: 2\na: 3\n");
    assert_eq!((line, message.as_str()), (3, "the key `a` is given twice"));
    assert_eq!(syntax("a: 1\nb: [\n").0, 2);
    assert_eq!(syntax("a:\n\t- b\n").0, 2);
    assert!(syntax(&"[".repeat(5000)).2.contains("limit") || syntax(&"[".repeat(5000)).2.contains("nest"));
    let bytes = Inputs { texts: vec![super::Text::new(("b".into(), b"a: 1\n\xff\xfe".to_vec()))] };
    assert!(matches!(bytes.load(), Err(InputError::Syntax { place, .. }) if place.line == 2));
}

#[test]
fn alias_bombs_are_refused_and_sensible_aliases_work() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", "));
    }
    assert!(syntax(&bomb).2.contains("expand to more than"));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1_000_000), vec!["*a"; 1000].join(", "));
    assert!(syntax(&long).2.contains("expand to more than"));
    assert!(syntax("a: &a [*a]\n").2.contains("inside the value"));
    let merged = load(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: &m {name: x, namespace: n}\nspec:\n  \
                       mtls: &t {mode: STRICT}\n  selector: {matchLabels: {a: b}}\n  portLevelMtls:\n    80: *t\n    81: {<<: *t}\n",
    );
    assert_eq!(merged.mesh.peer_authentications[0].ports.values().collect::<Vec<_>>(), [&Some(MtlsMode::Strict); 2]);
}

#[test]
fn byte_order_marks_and_carriage_returns_do_not_matter() {
    let windows = format!("\u{feff}{}", POLICY.replace('\n', "\r\n"));
    let loaded = load(&windows);
    let policy = &loaded.mesh.peer_authentications[0];
    assert_eq!(policy.mode, Some(MtlsMode::Strict));
    assert_eq!(policy.meta.places.of("spec/mtls/mode").line, 12);
}

#[test]
fn folders_are_read_recursively_and_files_once() {
    let folder = std::env::temp_dir().join(format!("mutua-read-{}", std::process::id()));
    let below = folder.join("below");
    std::fs::create_dir_all(&below).unwrap();
    std::fs::write(below.join("a.yml"), POLICY).unwrap();
    std::fs::write(folder.join("b.json"), "{}").unwrap();
    std::fs::write(folder.join("notes.txt"), "[").unwrap();
    std::fs::write(folder.join(".hidden.yaml"), "[").unwrap();
    let inputs = Inputs::from_paths(&[&folder, &below.join("a.yml")]).unwrap();
    assert_eq!(inputs.texts().map(|(name, _)| name.to_owned()).collect::<Vec<_>>().len(), 2);
    assert_eq!(inputs.load().unwrap().mesh.peer_authentications.len(), 1);
    std::fs::remove_dir_all(&folder).unwrap();
    let error = Inputs::from_paths(&[&folder]).unwrap_err().to_string();
    assert!(error.contains(folder.to_str().unwrap()) && error.contains("No such file"), "{error}");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        let _ = Inputs::from_texts([("x", text)]).load();
    }

    #[test]
    fn yaml_like_text_is_read_or_refused(text in "([ \\n\\t]|[a-c&*!|>'\"{}\\[\\],:#?~-]|- |: |spec:|\\n  )*") {
        let _ = Inputs::from_texts([("x", text)]).load();
    }

    #[test]
    fn broken_policies_are_read_or_refused(cut in 0..POLICY.len(), insert in "[\\PC\\n]{0,5}") {
        let text = format!("{}{insert}{}", &POLICY[..cut], &POLICY[cut..]);
        let _ = Inputs::from_texts([("x", text)]).load();
    }

    #[test]
    fn places_point_at_the_line_of_the_field(blank in 0_usize..5, comment in 0_usize..3) {
        let text = POLICY.replace("  mtls:", &format!("{}{}  mtls:", "\n".repeat(blank), "  # why\n".repeat(comment)));
        let line = text.lines().position(|line| line.contains("mode: STRICT")).unwrap() + 1;
        let loaded = load(&text);
        prop_assert_eq!(loaded.mesh.peer_authentications[0].meta.places.of("spec/mtls/mode").line as usize, line);
    }
}

#[test]
fn the_certificates_of_authorities_are_read_with_their_ends() {
    let pem = include_str!("authorities.pem");
    let indented = |by: usize| pem.lines().map(|line| format!("{:by$}{line}\n", "")).collect::<String>();
    let (map, mesh) = (indented(4), indented(10));
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio-ca-root-cert, namespace: foo}}\ndata:\n  root-cert.pem: |\n{map}---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: other, namespace: foo}}\nstringData:\n  root-cert.pem: |\n{map}---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: cacerts, namespace: istio-system}}\ndata: {{ca-key.pem: c2VjcmV0, root-cert.pem: bm9uZQ==, cert-chain.pem: '%'}}\n---\n\
         apiVersion: sailoperator.io/v1\nkind: Istio\nmetadata: {{name: default}}\nspec:\n  namespace: istio-system\n  values:\n    meshConfig:\n      caCertificates:\n      - pem: |\n{mesh}"
    );
    let loaded = load(&text);
    assert_eq!(errors(&loaded), Vec::<String>::new());
    let of_map = &loaded.mesh.authorities[0];
    assert_eq!(of_map.meta.object.to_string(), "ConfigMap foo/istio-ca-root-cert");
    let ends = |certificates: &[crate::Certificate]| -> Vec<_> {
        certificates.iter().map(|one| (one.position, one.not_before, one.not_after)).collect()
    };
    // 2024-01-01 to 2026-03-01 12:00, 2026-01-01 to 2060-01-01, which needs four digits, and of X.509 version 3, which the
    // others do not say, 2026-01-01 to 2036-01-01.
    let expected = [(1, 1_704_067_200, 1_772_366_400), (2, 1_767_225_600, 2_840_140_800), (3, 1_767_225_600, 2_082_758_400)];
    assert_eq!(ends(&of_map.certificates), expected);
    assert_eq!(of_map.certificates[0].path, "data/root-cert.pem");
    assert_eq!(ends(&loaded.mesh.config.ca_certificates), expected);
    assert_eq!(loaded.mesh.config.ca_certificates[1].path, "spec/values/meshConfig/caCertificates[0]/pem");
    // What is no certificate is none, and other Secrets are not looked into.
    assert_eq!(loaded.mesh.authorities.len(), 2);
    assert_eq!(loaded.mesh.authorities[1].certificates, []);
}
