//! Istio's edge cases that are easy to miss, and the test that names each: the list is checked against the sources, so that
//! no case loses its test.

use std::collections::BTreeSet;
use std::path::Path;

/// A file of tests below `crates/`, and its cases with their tests.
type Cases = (&'static str, &'static [(&'static str, &'static str)]);

const PEER_AUTHENTICATION: [Cases; 2] = [
    (
        "policy/src/tests/peer_authentications.rs",
        &[
            (
                "a selector in the root namespace is ignored, for its own workloads too",
                "a_selector_in_the_root_namespace_is_ignored_everywhere",
            ),
            (
                "portLevelMtls is about the workload's port, never the Service's",
                "port_levels_are_on_target_ports_and_unset_takes_the_workloads_mode",
            ),
            ("portLevelMtls of mesh and namespace policies never counts", "port_levels_of_a_policy_without_selector_never_count"),
            ("a rootNamespace that the user sets moves the mesh's policies", "the_root_namespace_follows_the_istio_resource"),
        ],
    ),
    ("model/src/read/rules/tests.rs", &[("portLevelMtls without selector is rejected", "peer_authentication")]),
];

const DESTINATION_RULE: [Cases; 6] = [
    (
        "policy/src/tests/auto_mtls.rs",
        &[(
            "tls without mode is DISABLE and counts as TLS that is specified",
            "a_rule_without_tls_leaves_auto_mtls_on_and_an_empty_tls_turns_it_off",
        )],
    ),
    (
        "policy/src/tests/edge_cases.rs",
        &[
            (
                "sni without subjectAltNames: the chain is verified, the name is not",
                "sni_without_names_checks_no_name_and_nothing_of_tcp_comes_from_a_host_header",
            ),
            ("a rule's TLS never affects what a server accepts", "a_rules_tls_never_changes_what_a_server_accepts"),
            ("rules of different namespaces are never merged", "rules_of_different_namespaces_never_merge"),
            (
                "clients of the root namespace see its public rules after the service's namespace",
                "the_root_namespaces_own_clients_see_its_public_rules_last",
            ),
            (
                "a rule without selector and exportTo does not merge into selecting ones; with one it may lose its own entry",
                "a_rule_without_selector_merges_into_selecting_ones_only_when_its_export_is_wider",
            ),
            (
                "a later rule with a wider exportTo is absorbed into the earlier, narrower one",
                "a_later_rule_with_a_wider_export_is_absorbed_into_the_narrower_one",
            ),
            (
                "the root's exception for a service without sidecar is hidden by a rule of the service's namespace",
                "the_exception_for_a_service_without_sidecar_is_hidden_by_a_rule_of_the_services_namespace",
            ),
        ],
    ),
    (
        "policy/src/tests/destination_rules.rs",
        &[
            ("credentialName without workloadSelector: plaintext", "credential_names_need_a_workload_selector"),
            ("a short host belongs to the rule's namespace, not the client's", "short_hosts_belong_to_the_rules_namespace"),
            ("the order of namespaces beats specificity", "the_clients_namespace_comes_before_specificity"),
            (
                "a best match that is not exported yields nothing, and the next namespace is tried",
                "an_unexported_best_match_hides_the_namespaces_other_rules",
            ),
            (
                "an oldest trafficPolicy without tls blocks a newer rule's tls",
                "rules_of_one_host_merge_and_the_oldest_traffic_policy_counts_whole",
            ),
            (
                "a port entry without tls: auto mTLS for the cluster, the outer mode for its endpoints",
                "a_ports_entry_replaces_the_policy_whole_for_the_cluster_but_not_for_endpoints",
            ),
            ("sni and subjectAltNames of ISTIO_MUTUAL are honoured", "given_names_replace_the_defaults"),
        ],
    ),
    ("model/src/read/rules/tests.rs", &[("ISTIO_MUTUAL with other fields set is accepted", "client_tls")]),
    (
        "proxy/tests/origination.rs",
        &[
            (
                "SIMPLE and MUTUAL to a TCP port without sni: no SNI, no name checked",
                "nothing_of_tcp_is_taken_for_a_name_where_the_rule_has_none",
            ),
            (
                "SIMPLE and MUTUAL to an HTTP port without sni: both from the request's Host",
                "the_name_comes_from_the_request_where_the_rule_has_none",
            ),
        ],
    ),
    (
        "policy/src/tests/registry.rs",
        &[("accounts are names for SIMPLE only where the service is a ServiceEntry", "names_of_simple_tls_come_from_the_entry")],
    ),
];

const AUTO_MTLS: [Cases; 2] = [
    (
        "policy/src/tests/auto_mtls.rs",
        &[
            ("STRICT and PERMISSIVE are the same to clients", "strict_and_permissive_are_the_same_to_clients"),
            (
                "a DISABLE namespace with a STRICT workload: clients send plaintext, and are refused",
                "a_strict_workload_of_a_disabled_namespace_is_lost_to_clients",
            ),
            (
                "DISABLE of a workload or port does not count for headless services",
                "headless_services_ignore_workload_and_port_policies",
            ),
        ],
    ),
    (
        "policy/src/tests/edge_cases.rs",
        &[
            (
                "the label tlsMode may hold anything; only istio matches",
                "any_word_stands_in_the_tls_mode_label_and_only_istio_counts",
            ),
            (
                "a service without accounts: any certificate of the mesh is accepted",
                "a_service_without_any_account_is_accepted_with_any_identity",
            ),
        ],
    ),
];

const INBOUND: [Cases; 3] = [
    (
        "proxy/src/inbound/decide.rs",
        &[
            ("STRICT needs no ALPN of Istio's", "the_table_of_istio"),
            ("PERMISSIVE on an HTTP port closes TLS that is not the mesh's", "the_table_of_istio"),
            ("DISABLE forwards TLS bytes, but for HTTP ports", "the_table_of_istio"),
        ],
    ),
    ("proxy/tests/matrix.rs", &[("the same with curl, openssl and a mesh client", "every_cell_is_istios")]),
    ("policy/src/tests/contract.rs", &[("the same as explained", "foreign_tls_depends_on_mode_and_protocol")]),
];

const WIRE: [Cases; 3] = [
    ("proxy/src/detect/hello_tests.rs", &[("server names hold underscores", "the_hello_of_our_own_client_is_read")]),
    (
        "identity/tests/session.rs",
        &[
            ("istio-peer-exchange and other names of Istio's are never selected", "http_names_are_selected_only_where_asked_for"),
            (
                "the client's floor stays TLS 1.2; with pqc a peer without X25519MLKEM768 cannot connect",
                "a_compliance_policy_binds_the_client_too",
            ),
        ],
    ),
    (
        "identity/tests/openssl.rs",
        &[("meshMTLS.minProtocolVersion holds at the server", "openssl_below_the_version_floor_is_refused")],
    ),
];

#[test]
fn every_edge_case_has_its_test() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates/");
    let all = [&PEER_AUTHENTICATION[..], &DESTINATION_RULE, &AUTO_MTLS, &INBOUND, &WIRE].concat();
    let mut said = BTreeSet::new();
    for (file, cases) in all {
        let text = std::fs::read_to_string(crates.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        for (case, test) in cases {
            assert!(said.insert(*case), "twice: {case}");
            let place = text.find(&format!("fn {test}()")).unwrap_or_else(|| panic!("{file} has no test {test} for: {case}"));
            let before = text[..place].trim_end().trim_end_matches("async").trim_end();
            let attributes = before.rsplit("\n\n").next().unwrap_or_default();
            assert!(attributes.contains("#[test]") || attributes.contains("#[tokio::test"), "{file}: {test} is no test");
            assert!(!attributes.contains("#[ignore"), "{file}: {test} is not run");
        }
    }
}
