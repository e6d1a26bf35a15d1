//! One call, as an application makes it, and what came of it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::http::{PATIENCE, Url, read_message, write_request};
use super::tls::{MeshClient, TlsStream};
use crate::Marker;

/// What to call.
#[derive(Clone, Debug)]
pub struct Call {
    /// `http://HOST:PORT/PATH`, `tcp://HOST:PORT` (the server speaks first), or `mesh://HOST:PORT/PATH`: HTTP over mesh
    /// TLS done by the caller itself.
    pub url: String,
    /// Carried in the request, and given back in the answer.
    pub marker: Marker,
    /// For `mesh://`.
    pub mesh: Option<MeshClient>,
    /// Where a datagram with this marker goes when the call is over, for who listens.
    pub sentinel: Option<(SocketAddr, Marker)>,
}

/// What came of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The answer was whole, and good.
    pub ok: bool,
    /// The HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// Why there was no good answer.
    pub error: Option<String>,
    /// The caller's own address and port, by which the connection is found again in a sidecar's list.
    pub local: Option<SocketAddr>,
    /// What the service answered.
    pub body: Value,
    /// From connecting to the end of the answer.
    pub millis: u64,
}

/// How long a TCP caller waits for the server to speak first.
const GREETING_WITHIN: Duration = Duration::from_secs(1);

/// Makes one call; what went wrong stands in the outcome.
#[must_use]
pub fn call(what: &Call) -> Outcome {
    let begun = Instant::now();
    let mut outcome = Outcome::default();
    if let Err(error) = attempt(what, &mut outcome) {
        outcome.ok = false;
        outcome.error = Some(error.to_string());
    }
    outcome.millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    if let Some((address, marker)) = &what.sentinel {
        // The listener that misses it says so.
        let _ = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(marker.as_str().as_bytes(), address));
    }
    outcome
}

fn attempt(what: &Call, outcome: &mut Outcome) -> io::Result<()> {
    let url = Url::parse(&what.url).map_err(io::Error::other)?;
    let stream = url.connect()?;
    outcome.local = Some(stream.local_addr()?);
    match (url.scheme.as_str(), &what.mesh) {
        ("http", _) => over_http(stream, &url, &what.marker, outcome),
        ("tcp", _) => over_tcp(&stream, &what.marker, outcome),
        ("mesh", Some(client)) => over_http(TlsStream::connect(client, stream)?, &url, &what.marker, outcome),
        (scheme, _) => Err(io::Error::other(format!("{scheme}: http, tcp, or mesh with a certificate"))),
    }
}

fn over_http(mut stream: impl io::Read + Write, url: &Url, marker: &Marker, outcome: &mut Outcome) -> io::Result<()> {
    write_request(&mut stream, url, Some(marker))?;
    let Some(response) = read_message(&mut BufReader::new(&mut stream))? else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"));
    };
    outcome.status = response.status();
    outcome.body = serde_json::from_slice(&response.body).unwrap_or_default();
    if outcome.status != Some(200) {
        return Err(io::Error::other(format!("answered {}", response.start)));
    }
    if outcome.body["marker"] != marker.as_str() {
        return Err(io::Error::other("the answer is to another request"));
    }
    outcome.ok = true;
    Ok(())
}

fn over_tcp(mut stream: &TcpStream, marker: &Marker, outcome: &mut Outcome) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    stream.set_read_timeout(Some(GREETING_WITHIN))?;
    match reader.read_line(&mut line) {
        Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without a greeting")),
        // Who is not greeted speaks first after all, to learn more.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        other => drop(other?),
    }
    let greeting = line.trim_end().to_owned();
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{marker}\r\n").as_bytes())?;
    line.clear();
    reader.read_line(&mut line)?;
    if greeting.is_empty() && line.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without a greeting"));
    }
    outcome.body = serde_json::json!({ "greeting": greeting, "answer": line.trim_end() });
    if greeting.is_empty() || line.trim_end() != format!("250 {marker}") {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the answer"));
    }
    outcome.ok = true;
    Ok(())
}
