//! The observer of HTTP/1: the same whatever the pieces, and what hyper makes of the same bytes.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Instant;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mutua_proxy::observe::http1::Http1;
use mutua_proxy::observe::{Exchange, ExchangeEnd, Lost, Standing};
use tokio::runtime::Runtime;

use super::http1_grammar;
use crate::script::Script;
use crate::{Target, pieces};

/// The target. Its input is what both sides say; a byte [`CALLER`] or [`SERVER`] tells who speaks from here on.
pub const TARGET: Target = Target {
    name: "http1",
    run,
    grammar: http1_grammar::conversation,
    words: http1_grammar::WORDS,
    longest: 16 * 1024,
    memory: 4 * 1024 * 1024,
    memory_per_byte: 100,
};

/// From here on the caller speaks.
pub const CALLER: u8 = 0xfe;
/// From here on the server speaks.
pub const SERVER: u8 = 0xff;

/// The one time at which everything happens.
static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
}

/// What must hold.
pub fn run(bytes: &[u8]) {
    let turns = turns(bytes);
    pieces_make_no_difference(&turns);
    let said = |by: bool| turns.iter().filter(|turn| turn.0 == by).flat_map(|turn| turn.1.to_vec()).collect::<Vec<u8>>();
    as_hyper_serves(&said(true));
    as_hyper_is_answered(&said(false));
}

/// Who says what: `true` is the caller, who begins.
fn turns(bytes: &[u8]) -> Vec<(bool, &[u8])> {
    let (mut turns, mut caller) = (Vec::new(), true);
    for piece in bytes.split_inclusive(|byte| matches!(*byte, CALLER | SERVER)) {
        let (last, rest) = piece.split_last().unwrap_or((&0, &[]));
        turns.push((caller, if matches!(*last, CALLER | SERVER) { rest } else { piece }));
        caller = match *last {
            CALLER => true,
            SERVER => false,
            _ => caller,
        };
    }
    turns
}

struct Seen {
    exchanges: Vec<Exchange>,
    /// Where the connection stands at the end, or why the observer does not know.
    standing: Result<Standing, Lost>,
}

fn observe<'a>(said: impl IntoIterator<Item = (bool, &'a [u8])>) -> Seen {
    let (now, mut exchanges, mut http1) = (*NOW, Vec::new(), Http1::new(true));
    for (caller, bytes) in said {
        let seen =
            if caller { http1.received(bytes, now) } else { http1.sent(bytes, now, &mut |exchange| exchanges.push(exchange)) };
        if let Err(lost) = seen {
            return Seen { exchanges, standing: Err(lost) };
        }
    }
    let standing = Ok(http1.standing());
    http1.end(now, ExchangeEnd::ServerGone, &mut |exchange| assert_eq!(exchange.end, ExchangeEnd::ServerGone));
    Seen { exchanges, standing }
}

fn pieces_make_no_difference(turns: &[(bool, &[u8])]) {
    let whole = observe(turns.iter().copied());
    let cut = observe(turns.iter().flat_map(|(caller, bytes)| pieces(bytes).into_iter().map(|piece| (*caller, piece))));
    // Who notices earlier that a head is none sees fewer answers.
    let both = whole.exchanges.len().min(cut.exchanges.len());
    assert_eq!(whole.exchanges[..both], cut.exchanges[..both], "{:?}, {:?}", whole.standing, cut.standing);
    match (whole.standing, cut.standing) {
        (Ok(now), Ok(then)) => assert_eq!((now, whole.exchanges.len()), (then, cut.exchanges.len())),
        (Err(_), Err(_)) => {}
        // Malformed heads may be noticed before they are whole, or when they are; never at a rest.
        (Err(lost), Ok(standing)) | (Ok(standing), Err(lost)) => {
            assert!(matches!(lost, Lost::Malformed | Lost::TooMuch | Lost::Ambiguous), "{lost:?} or {standing:?}");
            assert_ne!(standing, Standing::Between, "{lost:?}");
        }
    }
}

/// A request as hyper's server takes it: method, target, bytes of the body.
type Taken = (String, String, u64);

/// What hyper's server takes for requests, the observer does.
fn as_hyper_serves(requests: &[u8]) {
    let (script, heard) = Script::new(&pieces(requests));
    let taken: Arc<Mutex<Vec<Taken>>> = Arc::default();
    let log = Arc::clone(&taken);
    let service = service_fn(move |request: Request<Incoming>| serve(request, Arc::clone(&log)));
    let server = hyper::server::conn::http1::Builder::new().half_close(true).serve_connection(TokioIo::new(script), service);
    let served = RUNTIME.with(|runtime| runtime.block_on(server));
    let (heard, taken) = (heard.lock().unwrap(), taken.lock().unwrap());
    let seen = observe(heard.iter().map(|(caller, bytes)| (*caller, &bytes[..])));
    for (exchange, (method, target, body)) in seen.exchanges.iter().zip(&*taken) {
        let line = exchange.line.as_ref().unwrap();
        assert_eq!(&line.method, method);
        assert!(line.path.contains(target.as_str()) || !line.path.starts_with('/'), "{:?}, not {target:?}", line.path);
        assert!(exchange.request_bytes > *body, "{} bytes with a body of {body}", exchange.request_bytes);
    }
    if seen.standing.is_ok() && served.is_ok() {
        assert_eq!(seen.exchanges.len(), taken.len(), "{:?}", seen.standing);
    }
    // What is told to be between two messages is so: hyper has answered everything, and nothing was left over.
    if seen.standing == Ok(Standing::Between) {
        assert!(served.is_ok(), "{served:?}");
    }
}

async fn serve(request: Request<Incoming>, log: Arc<Mutex<Vec<Taken>>>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    log.lock().unwrap().push((head.method.to_string(), target.chars().take(100).collect(), body.len() as u64));
    let (status, answer) = match body.len() % 3 {
        0 => (200, Bytes::from_static(b"hello")),
        1 => (404, Bytes::new()),
        _ => (204, Bytes::new()),
    };
    let mut response = Response::new(Full::new(answer));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap();
    Ok(response)
}

/// What hyper's client takes for an answer to its request, the observer does.
fn as_hyper_is_answered(answer: &[u8]) {
    let method = if answer.len().is_multiple_of(5) { "HEAD" } else { "GET" };
    let (script, heard) = Script::new(&pieces(answer));
    let read = RUNTIME.with(|runtime| runtime.block_on(ask(method, script)));
    let Some((status, body)) = read else { return };
    // The request was written in whole before the first byte of the answer was read, or the observer could not follow.
    let heard = heard.lock().unwrap();
    let seen = observe(heard.iter().map(|(server, bytes)| (!*server, &bytes[..])));
    let Some(exchange) = seen.exchanges.first() else {
        let open = matches!(seen.standing, Ok(Standing::Asked | Standing::Unknown | Standing::Busy));
        assert!(open || matches!(seen.standing, Err(Lost::Ambiguous | Lost::Unasked)), "{status}: {:?}", seen.standing);
        return;
    };
    assert_eq!(exchange.status, status);
    assert!(exchange.response_bytes > body, "{} bytes with a body of {body}", exchange.response_bytes);
}

/// Status and bytes of the body.
async fn ask(method: &str, script: Script) -> Option<(u16, u64)> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(script)).await.ok()?;
    let request = Request::builder().method(method).uri("/").header("host", "a").body(Full::<Bytes>::default()).unwrap();
    let answered = async {
        let answer = sender.send_request(request).await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some((status, body.len() as u64))
    };
    tokio::join!(answered, connection).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn much_of_what_the_grammar_makes_is_followed_to_its_end() {
        let (mut whole, mut between) = (0, 0);
        for turn in 0..300 {
            let bytes = http1_grammar::conversation(&mut Random::new(1, turn));
            let seen = observe(turns(&bytes));
            whole += seen.exchanges.len();
            between += usize::from(seen.standing == Ok(Standing::Between));
        }
        assert!(whole > 150 && between > 20, "{whole} exchanges, {between} at rest");
    }
}
