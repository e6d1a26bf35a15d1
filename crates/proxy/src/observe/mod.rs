//! Sees the messages of an application's protocol in the bytes that pass. It is never in their way: what it does not
//! understand it stops looking at, and the stream goes on.
//!
//! [`http1`] and [`http2`] are plain state machines over bytes and a clock; [`Scribe`] writes down what they tell.

mod detecting;
mod exchange;
pub mod http1;
pub mod http2;
mod scribe;

use std::time::Instant;

pub use exchange::{Exchange, ExchangeEnd, Lost, MAX_TARGET, RequestLine, RequestProtocol};
pub use scribe::Scribe;

use self::detecting::{Detecting, Found};
use self::http1::Http1;
use self::http2::Http2;
use crate::relay::{End, Ended};

/// What looks at the bytes of one connection. Owned by the connection's task; the relay hands it every byte once, just
/// before it is passed on: afterwards it may be encrypted where it stands.
#[derive(Default)]
pub enum Observer {
    /// Nothing looks.
    #[default]
    None,
    /// The protocol is not known yet.
    Detecting(Box<(Detecting, Scribe)>),
    /// HTTP/1.
    Http1(Box<(Http1, Scribe)>),
    /// HTTP/2.
    Http2(Box<(Http2, Scribe)>),
    /// It was HTTP, and is not understood any more.
    Lost,
}

/// Where a connection stands between its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not known, or of a protocol that does not pause.
    Unknown,
    /// Within a request, or before the next one when others are unanswered and more may follow at once.
    Busy,
    /// All that was asked is whole; answers are due. Nothing more should be read of the one who asks, if the connection
    /// is to come to rest.
    Asked,
    /// Every request is answered, and no byte of another was seen.
    Between,
}

impl Observer {
    /// One that finds out what the connection is.
    #[must_use]
    pub fn new(scribe: Scribe) -> Self {
        Self::Detecting(Box::new((Detecting::default(), scribe)))
    }

    /// Whether bytes are of interest at all.
    #[must_use]
    pub fn watches(&self) -> bool {
        !matches!(self, Self::None | Self::Lost)
    }

    /// Bytes from the one who opened the connection, without TLS.
    pub fn received(&mut self, bytes: &[u8]) {
        let seen = match self {
            Self::None | Self::Lost => return,
            Self::Detecting(both) => {
                let found = both.0.received(bytes);
                return self.found(found);
            }
            Self::Http1(both) => both.0.received(bytes, Instant::now()),
            Self::Http2(both) => {
                let (http2, scribe) = &mut **both;
                http2.received(bytes, Instant::now(), &mut |exchange| scribe.record(&exchange))
            }
        };
        self.go_on(seen);
    }

    /// Bytes to the one who opened the connection, without TLS.
    pub fn sent(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let seen = match self {
            Self::None | Self::Lost => return,
            Self::Detecting(both) => {
                let found = both.0.sent(bytes);
                return self.found(found);
            }
            Self::Http1(both) => {
                let (http1, scribe) = &mut **both;
                http1.sent(bytes, Instant::now(), &mut |exchange| scribe.record(&exchange))
            }
            Self::Http2(both) => {
                let (http2, scribe) = &mut **both;
                http2.sent(bytes, Instant::now(), &mut |exchange| scribe.record(&exchange))
            }
        };
        self.go_on(seen);
    }

    /// The dialled end sends nothing more.
    pub fn sent_all(&mut self) {
        if let Self::Http1(both) = self {
            let (http1, scribe) = &mut **both;
            http1.sent_all(Instant::now(), &mut |exchange| scribe.record(&exchange));
        }
    }

    /// The relay has ended.
    pub fn end(&mut self, ended: &Ended) {
        let end = match ended {
            Ended::Closed { first: by } | Ended::Reset { by, .. } | Ended::Tls { on: by, .. } | Ended::Truncated { on: by } => {
                *by
            }
            Ended::Cut(_) | Ended::Parted => End::Upstream,
        };
        let end = if end == End::Downstream { ExchangeEnd::CallerGone } else { ExchangeEnd::ServerGone };
        let now = Instant::now();
        match std::mem::take(self) {
            Self::None | Self::Lost => {}
            Self::Detecting(both) => both.1.is_tcp(),
            Self::Http1(both) => {
                let (mut http1, mut scribe) = *both;
                http1.end(now, end, &mut |exchange| scribe.record(&exchange));
            }
            Self::Http2(both) => {
                let (mut http2, mut scribe) = *both;
                http2.end(now, end, &mut |exchange| scribe.record(&exchange));
            }
        }
    }

    /// Where the connection stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self {
            Self::Http1(both) => both.0.standing(),
            _ => Standing::Unknown,
        }
    }

    fn found(&mut self, found: Found) {
        let Self::Detecting(both) = std::mem::take(self) else { return };
        let (detecting, scribe) = *both;
        let with_line = scribe.wants_lines();
        *self = match found {
            Found::Nothing => Self::Detecting(Box::new((detecting, scribe))),
            Found::Other => {
                scribe.is_tcp();
                Self::None
            }
            Found::Http1(head) => {
                let mut observer = Self::Http1(Box::new((Http1::new(with_line), scribe)));
                observer.received(&head);
                observer
            }
            Found::Http2 { head, answer } => {
                let mut observer = Self::Http2(Box::new((Http2::new(with_line), scribe)));
                observer.received(&head);
                observer.sent(&answer);
                observer
            }
        };
    }

    fn go_on(&mut self, seen: Result<(), Lost>) {
        let Err(why) = seen else { return };
        if let Self::Http1(both) = &self {
            both.1.lost(why);
        } else if let Self::Http2(both) = &self {
            both.1.lost(why);
        }
        *self = Self::Lost;
    }
}

#[cfg(test)]
mod tests;
