//! TCP connections that were open before the rules: the kernel redirects new ones only, so these escape capture until
//! they end. Listed and closed with `ss` (sock_diag).

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use super::tool::run;
use super::{Exempt, RedirectError, Settings};

/// A connection that is not captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Open {
    /// Its end in this network namespace.
    pub local: SocketAddr,
    /// Its other end.
    pub peer: SocketAddr,
    /// Whether it came from outside.
    pub inbound: bool,
}

/// The connections of this network namespace that the rules would capture had they been opened now, and that were not.
/// To be asked once the rules are in place, so that none is opened in between.
///
/// # Errors
/// `ss` is missing or fails.
pub fn open_before(settings: &Settings) -> Result<Vec<Open>, RedirectError> {
    let states = ["established", "close-wait", "fin-wait-1", "fin-wait-2"].map(|state| ["state", state]).concat();
    let connections = run(SS, &[&["-H", "-t", "-n", "-e", "-O"][..], &states].concat(), "")?;
    let listening = run(SS, &["-H", "-t", "-n", "-l"], "")?;
    Ok(escaped(settings, &connections, &listening))
}

/// Closes them (`SOCK_DESTROY`): both ends see a reset. Gives those that are still open afterwards, which is all of them on
/// a kernel without `CONFIG_INET_DIAG_DESTROY`.
///
/// # Errors
/// `ss` is missing or fails.
pub fn close(settings: &Settings, open: &[Open]) -> Result<Vec<Open>, RedirectError> {
    for Open { local, peer, .. } in open {
        run(SS, &["-H", "-t", "-n", "-K", "src", &local.to_string(), "dst", &peer.to_string()], "")?;
    }
    let now = open_before(settings)?;
    Ok(open.iter().copied().filter(|open| now.contains(open)).collect())
}

/// The connections that the rules missed, among what `ss -e` prints of connections and of those who listen.
#[must_use]
pub fn escaped(settings: &Settings, connections: &str, listening: &str) -> Vec<Open> {
    let sockets: Vec<Socket> = connections.lines().filter_map(Socket::parse).collect();
    let served: HashSet<u16> = listening.lines().filter_map(|line| port(line.split_whitespace().nth(3)?)).collect();
    // A connection inside this namespace has both its sockets here.
    let ends: HashSet<(SocketAddr, SocketAddr)> = sockets.iter().map(|socket| (socket.local, socket.peer)).collect();
    let own = settings.own_ports();
    // Who is connected to the sidecar was captured.
    let captured: HashSet<SocketAddr> =
        sockets.iter().filter(|socket| own.contains(&socket.local.port())).map(|socket| socket.peer).collect();
    let escapes = |socket: &&Socket| {
        let Socket { local, peer, .. } = **socket;
        let captures = if served.contains(&local.port()) {
            settings.captures_inbound(local.port())
        } else {
            settings.captures_outbound(peer)
        };
        let inside = peer.ip().is_loopback() || peer.ip() == local.ip() || ends.contains(&(peer, local));
        captures
            && !(own.contains(&local.port()) || inside || captured.contains(&local) || socket.is_sidecars(settings.exempt))
            && (settings.ipv6 || peer.is_ipv4())
    };
    let open = |socket: &Socket| Open { local: socket.local, peer: socket.peer, inbound: served.contains(&socket.local.port()) };
    sockets.iter().filter(escapes).map(open).collect()
}

/// A line of `ss -e`.
struct Socket {
    local: SocketAddr,
    peer: SocketAddr,
    uid: u32,
    mark: u32,
}

impl Socket {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip(3);
        let (local, peer) = (address(words.next()?)?, address(words.next()?)?);
        // What is 0 is not printed.
        let (mut uid, mut mark) = (0, 0);
        for word in words {
            if let Some(text) = word.strip_prefix("uid:") {
                uid = text.parse().unwrap_or_default();
            } else if let Some(text) = word.strip_prefix("fwmark:0x") {
                mark = u32::from_str_radix(text, 16).unwrap_or_default();
            }
        }
        Some(Self { local, peer, uid, mark })
    }

    fn is_sidecars(&self, exempt: Exempt) -> bool {
        match exempt {
            Exempt::Owner { uid, .. } => self.uid == uid,
            Exempt::Mark(mark) => self.mark == mark,
        }
    }
}

fn port(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

/// `ADDRESS:PORT` as `ss` prints it, perhaps with an interface; an IPv4 address that IPv6 carries is IPv4.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, _) = text.rsplit_once(':')?;
    let host = host.split('%').next()?.trim_matches(['[', ']']);
    let ip: IpAddr = host.parse().ok()?;
    Some(SocketAddr::new(ip.to_canonical(), port(text)?))
}

const SS: &str = "ss";

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENING: &str = "LISTEN 0 128 0.0.0.0:8080 0.0.0.0:*\nLISTEN 0 128 *:15006 *:*\nLISTEN 0 128 [::]:22 [::]:*\n";
    const CONNECTIONS: &str = "\
ESTAB 0 0 10.0.0.1:40001 10.0.0.9:5432 uid:1000 ino:1 sk:1 cgroup:/ <->
ESTAB 0 0 [::ffff:10.0.0.1]:8080 [::ffff:10.0.0.7]:50000 uid:1000 ino:2 sk:2
CLOSE-WAIT 0 0 [fd00::1]:40002 [fd00::9]:5432 ino:3 sk:3
ESTAB 0 0 10.0.0.1:22 10.0.0.7:50001 ino:4 sk:4
ESTAB 0 0 10.0.0.1:40003 10.0.0.9:80 uid:1000 ino:5 sk:5
ESTAB 0 0 127.0.0.1:15001 10.0.0.1:40003 uid:1337 ino:6 sk:6
ESTAB 0 0 10.0.0.1:40004 10.0.0.9:80 uid:1337 ino:7 sk:7 fwmark:0x539
ESTAB 0 0 127.0.0.1:40005 127.0.0.1:8080 uid:1000 ino:8 sk:8
ESTAB 0 0 10.0.0.1:15006 10.0.0.7:50002 uid:1337 ino:9 sk:9
";

    fn named(settings: &Settings) -> Vec<String> {
        let open = escaped(settings, CONNECTIONS, LISTENING);
        open.iter().map(|open| format!("{} {} {}", open.local, open.peer, open.inbound)).collect()
    }

    #[test]
    fn what_the_rules_missed_is_named_and_nothing_else() {
        let settings = Settings { exclude_inbound_ports: vec![22], ..Settings::default() };
        let wanted =
            ["10.0.0.1:40001 10.0.0.9:5432 false", "10.0.0.1:8080 10.0.0.7:50000 true", "[fd00::1]:40002 [fd00::9]:5432 false"];
        assert_eq!(named(&settings), wanted);
        let marked = Settings { exempt: Exempt::Mark(0x539), ..settings.clone() };
        assert_eq!(named(&marked), wanted);
        let excluded = Settings { exclude_outbound_ports: vec![5432], ..settings };
        assert_eq!(named(&excluded), wanted[1..2]);
    }
}
