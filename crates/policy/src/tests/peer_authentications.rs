//! What a server accepts.

use mutua_model::MtlsMode::{Disable, Permissive, Strict};

use super::*;

fn mode(more: &str) -> mutua_model::MtlsMode {
    workload(&engine(more), "bar/web").mode
}

#[test]
fn without_policies_everything_is_permissive() {
    assert_eq!(mode(""), Permissive);
}

#[test]
fn the_narrower_scope_wins_and_unset_inherits() {
    let mesh = policy("istio-system", "any-name", "{mtls: {mode: STRICT}}");
    assert_eq!(mode(&mesh), Strict, "the name plays no part");
    let namespace = mesh.clone() + &policy("bar", "default", "{mtls: {mode: DISABLE}}");
    assert_eq!(mode(&namespace), Disable);
    let workload = namespace.clone() + &policy("bar", "web", "{selector: {matchLabels: {app: web}}, mtls: {mode: PERMISSIVE}}");
    assert_eq!(mode(&workload), Permissive);
    for unset in ["{}", "{mtls: {}}", "{mtls: {mode: UNSET}}"] {
        assert_eq!(
            mode(
                &(namespace.clone()
                    + &policy("bar", "web", &format!("{{selector: {{matchLabels: {{app: web}}}}, {}", &unset[1..])))
            ),
            Disable,
            "{unset}"
        );
    }
    assert_eq!(mode(&(mesh + &policy("bar", "default", "{mtls: {mode: UNSET}}"))), Strict);
}

#[test]
fn an_empty_selector_is_none() {
    assert_eq!(mode(&policy("bar", "x", "{selector: {}, mtls: {mode: STRICT}}")), Strict);
}

#[test]
fn a_selector_in_the_root_namespace_is_ignored_everywhere() {
    let ignored = policy("istio-system", "x", "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}");
    assert_eq!(mode(&ignored), Permissive);
    let own = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: inside, namespace: istio-system, labels: {app: web}}\n";
    assert_eq!(workload(&engine(&(ignored + own)), "istio-system/inside").mode, Permissive, "in the root namespace too");
}

#[test]
fn the_root_namespace_follows_the_istio_resource() {
    let config = istio("{rootNamespace: mesh-root}");
    assert_eq!(mode(&(config.clone() + &policy("istio-system", "x", "{mtls: {mode: STRICT}}"))), Permissive);
    assert_eq!(mode(&(config + &policy("mesh-root", "x", "{mtls: {mode: STRICT}}"))), Strict);
}

#[test]
fn the_oldest_counts_whole_then_name() {
    let two = policy("bar", "b", "{mtls: {mode: STRICT}}") + &policy("bar", "a", "{mtls: {mode: DISABLE}}");
    assert_eq!(mode(&two), Disable, "no timestamps: by name");
    let aged = two
        .replace("{name: b,", "{creationTimestamp: \"2020-01-01T00:00:00Z\", name: b,")
        .replace("{name: a,", "{creationTimestamp: \"2021-01-01T00:00:00Z\", name: a,");
    assert_eq!(mode(&aged), Strict, "the older one");
    let half = two.replace("{name: a,", "{creationTimestamp: \"2021-01-01T00:00:00Z\", name: a,");
    assert_eq!(mode(&half), Strict, "no timestamp is older than any");
    let select = "selector: {matchLabels: {app: web}}";
    let ports = policy("bar", "a", &format!("{{{select}, portLevelMtls: {{80: {{mode: STRICT}}}}}}"))
        + &policy("bar", "b", &format!("{{{select}, portLevelMtls: {{90: {{mode: DISABLE}}}}}}"));
    let answer = workload(&engine(&ports), "bar/web");
    assert_eq!((answer.ports[&80], answer.ports[&90]), (Strict, Permissive), "port maps are not merged");
    assert!(answer.trace.iter().any(|step| step.rule == "peer-authentication.workload-ignored"));
}

#[test]
fn port_levels_are_on_target_ports_and_unset_takes_the_workloads_mode() {
    let levels = "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {80: {mode: DISABLE}, 8000: {mode: PERMISSIVE}, 90: {}}}";
    let answer = workload(&engine(&policy("bar", "x", levels)), "bar/web");
    assert_eq!((answer.ports[&80], answer.ports[&90], answer.ports[&8000]), (Disable, Strict, Permissive));
    let step = answer.trace.iter().find(|step| step.rule == "peer-authentication.port").expect("traced");
    assert_eq!((step.object.as_str(), step.file.as_str()), ("PeerAuthentication bar/x", "more.yaml"));
}

#[test]
fn port_levels_of_a_policy_without_selector_never_count() {
    for namespace in ["bar", "istio-system"] {
        let wide = policy(namespace, "x", "{mtls: {mode: STRICT}, portLevelMtls: {80: {mode: DISABLE}}}");
        let loaded = Inputs::from_texts([("base.yaml", BASE), ("more.yaml", &wide)]).load().expect("readable");
        assert!(loaded.errors().count() > 0, "it is rejected");
        let answer = workload(&Engine::new(Arc::new(loaded.mesh)), "bar/web");
        assert_eq!((answer.mode, answer.ports[&80]), (Strict, Strict), "{namespace}");
    }
}

#[test]
fn what_strict_refuses_and_permissive_accepts() {
    let strict = engine(&policy("bar", "default", "{mtls: {mode: STRICT}}"));
    assert_eq!(ask(&strict, "foo/sleep", "web.bar:8000").outcome, Outcome::Mtls);
    assert_eq!(ask(&strict, "foo/legacy", "web.bar:8000").outcome, Outcome::Refused);
    assert_eq!(ask(&strict, "foo/sleep", "10.0.0.7:80").outcome, Outcome::Refused, "a pod's own address is no service");
    assert_eq!(ask(&strict, "foo/legacy", "old.bar:8000").outcome, Outcome::Plaintext, "nothing enforces it");
    let permissive = engine("");
    assert_eq!(ask(&permissive, "foo/legacy", "web.bar:8000").outcome, Outcome::Plaintext);
    assert_eq!(ask(&permissive, "foo/sleep", "10.0.0.7:80").outcome, Outcome::Plaintext);
}

#[test]
fn policies_that_do_not_count_say_why() {
    let policies = policy("bar", "a", "{mtls: {mode: STRICT}}")
        + &policy("bar", "b", "{mtls: {mode: DISABLE}}")
        + &policy("istio-system", "m", "{mtls: {mode: DISABLE}}")
        + &policy("istio-system", "n", "{mtls: {mode: STRICT}}")
        + &policy("istio-system", "selecting", "{selector: {matchLabels: {app: web}}, mtls: {mode: DISABLE}}");
    let answer = workload(&engine(&policies), "bar/web");
    let said: Vec<(&str, &str)> =
        answer.trace.iter().map(|step| (step.object.trim_start_matches("PeerAuthentication "), step.effect.as_str())).collect();
    assert_eq!(answer.mode, Strict);
    assert_eq!(
        said,
        [
            ("", "mode PERMISSIVE, unless a policy says otherwise"),
            ("istio-system/m", "mode DISABLE; PeerAuthentication bar/a is narrower and counts before it"),
            (
                "istio-system/n",
                "not used: PeerAuthentication istio-system/m is of the same age and comes first by name, and counts whole"
            ),
            ("bar/a", "mode STRICT"),
            ("bar/b", "not used: PeerAuthentication bar/a is of the same age and comes first by name, and counts whole"),
            ("istio-system/selecting", "not used: a selector in the root namespace selects nothing"),
        ]
    );
}
