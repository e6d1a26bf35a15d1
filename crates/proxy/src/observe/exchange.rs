//! What an observer tells of one request and its answer.

use std::time::Instant;

/// The protocol of a request, as Istio's label `request_protocol` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestProtocol {
    /// HTTP of any version.
    Http,
    /// gRPC: HTTP/2 with a content type of `application/grpc`.
    Grpc,
}

impl RequestProtocol {
    /// `http` or `grpc`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

/// How an exchange ended, as Envoy's response flags name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExchangeEnd {
    /// Whole.
    #[default]
    Whole,
    /// The caller's connection ended first.
    CallerGone,
    /// The server's connection ended first.
    ServerGone,
    /// The caller reset the stream.
    CallerReset,
    /// The server reset the stream.
    ServerReset,
}

impl ExchangeEnd {
    /// The response flag (Envoy's access-log documentation, `%RESPONSE_FLAGS%`).
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::Whole => "-",
            Self::CallerGone => "DC",
            Self::ServerGone => "UC",
            Self::CallerReset => "DR",
            Self::ServerReset => "UR",
        }
    }
}

/// What a request asked for; kept only where it is going to be logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RequestLine {
    /// The method.
    pub method: String,
    /// The target, cut at [`MAX_TARGET`] bytes.
    pub path: String,
    /// `Host` or `:authority`.
    pub authority: String,
}

/// Bytes of a target or an authority that are kept for the log.
pub const MAX_TARGET: usize = 512;

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The protocol.
    pub protocol: RequestProtocol,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub version: &'static str,
    /// The status; 0 when no answer came.
    pub status: u16,
    /// gRPC's status, 0 to 16, or −1 for one that is none.
    pub grpc_status: Option<i8>,
    /// Bytes of the request, heads and framing included.
    pub request_bytes: u64,
    /// Bytes of the answer, heads and framing included.
    pub response_bytes: u64,
    /// Messages in a gRPC request.
    pub request_messages: u64,
    /// Messages in a gRPC answer.
    pub response_messages: u64,
    /// When its first byte was seen.
    pub started: Instant,
    /// When its last byte was seen.
    pub ended: Instant,
    /// How it ended.
    pub end: ExchangeEnd,
    /// What was asked for, where it is logged.
    pub line: Option<Box<RequestLine>>,
}

impl Exchange {
    /// Whether it had no answer, a status of 500 and above, or a gRPC status other than OK.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.status == 0 || self.status >= 500 || self.grpc_status.is_some_and(|status| status != 0)
    }
}

/// Why an observer stopped looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lost {
    /// Bytes that the protocol does not have there.
    Malformed,
    /// A message that can be read in two ways.
    Ambiguous,
    /// An answer that nobody asked for.
    Unasked,
    /// More than an observer keeps: a head, a table, requests or streams at once.
    TooMuch,
    /// The connection goes on in another protocol: CONNECT, Upgrade. Nothing is wrong.
    Switched,
}

impl Lost {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Malformed, Self::Ambiguous, Self::Unasked, Self::TooMuch, Self::Switched];

    /// The reason as metrics show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Ambiguous => "ambiguous",
            Self::Unasked => "unasked",
            Self::TooMuch => "too_much",
            Self::Switched => "switched",
        }
    }
}
