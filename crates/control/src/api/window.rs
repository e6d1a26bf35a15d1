//! `?window=10m`: how far back to look.

use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use axum::http::StatusCode;
use axum::http::request::Parts as Head;
use serde::Deserialize;

use super::Failure;

/// What is kept in days is kept for so long.
const MAX: Duration = Duration::from_secs(30 * 86_400);
/// The window when none is asked for.
const DEFAULT: Duration = Duration::from_secs(600);

/// How far back to look: from one minute to 30 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(pub Duration);

#[derive(Deserialize)]
struct Asked {
    window: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Window {
    type Rejection = Failure;

    async fn from_request_parts(head: &mut Head, state: &S) -> Result<Self, Failure> {
        let wrong = |text: String| Failure::new(StatusCode::BAD_REQUEST, text);
        let query = Query::<Asked>::from_request_parts(head, state).await.map_err(|error| wrong(error.body_text()))?;
        let Some(text) = &query.window else { return Ok(Self(DEFAULT)) };
        parse(text).map(Self).ok_or_else(|| wrong(format!("window: {text:?} is none; write 1m to 30d, in m, h or d")))
    }
}

fn parse(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let window = Duration::from_secs(number.parse::<u32>().ok().map(u64::from)?.checked_mul(seconds)?);
    (!window.is_zero() && window <= MAX).then_some(window)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_go_from_a_minute_to_what_is_kept() {
        assert_eq!(parse("1m"), Some(Duration::from_secs(60)));
        assert_eq!(parse("30d"), Some(MAX));
        for wrong in ["", "m", "0m", "31d", "10s", "-1m", "1.5h", "4294967295d", "1é"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
