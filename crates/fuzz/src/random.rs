//! A small generator of numbers (SplitMix64): the same seed gives the same numbers on every machine.

/// Numbers from a seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers that depend on `seed` and `turn` alone.
    #[must_use]
    pub fn new(seed: u64, turn: u64) -> Self {
        let mut random = Self(seed ^ turn.wrapping_mul(0xd134_2543_de82_ef95));
        random.number();
        random
    }

    /// Numbers that depend on `bytes` alone: a target that needs choices beside its input takes them from here.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::new(hash(bytes), 0)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.number() % bound).unwrap_or_default()
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of the usual, and now and then one of the odd.
    pub fn mostly<T: Copy>(&mut self, usual: &[T], odd: &[T]) -> T {
        if self.once_in(25) { self.one_of(odd) } else { self.one_of(usual) }
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }

    /// Bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    /// One of several; they must not be none.
    pub fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// A text, of the kind that breaks those who believe it.
    pub fn text(&mut self) -> String {
        if self.once_in(40) {
            return "long ".repeat(self.below(3000));
        }
        self.one_of(&TEXTS).to_owned()
    }

    /// A length: mostly short, now and then long, never above `longest`.
    pub fn length(&mut self, longest: usize) -> usize {
        let short = if self.once_in(8) { longest } else { longest.min(12) };
        self.below(short + 1)
    }
}

/// FNV-1a.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

const TEXTS: [&str; 24] = [
    "",
    "a",
    "cart.shop.svc.cluster.local",
    "cluster.local",
    "shop/front",
    "*",
    "*.shop",
    "10.0.0.1",
    "::1",
    "..",
    "/etc/passwd",
    "\"",
    "a\nb",
    "\r\n",
    "\0",
    "\u{1b}[31m",
    "\u{202e}txt",
    "\u{e9}",
    "\u{1f980}",
    "{}",
    "%s%n",
    "null",
    "-1",
    "18446744073709551616",
];
