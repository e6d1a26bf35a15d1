//! The bookkeeping of one delta discovery stream, without any I/O: what the client asked for, what it holds, what it was
//! sent and refused, and hence what it is to be sent next.
//!
//! Per type at most one response is on its way. A newer snapshot that arrives meanwhile merges with what is pending, so
//! a slow client costs nothing and skips what it has missed. A response that the client refuses is taken as not applied
//! at all; the same version of the same resource is not sent again, the next version is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mutua_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mutua_wire::node::WILDCARD;

use super::resources::{Catalog, Packed, TYPES, Version};
use crate::revision::Revision;

/// How many resources a client may ask for by name, per type.
pub const MAX_NAMES: usize = 10_000;
/// How many resources a client may say it holds when it connects, per type.
pub const MAX_INITIAL: usize = 200_000;
/// The longest resource name.
const MAX_NAME_BYTES: usize = 512;
/// How many bytes of a client's error text are kept.
const MAX_ERROR_BYTES: usize = 1024;
/// How many bytes of resources go into one response; the rest follows once it is acknowledged.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// Why a stream must be ended.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// More names than [`MAX_NAMES`], or a longer one than allowed.
    #[error("too many or too long resource names are subscribed to (at most {MAX_NAMES} of 512 bytes per type)")]
    Names,
    /// More initial versions than [`MAX_INITIAL`].
    #[error("too many initial resource versions (at most {MAX_INITIAL} per type)")]
    Initial,
}

/// A client's refusal of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The type.
    pub type_url: &'static str,
    /// The stage that was refused.
    pub revision: Revision,
    /// The client's error text, bounded.
    pub error: String,
    /// The resources of the refused response, by name.
    pub resources: Vec<Arc<str>>,
}

/// How far a client has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The newest stage of which it was sent something, or of which nothing concerns it.
    pub sent: Revision,
    /// The newest stage of which it holds everything it asked for.
    pub acknowledged: Revision,
    /// What it refuses at present.
    pub refused: Vec<Refused>,
}

/// All subscriptions of one stream.
#[derive(Debug, Default)]
pub struct Subscriptions {
    types: BTreeMap<usize, Subscription>,
    nonce: u64,
}

#[derive(Debug, Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<Arc<str>>,
    /// What the client holds; `None` for a name of which it was told that there is no such resource.
    held: HashMap<Arc<str>, Option<Version>>,
    /// Versions that the client refused.
    refused: HashMap<Arc<str>, Option<Version>>,
    refusal: Option<Refused>,
    on_its_way: Option<OnItsWay>,
    answered: bool,
    sent: Revision,
    settled: Revision,
}

#[derive(Debug)]
struct OnItsWay {
    nonce: String,
    revision: Revision,
    changes: Vec<(Arc<str>, Option<Version>)>,
}

impl Subscriptions {
    /// Takes in one request. Requests for types that are unknown here (of a newer client) are ignored.
    ///
    /// # Errors
    /// The client exceeds a bound.
    pub fn request(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Violation> {
        let Some(index) = TYPES.iter().position(|known| *known == request.type_url) else { return Ok(()) };
        let first = !self.types.contains_key(&index);
        let subscription = self.types.entry(index).or_default();
        if first {
            subscription.open(request)?;
        }
        subscription.answer(TYPES[index], request);
        subscription.change_names(request)
    }

    /// The responses that are due: what changed between what the client holds and `catalog`, for every type that
    /// has no response on its way.
    pub fn due(&mut self, catalog: &impl Catalog) -> Vec<DeltaDiscoveryResponse> {
        let mut responses = Vec::new();
        for (index, subscription) in &mut self.types {
            if subscription.on_its_way.is_some() {
                continue;
            }
            if let Some(response) = subscription.next(TYPES[*index], catalog, &mut self.nonce) {
                responses.push(response);
            }
        }
        responses
    }

    /// How far the client has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            sent: self.types.values().map(|one| one.sent).max().unwrap_or_default(),
            acknowledged: self.types.values().map(|one| one.settled).min().unwrap_or_default(),
            refused: self.types.values().filter_map(|one| one.refusal.clone()).collect(),
        }
    }

    /// Whether a response is on its way.
    #[must_use]
    pub fn waiting(&self) -> bool {
        self.types.values().any(|one| one.on_its_way.is_some())
    }
}

impl Subscription {
    fn open(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Violation> {
        if request.initial_resource_versions.len() > MAX_INITIAL {
            return Err(Violation::Initial);
        }
        // Subscribing to nothing at first means everything, by the protocol's older custom.
        self.wildcard = request.resource_names_subscribe.is_empty();
        let known = request.initial_resource_versions.iter();
        let version = |text: &str| Some(Version::parse(text).unwrap_or(Version::FOREIGN));
        self.held = known.map(|(name, text)| (Arc::from(name.as_str()), version(text))).collect();
        Ok(())
    }

    fn answer(&mut self, type_url: &'static str, request: &DeltaDiscoveryRequest) {
        if request.response_nonce.is_empty() {
            return;
        }
        // An answer to anything but the last response is out of date, and says nothing.
        let Some(sent) = self.on_its_way.take_if(|sent| sent.nonce == request.response_nonce) else { return };
        match &request.error_detail {
            None => self.accept(sent),
            Some(error) => self.refuse(type_url, sent, &error.message),
        }
    }

    fn accept(&mut self, sent: OnItsWay) {
        for (name, version) in sent.changes {
            self.refused.remove(&name);
            if version.is_some() || self.names.contains(&name) {
                self.held.insert(name, version);
            } else {
                self.held.remove(&name);
            }
        }
    }

    fn refuse(&mut self, type_url: &'static str, sent: OnItsWay, error: &str) {
        let resources = sent.changes.iter().map(|(name, _)| Arc::clone(name)).collect();
        self.refusal = Some(Refused { type_url, revision: sent.revision, error: bounded(error), resources });
        self.refused.extend(sent.changes);
    }

    fn change_names(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Violation> {
        for name in &request.resource_names_unsubscribe {
            if name == WILDCARD {
                self.wildcard = false;
            } else {
                self.names.remove(name.as_str());
                self.held.remove(name.as_str());
            }
        }
        for name in &request.resource_names_subscribe {
            if name == WILDCARD {
                self.wildcard = true;
                continue;
            }
            if name.len() > MAX_NAME_BYTES || self.names.len() >= MAX_NAMES {
                return Err(Violation::Names);
            }
            // Asking again for a name means that the client does not have it any more.
            if !self.names.insert(Arc::from(name.as_str())) {
                self.held.remove(name.as_str());
                self.refused.remove(name.as_str());
            }
        }
        Ok(())
    }

    fn next(&mut self, type_url: &'static str, catalog: &impl Catalog, nonce: &mut u64) -> Option<DeltaDiscoveryResponse> {
        let wanted = self.wanted(type_url, catalog);
        self.forget_refusals(&wanted, catalog.revision());
        let removed = self.gone(&wanted);
        let changed = self.changed(&wanted);
        let (revision, generation) = (catalog.revision(), catalog.revision().generation());
        self.sent = revision;
        if changed.is_empty() && removed.is_empty() && self.answered {
            if self.refusal.is_none() {
                self.settled = revision;
            }
            return None;
        }
        *nonce += 1;
        let nonce = format!("{generation}-{nonce}");
        let mut changes: Vec<_> = changed.iter().map(|one| (Arc::clone(&one.name), Some(one.version))).collect();
        changes.extend(removed.iter().map(|name| (Arc::clone(name), None)));
        self.on_its_way = Some(OnItsWay { nonce: nonce.clone(), revision, changes });
        self.answered = true;
        Some(DeltaDiscoveryResponse {
            system_version_info: generation.to_string(),
            resources: changed.iter().map(|one| one.to_wire()).collect(),
            type_url: type_url.to_owned(),
            nonce,
            removed_resources: removed.iter().map(ToString::to_string).collect(),
        })
    }

    /// A refused version counts until another one is wanted, a refused removal until the next generation.
    fn forget_refusals(&mut self, wanted: &BTreeMap<Arc<str>, Option<Arc<Packed>>>, now: Revision) {
        let newer = self.refusal.as_ref().is_none_or(|refusal| refusal.revision < now);
        self.refused.retain(|name, version| match version {
            Some(_) => wanted.get(name).map(version_of) == Some(*version),
            None => !newer && wanted.get(name).is_none_or(Option::is_none),
        });
        if self.refused.is_empty() {
            self.refusal = None;
        }
    }

    /// What the client should hold: by name, `None` for a name that it asked for and that does not exist.
    fn wanted(&self, type_url: &str, catalog: &impl Catalog) -> BTreeMap<Arc<str>, Option<Arc<Packed>>> {
        let mut wanted = BTreeMap::new();
        if self.wildcard {
            let all = catalog.all(type_url).iter();
            wanted.extend(all.map(|(name, packed)| (Arc::clone(name), Some(Arc::clone(packed)))));
        }
        for name in &self.names {
            wanted.entry(Arc::clone(name)).or_insert_with(|| catalog.named(type_url, name));
        }
        wanted
    }

    fn gone(&self, wanted: &BTreeMap<Arc<str>, Option<Arc<Packed>>>) -> Vec<Arc<str>> {
        let forgotten = self.held.keys().filter(|name| !wanted.contains_key(*name));
        let missing = wanted.iter().filter(|(name, packed)| packed.is_none() && self.held.get(*name) != Some(&None));
        let mut gone: Vec<_> = forgotten.chain(missing.map(|(name, _)| name)).cloned().collect();
        gone.retain(|name| self.refused.get(name) != Some(&None));
        gone.sort();
        gone
    }

    /// The resources that the client does not hold in the wanted version, as far as one response carries them.
    fn changed(&self, wanted: &BTreeMap<Arc<str>, Option<Arc<Packed>>>) -> Vec<Arc<Packed>> {
        let (mut changed, mut size) = (Vec::new(), 0);
        for packed in wanted.values().flatten() {
            let version = Some(&Some(packed.version));
            if self.held.get(&packed.name) == version || self.refused.get(&packed.name) == version {
                continue;
            }
            if size > 0 && size + packed.size() > MAX_RESPONSE_BYTES {
                return changed;
            }
            size += packed.size() + packed.name.len();
            changed.push(Arc::clone(packed));
        }
        changed
    }
}

fn version_of(packed: &Option<Arc<Packed>>) -> Option<Version> {
    packed.as_ref().map(|packed| packed.version)
}

fn bounded(text: &str) -> String {
    let mut end = text.len().min(MAX_ERROR_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
#[path = "subscriptions_property.rs"]
mod property;
#[cfg(test)]
#[path = "subscriptions_tests.rs"]
mod tests;
