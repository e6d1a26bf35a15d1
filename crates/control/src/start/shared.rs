//! What the parts of a running control plane share.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mutua_identity::{Ca, Compliance, Credentials};
use tokio::sync::{Notify, mpsc};

use crate::configure::Abort;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::rollout::Rollouts;
use crate::sign::accounts::AccountTokens;
use crate::sign::issued::IssuedLeaves;
use crate::sign::own::Own;
use crate::sign::remembered::Remembered;
use crate::sign::rotation::{self, Rotation};
use crate::sign::signers::Signers;
use crate::sign::tokens::Tokens;
use crate::traffic::Traffic;
use crate::world::{Trust, World};

/// What the parts of a running control plane share.
pub struct Parts {
    /// What is in force.
    pub world: Arc<World>,
    /// What is known of the proxies.
    pub registry: Arc<Registry>,
    /// Leaves issued.
    pub leaves: Arc<IssuedLeaves>,
    /// What passes in the mesh.
    pub traffic: Arc<Traffic>,
    /// Changes under way and done.
    pub rollouts: Arc<Rollouts>,
    /// Join tokens.
    pub tokens: Arc<Tokens>,
    /// Who knows tokens of service accounts, in the order in which they are asked.
    pub accounts: Arc<[Arc<dyn AccountTokens>]>,
    /// The signing CA.
    pub ca: Arc<ArcSwap<Ca>>,
    /// The change of its root, when one is under way.
    pub rotation: Arc<Rotation>,
    /// Proxies from before this start whose leaves have not ended.
    pub remembered: Remembered,
    /// Told when roots, or the demand to renew, have changed.
    pub retrust: Notify,
    /// Who has signed, where the CA is plugged in.
    pub signers: Signers,
    /// Where it is asked for the change under way to be taken back.
    pub aborts: mpsc::Sender<Abort>,
    /// The own certificate.
    pub own: Arc<ArcSwap<Credentials>>,
    /// Its keeper.
    pub keeper: Arc<Own>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Where the configuration comes from.
    pub source: String,
    /// What restricts TLS everywhere.
    pub compliance: Compliance,
}

pub(super) fn trust(ca: &Ca, record: Option<&rotation::Record>, resigned: i64) -> Trust {
    let renew_not_before = record.map_or(resigned, rotation::Record::renew_not_before);
    Trust { roots: ca.bundle().clone(), renew_not_before }
}

impl Parts {
    /// Whom everybody is to trust now.
    #[must_use]
    pub fn trust(&self) -> Trust {
        trust(&self.ca.load(), self.rotation.record().as_ref(), self.signers.renew_not_before())
    }
}
