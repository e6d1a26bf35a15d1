//! Objects as they come from the API server: what nobody needs is dropped while they are decoded, so that it never stands
//! in memory.

use std::borrow::Cow;
use std::fmt::{self, Debug};
use std::marker::PhantomData;

use kube::Resource;
use kube::core::{ApiResource, DynamicResourceScope, ObjectMeta};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Value};

/// What is kept of a value.
#[derive(Debug)]
pub enum Keep {
    /// All of it.
    All,
    /// These fields of a mapping.
    Fields(&'static [(&'static str, &'static Keep)]),
    /// All fields of a mapping but these.
    Without(&'static [&'static str]),
    /// Of a list, this of each entry.
    Each(&'static Keep),
}

/// Says what is kept of the objects of a kind.
pub trait Shaped: Clone + Debug + Send + Sync + 'static {
    /// What is kept.
    const KEEP: &'static Keep;
}

/// One object, as much of it as is kept.
#[derive(Clone, Debug)]
pub struct Object<S> {
    meta: ObjectMeta,
    /// Its fields; `metadata.resourceVersion`, which says nothing about the mesh, is not among them.
    pub value: Value,
    shape: PhantomData<S>,
}

impl<S: Shaped> Resource for Object<S> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        kind.kind.as_str().into()
    }

    fn group(kind: &ApiResource) -> Cow<'_, str> {
        kind.group.as_str().into()
    }

    fn version(kind: &ApiResource) -> Cow<'_, str> {
        kind.version.as_str().into()
    }

    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        kind.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

impl<'de, S: Shaped> Deserialize<'de> for Object<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Kept(S::KEEP).deserialize(deserializer)?;
        let metadata = value.get_mut("metadata").and_then(Value::as_object_mut);
        let metadata = metadata.ok_or_else(|| de::Error::missing_field("metadata"))?;
        let text = |metadata: &Map<String, Value>, key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
        let meta = ObjectMeta {
            name: text(metadata, "name"),
            namespace: text(metadata, "namespace"),
            resource_version: text(metadata, "resourceVersion"),
            ..ObjectMeta::default()
        };
        metadata.remove("resourceVersion");
        Ok(Self { meta, value, shape: PhantomData })
    }
}

/// Reads a value, and of it what is kept.
#[derive(Clone, Copy)]
struct Kept(&'static Keep);

impl<'de> DeserializeSeed<'de> for Kept {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.0 {
            Keep::All => Value::deserialize(deserializer),
            Keep::Fields(_) | Keep::Without(_) | Keep::Each(_) => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Kept {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a part of a Kubernetes object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let keep = match self.0 {
                Keep::Fields(fields) => fields.iter().find(|(name, _)| *name == key).map(|(_, keep)| *keep),
                Keep::Without(names) => (!names.contains(&&*key)).then_some(&Keep::All),
                Keep::All | Keep::Each(_) => Some(&Keep::All),
            };
            match keep {
                Some(keep) => {
                    let value = map.next_value_seed(Kept(keep))?;
                    kept.insert(key.into_owned(), value);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(kept))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let keep = if let Keep::Each(keep) = self.0 { *keep } else { &Keep::All };
        let mut kept = Vec::new();
        while let Some(item) = list.next_element_seed(Kept(keep))? {
            kept.push(item);
        }
        Ok(Value::Array(kept))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::shapes::Pod;

    #[test]
    fn of_a_pod_only_what_the_mesh_needs_is_kept() {
        let text = json!({"metadata": {"name": "a", "namespace": "b", "resourceVersion": "7", "uid": "u", "managedFields": [{}],
                "labels": {"app": "a"}, "annotations": {"x": "y", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "a-1", "uid": "u", "controller": true}]},
            "spec": {"nodeName": "n", "serviceAccountName": "s", "volumes": [{"name": "v"}],
                "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "E"}]}]},
            "status": {"podIP": "10.0.0.1", "phase": "Running", "conditions": [{"type": "Ready"}]}});
        let object: Object<Pod> = serde_json::from_str(&text.to_string()).expect("an object");
        let kept = json!({"metadata": {"name": "a", "namespace": "b", "labels": {"app": "a"}, "annotations": {"x": "y"},
                "ownerReferences": [{"kind": "ReplicaSet", "name": "a-1"}]},
            "spec": {"serviceAccountName": "s", "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]},
            "status": {"podIP": "10.0.0.1", "phase": "Running"}});
        assert_eq!(object.value, kept);
        assert_eq!(object.meta.resource_version.as_deref(), Some("7"));
    }
}
