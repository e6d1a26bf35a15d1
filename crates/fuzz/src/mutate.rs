//! Small changes of an input: bits, bytes, words, pieces, and the numbers that tell lengths.

use crate::random::Random;

/// Bytes at which readers change their minds.
const EDGES: [u8; 12] = [0, 1, 9, 10, 13, 31, 32, 0x7f, 0x80, 0xc0, 0xfe, 0xff];
/// Numbers in text at which readers change their minds.
const NUMBERS: [&str; 12] = [
    "0",
    "1",
    "-1",
    "00",
    "127",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551616",
    "1e9999",
];

/// Changes `input` in one place. `words`: what the language of the input is made of. `other`: an input to take pieces of.
pub fn mutate(input: &mut Vec<u8>, random: &mut Random, words: &[&[u8]], other: &[u8]) {
    let at = random.below(input.len() + 1);
    match random.below(12) {
        0 => flip(input, at, random),
        1 => set(input, at, random.one_of(&EDGES)),
        2 => set(input, at, random.byte()),
        3 => insert(input, at, &[random.one_of(&EDGES)]),
        4 if !words.is_empty() => insert(input, at, random.one_of(words)),
        5 if !words.is_empty() => overwrite(input, at, random.one_of(words)),
        6 => drop(input.drain(at..(at + random.length(64)).min(input.len()))),
        7 => repeat(input, at, random),
        8 => input.truncate(at),
        9 => cross(input, at, random, other),
        10 => number(input, at, random),
        _ => length(input, at, random),
    }
}

fn flip(input: &mut [u8], at: usize, random: &mut Random) {
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

fn set(input: &mut [u8], at: usize, with: u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte = with;
    }
}

fn insert(input: &mut Vec<u8>, at: usize, what: &[u8]) {
    input.splice(at..at, what.iter().copied());
}

fn overwrite(input: &mut Vec<u8>, at: usize, what: &[u8]) {
    let end = (at + what.len()).min(input.len());
    input.splice(at..end, what.iter().copied());
}

/// A piece again, once or many times.
fn repeat(input: &mut Vec<u8>, at: usize, random: &mut Random) {
    let piece = input[at..(at + 1 + random.length(64)).min(input.len())].to_vec();
    let times = if random.once_in(16) { 200 } else { 1 + random.below(3) };
    insert(input, at, &piece.repeat(times));
}

/// A piece of another input: instead of the rest, or in between.
fn cross(input: &mut Vec<u8>, at: usize, random: &mut Random, other: &[u8]) {
    let from = random.below(other.len() + 1);
    if random.once_in(2) {
        input.truncate(at);
        input.extend_from_slice(&other[from..]);
    } else {
        let to = (from + 1 + random.length(256)).min(other.len());
        insert(input, at, &other[from..to]);
    }
}

/// The number in text that comes next.
fn number(input: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(start) = input[at..].iter().position(u8::is_ascii_digit).map(|offset| at + offset) else { return };
    let end = input[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(input.len(), |offset| start + offset);
    let with = if random.once_in(2) { random.one_of(&NUMBERS).to_owned() } else { random.below(70_000).to_string() };
    input.splice(start..end, with.into_bytes());
}

/// A big-endian number of one to four bytes, a little more, a little less, or at an edge.
fn length(input: &mut [u8], at: usize, random: &mut Random) {
    let width = random.between(1, 4);
    let Some(place) = input.get_mut(at..at + width) else { return };
    let before = place.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
    let after = match random.below(6) {
        0 => 0,
        1 => u32::MAX,
        2 => before.wrapping_add(1),
        3 => before.wrapping_sub(1),
        4 => before.wrapping_mul(2),
        _ => before.wrapping_add(u32::from(random.byte())),
    };
    place.copy_from_slice(&after.to_be_bytes()[4 - width..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_change_happens_and_none_panics() {
        let (mut same, mut shorter, mut longer) = (0, 0, 0);
        for turn in 0..20_000 {
            let mut random = Random::new(7, turn);
            let count = random.below(40);
            let before = random.bytes(count);
            let mut after = before.clone();
            mutate(&mut after, &mut random, &[b"word"], b"another 12 input");
            same += u32::from(after == before);
            shorter += u32::from(after.len() < before.len());
            longer += u32::from(after.len() > before.len());
        }
        assert!(same < 6000 && shorter > 2000 && longer > 5000, "{same} {shorter} {longer}");
    }

    #[test]
    fn the_same_seed_gives_the_same_input() {
        let make = |turn| {
            let mut random = Random::new(1, turn);
            let mut input = b"GET / HTTP/1.1\r\n\r\n".to_vec();
            (0..5).for_each(|_| mutate(&mut input, &mut random, &[b"Host: "], b"x"));
            input
        };
        assert_eq!(make(3), make(3));
        assert_ne!(make(3), make(4));
    }
}
