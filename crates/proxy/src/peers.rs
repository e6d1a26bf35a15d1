//! Who is behind an address: names and labels of callers, for metrics only. Asked of the control plane on first sight,
//! never waited for, and believed only where the certificate agrees.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use mutua_identity::SpiffeId;
use tokio::sync::mpsc;

use crate::world::Labels;

/// Addresses that are remembered; when full, all are forgotten and asked for anew.
const MAX_PEERS: usize = 4096;
/// Questions that wait to be sent.
const MAX_QUESTIONS: usize = 256;

/// What is known of callers.
pub struct Peers {
    known: Mutex<HashMap<IpAddr, Option<Labels>>>,
    ask: mpsc::Sender<IpAddr>,
    questions: Mutex<Option<mpsc::Receiver<IpAddr>>>,
}

impl Default for Peers {
    fn default() -> Self {
        let (ask, questions) = mpsc::channel(MAX_QUESTIONS);
        Self { known: Mutex::default(), ask, questions: Mutex::new(Some(questions)) }
    }
}

impl Peers {
    /// The labels of the workload at `address`, if they are known and, where the peer proved an identity, of the same
    /// namespace and service account. An address that is seen for the first time is asked for.
    pub fn labels(&self, address: IpAddr, identity: Option<&SpiffeId>) -> Option<Labels> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&address) {
            Some(labels) => labels.clone().filter(|labels| {
                identity.is_none_or(|id| *labels.namespace == *id.namespace() && *labels.service_account == *id.service_account())
            }),
            None => {
                if known.len() >= MAX_PEERS {
                    known.clear();
                }
                // Asked once; a full queue means that it is asked at the next sight.
                if self.ask.try_send(address).is_ok() {
                    known.insert(address, None);
                }
                None
            }
        }
    }

    /// Takes an answer.
    pub fn learn(&self, address: IpAddr, labels: Option<Labels>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_PEERS || known.contains_key(&address) {
            known.insert(address, labels);
        }
    }

    /// The addresses to be asked for; there is one asker.
    pub fn questions(&self) -> Option<mpsc::Receiver<IpAddr>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Every address that is remembered: asked for again after a reconnect.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}
