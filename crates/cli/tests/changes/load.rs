//! Traffic that must not be lost, and somebody outside who tries in clear.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Error, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::Outcome;
use super::mesh::{BACK, Mesh, PORT, SERVICE, echo, until};
use crate::common::PATIENCE;

/// The application's port for HTTP, and its service.
const HTTP_PORT: u16 = 8081;
const HTTP: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 11), 80);
const HTTP_SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.11, selector: {app: back}, ports: [{name: http, port: 80, targetPort: 8081}]}
";
/// How long between two calls of one kind.
const PACE: Duration = Duration::from_millis(5);
/// How long a short connection of raw TCP lives: well below the drain.
const SHORT: Duration = Duration::from_millis(300);

/// Adds an HTTP application to the mesh.
pub fn add_http(mesh: &Mesh) {
    std::fs::write(mesh.folder.join("config/web.yaml"), HTTP_SERVICE).unwrap();
    let bound = mesh.network.host("shop/back").unwrap().namespace.enter(|| TcpListener::bind(("0.0.0.0", HTTP_PORT)));
    let listener = bound.unwrap().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(&stream));
        }
    });
}

fn serve(stream: &TcpStream) {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    while head(&mut reader).is_ok() {
        if writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
}

/// Reads the head of a message; returns its first line.
fn head(reader: &mut impl BufRead) -> std::io::Result<String> {
    let (mut first, mut line) = (String::new(), String::new());
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(Error::other("the connection ended before the message did"));
        }
        if first.is_empty() {
            first.clone_from(&line);
        }
    }
    Ok(first)
}

fn get(reader: &mut BufReader<&TcpStream>, mut writer: &TcpStream) -> std::io::Result<()> {
    writer.write_all(b"GET / HTTP/1.1\r\nhost: web.shop\r\n\r\n")?;
    let status = head(reader)?;
    let mut body = [0; 2];
    reader.read_exact(&mut body)?;
    if status.starts_with("HTTP/1.1 200 ") && body == *b"ok" { Ok(()) } else { Err(Error::other(status)) }
}

fn connect(to: impl Into<SocketAddr>) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to.into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Traffic of one kind, until it is over.
type Work = fn(&Load);

/// Ends the traffic when it is dropped.
pub struct Ending<'a>(&'a Load);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// The traffic and what became of it.
#[derive(Default)]
pub struct Load {
    over: AtomicBool,
    /// Requests over kept connections, over connections of their own, raw TCP.
    calls: [AtomicU64; 3],
    in_clear: AtomicU64,
    in_clear_refused: AtomicU64,
    plaintext_refused: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Starts all of it.
    pub fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, mesh: &'scope Mesh) {
        let works: [(&str, Work); 5] = [
            ("shop/front", Self::kept),
            ("shop/front", Self::single),
            ("shop/front", Self::raw),
            ("shop/front", Self::long),
            ("shop/evil", Self::in_clear),
        ];
        for (host, work) in works {
            let namespace = &mesh.network.host(host).unwrap().namespace;
            scope.spawn(move || namespace.enter(|| work(self)).unwrap());
        }
        self.goes_on();
    }

    /// Waits until every kind of call was made some more times.
    pub fn goes_on(&self) {
        let before = self.calls.each_ref().map(|calls| calls.load(Ordering::Relaxed));
        let clear = self.tries();
        until("more calls", || {
            let now = self.calls.each_ref().map(|calls| calls.load(Ordering::Relaxed));
            self.is_over() || (now.iter().zip(before).all(|(now, before)| *now > before + 2) && self.tries() > clear + 2)
        });
    }

    /// Whether a call in clear that begins from now on may be answered.
    pub fn may_take_plaintext(&self, may: bool) {
        self.plaintext_refused.store(!may, Ordering::SeqCst);
    }

    /// Ends the traffic when it is dropped.
    pub fn ends_with_this(&self) -> Ending<'_> {
        Ending(self)
    }

    /// What came of it.
    pub fn outcome(&self, refusals: [BTreeMap<String, u64>; 2]) -> Outcome {
        let calls = self.calls.iter().map(|calls| calls.load(Ordering::Relaxed)).sum();
        Outcome { calls, failures: self.failures.lock().unwrap().clone(), refusals }
    }

    /// How it goes.
    pub fn line(&self) -> String {
        let [kept, single, raw] = self.calls.each_ref().map(|calls| calls.load(Ordering::Relaxed));
        let (clear, refused) = (self.in_clear.load(Ordering::Relaxed), self.in_clear_refused.load(Ordering::Relaxed));
        let failed = self.failures.lock().unwrap().len();
        format!("kept {kept}, single {single}, raw {raw}, in clear {clear} (refused {refused}), failed {failed}")
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn tries(&self) -> u64 {
        self.in_clear.load(Ordering::Relaxed) + self.in_clear_refused.load(Ordering::Relaxed)
    }

    fn note(&self, kind: usize, what: &str, outcome: std::io::Result<()>) {
        self.calls[kind].fetch_add(1, Ordering::Relaxed);
        if let Err(error) = outcome {
            self.fail(format!("{what}: {error}"));
        }
    }

    fn fail(&self, what: String) {
        self.failures.lock().unwrap().push(what);
    }

    /// Requests over one connection for as long as it lives, which has to be for ever.
    fn kept(&self) {
        while !self.is_over() {
            let stream = match connect(HTTP) {
                Ok(stream) => stream,
                Err(error) => {
                    self.note(0, "a kept connection", Err(error));
                    continue;
                }
            };
            let mut reader = BufReader::new(&stream);
            let mut lives = true;
            while lives && !self.is_over() {
                let outcome = get(&mut reader, &stream);
                lives = outcome.is_ok();
                self.note(0, "a request over a kept connection", outcome);
                std::thread::sleep(PACE);
            }
        }
    }

    fn single(&self) {
        while !self.is_over() {
            let outcome = connect(HTTP).and_then(|stream| get(&mut BufReader::new(&stream), &stream));
            self.note(1, "a request of its own", outcome);
            std::thread::sleep(PACE);
        }
    }

    fn raw(&self) {
        while !self.is_over() {
            let outcome = connect(SERVICE).and_then(|mut stream| {
                let end = Instant::now() + SHORT;
                while Instant::now() < end {
                    echo(&mut stream, b"short")?;
                    std::thread::sleep(PACE);
                }
                Ok(())
            });
            self.note(2, "raw TCP", outcome);
        }
    }

    /// One connection that lives longer than the drain: it may be cut, by that alone.
    fn long(&self) {
        while !self.is_over() {
            let Ok(mut stream) = connect(SERVICE) else {
                self.fail("a long connection is not taken".to_owned());
                continue;
            };
            while !self.is_over() && echo(&mut stream, b"long").is_ok() {
                std::thread::sleep(PACE);
            }
        }
    }

    /// Somebody without a sidecar calls in clear.
    fn in_clear(&self) {
        while !self.is_over() {
            let refused = self.plaintext_refused.load(Ordering::SeqCst);
            let answered = connect((BACK, PORT)).and_then(|mut stream| echo(&mut stream, b"in clear")).is_ok();
            if answered { &self.in_clear } else { &self.in_clear_refused }.fetch_add(1, Ordering::Relaxed);
            if answered && refused && self.plaintext_refused.load(Ordering::SeqCst) {
                self.fail("plaintext is accepted although STRICT is enforced".to_owned());
            }
            std::thread::sleep(PACE);
        }
    }
}
