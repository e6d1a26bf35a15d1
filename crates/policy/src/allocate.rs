//! The addresses by which connections to ServiceEntries are told. Hosts that have none are given some: those exist in the
//! answers of the sidecars' DNS alone.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use mutua_model::{Resolution, ServiceEntry};

use crate::service::Service;

/// Label of a ServiceEntry: with `false` no address is given to its hosts.
const ALLOCATE: &str = "networking.istio.io/enable-autoallocate-ip";
/// Addresses that can be given (Istio's `maxIPs`): 240.240.0.1 to 240.240.255.254, without those that end in 0 or 255.
const SLOTS: u32 = 256 * 254;
/// The largest prime below [`SLOTS`] that Istio steps with.
const PRIME: u32 = 65011;

/// The two addresses of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allocated {
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
}

impl Allocated {
    /// 240.240.0.0/16 and 2001:2::/64, as Istio (`auto_allocation.go`). There the address also depends on which slots before
    /// it are taken, and two hosts may get one IPv6 address; here a slot is an address.
    fn of(slot: u32) -> Self {
        let [.., third] = (slot / 254).to_be_bytes();
        let [.., fourth] = (slot % 254 + 1).to_be_bytes();
        Self {
            v4: Ipv4Addr::new(240, 240, third, fourth),
            v6: Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0xf0f0, u16::from_be_bytes([third, fourth])),
        }
    }

    pub(crate) fn texts(self) -> [String; 2] {
        [self.v4.to_string(), self.v6.to_string()]
    }
}

/// Istio's `ShouldV2AutoAllocateIP`, and no wildcard: of these no address could be told.
pub(crate) fn wants_address(entry: &ServiceEntry, host: &str) -> bool {
    let refused = entry.meta.labels.get(ALLOCATE).is_some_and(|value| value.eq_ignore_ascii_case("false"));
    !refused && entry.addresses.is_empty() && entry.resolution != Resolution::None && !crate::host::is_wildcard(host)
}

/// The addresses by which connections to an entry are told: its own, else those that its endpoints are written with, at the
/// ports of the entry.
pub(crate) fn captured(entry: &ServiceEntry) -> Vec<String> {
    if !entry.addresses.is_empty() {
        return entry.addresses.iter().map(|address| canonical(address)).collect();
    }
    let inline = entry.endpoints.iter().filter(|_| entry.workload_selector.is_none());
    inline.filter_map(|inline| Some(inline.address.parse::<std::net::IpAddr>().ok()?.to_string())).collect()
}

/// An address in the form that it has when it is dialled; prefixes stay as they are.
fn canonical(address: &str) -> String {
    address.parse::<std::net::IpAddr>().map_or_else(|_| address.to_owned(), |address| address.to_string())
}

/// Gives addresses to the services that want them, in order: by the hash of `NAMESPACE/HOST`, so that they rarely change when
/// others come and go. When all are given, the rest goes without.
pub(crate) fn allocate(services: &mut [Service]) {
    let mut taken: HashMap<u32, String> = HashMap::new();
    for service in services.iter_mut().filter(|service| service.wants_address) {
        let key = format!("{}/{}", service.namespace, service.host);
        let slot = probes(fnv(&key)).find(|slot| taken.get(slot).is_none_or(|owner| *owner == key));
        service.allocated = slot.map(Allocated::of);
        if let Some(slot) = slot {
            taken.insert(slot, key);
        }
    }
}

/// The slots of a hash in the order in which they are tried: double hashing, then whatever is left.
fn probes(hash: u32) -> impl Iterator<Item = u32> {
    let step = PRIME - hash % PRIME;
    let stepped = (1..SLOTS).map(move |time| hash.wrapping_add(time.wrapping_mul(step)) % (SLOTS - 1));
    std::iter::once(hash % SLOTS).chain(stepped).chain(0..SLOTS)
}

/// FNV-1a of 32 bits.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        // Published vectors of FNV-1a.
        assert_eq!((fnv(""), fnv("a"), fnv("foobar")), (0x811c_9dc5, 0xe40c_292c, 0xbf9c_f968));
    }

    #[test]
    fn every_slot_is_another_address() {
        let all: Vec<Allocated> = (0..SLOTS).map(Allocated::of).collect();
        assert_eq!(all[0].texts(), ["240.240.0.1", "2001:2::f0f0:1"]);
        assert_eq!(all[253].texts(), ["240.240.0.254", "2001:2::f0f0:fe"]);
        assert_eq!(all[254].texts(), ["240.240.1.1", "2001:2::f0f0:101"]);
        assert_eq!(all[SLOTS as usize - 1].texts(), ["240.240.255.254", "2001:2::f0f0:fffe"]);
        let different: HashSet<_> = all.iter().map(|one| (one.v4, one.v6)).collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn every_slot_is_tried_before_a_host_goes_without() {
        for hash in [0, 1, SLOTS, u32::MAX] {
            assert_eq!(probes(hash).collect::<HashSet<_>>().len(), SLOTS as usize);
        }
    }
}
