//! Requests one after the other, without end, that count each failure.

use std::io::{self, BufReader};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::http::{Message, Url, read_message, write_request};
use crate::Marker;

/// What to do.
#[derive(Clone, Debug)]
pub struct Load {
    /// `http://HOST:PORT/PATH`.
    pub url: String,
    /// Pause between two requests.
    pub pause: Duration,
    /// Requests that one connection carries; 1 opens one for each.
    pub per_connection: u32,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Requests sent.
    pub requests: u64,
    /// Of those, without a good answer.
    pub failed: u64,
    /// Connections made.
    pub connections: u64,
    /// Connections that the other side ended between two requests; nothing is lost by that.
    pub ended_between: u64,
    /// What the first failures were.
    pub failures: Vec<String>,
}

const MOST_FAILURES: usize = 8;

/// Sends requests until `stop`.
///
/// # Errors
/// The URL is none.
pub fn load(what: &Load, stop: &AtomicBool) -> Result<Totals, String> {
    let url = Url::parse(&what.url)?;
    let mut totals = Totals::default();
    let mut connection: Option<(BufReader<TcpStream>, u32)> = None;
    while !stop.load(Ordering::Relaxed) {
        if connection.as_ref().is_some_and(|(reader, _)| has_ended(reader.get_ref())) {
            totals.ended_between += 1;
            connection = None;
        }
        totals.requests += 1;
        match request(&url, connection.take(), &mut totals.connections) {
            Ok((reader, carried, response)) => {
                if carried < what.per_connection && !response.wants_close() {
                    connection = Some((reader, carried));
                }
            }
            Err(error) => {
                totals.failed += 1;
                if totals.failures.len() < MOST_FAILURES {
                    totals.failures.push(format!("request {}: {error}", totals.requests));
                }
            }
        }
        std::thread::sleep(what.pause);
    }
    Ok(totals)
}

type Connection = (BufReader<TcpStream>, u32);

fn request(url: &Url, connection: Option<Connection>, connections: &mut u64) -> io::Result<(BufReader<TcpStream>, u32, Message)> {
    let (mut reader, carried) = match connection {
        Some(connection) => connection,
        None => {
            *connections += 1;
            (BufReader::new(url.connect()?), 0)
        }
    };
    let marker = Marker::random();
    write_request(&mut reader.get_ref(), url, Some(&marker))?;
    let Some(response) = read_message(&mut reader)? else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without an answer"));
    };
    if response.status() != Some(200) {
        return Err(io::Error::other(format!("answered {}", response.start)));
    }
    if !response.body.windows(marker.as_str().len()).any(|window| window == marker.as_str().as_bytes()) {
        return Err(io::Error::other("the answer is to another request"));
    }
    Ok((reader, carried + 1, response))
}

/// Whether the other side has ended this idle connection.
fn has_ended(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let looked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut byte));
    let ended = !matches!(looked, Err(ref error) if error.kind() == io::ErrorKind::WouldBlock);
    stream.set_nonblocking(false).is_err() || ended
}
