//! Conversations in HTTP/1, whole and in every kind of pieces.

use std::time::Instant;

use proptest::prelude::*;

use super::Http1;
use crate::observe::{Exchange, ExchangeEnd, Lost, Standing};

/// What one side says, in turns: `>` the caller, `<` the server, `.` the server ends.
struct Conversation {
    name: &'static str,
    turns: &'static [(char, &'static str)],
    /// Status, bytes of the request, bytes of the answer.
    seen: &'static [(u16, u64, u64)],
    ends: Result<Standing, Lost>,
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5;x=\"a\"\r\nhello\r\n0\r\nDigest: x\r\n\r\n";

const CONVERSATIONS: &[Conversation] = &[
    Conversation {
        name: "two",
        turns: &[('>', GET), ('<', OK), ('>', GET), ('<', OK)],
        seen: &[(200, 27, 40), (200, 27, 40)],
        ends: Ok(Standing::Between),
    },
    Conversation {
        name: "pipelined",
        turns: &[
            ('>', "GET / HTTP/1.1\r\n\r\nPOST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"),
            ('<', OK),
            ('<', "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
        ],
        seen: &[(200, 18, 40), (404, 42, 38)],
        ends: Ok(Standing::Between),
    },
    Conversation { name: "waits", turns: &[('>', GET)], seen: &[], ends: Ok(Standing::Asked) },
    Conversation {
        name: "half a head",
        turns: &[('>', GET), ('<', OK), ('>', "GET")],
        seen: &[(200, 27, 40)],
        ends: Ok(Standing::Busy),
    },
    Conversation { name: "chunked", turns: &[('>', GET), ('<', CHUNKED)], seen: &[(200, 27, 85)], ends: Ok(Standing::Between) },
    Conversation {
        name: "interim",
        turns: &[
            ('>', "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
            ('<', "HTTP/1.1 100 Continue\r\n\r\n"),
            ('>', "ab"),
            ('<', OK),
        ],
        seen: &[(200, 62, 65)],
        ends: Ok(Standing::Between),
    },
    Conversation {
        name: "head",
        turns: &[('>', "HEAD / HTTP/1.1\r\n\r\n"), ('<', "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"), ('>', GET), ('<', OK)],
        seen: &[(200, 19, 39), (200, 27, 40)],
        ends: Ok(Standing::Between),
    },
    Conversation {
        name: "not modified",
        turns: &[('>', GET), ('<', "HTTP/1.1 304 N\r\nContent-Length: 99\r\n\r\n"), ('>', GET), ('<', OK)],
        seen: &[(304, 27, 38), (200, 27, 40)],
        ends: Ok(Standing::Between),
    },
    Conversation {
        name: "connect",
        turns: &[('>', "CONNECT a:1 HTTP/1.1\r\n\r\n"), ('<', "HTTP/1.1 200 OK\r\n\r\n")],
        seen: &[(200, 24, 19)],
        ends: Err(Lost::Switched),
    },
    Conversation {
        name: "connect refused",
        turns: &[
            ('>', "CONNECT a:1 HTTP/1.1\r\n\r\n"),
            ('<', "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"),
            ('>', GET),
            ('<', OK),
        ],
        seen: &[(403, 24, 38), (200, 27, 40)],
        ends: Ok(Standing::Between),
    },
    Conversation {
        name: "upgrade",
        turns: &[('>', "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"), ('<', "HTTP/1.1 101 S\r\n\r\n")],
        seen: &[(101, 38, 18)],
        ends: Err(Lost::Switched),
    },
    Conversation {
        name: "to the end",
        turns: &[('>', GET), ('<', "HTTP/1.1 200 OK\r\n\r\nabc"), ('.', "")],
        seen: &[(200, 27, 22)],
        ends: Ok(Standing::Unknown),
    },
    Conversation {
        name: "close",
        turns: &[('>', "GET / HTTP/1.1\r\nConnection: x, close\r\n\r\n"), ('<', OK)],
        seen: &[(200, 40, 40)],
        ends: Ok(Standing::Unknown),
    },
    Conversation {
        name: "old",
        turns: &[('>', "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), ('<', OK)],
        seen: &[(200, 42, 40)],
        ends: Ok(Standing::Between),
    },
    Conversation {
        name: "answered early",
        turns: &[('>', "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nab"), ('<', OK), ('>', "cd"), ('>', GET), ('<', OK)],
        seen: &[(200, 40, 40), (200, 27, 40)],
        ends: Ok(Standing::Between),
    },
    Conversation {
        name: "unasked",
        turns: &[('>', GET), ('<', OK), ('<', OK)],
        seen: &[(200, 27, 40)],
        ends: Err(Lost::Unasked),
    },
    Conversation {
        name: "two lengths",
        turns: &[('>', "POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n")],
        seen: &[],
        ends: Err(Lost::Ambiguous),
    },
    Conversation {
        name: "length and chunks",
        turns: &[('>', "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n")],
        seen: &[],
        ends: Err(Lost::Ambiguous),
    },
    Conversation {
        name: "garbage",
        turns: &[('>', GET), ('<', OK), ('>', "\x01\x02\x03\r\n\r\n")],
        seen: &[(200, 27, 40)],
        ends: Err(Lost::Malformed),
    },
    Conversation {
        name: "no chunk",
        turns: &[('>', GET), ('<', "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n")],
        seen: &[],
        ends: Err(Lost::Malformed),
    },
];

/// Lets an observer see the turns, each cut where `cut` says.
fn observe(turns: &[(char, &str)], mut cut: impl FnMut(usize) -> usize) -> (Vec<Exchange>, Http1, Result<(), Lost>) {
    let (now, mut seen, mut http1) = (Instant::now(), Vec::new(), Http1::new(false));
    for (who, text) in turns {
        if *who == '.' {
            http1.sent_all(now, &mut |exchange| seen.push(exchange));
        }
        let mut bytes = text.as_bytes();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(cut(bytes.len()).clamp(1, bytes.len()));
            bytes = rest;
            let result = match who {
                '>' => http1.received(piece, now),
                _ => http1.sent(piece, now, &mut |exchange| seen.push(exchange)),
            };
            if result.is_err() {
                return (seen, http1, result);
            }
        }
    }
    (seen, http1, Ok(()))
}

fn check(conversation: &Conversation, cut: impl FnMut(usize) -> usize) {
    let (seen, http1, result) = observe(conversation.turns, cut);
    let seen: Vec<_> = seen.iter().map(|exchange| (exchange.status, exchange.request_bytes, exchange.response_bytes)).collect();
    assert_eq!(seen, conversation.seen, "{}", conversation.name);
    assert_eq!(result.map(|()| http1.standing()), conversation.ends, "{}", conversation.name);
}

#[test]
fn conversations_are_seen_whole_and_byte_by_byte() {
    for conversation in CONVERSATIONS {
        check(conversation, |all| all);
        check(conversation, |_| 1);
    }
}

#[test]
fn what_is_unanswered_at_the_end_is_told() {
    let (mut seen, mut http1, _) =
        observe(&[('>', GET), ('>', GET), ('<', "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")], |all| all);
    http1.end(Instant::now(), ExchangeEnd::ServerGone, &mut |exchange| seen.push(exchange));
    let told: Vec<_> = seen.iter().map(|exchange| (exchange.status, exchange.end)).collect();
    assert_eq!(told, [(200, ExchangeEnd::ServerGone), (0, ExchangeEnd::ServerGone)]);
}

#[test]
fn heads_and_requests_are_bounded() {
    let mut http1 = Http1::new(false);
    let endless = format!("GET /{} HTTP/1.1\r\nx: ", "a".repeat(super::MAX_HEAD));
    assert_eq!(http1.received(endless.as_bytes(), Instant::now()), Err(Lost::TooMuch));
    let mut http1 = Http1::new(false);
    let flood = GET.repeat(super::MAX_OUTSTANDING + 1);
    assert_eq!(http1.received(flood.as_bytes(), Instant::now()), Err(Lost::TooMuch));
}

proptest! {
    #[test]
    fn pieces_make_no_difference(cuts in prop::collection::vec(1usize..40, 1..50)) {
        for conversation in CONVERSATIONS {
            let mut cuts = cuts.iter().cycle();
            check(conversation, |_| *cuts.next().unwrap());
        }
    }

    /// Heads are heads exactly where httparse says so, whatever the pieces.
    #[test]
    fn heads_are_those_of_httparse(text in "(GET|P T|POST) /[a-z ]{0,4} HTTP/1\\.[01]\r?\n([A-Za-z:-]{1,5}:? ?[a-z0-9]{0,3}\r?\n){0,3}\r?\n", at in 0usize..60) {
        let mut headers = [httparse::EMPTY_HEADER; 8];
        let whole = matches!(httparse::Request::new(&mut headers).parse(text.as_bytes()), Ok(httparse::Status::Complete(n)) if n == text.len());
        let mut http1 = Http1::new(false);
        let at = at.min(text.len());
        let now = Instant::now();
        let seen = http1.received(&text.as_bytes()[..at], now).and_then(|()| http1.received(&text.as_bytes()[at..], now));
        prop_assert_eq!(seen.is_ok() && http1.standing() != Standing::Busy, whole, "{:?}", text);
    }

    #[test]
    fn garbage_is_survived(pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..60)), 0..20)) {
        let (now, mut http1) = (Instant::now(), Http1::new(true));
        prop_assume!(http1.received(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", now).is_ok());
        for (caller, piece) in pieces {
            let seen = if caller { http1.received(&piece, now) } else { http1.sent(&piece, now, &mut |_| {}) };
            if seen.is_err() {
                break;
            }
        }
        http1.end(now, ExchangeEnd::CallerGone, &mut |_| {});
    }
}
