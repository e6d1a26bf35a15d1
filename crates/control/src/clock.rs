//! Times of day: how they are written, and waiting for one. A long sleep counts the machine's running time: after a suspend or a change of the clock it
//! would end too late, so it is cut into short ones.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The longest sleep in one go.
const SLICE: Duration = Duration::from_secs(15);

/// Returns when the clock of the wall shows `time`, at most 15 seconds late after a suspend or a jump forward.
pub(crate) async fn sleep_until(time: SystemTime) {
    sleep_until_by(time, SystemTime::now, async |slice| tokio::time::sleep(slice).await).await;
}

async fn sleep_until_by(time: SystemTime, now: impl Fn() -> SystemTime, sleep: impl AsyncFn(Duration)) {
    while let Ok(left) = time.duration_since(now())
        && !left.is_zero()
    {
        sleep(left.min(SLICE)).await;
    }
}

/// Unix seconds; negative before 1970.
pub(crate) fn unix(time: SystemTime) -> i64 {
    let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    time.duration_since(UNIX_EPOCH).map_or_else(|before| -seconds(before.duration()), seconds)
}

/// The time of Unix seconds.
pub(crate) fn at(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH } else { UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH) }
}

/// As RFC 3339 writes it, to the second.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let whole = OffsetDateTime::from_unix_timestamp(unix(time)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    whole.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// How many sleeps it takes when the wall's clock goes on by `jump` during the second.
    async fn sleeps_until(time: SystemTime, jump: Duration) -> u32 {
        let (now, sleeps) = (Cell::new(SystemTime::UNIX_EPOCH), Cell::new(0));
        let sleep = async |slice: Duration| {
            assert!(!slice.is_zero() && slice <= SLICE);
            sleeps.set(sleeps.get() + 1);
            now.set(now.get() + slice + if sleeps.get() == 2 { jump } else { Duration::ZERO });
        };
        sleep_until_by(time, || now.get(), sleep).await;
        assert!(now.get() >= time);
        sleeps.get()
    }

    #[tokio::test]
    async fn a_jump_of_the_clock_is_noticed_soon() {
        let start = SystemTime::UNIX_EPOCH;
        assert_eq!(sleeps_until(start + HOUR, Duration::ZERO).await, 240);
        assert_eq!(sleeps_until(start + HOUR, HOUR).await, 2);
        assert_eq!(sleeps_until(start, Duration::ZERO).await, 0, "what is past is not waited for");
    }
}
