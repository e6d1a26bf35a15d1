//! Which groups, versions and kinds there are.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::store::{KINDS, KindInfo, Store};

/// The discovery document at a path, when there is one.
pub fn document(path: &str, store: &Store) -> Option<Value> {
    let installed = || KINDS.iter().filter(|info| !store.uninstalled.contains(info.plural));
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["version"] => Some(json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0", "platform": "linux/amd64"})),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
        ["apis"] => {
            let mut groups = BTreeMap::<&str, &[&str]>::new();
            for info in installed().filter(|info| !info.group.is_empty()) {
                let known = groups.entry(info.group).or_default();
                if info.versions.len() > known.len() {
                    *known = info.versions;
                }
            }
            let version = |group: &str, version: &&str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
            let groups = groups.iter().map(|(group, versions)| {
                let all: Vec<Value> = versions.iter().map(|one| version(group, one)).collect();
                json!({"name": group, "preferredVersion": all[0], "versions": all})
            });
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups.collect::<Vec<_>>()}))
        }
        ["api", version] => Some(resources("", version, installed())),
        ["apis", group, version] => {
            let found = resources(group, version, installed());
            found["resources"].as_array().is_some_and(|list| !list.is_empty()).then_some(found)
        }
        _ => None,
    }
}

fn resources(group: &str, version: &str, kinds: impl Iterator<Item = &'static KindInfo>) -> Value {
    let of_group = kinds.filter(|info| info.group == group && info.versions.contains(&version));
    let verbs = ["create", "delete", "get", "list", "patch", "update", "watch"];
    let shown = of_group.map(|info| {
        json!({"name": info.plural, "singularName": info.kind.to_lowercase(), "namespaced": info.namespaced, "kind": info.kind,
            "verbs": verbs})
    });
    let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": shown.collect::<Vec<_>>()})
}
