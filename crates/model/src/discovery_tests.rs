use crate::read::{Inputs, Loaded};

const OBJECTS: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: istio-system, labels: {env: mesh}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {env: prod, team: a}}
---
apiVersion: v1
kind: Namespace
metadata: {name: play, labels: {env: dev}}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: toy, namespace: play}
spec: {clusterIP: 10.0.0.2, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: stray, namespace: mentioned}
spec: {clusterIP: 10.0.0.3, ports: [{port: 80}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: play}
spec: {mtls: {mode: DISABLE}}
";

fn load(selectors: &str) -> Loaded {
    let istio = format!(
        "apiVersion: sailoperator.io/v1\nkind: Istio\nmetadata: {{name: default}}\nspec:\n  values:\n    meshConfig:\n      \
         discoverySelectors: {selectors}\n"
    );
    Inputs::from_texts([("mesh.yaml", OBJECTS.to_owned()), ("istio.yaml", istio)]).load().expect("YAML")
}

/// The services and policies that are left.
fn left(loaded: &Loaded) -> Vec<String> {
    let services = loaded.mesh.services.iter().map(|one| one.meta.name().to_owned());
    services.chain(loaded.mesh.peer_authentications.iter().map(|one| one.meta.namespace().to_owned())).collect()
}

#[test]
fn only_namespaces_that_a_selector_selects_belong_to_the_mesh() {
    let all = ["front", "toy", "stray", "istio-system", "play"];
    let cases: &[(&str, &[&str])] = &[
        ("[]", &all),
        ("[{}]", &all),
        ("[{matchLabels: {env: prod}}]", &["front"]),
        ("[{matchLabels: {env: prod, team: b}}]", &[]),
        ("[{matchLabels: {env: prod}}, {matchLabels: {env: mesh}}]", &["front", "istio-system"]),
        ("[{matchExpressions: [{key: env, operator: In, values: [mesh, prod]}]}]", &["front", "istio-system"]),
        ("[{matchExpressions: [{key: env, operator: NotIn, values: [dev]}]}]", &["front", "stray", "istio-system"]),
        ("[{matchExpressions: [{key: env, operator: Exists}]}]", &["front", "toy", "istio-system", "play"]),
        ("[{matchExpressions: [{key: env, operator: DoesNotExist}]}]", &["stray"]),
        ("[{matchLabels: {env: prod}, matchExpressions: [{key: team, operator: In, values: [b]}]}]", &[]),
    ];
    for (selectors, expected) in cases {
        let loaded = load(selectors);
        assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
        assert_eq!(left(&loaded), *expected, "{selectors}");
    }
}

#[test]
fn an_unselected_root_namespace_is_told_of() {
    let told = |selectors: &str| {
        let loaded = load(selectors);
        let warning = loaded.warnings().find(|warning| warning.message.contains("root namespace istio-system")).cloned();
        warning.map(|warning| (warning.path, warning.place.line))
    };
    assert_eq!(told("[{matchLabels: {env: prod}}]"), Some(("spec/values/meshConfig/discoverySelectors".to_owned(), 7)));
    assert_eq!(told("[{matchLabels: {env: mesh}}]"), None);
    assert_eq!(told("[]"), None);
}

#[test]
fn an_expression_that_istio_would_give_up_on_is_an_error() {
    for (expression, message) in [
        ("{key: env, operator: Is, values: [a]}", "\"Is\" is not a valid label selector operator"),
        ("{key: env, operator: In}", "values must be given"),
        ("{key: env, operator: Exists, values: [a]}", "values must be empty"),
    ] {
        let loaded = load(&format!("[{{matchExpressions: [{expression}]}}]"));
        assert!(loaded.errors().any(|error| error.message.contains(message)), "{expression}: {:?}", loaded.diagnostics);
    }
}
