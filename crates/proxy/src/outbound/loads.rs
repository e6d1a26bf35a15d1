//! How many connections each address has, for the choice of an endpoint.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::dial::MAX_ATTEMPTS;

/// Connections under way by the address they were made to, over all services.
#[derive(Clone, Debug, Default)]
pub struct Loads(Arc<Mutex<HashMap<SocketAddr, usize>>>);

impl Loads {
    /// Of `count` candidates that were not `tried`, two that chance names: the one with fewer connections (Istio's
    /// `LEAST_REQUEST`). The connection counts from here on. `None` when all were tried.
    pub fn choose(&self, count: usize, tried: &[usize], address: impl Fn(usize) -> Option<SocketAddr>) -> Option<(usize, Busy)> {
        let mut active = self.lock();
        let (first, second) = two(count, tried, fastrand::usize)?;
        let mut chosen = (first, address(first)?);
        if second != first {
            let of = |address: &SocketAddr| active.get(address).copied().unwrap_or_default();
            let other = address(second)?;
            if of(&other) < of(&chosen.1) {
                chosen = (second, other);
            }
        }
        *active.entry(chosen.1).or_default() += 1;
        Some((chosen.0, Busy { loads: self.clone(), address: chosen.1 }))
    }

    /// Counts a connection to `address`.
    pub fn enter(&self, address: SocketAddr) -> Busy {
        *self.lock().entry(address).or_default() += 1;
        Busy { loads: self.clone(), address }
    }

    /// Connections under way to `address`.
    #[must_use]
    pub fn of(&self, address: SocketAddr) -> usize {
        self.lock().get(&address).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection under way; it counts as long as this lives.
#[derive(Debug)]
pub struct Busy {
    loads: Loads,
    address: SocketAddr,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut active = self.loads.lock();
        match active.get_mut(&self.address) {
            Some(count @ 2..) => *count -= 1,
            _ => drop(active.remove(&self.address)),
        }
    }
}

/// Two different places below `count` that were not `tried`, by `chance` (a number below its argument); the same one twice
/// when there is only one. Few are tried: nothing is allocated for them.
fn two(count: usize, tried: &[usize], mut chance: impl FnMut(std::ops::Range<usize>) -> usize) -> Option<(usize, usize)> {
    let mut passed = [usize::MAX; MAX_ATTEMPTS + 1];
    let known = tried.len().min(MAX_ATTEMPTS - 1);
    passed[..known].copy_from_slice(&tried[..known]);
    let mut one = |known: usize| {
        let left = count.checked_sub(known).filter(|left| *left > 0)?;
        let mut at = chance(0..left);
        passed[..known].sort_unstable();
        for taken in &passed[..known] {
            at += usize::from(*taken <= at);
        }
        passed[known] = at;
        Some(at)
    };
    let first = one(known)?;
    Some((first, one(known + 1).unwrap_or(first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(at: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, u8::try_from(at).unwrap()], 80))
    }

    fn some(at: usize) -> Option<SocketAddr> {
        Some(place(at))
    }

    #[test]
    fn two_places_are_different_and_new() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let (first, second) = two(6, &[4, 1], fastrand::usize).unwrap();
            assert!(first != second && ![first, second].iter().any(|at| [1, 4].contains(at) || *at > 5), "{first} {second}");
            seen.extend([(first, second)]);
        }
        assert_eq!(seen.len(), 4 * 3, "every pair comes");
        assert_eq!(two(3, &[2, 0], fastrand::usize), Some((1, 1)));
        assert_eq!((two(2, &[1, 0], fastrand::usize), two(0, &[], fastrand::usize)), (None, None));
    }

    #[test]
    fn connections_spread_far_more_evenly_than_by_chance() {
        const PLACES: usize = 20;
        let loads = Loads::default();
        let mut open = Vec::new();
        for _ in 0..PLACES * 100 {
            open.push(loads.choose(PLACES, &[], some).unwrap().1);
        }
        let counts: Vec<usize> = (0..PLACES).map(|at| loads.of(place(at))).collect();
        // By chance alone the deviation is 10 and the spread about 37; by the lesser of two it stays within a few.
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most - least <= 12, "{counts:?}");
        open.clear();
        assert!(loads.lock().is_empty(), "what is over is forgotten");
    }

    #[test]
    fn a_place_that_is_slow_to_let_go_gets_less() {
        let loads = Loads::default();
        let mut slow = Vec::new();
        let mut quick = [0; 4];
        // Place 0 keeps its connections, the others end theirs at once.
        for _ in 0..1000 {
            match loads.choose(4, &[], some).unwrap() {
                (0, busy) => slow.push(busy),
                (at, _) => quick[at] += 1,
            }
        }
        assert!(slow.len() <= 1, "{}", slow.len());
        assert!(quick[1..].iter().all(|count| *count > 200), "{quick:?}");
    }
}
