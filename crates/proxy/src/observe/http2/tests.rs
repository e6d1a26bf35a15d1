//! Conversations between the h2 library's client and server, overheard.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderMap, Request, Response};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::{Http2, PREFACE};
use crate::observe::{Exchange, ExchangeEnd, Lost, RequestProtocol};

type Heard = Arc<Mutex<Vec<(bool, Vec<u8>)>>>;

/// The client's end of a connection, with everything that passes written down: `true` for what it sends.
struct Tap(DuplexStream, Heard);

impl AsyncRead for Tap {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.0).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.1.lock().unwrap().push((false, buffer.filled()[before..].to_vec()));
        }
        read
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.1.lock().unwrap().push((true, bytes[..*count].to_vec()));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// What a server does with a path.
async fn serve(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<hyper::body::Bytes>) {
    let path = request.uri().path().to_owned();
    let big = "v".repeat(20_000);
    let answer = |status: u16| Response::builder().status(status);
    match path.as_str() {
        "/reset" => respond.send_reset(h2::Reason::CANCEL),
        "/none" => drop(respond.send_response(answer(204).body(()).unwrap(), true)),
        "/large-head" => drop(respond.send_response(answer(500).header("x-big", big).body(()).unwrap(), true)),
        "/grpc" => {
            let answer = answer(200).header("content-type", "application/grpc").body(()).unwrap();
            let mut body = respond.send_response(answer, false).unwrap();
            for part in [&b"\0\0\0\0\x03ab"[..], b"c\0\0\0", b"\0\0\0\0\0\0\x01x"] {
                body.send_data(hyper::body::Bytes::copy_from_slice(part), false).unwrap();
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "5".parse().unwrap());
            body.send_trailers(trailers).unwrap();
        }
        "/trailers-only" => {
            let answer = answer(200).header("content-type", "application/grpc").header("grpc-status", "12");
            drop(respond.send_response(answer.body(()).unwrap(), true));
        }
        _ => {
            let mut body = respond.send_response(answer(200).header("x-index", &path).body(()).unwrap(), false).unwrap();
            body.send_data(hyper::body::Bytes::from(vec![7; 3000]), true).unwrap();
        }
    }
}

/// Sends requests to `paths`, one after the other, and returns what was heard.
async fn converse(paths: &[&str]) -> Vec<(bool, Vec<u8>)> {
    let heard = Heard::default();
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let mut server = h2::server::handshake(far).await.unwrap();
        while let Some(Ok((request, respond))) = server.accept().await {
            tokio::spawn(serve(request, respond));
        }
    });
    let (mut client, connection) = h2::client::handshake(Tap(near, Arc::clone(&heard))).await.unwrap();
    tokio::spawn(connection);
    for path in paths {
        client = client.ready().await.unwrap();
        let grpc = path.contains("grpc") || path.contains("trailers");
        let kind = if grpc { "application/grpc+proto" } else { "text/plain" };
        let request = Request::post(format!("http://host.example{path}")).header("content-type", kind).body(()).unwrap();
        let (answer, mut body) = client.send_request(request, false).unwrap();
        body.send_data(hyper::body::Bytes::from_static(b"\0\0\0\0\x05hello"), true).unwrap();
        let Ok(answer) = answer.await else { continue };
        let mut answer = answer.into_body();
        while let Some(Ok(data)) = answer.data().await {
            let _ = answer.flow_control().release_capacity(data.len());
        }
        let _ = answer.trailers().await;
    }
    heard.lock().unwrap().clone()
}

fn observe(heard: &[(bool, Vec<u8>)], mut cut: impl FnMut() -> usize) -> Result<Vec<Exchange>, Lost> {
    let (now, mut seen, mut http2) = (Instant::now(), Vec::new(), Http2::new(true));
    for (caller, bytes) in heard {
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(cut().min(bytes.len()));
            bytes = rest;
            let out = &mut |exchange| seen.push(exchange);
            if *caller { http2.received(piece, now, out)? } else { http2.sent(piece, now, out)? }
        }
    }
    assert_eq!(http2.outstanding(), 0);
    Ok(seen)
}

const PATHS: [&str; 9] =
    ["/", "/none", "/grpc", "/large-head", "/reset", "/", "/trailers-only", "/grpc", "/a-path-that-is-longer-than-others"];

fn heard() -> Vec<(bool, Vec<u8>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(converse(&PATHS))
}

#[test]
fn conversations_of_h2_are_seen_whatever_the_pieces() {
    let heard = heard();
    for size in [usize::MAX, 1, 2, 7, 9, 10, 100, 4096] {
        let seen = observe(&heard, || size).unwrap();
        let facts: Vec<_> =
            seen.iter().map(|one| (one.line.as_ref().unwrap().path.as_str(), one.status, one.grpc_status)).collect();
        let expected: Vec<(&str, u16, Option<i8>)> = PATHS
            .iter()
            .map(|path| match *path {
                "/none" => (*path, 204, None),
                "/grpc" => (*path, 200, Some(5)),
                "/large-head" => (*path, 500, None),
                "/reset" => (*path, 0, None),
                "/trailers-only" => (*path, 200, Some(12)),
                path => (path, 200, None),
            })
            .collect();
        assert_eq!(facts, expected, "in pieces of {size}");
        let grpc = &seen[2];
        assert_eq!((grpc.protocol, grpc.request_messages, grpc.response_messages), (RequestProtocol::Grpc, 1, 3));
        assert_eq!((seen[4].end, seen[0].end), (ExchangeEnd::ServerReset, ExchangeEnd::Whole));
        assert!(seen[0].response_bytes > 3009 && seen[0].response_bytes < 3100 && seen[3].response_bytes > 10_000);
        let line = seen[0].line.as_ref().unwrap();
        assert_eq!((line.method.as_str(), line.authority.as_str()), ("POST", "host.example"));
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Frames that h2 does not send of itself: padding, priority, continuations, a table that changes its size, a promise.
#[test]
fn the_rarer_frames_are_understood() {
    let mut caller = PREFACE.to_vec();
    // Padded, with priority; the block (:method GET, :path /, :scheme http, x-a: b indexed) in two parts.
    caller.extend(frame(1, 0x8 | 0x20 | 0x1, 1, &[2, 0, 0, 0, 0, 9, 0x82, 0x84, 0x86, 0x40, 0, 0]));
    caller.extend(frame(9, 0, 1, &[3, b'x', b'-', b'a', 1]));
    caller.extend(frame(9, 0x4, 1, b"b"));
    let mut server = frame(5, 0x4, 1, &[0, 0, 0, 2, 0x48, 3, b'4', b'1', b'8']);
    // The promise has put :status 418 into the table; the answer refers to it, after the table was made smaller.
    server.extend(frame(1, 0x4, 1, &[0x3f, 0x21, 0xbe]));
    server.extend(frame(0, 0x8 | 0x1, 1, &[3, b'a', b'b', 0, 0, 0]));
    for size in [usize::MAX, 1, 3] {
        let seen = observe(&[(true, caller.clone()), (false, server.clone())], || size).unwrap();
        assert_eq!(seen.iter().map(|one| one.status).collect::<Vec<_>>(), [418], "in pieces of {size}");
    }
    for (wrong, why) in [
        (frame(0, 0, 0, b"x"), Lost::Malformed),
        (frame(9, 4, 1, b""), Lost::Malformed),
        (frame(1, 0x8 | 0x4, 1, &[9, 0]), Lost::Malformed),
        (frame(1, 0x4, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), Lost::TooMuch),
        (frame(1, 0x4, 1, &[0xfe]), Lost::Malformed),
        (frame(1, 0x4, 1, &[0x3f, 0xe1, 0xff, 0x07]), Lost::TooMuch),
        (frame(1, 0x4, 2, &[0x82]), Lost::Malformed),
    ] {
        assert_eq!(observe(&[(true, [&PREFACE[..], &wrong].concat())], || usize::MAX), Err(why), "{wrong:x?}");
    }
    let many: Vec<u8> = (0..=super::MAX_STREAMS as u32).flat_map(|n| frame(1, 0x4, n * 2 + 1, &[0x82])).collect();
    let mut http2 = Http2::new(false);
    assert_eq!(http2.received(&[&PREFACE[..], &many].concat(), Instant::now(), &mut |_| {}), Err(Lost::TooMuch));
}

proptest! {
    #[test]
    fn garbage_is_survived(at in 0usize..4000, with in any::<u8>(), cuts in prop::collection::vec(1usize..50, 1..20)) {
        thread_local!(static HEARD: Vec<(bool, Vec<u8>)> = heard());
        let mut heard = HEARD.with(Clone::clone);
        let mut left = at;
        for (_, bytes) in &mut heard {
            if let Some(byte) = bytes.get_mut(left) {
                *byte = with;
                break;
            }
            left -= bytes.len();
        }
        let (now, mut http2) = (Instant::now(), Http2::new(true));
        let mut cuts = cuts.iter().cycle();
        'all: for (caller, bytes) in &heard {
            let mut bytes = &bytes[..];
            while !bytes.is_empty() {
                let (piece, rest) = bytes.split_at((*cuts.next().unwrap()).min(bytes.len()));
                bytes = rest;
                let seen = if *caller { http2.received(piece, now, &mut |_| {}) } else { http2.sent(piece, now, &mut |_| {}) };
                if seen.is_err() {
                    break 'all;
                }
            }
        }
        http2.end(now, ExchangeEnd::CallerGone, &mut |_| {});
    }
}
