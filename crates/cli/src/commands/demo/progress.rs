//! Waiting, with word of it when it takes long.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::Stop;
use crate::output::{DIM, note};

/// When a person begins to wonder.
const LONG: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until `done` gives a value. After two seconds it says what it waits for, and again every few seconds.
///
/// # Errors
/// It takes longer than `patience`, somebody asks to stop, or `done` fails.
pub(crate) fn wait<T>(
    what: &str,
    patience: Duration,
    stop: &Stop,
    mut done: impl FnMut() -> anyhow::Result<Result<T, String>>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    let mut told = LONG;
    loop {
        let missing = match done()? {
            Ok(value) => return Ok(value),
            Err(missing) => missing,
        };
        let passed = begun.elapsed();
        if stop.asked() {
            bail!("interrupted while waiting for {what}");
        }
        if passed > patience {
            bail!("{what}: not within {} s: {missing}", patience.as_secs());
        }
        if passed > told {
            note(&format!("  {DIM}waiting for {what} ({} s): {missing}{DIM:#}", passed.as_secs()));
            told = passed + LONG;
        }
        std::thread::sleep(PAUSE);
    }
}
