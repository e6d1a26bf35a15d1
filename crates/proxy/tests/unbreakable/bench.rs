//! A server under attack, and what must hold after every case.

use std::net::SocketAddr;
use std::time::Duration;

use mutua_proxy::capture::Capture;
use mutua_proxy::connections::{Direction, Outcome, Record};
use mutua_proxy::limits::{Gate, Limits};
use mutua_proxy::reasons::Reason;
use mutua_proxy::sidecar::Sidecar;
use mutua_proxy::world;
use mutua_testbed::cases::{Case, Expected, case};
use mutua_testbed::peers::{Secured, mesh_client};
use mutua_testbed::{App, Authority, CLIENT, PATIENCE, Running, SERVER, read_exactly, wire};
use mutua_wire::mesh::{Mode, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};

/// What an attacker wants to bring to the application.
pub const EVIL: &[u8] = b"EVIL";

/// Rounds within which memory has to be steady.
const ROUNDS: usize = 6;

static ALONE: Mutex<()> = Mutex::const_new(());

/// A server with a bystander: a connection of somebody else that goes on all the time.
pub struct Bench {
    _alone: MutexGuard<'static, ()>,
    pub authority: Authority,
    pub app: App,
    pub server: Running,
    bystander: Mutex<Secured>,
    greeting: &'static [u8],
}

impl Bench {
    pub async fn new(mode: Mode, protocol: Protocol) -> Self {
        Self::over(mode, protocol, App::echo().await, limits()).await
    }

    pub async fn strict() -> Self {
        Self::new(Mode::Strict, Protocol::Auto).await
    }

    /// Over an application of the test's own, which says `greeting` first.
    pub async fn greeted(mode: Mode, protocol: Protocol, greeting: &'static [u8]) -> Self {
        let mut bench = Self::over(mode, protocol, App::speaking(greeting).await, limits()).await;
        bench.greeting = greeting;
        assert_eq!(bench.bystander.get_mut().receive(greeting.len()).await.unwrap(), greeting);
        bench
    }

    pub async fn over(mode: Mode, protocol: Protocol, app: App, limits: Limits) -> Self {
        let alone = ALONE.lock().await;
        Self::build(alone, Authority::new(), (mode, protocol), app, |sidecar, _| sidecar.gate = Gate::new(limits)).await
    }

    /// STRICT, below a CA of the test's own.
    pub async fn under(authority: Authority) -> Self {
        let alone = ALONE.lock().await;
        let app = App::echo().await;
        let change = |sidecar: &mut Sidecar, _| sidecar.gate = Gate::new(limits());
        Self::build(alone, authority, (Mode::Strict, Protocol::Auto), app, change).await
    }

    /// STRICT, with capture rules of the test's own.
    pub async fn faulty(capture: impl FnOnce(SocketAddr) -> Box<dyn Capture>) -> Self {
        let alone = ALONE.lock().await;
        let app = App::echo().await;
        let change = |sidecar: &mut Sidecar, to| sidecar.capture = capture(to);
        Self::build(alone, Authority::new(), (Mode::Strict, Protocol::Auto), app, change).await
    }

    async fn build(
        alone: MutexGuard<'static, ()>,
        authority: Authority,
        (mode, protocol): (Mode, Protocol),
        app: App,
        change: impl FnOnce(&mut Sidecar, SocketAddr),
    ) -> Self {
        let leaf = Some(authority.leaf(SERVER));
        let server = Running::with(Direction::Inbound, leaf, |sidecar| change(sidecar, app.address)).await;
        server.wanted.set(app.address);
        server.configure(&authority, &wire::inbound(Mode::Permissive, &[]));
        let bystander = Mutex::new(call(&authority, server.address).await);
        server.put("shop/it", &wire::inbound(mode, &[(app.address, protocol)]));
        Self { _alone: alone, authority, app, server, bystander, greeting: b"" }
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.server.address).await.unwrap()
    }

    /// Sends bytes and waits for the end. Returns what came.
    pub async fn send(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().await;
        // The server may have closed before it has read everything.
        let _ = stream.write_all(bytes).await;
        let mut came = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut came)).await.expect("the server ends the connection");
        // A reset keeps what came before it.
        let _ = read;
        came
    }

    /// Runs a case of `docs/faults.md` with one connection in each attack.
    pub async fn survives(&self, name: &str, attack: impl AsyncFn(&Self)) -> Vec<Record> {
        self.survives_many(name, 1, attack).await
    }

    /// Runs a case with `count` connections in each attack.
    pub async fn survives_many(&self, name: &str, count: usize, attack: impl AsyncFn(&Self)) -> Vec<Record> {
        self.survives_as(case(name), count, attack).await
    }

    /// Attacks twice at the same time, in rounds: in the first ones tables and the allocator's pages settle; a round has to
    /// come that leaves memory as it was. Returns the records of the last round.
    pub async fn survives_as(&self, case: Case, count: usize, attack: impl AsyncFn(&Self)) -> Vec<Record> {
        let mut before = resident();
        for _ in 0..ROUNDS {
            let records = self.round(&case, count, &attack).await;
            let after = resident();
            if after <= before + before / 20 {
                return records;
            }
            before = after;
        }
        panic!("memory goes up from round to round, to {before}");
    }

    async fn round(&self, case: &Case, count: usize, attack: &impl AsyncFn(&Self)) -> Vec<Record> {
        self.others_are_served().await;
        let (known, totals) = (self.settled().await, self.refusals());
        tokio::join!(attack(self), attack(self));
        self.settled_at(known + u64::try_from(2 * count).unwrap()).await;
        let records: Vec<Record> = self.finished().into_iter().filter(|record| record.id > known).collect();
        assert!(records.len() == (2 * count).min(256) || count > 100, "{} records of {}", records.len(), 2 * count);
        for record in &records {
            self.check(case, record);
        }
        let more = self.refusals() - totals;
        let expected = if matches!(case.expected, Expected::Refused(_)) { 2 * count } else { 0 };
        assert_eq!(more, u64::try_from(expected).unwrap(), "each refusal is counted once");
        let plain = self.app.heard().iter().any(|heard| heard.windows(EVIL.len()).any(|window| window == EVIL));
        assert!(!plain || matches!(case.expected, Expected::Served(_)), "the attacker reached the application");
        self.others_are_served().await;
        self.settled().await;
        // What the application heard is kept for looking at, and is no memory of the sidecar's.
        self.app.seen.lock().unwrap().iter_mut().for_each(|heard| *heard = Vec::new());
        records
    }

    fn check(&self, case: &Case, record: &Record) {
        let served = match case.expected {
            Expected::Refused(reason) => {
                assert_eq!(record.reason, Some(reason), "{record:#?}");
                assert!(record.outcome == Some(Outcome::Refused) || record.sent_bytes > 0, "{record:#?}");
                let message = record.message.as_deref().unwrap();
                assert!(!message.is_empty() && message.len() <= 4096 && !message.contains(char::is_control), "{message:?}");
                return;
            }
            Expected::Served(outcome) => Some(outcome),
            Expected::Ended => None,
            Expected::Told(_) => record.outcome,
        };
        assert_eq!((record.outcome, record.reason), (served, None), "{record:#?}");
        // What is told of in words, the case looks at itself.
        if served == Some(Outcome::Mtls) && !matches!(case.expected, Expected::Told(_)) {
            assert_eq!(record.local_id.as_deref(), Some(SERVER));
            let peer = record.peer_id.as_deref().unwrap();
            assert!(peer.starts_with("spiffe://cluster.local/ns/shop/sa/"), "{peer} is nobody of the mesh");
        }
    }

    /// The bystander goes on, and a new caller is served.
    pub async fn others_are_served(&self) {
        assert_eq!(self.bystander.lock().await.echo(b"going on").await.unwrap(), b"going on");
        let port = self.app.address.port();
        if self.server.sidecar.world.current().inbound.as_ref().unwrap().treatment(port).0 == world::Mode::Disable {
            let mut new = self.connect().await;
            new.write_all(b"hello").await.unwrap();
            assert_eq!(read_exactly(&mut new, 5).await, b"hello");
            return;
        }
        let mut new = call(&self.authority, self.server.address).await;
        assert_eq!(new.receive(self.greeting.len()).await.unwrap(), self.greeting);
        assert_eq!(new.echo(b"hello").await.unwrap(), b"hello");
        new.close().await.unwrap();
    }

    /// Waits until only the bystander is left. Returns the id of the last finished connection.
    pub async fn settled(&self) -> u64 {
        self.settled_at(0).await
    }

    /// As [`Bench::settled`], once the connection `least` has been there.
    async fn settled_at(&self, least: u64) -> u64 {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (open, turns) = (self.server.sidecar.connections.count(), self.server.sidecar.gate.in_turn());
            let last = self.finished().iter().map(|record| record.id).max().unwrap_or(0);
            if (open, turns) == (1, 0) && last >= least {
                return last;
            }
            let late = tokio::time::Instant::now() >= deadline;
            assert!(!late, "{open} connections are left, {turns} turns are taken, the last is {last} of {least}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn finished(&self) -> Vec<Record> {
        let records = self.server.sidecar.connections.records();
        records.into_iter().filter(|record| record.state == "closed").collect()
    }

    fn refusals(&self) -> u64 {
        self.server.sidecar.refusals.totals().iter().map(|(_, count)| count).sum()
    }

    pub fn refused_for(&self, reason: Reason) -> u64 {
        let totals = self.server.sidecar.refusals.totals();
        totals.iter().filter(|((_, of), _)| *of == reason).map(|(_, count)| count).sum()
    }
}

/// Bounds as they are by default, with less patience.
pub fn limits() -> Limits {
    Limits { handshake_timeout: Duration::from_secs(2), ..Limits::default() }
}

/// A caller of good faith.
pub async fn call(authority: &Authority, to: SocketAddr) -> Secured {
    let stream = TcpStream::connect(to).await.unwrap();
    let config = mesh_client(authority, &authority.leaf(CLIENT));
    Secured::over(stream, &config, None, &[b"istio"]).await.unwrap()
}

/// Memory of this process, bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
