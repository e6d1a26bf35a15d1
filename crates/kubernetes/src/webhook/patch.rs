//! The difference of two values as a JSON patch (RFC 6902).

use serde_json::{Value, json};

/// The operations that make `after` of `before`.
#[must_use]
pub fn difference(before: &Value, after: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    compare("", before, after, &mut operations);
    operations
}

fn compare(path: &str, before: &Value, after: &Value, operations: &mut Vec<Value>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Value::Object(old), Value::Object(new)) => {
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                operations.push(json!({ "op": "remove", "path": below(path, key) }));
            }
            for (key, value) in new {
                match old.get(key) {
                    Some(old) => compare(&below(path, key), old, value, operations),
                    None => operations.push(json!({ "op": "add", "path": below(path, key), "value": value })),
                }
            }
        }
        _ => operations.push(json!({ "op": "replace", "path": path, "value": after })),
    }
}

fn below(path: &str, key: &str) -> String {
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_name_what_differs() {
        let before = json!({"same": [1], "gone": 1, "metadata": {"labels": {"a": "1"}}, "list": [{"a": 1}, {"b": 2}]});
        let after = json!({"same": [1], "metadata": {"labels": {"a": "1", "istio.io/r~v": "x"}}, "list": [{"c": 3}, {"a": 1}]});
        let expected = json!([
            {"op": "remove", "path": "/gone"},
            {"op": "replace", "path": "/list", "value": [{"c": 3}, {"a": 1}]},
            {"op": "add", "path": "/metadata/labels/istio.io~1r~0v", "value": "x"},
        ]);
        assert_eq!(Value::Array(difference(&before, &after)), expected);
        assert_eq!(difference(&after, &after), Vec::<Value>::new());
        assert_eq!(difference(&json!(1), &json!(2)), [json!({"op": "replace", "path": "", "value": 2})]);
    }
}
