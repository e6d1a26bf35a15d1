//! One line on stdout for each connection that ended, and for each request that was seen, where all are logged.

mod format;
mod limit;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use crate::connections::{Connection, Direction, Record};
use crate::observe::{Exchange, RequestLine};
use crate::settings::AccessLog;
use crate::telemetry::Metrics;

pub use format::{FIELDS, Format};
pub use limit::{Admitted, LeftOut, Limiter, WINDOW};

/// Lines that wait for a slow reader; further ones are counted as lost.
const MAX_WAITING: usize = 1024;
/// Lines of refusals of one kind in a second, unless the user says otherwise.
pub const REFUSAL_LINES: u64 = 20;

/// What the access log shows.
#[derive(Clone, Debug, clap::Args)]
pub struct AccessLogSettings {
    /// Which connections are logged, as lines on stdout
    #[arg(long = "access-log", value_name = "WHICH", default_value = "refused")]
    pub which: AccessLog,
    /// What a line looks like: a JSON object such as '{"from":"%peer_address%","why":"%reason%"}', or text with fields in
    /// it, such as '%start% %peer_id% %reason%' [default: a JSON object with every field]
    #[arg(long = "access-log-format", value_name = "FORMAT", value_parser = Format::parse)]
    pub format: Option<Format>,
    /// Lines of refusals of one kind (direction and reason) in a second; further ones are counted, in a line with
    /// "left_out"; 0 writes all
    #[arg(long = "refusal-lines", value_name = "N", default_value_t = REFUSAL_LINES)]
    pub refusal_lines: u64,
}

impl AccessLogSettings {
    /// The defaults, of `which`.
    #[must_use]
    pub fn of(which: AccessLog) -> Self {
        Self { which, format: None, refusal_lines: REFUSAL_LINES }
    }
}

/// Writes the access log from a thread of its own, so that a slow reader never delays a connection.
pub struct AccessLogger {
    which: AccessLog,
    lines: Option<SyncSender<Line>>,
    limiter: Arc<Limiter>,
    /// Lines that could not be written and are not counted in the metrics yet.
    unwritten: Arc<AtomicU64>,
}

enum Line {
    Of(Box<Record>),
    Request(Box<RequestRecord>),
    /// Something was left out; it is told of when its window is over.
    LeftOut,
    /// Everything before this is written; who waits is told.
    End(SyncSender<()>),
}

impl AccessLogger {
    /// A logger to stdout.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn stdout(settings: &AccessLogSettings) -> std::io::Result<Self> {
        if settings.which == AccessLog::Off {
            return Ok(Self::silent());
        }
        // A file of our own has no buffer in which parts of lines would stay when a disk is full.
        Self::to(settings, File::from(std::io::stdout().as_fd().try_clone_to_owned()?))
    }

    /// A logger to `to`.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn to(settings: &AccessLogSettings, to: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (lines, waiting) = sync_channel(MAX_WAITING);
        let limiter = Arc::new(Limiter::new(settings.refusal_lines));
        let unwritten = Arc::default();
        let mut writer = Writer {
            to,
            format: settings.format.clone().unwrap_or_default(),
            limiter: Arc::clone(&limiter),
            lost: Arc::clone(&unwritten),
        };
        let thread = std::thread::Builder::new().name("access-log".to_owned()).stack_size(128 * 1024);
        thread.spawn(move || writer.write_all(&waiting))?;
        Ok(Self { which: settings.which, lines: Some(lines), limiter, unwritten })
    }

    /// A logger that writes nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self { which: AccessLog::Off, lines: None, limiter: Arc::new(Limiter::new(0)), unwritten: Arc::default() }
    }

    /// Logs a connection, if it is among those to be logged.
    pub fn log(&self, record: &Record, metrics: &Metrics) {
        let Some(reason) = record.reason else {
            if self.which == AccessLog::All {
                self.send(metrics, || Line::Of(Box::new(record.clone())));
            }
            return;
        };
        if self.which == AccessLog::Off {
            return;
        }
        match self.limiter.admit(record.direction, reason, Instant::now()) {
            Admitted::Yes => return self.send(metrics, || Line::Of(Box::new(record.clone()))),
            Admitted::FirstLeftOut => self.send(metrics, || Line::LeftOut),
            Admitted::LeftOut => {}
        }
        metrics.log_lines_left_out.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether requests are logged.
    #[must_use]
    pub fn wants_requests(&self) -> bool {
        self.which == AccessLog::All && self.lines.is_some()
    }

    /// Logs a request.
    pub fn log_request(&self, connection: &Connection, exchange: &Exchange, metrics: &Metrics) {
        self.send(metrics, || Line::Request(Box::new(RequestRecord::of(connection, exchange))));
    }

    fn send(&self, metrics: &Metrics, line: impl FnOnce() -> Line) {
        let Some(lines) = &self.lines else { return };
        let full = matches!(lines.try_send(line()), Err(TrySendError::Full(_)));
        let lost = self.unwritten.swap(0, Ordering::Relaxed) + u64::from(full);
        metrics.log_lines_lost.fetch_add(lost, Ordering::Relaxed);
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

/// The other end of the queue.
struct Writer<W> {
    to: W,
    format: Format,
    limiter: Arc<Limiter>,
    lost: Arc<AtomicU64>,
}

impl<W: Write> Writer<W> {
    fn write_all(&mut self, waiting: &Receiver<Line>) {
        loop {
            let line = match self.limiter.due() {
                None => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => waiting.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match line {
                Ok(Line::Of(record)) => self.write(&self.format.line(&*record)),
                Ok(Line::Request(record)) => self.write(&self.format.line(&*record)),
                Ok(Line::LeftOut) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Line::End(written)) => {
                    self.tell_left_out(None);
                    // Who waited may have gone.
                    let _ = written.try_send(());
                }
                Err(RecvTimeoutError::Disconnected) => return self.tell_left_out(None),
            }
            self.tell_left_out(Some(Instant::now()));
        }
    }

    fn tell_left_out(&mut self, now: Option<Instant>) {
        for left_out in self.limiter.take(now) {
            self.write(&Format::Whole.line(&left_out));
        }
    }

    /// A full disk or a closed pipe ends neither the sidecar nor the log: there may be room again.
    fn write(&mut self, line: &serde_json::Result<Vec<u8>>) {
        let written = line.as_ref().is_ok_and(|line| self.to.write_all(line).is_ok());
        self.lost.fetch_add(u64::from(!written), Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::Connections;

    /// Every field that a line has can be chosen, and `docs/access-log.md` names it.
    #[test]
    fn fields_are_all_known_and_documented() {
        let address = std::net::SocketAddr::from(([192, 0, 2, 1], 80));
        let connection = Connections::default().open(Direction::Inbound, address, address);
        let record = Record::of(&connection, Some(std::time::SystemTime::now()));
        let request = RequestRecord {
            connection: 1,
            direction: Direction::Inbound,
            peer_address: String::new(),
            service: None,
            protocol: "HTTP/1.1",
            request: RequestLine::default(),
            response_code: 200,
            grpc_status: None,
            response_flags: "-",
            request_bytes: 0,
            response_bytes: 0,
            duration_ms: 0,
        };
        let all = [format::flat(&record).unwrap(), format::flat(&request).unwrap()];
        let all: std::collections::BTreeSet<&str> = all.iter().flat_map(|fields| fields.keys()).map(String::as_str).collect();
        assert_eq!(all, FIELDS.iter().copied().collect());
        let text = include_str!("../../../../docs/access-log.md");
        for field in FIELDS {
            assert!(text.contains(&format!("| `{field}` |")), "{field} is not documented");
        }
    }
}
