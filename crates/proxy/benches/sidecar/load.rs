//! The two applications: a server that answers both protocols on one port, and callers that measure.
//!
//! Without HTTP the first byte of a connection says what it is for: [`UP`], [`DOWN`] or [`PING`].

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local, yield_now};

const UP: u8 = 1;
const DOWN: u8 = 2;
const PING: u8 = 3;
/// Bytes of a request's and of an answer's body.
const BODY: usize = 1024;
/// Bytes that a bulk transfer writes at once.
const BULK: usize = 128 << 10;
/// Writes of one stream before the others of the thread have their turn.
const TURNS: usize = 8;
pub const REQUEST: &str = "POST /ping HTTP/1.1\r\nHost: server\r\nContent-Length: 1024\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n";

/// What the callers do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Bulk data to the server.
    Up,
    /// Bulk data from it.
    Down,
    /// 1 KiB to and fro on kept connections; `rate` for all connections together, else as fast as it goes.
    Ping { http: bool, rate: Option<f64> },
    /// Connect, one exchange, close.
    Connect,
}

/// What was done while it was measured.
#[derive(Default)]
pub struct Done {
    pub seconds: f64,
    pub bytes: u64,
    /// Of each exchange, in nanoseconds, sorted.
    pub latencies: Vec<u32>,
    pub errors: u64,
}

/// Serves until it is killed.
pub fn serve(addresses: &[SocketAddr]) -> io::Result<()> {
    runtime()?.block_on(LocalSet::new().run_until(async {
        let mut all = Vec::new();
        for address in addresses {
            let listener = TcpListener::bind(address).await?;
            all.push(spawn_local(async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => drop(spawn_local(answer(stream))),
                        Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                    }
                }
            }));
        }
        for one in all {
            let _: Result<(), _> = one.await;
        }
        Ok(())
    }))
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut kind = [0];
    stream.peek(&mut kind).await?;
    match kind[0] {
        UP => {
            let mut sink = vec![0; BULK];
            while stream.read(&mut sink).await? > 0 {}
            Ok(())
        }
        DOWN => loop {
            stream.write_all(&[b'd'; BULK]).await?;
            yield_now().await;
        },
        PING => {
            stream.read_u8().await?;
            let mut body = [0; BODY];
            while stream.read_exact(&mut body).await.is_ok() {
                stream.write_all(&body).await?;
            }
            Ok(())
        }
        _ => {
            let answer = [ANSWER.as_bytes(), &[b'a'; BODY]].concat();
            let mut message = Vec::new();
            while receive(&mut stream, &mut message).await? {
                stream.write_all(&answer).await?;
            }
            Ok(())
        }
    }
}

/// Reads a message of HTTP/1.1 with a body of [`BODY`] bytes; `false`: there is none any more.
async fn receive(stream: &mut TcpStream, message: &mut Vec<u8>) -> io::Result<bool> {
    message.clear();
    loop {
        if stream.read_buf(message).await? == 0 {
            return Ok(false);
        }
        let head = message.windows(4).position(|end| end == b"\r\n\r\n");
        if head.is_some_and(|head| message.len() >= head + 4 + BODY) {
            return Ok(true);
        }
    }
}

/// A connection that makes exchanges.
pub struct Caller {
    stream: TcpStream,
    http: bool,
    request: Vec<u8>,
    message: Vec<u8>,
}

impl Caller {
    pub async fn open(to: SocketAddr, http: bool) -> io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let request = if http { [REQUEST.as_bytes(), &[b'q'; BODY]].concat() } else { vec![b'q'; BODY] };
        let mut caller = Self { stream, http, request, message: Vec::new() };
        if !http {
            caller.stream.write_all(&[PING]).await?;
        }
        Ok(caller)
    }

    pub async fn exchange(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.request).await?;
        if !self.http {
            self.message.resize(BODY, 0);
            return self.stream.read_exact(&mut self.message).await.map(drop);
        }
        let came = receive(&mut self.stream, &mut self.message).await?;
        if came && self.message.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err(io::Error::other("no good answer")) }
    }
}

/// Does `work` over so many connections: `warm` seconds unseen, then `between` is called, then for `seconds`.
pub fn run(
    work: Work,
    (to, connections): (SocketAddr, usize),
    (warm, seconds): (f64, f64),
    between: impl FnOnce(),
) -> io::Result<Done> {
    let seen = Rc::new(RefCell::new(Done::default()));
    runtime()?.block_on(LocalSet::new().run_until(async move {
        for at in 0..connections {
            let seen = Rc::clone(&seen);
            spawn_local(async move {
                let share = (at, connections);
                while one(work, to, share, &seen).await.is_err() {
                    seen.borrow_mut().errors += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        tokio::time::sleep(Duration::from_secs_f64(warm)).await;
        between();
        seen.take();
        let start = Instant::now();
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        let mut done = seen.take();
        done.seconds = start.elapsed().as_secs_f64();
        done.latencies.sort_unstable();
        Ok(done)
    }))
}

/// Opens so many connections, makes one exchange on each, and calls `then` while all of them are at rest.
pub fn hold<T>(to: SocketAddr, connections: usize, then: impl FnOnce(usize) -> T) -> io::Result<T> {
    const AT_ONCE: usize = 64;
    runtime()?.block_on(LocalSet::new().run_until(async move {
        let mut held = Vec::with_capacity(connections);
        for _ in 0..connections.div_ceil(AT_ONCE) {
            let open = || async move {
                let mut caller = Caller::open(to, false).await.ok()?;
                caller.exchange().await.ok().map(|()| caller.stream)
            };
            let some: Vec<_> = (0..AT_ONCE.min(connections - held.len())).map(|_| spawn_local(open())).collect();
            for one in some {
                held.extend(one.await.ok().flatten());
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(then(held.len()))
    }))
}

async fn one(work: Work, to: SocketAddr, share: (usize, usize), seen: &RefCell<Done>) -> io::Result<()> {
    match work {
        Work::Up | Work::Down => bulk(work == Work::Up, to, seen).await,
        Work::Ping { http, rate } => ping(Caller::open(to, http).await?, rate, share, seen).await,
        Work::Connect => loop {
            let start = Instant::now();
            Caller::open(to, false).await?.exchange().await?;
            note(seen, start);
        },
    }
}

async fn bulk(up: bool, to: SocketAddr, seen: &RefCell<Done>) -> io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    let mut buffer = vec![b'u'; BULK];
    stream.write_all(&[if up { UP } else { DOWN }]).await?;
    loop {
        for _ in 0..TURNS {
            let count = if up { stream.write(&buffer).await? } else { stream.read(&mut buffer).await? };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            seen.borrow_mut().bytes += count as u64;
        }
        yield_now().await;
    }
}

/// At a fixed rate, a request that had to wait for a late answer counts from the moment it was planned for.
async fn ping(mut caller: Caller, rate: Option<f64>, (at, of): (usize, usize), seen: &RefCell<Done>) -> io::Result<()> {
    let Some(rate) = rate else {
        loop {
            let start = Instant::now();
            caller.exchange().await?;
            note(seen, start);
        }
    };
    let every = Duration::from_secs_f64(of as f64 / rate);
    let mut planned = Instant::now() + every.mul_f64(1.0 + at as f64 / of as f64);
    loop {
        let mut start = planned;
        if Instant::now() < planned {
            tokio::time::sleep_until(planned.into()).await;
            start = Instant::now();
        }
        caller.exchange().await?;
        note(seen, start);
        planned += every;
    }
}

fn note(seen: &RefCell<Done>, start: Instant) {
    let taken = u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX);
    seen.borrow_mut().latencies.push(taken);
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
