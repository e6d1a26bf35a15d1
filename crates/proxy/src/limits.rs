//! Bounds that hold on a hostile network, and the gate that keeps them.
//!
//! What a caller costs before it has proved who it is: a descriptor, and from its first byte of TLS on up to
//! [`Limits::max_handshake_bytes`] and a handshake's work. So descriptors are bounded per source and in total, and
//! handshakes are served in turns, of which one source never holds more than a quarter: a flood from one address slows
//! down that address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::connections::Direction;
use crate::reasons::{Reason, Refusal};
use crate::settings::duration;

/// Connections of one direction, unless memory or descriptors do not suffice.
pub const MAX_CONNECTIONS: usize = 16_384;
/// Connections from one source: a gateway or a node may have most of them.
pub const MAX_CONNECTIONS_PER_SOURCE: usize = 12_288;
/// Callers that are at their first bytes or in their handshake.
pub const MAX_HANDSHAKES: usize = 512;
/// Bytes of a caller before it has proved who it is. A handshake of good faith has 2 to 6 KB, one with the longest chain
/// that is looked at has 80 KB.
pub const MAX_HANDSHAKE_BYTES: usize = 128 * 1024;
/// How long a caller may take to prove who it is.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The share of all turns that one source may hold.
const SHARE: usize = 4;
/// Descriptors that are kept for listeners, event loops, the control plane, files, questions to name servers and admin
/// clients: 38 of them are taken from the start.
const RESERVED_DESCRIPTORS: usize = 48;
/// Descriptors of one connection: the accepted one and the dialled one.
const DESCRIPTORS: usize = 2;
/// The share of all connections that one direction always leaves to the other: a sixteenth.
const KEPT_FREE: usize = 16;
/// Memory of a sidecar without connections, with room for a growing configuration.
const RESERVED_MEMORY: usize = 16 << 20;
/// Memory of an mTLS connection at rest, rounded up.
const MEMORY: usize = 16 << 10;
/// Memory of a handshake in progress, rounded up; a peer that fills its allowance takes more, few can.
const HANDSHAKE_MEMORY: usize = 64 << 10;
const DIRECTIONS: usize = 2;

/// The bounds. Every one is an argument of `mutua proxy`.
#[derive(clap::Args, Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a caller may take to prove who it is, from its first byte on, such as 10s
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub handshake_timeout: Duration,
    /// Callers that are served at once before they have proved who they are; others wait for their turn. One source has
    /// at most a quarter of the turns
    #[arg(long, value_name = "N", default_value_t = at_least_one(MAX_HANDSHAKES))]
    pub max_handshakes: NonZeroUsize,
    /// Bytes that a caller may send before it has proved who it is
    #[arg(long, value_name = "BYTES", default_value_t = at_least_one(MAX_HANDSHAKE_BYTES))]
    pub max_handshake_bytes: NonZeroUsize,
    /// Connections of each direction at once; fewer where the limits of memory or descriptors do not allow as many
    #[arg(long, value_name = "N", default_value_t = at_least_one(MAX_CONNECTIONS))]
    pub max_connections: NonZeroUsize,
    /// Inbound connections from one address (IPv6: from one /64) at once
    #[arg(long, value_name = "N", default_value_t = at_least_one(MAX_CONNECTIONS_PER_SOURCE))]
    pub max_connections_per_source: NonZeroUsize,
    /// Connections of both directions together, where the limits of memory or descriptors allow fewer than twice as many
    #[arg(skip)]
    pub places: Option<NonZeroUsize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: HANDSHAKE_TIMEOUT,
            max_handshakes: at_least_one(MAX_HANDSHAKES),
            max_handshake_bytes: at_least_one(MAX_HANDSHAKE_BYTES),
            max_connections: at_least_one(MAX_CONNECTIONS),
            max_connections_per_source: at_least_one(MAX_CONNECTIONS_PER_SOURCE),
            places: None,
        }
    }
}

impl Limits {
    /// These bounds as far as this process can keep them. Takes all the descriptors that the system allows.
    #[must_use]
    pub fn of_this_process(&self) -> Self {
        let (descriptors, memory) = (crate::capacity::take_descriptors(), crate::capacity::memory());
        let bounds = self.fitting(descriptors, memory);
        if bounds != *self {
            let (connections, handshakes) = (bounds.max_connections, bounds.max_handshakes);
            tracing::info!(?descriptors, ?memory, %connections, %handshakes, "the system's limits allow fewer connections");
        }
        bounds
    }

    /// These bounds, lowered to what a process with so many `descriptors` and so many bytes of `memory` can keep.
    #[must_use]
    pub fn fitting(&self, descriptors: Option<u64>, memory: Option<u64>) -> Self {
        let size = |number: Option<u64>| number.map_or(usize::MAX, |number| usize::try_from(number).unwrap_or(usize::MAX));
        let free = size(descriptors).saturating_sub(RESERVED_DESCRIPTORS) / DESCRIPTORS;
        let room = size(memory).saturating_sub(RESERVED_MEMORY);
        // Half of the room for connections, a quarter for handshakes, the rest for bytes on their way.
        let wanted = self.max_connections.get().saturating_mul(DIRECTIONS);
        let places = wanted.min(free).min(room / 2 / MEMORY);
        // One direction may have nearly all of them, most workloads have one that is busy; something is left to the other.
        let connections = self.max_connections.get().min(places - places.div_ceil(KEPT_FREE).min(places));
        let handshakes = self.max_handshakes.get().min(room / 4 / HANDSHAKE_MEMORY);
        Self {
            max_connections: at_least_one(connections),
            max_handshakes: at_least_one(handshakes),
            max_connections_per_source: at_least_one(self.max_connections_per_source.get().min(connections)),
            places: (places < wanted).then(|| at_least_one(places)),
            ..self.clone()
        }
    }
}

/// `number`, or one where it is none.
fn at_least_one(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN)
}

/// Lets connections in as far as the bounds allow.
pub struct Gate {
    limits: Limits,
    slots: [Arc<Semaphore>; DIRECTIONS],
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    sources: Arc<Mutex<HashMap<IpAddr, Source>>>,
}

struct Source {
    connections: usize,
    turns: Arc<Semaphore>,
}

/// A connection that was let in; its place is free again when this is dropped.
pub struct Place {
    _slot: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
    _source: Option<Counted>,
}

/// A turn of a caller that has not proved who it is.
pub struct Turn {
    _of_source: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

struct Counted {
    source: IpAddr,
    sources: Arc<Mutex<HashMap<IpAddr, Source>>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = sources.get_mut(&self.source) {
            source.connections -= 1;
            if source.connections == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

impl Gate {
    /// A gate that keeps `limits`.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let bound = |number: NonZeroUsize| Arc::new(Semaphore::new(number.get().min(Semaphore::MAX_PERMITS)));
        let slots = [bound(limits.max_connections), bound(limits.max_connections)];
        let (places, turns) = (bound(limits.places.unwrap_or(NonZeroUsize::MAX)), bound(limits.max_handshakes));
        Self { slots, places, turns, sources: Arc::default(), limits }
    }

    /// What it keeps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Lets a connection in.
    ///
    /// # Errors
    /// There are too many already, in all or from this source.
    pub fn enter(&self, direction: Direction, peer: IpAddr) -> Result<Place, Refusal> {
        let slots = &self.slots[usize::from(direction == Direction::Outbound)];
        let slot = Arc::clone(slots).try_acquire_owned().map_err(|_| {
            let message = format!("{} {} connections are open", self.limits.max_connections, direction.as_str());
            Refusal::new(Reason::TooManyConnections, message)
        })?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let most = self.limits.places.map_or(0, NonZeroUsize::get);
            Refusal::new(Reason::TooManyConnections, format!("{most} connections are open, all that the system's limits allow"))
        })?;
        let source = (direction == Direction::Inbound).then(|| self.count(source_of(peer))).transpose()?;
        Ok(Place { _slot: slot, _place: place, _source: source })
    }

    fn count(&self, address: IpAddr) -> Result<Counted, Refusal> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = || Arc::new(Semaphore::new(self.limits.max_handshakes.get().div_ceil(SHARE)));
        let source = sources.entry(address).or_insert_with(|| Source { connections: 0, turns: turns() });
        if source.connections >= self.limits.max_connections_per_source.get() {
            let message = format!("{} connections from {address} are open", source.connections);
            return Err(Refusal::new(Reason::TooManyFromSource, message));
        }
        source.connections += 1;
        Ok(Counted { source: address, sources: Arc::clone(&self.sources) })
    }

    /// Waits for the turn of a caller that has not proved who it is.
    ///
    /// # Errors
    /// It did not come before `deadline`.
    pub async fn turn(&self, peer: IpAddr, deadline: Instant) -> Result<Turn, Refusal> {
        let of_source = {
            let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
            sources.get(&source_of(peer)).map(|source| Arc::clone(&source.turns))
        };
        let taken = async {
            let of_source = match of_source {
                Some(turns) => turns.acquire_owned().await.ok(),
                None => None,
            };
            let of_all = Arc::clone(&self.turns).acquire_owned().await.ok()?;
            Some(Turn { _of_source: of_source, _of_all: of_all })
        };
        tokio::time::timeout_at(deadline, taken).await.ok().flatten().ok_or_else(|| {
            let message = format!("{} handshakes are in progress", self.in_turn());
            Refusal::new(Reason::TooManyHandshakes, message)
        })
    }

    /// How many turns are taken.
    #[must_use]
    pub fn in_turn(&self) -> usize {
        self.limits.max_handshakes.get().saturating_sub(self.turns.available_permits())
    }

    /// What is taken and what there is, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let limits = &self.limits;
        let bounds = [
            ("handshakes", limits.max_handshakes),
            ("handshake_bytes", limits.max_handshake_bytes),
            ("connections", limits.max_connections),
            ("connections_per_source", limits.max_connections_per_source),
        ];
        let mut text = format!(
            "# HELP mutua_handshakes_in_progress Callers that have not proved who they are.\n\
             # TYPE mutua_handshakes_in_progress gauge\nmutua_handshakes_in_progress {}\n\
             # HELP mutua_limit The bounds that are kept.\n# TYPE mutua_limit gauge\n",
            self.in_turn()
        );
        for (name, bound) in bounds {
            text.push_str(&format!("mutua_limit{{bound=\"{name}\"}} {bound}\n"));
        }
        text
    }

    /// How many sources have connections.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 network of the size that one host commands.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
