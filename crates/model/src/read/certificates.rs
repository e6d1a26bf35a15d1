//! How long the certificates of a PEM text are valid. Only the outer structure of X.509 is read (RFC 5280, 4.1), with a
//! DER reader of its own: this crate knows no TLS library, and nothing here decides on trust.

use super::object::days_since_1970;
use super::tree::Node;
use crate::authority::Certificate;
use crate::{Kind, Meta};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The keys of a plugged-in CA and of the roots that istiod hands out.
const KEYS: [&str; 3] = ["root-cert.pem", "ca-cert.pem", "cert-chain.pem"];

/// The certificates of an object that holds authorities, `None` when it is none of those that Istio reads.
pub fn of_object(meta: &Meta, node: &Node) -> Option<Vec<Certificate>> {
    let secret = match (meta.object.kind, meta.name()) {
        (Kind::Secret, "cacerts" | "istio-ca-secret") => true,
        (Kind::ConfigMap, "istio-ca-root-cert") => false,
        _ => return None,
    };
    let mut found = Vec::new();
    for key in KEYS {
        if let Some(text) = node.at_path(&["data", key]).text() {
            let decoded =
                if secret { base64(text).and_then(|bytes| String::from_utf8(bytes).ok()) } else { Some(text.to_owned()) };
            found.extend(decoded.iter().flat_map(|pem| of_pem(pem, &format!("data/{key}"))));
        }
        if let Some(text) = node.at_path(&["stringData", key]).text().filter(|_| secret) {
            found.extend(of_pem(text, &format!("stringData/{key}")));
        }
    }
    Some(found)
}

/// The certificates of a PEM text that stands at `path`. What is none is passed over: whoever uses it says so.
pub fn of_pem(pem: &str, path: &str) -> Vec<Certificate> {
    let blocks = pem.split(BEGIN).skip(1).filter_map(|rest| rest.split_once(END));
    let certificate = |(at, (body, _)): (usize, (&str, &str))| {
        let (not_before, not_after) = validity(&base64(body)?)?;
        Some(Certificate { path: path.to_owned(), position: at + 1, not_before, not_after })
    };
    blocks.enumerate().filter_map(certificate).collect()
}

/// Certificate → tbsCertificate → past version, serial number, algorithm and issuer → validity.
fn validity(der: &[u8]) -> Option<(i64, i64)> {
    let (certificate, _) = content(der, SEQUENCE)?;
    let (mut rest, _) = content(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    for _ in ["serialNumber", "signature", "issuer"] {
        rest = element(rest)?.2;
    }
    let (validity, _) = content(rest, SEQUENCE)?;
    let (tag, not_before, rest) = element(validity)?;
    let not_before = time(tag, not_before)?;
    let (tag, not_after, _) = element(rest)?;
    Some((not_before, time(tag, not_after)?))
}

fn content(der: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(tag, ..)| *tag == expected).map(|(_, content, rest)| (content, rest))
}

/// Tag, content and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(*first) {
        short @ 0..=0x7f => (short, rest),
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(long - 0x80)?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// Seconds since 1970. Two-digit years are of 1950 to 2049 (RFC 5280, 4.1.2.5.1).
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = text.split_at_checked(if tag == GENERALIZED_TIME { 4 } else { 2 })?;
    if rest.len() != 10 || !matches!(tag, UTC_TIME | GENERALIZED_TIME) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let year: i64 = year.parse().ok()?;
    let year = if tag == GENERALIZED_TIME { year } else { year + if year < 50 { 2000 } else { 1900 } };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day) = (two(0).filter(|month| (1..=12).contains(month))?, two(2)?);
    Some(days_since_1970(year, month, day) * 86_400 + two(4)? * 3600 + two(6)? * 60 + two(8)?)
}

/// Standard base64, with line breaks and spaces passed over.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0);
    for letter in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    Some(bytes)
}
