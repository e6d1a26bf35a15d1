//! What holds of every mesh: the order of the input changes nothing, proxies get what `explain` says, and a STRICT
//! port is never reached in plaintext.

use mutua_model::{ClientTlsMode, MtlsMode};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const MODES: [&str; 4] = ["UNSET", "DISABLE", "PERMISSIVE", "STRICT"];
const TLS: [&str; 5] = ["", "DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"];

fn tls(mode: &str) -> String {
    match mode {
        "" => "connectionPool: {tcp: {maxConnections: 1}}".to_owned(),
        "MUTUAL" => "tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /r}".to_owned(),
        mode => format!("tls: {{mode: {mode}}}"),
    }
}

prop_compose! {
    fn documents()(
        modes in prop::collection::vec((select(&["istio-system", "bar", "foo"][..]), any::<bool>(), select(&MODES[..]), select(&MODES[..])), 0..5),
        rules in prop::collection::vec((select(&["istio-system", "bar", "foo"][..]), select(&["*", "*.bar.svc.cluster.local", "web.bar.svc.cluster.local"][..]), select(&TLS[..]), select(&TLS[..])), 0..4),
        auto in any::<bool>(),
    ) -> Vec<String> {
        let mut documents = vec![istio(&format!("{{enableAutoMtls: {auto}}}"))];
        for (number, (namespace, selects, mode, port)) in modes.iter().enumerate() {
            let selector = "selector: {matchLabels: {app: web}}, portLevelMtls: {80: {mode: ";
            let spec = if *selects { format!("{{{selector}{port}}}}}, mtls: {{mode: {mode}}}}}") } else { format!("{{mtls: {{mode: {mode}}}}}") };
            documents.push(policy(namespace, &format!("p{number}"), &spec));
        }
        for (number, (namespace, host, outer, port)) in rules.iter().enumerate() {
            let spec = format!("{{host: \"{host}\", trafficPolicy: {{{}, portLevelSettings: [{{port: {{number: 8000}}, {}}}]}}}}", tls(outer), tls(port));
            documents.push(rule(namespace, &format!("r{number}"), &spec));
        }
        documents
    }
}

fn pairs(engine: &Engine) -> Vec<ConnectionAnswer> {
    let mut answers = Vec::new();
    for from in ["foo/sleep", "foo/legacy", "bar/web"] {
        for to in ["web.bar:8000", "web.bar:9000", "old.bar:8000", "10.0.0.7:80"] {
            answers.push(ask(engine, from, to));
        }
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_order_of_documents_changes_nothing(mut documents in documents(), seed in any::<u64>()) {
        let strip = |mut answers: Vec<ConnectionAnswer>| {
            answers.iter_mut().for_each(|answer| answer.trace.iter_mut().for_each(|step| step.line = 0));
            answers
        };
        let before = strip(pairs(&engine(&documents.concat())));
        let length = documents.len();
        documents.rotate_left(usize::try_from(seed % length as u64).unwrap_or(0));
        documents.reverse();
        prop_assert_eq!(before, strip(pairs(&engine(&documents.concat()))));
    }

    #[test]
    fn strict_is_never_reached_in_plaintext_and_every_answer_has_a_reason(documents in documents()) {
        for answer in pairs(&engine(&documents.concat())) {
            prop_assert!(!answer.trace.is_empty());
            for endpoint in &answer.endpoints {
                if endpoint.server_mode == Some(MtlsMode::Strict) {
                    prop_assert!(matches!(endpoint.connection, Outcome::Mtls | Outcome::Refused), "{:?}", answer);
                }
            }
        }
    }

    #[test]
    fn proxies_get_what_explain_says(documents in documents()) {
        let engine = engine(&documents.concat());
        for name in ["foo/sleep", "bar/web"] {
            let client = engine.workload(name).expect("there");
            for destination in engine.destinations(client) {
                for port in &destination.ports {
                    let answer = ask(&engine, name, &format!("{}:{}", destination.host, port.port));
                    prop_assert_eq!(port.tls.mode, answer.client.tls);
                    prop_assert_eq!(port.endpoints.len(), answer.endpoints.len());
                    for (told, said) in port.endpoints.iter().zip(&answer.endpoints) {
                        let in_clear = said.connection == Outcome::Plaintext;
                        prop_assert!(!in_clear || !told.tls, "{:?} {:?}", told, said);
                        prop_assert!(said.connection != Outcome::Mtls || told.tls, "{:?} {:?}", told, said);
                    }
                    if port.tls.mode == ClientTlsMode::Disable {
                        prop_assert!(port.endpoints.iter().all(|endpoint| !endpoint.tls));
                    }
                }
            }
        }
    }

    #[test]
    fn clients_of_one_class_get_the_same_destinations(documents in documents()) {
        let engine = engine(&documents.concat());
        let mut known: std::collections::HashMap<_, Vec<crate::Destination>> = std::collections::HashMap::new();
        for client in engine.workloads() {
            let destinations = engine.destinations(client);
            let first = known.entry(engine.client_class(client)).or_insert_with(|| destinations.clone());
            prop_assert_eq!(&*first, &destinations);
        }
    }

    #[test]
    fn inbound_is_what_explain_says_of_the_workload(documents in documents()) {
        let engine = engine(&documents.concat());
        let inbound = engine.inbound(engine.workload("bar/web").expect("there"));
        let said = workload(&engine, "bar/web");
        prop_assert_eq!(inbound.mode, said.mode);
        let ports: std::collections::BTreeMap<_, _> = inbound.ports.iter().map(|port| (port.port, port.mode)).collect();
        prop_assert_eq!(ports, said.ports);
    }
}
