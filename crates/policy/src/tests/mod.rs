//! The rules of Istio's mTLS, one test each, over meshes written as users write them.

mod auto_mtls;
mod contract;
mod decisions;
mod destination_rules;
mod edge_cases;
mod edge_table;
#[path = "../../benches/generated.rs"]
mod generated;
mod locks;
mod peer_authentications;
mod properties;
mod reference;
mod registry;
mod scope;

use std::sync::Arc;

use mutua_model::read::Inputs;

use crate::{ConnectionAnswer, ConnectionQuery, Engine, Outcome, WorkloadAnswer};

/// A server in `bar` and a client in `foo`, both with sidecars, one of each without.
pub(crate) const BASE: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: bar}
spec:
  clusterIP: 10.96.0.5
  selector: {app: web}
  ports: [{name: http, port: 8000, targetPort: 80}, {name: tcp-db, port: 9000, targetPort: 90}]
---
apiVersion: v1
kind: Service
metadata: {name: old, namespace: bar}
spec: {clusterIP: 10.96.0.6, selector: {app: old}, ports: [{name: http, port: 8000, targetPort: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: bar, labels: {app: web, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: web}
status: {podIP: 10.0.0.7}
---
apiVersion: v1
kind: Pod
metadata: {name: old, namespace: bar, labels: {app: old}}
status: {podIP: 10.0.0.9}
---
apiVersion: v1
kind: Pod
metadata: {name: sleep, namespace: foo, labels: {app: sleep, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: sleep}
status: {podIP: 10.0.0.8}
---
apiVersion: v1
kind: Pod
metadata: {name: legacy, namespace: foo, labels: {app: legacy}}
status: {podIP: 10.0.0.10}
";

/// The engine over [`BASE`] and more documents, which must be valid.
pub(crate) fn engine(more: &str) -> Engine {
    let loaded = Inputs::from_texts([("base.yaml", BASE), ("more.yaml", more)]).load().expect("readable");
    let errors: Vec<_> = loaded.errors().collect();
    assert!(errors.is_empty(), "{errors:#?}");
    Engine::new(Arc::new(loaded.mesh))
}

pub(crate) fn ask(engine: &Engine, from: &str, to: &str) -> ConnectionAnswer {
    let query = ConnectionQuery { from: from.to_owned(), to: to.to_owned(), subset: None };
    engine.explain_connection(&query).expect("an answer")
}

pub(crate) fn workload(engine: &Engine, name: &str) -> WorkloadAnswer {
    engine.explain_workload(name).expect("an answer")
}

/// A PeerAuthentication; `spec` as flow YAML.
pub(crate) fn policy(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

/// A DestinationRule; `spec` as flow YAML.
pub(crate) fn rule(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

/// An Istio resource with this meshConfig.
pub(crate) fn istio(mesh_config: &str) -> String {
    format!(
        "---\napiVersion: sailoperator.io/v1\nkind: Istio\nmetadata: {{name: default}}\nspec: {{namespace: istio-system, values: {{meshConfig: {mesh_config}}}}}\n"
    )
}
