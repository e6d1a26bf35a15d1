//! Times as people say them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How long an RFC 3339 time lies in the past: `3m`, `2h`; the text itself when it is no time.
pub fn ago(text: &str) -> String {
    parse(text).map_or_else(|| text.to_owned(), |at| span((OffsetDateTime::now_utc() - at).whole_seconds()))
}

/// How long it is until an RFC 3339 time: `12h`, `ended`; the text itself when it is no time.
pub fn left(text: &str) -> String {
    let Some(at) = parse(text) else { return text.to_owned() };
    let seconds = (at - OffsetDateTime::now_utc()).whole_seconds();
    if seconds < 0 { "ended".to_owned() } else { span(seconds) }
}

/// Reads a duration of days, hours, minutes or seconds (`7d`, `12h`) as seconds.
///
/// # Errors
/// A text that is none.
pub fn duration(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no duration; write it like 7d, 12h, 30m or 45s");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "d" => 86_400,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => return Err(wrong()),
    };
    number.parse::<u32>().ok().and_then(|number| i64::from(number).checked_mul(seconds)).ok_or_else(wrong)
}

fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// A number of seconds in its two largest units.
fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_name_their_two_largest_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m1s"), (3_660, "1h1m"), (86_400 * 3650, "3650d0h")] {
            assert_eq!(span(seconds), text);
        }
        assert_eq!((duration("7d"), duration("45s")), (Ok(604_800), Ok(45)));
        for wrong in ["", "d", "7", "7w", "-1s", "1é"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(left("2020-01-01T00:00:00Z"), "ended");
        assert_eq!(ago("soon"), "soon");
    }
}
