use crate::read::Inputs;
use crate::{Kind, Severity};

/// `path: message` of everything of that severity that is said of an object in namespace `bar`.
fn said(severity: Severity, kind: &str, spec: &str) -> Vec<String> {
    let group = Kind::parse(kind).map_or("", Kind::group);
    let text = format!("apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: x, namespace: bar}}\nspec: {spec}\n");
    let loaded = Inputs::from_texts([("a.yaml", text)]).load().unwrap();
    let diagnostics = loaded.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity);
    diagnostics.map(|diagnostic| format!("{}: {}", diagnostic.path, diagnostic.message)).collect()
}

fn errors(kind: &str, spec: &str) -> Vec<String> {
    said(Severity::Error, kind, spec)
}

fn warnings(kind: &str, spec: &str) -> Vec<String> {
    said(Severity::Warning, kind, spec)
}

/// Each case: a `spec`, and the one error that it has; empty when it is valid.
fn one_error(kind: &str, cases: &[(&str, &str)]) {
    for (spec, expected) in cases {
        let expected: Vec<_> = Some((*expected).to_owned()).filter(|expected| !expected.is_empty()).into_iter().collect();
        assert_eq!(errors(kind, spec), expected, "{spec}");
    }
}

#[test]
fn peer_authentication() {
    one_error(
        "PeerAuthentication",
        &[
            ("{mtls: {mode: STRICT}}", ""),
            ("{}", ""),
            ("~", ""),
            ("{selector: {matchLabels: {a: b}}, portLevelMtls: {80: {mode: STRICT}, 81: {}, 82: }}", ""),
            (
                "{portLevelMtls: {80: {mode: STRICT}}}",
                "spec/portLevelMtls: mesh/namespace peer authentication cannot have port level mTLS (portLevelMtls requires selector)",
            ),
            (
                "{selector: {matchLabels: {}}, portLevelMtls: {80: {mode: STRICT}}}",
                "spec/portLevelMtls: mesh/namespace peer authentication cannot have port level mTLS (portLevelMtls requires selector)",
            ),
            (
                "{selector: {matchLabels: {a: b}}, portLevelMtls: {}}",
                "spec/portLevelMtls: port level mTLS, if defined, must have at least one element (spec.portLevelMtls in body should have at least 1 properties)",
            ),
            (
                "{selector: {matchLabels: {a: b}}, portLevelMtls: {0: {mode: STRICT}}}",
                "spec/portLevelMtls/0: port must be in range 1..65535 (port must be between 1-65535); found 0",
            ),
            (
                "{selector: {matchLabels: {a: b}}, portLevelMtls: {65536: {mode: STRICT}}}",
                "spec/portLevelMtls/65536: port must be in range 1..65535 (port must be between 1-65535); found 65536",
            ),
            (
                "{selector: {matchLabels: {a: b}}, portLevelMtls: {http: {mode: STRICT}}}",
                "spec/portLevelMtls/http: port must be in range 1..65535 (port must be between 1-65535); found \"http\" (type conversion error from string to int)",
            ),
            (
                "{selector: {matchLabels: {a: b}}, portLevelMtls: {'+80': {mode: STRICT}}}",
                "spec/portLevelMtls/+80: port must be in range 1..65535 (port must be between 1-65535); found +80",
            ),
        ],
    );
    assert_eq!(warnings("PeerAuthentication", "{selector: {}}"), ["spec/selector: workload selector specified without labels"]);
    assert_eq!(warnings("PeerAuthentication", "{selector: ~}"), [""; 0]);
}

#[test]
fn selectors() {
    one_error(
        "PeerAuthentication",
        &[
            (
                "{selector: {matchLabels: {'': b}}}",
                "spec/selector/matchLabels/: empty key is not supported in selector: \"=b\" (key must not be empty)",
            ),
            (
                "{selector: {matchLabels: {'x*': a}}}",
                "spec/selector/matchLabels/x*: wildcard is not supported in selector: \"x*=a\" (wildcard not allowed in label key match)",
            ),
            (
                "{selector: {matchLabels: {app: 'x*'}}}",
                "spec/selector/matchLabels/app: wildcard is not supported in selector: \"app=x*\" (wildcard not allowed in label value match)",
            ),
        ],
    );
}

/// A `DestinationRule` with this `tls`.
fn with_tls(tls: &str) -> String {
    format!("{{host: a.b, trafficPolicy: {{tls: {tls}}}}}")
}

#[test]
fn client_tls() {
    let cases = [
        ("{}", ""),
        ("{mode: ISTIO_MUTUAL, sni: x, subjectAltNames: [a], clientCertificate: x}", ""),
        ("{mode: MUTUAL, clientCertificate: c, privateKey: k}", ""),
        ("{mode: MUTUAL, credentialName: c, insecureSkipVerify: true}", ""),
        ("{mode: SIMPLE, insecureSkipVerify: true}", ""),
        (
            "{mode: SIMPLE, insecureSkipVerify: true, caCertificates: x}",
            "cannot specify CaCertificates or CredentialName or SubjectAltNames when InsecureSkipVerify is set true",
        ),
        (
            "{mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [x]}",
            "cannot specify CaCertificates or CredentialName or SubjectAltNames when InsecureSkipVerify is set true",
        ),
        (
            "{mode: SIMPLE, insecureSkipVerify: true, credentialName: x}",
            "cannot specify CaCertificates or CredentialName or SubjectAltNames when InsecureSkipVerify is set true",
        ),
        (
            "{mode: MUTUAL, clientCertificate: c, privateKey: k, insecureSkipVerify: true, caCertificates: x}",
            "cannot specify CaCertificates or SubjectAltNames when InsecureSkipVerify is set true",
        ),
        (
            "{mode: SIMPLE, credentialName: x, caCrl: y}",
            "cannot specify client certificates or CA certificate or CA CRL If credentialName is set",
        ),
        ("{mode: MUTUAL, privateKey: k}", "client certificate required for mutual tls"),
        ("{mode: MUTUAL, clientCertificate: c}", "private key required for mutual tls"),
    ];
    for (tls, expected) in cases {
        let expected: Vec<_> =
            Some(format!("spec/trafficPolicy/tls: {expected}")).filter(|_| !expected.is_empty()).into_iter().collect();
        assert_eq!(errors("DestinationRule", &with_tls(tls)), expected, "{tls}");
    }
    let credential = |name: &str| errors("DestinationRule", &with_tls(&format!("{{mode: SIMPLE, credentialName: '{name}'}}")));
    assert_eq!(credential("configmap://bar/x"), [""; 0]);
    assert_eq!(credential("configmap://bar/x/y"), [""; 0], "as istiod reads it");
    let path = "spec/trafficPolicy/tls/credentialName: invalid configmap:// credentialName:";
    assert_eq!(credential("configmap://foo/x"), [format!("{path} namespace must match the configuration namespace \"bar\"")]);
    for (name, expected) in [("x", "namespace and name"), ("/x", "namespace"), ("bar/", "name")] {
        let text = format!("{path} invalid resource name \"configmap://{name}\". Expected {expected}");
        assert_eq!(credential(&format!("configmap://{name}")), [text]);
    }
}

#[test]
fn tls_origination_without_roots_is_a_warning_at_every_level() {
    let spec = "{host: a.b, trafficPolicy: {tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 80}, tls: {mode: MUTUAL, \
                clientCertificate: c, privateKey: k}}]}, subsets: [{name: v1, trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}}]}";
    let found = warnings("DestinationRule", spec);
    let [rule, port, subset] = &found[..] else { panic!("{found:?}") };
    assert!(subset.starts_with("spec/subsets[0]/trafficPolicy/tls: TLS mode SIMPLE with insecureSkipVerify"), "{found:?}");
    let text = "but no caCertificates are set to validate server identity for host: a.b";
    assert!(port.starts_with(&format!("spec/trafficPolicy/portLevelSettings[0]/tls: TLS mode MUTUAL {text}")), "{found:?}");
    assert!(rule.starts_with(&format!("spec/trafficPolicy/tls: TLS mode SIMPLE {text}")), "{found:?}");
    for tls in
        ["{mode: SIMPLE, caCertificates: r}", "{mode: SIMPLE, credentialName: r}", "{mode: ISTIO_MUTUAL}", "{mode: DISABLE}"]
    {
        assert_eq!(warnings("DestinationRule", &with_tls(tls)), [""; 0], "{tls}");
    }
}

#[test]
fn destination_rule_hosts_and_subsets() {
    let long = "a".repeat(256);
    let cases = [
        ("host: '*'".to_owned(), String::new()),
        ("host: '*.bar.svc.cluster.local'".to_owned(), String::new()),
        ("host: '*-x.bar'".to_owned(), String::new()),
        ("host: httpbin".to_owned(), String::new()),
        ("host: example.com.".to_owned(), String::new()),
        ("host: ''".to_owned(), "spec/host: empty domain name not allowed".to_owned()),
        ("host: a_b.c".to_owned(), "spec/host: domain name \"a_b.c\" invalid (label \"a_b\" invalid)".to_owned()),
        ("host: a.*.c".to_owned(), "spec/host: domain name \"*.c\" invalid (label \"*\" invalid)".to_owned()),
        (
            "host: a.b.1".to_owned(),
            "spec/host: domain name \"b.1\" invalid (top level domain \"1\" cannot be all-numeric)".to_owned(),
        ),
        (format!("host: {long}"), format!("spec/host: domain name \"{}…\" too long (max 255)", "a".repeat(80))),
        ("host: a, trafficPolicy: {}".to_owned(), "spec/trafficPolicy: traffic policy must have at least one field".to_owned()),
        (
            "host: a, trafficPolicy: {tunnel: {targetHost: b.c, targetPort: 80}, proxyProtocol: {}}".to_owned(),
            "spec/trafficPolicy: tunnel and proxyProtocol must not be set together".to_owned(),
        ),
        ("host: a, subsets: [{name: v1}, {name: v1}]".to_owned(), "spec/subsets[1]/name: duplicate subset names: v1".to_owned()),
        ("host: a, subsets: [{name: v_1}]".to_owned(), "spec/subsets[0]/name: subset name is invalid: v_1".to_owned()),
        ("host: a, subsets: [{name: ''}]".to_owned(), "spec/subsets[0]/name: subset name cannot be empty".to_owned()),
        (
            "host: a, trafficPolicy: {portLevelSettings: [{tls: {}}]}".to_owned(),
            "spec/trafficPolicy/portLevelSettings[0]/port: portTrafficPolicy must have valid port".to_owned(),
        ),
        (
            "host: a, trafficPolicy: {portLevelSettings: [{port: {number: 80}}]}".to_owned(),
            "spec/trafficPolicy/portLevelSettings[0]: port traffic policy must have at least one field".to_owned(),
        ),
    ];
    for (spec, expected) in cases {
        let expected: Vec<_> = Some(expected).filter(|expected| !expected.is_empty()).into_iter().collect();
        assert_eq!(errors("DestinationRule", &format!("{{{spec}}}")), expected, "{spec}");
    }
    let nulls = errors("DestinationRule", "{host: a, subsets: [~], trafficPolicy: {portLevelSettings: [~]}}");
    assert!(nulls.contains(&"spec/subsets[0]: subset may not be null".to_owned()), "{nulls:?}");
    assert!(nulls.contains(&"spec/trafficPolicy/portLevelSettings[0]: traffic policy may not be null".to_owned()), "{nulls:?}");
}

#[test]
fn export_to() {
    let rule = |list: &str| errors("DestinationRule", &format!("{{host: a, exportTo: {list}}}"));
    assert_eq!(rule("['.', foo]"), [""; 0]);
    assert_eq!(rule("[a, a]"), ["spec/exportTo[1]: duplicate entries in exportTo for entry a"]);
    assert_eq!(rule("[bar, '.']"), ["spec/exportTo[1]: duplicate entries in exportTo: . and current namespace bar"]);
    assert_eq!(rule("['~']"), ["spec/exportTo[0]: exportTo ~ (none) is not allowed for Istio configuration objects"]);
    assert_eq!(rule("[a_b]"), ["spec/exportTo[0]: only .,*, or a valid DNS 1123 label is allowed as exportTo entry"]);
    let both = "spec/exportTo: cannot have both public (*) and non-public exportTo values for a resource";
    assert_eq!(rule("['*', a]"), [both]);
    let selecting = |list: &str| {
        errors("DestinationRule", &format!("{{host: a, workloadSelector: {{matchLabels: {{a: b}}}}, exportTo: {list}}}"))
    };
    assert_eq!(selecting("['.']"), [""; 0]);
    let beyond = "spec/exportTo: destination rule with workload selector cannot have exportTo beyond current namespace";
    assert_eq!(selecting("[foo]"), [beyond]);
    let several = "spec/exportTo: destination rule with workload selector cannot have multiple entries in exportTo";
    assert_eq!(selecting("['.', foo]"), [several]);
    let entry = |list: &str| errors("ServiceEntry", &format!("{{hosts: [a.b], exportTo: {list}}}"));
    assert_eq!(entry("['~']"), [""; 0]);
    assert_eq!(entry("['~', a]"), ["spec/exportTo: cannot export service entry to no one (~) and someone"]);
}

#[test]
fn traffic_policies() {
    let policy = |policy: &str| errors("DestinationRule", &format!("{{host: a, trafficPolicy: {policy}}}"));
    let cases = [
        ("{connectionPool: {}}", "connectionPool: connection pool must have at least one field"),
        (
            "{connectionPool: {tcp: {maxConnections: -1}}}",
            "connectionPool/tcp/maxConnections: max connections must be non-negative",
        ),
        (
            "{connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}",
            "connectionPool/http/useClientProtocol: use client protocol must not be true when H2UpgradePolicy is UPGRADE",
        ),
        (
            "{connectionPool: {http: {http2KeepAlive: {interval: 1s}}}}",
            "connectionPool/http/http2KeepAlive: http2 keepalive timeout is required",
        ),
        (
            "{outlierDetection: {consecutiveLocalOriginFailures: 1}}",
            "outlierDetection/consecutiveLocalOriginFailures: outlier detection consecutive local origin failures is specified, but \
             split external local origin errors is set to false",
        ),
        (
            "{outlierDetection: {maxEjectionPercent: 101}}",
            "outlierDetection/maxEjectionPercent: percentage 101 is not in range 0..100",
        ),
        (
            "{loadBalancer: {consistentHash: {maglev: {}}}}",
            "loadBalancer/consistentHash/maglev/tableSize: tableSize must be set for maglev",
        ),
        (
            "{loadBalancer: {consistentHash: {maglev: {tableSize: 8}}}}",
            "loadBalancer/consistentHash/maglev/tableSize: tableSize must be a prime number for maglev",
        ),
        (
            "{loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 50}}]}}}",
            "loadBalancer/localityLbSetting/distribute[0]/to: total locality weight 50 != 100",
        ),
        (
            "{tunnel: {protocol: GET, targetHost: a.b, targetPort: 80}}",
            "tunnel/protocol: tunnel protocol must be \"CONNECT\" or \"POST\"",
        ),
        (
            "{tunnel: {targetHost: a.b, targetPort: 0}}",
            "tunnel/targetPort: tunnel target port is invalid: port number 0 must be in the range 1..65535",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(policy(spec), [format!("spec/trafficPolicy/{expected}")], "{spec}");
    }
    assert_eq!(policy("{loadBalancer: {consistentHash: {maglev: {tableSize: 65537}}}}"), [""; 0]);
}

#[test]
fn service_entry() {
    one_error(
        "ServiceEntry",
        &[
            ("{hosts: [a.b], ports: [{number: 443, name: https, protocol: TLS}], resolution: DNS}", ""),
            (
                "{hosts: [a.b], endpoints: [{address: 1.2.3.4, ports: {https: 8443}}], ports: [{number: 443, name: https}], resolution: STATIC}",
                "",
            ),
            ("{hosts: []}", "spec/hosts: service entry must have at least one host"),
            ("{hosts: ['*']}", "spec/hosts[0]: hostname cannot be wildcard"),
            (
                "{hosts: [a.b], workloadSelector: {labels: {a: b}}, endpoints: [{address: 1.2.3.4}], resolution: STATIC}",
                "spec/endpoints: only one of WorkloadSelector or Endpoints can be set",
            ),
            ("{hosts: [a.b], endpoints: [{address: 1.2.3.4}]}", "spec/endpoints: NONE mode cannot set endpoints"),
            ("{hosts: [a.b], addresses: [1.2.3.4/99]}", "spec/addresses[0]: 1.2.3.4/99 is not a valid CIDR block"),
            ("{hosts: [a.b], addresses: [x]}", "spec/addresses[0]: x is not a valid IP"),
            (
                "{hosts: [a.b], addresses: [1.2.3.0/24], resolution: DNS}",
                "spec/addresses[0]: CIDR addresses are allowed only for NONE/STATIC resolution types",
            ),
            (
                "{hosts: [a.b], ports: [{number: 1, name: a}, {number: 2, name: a}]}",
                "spec/ports[1]/name: service entry port name \"a\" already defined (Duplicate value)",
            ),
            (
                "{hosts: [a.b], ports: [{number: 1, name: a}, {number: 1, name: b}]}",
                "spec/ports[1]/number: service entry port 1 already defined (port number cannot be duplicated)",
            ),
            (
                "{hosts: [a.b], ports: [{number: 99999, name: a}]}",
                "spec/ports[0]/number: port must be between 1-65535; found 99999",
            ),
            ("{hosts: [a.b], ports: [{number: 1, name: a, protocol: FTP}]}", "spec/ports[0]/protocol: unsupported protocol: FTP"),
            (
                "{hosts: [a.b], resolution: DNS_ROUND_ROBIN, endpoints: [{address: a.b}, {address: c.d}]}",
                "spec/endpoints: DNS_ROUND_ROBIN mode cannot have multiple endpoints",
            ),
            (
                "{hosts: [a.b], resolution: STATIC, endpoints: [{address: c.d}]}",
                "spec/endpoints[0]/address: endpoint address \"c.d\" is not a valid IP address",
            ),
            (
                "{hosts: [a.b], resolution: STATIC, ports: [{number: 1, name: a}], endpoints: [{address: 1.2.3.4, ports: {b: 2}}]}",
                "spec/endpoints[0]/ports/b: endpoint port 2 is not defined by the service entry",
            ),
            (
                "{hosts: [a.b, c.d], resolution: DNS, ports: [{number: 1, name: a, protocol: TCP}]}",
                "spec/ports[0]: multiple hosts provided with non-HTTP, non-TLS ports",
            ),
            ("{hosts: [a.b], resolution: DYNAMIC_DNS}", "spec/hosts[0]: host must be wildcarded for resolution mode DYNAMIC_DNS"),
        ],
    );
}

#[test]
fn workload_entry_and_group() {
    one_error(
        "WorkloadEntry",
        &[
            ("{address: 1.2.3.4, serviceAccount: sa, ports: {http: 80}}", ""),
            ("{address: a.b}", ""),
            ("{network: n}", ""),
            ("{}", "spec/address: Address is required"),
            ("{address: 'a b'}", "spec/address: endpoint address \"a b\" is not a valid FQDN or an IP address"),
            ("{address: 'unix:///a/b', ports: {a: 1}}", "spec/ports: UDS may not include ports"),
            ("{address: 'unix://b'}", "spec/address: b is not an absolute path to a file"),
            ("{address: 1.2.3.4, ports: {a_b: 1}}", "spec/ports/a_b: invalid port name: a_b"),
            ("{address: 1.2.3.4, labels: {'a b': c}}", "spec/labels/a b: invalid tag key: \"a b\""),
        ],
    );
    one_error(
        "WorkloadGroup",
        &[
            ("{template: {serviceAccount: a}, probe: {httpGet: {port: 80}}}", ""),
            ("{template: {}, probe: {}}", "spec/probe: unknown health check method: one of httpGet, tcpSocket, exec is required"),
            (
                "{template: {}, probe: {grpc: {port: 80}}}",
                "spec/probe: unknown health check method: one of httpGet, tcpSocket, exec is required",
            ),
            ("{template: {ports: {a_b: 80}}}", "spec/template/ports/a_b: invalid port name: a_b"),
            ("{template: {address: 'unix://b'}}", "spec/template/address: b is not an absolute path to a file"),
            (
                "{template: {}, probe: {httpGet: {port: 80, scheme: FTP}}}",
                "spec/probe/httpGet/scheme: scheme must be one of [HTTP, HTTPS]; found string \"FTP\"",
            ),
        ],
    );
}

#[test]
fn sidecar() {
    one_error(
        "Sidecar",
        &[
            ("{egress: [{hosts: ['./*', 'istio-system/*', '~foo/*']}]}", ""),
            ("{ingress: [{port: {number: 80, protocol: HTTP, name: web}, defaultEndpoint: '127.0.0.1:8080'}]}", ""),
            ("{}", "spec: sidecar: empty configuration provided"),
            ("{egress: [{hosts: []}]}", "spec/egress[0]/hosts: sidecar: egress listener must contain at least one host"),
            ("{egress: [{hosts: [a.b]}]}", "spec/egress[0]/hosts[0]: host must be of form namespace/dnsName"),
            ("{egress: [{hosts: ['a/b']}]}", "spec/egress[0]/hosts[0]: short names (non FQDN) are not allowed"),
            (
                "{egress: [{hosts: ['./*']}, {hosts: ['./*']}]}",
                "spec/egress[0]: sidecar: the egress listener with empty port should be the last listener in the list",
            ),
            (
                "{ingress: [{port: {number: 80, protocol: HTTP}, defaultEndpoint: '10.0.0.1:80'}]}",
                "spec/ingress[0]/defaultEndpoint: sidecar: defaultEndpoint must be of form \
                 127.0.0.1:<port>,0.0.0.0:<port>,[::1]:port,[::]:port,unix://filepath or unset",
            ),
            (
                "{ingress: [{port: {number: 80, protocol: HTTP}, tls: {mode: SIMPLE, serverCertificate: a, privateKey: b}}]}",
                "spec/ingress[0]/tls: server cannot have TLS settings for non HTTPS/TLS ports",
            ),
            (
                "{ingress: [{port: {number: 443, protocol: TLS}, tls: {mode: MUTUAL, serverCertificate: a, privateKey: b}}]}",
                "spec/ingress[0]/tls: MUTUAL TLS requires a client CA bundle",
            ),
            (
                "{ingress: [{port: {number: 443, protocol: TLS}, tls: {mode: ISTIO_MUTUAL}}]}",
                "spec/ingress[0]/tls/mode: cannot set mode to ISTIO_MUTUAL in sidecar ingress tls",
            ),
            (
                "{ingress: [{port: {number: 80}}, {port: {number: 80}}]}",
                "spec/ingress[1]/port/number: sidecar: ports on IP bound listeners must be unique",
            ),
        ],
    );
    assert_eq!(
        warnings("Sidecar", "{workloadSelector: {}, egress: [{hosts: ['a/*', 'a/b.c']}]}"),
        [
            "spec/workloadSelector: sidecar: workload selector specified without labels, will be applied to all services in namespace",
            "spec/egress[0]/hosts[1]: duplicated egress host: a/b.c",
        ]
    );
}

#[test]
fn authorization_policy() {
    one_error(
        "AuthorizationPolicy",
        &[
            ("{action: ALLOW, rules: [{from: [{source: {principals: ['*']}}], to: [{operation: {ports: ['80']}}]}]}", ""),
            ("{}", ""),
            ("{rules: [{from: []}]}", "spec/rules[0]/from: `from` must not be empty"),
            ("{rules: [{from: [{}]}]}", "spec/rules[0]/from[0]/source: `from.source` must not be nil"),
            ("{rules: [{from: [{source: {}}]}]}", "spec/rules[0]/from[0]/source: `from.source` must not be empty"),
            ("{rules: [{from: [{source: {ipBlocks: [x]}}]}]}", "spec/rules[0]/from[0]/source/ipBlocks[0]: bad IP address (x)"),
            (
                "{rules: [{when: [{key: source.ip, values: ['1.2.3.4/99']}]}]}",
                "spec/rules[0]/when[0]/values[0]: bad CIDR range (1.2.3.4/99)",
            ),
            ("{rules: [{when: [{key: foo, values: [a]}]}]}", "spec/rules[0]/when[0]/key: unknown attribute: foo"),
            (
                "{rules: [{when: [{key: source.principal}]}]}",
                "spec/rules[0]/when[0]: at least one of `values` or `notValues` must be set for key source.principal",
            ),
            (
                "{action: DENY, rules: []}",
                "spec: DENY action without `rules` is meaningless as it will never be triggered, add an empty rule `{}` if you want it \
                 be triggered for every request",
            ),
            ("{provider: {name: x}}", "spec/provider: `provider` must not be with non CUSTOM action, found ALLOW"),
            (
                "{action: CUSTOM, provider: {name: x}, rules: [{from: [{source: {principals: [a]}}]}]}",
                "spec/rules[0]/from[0]/source/principals: From.Principals is currently not supported with CUSTOM action",
            ),
        ],
    );
}

/// An `Istio` resource with this mesh configuration.
fn with_mesh(mesh: &str) -> String {
    format!("{{namespace: bar, values: {{meshConfig: {mesh}}}}}")
}

#[test]
fn istio_resource_and_mesh_config() {
    let mesh = |mesh: &str| errors("Istio", &with_mesh(mesh));
    let cases = [
        ("{meshMTLS: {ecdhCurves: [P-256]}}", "meshMTLS/ecdhCurves: mesh TLS does not support ECDH curves configuration"),
        ("{trustDomain: a_b}", "trustDomain: trustDomain: trust domain name \"a_b\" invalid"),
        (
            "{trustDomainAliases: [a, b_c]}",
            "trustDomainAliases[1]: trustDomainAliases[1], domain `b_c` : trust domain name \"b_c\" invalid",
        ),
        ("{connectTimeout: 2h}", "connectTimeout: invalid connect timeout: time 2h must be >1ms and <1h0m0s"),
        (
            "{meshMTLS: {minProtocolVersion: TLSV1_1}}",
            "meshMTLS/minProtocolVersion: Unsupported value: \"TLSV1_1\"; allowed: TLS_AUTO, TLSV1_2, TLSV1_3; did you mean `TLSV1_2`?",
        ),
        (
            "{defaultConfig: {drainDuration: 1.5s}}",
            "defaultConfig/drainDuration: drain time only supports durations to seconds precision",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(mesh(spec), [format!("spec/values/meshConfig/{expected}")], "{spec}");
    }
    let mismatch = errors("Istio", "{namespace: mesh, values: {global: {istioNamespace: other}}}");
    let text = "spec/values/global/istioNamespace: spec.values.global.istioNamespace must match spec.namespace";
    assert_eq!(mismatch, [format!("{text} (\"other\" is not \"mesh\")")]);
    assert_eq!(errors("Istio", "{values: {global: {istioNamespace: istio-system}}}"), [""; 0]);
}

#[test]
fn cipher_suites_and_curves() {
    let warned = |mesh: &str| warnings("Istio", &with_mesh(mesh));
    let suites = |list: &str| format!("{{meshMTLS: {{cipherSuites: {list}}}}}");
    let path = "spec/values/meshConfig/meshMTLS/cipherSuites";
    for served in ["[ECDHE-ECDSA-AES256-GCM-SHA384]", "[TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]", "[]"] {
        assert_eq!((errors("Istio", &with_mesh(&suites(served))), warned(&suites(served))), (vec![], vec![]), "{served}");
    }
    let partly = suites("[ECDHE-ECDSA-AES256-GCM-SHA384, AES128-SHA, ROT13]");
    let found = warned(&partly);
    assert_eq!(found[0], format!("{path}[1]: cipher suite AES128-SHA is not served by Mutua and left out"));
    assert!(
        found[1].starts_with(&format!("{path}[2]: ignoring invalid cipher suites: [ROT13]; known and served: ECDHE-")),
        "{found:?}"
    );
    assert_eq!(errors("Istio", &with_mesh(&partly)), [""; 0]);
    let none = errors("Istio", &with_mesh(&suites("[AES128-SHA, ROT13]")));
    assert!(
        none[0].starts_with(&format!("{path}: none of these cipher suites can be served with TLS 1.2; allowed: ECDHE-ECDSA-")),
        "{none:?}"
    );
    assert_eq!(errors("Istio", &with_mesh(&suites("[TLS_AES_128_GCM_SHA256]"))).len(), 1);
    let rsa = warned(&suites("[ECDHE-RSA-AES256-GCM-SHA384]"));
    assert!(rsa[0].starts_with(&format!("{path}: mesh certificates have ECDSA keys")), "{rsa:?}");
    let only_1_3 = "{meshMTLS: {minProtocolVersion: TLSV1_3, cipherSuites: [AES128-SHA]}}";
    assert_eq!(errors("Istio", &with_mesh(only_1_3)), [""; 0]);
    let curves = warned("{tlsDefaults: {ecdhCurves: [P-256, P-512, P-256]}}");
    assert!(curves[1].contains("detected duplicate ECDH curves: [P-256]"), "{curves:?}");
    assert!(curves[0].contains("detected unrecognized ECDH curves: [P-512]"), "{curves:?}");
}

#[test]
fn the_config_map_is_checked_where_it_stands() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: bar}\ndata:\n  mesh: |-\n    trustDomain: a_b\n    \
                newField: 1\n    meshMTLS: {ecdhCurves: [P-256]}\n";
    let loaded = Inputs::from_texts([("a.yaml", text)]).load().unwrap();
    let found: Vec<_> = loaded
        .diagnostics
        .iter()
        .map(|found| (found.place.line, found.place.column, found.path.as_str(), found.severity))
        .collect();
    assert_eq!(
        found,
        [
            (6, 18, "data/mesh/trustDomain", Severity::Error),
            (7, 5, "data/mesh/newField", Severity::Warning),
            (8, 16, "data/mesh/meshMTLS/ecdhCurves", Severity::Error),
        ]
    );
}

#[test]
fn a_policy_that_denies_by_http_alone_denies_connections_too() {
    let warned = |action: &str, rules: &str| {
        let found = warnings("AuthorizationPolicy", &format!("{{action: {action}, rules: [{rules}]}}"));
        found.into_iter().filter(|text| text.contains("will deny all traffic to TCP ports")).count()
    };
    let http = "to: [{operation: {methods: [GET]}}]";
    let by_port = "to: [{operation: {methods: [GET], ports: ['80']}}]";
    let token = "from: [{source: {requestPrincipals: ['*']}}]";
    let peer = "from: [{source: {principals: [a]}}]";
    let denied: Vec<_> = [http, by_port, token, peer, "when: [{key: source.ip, values: [10.0.0.1]}]"]
        .iter()
        .map(|rule| warned("DENY", &format!("{{{rule}}}")))
        .collect();
    assert_eq!(denied, [1, 0, 1, 0, 0]);
    // An operation without ports is of HTTP, whoever calls; with ports, or beside none, the source counts.
    let both: Vec<_> = [(peer, http), (token, by_port), (peer, by_port)]
        .iter()
        .map(|(from, to)| warned("DENY", &format!("{{{from}, {to}}}")))
        .collect();
    assert_eq!(both, [1, 0, 0]);
    assert_eq!((warned("DENY", "{}"), warned("ALLOW", &format!("{{{http}}}"))), (0, 0));
}

#[test]
fn a_host_of_plain_tcp_without_addresses_is_warned_about_where_none_are_given_to_it() {
    let said = |labels: &str, spec: &str| {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: x, namespace: bar, labels: {{{labels}}}}}\nspec: {{hosts: [a.example], {spec}}}\n"
        );
        let loaded = Inputs::from_texts([("a.yaml", text)]).load().unwrap();
        assert!(loaded.is_valid(), "{loaded:?}");
        loaded.warnings().map(|one| format!("{}: {}", one.path, one.message)).collect::<Vec<_>>()
    };
    let tcp = "ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: t, protocol: TCP}]";
    let text =
        "spec/ports[1]: addresses are required for ports serving TCP (or unset) protocol when IP Autoallocation is not enabled";
    assert_eq!(said("", &format!("{tcp}, resolution: NONE")), [text]);
    assert_eq!(said("", &format!("{tcp}, resolution: DNS")), [""; 0]);
    assert_eq!(said("networking.istio.io/enable-autoallocate-ip: 'False'", &format!("{tcp}, resolution: DNS")), [text]);
    assert_eq!(said("", &format!("{tcp}, resolution: NONE, addresses: [10.0.0.1]")), [""; 0]);
}

#[test]
fn trying_a_policy_without_enforcing_it_is_for_two_actions_of_authorization_policies() {
    let errors = |kind: &str, spec: &str, value: &str| -> Vec<String> {
        let group = Kind::parse(kind).map_or("", Kind::group);
        let annotations = format!("{{istio.io/dry-run: '{value}'}}");
        let metadata = format!("{{name: x, namespace: bar, annotations: {annotations}}}");
        let text = format!("apiVersion: {group}/v1\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n");
        let loaded = Inputs::from_texts([("a.yaml", text)]).load().unwrap();
        loaded.errors().map(|error| error.message.clone()).collect()
    };
    assert_eq!(errors("AuthorizationPolicy", "{}", "true"), [""; 0]);
    assert_eq!(
        errors("PeerAuthentication", "{}", "true"),
        ["unsupported annotation istio.io/dry-run, please remove the annotation"]
    );
    assert_eq!(
        errors("AuthorizationPolicy", "{}", "foo"),
        ["annotation istio.io/dry-run with invalid value (foo); allowed: true, false"]
    );
    assert_eq!(
        errors("AuthorizationPolicy", "{action: AUDIT}", "true"),
        ["the annotation istio.io/dry-run currently only supports action ALLOW/DENY, found action AUDIT"]
    );
}

#[test]
fn endpoints_that_are_sockets_or_have_no_address() {
    one_error(
        "ServiceEntry",
        &[
            (
                "{hosts: [a.b], resolution: STATIC, endpoints: [{address: 'unix:///a'}], ports: [{number: 1, name: a}, {number: 2, name: b}]}",
                "spec/endpoints[0]: exactly 1 service port required for unix endpoints",
            ),
            (
                "{hosts: [a.b], resolution: DNS, endpoints: [{address: 'unix:///a'}], ports: [{number: 1, name: a}]}",
                "spec/endpoints[0]/address: endpoint address \"unix:///a\" is not a valid FQDN or an IP address",
            ),
            (
                "{hosts: [a.b], resolution: DNS, endpoints: [{network: n}]}",
                "spec/endpoints[0]/address: endpoint address \"\" is not a valid FQDN or an IP address",
            ),
        ],
    );
}
