use proptest::prelude::*;

use super::tables;
use super::types::{Object, Type};
use crate::Kind;
use crate::read::Inputs;

/// `line: path: message` of every error of an object with this `spec`, whose first line is line 5.
fn errors(kind: &str, spec: &str) -> Vec<String> {
    let group = Kind::parse(kind).map_or("", Kind::group);
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!("apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: x, namespace: bar}}\nspec:\n{spec}");
    let loaded = Inputs::from_texts([("a.yaml", text)]).load().unwrap();
    loaded.errors().map(|error| format!("{}: {}: {}", error.place.line, error.path, error.message)).collect()
}

#[test]
fn unknown_fields_are_named_with_what_is_allowed() {
    assert_eq!(
        errors("PeerAuthentication", "mtls:\n  mod: STRICT"),
        ["6: spec/mtls/mod: unknown field `mod`; allowed: mode; did you mean `mode`?"]
    );
    assert_eq!(
        errors("PeerAuthentication", "portlevelmtls: {}"),
        [
            "5: spec/portlevelmtls: unknown field `portlevelmtls`; allowed: mtls, portLevelMtls, selector; did you mean `portLevelMtls`?"
        ]
    );
    assert_eq!(
        errors("DestinationRule", "host: a.b\nsubsets:\n- name: v1\n  weight: 3"),
        ["8: spec/subsets[0]/weight: unknown field `weight`; allowed: labels, name, trafficPolicy"]
    );
    assert_eq!(
        errors("Istio", "values:\n  pilot: {anything: [1]}\n  meshConfig:\n    enableAutoMTLS: true\nnamspace: x")
            .iter()
            .map(|error| error.split(" allowed:").next().unwrap())
            .collect::<Vec<_>>(),
        [
            "8: spec/values/meshConfig/enableAutoMTLS: unknown field `enableAutoMTLS`;",
            "9: spec/namspace: unknown field `namspace`;"
        ]
    );
}

#[test]
fn wrong_values_are_named_with_what_is_allowed() {
    let mode = |value: &str| errors("PeerAuthentication", &format!("mtls: {{mode: {value}}}"));
    assert_eq!(
        mode("STRCT"),
        ["5: spec/mtls/mode: Unsupported value: \"STRCT\"; allowed: UNSET, DISABLE, PERMISSIVE, STRICT; did you mean `STRICT`?"]
    );
    assert_eq!(mode("MTLS"), ["5: spec/mtls/mode: Unsupported value: \"MTLS\"; allowed: UNSET, DISABLE, PERMISSIVE, STRICT"]);
    assert_eq!(mode("''"), ["5: spec/mtls/mode: Unsupported value: \"\"; allowed: UNSET, DISABLE, PERMISSIVE, STRICT"]);
    assert_eq!(mode("3"), ["5: spec/mtls/mode: found number 3; allowed: UNSET, DISABLE, PERMISSIVE, STRICT"]);
    assert_eq!(mode("[STRICT]"), ["5: spec/mtls/mode: found a list; allowed: UNSET, DISABLE, PERMISSIVE, STRICT"]);
    assert!(mode("UNSET").is_empty() && mode("~").is_empty() && mode("\"STRICT\"").is_empty());
}

#[test]
fn wrong_types_are_named_with_what_was_found() {
    let rule = |policy: &str| errors("DestinationRule", &format!("host: a.b\ntrafficPolicy: {policy}"));
    let cases = [
        (
            "{tls: STRICT}",
            "tls: found string \"STRICT\"; allowed: a mapping with caCertificates, caCrl, clientCertificate, credentialName, insecureSkipVerify, mode, privateKey, sni, subjectAltNames",
        ),
        ("{tls: {sni: true}}", "tls/sni: found boolean true; allowed: a string (put it in quotes)"),
        ("{tls: {sni: 1.5}}", "tls/sni: found number 1.5; allowed: a string (put it in quotes)"),
        ("{tls: {insecureSkipVerify: 'true'}}", "tls/insecureSkipVerify: found string \"true\"; allowed: true, false"),
        ("{tls: {subjectAltNames: a}}", "tls/subjectAltNames: found string \"a\"; allowed: a list"),
        ("{tls: {subjectAltNames: [a, {b: c}]}}", "tls/subjectAltNames[1]: found a mapping; allowed: a string"),
        (
            "{connectionPool: {tcp: {maxConnections: many}}}",
            "connectionPool/tcp/maxConnections: found string \"many\"; allowed: an integer from -2147483648 to 2147483647",
        ),
        (
            "{connectionPool: {tcp: {maxConnections: 1.5}}}",
            "connectionPool/tcp/maxConnections: found number 1.5; allowed: an integer from -2147483648 to 2147483647",
        ),
        (
            "{connectionPool: {tcp: {connectTimeout: 0s}}}",
            "connectionPool/tcp/connectTimeout: must be a valid duration; found string \"0s\"; allowed: a duration greater than 1ms, like 10s",
        ),
        (
            "{connectionPool: {tcp: {connectTimeout: 10}}}",
            "connectionPool/tcp/connectTimeout: must be a valid duration; found number 10; allowed: a duration greater than 1ms, like 10s",
        ),
        ("{retryBudget: {percent: 101}}", "retryBudget/percent: found number 101; allowed: a number from 0 to 100"),
        (
            "{loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}}",
            "loadBalancer: only one of `simple`, `consistentHash`, `backendUtilization` can be set",
        ),
        ("{loadBalancer: {warmup: {}}}", "loadBalancer/warmup/duration: Required value: `duration` must be given"),
        ("{tunnel: {targetPort: 80}}", "tunnel/targetHost: Required value: `targetHost` must be given"),
    ];
    for (policy, expected) in cases {
        assert_eq!(rule(policy), [format!("6: spec/trafficPolicy/{expected}")], "{policy}");
    }
}

#[test]
fn strings_are_strings_whatever_yaml_1_1_makes_of_them() {
    assert_eq!(errors("PeerAuthentication", "selector: {matchLabels: {a: on, b: no, c: y, d: 1_000, e: 2024-01-01}}"), [""; 0]);
    assert_eq!(
        errors("DestinationRule", "host: a.b\ntrafficPolicy: {tls: {mode: SIMPLE, sni: off, insecureSkipVerify: on}}"),
        [""; 0]
    );
    assert_eq!(
        errors("PeerAuthentication", "selector: {matchLabels: {version: 1}}"),
        ["5: spec/selector/matchLabels/version: found number 1; allowed: a string (put it in quotes)"]
    );
}

#[test]
fn missing_fields_and_specs_are_errors_where_they_are_required() {
    assert_eq!(
        errors("DestinationRule", "exportTo: ['.']")[0],
        "4: spec/host: Required value: `host` must be given (empty domain name not allowed)"
    );
    assert_eq!(errors("WorkloadGroup", "metadata: {}"), ["4: spec/template: Required value: `template` must be given"]);
    for (kind, expected) in [("ServiceEntry", true), ("WorkloadEntry", true), ("PeerAuthentication", false), ("Sidecar", false)] {
        let group = Kind::parse(kind).map_or("", Kind::group);
        let text = format!("apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: x, namespace: bar}}\n");
        let loaded = Inputs::from_texts([("a.yaml", text)]).load().unwrap();
        assert_eq!(!loaded.is_valid(), expected, "{kind}");
    }
}

#[test]
fn every_mesh_config_field_of_a_full_example_is_accepted() {
    let spec = "\
version: v1.30.1
namespace: istio-system
profile: openshift
updateStrategy: {type: RevisionBased, inactiveRevisionDeletionGracePeriodSeconds: 30, updateWorkloads: true}
values:
  global: {istioNamespace: istio-system, proxy: {clusterDomain: cluster.local}}
  meshConfig:
    accessLogFile: /dev/stdout
    accessLogEncoding: JSON
    trustDomain: example.org
    trustDomainAliases: [old.example.org]
    enableAutoMtls: true
    meshMTLS: {minProtocolVersion: TLSV1_3}
    tlsDefaults: {minProtocolVersion: TLSV1_2, cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384], ecdhCurves: [P-256, X25519]}
    outboundTrafficPolicy: {mode: REGISTRY_ONLY}
    caCertificates: [{pem: abc, trustDomains: [a.example]}]
    defaultConfig:
      concurrency: 2
      holdApplicationUntilProxyStarts: true
      discoveryAddress: istiod.istio-system.svc:15012
      proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'true'}
      tracing: {sampling: 10.5, zipkin: {address: 'zipkin.tracing:9411'}}
      proxyStatsMatcher: {inclusionRegexps: ['.*']}
      drainDuration: 45s
    extensionProviders:
    - name: otel
      opentelemetry: {service: otel.tracing.svc.cluster.local, port: 4317}
    - name: authz
      envoyExtAuthzGrpc: {service: authz.svc, port: 9000, timeout: 0.5s}
    defaultProviders: {tracing: [otel]}
    discoverySelectors: [{matchLabels: {env: prod}, matchExpressions: [{key: a, operator: In, values: [b]}]}]
    localityLbSetting: {enabled: false}
    connectTimeout: 10s
    protocolDetectionTimeout: 0s
    rootNamespace: istio-system
    pathNormalization: {normalization: MERGE_SLASHES}
    serviceSettings: [{settings: {clusterLocal: true}, hosts: ['*.svc.cluster.local']}]
    ingressControllerMode: 'OFF'";
    assert_eq!(errors("Istio", spec), [""; 0]);
}

/// Every table that can be reached is sound: names are unique, and groups name existing fields.
#[test]
fn the_tables_are_sound() {
    fn walk(object: &Object, depth: usize) {
        assert!(depth < 20);
        for (index, field) in object.fields.iter().enumerate() {
            assert!(object.fields[..index].iter().all(|other| other.name != field.name), "{} is twice", field.name);
            let mut holds = &field.holds;
            while let Type::List(of, _) | Type::Map(of, _) = holds {
                holds = of;
            }
            if let Type::Object(below) = holds {
                walk(below, depth + 1);
            }
        }
        for name in object.one_of.iter().flat_map(|group| group.iter()) {
            assert!(object.field(name).is_some(), "{name}");
        }
    }
    let kinds =
        ["PeerAuthentication", "AuthorizationPolicy", "DestinationRule", "ServiceEntry", "WorkloadEntry", "WorkloadGroup"];
    for kind in kinds.into_iter().chain(["Sidecar", "Istio"]) {
        walk(tables::spec(Kind::parse(kind).unwrap()).unwrap(), 0);
    }
}

#[test]
fn a_text_of_nothing_but_mistakes_gets_a_bounded_answer() {
    let spec: String = (0..5000).map(|number| format!("wrong{number}: 1\n")).collect();
    let found = errors("PeerAuthentication", &spec);
    assert_eq!(found.len(), 101);
    assert!(found.iter().any(|error| error.contains("more than 100 findings on this object")));
}

/// Constraints of the CustomResourceDefinitions, each with a value just inside it.
#[test]
fn bounds_of_mappings_empty_texts_and_alternatives_are_those_of_the_definitions() {
    let many = |number: usize, value: &str| (0..number).map(|at| format!("k{at}: {value}, ")).collect::<String>();
    for (kind, fine, wrong, at) in [
        ("Sidecar", many(256, "a"), many(257, "a"), "workloadSelector: {labels: {@}}\negress: [{hosts: ['./*']}]"),
        ("PeerAuthentication", many(4096, "a"), many(4097, "a"), "selector: {matchLabels: {@}}"),
        ("WorkloadEntry", many(128, "1"), many(129, "1"), "address: 1.2.3.4\nports: {@}"),
        ("WorkloadGroup", "a".into(), "''".into(), "template: {}\nprobe: {exec: {command: [@]}}"),
        ("AuthorizationPolicy", "Service".into(), "''".into(), "targetRefs: [{name: x, kind: @}]"),
        ("Istio", "pem: a".into(), "pem: a, spiffeBundleUrl: b".into(), "values: {meshConfig: {caCertificates: [{@}]}}"),
        ("Istio", "{}".into(), "[]".into(), "values: {meshConfig: {extensionProviders: [{name: a, prometheus: @}]}}"),
        (
            "Istio",
            "prometheus: {}".into(),
            "prometheus: {}, stackdriver: {}".into(),
            "values: {meshConfig: {extensionProviders: [{name: a, @}]}}",
        ),
        ("Istio", "http".into(), "1.5".into(), "values: {meshConfig: {defaultConfig: {readinessProbe: {tcpSocket: {port: @}}}}}"),
        ("Istio", "80".into(), "true".into(), "values: {meshConfig: {defaultConfig: {readinessProbe: {tcpSocket: {port: @}}}}}"),
        (
            "DestinationRule",
            "errorUtilizationPenaltyPercent: 1".into(),
            "penalty: 1".into(),
            "host: a.b\ntrafficPolicy: {loadBalancer: {backendUtilization: {@}}}",
        ),
        (
            "DestinationRule",
            "".into(),
            "simple: RANDOM".into(),
            "host: a.b\ntrafficPolicy: {loadBalancer: {backendUtilization: {}, @}}",
        ),
    ] {
        assert_eq!(errors(kind, &at.replace('@', &fine)), [""; 0], "{kind}: {at}");
        assert_eq!(errors(kind, &at.replace('@', &wrong)).len(), 1, "{kind}: {at}: {:?}", errors(kind, &at.replace('@', &wrong)));
    }
}

proptest! {
    /// Any tree below `spec` of any kind is checked without a panic, and each finding has a line of the text.
    #[test]
    fn any_spec_is_checked(kind in 0_usize..8, words in proptest::collection::vec((0_usize..60, 0_usize..12, 0_usize..4), 1..30)) {
        const NAMES: &[&str] = &[
            "host", "trafficPolicy", "tls", "mode", "subsets", "name", "labels", "portLevelSettings", "port", "number", "selector",
            "matchLabels", "portLevelMtls", "80", "mtls", "hosts", "ports", "endpoints", "address", "egress", "ingress", "rules",
            "from", "source", "to", "operation", "when", "key", "values", "meshConfig", "global", "istioNamespace", "loadBalancer",
            "connectionPool", "http", "tcp", "outlierDetection", "exportTo", "workloadSelector", "template", "probe", "httpGet",
            "consistentHash", "maglev", "tableSize", "localityLbSetting", "distribute", "failover", "resolution", "addresses",
            "defaultEndpoint", "bind", "cipherSuites", "ecdhCurves", "trustDomain", "meshMTLS", "tlsDefaults", "defaultConfig",
            "discoveryAddress", "credentialName",
        ];
        const VALUES: &[&str] = &["", "{}", "[]", "~", "1", "-1", "on", "SIMPLE", "'*'", "unix://a/", "configmap://a/b/c", "[~, {a: b}, '*/*']"];
        const KINDS: &[&str] = &[
            "PeerAuthentication", "AuthorizationPolicy", "DestinationRule", "ServiceEntry", "WorkloadEntry", "WorkloadGroup",
            "Sidecar", "Istio",
        ];
        let mut text = String::new();
        let mut depth = 0;
        for (name, value, step) in words {
            let value = if step == 0 { "" } else { VALUES[value] };
            text.push_str(&format!("{}{}{}: {value}\n", " ".repeat(depth * 2), if step == 3 { "- " } else { "" }, NAMES[name]));
            depth = if step == 0 { depth + 1 } else { depth };
        }
        let group = Kind::parse(KINDS[kind]).map_or("", Kind::group);
        let spec: String = text.lines().map(|line| format!("  {line}\n")).collect();
        let text = format!("apiVersion: {group}/v1\nkind: {}\nmetadata: {{name: x, namespace: bar}}\nspec:\n{spec}", KINDS[kind]);
        let lines = text.lines().count();
        if let Ok(loaded) = Inputs::from_texts([("a.yaml", text)]).load() {
            for diagnostic in &loaded.diagnostics {
                prop_assert!((1..=lines).contains(&(diagnostic.place.line as usize)), "{diagnostic:?}");
            }
        }
    }
}
