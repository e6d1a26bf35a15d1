//! Whether a connection's first bytes are HTTP.

use super::http1;
use super::http2::{PREFACE, is_first_frame};

/// Bytes of a server that are kept until its caller has said what they speak: the settings of HTTP/2.
const MAX_ANSWER: usize = 1024;

/// What is known of the first bytes.
#[derive(Default)]
pub struct Detecting {
    head: Vec<u8>,
    answer: Vec<u8>,
}

/// What the first bytes are.
pub enum Found {
    /// Not decided.
    Nothing,
    /// No HTTP.
    Other,
    /// HTTP/1, and what came so far.
    Http1(Vec<u8>),
    /// HTTP/2, and what came so far of both.
    Http2 {
        /// The caller's bytes.
        head: Vec<u8>,
        /// The server's bytes.
        answer: Vec<u8>,
    },
}

impl Detecting {
    /// Bytes of the caller.
    pub fn received(&mut self, bytes: &[u8]) -> Found {
        if bytes.is_empty() {
            return Found::Nothing;
        }
        let first = self.head.first().unwrap_or(&bytes[0]);
        // Methods are words; TLS, most binary protocols and empty lines are not.
        if !first.is_ascii_alphabetic() {
            return Found::Other;
        }
        let ends_line = bytes.contains(&b'\n');
        self.head.extend_from_slice(bytes);
        let length = self.head.len().min(PREFACE.len());
        if self.head[..length] == PREFACE[..length] {
            if length < PREFACE.len() {
                return Found::Nothing;
            }
            return Found::Http2 { head: std::mem::take(&mut self.head), answer: std::mem::take(&mut self.answer) };
        }
        if !self.answer.is_empty() || self.head.len() > http1::MAX_HEAD {
            return Found::Other;
        }
        // Parsed again only with a line more.
        if !ends_line {
            return if is_method(&self.head) { Found::Nothing } else { Found::Other };
        }
        match http1::is_request(&self.head) {
            Some(true) => Found::Http1(std::mem::take(&mut self.head)),
            Some(false) => Found::Other,
            None => Found::Nothing,
        }
    }

    /// Bytes of the server. One that speaks first speaks no HTTP/1; servers of HTTP/2 may begin with their settings.
    pub fn sent(&mut self, bytes: &[u8]) -> Found {
        let preface = self.head.iter().zip(PREFACE).all(|(a, b)| a == b);
        self.answer.extend_from_slice(bytes);
        if preface && self.answer.len() <= MAX_ANSWER && is_first_frame(&self.answer) { Found::Nothing } else { Found::Other }
    }
}

/// Whether these may be the first bytes of a request line.
fn is_method(bytes: &[u8]) -> bool {
    const LONGEST_METHOD: usize = 32;
    let end = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
    end <= LONGEST_METHOD && bytes[..end].iter().all(|byte| byte.is_ascii_alphabetic() || b"-_".contains(byte))
}
