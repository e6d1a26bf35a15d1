//! Frames of a caller of HTTP/2, as they could be, and nearly.

use crate::Random;

pub(super) const WORDS: &[&[u8]] = &[
    b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"\x00\x00\x03\x01\x05\x00\x00\x00\x01\x82\x84\x86",
    b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\xff\xff",
    b"\x00\x00\x01\x00\x01\x00\x00\x00\x01a",
    b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08",
    b"\x00\x00\x00\x09\x04\x00\x00\x00\x01",
    b"\x82\x84\x86\x41\x01a",
    b"\x3f\xe1\x1f",
    b"\x20",
    b"\xbe",
    b"\xff\xff\xff\x7f",
    b"\x40\x01a\x01b",
    b"\x44\x84\x62\x53\x4f\xff",
];

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The frames of a connection.
pub(super) fn frames(random: &mut Random) -> Vec<u8> {
    let mut out = settings(random);
    let mut stream = 1;
    for _ in 0..random.between(1, 8) {
        match random.below(10) {
            0..=4 => {
                request(random, stream, &mut out);
                stream += 2;
            }
            5 if random.once_in(4) => data(random, stream.saturating_sub(2), true, &mut out),
            6 if stream > 1 => frame(3, 0, stream - 2, &[0, 0, 0, 8], &mut out),
            7 => frame(8, 0, random.mostly(&[0], &[1, stream]), &[0, 0, 1, random.byte()], &mut out),
            8 => frame(6, random.one_of(&[0, 1]), 0, &random.bytes(8), &mut out),
            _ => {
                let (kind, flags) = (random.mostly(&[10, 0xaf], &[2, 4, 5, 7, 9]), random.byte());
                let length = random.length(60);
                let content = random.bytes(length);
                frame(kind, flags, random.one_of(&[0, 1, 2, stream]), &content, &mut out);
            }
        }
    }
    out
}

fn settings(random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    let mut content = Vec::new();
    for _ in 0..random.below(3) {
        content.extend([0, random.mostly(&[3, 99], &[1, 2, 4, 5, 6])]);
        content.extend(random.mostly(&[1u32, 16_384, 65_535], &[0, 100, 4096, 1 << 20, u32::MAX]).to_be_bytes());
    }
    frame(4, 0, 0, &content, &mut out);
    out
}

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8], out: &mut Vec<u8>) {
    out.extend(&(content.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(content);
}

/// Headers in one frame or several, data, perhaps trailers.
fn request(random: &mut Random, stream: u32, out: &mut Vec<u8>) {
    let block = block(random);
    let (mut flags, mut content) = (0, Vec::new());
    if random.once_in(5) {
        flags |= PADDED;
        content.push(3);
    }
    if random.once_in(5) {
        flags |= PRIORITY;
        content.extend([0, 0, 0, 0, 16]);
    }
    let ends = random.once_in(2);
    flags |= if ends { END_STREAM } else { 0 };
    let (first, rest) = block.split_at(if random.once_in(3) { random.below(block.len() + 1) } else { block.len() });
    content.extend(first);
    if flags & PADDED != 0 {
        content.extend([0; 3]);
    }
    flags |= if rest.is_empty() { END_HEADERS } else { 0 };
    frame(1, flags, stream, &content, out);
    if !rest.is_empty() {
        frame(9, END_HEADERS, stream, rest, out);
    }
    if !ends {
        let trailers = random.once_in(4);
        data(random, stream, !trailers, out);
        if trailers {
            frame(1, END_HEADERS | END_STREAM, stream, b"\x40\x01t\x01v", out);
        }
    }
}

fn data(random: &mut Random, stream: u32, end: bool, out: &mut Vec<u8>) {
    let length = random.length(400);
    let mut content = random.bytes(length);
    let padded = random.once_in(4);
    if padded {
        content.insert(0, 2);
        content.extend([0; 2]);
    }
    frame(0, if end { END_STREAM } else { 0 } | if padded { PADDED } else { 0 }, stream, &content, out);
}

/// A header block (RFC 7541): the pseudo-headers of a request, and fields that fill and use the dynamic table.
fn block(random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    if random.once_in(6) {
        out.extend(random.mostly(&[&b"\x3f\xe1\x1f"[..], b"\x20\x3f\xe1\x1f"], &[b"\x20", b"\x3e", b"\x3f\xe1\xff"]));
    }
    out.extend([random.one_of(&[0x82, 0x83]), random.one_of(&[0x86, 0x87])]);
    let paths = ["/", "/a", "/grpc.Service/Method", "/a-longer-path?with=query"];
    match random.below(4) {
        0 => out.push(0x84),
        1 => literal(0x44, random.one_of(&paths), &mut out),
        2 => literal(0x04, random.one_of(&paths), &mut out),
        // "/index.html" as a Huffman string: the examples of the RFC hold no path of their own.
        _ => out.push(0x85),
    }
    literal(random.one_of(&[0x41, 0x01]), random.one_of(&["a.example", "b:80", "host"]), &mut out);
    for _ in 0..random.below(5) {
        match random.below(7) {
            0 => literal(0x5f, random.one_of(&["application/grpc", "application/grpc+proto", "text/plain"]), &mut out),
            1 => out.push(0x80 | random.mostly(&[62], &[63, 64, 65, 66, 70])),
            2 => out.extend(b"\x40\x0bgrpc-status\x015"),
            3 => out.extend(b"\x10\x01n\x03abc"),
            4 => {
                out.extend(b"\x40\x03x-l");
                let length = random.length(120);
                out.push(length as u8);
                out.extend(vec![b'v'; length]);
            }
            // "www.example.com" and "no-cache" by Huffman (RFC 7541 C.4).
            5 => out.extend(b"\x58\x86\xa8\xeb\x10\x64\x9c\xbf"),
            _ => out.extend(b"\x40\x02xx\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"),
        }
    }
    out
}

fn literal(first: u8, value: &str, out: &mut Vec<u8>) {
    out.push(first);
    out.push(value.len() as u8);
    out.extend(value.bytes());
}
