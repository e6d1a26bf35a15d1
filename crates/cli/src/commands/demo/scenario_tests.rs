use std::net::IpAddr;
use std::sync::Arc;

use mutua_model::read::Inputs;
use mutua_policy::{ConnectionQuery, Engine};

use super::super::runner::folder_of;
use super::super::world::address;
use super::*;

fn engine(files: &[File]) -> Engine {
    let texts = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let loaded = Inputs::from_texts(texts).load().expect("the examples are YAML");
    let errors: Vec<_> = loaded.diagnostics.iter().filter(|one| one.severity == mutua_model::Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:?}");
    Engine::new(Arc::new(loaded.mesh))
}

/// What the demo expects on the wire is what `explain` says, before anything runs.
#[test]
fn every_expectation_is_what_explain_says() {
    for step in STEPS {
        let engine = engine(&folder_of(step));
        for row in step.rows.iter().filter(|row| matches!(row.by, By::Http | By::Tcp)) {
            let query = ConnectionQuery { from: row.from.to_owned(), to: row.to.to_owned(), subset: None };
            let answer = engine.explain_connection(&query).expect("a known pair");
            let answer = serde_json::to_value(&answer).expect("JSON");
            assert_eq!(answer["outcome"], row.expect.outcome(), "{}: {} → {}: {answer}", step.title, row.from, row.to);
        }
    }
}

/// The network has the addresses that the YAML says.
#[test]
fn the_network_is_the_one_of_the_examples() {
    let engine = engine(files::MESH);
    for workload in WORKLOADS.iter().filter(|one| !["default/kubernetes", "outside/partner"].contains(&one.name)) {
        let known = engine.workload(workload.name).expect("a WorkloadEntry");
        assert_eq!(known.addresses, [IpAddr::from(address(workload.number))], "{}", workload.name);
        assert_eq!(known.sidecar, workload.sidecar, "{}", workload.name);
    }
    let all = files::MESH.iter().chain(STEPS.iter().flat_map(|step| step.files));
    let text: String = all.map(|(_, text)| *text).collect();
    for service in SERVICES {
        let [a, b, c, d] = service.address;
        assert!(text.contains(&format!("{a}.{b}.{c}.{d}\n")), "{}", service.host);
    }
}

/// Each step's folder holds what the demo copies, and nothing else.
#[test]
fn the_examples_are_what_is_copied() {
    let examples = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/demo"));
    let mut folders = std::collections::BTreeSet::from(["mesh".to_owned()]);
    for step in STEPS.iter().filter(|step| !step.files.is_empty()) {
        folders.insert(step.folder.to_owned());
        let mut names: Vec<_> = std::fs::read_dir(examples.join(step.folder))
            .expect(step.folder)
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        let mut copied: Vec<_> = step.files.iter().map(|(name, _)| (*name).to_owned()).collect();
        copied.sort();
        assert_eq!(names, copied, "{}", step.folder);
    }
    let present = std::fs::read_dir(examples).expect("examples");
    let present = present.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    assert_eq!(present.collect::<std::collections::BTreeSet<_>>(), folders);
}

/// The chapter's documents are applied as they stand there, with the namespace filled in.
#[test]
fn the_chapters_documents_are_verbatim() {
    let strict = |namespace: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: default\n  namespace: {namespace}\n\
             spec:\n  mtls:\n    mode: STRICT\n"
        )
    };
    let rule = |name: &str, namespace: &str, host: &str, indent: &str, mode: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
             spec:\n  host: {host}\n  trafficPolicy:\n{indent}tls:\n{indent}{}mode: {mode}\n",
            &indent[2..]
        )
    };
    let text = |files: &[File], wanted: &str| {
        files.iter().find(|(name, _)| *name == wanted).map(|(_, text)| (*text).to_owned()).expect("the file")
    };
    assert_eq!(text(files::NAMESPACE_STRICT, "peer-authentication.yaml"), strict("shop"));
    assert_eq!(text(files::MESH_STRICT, "peer-authentication.yaml"), strict("istio-system"));
    let api_server = "kubernetes.default.svc.cluster.local";
    let wanted = rule("api-server", "istio-system", api_server, "    ", "DISABLE");
    assert_eq!(text(files::API_SERVER, "destination-rule.yaml"), wanted);
    let wanted = rule("enable-mtls", "shop", "\"*.shop.svc.cluster.local\"", "   ", "ISTIO_MUTUAL");
    assert_eq!(text(files::ENABLE_MTLS, "destination-rule.yaml"), wanted);
}
