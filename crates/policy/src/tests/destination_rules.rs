//! Which rule a client uses, and what it says for a port and subset.

use mutua_model::ClientTlsMode::{self, Disable, IstioMutual, Mutual, Simple};

use super::*;

const HOST: &str = "host: web.bar.svc.cluster.local";

fn tls(more: &str) -> ClientTlsMode {
    ask(&engine(more), "foo/sleep", "web.bar:8000").client.tls
}

fn says(namespace: &str, name: &str, host: &str, mode: &str, more: &str) -> String {
    rule(namespace, name, &format!("{{host: \"{host}\", trafficPolicy: {{tls: {{mode: {mode}}}}}{more}}}"))
}

#[test]
fn the_clients_namespace_comes_before_specificity() {
    let in_service = says("bar", "exact", "web.bar.svc.cluster.local", "SIMPLE", "");
    let in_root = says("istio-system", "root", "web.bar.svc.cluster.local", "ISTIO_MUTUAL", "");
    assert_eq!(tls(&in_root), IstioMutual);
    assert_eq!(tls(&(in_root.clone() + &in_service)), Simple);
    let in_client = says("foo", "wide", "*", "DISABLE", "");
    assert_eq!(tls(&(in_root + &in_service + &in_client)), Disable, "a wide rule hides an exact one");
}

#[test]
fn exact_hosts_beat_wildcards_of_one_namespace() {
    let wide = says("istio-system", "all", "*.local", "ISTIO_MUTUAL", "");
    let api = says("istio-system", "api", "web.bar.svc.cluster.local", "DISABLE", "");
    assert_eq!(tls(&(wide.clone() + &api)), Disable);
    assert_eq!(
        tls(&(wide + &says("istio-system", "ns", "*.bar.svc.cluster.local", "SIMPLE", ""))),
        Simple,
        "the longer wildcard"
    );
}

#[test]
fn short_hosts_belong_to_the_rules_namespace() {
    assert_eq!(tls(&says("bar", "r", "web", "DISABLE", "")), Disable);
    assert_eq!(tls(&says("foo", "r", "web", "DISABLE", "")), IstioMutual, "web.foo, not web.bar");
    assert_eq!(tls(&says("foo", "r", "web.bar", "DISABLE", "")), IstioMutual, "with a dot: verbatim");
}

#[test]
fn an_unexported_best_match_hides_the_namespaces_other_rules() {
    let private = says("bar", "exact", "web.bar.svc.cluster.local", "DISABLE", ", exportTo: [baz]");
    let wide = says("bar", "wide", "*.bar.svc.cluster.local", "SIMPLE", "");
    let root = says("istio-system", "root", "*", "ISTIO_MUTUAL", "");
    assert_eq!(tls(&(private.clone() + &wide)), IstioMutual, "auto mTLS: the wide rule is not tried");
    let answer = ask(&engine(&(private + &wide + &root)), "foo/sleep", "web.bar:8000");
    assert_eq!((answer.client.tls, answer.client.auto), (IstioMutual, false), "the search goes on in the root namespace");
}

#[test]
fn a_private_rule_counts_at_home_only() {
    let private = says("bar", "r", "web.bar.svc.cluster.local", "DISABLE", ", exportTo: [\".\"]");
    assert_eq!(tls(&private), IstioMutual);
    let default_private =
        istio("{defaultDestinationRuleExportTo: [\".\"]}") + &says("bar", "r", "web.bar.svc.cluster.local", "DISABLE", "");
    assert_eq!(tls(&default_private), IstioMutual);
}

#[test]
fn rules_of_one_host_merge_and_the_oldest_traffic_policy_counts_whole() {
    let first = rule("bar", "a", &format!("{{{HOST}, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 1}}}}}}}}"));
    let second = says("bar", "b", "web.bar.svc.cluster.local", "DISABLE", "");
    assert_eq!(tls(&(first + &second)), IstioMutual, "a policy without tls blocks a newer one's");
    let bare = rule("bar", "a", &format!("{{{HOST}, subsets: [{{name: v1, labels: {{app: web}}}}]}}"));
    assert_eq!(tls(&(bare + &second)), Disable);
}

#[test]
fn a_selector_chooses_clients_of_its_own_namespace() {
    let selected = |label: &str| {
        says(
            "foo",
            "s",
            "web.bar.svc.cluster.local",
            "DISABLE",
            &format!(", workloadSelector: {{matchLabels: {{app: {label}}}}}"),
        )
    };
    assert_eq!(tls(&selected("sleep")), Disable);
    assert_eq!(tls(&selected("other")), IstioMutual);
    let fallback = says("foo", "z", "web.bar.svc.cluster.local", "SIMPLE", "");
    assert_eq!(tls(&(selected("other") + &fallback)), Simple);
    assert_eq!(tls(&(selected("sleep") + &fallback)), Disable);
}

#[test]
fn a_ports_entry_replaces_the_policy_whole_for_the_cluster_but_not_for_endpoints() {
    let ports = |outer: &str, entry: &str| {
        rule(
            "bar",
            "r",
            &format!("{{{HOST}, trafficPolicy: {{{outer}portLevelSettings: [{{port: {{number: 8000}}, {entry}}}]}}}}"),
        )
    };
    assert_eq!(tls(&ports("tls: {mode: DISABLE}, ", "tls: {mode: SIMPLE}")), Simple);
    let answer =
        ask(&engine(&ports("tls: {mode: DISABLE}, ", "connectionPool: {tcp: {maxConnections: 1}}")), "foo/sleep", "web.bar:8000");
    assert_eq!((answer.client.tls, answer.client.auto, answer.outcome), (IstioMutual, true, Outcome::Plaintext));
    let other = ask(&engine(&ports("", "tls: {mode: DISABLE}")), "foo/sleep", "web.bar:9000");
    assert_eq!(other.outcome, Outcome::Mtls, "another port");
}

#[test]
fn subsets_inherit_tls_unless_a_port_entry_stands_in_them() {
    let subset = |policy: &str| {
        rule(
            "bar",
            "r",
            &format!(
                "{{{HOST}, trafficPolicy: {{tls: {{mode: DISABLE}}}}, subsets: [{{name: v1, labels: {{app: web}}, trafficPolicy: {policy}}}]}}"
            ),
        )
    };
    let asked = |more: &str| {
        let query = ConnectionQuery { from: "foo/sleep".into(), to: "web.bar:8000".into(), subset: Some("v1".into()) };
        engine(more).explain_connection(&query).expect("an answer").client
    };
    let pool = "connectionPool: {tcp: {maxConnections: 1}}";
    assert_eq!(asked(&subset(&format!("{{{pool}}}"))).tls, Disable, "no tls of its own: the outer");
    assert_eq!(asked(&subset("{tls: {mode: SIMPLE}}")).tls, Simple);
    let by_port = asked(&subset(&format!("{{portLevelSettings: [{{port: {{number: 8000}}, {pool}}}]}}")));
    assert_eq!((by_port.tls, by_port.auto), (IstioMutual, true), "a port entry counts whole, even without tls");
    assert_eq!(by_port.sni.as_deref(), Some("outbound_.8000_.v1_.web.bar.svc.cluster.local"));
    let unknown = ConnectionQuery { from: "foo/sleep".into(), to: "web.bar:8000".into(), subset: Some("v9".into()) };
    assert!(engine(&subset("{tls: {mode: SIMPLE}}")).explain_connection(&unknown).is_err());
}

#[test]
fn credential_names_need_a_workload_selector() {
    let mutual = "trafficPolicy: {tls: {mode: MUTUAL, credentialName: cred}}";
    let answer = ask(&engine(&rule("foo", "r", &format!("{{{HOST}, {mutual}}}"))), "foo/sleep", "web.bar:8000");
    assert_eq!((answer.client.tls, answer.outcome), (Mutual, Outcome::Plaintext), "Istio drops the TLS context");
    let selected = rule("foo", "r", &format!("{{{HOST}, workloadSelector: {{matchLabels: {{app: sleep}}}}, {mutual}}}"));
    assert_eq!(ask(&engine(&selected), "foo/sleep", "web.bar:8000").outcome, Outcome::Refused, "an HTTP port, PERMISSIVE");
    let roots = rule(
        "foo",
        "r",
        &format!("{{{HOST}, trafficPolicy: {{tls: {{mode: SIMPLE, credentialName: \"configmap://foo/roots\"}}}}}}"),
    );
    assert_eq!(ask(&engine(&roots), "foo/sleep", "web.bar:9000").outcome, Outcome::Tls, "a ConfigMap counts everywhere");
}

/// What is behind a `credentialName` goes to those clients that the rule selects, and to nobody else.
#[test]
fn a_secret_goes_to_the_clients_that_its_rule_selects() {
    let mutual = "workloadSelector: {matchLabels: {app: sleep}}, trafficPolicy: {tls: {mode: MUTUAL, credentialName: cred}}";
    let text = rule("foo", "r", &format!("{{{HOST}, {mutual}}}"));
    let secret = |namespace: &str, values: &str| {
        format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: cred, namespace: {namespace}}}\nstringData: {{{values}}}\n")
    };
    let whole = secret("foo", "tls.crt: C, tls.key: K, ca.crt: R");
    let answer = |more: &str| ask(&engine(&format!("{text}{more}")), "foo/sleep", "web.bar:9000");
    let step = |answer: &ConnectionAnswer, rule: &str| answer.trace.iter().find(|step| step.rule == rule).cloned();
    let given = answer(&whole);
    assert_eq!((given.outcome, &given.help), (Outcome::Tls, &vec![]));
    assert_eq!(step(&given, "destination-rule.credential").expect("told").object, "DestinationRule foo/r");
    for (more, why) in [
        (String::new(), "Secret foo/cred does not exist"),
        (secret("bar", "tls.crt: C, tls.key: K, ca.crt: R"), "Secret foo/cred does not exist"),
        (secret("foo", "ca.crt: R"), "Secret foo/cred holds neither cert and key nor tls.crt and tls.key"),
    ] {
        let missing = answer(&more);
        assert_eq!(missing.outcome, Outcome::Tls, "the rule's outcome, as in Istio");
        let told = step(&missing, "destination-rule.credential-missing").expect("told");
        assert!(told.line > 0 && told.effect == format!("{why}: the sidecar refuses the connection"), "{told:?}");
        assert!(missing.help.iter().any(|help| help.contains("credentialName of DestinationRule foo/r")), "{:?}", missing.help);
    }
    let engine = engine(&format!("{text}{whole}"));
    let credential = |client: &str| {
        let all = engine.destinations(engine.workload(client).unwrap());
        let web = all.into_iter().find(|one| HOST.ends_with(&one.host)).unwrap();
        web.ports.into_iter().map(|port| port.tls.credential).collect::<Vec<_>>()
    };
    assert!(credential("foo/sleep").iter().all(|one| matches!(one, Some(Ok(one)) if one.private_key.is_some())));
    let others: Vec<_> = engine.workloads().iter().map(crate::Workload::full_name).filter(|name| name != "foo/sleep").collect();
    assert!(others.len() > 2 && others.iter().all(|name| credential(name).iter().all(Option::is_none)), "{others:?}");
    assert!(!format!("{engine:?}").contains("\"K\""), "nothing prints it");
}

#[test]
fn given_names_replace_the_defaults() {
    let named = |name: &str| {
        rule(
            "bar",
            "r",
            &format!("{{{HOST}, trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL, sni: x.y, subjectAltNames: [\"{name}\"]}}}}}}"),
        )
    };
    let good = ask(&engine(&named("spiffe://cluster.local/ns/bar/sa/web")), "foo/sleep", "web.bar:8000");
    assert_eq!((good.client.sni.as_deref(), good.outcome), (Some("x.y"), Outcome::Mtls));
    assert_eq!(
        ask(&engine(&named("spiffe://cluster.local/ns/bar/sa/other")), "foo/sleep", "web.bar:8000").outcome,
        Outcome::Refused
    );
}

#[test]
fn rules_that_do_not_count_say_why() {
    let host = "web.bar.svc.cluster.local";
    let rules = says("foo", "own", "*.bar.svc.cluster.local", "ISTIO_MUTUAL", "")
        + &says("foo", "wider", "*", "SIMPLE", "")
        + &says("foo", "selecting", "*.bar.svc.cluster.local", "DISABLE", ", workloadSelector: {matchLabels: {app: other}}")
        + &says("foo", "younger", "*.bar.svc.cluster.local", "DISABLE", "")
        + &says("bar", "at-the-service", host, "SIMPLE", "")
        + &says("istio-system", "root", host, "DISABLE", "");
    let answer = ask(&engine(&rules), "foo/sleep", "web.bar:8000");
    assert_eq!(answer.client.tls, IstioMutual);
    let said = |object: &str| {
        let step = answer.trace.iter().find(|step| step.object == format!("DestinationRule {object}")).expect("in the trace");
        (step.rule.as_ref(), step.effect.clone())
    };
    let used = "used: it covers web.bar.svc.cluster.local, and the search ends in the client's namespace, foo";
    assert_eq!(said("foo/own"), ("destination-rule.used", used.to_owned()));
    assert!(answer.trace.iter().any(|step| step.rule == "destination-rule.tls" && step.object == "DestinationRule foo/own"));
    let not = |why: &str| ("destination-rule.not-used", format!("not used: {why}"));
    assert_eq!(said("foo/wider"), not("DestinationRule foo/own has the more specific host"));
    assert_eq!(said("foo/selecting"), not("its workloadSelector does not match the client"));
    assert_eq!(
        said("foo/younger"),
        (
            "destination-rule.merged",
            "merged into DestinationRule foo/own, which is for the same host: the trafficPolicy of DestinationRule foo/own comes first and counts whole".to_owned()
        )
    );
    let ended = not("DestinationRule foo/own is found before it, in namespace foo");
    assert_eq!((said("bar/at-the-service"), said("istio-system/root")), (ended.clone(), ended));
    let private = says("bar", "private", host, "DISABLE", ", exportTo: [baz]");
    let answer = ask(&engine(&private), "foo/sleep", "web.bar:8000");
    assert!(
        answer.trace.iter().any(|step| step.effect == "not used: it is not exported to namespace foo"),
        "{:#?}",
        answer.trace
    );
}

#[test]
fn passthrough_looks_at_every_endpoint_before_auto_mtls() {
    let passthrough =
        rule("bar", "r", "{host: \"*.bar.svc.cluster.local\", trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}");
    let to = |host: &str| ask(&engine(&passthrough), "foo/sleep", host).client.tls;
    assert_eq!((to("web.bar:8000"), to("old.bar:8000")), (IstioMutual, Disable));
}

#[test]
fn short_wildcards_are_completed_too() {
    assert_eq!(tls(&says("bar", "r", "\"*eb\"".trim_matches('"'), "DISABLE", "")), Disable, "*eb.bar.svc.cluster.local");
}
