//! Writes down what an observer sees: metrics, and a line for each request where requests are logged.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mutua_identity::SpiffeId;

use super::{Exchange, ExchangeEnd, Lost, Observer, RequestProtocol};
use crate::connections::Connection;
use crate::flows::Flow;
use crate::sidecar::Sidecar;
use crate::telemetry::{Counted, MessageSeries, Parties, PartyKey, Reporter, RequestSeries, SeriesKey};
use crate::world::Protocol;

/// Series that one connection has at hand: kinds of answers that alternate.
const MAX_AT_HAND: usize = 8;

type Kind = (RequestProtocol, u16, Option<i8>, ExchangeEnd);

/// Who takes part in a connection, and where that is counted.
pub struct Scribe {
    sidecar: Arc<Sidecar>,
    connection: Arc<Connection>,
    reporter: Reporter,
    parties: Parties,
    /// The caller, while the control plane has not said who it is.
    unknown: Option<(IpAddr, Option<SpiffeId>)>,
    at_hand: Vec<(Kind, Arc<RequestSeries>)>,
    messages: Option<Arc<MessageSeries>>,
    /// The flow of the connection, which it enters when the relay begins.
    flow: Option<Arc<Flow>>,
}

impl Scribe {
    /// A scribe of `connection`.
    #[must_use]
    pub fn new(sidecar: &Arc<Sidecar>, connection: &Arc<Connection>, reporter: Reporter, parties: Parties) -> Self {
        let (sidecar, connection) = (Arc::clone(sidecar), Arc::clone(connection));
        Self { sidecar, connection, reporter, parties, unknown: None, at_hand: Vec::new(), messages: None, flow: None }
    }

    /// Asks at each new kind of answer who the caller is, until it is known.
    #[must_use]
    pub fn asking(mut self, caller: IpAddr, identity: Option<SpiffeId>) -> Self {
        self.unknown = Some((caller, identity));
        self
    }

    /// What looks at a connection to a port that is declared so.
    #[must_use]
    pub fn observer(self, protocol: Protocol) -> Observer {
        if protocol == Protocol::Tcp {
            self.is_tcp();
            return Observer::None;
        }
        Observer::new(self)
    }

    /// Whether method and target are wanted, for the log.
    #[must_use]
    pub fn wants_lines(&self) -> bool {
        self.sidecar.log.wants_requests()
    }

    /// The connection is none of HTTP: counted as TCP, from its first byte on.
    pub fn is_tcp(&self) {
        let parties = PartyKey::new(self.reporter, &self.parties);
        self.connection.count_in(&self.sidecar.metrics.connections(parties));
    }

    /// The observer stopped looking.
    pub fn lost(&self, why: Lost) {
        self.sidecar.metrics.lost(why);
    }

    /// Writes an exchange down.
    pub fn record(&mut self, exchange: &Exchange) {
        self.learn();
        if self.flow.is_none() {
            self.flow = self.connection.flow();
        }
        if let Some(flow) = &self.flow {
            flow.request(exchange.failed());
        }
        self.series(exchange).record(exchange);
        if exchange.protocol == RequestProtocol::Grpc {
            let messages = self.messages.get_or_insert_with(|| {
                let parties = PartyKey::new(self.reporter, &self.parties);
                self.sidecar.metrics.messages(parties)
            });
            messages.requests.fetch_add(exchange.request_messages, Ordering::Relaxed);
            messages.responses.fetch_add(exchange.response_messages, Ordering::Relaxed);
        }
        if exchange.line.is_some() {
            self.sidecar.log.log_request(&self.connection, exchange, &self.sidecar.metrics);
        }
    }

    /// Takes over who the caller is, once it is known.
    fn learn(&mut self) {
        let Some((address, identity)) = &self.unknown else { return };
        if let Some(labels) = self.sidecar.peers.labels(*address, identity.as_ref()) {
            self.parties.source = labels;
            self.unknown = None;
            self.at_hand.clear();
            self.messages = None;
        }
    }

    fn series(&mut self, exchange: &Exchange) -> &RequestSeries {
        let kind = (exchange.protocol, exchange.status, exchange.grpc_status, exchange.end);
        if let Some(at) = self.at_hand.iter().position(|(at_hand, _)| *at_hand == kind) {
            return &self.at_hand[at].1;
        }
        let (protocol, code, grpc_status, end) = kind;
        let counted = Counted::Requests { protocol, code: Some(code), grpc_status, end };
        let series = self.sidecar.metrics.requests(SeriesKey { parties: PartyKey::new(self.reporter, &self.parties), counted });
        if self.at_hand.len() == MAX_AT_HAND {
            self.at_hand.clear();
        }
        self.at_hand.push((kind, series));
        &self.at_hand[self.at_hand.len() - 1].1
    }
}
