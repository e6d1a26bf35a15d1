//! Which clients get the same destinations: those of namespaces for which no rule, service or Sidecar makes a
//! difference share one view of the mesh.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mutua_model::{Labels, Mesh};

use crate::destination_rule::RuleIndex;
use crate::service::Service;
use crate::visibility::Sidecars;
use crate::workload::Workload;

/// Clients of one class get the same destinations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientClass {
    /// `None` is the view that all other namespaces share.
    namespace: Option<String>,
    /// Only where a rule or a Sidecar looks at them.
    labels: Option<Arc<Labels>>,
}

/// The namespaces that see the mesh in their own way.
#[derive(Debug, Default)]
pub(crate) struct Views {
    /// A Sidecar of the root namespace speaks of each client's own namespace.
    all: bool,
    own: HashSet<String>,
    /// Namespaces in which clients may decide differently by their labels.
    by_label: HashSet<String>,
}

impl Views {
    pub(crate) fn new(mesh: &Mesh, services: &[Service], rules: &RuleIndex, sidecars: &Sidecars) -> Self {
        let mut views = Self { all: sidecars.for_all(), ..Self::default() };
        for rule in &mesh.destination_rules {
            views.add(rule.meta.namespace(), &rule.export_to);
        }
        for service in services.iter().filter(|service| !service.export_to.iter().any(|to| to == "*")) {
            views.add(&service.namespace, &service.export_to);
        }
        for sidecar in &mesh.sidecars {
            views.own.insert(sidecar.meta.namespace().to_owned());
        }
        // Of one host a namespace sees its own service before others.
        let mut spaces: HashMap<&str, HashSet<&str>> = HashMap::new();
        for service in services {
            spaces.entry(&service.host).or_default().insert(&service.namespace);
        }
        let rivals = spaces.into_values().filter(|spaces| spaces.len() > 1).flatten();
        views.own.extend(rivals.map(str::to_owned));
        let differs = |namespace: &&String| rules.selects_in(namespace) || sidecars.selects_in(namespace);
        views.by_label = views.own.iter().filter(differs).cloned().collect();
        views
    }

    fn add(&mut self, namespace: &str, export_to: &[String]) {
        self.own.insert(namespace.to_owned());
        self.own.extend(export_to.iter().filter(|to| !matches!(to.as_str(), "*" | "." | "~")).cloned());
    }

    pub(crate) fn class(&self, client: &Workload) -> ClientClass {
        let namespace = (self.all || self.own.contains(&client.namespace)).then(|| client.namespace.clone());
        let labels = self.by_label.contains(&client.namespace).then(|| Arc::clone(&client.labels));
        ClientClass { namespace, labels }
    }
}
