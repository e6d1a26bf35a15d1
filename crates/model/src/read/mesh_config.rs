//! Which mesh configuration is in force: that of the `Istio` resource, else of the ConfigMap `istio`.

use super::report::Report;
use super::tree::{Node, Style, Value};
use super::{convert, rules, schema};
use crate::{Diagnostic, Istio, MeshConfig, Meta, Severity};

/// The `Istio` resource that counts when there are several.
const DEFAULT: &str = "default";
/// The ConfigMap that istiod reads, and the key that holds the mesh configuration.
const CONFIG_MAP: (&str, &str) = ("istio", "mesh");

/// What could configure the mesh.
#[derive(Default)]
pub struct Candidates {
    resources: Vec<Istio>,
    config_maps: Vec<MeshConfig>,
}

impl Candidates {
    /// An `Istio` resource.
    pub fn add_istio(&mut self, istio: Istio) {
        self.resources.push(istio);
    }

    /// The mesh configuration of a ConfigMap.
    pub fn add_mesh_config(&mut self, config: MeshConfig) {
        self.config_maps.push(config);
    }

    /// The configuration in force.
    pub fn choose(mut self, diagnostics: &mut Vec<Diagnostic>) -> MeshConfig {
        self.resources.sort_by(|a, b| (a.meta.name() != DEFAULT, a.meta.name()).cmp(&(b.meta.name() != DEFAULT, b.meta.name())));
        if let [first, second, ..] = self.resources.as_slice()
            && first.meta.name() != DEFAULT
        {
            diagnostics.push(undecided(&self.resources, &second.meta));
        }
        if let Some(istio) = self.resources.into_iter().next() {
            return istio.mesh_config;
        }
        self.config_maps.sort_by_key(|config| {
            let namespace = config.from.as_ref().map_or("", Meta::namespace).to_owned();
            (namespace != "istio-system", namespace)
        });
        self.config_maps.into_iter().next().unwrap_or_default()
    }
}

/// The mesh configuration that a ConfigMap holds, if it is named as istiod's.
pub fn of_config_map(meta: &Meta, node: &Node, report: &mut Report) -> Option<MeshConfig> {
    let (name, key) = CONFIG_MAP;
    let field = node.at_path(&["data", key]);
    let text = field.text().filter(|_| meta.name() == name)?;
    // Only a block has the lines and columns of its text.
    let is_block = matches!(field.value, Value::Scalar { style: Style::Block, .. });
    let origin = if is_block { field.at } else { (field.at.0, 1) };
    let mut document = match super::parse::documents(text) {
        Ok(documents) => documents.into_iter().next().unwrap_or(Node { at: field.at, value: Value::Map(Vec::new()) }),
        Err(error) => {
            let at = if is_block { super::tree::shifted(error.at, origin) } else { field.at };
            report.error("data/mesh", at, format!("the mesh configuration is no YAML: {}", error.message));
            return None;
        }
    };
    document.shift(origin);
    schema::check_mesh_config(&document, "data/mesh", report);
    rules::check_mesh_config(&document, "data/mesh", report);
    Some(convert::mesh_config(meta, "data/mesh", &document, meta.namespace()))
}

fn undecided(resources: &[Istio], second: &Meta) -> Diagnostic {
    let names: Vec<_> = resources.iter().map(|istio| format!("`{}`", istio.meta.name())).collect();
    let message = format!(
        "{} Istio resources ({}) and none is named `{DEFAULT}`: it is not decided which of them configures the mesh; \
         keep one, or name one `{DEFAULT}`",
        names.len(),
        names.join(", ")
    );
    Diagnostic {
        severity: Severity::Error,
        object: Some(second.object.clone()),
        path: "metadata/name".to_owned(),
        place: second.places.of("metadata/name"),
        message,
    }
}
