#![doc = env!("CARGO_PKG_DESCRIPTION")]
//!
//! A [`Target`] is a plain function of bytes that panics when something does not hold: no panic of the code itself, bounded
//! memory and time, and that it agrees with another reader of the same bytes, or with itself read in other pieces.
//! [`runner`] gives it the checked-in corpus, then changes of it ([`mutate`]) and inputs of its own grammar. The same
//! functions serve cargo-fuzz (CONTRIBUTING.md).

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a target fails by panicking")]

pub mod memory;
pub mod mutate;
pub mod random;
pub mod runner;
pub mod script;
pub mod targets;

pub use random::Random;

/// Something that reads bytes which anybody may have sent.
pub struct Target {
    /// Its name, and its folder's below `corpus/`.
    pub name: &'static str,
    /// Reads the bytes, and panics when something does not hold.
    pub run: fn(&[u8]),
    /// Makes up an input that reaches far.
    pub grammar: fn(&mut Random) -> Vec<u8>,
    /// What inputs are made of.
    pub words: &'static [&'static [u8]],
    /// Bytes of the longest input.
    pub longest: usize,
    /// Bytes of memory that any input may cost.
    pub memory: usize,
    /// Bytes of memory that it may cost in addition for each of its bytes.
    pub memory_per_byte: usize,
}

/// How many pieces an input comes in at most, so that one in small pieces costs no more than others.
const MOST_PIECES: usize = 64;

/// Where `bytes` are cut, in rising order, their own end last: a choice that depends on the bytes alone.
#[must_use]
pub fn ends(bytes: &[u8]) -> Vec<usize> {
    let mut random = Random::of(bytes);
    let longest = random.one_of(&[1, 3, 16, 200, 5000]);
    let (mut ends, mut at) = (Vec::new(), 0);
    while ends.len() + 1 < MOST_PIECES && at < bytes.len() {
        at += random.between(1, longest);
        ends.push(at.min(bytes.len()));
    }
    ends.push(bytes.len());
    ends
}

/// `bytes` in the pieces between their [`ends`].
#[must_use]
pub fn pieces(bytes: &[u8]) -> Vec<&[u8]> {
    let mut from = 0;
    ends(bytes).into_iter().map(|end| &bytes[std::mem::replace(&mut from, end)..end]).collect()
}
