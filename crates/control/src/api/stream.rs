//! `GET /api/v1/stream`: tells a page when to ask again. An event holds where everything stands, so whoever reconnects is
//! told the present state and has missed nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::Parts;
use crate::revision::Phase;

/// Streams at once.
const MAX_STREAMS: usize = 64;
/// How soon a change is told.
const PACE: Duration = Duration::from_millis(250);
/// A silent stream gives a sign of life this often, so that the page knows that it is not stale.
const ALIVE: Duration = Duration::from_secs(5);

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Where everything stands.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Standing {
    generation: u64,
    phase: Phase,
    rejected: Option<String>,
    proxies_connected: usize,
    proxies_current: usize,
    /// Grows with everything that is seen to pass.
    traffic: u64,
}

/// A place among the streams.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let taken = OPEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < MAX_STREAMS).then_some(open + 1));
        taken.ok().map(|_| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The stream, until `stop`.
///
/// # Errors
/// Too many are open.
pub fn stream(parts: Arc<Parts>, stop: CancellationToken) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let place = Place::take()
        .ok_or_else(|| Failure::new(StatusCode::SERVICE_UNAVAILABLE, format!("{MAX_STREAMS} pages follow already; close one")))?;
    let events = stream::unfold((parts, place, None), async |(parts, place, last)| {
        loop {
            let now = standing(&parts);
            if last.as_ref() != Some(&now) {
                let event = Event::default().event("standing").json_data(&now).unwrap_or_default();
                return Some((Ok(event), (parts, place, Some(now))));
            }
            tokio::time::sleep(PACE).await;
        }
    });
    let events = events.take_until(stop.cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE).event(Event::default().event("alive").data(""))))
}

fn standing(parts: &Parts) -> Standing {
    let stage = parts.world.stage();
    let (proxies_connected, proxies_current) = parts.registry.counts(stage.revision());
    Standing {
        generation: parts.world.current().generation,
        phase: stage.phase,
        rejected: parts.world.status().rejected,
        proxies_connected,
        proxies_current,
        traffic: parts.traffic.changes(),
    }
}
