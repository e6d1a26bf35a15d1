//! The observer of HTTP/2: the same whatever the pieces, and what the h2 library's server makes of the same bytes.

use std::sync::LazyLock;
use std::time::Instant;

use axum::http::{HeaderMap, Response};
use hyper::body::Bytes;
use mutua_proxy::observe::http2::{Http2, PREFACE};
use mutua_proxy::observe::{Exchange, ExchangeEnd, Lost, MAX_TARGET};
use tokio::runtime::Runtime;

use super::http2_grammar;
use crate::script::{Heard, Script};
use crate::{Target, pieces};

/// The target. Its input is what a caller says behind the preface.
pub const TARGET: Target = Target {
    name: "http2",
    run,
    grammar: http2_grammar::frames,
    words: http2_grammar::WORDS,
    longest: 32 * 1024,
    memory: 4 * 1024 * 1024,
    memory_per_byte: 200,
};

static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
}

/// What must hold.
pub fn run(bytes: &[u8]) {
    let caller = [&PREFACE[..], bytes].concat();
    // The same bytes as a server's: its frames are of the same form.
    same_in_pieces(&[(true, caller.clone()), (false, bytes.to_vec())]);
    let (served, heard) = serve(&caller);
    let heard = heard.lock().unwrap().clone();
    same_in_pieces(&heard);
    let seen = observe(heard.iter().map(|(caller, bytes)| (*caller, &bytes[..])));
    as_h2_serves(&served, &seen);
    // What breaks the rules h2 objects to as well, if only to one stream.
    if seen.lost == Some(Lost::Malformed) {
        let said = heard.iter().filter(|(caller, _)| !caller).flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<u8>>();
        assert!(served.broken.is_some() || objects(&said), "h2 understands what we do not");
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    exchanges: Vec<Exchange>,
    lost: Option<Lost>,
}

fn observe<'a>(said: impl IntoIterator<Item = (bool, &'a [u8])>) -> Seen {
    let (mut exchanges, mut lost, mut http2) = (Vec::new(), None, Http2::new(true));
    for (caller, bytes) in said {
        let out = &mut |exchange| exchanges.push(exchange);
        let seen = if caller { http2.received(bytes, *NOW, out) } else { http2.sent(bytes, *NOW, out) };
        if let Err(why) = seen {
            lost = Some(why);
            break;
        }
    }
    let mut open = Vec::new();
    http2.end(*NOW, ExchangeEnd::CallerGone, &mut |exchange| open.push(exchange));
    // In no order.
    open.sort_by_key(|exchange| format!("{exchange:?}"));
    exchanges.extend(open);
    Seen { exchanges, lost }
}

fn same_in_pieces(said: &[(bool, Vec<u8>)]) {
    let whole = observe(said.iter().map(|(caller, bytes)| (*caller, &bytes[..])));
    let cut = observe(said.iter().flat_map(|(caller, bytes)| pieces(bytes).into_iter().map(|piece| (*caller, piece))));
    // What is counted of the frame that is not understood depends on where it was cut.
    if whole.lost.is_some() {
        assert_eq!(whole.lost, cut.lost);
        assert_eq!(whole.exchanges.len(), cut.exchanges.len());
    } else {
        assert_eq!(whole, cut);
    }
}

/// A request as h2's server takes it, and the status that it is answered with.
#[derive(Debug)]
struct Taken {
    method: String,
    /// Path and query, or nothing.
    path: String,
    status: u16,
}

struct Served {
    taken: Vec<Taken>,
    /// Why the connection ended before its time.
    broken: Option<h2::Error>,
}

fn serve(caller: &[u8]) -> (Served, Heard) {
    let (script, heard) = Script::new(&pieces(caller));
    let served = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let mut served = Served { taken: Vec::new(), broken: None };
            let mut connection = match h2::server::handshake(script).await {
                Ok(connection) => connection,
                Err(error) => return Served { broken: Some(error), ..served },
            };
            while let Some(next) = connection.accept().await {
                match next {
                    Ok((request, respond)) => served.taken.push(answer(&request, respond)),
                    Err(error) => {
                        served.broken = Some(error);
                        break;
                    }
                }
            }
            served
        })
    });
    (served, heard)
}

fn answer<B>(request: &axum::http::Request<B>, mut respond: h2::server::SendResponse<Bytes>) -> Taken {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let status = [200, 204, 404, 500][path.len() % 4];
    let response = Response::builder().status(status).header("x-path-length", path.len().to_string());
    let response = response.header("content-type", if path.len().is_multiple_of(2) { "application/grpc" } else { "text/plain" });
    let response = response.body(()).unwrap();
    // Streams that are gone already take no answer.
    match path.len() % 5 {
        0 => respond.send_reset(h2::Reason::CANCEL),
        1 => drop(respond.send_response(response, true)),
        _ => {
            if let Ok(body) = respond.send_response(response, false) {
                say(body);
            }
        }
    }
    Taken { method: request.method().to_string(), path, status: if path_resets(request) { 0 } else { status } }
}

/// A message and trailers. Where there is no room for them, a reset: h2 does not like to end with answers that wait.
fn say(mut body: h2::SendStream<Bytes>) {
    const MESSAGE: &[u8] = b"\0\0\0\0\x02ab";
    body.reserve_capacity(MESSAGE.len());
    if body.capacity() < MESSAGE.len() {
        return body.send_reset(h2::Reason::CANCEL);
    }
    let _ = body.send_data(Bytes::from_static(MESSAGE), false);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "5".parse().unwrap());
    let _ = body.send_trailers(trailers);
}

fn path_resets<B>(request: &axum::http::Request<B>) -> bool {
    request.uri().path_and_query().map_or(0, |path| path.as_str().len()).is_multiple_of(5)
}

/// What h2 takes for requests the observer has seen, with the answers that they got.
fn as_h2_serves(served: &Served, seen: &Seen) {
    let mut unmatched: Vec<&Exchange> = seen.exchanges.iter().collect();
    for taken in &served.taken {
        let cut = taken.path.get(..MAX_TARGET).unwrap_or(&taken.path);
        let same = |exchange: &&Exchange| {
            let line = exchange.line.as_ref().unwrap();
            line.method == taken.method
                // Of a target's fragment h2 says nothing.
                && (line.path.split('#').next() == Some(cut) || cut.is_empty())
                && [taken.status, 0].contains(&exchange.status)
        };
        match unmatched.iter().position(same) {
            Some(at) => drop(unmatched.swap_remove(at)),
            None => assert!(seen.lost.is_some(), "{taken:?} was not seen among {unmatched:#?}"),
        }
    }
}

/// Whether a server has reset a stream, or left, over a fault of its caller.
fn objects(mut said: &[u8]) -> bool {
    const RST_STREAM: u8 = 3;
    const GOAWAY: u8 = 7;
    while let Some((head, rest)) = said.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some((content, rest)) = rest.split_at_checked(length) else { return false };
        // The code is the last but what GOAWAY says beside it; CANCEL is what we answer ourselves.
        let code = if head[3] == GOAWAY { content.get(7) } else { content.get(3) };
        if matches!(head[3], RST_STREAM | GOAWAY) && code.is_some_and(|code| ![0, 8].contains(code)) {
            return true;
        }
        said = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn h2_takes_much_of_what_the_grammar_makes() {
        let (mut taken, mut unbroken) = (0, 0);
        for turn in 0..300 {
            let bytes = http2_grammar::frames(&mut Random::new(1, turn));
            let served = serve(&[&PREFACE[..], &bytes].concat()).0;
            taken += served.taken.len();
            unbroken += usize::from(served.broken.is_none());
        }
        assert!(taken > 200 && unbroken > 60, "{taken} requests, {unbroken} connections to their end");
    }
}
