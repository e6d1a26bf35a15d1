//! Encoded resources, shared between the proxies that get the same ones.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use mutua_wire::discovery::Resource;
use mutua_wire::mesh::{Destination, InboundPolicy, PeerWorkload, ProxySettings, TrustBundle};
use mutua_wire::{MeshResource, content_version};
use prost_types::Any;

use crate::revision::Revision;

/// The types that are distributed, in the order in which one snapshot's changes are sent: whom to trust and what to
/// accept before whom to call.
pub const TYPES: [&str; 5] =
    [TrustBundle::TYPE_URL, ProxySettings::TYPE_URL, InboundPolicy::TYPE_URL, Destination::TYPE_URL, PeerWorkload::TYPE_URL];

/// The version of a resource: a hash of its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(u64);

impl Version {
    /// A version that a client got from somebody else: it matches none of ours, so the resource is replaced or removed.
    pub const FOREIGN: Self = Self(0);

    /// Reads the 16 hexadecimal digits of [`content_version`]. Anything else is no version of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(Self)
    }

    fn of(encoded: &[u8]) -> Self {
        Self::parse(&content_version(encoded)).expect("content_version gives 16 hexadecimal digits")
    }
}

/// One resource, encoded once.
#[derive(Debug)]
pub struct Packed {
    /// Its name, unique within its type.
    pub name: Arc<str>,
    /// Its version.
    pub version: Version,
    any: Any,
}

impl Packed {
    /// Encodes `message` under `name`.
    #[must_use]
    pub fn new<M: MeshResource>(name: &str, message: &M) -> Self {
        let any = message.pack();
        Self { name: Arc::from(name), version: Version::of(&any.value), any }
    }

    /// The resource as a discovery response carries it.
    #[must_use]
    pub fn to_wire(&self) -> Resource {
        Resource {
            name: self.name.to_string(),
            version: format!("{:016x}", self.version.0),
            resource: Some(self.any.clone()),
            aliases: Vec::new(),
        }
    }

    /// The size of its encoding in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.any.value.len()
    }
}

/// The resources of one type, by name.
pub type Named = BTreeMap<Arc<str>, Arc<Packed>>;

/// Everything that one proxy is entitled to, at one generation.
pub trait Catalog {
    /// The stage that this is of.
    fn revision(&self) -> Revision;
    /// What a wildcard subscription to the type gives.
    fn all(&self, type_url: &str) -> &Named;
    /// One resource by its name.
    fn named(&self, type_url: &str, name: &str) -> Option<Arc<Packed>>;
}

type Key = (&'static str, Arc<str>, Version);

/// Shares equal resources between proxies: the same destination is held once, however many proxies are sent it.
#[derive(Debug, Default)]
pub struct Shared {
    known: Mutex<HashMap<Key, Weak<Packed>>>,
}

impl Shared {
    /// Encodes `message`, or returns the equal resource that somebody holds already.
    #[must_use]
    pub fn pack<M: MeshResource>(&self, name: &str, message: &M) -> Arc<Packed> {
        let packed = Packed::new(name, message);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (M::TYPE_URL, Arc::clone(&packed.name), packed.version);
        if let Some(held) = known.get(&key).and_then(Weak::upgrade) {
            return held;
        }
        let packed = Arc::new(packed);
        known.insert(key, Arc::downgrade(&packed));
        packed
    }

    /// Forgets what nobody holds any more. Called once per snapshot.
    pub fn sweep(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, held| held.strong_count() > 0);
        known.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_resources_are_held_once() {
        let shared = Shared::default();
        let bundle = TrustBundle { roots: vec!["root".to_owned()], ..TrustBundle::default() };
        let (a, b) = (shared.pack("default", &bundle), shared.pack("default", &bundle));
        assert!(Arc::ptr_eq(&a, &b));
        let other = shared.pack("default", &TrustBundle::default());
        assert_ne!(a.version, other.version);
        drop((a, b));
        shared.sweep();
        assert_eq!(shared.known.lock().expect("not poisoned").len(), 1);
    }

    #[test]
    fn versions_are_sixteen_hexadecimal_digits() {
        let packed = Packed::new("a", &TrustBundle { roots: vec!["x".to_owned()], ..TrustBundle::default() });
        assert_eq!(Version::parse(&packed.to_wire().version), Some(packed.version));
        for foreign in ["", "1", "+123456789abcdef", "zzzzzzzzzzzzzzzz", "0123456789abcdef0"] {
            assert_eq!(Version::parse(foreign), None, "{foreign}");
        }
    }
}
