use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mutua_model::service::TargetPort;
use mutua_model::workload::PodSpec;
use mutua_model::{
    AppProtocol, ClientTls, ClientTlsMode, DestinationRule, Kind, Labels, Mesh, Meta, MtlsMode, PeerAuthentication, Pod, Service,
    ServicePort, Sidecar, TrafficPolicy,
};

use super::codes;
use crate::Engine;

fn analyze(mesh: &Mesh) -> Vec<super::Finding> {
    super::analyze(&Engine::new(Arc::new(mesh.clone())), &super::Asked::default())
}

use ClientTlsMode::{Disable as NoTls, IstioMutual, Mutual, Simple};
use MtlsMode::{Disable, Permissive, Strict};

const ROOT: &str = "istio-system";
const WIDE: &str = "*.bar.svc.cluster.local";
const MODE: &str = "spec/trafficPolicy/tls/mode";

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A mesh that a case builds step by step.
#[derive(Default)]
struct Case(Mesh);

impl Case {
    fn manual() -> Self {
        let mut case = Self::default();
        case.0.config.enable_auto_mtls = false;
        case
    }

    fn policy(self, namespace: &str, name: &str, mode: impl Into<Option<MtlsMode>>) -> Self {
        self.selecting(namespace, name, mode, &[], &[])
    }

    fn selecting(
        mut self,
        namespace: &str,
        name: &str,
        mode: impl Into<Option<MtlsMode>>,
        selector: &[(&str, &str)],
        ports: &[u16],
    ) -> Self {
        self.0.peer_authentications.push(Arc::new(PeerAuthentication {
            meta: Meta::named(Kind::PeerAuthentication, namespace, name),
            selector: labels(selector),
            selector_present: !selector.is_empty(),
            mode: mode.into(),
            ports: ports.iter().map(|port| (*port, Some(Strict))).collect::<BTreeMap<_, _>>(),
        }));
        self
    }

    fn change_policy(mut self, change: impl FnOnce(&mut PeerAuthentication)) -> Self {
        let mut last = (*self.0.peer_authentications.pop().unwrap()).clone();
        change(&mut last);
        self.0.peer_authentications.push(Arc::new(last));
        self
    }

    fn rule(self, namespace: &str, host: &str, mode: ClientTlsMode) -> Self {
        self.rule_with(namespace, host, ClientTls { mode, ca_certificates: "ca.pem".to_owned(), ..ClientTls::default() })
    }

    fn rule_with(mut self, namespace: &str, host: &str, tls: ClientTls) -> Self {
        let name = format!("r{}", self.0.destination_rules.len());
        self.0.destination_rules.push(Arc::new(DestinationRule {
            meta: Meta::named(Kind::DestinationRule, namespace, &name),
            host: host.to_owned(),
            export_to: Vec::new(),
            workload_selector: None,
            policy: Some(TrafficPolicy { tls: Some(tls), ..TrafficPolicy::default() }),
            subsets: Vec::new(),
        }));
        self
    }

    fn change_rule(mut self, change: impl FnOnce(&mut DestinationRule)) -> Self {
        let mut last = (*self.0.destination_rules.pop().unwrap()).clone();
        change(&mut last);
        self.0.destination_rules.push(Arc::new(last));
        self
    }

    fn pod(mut self, namespace: &str, app: &str) -> Self {
        let mut meta = Meta::named(Kind::Pod, namespace, app);
        meta.labels = labels(&[("app", app), ("security.istio.io/tlsMode", "istio")]);
        self.0.pods.push(Arc::new(Pod { meta, spec: PodSpec::default(), ips: Vec::new(), ended: false }));
        self
    }

    fn service(mut self, namespace: &str, app: &str, number: u16, target: u16) -> Self {
        let port = ServicePort {
            name: "http".to_owned(),
            number,
            protocol: AppProtocol::Http,
            target: TargetPort::Number(target),
            node_port: 0,
        };
        self.0.services.push(Arc::new(Service {
            meta: Meta::named(Kind::Service, namespace, app),
            ports: vec![port],
            selector: Some(labels(&[("app", app)])),
            cluster_ips: Vec::new(),
            headless: false,
            external_ips: Vec::new(),
            external_name: None,
            service_type: "ClusterIP".to_owned(),
        }));
        self
    }
}

fn found(mesh: &Mesh) -> BTreeSet<(&'static str, String, String)> {
    analyze(mesh).into_iter().map(|finding| (finding.code, finding.object, finding.path)).collect()
}

fn origination(mode: ClientTlsMode, credential: &str) -> ClientTls {
    ClientTls { mode, credential_name: credential.to_owned(), ..ClientTls::default() }
}

type Row = (&'static str, &'static str, Case, Case);

/// Code, path, a mesh that raises it, and a near miss that does not.
fn peer_rows() -> Vec<Row> {
    let web = &[("app", "web")];
    let two = || Case::default().policy("bar", "a", Strict).policy("bar", "b", Strict);
    let on = |case: Case| case.pod("bar", "web");
    let one = |ns: &'static str| Case::default().selecting(ns, "a", Strict, web, &[]);
    let ported = |port| on(Case::default().service("bar", "web", 80, 8080).selecting("bar", "a", Strict, web, &[port]));
    vec![
        ("KIA0002", "spec/selector", two(), on(one("bar")).policy("bar", "b", Strict)),
        (
            "KIA0003",
            "spec/selector",
            on(one("bar").selecting("bar", "b", Strict, web, &[])),
            on(one("bar")).policy("bar", "b", Strict),
        ),
        ("KIA0004", "spec/selector/matchLabels", one("bar").pod("foo", "web"), on(one("bar"))),
        (
            "KIA0401",
            "spec/mtls",
            Case::manual().policy(ROOT, "a", Strict),
            Case::manual().policy(ROOT, "a", Strict).rule(ROOT, "*.local", IstioMutual),
        ),
        (
            "KIA0501",
            "spec/mtls",
            Case::manual().policy("bar", "a", Strict).rule("bar", WIDE, Mutual),
            Case::manual().policy("bar", "a", Strict).rule("bar", WIDE, IstioMutual),
        ),
        (
            "KIA0505",
            "spec/mtls",
            Case::default().policy("bar", "a", Disable).rule(ROOT, "*.local", Mutual),
            Case::default().policy("bar", "a", Disable).rule(ROOT, "*.local", Mutual).rule("bar", WIDE, NoTls),
        ),
        (
            "KIA0506",
            "spec/mtls",
            Case::default().policy(ROOT, "a", Disable).rule(ROOT, "*.local", IstioMutual),
            Case::default().policy(ROOT, "a", Disable).rule(ROOT, WIDE, IstioMutual),
        ),
        (
            "IST0133",
            "spec/selector",
            Case::default().policy("bar", "a", Strict).change_policy(|p| p.selector_present = true),
            Case::default().policy("bar", "a", Strict),
        ),
        ("MUT0002", "spec/selector", one(ROOT).pod(ROOT, "web"), on(one("bar"))),
        ("MUT0003", "metadata/name", two(), two().change_policy(|p| p.meta.created = Some(1))),
        (
            "MUT0004",
            "spec/mtls/mode",
            on(one("bar")).policy("bar", "b", Disable),
            on(one("bar")).policy("bar", "b", Permissive).policy(ROOT, "c", Disable),
        ),
        ("MUT0005", "spec/portLevelMtls/80", ported(80), ported(8080)),
    ]
}

fn rule_rows() -> Vec<Row> {
    let with = |tls| Case::default().rule_with("bar", "x", tls);
    let port = |tls: ClientTls| {
        with(ClientTls { mode: IstioMutual, ..ClientTls::default() }).change_rule(|rule| {
            let port = mutua_model::destination_rule::PortPolicy { tls: Some(tls), passthrough: false };
            rule.policy.as_mut().unwrap().ports.push((443, port));
        })
    };
    let selected = |case: Case| case.change_rule(|rule| rule.workload_selector = Some(labels(&[("app", "c")])));
    vec![
        (
            "KIA0205",
            MODE,
            Case::manual().rule(ROOT, "*.local", IstioMutual),
            Case::manual().rule(ROOT, "*.local", IstioMutual).policy(ROOT, "a", Permissive),
        ),
        (
            "KIA0206",
            MODE,
            Case::manual().rule("bar", WIDE, IstioMutual),
            Case::manual().rule("bar", WIDE, IstioMutual).policy("bar", "a", Strict),
        ),
        (
            "KIA0207",
            MODE,
            Case::default().rule("bar", WIDE, NoTls).policy("bar", "a", Strict),
            Case::default().rule("bar", WIDE, NoTls).policy("bar", "a", Permissive),
        ),
        (
            "KIA0208",
            MODE,
            Case::default().rule("bar", WIDE, NoTls).policy(ROOT, "a", Strict),
            Case::default().rule("bar", WIDE, NoTls).policy(ROOT, "a", Strict).policy("bar", "b", Disable),
        ),
        ("IST0128", "spec/trafficPolicy/tls", with(origination(Simple, "")), selected(with(origination(Simple, "cred")))),
        (
            "IST0129",
            "spec/trafficPolicy/portLevelSettings[0]/tls",
            port(origination(Simple, "")),
            selected(port(origination(Mutual, "cred"))),
        ),
        (
            "MUT0001",
            "spec/trafficPolicy/tls/credentialName",
            with(origination(Mutual, "cred")),
            with(origination(Simple, "configmap://bar/roots")),
        ),
    ]
}

#[test]
fn every_code_is_raised_where_it_should_be_and_not_next_to_it() {
    let mut seen = BTreeSet::new();
    for (code, path, hit, miss) in peer_rows().into_iter().chain(rule_rows()) {
        let hits = found(&hit.0);
        assert!(hits.iter().any(|(found, _, at)| *found == code && at == path), "{code} at {path}: {hits:?}");
        let misses = found(&miss.0);
        assert!(misses.iter().all(|(found, ..)| *found != code), "near miss of {code}: {misses:?}");
        seen.insert(code);
    }
    let loaded = |mode: &str| {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: a, namespace: bar}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
        );
        let loaded = mutua_model::read::Inputs::from_texts([("a.yaml", text)]).load().unwrap();
        super::analyze_loaded(&loaded, &super::Asked::default()).into_iter().map(|one| (one.code, one.path)).collect::<Vec<_>>()
    };
    assert_eq!((loaded("STRCT"), loaded("STRICT")), (vec![("IST0106", "spec/mtls/mode".to_owned())], vec![]));
    seen.insert("IST0106");
    seen.extend(super::cases::shown());
    assert_eq!(seen, codes::all().map(|code| code.code).collect());
}

#[test]
fn order_of_input_does_not_matter() {
    for (.., mut case, _) in peer_rows().into_iter().chain(rule_rows()) {
        let forward = analyze(&case.0);
        case.0.peer_authentications.reverse();
        case.0.destination_rules.reverse();
        assert_eq!(forward, analyze(&case.0));
    }
}

#[test]
fn an_annotation_silences_all_or_the_listed_codes() {
    let silenced = |list: &str| {
        let annotate = |policy: &mut PeerAuthentication| {
            policy.meta.annotations = labels(&[("kiali.io/ignore-validations", list)]);
        };
        let case = Case::default().selecting(ROOT, "a", Strict, &[("app", "none")], &[]).change_policy(annotate);
        analyze(&case.0).into_iter().map(|finding| finding.code).collect::<Vec<_>>()
    };
    let suppressed = |list: &str| {
        let annotate = |rule: &mut DestinationRule| rule.meta.annotations = labels(&[("galley.istio.io/analyze-suppress", list)]);
        let case = Case::default().rule_with("bar", "x", origination(Simple, "")).change_rule(annotate);
        analyze(&case.0).into_iter().map(|finding| finding.code).collect::<Vec<_>>()
    };
    assert_eq!(suppressed("IST0174, IST0129"), ["IST0128"]);
    assert!(suppressed("IST0128").is_empty() && suppressed("*").is_empty());
    assert!(silenced("").is_empty());
    let by_itself = |annotation: &str, mode: &str| {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: a, namespace: bar, annotations: {{{annotation}}}}}\nspec: {{selector: {{}}, mtls: {{mode: {mode}}}}}\n"
        );
        let loaded = mutua_model::read::Inputs::from_texts([("a.yaml", text)]).load().unwrap();
        super::analyze_loaded(&loaded, &super::Asked::default()).into_iter().map(|one| one.code).collect::<Vec<_>>()
    };
    assert_eq!(by_itself("galley.istio.io/analyze-suppress: IST0101", "STRCT"), ["IST0106", "IST0133"]);
    assert_eq!(by_itself("galley.istio.io/analyze-suppress: IST0106", "STRCT"), ["IST0133"]);
    assert_eq!(by_itself("kiali.io/ignore-validations: IST0133", "STRICT"), [""; 0]);
    assert_eq!(silenced("KIA0003, KIA0004"), ["MUT0002"]);
}

/// The text grows with the objects, not with their pairs.
#[test]
fn thousands_that_clash_are_told_in_bounded_words() {
    const MANY: usize = 3000;
    let (mut wide, mut selecting, mut sidecars) = (Case::default(), Case::default().pod("bar", "web"), Case::default());
    for at in 0..MANY {
        wide = wide.policy("bar", &format!("p{at}"), Strict);
        selecting = selecting.selecting("bar", &format!("p{at}"), Strict, &[("app", "web")], &[]);
        let meta = Meta::named(Kind::Sidecar, "bar", &format!("s{at}"));
        let (egress, ingress) = (None, Vec::new());
        sidecars.0.sidecars.push(Arc::new(Sidecar { meta, workload_selector: None, egress, ingress, outbound_policy: None }));
    }
    for (mesh, code) in [(wide.0, "KIA0002"), (selecting.0, "KIA0003"), (sidecars.0, "KIA0002")] {
        let findings = analyze(&mesh);
        assert_eq!(findings.iter().filter(|one| one.code == code).count(), MANY);
        let longest = findings.iter().map(|one| one.message.len() + one.fix.len()).max();
        assert!(longest < Some(2000), "{code}: {longest:?} bytes");
    }
}

#[test]
fn a_clean_mesh_has_no_findings() {
    let case = Case::default().policy(ROOT, "default", Strict).rule("bar", WIDE, IstioMutual).pod("bar", "web");
    assert_eq!(analyze(&case.0), []);
}

#[test]
fn the_document_is_made_from_the_table() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/findings.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, codes::markdown()).unwrap();
    }
    assert!(std::fs::read_to_string(&path).unwrap() == codes::markdown(), "run the tests with UPDATE=1");
}
