//! Where the server speaks first: learned from the first connections of a port, so that later callers need not be waited
//! for. Kept per caller, because a caller that begins mutual TLS must never be overtaken by the application's greeting.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// How long a caller may be silent, on a port that takes plaintext, before the application is dialled.
const SILENCE: Duration = Duration::from_millis(200);
/// The same for a caller that has been greeted first before, so that one behind its address that has TLS is still heard.
const LEARNED_SILENCE: Duration = Duration::from_millis(20);
/// So many greetings in a row, and none of the caller's bytes first, are taken for a habit.
const LEARNED_AFTER: u8 = 3;
/// Pairs of port and caller that are remembered; when full, all are forgotten and learned anew.
const MAX_KNOWN: usize = 4096;

/// Which ports greet which callers first.
#[derive(Default)]
pub struct Greeters {
    known: Mutex<HashMap<(u16, IpAddr), u8>>,
}

/// What is known of one port whose server speaks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerFirst {
    /// Callers that were greeted first at their last connection.
    pub callers: usize,
    /// Those of them that have been greeted often enough to be waited for no longer than `learned_wait_ms`.
    pub learned_callers: usize,
    /// How long a silent caller is waited for, in milliseconds.
    pub wait_ms: u64,
    /// How long a silent caller is waited for that is known to be greeted, in milliseconds.
    pub learned_wait_ms: u64,
}

impl Greeters {
    /// How long `caller` may be silent on `port` before the application is dialled.
    pub(super) fn patience(&self, port: u16, caller: IpAddr) -> Duration {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let greeted = known.get(&(port, caller)).copied().unwrap_or_default();
        if greeted >= LEARNED_AFTER { LEARNED_SILENCE } else { SILENCE }
    }

    /// The application spoke first.
    pub(super) fn greeted(&self, port: u16, caller: IpAddr) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN && !known.contains_key(&(port, caller)) {
            known.clear();
        }
        let count = known.entry((port, caller)).or_default();
        *count = count.saturating_add(1);
    }

    /// The caller spoke first: whatever was learned of it does not hold.
    pub(super) fn spoken_to(&self, port: u16, caller: IpAddr) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&(port, caller));
    }

    /// What was learned of `port`; `None` where no server has spoken first.
    #[must_use]
    pub fn port(&self, port: u16) -> Option<ServerFirst> {
        self.ports().remove(&port)
    }

    /// What was learned of every port whose server has spoken first.
    #[must_use]
    pub fn ports(&self) -> BTreeMap<u16, ServerFirst> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ports = BTreeMap::new();
        for ((port, _), count) in known.iter() {
            let of = ports.entry(*port).or_insert(ServerFirst {
                callers: 0,
                learned_callers: 0,
                wait_ms: milliseconds(SILENCE),
                learned_wait_ms: milliseconds(LEARNED_SILENCE),
            });
            of.callers += 1;
            of.learned_callers += usize::from(*count >= LEARNED_AFTER);
        }
        ports
    }
}

fn milliseconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn a_habit_is_learned_of_one_port_and_caller_and_forgotten_at_its_first_word() {
        let greeters = Greeters::default();
        assert_eq!(greeters.port(25), None);
        for _ in 0..LEARNED_AFTER {
            assert_eq!(greeters.patience(25, A), SILENCE);
            greeters.greeted(25, A);
        }
        greeters.greeted(25, B);
        assert_eq!(greeters.patience(25, A), LEARNED_SILENCE);
        assert_eq!((greeters.patience(25, B), greeters.patience(80, A)), (SILENCE, SILENCE));
        let learned = greeters.port(25).unwrap();
        assert_eq!((learned.callers, learned.learned_callers), (2, 1));
        greeters.spoken_to(25, A);
        assert_eq!(greeters.patience(25, A), SILENCE);
        assert_eq!(greeters.port(25).map(|port| port.learned_callers), Some(0));
    }

    #[test]
    fn memory_is_bounded() {
        let greeters = Greeters::default();
        for number in 0..u32::try_from(MAX_KNOWN).unwrap() + 10 {
            greeters.greeted(25, IpAddr::V4(number.into()));
        }
        assert_eq!(greeters.port(25).map(|port| port.callers), Some(10));
    }
}
