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
        assert_eq!(left("2020-01-01T00:00:00Z"), "ended");
        assert_eq!(ago("soon"), "soon");
    }
}
