//! Markers in TCP streams, also when a segment ends in the middle of one.

use std::collections::BTreeMap;

use super::frame::{Flow, Packet};
use crate::Marker;
use crate::marker::{DIGITS, PREFIX};

/// What of each direction of each connection may still be the beginning of a marker.
#[derive(Debug, Default)]
pub(super) struct Streams {
    flows: BTreeMap<Flow, Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    /// The sequence number that comes next.
    next: u32,
    /// The last bytes, fewer than a marker has.
    tail: Vec<u8>,
    /// Segments that came too early, by sequence number.
    early: BTreeMap<u32, Vec<u8>>,
}

const LENGTH: usize = PREFIX.len() + DIGITS;
/// Directions that are remembered; the oldest addresses go first.
const MOST_FLOWS: usize = 16_384;
/// Early segments of one direction; on a bridge without loss there are none.
const MOST_EARLY: usize = 64;

impl Streams {
    /// Takes one packet; `found` is called for each marker that is complete with it.
    pub fn take(&mut self, packet: &Packet<'_>, mut found: impl FnMut(Marker)) {
        let Some(sequence) = packet.sequence else {
            search(packet.payload, &mut found);
            return;
        };
        if packet.begins {
            self.flows.remove(&packet.flow);
        }
        if self.flows.len() >= MOST_FLOWS && !self.flows.contains_key(&packet.flow) {
            self.flows.pop_first();
        }
        let stream = self.flows.entry(packet.flow).or_insert_with(|| Stream { next: sequence, ..Stream::default() });
        stream.take(sequence, packet.payload, &mut found);
        if packet.ends {
            self.flows.remove(&packet.flow);
        }
    }
}

impl Stream {
    fn take(&mut self, sequence: u32, payload: &[u8], found: &mut impl FnMut(Marker)) {
        let ahead = sequence.wrapping_sub(self.next).cast_signed();
        if ahead > 0 {
            self.keep_early(sequence, payload, found);
            return;
        }
        // What was sent again is cut off.
        let known = usize::try_from(ahead.unsigned_abs()).unwrap_or(usize::MAX);
        let Some(fresh) = payload.get(known..) else { return };
        self.append(fresh, found);
        while let Some((&sequence, _)) = self.early.iter().find(|(at, _)| at.wrapping_sub(self.next).cast_signed() <= 0) {
            let Some(payload) = self.early.remove(&sequence) else { break };
            let known = usize::try_from(self.next.wrapping_sub(sequence)).unwrap_or(usize::MAX);
            if let Some(fresh) = payload.get(known..) {
                self.append(fresh, found);
            }
        }
    }

    /// A gap: the segment waits for what is missing.
    fn keep_early(&mut self, sequence: u32, payload: &[u8], found: &mut impl FnMut(Marker)) {
        if self.early.len() < MOST_EARLY {
            self.early.insert(sequence, payload.to_vec());
            return;
        }
        // Too much is missing: go on from here.
        self.tail.clear();
        self.early.clear();
        self.next = sequence;
        self.append(payload, found);
    }

    fn append(&mut self, fresh: &[u8], found: &mut impl FnMut(Marker)) {
        let length = u32::try_from(fresh.len() & 0xffff_ffff).unwrap_or_default();
        self.next = self.next.wrapping_add(length);
        self.tail.extend_from_slice(fresh);
        let searched = search(&self.tail, found);
        // Whole markers are not kept, or they would be counted twice.
        let keep = (self.tail.len() - searched).min(LENGTH - 1);
        self.tail.drain(..self.tail.len() - keep);
    }
}

/// Calls `found` for each whole marker; gives where the last one ended.
fn search(data: &[u8], found: &mut impl FnMut(Marker)) -> usize {
    let mut at = 0;
    let mut end = 0;
    while let Some(offset) = find(&data[at..]) {
        at += offset;
        match Marker::at_start(&data[at..]) {
            Some(marker) => {
                found(marker);
                at += LENGTH;
                end = at;
            }
            None => at += 1,
        }
    }
    end
}

fn find(data: &[u8]) -> Option<usize> {
    data.windows(PREFIX.len()).position(|window| window == PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn flow() -> Flow {
        Flow { from: SocketAddr::from(([10, 0, 0, 1], 1)), to: SocketAddr::from(([10, 0, 0, 2], 2)) }
    }

    /// The markers found in segments given as (offset in the stream, bytes).
    fn heard(segments: &[(u32, &[u8])]) -> Vec<Marker> {
        let mut streams = Streams::default();
        let mut found = Vec::new();
        // The numbers run over the end of their range.
        let first = u32::MAX - 7;
        let packet = |sequence, begins, payload| Packet { flow: flow(), sequence: Some(sequence), begins, ends: false, payload };
        streams.take(&packet(first, true, &[]), |marker| found.push(marker));
        for (offset, payload) in segments {
            streams.take(&packet(first.wrapping_add(*offset), false, payload), |marker| found.push(marker));
        }
        found
    }

    #[test]
    fn a_marker_is_found_wherever_segments_end() {
        let marker = Marker::random();
        let text = format!("GET /?{marker} HTTP/1.1\r\n\r\n");
        for cut in 0..text.len() {
            let (head, tail) = text.as_bytes().split_at(cut);
            let cut = u32::try_from(cut).expect("short");
            assert_eq!(heard(&[(0, head), (cut, tail)]), vec![marker.clone()], "cut at {cut}");
            assert_eq!(heard(&[(cut, tail), (0, head)]), vec![marker.clone()], "cut at {cut}, in the wrong order");
        }
    }

    #[test]
    fn what_is_sent_again_is_heard_once() {
        let marker = Marker::random();
        let text = format!("-{marker}-");
        let bytes = text.as_bytes();
        assert_eq!(heard(&[(0, bytes), (0, bytes), (10, &bytes[10..])]), [marker]);
    }

    #[test]
    fn other_bytes_are_not_a_marker() {
        assert_eq!(heard(&[(0, b"mutua-marker-0123456789abcdef0123456789abcdeX"), (45, b"mutua-marker-")]), []);
    }
}
