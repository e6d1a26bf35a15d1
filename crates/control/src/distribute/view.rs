//! Everything that one proxy is entitled to, at one generation.

use std::net::IpAddr;
use std::sync::Arc;

use mutua_wire::MeshResource;
use mutua_wire::mesh::{Destination, InboundPolicy, PeerWorkload, ProxySettings, TrustBundle};

use super::resources::{Catalog, Named, Packed, Shared};
use crate::revision::Revision;
use crate::world::stage::Stage;

/// The resources of one proxy.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) stage: Arc<Stage>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) bundle: Arc<Named>,
    pub(crate) settings: Arc<Named>,
    pub(crate) inbound: Arc<Named>,
    pub(crate) destinations: Arc<Named>,
    pub(crate) none: Arc<Named>,
}

impl Catalog for View {
    fn revision(&self) -> Revision {
        self.stage.revision()
    }

    fn all(&self, type_url: &str) -> &Named {
        match type_url {
            TrustBundle::TYPE_URL => &self.bundle,
            ProxySettings::TYPE_URL => &self.settings,
            InboundPolicy::TYPE_URL => &self.inbound,
            Destination::TYPE_URL => &self.destinations,
            // Who is behind which address is told on demand only.
            _ => &self.none,
        }
    }

    fn named(&self, type_url: &str, name: &str) -> Option<Arc<Packed>> {
        if type_url != PeerWorkload::TYPE_URL {
            return self.all(type_url).get(name).cloned();
        }
        let address: IpAddr = name.parse().ok()?;
        let labels = self.stage.target.member_at(address).map(|member| member.labels.clone());
        Some(self.shared.pack(name, &PeerWorkload { address: name.to_owned(), labels }))
    }
}
