//! One JSON line on stdout for each connection that ended, and for each request that was seen, where all are logged.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::connections::{Connection, Direction, Record};
use crate::observe::{Exchange, RequestLine};
use crate::settings::AccessLog;
use crate::telemetry::Metrics;

/// Lines that wait for a slow reader; further ones are counted as lost.
const MAX_WAITING: usize = 1024;

/// Writes the access log from a thread of its own, so that a slow reader never delays a connection.
pub struct AccessLogger {
    which: AccessLog,
    lines: Option<SyncSender<Line>>,
    /// Lines that could not be written and are not counted in the metrics yet.
    unwritten: Arc<AtomicU64>,
}

enum Line {
    Of(Box<Record>),
    Request(Box<RequestRecord>),
    /// Everything before this is written; who waits is told.
    End(SyncSender<()>),
}

impl AccessLogger {
    /// A logger to stdout.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn stdout(which: AccessLog) -> std::io::Result<Self> {
        let unwritten = Arc::default();
        if which == AccessLog::Off {
            return Ok(Self { which, lines: None, unwritten });
        }
        let (lines, waiting) = sync_channel(MAX_WAITING);
        let lost = Arc::clone(&unwritten);
        // A file of our own has no buffer in which parts of lines would stay when a disk is full.
        let mut stdout = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || write_all(&waiting, &mut stdout, &lost))?;
        Ok(Self { which, lines: Some(lines), unwritten })
    }

    /// A logger that writes nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self { which: AccessLog::Off, lines: None, unwritten: Arc::default() }
    }

    /// Logs a connection, if it is among those to be logged.
    pub fn log(&self, record: &Record, metrics: &Metrics) {
        let Some(lines) = &self.lines else { return };
        if self.which == AccessLog::Refused && record.reason.is_none() {
            return;
        }
        let full = matches!(lines.try_send(Line::Of(Box::new(record.clone()))), Err(TrySendError::Full(_)));
        let lost = self.unwritten.swap(0, Ordering::Relaxed) + u64::from(full);
        metrics.log_lines_lost.fetch_add(lost, Ordering::Relaxed);
    }

    /// Whether requests are logged.
    #[must_use]
    pub fn wants_requests(&self) -> bool {
        self.which == AccessLog::All && self.lines.is_some()
    }

    /// Logs a request.
    pub fn log_request(&self, connection: &Connection, exchange: &Exchange, metrics: &Metrics) {
        let Some(lines) = &self.lines else { return };
        let full = matches!(
            lines.try_send(Line::Request(Box::new(RequestRecord::of(connection, exchange)))),
            Err(TrySendError::Full(_))
        );
        metrics.log_lines_lost.fetch_add(u64::from(full), Ordering::Relaxed);
    }

    /// Waits until what was logged is written, for `patience` at most. Blocks its thread.
    pub fn finish(&self, patience: Duration) {
        let Some(lines) = &self.lines else { return };
        let (written, done) = sync_channel(1);
        // A log that nobody reads holds no stop up.
        if lines.try_send(Line::End(written)).is_ok() {
            let _ = done.recv_timeout(patience);
        }
    }
}

/// One request, as the access log shows it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RequestRecord {
    /// The connection it came on.
    pub connection: u64,
    /// `inbound` or `outbound`.
    pub direction: Direction,
    /// Who opened the connection.
    pub peer_address: String,
    /// The host of the service.
    pub service: Option<String>,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'static str,
    /// What was asked for.
    pub request: RequestLine,
    /// The status; 0 when no answer came.
    pub response_code: u16,
    /// gRPC's status.
    pub grpc_status: Option<i8>,
    /// How it ended, as Envoy's response flags name it.
    pub response_flags: &'static str,
    /// Bytes of the request.
    pub request_bytes: u64,
    /// Bytes of the answer.
    pub response_bytes: u64,
    /// How long it took.
    pub duration_ms: u64,
}

impl RequestRecord {
    fn of(connection: &Connection, exchange: &Exchange) -> Self {
        let duration = exchange.ended.saturating_duration_since(exchange.started);
        Self {
            connection: connection.id,
            direction: connection.direction,
            peer_address: connection.peer.to_string(),
            service: connection.details().service.as_deref().map(str::to_owned),
            protocol: exchange.version,
            request: exchange.line.as_deref().cloned().unwrap_or_default(),
            response_code: exchange.status,
            grpc_status: exchange.grpc_status,
            response_flags: exchange.end.flag(),
            request_bytes: exchange.request_bytes,
            response_bytes: exchange.response_bytes,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn write_all(waiting: &Receiver<Line>, to: &mut impl Write, lost: &AtomicU64) {
    for line in waiting {
        match line {
            // A full disk or a closed pipe ends neither the sidecar nor the log: there may be room again.
            Line::Of(record) if write(&*record, to).is_ok() => {}
            Line::Request(record) if write(&*record, to).is_ok() => {}
            Line::Of(_) | Line::Request(_) => {
                lost.fetch_add(1, Ordering::Relaxed);
            }
            // Who waited may have gone.
            Line::End(written) => drop(written.try_send(())),
        }
    }
}

fn write(record: &impl serde::Serialize, to: &mut impl Write) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    to.write_all(&line)
}
