//! DNS messages: what a query asks, and answers to it. No I/O.

use std::net::IpAddr;

use simple_dns::rdata::{CNAME, OPT, RData};
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE};

/// The shortest message: a header.
const HEADER: usize = 12;
/// Records beside the question that a query may carry (EDNS, a signature).
const MAX_ADDITIONAL: u8 = 4;
/// Records of a reply that are looked at; those of honest replies with addresses are far fewer.
const MAX_RECORDS: u16 = 1024;
/// How long an answer of the mesh may be kept, in seconds (Istio's).
const TTL: u32 = 30;
/// Bytes of a datagram for a client that does not say more (RFC 1035), and what we say ourselves (RFC 9715).
const PLAIN_DATAGRAM: usize = 512;
const DATAGRAM: u16 = 1232;

/// What a query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Records that may hint at addresses (SVCB, HTTPS).
    Hints,
}

/// A query about a name's addresses.
#[derive(Clone, Debug)]
pub struct Query<'q> {
    packet: Packet<'q>,
    /// The name, in lower case, without the last dot.
    pub name: String,
    /// What is asked for.
    pub kind: Kind,
}

/// What the mesh knows of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The name that it is an alias of.
    pub alias: Option<String>,
    /// Its addresses, of both families.
    pub addresses: Vec<IpAddr>,
}

/// Whether `message` can be a query at all: a header that is not a reply's.
#[must_use]
pub fn is_query(message: &[u8]) -> bool {
    message.len() >= HEADER && message[2] & 0x80 == 0
}

impl<'q> Query<'q> {
    /// Reads a query; `None` for everything that is not one plain question about addresses: it is not ours to answer.
    #[must_use]
    pub fn read(message: &'q [u8]) -> Option<Self> {
        let [_, _, _, _, 0, 1, 0, 0, 0, 0, 0, additional, ..] = *message else { return None };
        if !is_query(message) || additional > MAX_ADDITIONAL {
            return None;
        }
        let packet = Packet::parse(message).ok()?;
        let question = packet.questions.first()?;
        let kind = match question.qtype {
            QTYPE::TYPE(TYPE::A) => Kind::A,
            QTYPE::TYPE(TYPE::AAAA) => Kind::Aaaa,
            QTYPE::TYPE(TYPE::SVCB | TYPE::HTTPS) => Kind::Hints,
            _ => return None,
        };
        let plain = packet.opcode() == OPCODE::StandardQuery && question.qclass == QCLASS::CLASS(CLASS::IN);
        let edns_known = packet.opt().is_none_or(|opt| opt.version == 0);
        let name = question.qname.to_string().to_ascii_lowercase();
        (plain && edns_known).then_some(Self { packet, name, kind })
    }

    /// Bytes that a datagram to the asker may have.
    #[must_use]
    pub fn datagram(&self) -> usize {
        self.packet.opt().map_or(PLAIN_DATAGRAM, |opt| usize::from(opt.udp_packet_size).max(PLAIN_DATAGRAM))
    }

    /// The answer with what is known, in at most `limit` bytes: what does not fit is left out, which the answer says.
    #[must_use]
    pub fn answer(&self, known: &Known, limit: usize) -> Option<Vec<u8>> {
        let mut reply = self.reply();
        reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
        let asked = self.packet.questions.first()?.qname.clone();
        let alias = known.alias.as_deref().map(Name::new).transpose().ok()?.map(Name::into_owned);
        let owner = alias.clone().unwrap_or_else(|| asked.clone());
        let addresses = known.addresses.iter().filter_map(|address| match (self.kind, address) {
            (Kind::A, IpAddr::V4(ip)) => Some(RData::A((*ip).into())),
            (Kind::Aaaa, IpAddr::V6(ip)) => Some(RData::AAAA((*ip).into())),
            _ => None,
        });
        let mut records: Vec<_> = addresses.map(|rdata| ResourceRecord::new(owner.clone(), CLASS::IN, TTL, rdata)).collect();
        if let Some(alias) = alias.filter(|_| !records.is_empty()) {
            reply.answers.push(ResourceRecord::new(asked, CLASS::IN, TTL, RData::CNAME(CNAME(alias))));
        }
        // All have one owner, which stands before them already: each points to it. An alias may have to be written once.
        let written = known.alias.as_ref().map_or(0, String::len);
        let room = limit.checked_sub(reply.build_bytes_vec_compressed().ok()?.len() + written)?;
        let fitting = room / if self.kind == Kind::A { 16 } else { 28 };
        if records.len() > fitting {
            records.truncate(fitting);
            reply.set_flags(PacketFlag::TRUNCATION);
        }
        reply.answers.extend(records);
        reply.build_bytes_vec_compressed().ok()
    }

    fn reply(&self) -> Packet<'q> {
        let mut reply = Packet::new_reply(self.packet.id());
        reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
        if self.packet.has_flags(PacketFlag::RECURSION_DESIRED) {
            reply.set_flags(PacketFlag::RECURSION_DESIRED);
        }
        reply.questions.clone_from(&self.packet.questions);
        if self.packet.opt().is_some() {
            *reply.opt_mut() = Some(edns());
        }
        reply
    }
}

fn edns() -> OPT<'static> {
    OPT { opt_codes: Vec::new(), udp_packet_size: DATAGRAM, version: 0 }
}

/// SERVFAIL to any query: its header with the question's count gone, for what it asks may not be readable.
#[must_use]
pub fn failure(message: &[u8]) -> Option<Vec<u8>> {
    if !is_query(message) {
        return None;
    }
    if let Some(query) = Query::read(message) {
        let mut reply = query.reply();
        *reply.rcode_mut() = RCODE::ServerFailure;
        return reply.build_bytes_vec().ok();
    }
    // QR, the query's opcode and RD; RA and SERVFAIL.
    Some(vec![message[0], message[1], 0x80 | (message[2] & 0x79), 0x82, 0, 0, 0, 0, 0, 0, 0, 0])
}

/// Whether `reply` can be the answer to `query`.
#[must_use]
pub fn answers(reply: &[u8], query: &[u8]) -> bool {
    reply.len() >= HEADER && query.len() >= HEADER && reply[..2] == query[..2] && reply[2] & 0x80 != 0
}

/// Whether a reply was cut off to fit its datagram.
#[must_use]
pub fn is_cut(reply: &[u8]) -> bool {
    reply.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

/// A query of our own.
#[must_use]
pub fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let kind = match kind {
        Kind::A => TYPE::A,
        Kind::Aaaa => TYPE::AAAA,
        Kind::Hints => return None,
    };
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(Name::new(name).ok()?, kind.into(), CLASS::IN.into(), false));
    *packet.opt_mut() = Some(edns());
    packet.build_bytes_vec().ok()
}

/// What a reply to a query of our own says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// These addresses, for so many seconds; none when the name has none of the kind or does not exist.
    Addresses(Vec<IpAddr>, Option<u32>),
    /// The server does not know.
    Failed,
}

/// Reads the reply to `query`: every address in it, for resolvers follow aliases.
#[must_use]
pub fn said(reply: &[u8], query: &[u8]) -> Said {
    let counts = [6, 8, 10].map(|at| reply.get(at..at + 2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]])));
    if !answers(reply, query) || counts.iter().any(|count| *count > MAX_RECORDS) {
        return Said::Failed;
    }
    let (Ok(packet), Ok(asked)) = (Packet::parse(reply), Packet::parse(query)) else { return Said::Failed };
    let same = |one: &Question<'_>, other: &Question<'_>| one.qname == other.qname && one.qtype == other.qtype;
    if !packet.questions.iter().zip(&asked.questions).all(|(one, other)| same(one, other)) {
        return Said::Failed;
    }
    if !matches!(packet.rcode(), RCODE::NoError | RCODE::NameError) {
        return Said::Failed;
    }
    let ttl = packet.answers.iter().map(|record| record.ttl).min();
    let addresses = packet.answers.iter().filter_map(|record| match &record.rdata {
        RData::A(a) => Some(IpAddr::V4(a.address.into())),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.address.into())),
        _ => None,
    });
    Said::Addresses(addresses.collect(), ttl)
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
