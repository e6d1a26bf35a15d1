//! Names as Istio takes them: domain names, labels, addresses, trust domains.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::read::tree::shortened;

const LONGEST_LABEL: usize = 63;
const LONGEST_DOMAIN: usize = 255;

/// A label of RFC 1123, in either case.
pub fn is_label(text: &str) -> bool {
    let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= LONGEST_LABEL
        && outer(bytes.first())
        && outer(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// The first label of a host: a label, `*`, `*label` or `*-label`.
fn is_wildcard_label(text: &str) -> bool {
    if text.len() > LONGEST_LABEL {
        return false;
    }
    match text.strip_prefix('*') {
        None => is_label(text),
        Some("") => true,
        Some(rest) => is_label(rest.strip_prefix('-').unwrap_or(rest)),
    }
}

fn length(domain: &str) -> Result<(), String> {
    match domain.len() {
        0 => Err("empty domain name not allowed".to_owned()),
        1..=LONGEST_DOMAIN => Ok(()),
        _ => Err(format!("domain name {:?} too long (max {LONGEST_DOMAIN})", shortened(domain))),
    }
}

fn labels(domain: &str) -> Result<(), String> {
    let parts: Vec<_> = domain.split('.').collect();
    let top = parts.last().copied().unwrap_or_default();
    if top.strip_prefix(['+', '-']).unwrap_or(top).parse::<u64>().is_ok() {
        return Err(format!("domain name {domain:?} invalid (top level domain {top:?} cannot be all-numeric)"));
    }
    for (index, label) in parts.iter().enumerate() {
        // A dot at the end makes a name unambiguous.
        if index + 1 == parts.len() && label.is_empty() {
            return Ok(());
        }
        if !is_label(label) {
            return Err(format!("domain name {domain:?} invalid (label {label:?} invalid)"));
        }
    }
    Ok(())
}

/// A complete domain name.
pub fn domain(text: &str) -> Result<(), String> {
    length(text)?;
    labels(text)
}

/// A domain name whose first label may be a wildcard.
pub fn wildcard_domain(text: &str) -> Result<(), String> {
    length(text)?;
    let (first, rest) = text.split_once('.').map_or((text, None), |(first, rest)| (first, Some(rest)));
    if !is_wildcard_label(first) {
        return Err(format!("domain name {text:?} invalid (label {first:?} invalid)"));
    }
    rest.map_or(Ok(()), labels)
}

/// `*x.example.com` is no wildcard that a listener can serve.
pub fn no_partial_wildcard(text: &str) -> Result<(), String> {
    if text.contains('*') && text.len() != 1 && !text.starts_with("*.") {
        return Err(format!("partial wildcard {text:?} not allowed"));
    }
    Ok(())
}

/// An IP address.
pub fn address(text: &str) -> Result<(), String> {
    text.parse::<IpAddr>().map(drop).map_err(|_| format!("{} is not a valid IP", shortened(text)))
}

/// An IP address or a prefix of addresses.
pub fn subnet(text: &str) -> Result<(), String> {
    if text.matches('/').count() != 1 {
        return address(text);
    }
    text.parse::<IpNet>().map(drop).map_err(|_| format!("{} is not a valid CIDR block", shortened(text)))
}

/// The path of a Unix socket, without `unix://`.
pub fn unix_socket(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("unix address must not be empty".to_owned());
    }
    if text.starts_with('@') || (text.starts_with('/') && !text.ends_with('/')) {
        return Ok(());
    }
    Err(format!("{text} is not an absolute path to a file"))
}

/// A trust domain.
pub fn trust_domain(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("empty domain name not allowed".to_owned());
    }
    let labels = text.strip_suffix('.').unwrap_or(text);
    if labels.split('.').all(is_label) { Ok(()) } else { Err(format!("trust domain name {text:?} invalid")) }
}

/// The name of a port.
pub fn port_name(text: &str) -> Result<(), String> {
    if is_label(text) { Ok(()) } else { Err(format!("invalid port name: {}", shortened(text))) }
}

/// A protocol that Istio knows; none is to be detected.
pub fn protocol(text: &str) -> Result<(), String> {
    const KNOWN: &[&str] = &[
        "",
        "tcp",
        "udp",
        "grpc",
        "grpc-web",
        "http",
        "http_proxy",
        "http2",
        "https",
        "tls",
        "mongo",
        "redis",
        "mysql",
        "hbone",
        "double-hbone",
    ];
    if KNOWN.contains(&text.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(format!("unsupported protocol: {}", shortened(text)))
}

/// A port number.
pub fn port(number: i64) -> Result<(), String> {
    if (1..=65535).contains(&number) { Ok(()) } else { Err(format!("port number {number} must be in the range 1..65535")) }
}

/// The key of a label: an optional DNS prefix with `/`, and a name.
pub fn label_key(text: &str) -> Result<(), String> {
    let (prefix, name) = text.rsplit_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let prefix_is_fine = prefix.is_none_or(|prefix| prefix.split('.').all(is_label));
    if !prefix_is_fine || !is_qualified(name) {
        return Err(format!("invalid tag key: {:?}", shortened(text)));
    }
    if name.len() > LONGEST_LABEL {
        return Err(format!("invalid tag key: {:?} (name is too long)", shortened(text)));
    }
    Ok(())
}

/// The value of a label.
pub fn label_value(text: &str) -> Result<(), String> {
    if text.is_empty() || is_qualified(text) { Ok(()) } else { Err(format!("invalid tag value: {:?}", shortened(text))) }
}

fn is_qualified(text: &str) -> bool {
    let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    outer(bytes.first())
        && outer(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
