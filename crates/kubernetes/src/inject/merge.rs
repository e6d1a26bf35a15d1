//! Kubernetes' strategic merge, as far as pods need it: lists of named things are merged by their names.

use serde_json::{Map, Value};

/// Lists that are merged, by the key that tells their elements apart (`patchMergeKey` in the Kubernetes API).
const KEYED: &[(&str, &[&str])] = &[
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("volumes", &["name"]),
    ("env", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("ports", &["containerPort", "protocol"]),
    ("imagePullSecrets", &["name"]),
    ("hostAliases", &["ip"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
];

/// Merges `over` into `base`: mappings key by key, lists of [`KEYED`] element by element (what `base` has keeps its place,
/// what is new comes last), a null takes away, everything else is replaced.
pub fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => merge_maps(base, over),
        (base, over) => *base = over.clone(),
    }
}

fn merge_maps(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        let keyed = KEYED.iter().find(|(list, _)| list == key).map(|(_, by)| *by);
        match (value, base.get_mut(key), keyed) {
            (Value::Null, ..) => {
                base.remove(key);
            }
            (Value::Array(over), Some(Value::Array(base)), Some(by)) => merge_lists(base, over, by),
            (over @ Value::Object(_), Some(base @ Value::Object(_)), _) => merge(base, over),
            (value, ..) => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

fn merge_lists(base: &mut Vec<Value>, over: &[Value], by: &[&str]) {
    for element in over {
        match base.iter_mut().find(|one| by.iter().all(|key| part(one, key) == part(element, key))) {
            Some(same) => merge(same, element),
            None => base.push(element.clone()),
        }
    }
}

fn part<'a>(element: &'a Value, key: &str) -> &'a Value {
    static TCP: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| Value::String("TCP".to_owned()));
    match &element[key] {
        Value::Null if key == "protocol" => &TCP,
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_of_named_things_are_merged_and_others_replaced() {
        let mut base = json!({
            "containers": [{"name": "a", "image": "1", "args": ["x"], "env": [{"name": "A", "value": "1"}]}, {"name": "b"}],
            "volumes": [{"name": "v"}],
            "nodeName": "n",
            "tolerations": [{"key": "t"}],
        });
        let over = json!({
            "containers": [
                {"name": "c"},
                {"name": "a", "args": ["y"], "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "3"}],
                 "ports": [{"containerPort": 1}]},
            ],
            "nodeName": null,
            "tolerations": [{"key": "u"}],
            "securityContext": {"runAsUser": 1},
        });
        merge(&mut base, &over);
        let expected = json!({
            "containers": [
                {"name": "a", "image": "1", "args": ["y"], "ports": [{"containerPort": 1}],
                 "env": [{"name": "A", "value": "3"}, {"name": "B", "value": "2"}]},
                {"name": "b"},
                {"name": "c"},
            ],
            "volumes": [{"name": "v"}],
            "tolerations": [{"key": "u"}],
            "securityContext": {"runAsUser": 1},
        });
        assert_eq!(base, expected);
    }

    #[test]
    fn ports_are_told_apart_by_number_and_protocol() {
        let mut base = json!({"ports": [{"containerPort": 53, "name": "a"}]});
        merge(
            &mut base,
            &json!({"ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP", "name": "b"}]}),
        );
        let expected = json!([{"containerPort": 53, "protocol": "TCP", "name": "b"}, {"containerPort": 53, "protocol": "UDP"}]);
        assert_eq!(base["ports"], expected);
    }
}
