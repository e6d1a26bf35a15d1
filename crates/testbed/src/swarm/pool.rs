//! Resources as proxies hold them: those that are equal are held once, however many proxies have them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use mutua_wire::MeshResource;
use mutua_wire::discovery::Resource;
use mutua_wire::mesh::{Destination, InboundPolicy};

/// A resource in the hands of a proxy.
#[derive(Debug)]
pub struct Held {
    /// Its name.
    pub name: Arc<str>,
    /// Its version, as it came.
    pub version: Arc<str>,
    /// What it says.
    pub content: Content,
}

/// What a resource says, as far as the simulation looks at it.
#[derive(Debug)]
pub enum Content {
    /// What a workload accepts.
    Inbound(InboundPolicy),
    /// How a service is reached.
    Destination(Destination),
    /// Anything else.
    Other,
}

/// All that is held by anybody.
#[derive(Debug, Default)]
pub struct Pool {
    known: Mutex<HashMap<(String, String), Weak<Held>>>,
}

impl Pool {
    /// The resource, read once. An error when its bytes are no message of its type.
    pub fn take(&self, resource: &Resource) -> Result<Arc<Held>, String> {
        let key = (resource.name.clone(), resource.version.clone());
        if let Some(held) = self.known.lock().unwrap().get(&key).and_then(Weak::upgrade) {
            return Ok(held);
        }
        let any = resource.resource.as_ref().ok_or("a resource without content")?;
        let content = match any.type_url.as_str() {
            InboundPolicy::TYPE_URL => Content::Inbound(InboundPolicy::unpack(any).map_err(|error| error.to_string())?),
            Destination::TYPE_URL => Content::Destination(Destination::unpack(any).map_err(|error| error.to_string())?),
            _ => Content::Other,
        };
        let held = Arc::new(Held { name: resource.name.as_str().into(), version: resource.version.as_str().into(), content });
        self.known.lock().unwrap().insert(key, Arc::downgrade(&held));
        Ok(held)
    }
}
