//! Which flows a stream of reports has told already.

use std::collections::HashMap;
use std::sync::Arc;

use mutua_wire::mesh;

use super::{Counts, Flow};
use crate::connections::Outcome;
use crate::sidecar::Sidecar;

/// Flows in one report; the others follow in the next ones.
pub const MAX_TOLD: usize = 256;

/// What one stream has told.
#[derive(Debug, Default)]
pub struct Told {
    flows: HashMap<u64, Counts>,
    /// The flow that was told last: the next report begins behind it, so that every flow has its turn.
    last: u64,
}

impl Told {
    /// The flows of `sidecar` that changed since they were told, with what its open connections have transferred.
    pub fn changed(&mut self, sidecar: &Sidecar) -> Vec<mesh::Flow> {
        for connection in sidecar.connections.live() {
            connection.tell();
        }
        self.select(&sidecar.flows.list())
    }

    fn select(&mut self, flows: &[Arc<Flow>]) -> Vec<mesh::Flow> {
        if flows.len() < self.flows.len() {
            self.flows.retain(|id, _| flows.binary_search_by_key(id, |flow| flow.id).is_ok());
        }
        let behind = flows.partition_point(|flow| flow.id <= self.last);
        let in_turn = flows[behind..].iter().chain(&flows[..behind]).map(|flow| (flow, flow.counts()));
        let changed = in_turn.filter(|(flow, counts)| self.flows.get(&flow.id) != Some(counts)).take(MAX_TOLD);
        let changed: Vec<_> = changed.collect();
        self.last = changed.last().map_or(self.last, |(flow, _)| flow.id);
        self.flows.extend(changed.iter().map(|(flow, counts)| (flow.id, *counts)));
        changed.into_iter().map(|(flow, counts)| encoded(flow, &counts)).collect()
    }
}

fn encoded(flow: &Flow, counts: &Counts) -> mesh::Flow {
    let key = &flow.key;
    let protection = key.protection.as_ref();
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    mesh::Flow {
        id: flow.id,
        direction: key.direction.as_str().to_owned(),
        peer_address: key.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        peer_identity: text(key.peer_id.as_deref()),
        service_host: key.service.to_string(),
        port: key.port.into(),
        outcome: text(key.outcome.map(Outcome::as_str)),
        reason: text(key.reason.map(|reason| reason.code())),
        tls_version: text(protection.map(|protection| protection.version)),
        cipher: text(protection.map(|protection| &*protection.cipher)),
        group: text(protection.map(|protection| &*protection.group)),
        opened: counts.opened,
        closed: counts.closed,
        failed: counts.failed,
        requests: counts.requests,
        failed_requests: counts.failed_requests,
        received_bytes: counts.received,
        sent_bytes: counts.sent,
        first_seen: flow.first_seen,
        last_seen: counts.last_seen,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::{FlowKey, Flows};
    use super::*;
    use crate::connections::Direction;

    fn key(port: u16) -> FlowKey {
        FlowKey {
            direction: Direction::Inbound,
            peer: None,
            peer_id: None,
            service: Arc::default(),
            port,
            outcome: Some(Outcome::Mtls),
            reason: None,
            protection: None,
        }
    }

    #[test]
    fn only_what_changed_is_told_again_and_everything_has_its_turn() {
        let (flows, mut told) = (Flows::default(), Told::default());
        let all: Vec<_> = (0..300).map(|port| flows.flow(key(port))).collect();
        let ports = |told: &mut Told| told.select(&flows.list()).iter().map(|flow| flow.port).collect::<Vec<_>>();
        assert_eq!(ports(&mut told), (0..256).collect::<Vec<u32>>());
        for flow in &all[..10] {
            flow.opened.fetch_add(1, Ordering::Relaxed);
        }
        let next = (256..300).chain(0..10).collect::<Vec<u32>>();
        assert_eq!(ports(&mut told), next, "those that have not been told yet come first");
        assert_eq!(ports(&mut told), [0; 0]);
        all[7].requests.fetch_add(3, Ordering::Relaxed);
        let [flow] = &told.select(&flows.list())[..] else { panic!("one flow") };
        assert_eq!((flow.port, flow.opened, flow.requests, &*flow.outcome), (7, 1, 3, "mtls"));
        assert_eq!(Told::default().select(&flows.list()).len(), MAX_TOLD, "a new stream is told everything");
    }
}
