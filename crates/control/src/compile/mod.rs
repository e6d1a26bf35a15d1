//! From a stage of a change to the resources of each proxy: the decisions are the policy engine's ([`decide`]); here they
//! are composed as the stage wants it, encoded once, and shared between the proxies that get the same.

pub mod convert;
pub mod decide;
pub mod labels;
pub mod union;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use mutua_identity::Compliance;
use mutua_policy::ClientClass;
use mutua_wire::MeshResource;
use mutua_wire::mesh::{Destination, DomainRoots, InboundPolicy, ProxySettings, TrustBundle};

use crate::distribute::resources::{Named, Packed, Shared};
use crate::distribute::view::View;
use crate::world::stage::Stage;
use crate::world::{Member, Snapshot};

/// The name of the resources of which a proxy has one.
const ONLY: &str = "default";

/// Turns stages into resources.
#[derive(Debug)]
pub struct Compiler {
    shared: Arc<Shared>,
    drain_duration: Duration,
    compliance: Compliance,
    /// The destinations of clients that decide alike, for the snapshot that senders follow now.
    destinations: Mutex<Cached>,
    /// Whom to trust, of the newest snapshot asked for.
    bundle: Mutex<(Weak<Snapshot>, Arc<Named>)>,
}

#[derive(Debug, Default)]
struct Cached {
    of: Weak<Snapshot>,
    by_class: HashMap<ClientClass, Arc<Named>>,
}

impl Compiler {
    /// A compiler that gives every proxy the same drain duration and compliance policy.
    #[must_use]
    pub fn new(drain_duration: Duration, compliance: Compliance) -> Self {
        let bundle = Mutex::new((Weak::new(), Arc::default()));
        Self { shared: Arc::default(), drain_duration, compliance, destinations: Mutex::default(), bundle }
    }

    /// Everything that the proxy of `member` is entitled to at `stage`. `member` is of the stage's target.
    #[must_use]
    pub fn view(&self, stage: &Arc<Stage>, member: &Member) -> View {
        let (sending, sender) = sender(stage, member);
        let destinations = self.destinations(sending, sender);
        self.with(stage, member, destinations)
    }

    /// As [`Compiler::view`], when the greater part of it was computed for another proxy already.
    #[must_use]
    pub fn view_of_known(&self, stage: &Arc<Stage>, member: &Member) -> Option<View> {
        let (sending, sender) = sender(stage, member);
        let destinations = self.cached(sending, &decide::client_class(sending, sender))?;
        Some(self.with(stage, member, destinations))
    }

    fn with(&self, stage: &Arc<Stage>, member: &Member, destinations: Arc<Named>) -> View {
        let (sending, sender) = sender(stage, member);
        let inbound = self.inbound(stage, member);
        let bundle = self.bundle(&stage.target);
        let settings = self.only(&self.settings(sending, sender, [inbound.len(), destinations.len()]));
        View {
            stage: Arc::clone(stage),
            shared: Arc::clone(&self.shared),
            bundle,
            settings,
            inbound,
            destinations,
            none: Arc::default(),
        }
    }

    fn bundle(&self, target: &Arc<Snapshot>) -> Arc<Named> {
        let mut cached = self.bundle.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.0.as_ptr() != Arc::as_ptr(target) {
            let (trust, bundle) = (&target.trust, &target.bundle);
            let domains = bundle.domains().map(|(domain, roots)| DomainRoots { trust_domain: domain.to_string(), roots });
            let packed = self.only(&TrustBundle {
                roots: bundle.roots_pem(),
                renew_not_before: trust.renew_not_before,
                revocation_lists: bundle.revocations_pem(),
                domains: domains.collect(),
            });
            *cached = (Arc::downgrade(target), packed);
        }
        Arc::clone(&cached.1)
    }

    /// What its receiver accepts: whatever the senders of any accepted snapshot send.
    fn inbound(&self, stage: &Stage, member: &Member) -> Arc<Named> {
        let policies = stage.accepted.iter().filter_map(|snapshot| {
            let member = snapshot.member(&member.name)?;
            Some(decide::inbound(snapshot, member))
        });
        let Some(policy) = union::union(policies.collect()) else { return Arc::default() };
        named([self.shared.pack(&member.name.to_string(), &policy)])
    }

    fn destinations(&self, sending: &Arc<Snapshot>, member: &Member) -> Arc<Named> {
        let class = decide::client_class(sending, member);
        if let Some(known) = self.cached(sending, &class) {
            return known;
        }
        let all = decide::destinations(sending, member);
        let all = named(all.iter().map(|one| self.shared.pack(&format!("{}/{}", one.namespace, one.host), one)));
        let mut cache = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.of.as_ptr() == Arc::as_ptr(sending) {
            cache.by_class.insert(class, Arc::clone(&all));
        }
        all
    }

    /// The destinations of a class, if they are known; the cache belongs to one snapshot, and begins anew with the next.
    fn cached(&self, sending: &Arc<Snapshot>, class: &ClientClass) -> Option<Arc<Named>> {
        let mut cache = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.of.as_ptr() != Arc::as_ptr(sending) {
            *cache = Cached { of: Arc::downgrade(sending), by_class: HashMap::new() };
            self.shared.sweep();
        }
        cache.by_class.get(class).cloned()
    }

    fn settings(&self, sending: &Snapshot, member: &Member, [inbound, destinations]: [usize; 2]) -> ProxySettings {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let complete =
            [(InboundPolicy::TYPE_URL, count(inbound)), (Destination::TYPE_URL, count(destinations)), (TrustBundle::TYPE_URL, 1)];
        ProxySettings {
            outbound_policy: convert::outbound_policy(decide::outbound_policy(sending, member)).into(),
            trust_domain: sending.trust_domain.as_str().to_owned(),
            root_namespace: sending.mesh().config.root_namespace.clone(),
            drain_duration_ms: u64::try_from(self.drain_duration.as_millis()).unwrap_or(u64::MAX),
            compliance: convert::compliance(self.compliance).into(),
            default_cipher_suites: sending.mesh().config.tls_defaults_cipher_suites.clone(),
            default_groups: sending.mesh().config.tls_defaults_ecdh_curves.clone(),
            complete_set: complete.map(|(type_url, number)| (type_url.to_owned(), number)).into(),
        }
    }

    fn only<M: MeshResource>(&self, message: &M) -> Arc<Named> {
        named([self.shared.pack(ONLY, message)])
    }
}

/// The snapshot by which a workload sends, and the workload there: it stands at another place in each snapshot. One that the
/// senders' snapshot does not know, or knows as somebody else, is new and begins with the target.
fn sender<'a>(stage: &'a Stage, member: &'a Member) -> (&'a Arc<Snapshot>, &'a Member) {
    let before = stage.sending.member(&member.name).filter(|before| before.account == member.account);
    before.map_or((&stage.target, member), |before| (&stage.sending, before))
}

fn named(resources: impl IntoIterator<Item = Arc<Packed>>) -> Arc<Named> {
    Arc::new(resources.into_iter().map(|packed| (Arc::clone(&packed.name), packed)).collect())
}
