//! What long-running processes say about themselves, on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// The environment variable that chooses what is logged, such as `debug` or `mutua_control=debug`.
const FILTER: &str = "MUTUA_LOG";

/// Starts logging: from `info` on unless `MUTUA_LOG` says otherwise; JSON when `MUTUA_LOG_FORMAT=json`.
pub fn start() {
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new("info"));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || !std::io::stderr().is_terminal();
    // A log that cannot be written (a full disk) must never end what it tells of: the library would complain on stderr
    // and panic when that fails too.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let builder = builder.log_internal_errors(false);
    // A process that starts logging twice keeps the first.
    let _ = if std::env::var("MUTUA_LOG_FORMAT").is_ok_and(|format| format == "json") {
        builder.json().finish().try_init()
    } else {
        builder.with_ansi(!plain).finish().try_init()
    };
}
