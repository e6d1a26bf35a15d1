//! HPACK's Huffman code (RFC 7541 Appendix B). The code is canonical, so the lengths are all there is to write down.

use std::sync::LazyLock;

/// Not a code, or a code for the end of the string, or wrong padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotHuffman;

/// Decodes `bytes` and writes as much as fits into `into`. Returns the length of the whole string.
///
/// # Errors
/// It is no Huffman code.
pub fn decode(bytes: &[u8], into: &mut [u8]) -> Result<usize, NotHuffman> {
    let table = &*TABLE;
    let (mut state, mut ends, mut length) = (0u8, true, 0);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            let step = table[usize::from(state) * 16 + usize::from(nibble)];
            if step.fails {
                return Err(NotHuffman);
            }
            if let Some(symbol) = step.symbol {
                if let Some(place) = into.get_mut(length) {
                    *place = symbol;
                }
                length += 1;
            }
            (state, ends) = (step.next, step.may_end);
        }
    }
    if ends { Ok(length) } else { Err(NotHuffman) }
}

/// What four bits do in one state. A code is at least five bits long, so four bits complete at most one.
#[derive(Clone, Copy, Default)]
struct Step {
    next: u8,
    symbol: Option<u8>,
    /// What was read since the last symbol is padding: at most seven ones.
    may_end: bool,
    fails: bool,
}

const END: usize = 256;
/// Inner nodes of the code's tree: one fewer than its leaves.
const NODES: usize = 256;

static TABLE: LazyLock<Vec<Step>> = LazyLock::new(|| {
    let tree = tree();
    (0..NODES)
        .flat_map(|node| (0..16).map(move |nibble| (node, nibble)))
        .map(|(node, nibble)| step(&tree, node, nibble))
        .collect()
});

#[derive(Clone, Copy)]
enum Branch {
    Node(usize),
    Symbol(usize),
}

/// The code as a tree; node 0 is the root.
fn tree() -> Vec<[Branch; 2]> {
    let mut tree: Vec<[Option<Branch>; 2]> = vec![[None; 2]];
    let mut order: Vec<usize> = (0..=END).collect();
    order.sort_by_key(|symbol| (LENGTHS[*symbol], *symbol));
    let (mut code, mut length) = (0u32, LENGTHS[order[0]]);
    for symbol in order {
        code <<= LENGTHS[symbol] - length;
        length = LENGTHS[symbol];
        let mut node = 0;
        for bit in (1..length).rev().map(|bit| (code >> bit & 1) as usize) {
            node = match tree[node][bit] {
                Some(Branch::Node(next)) => next,
                _ => {
                    tree.push([None; 2]);
                    let next = tree.len() - 1;
                    tree[node][bit] = Some(Branch::Node(next));
                    next
                }
            };
        }
        tree[node][(code & 1) as usize] = Some(Branch::Symbol(symbol));
        code += 1;
    }
    // The code is complete: no branch is empty.
    tree.into_iter().map(|branches| branches.map(|branch| branch.unwrap_or(Branch::Symbol(END)))).collect()
}

fn step(tree: &[[Branch; 2]], node: usize, nibble: usize) -> Step {
    let mut step = Step::default();
    let mut at = node;
    for bit in [3, 2, 1, 0].map(|bit| nibble >> bit & 1) {
        match tree[at][bit] {
            Branch::Node(next) => at = next,
            Branch::Symbol(symbol) => {
                step.symbol = u8::try_from(symbol).ok();
                step.fails |= step.symbol.is_none();
                at = 0;
            }
        }
    }
    step.next = u8::try_from(at).unwrap_or_default();
    step.may_end = padding(tree).contains(&at);
    step
}

/// The root, and what up to seven ones lead to.
fn padding(tree: &[[Branch; 2]]) -> Vec<usize> {
    let mut nodes = vec![0];
    while nodes.len() <= 7 {
        match tree[nodes[nodes.len() - 1]][1] {
            Branch::Node(next) => nodes.push(next),
            Branch::Symbol(_) => break,
        }
    }
    nodes
}

/// The length of each symbol's code in bits, the end of the string last (RFC 7541 Appendix B).
#[rustfmt::skip]
const LENGTHS: [u8; END + 1] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_complete() {
        assert_eq!(tree().len(), NODES);
        let kraft: u64 = LENGTHS.iter().map(|length| 1u64 << (30 - length)).sum();
        assert_eq!(kraft, 1 << 30);
    }

    /// RFC 7541 Appendix C.4 and C.6.
    #[test]
    fn the_examples_of_the_rfc() {
        let cases: [(&[u8], &str); 5] = [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x64, 0x02], "302"),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private"),
            (&[], ""),
        ];
        for (bytes, text) in cases {
            let mut into = [0; 32];
            let length = decode(bytes, &mut into).unwrap();
            assert_eq!(&into[..length], text.as_bytes());
        }
        let mut short = [0; 3];
        assert_eq!(decode(cases_first(), &mut short), Ok(15), "the length is told even where the text does not fit");
        assert_eq!(&short, b"www");
    }

    fn cases_first() -> &'static [u8] {
        &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff]
    }

    #[test]
    fn wrong_padding_and_the_end_symbol_are_refused() {
        for wrong in [&[0xff_u8][..], &[0x64, 0x02, 0x00], &[0x64, 0x02, 0xff], &[0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(decode(wrong, &mut [0; 8]), Err(NotHuffman), "{wrong:x?}");
        }
    }
}
