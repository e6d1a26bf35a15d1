//! One JSON line on stdout for each connection that ended.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::connections::Record;
use crate::settings::AccessLog;
use crate::telemetry::Metrics;

/// Lines that wait for a slow reader; further ones are counted as lost.
const MAX_WAITING: usize = 1024;

/// Writes the access log from a thread of its own, so that a slow reader never delays a connection.
pub struct AccessLogger {
    which: AccessLog,
    lines: Option<SyncSender<Record>>,
}

impl AccessLogger {
    /// A logger to stdout.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn stdout(which: AccessLog) -> std::io::Result<Self> {
        if which == AccessLog::Off {
            return Ok(Self { which, lines: None });
        }
        let (lines, waiting) = sync_channel(MAX_WAITING);
        std::thread::Builder::new().name("access-log".to_owned()).stack_size(128 * 1024).spawn(move || write(&waiting))?;
        Ok(Self { which, lines: Some(lines) })
    }

    /// A logger that writes nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self { which: AccessLog::Off, lines: None }
    }

    /// Logs a connection, if it is among those to be logged.
    pub fn log(&self, record: &Record, metrics: &Metrics) {
        let Some(lines) = &self.lines else { return };
        if self.which == AccessLog::Refused && record.reason.is_none() {
            return;
        }
        if let Err(TrySendError::Full(_)) = lines.try_send(record.clone()) {
            metrics.log_lines_lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write(waiting: &Receiver<Record>) {
    for record in waiting {
        let Ok(mut line) = serde_json::to_vec(&record) else { continue };
        line.push(b'\n');
        let mut stdout = std::io::stdout().lock();
        // A closed stdout ends the log, not the sidecar.
        if stdout.write_all(&line).and_then(|()| stdout.flush()).is_err() {
            return;
        }
    }
}
