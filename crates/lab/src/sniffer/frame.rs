//! Ethernet, IP, TCP and UDP headers: as much as it takes to find the payload.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Who sends.
    pub from: SocketAddr,
    /// Who receives.
    pub to: SocketAddr,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}", self.from, self.to)
    }
}

/// What a frame carries.
pub(super) struct Packet<'a> {
    pub flow: Flow,
    /// Of the first byte of the payload; `None` for UDP.
    pub sequence: Option<u32>,
    /// The connection begins (SYN) or ends (FIN, RST) here.
    pub begins: bool,
    pub ends: bool,
    pub payload: &'a [u8],
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// The TCP segment or UDP datagram in an Ethernet frame, if it is one.
pub(super) fn parse(frame: &[u8]) -> Option<Packet<'_>> {
    let kind = u16::from_be_bytes(bytes(frame, 12)?);
    let rest = frame.get(14..)?;
    let (from, to, protocol, transport) = match kind {
        0x0800 => ipv4(rest)?,
        0x86dd => ipv6(rest)?,
        _ => return None,
    };
    let flow = Flow {
        from: SocketAddr::new(from, u16::from_be_bytes(bytes(transport, 0)?)),
        to: SocketAddr::new(to, u16::from_be_bytes(bytes(transport, 2)?)),
    };
    match protocol {
        TCP => tcp(flow, transport),
        UDP => Some(Packet { flow, sequence: None, begins: false, ends: false, payload: transport.get(8..)? }),
        _ => None,
    }
}

fn tcp(flow: Flow, segment: &[u8]) -> Option<Packet<'_>> {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    let header = usize::from(segment.get(12)? >> 4) * 4;
    let flags = *segment.get(13)?;
    let sequence = u32::from_be_bytes(bytes(segment, 4)?);
    Some(Packet {
        flow,
        // A SYN takes one number before the payload.
        sequence: Some(sequence.wrapping_add(u32::from(flags & SYN != 0))),
        begins: flags & SYN != 0,
        ends: flags & (FIN | RST) != 0,
        payload: segment.get(header..)?,
    })
}

type Transport<'a> = (IpAddr, IpAddr, u8, &'a [u8]);

fn ipv4(packet: &[u8]) -> Option<Transport<'_>> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    // Shorter than the frame when Ethernet padded it; zero for segments too large for the field.
    let total = usize::from(u16::from_be_bytes(bytes(packet, 2)?));
    let end = if total == 0 { packet.len() } else { total.min(packet.len()) };
    let from = Ipv4Addr::from(bytes::<4>(packet, 12)?);
    let to = Ipv4Addr::from(bytes::<4>(packet, 16)?);
    Some((from.into(), to.into(), *packet.get(9)?, packet.get(header..end)?))
}

/// Without extension headers: hosts on one link do not need any for TCP and UDP.
fn ipv6(packet: &[u8]) -> Option<Transport<'_>> {
    let length = usize::from(u16::from_be_bytes(bytes(packet, 4)?));
    let end = if length == 0 { packet.len() } else { (40 + length).min(packet.len()) };
    let from = Ipv6Addr::from(bytes::<16>(packet, 8)?);
    let to = Ipv6Addr::from(bytes::<16>(packet, 24)?);
    Some((from.into(), to.into(), *packet.get(6)?, packet.get(40..end)?))
}

fn bytes<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..at + N)?.try_into().ok()
}
