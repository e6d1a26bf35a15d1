//! How much, and when: minutes in detail for an hour, hours for two days, days for a month.

use std::collections::VecDeque;

use mutua_wire::mesh::Flow;
use serde::{Deserialize, Serialize};

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// How much there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Amount {
    /// Connections that were served.
    pub connections: u64,
    /// Connections that were refused or cut.
    pub failed: u64,
    /// Requests.
    pub requests: u64,
    /// Requests without an answer, with a status of 500 and above, or a gRPC status other than OK.
    pub failed_requests: u64,
    /// Bytes from those who opened the connections, without TLS.
    pub received_bytes: u64,
    /// Bytes to those who opened the connections, without TLS.
    pub sent_bytes: u64,
}

impl Amount {
    /// What a sidecar has counted of a flow.
    #[must_use]
    pub fn of(flow: &Flow) -> Self {
        Self {
            connections: flow.opened,
            failed: flow.failed,
            requests: flow.requests,
            failed_requests: flow.failed_requests,
            received_bytes: flow.received_bytes,
            sent_bytes: flow.sent_bytes,
        }
    }

    /// What came to it since `before`; counts that went back are none of the same flow, and nothing is taken from them.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        self.with(before, u64::saturating_sub)
    }

    /// Both together.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// Whether it is nothing at all.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn with(&self, other: &Self, apply: fn(u64, u64) -> u64) -> Self {
        Self {
            connections: apply(self.connections, other.connections),
            failed: apply(self.failed, other.failed),
            requests: apply(self.requests, other.requests),
            failed_requests: apply(self.failed_requests, other.failed_requests),
            received_bytes: apply(self.received_bytes, other.received_bytes),
            sent_bytes: apply(self.sent_bytes, other.sent_bytes),
        }
    }
}

/// Amounts by time. Times are Unix seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    minutes: Row<60>,
    hours: Row<48>,
    days: Row<30>,
}

impl History {
    /// Adds what happened at `time`; older than the last hour counts as of an hour ago in the minutes.
    pub fn add(&mut self, time: u64, amount: &Amount) {
        self.minutes.add(time / MINUTE, amount);
        self.hours.add(time / HOUR, amount);
        self.days.add(time / DAY, amount);
    }

    /// All that happened between `from` and `now`, as exactly as is still known: to the minute within an hour, to the hour
    /// within two days, else to the day. The unit in which `from` lies counts whole.
    #[must_use]
    pub fn between(&self, from: u64, now: u64) -> Amount {
        let span = now.saturating_sub(from);
        if span <= HOUR {
            self.minutes.from(from / MINUTE)
        } else if span <= 2 * DAY {
            self.hours.from(from / HOUR)
        } else {
            self.days.from(from / DAY)
        }
    }
}

/// The last `N` units of time, those without anything left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Row<const N: u64>(VecDeque<(u64, Amount)>);

impl<const N: u64> Row<N> {
    fn add(&mut self, unit: u64, amount: &Amount) {
        let newest = self.0.back().map_or(unit, |(newest, _)| unit.max(*newest));
        let oldest = newest.saturating_sub(N);
        while self.0.front().is_some_and(|(first, _)| *first < oldest) {
            self.0.pop_front();
        }
        let unit = unit.max(oldest);
        let at = self.0.partition_point(|(known, _)| *known < unit);
        match self.0.get_mut(at).filter(|(known, _)| *known == unit) {
            Some((_, known)) => *known = known.and(amount),
            None => self.0.insert(at, (unit, *amount)),
        }
    }

    fn from(&self, unit: u64) -> Amount {
        let at = self.0.partition_point(|(known, _)| *known < unit);
        self.0.range(at..).fold(Amount::default(), |sum, (_, amount)| sum.and(amount))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(requests: u64) -> Amount {
        Amount { requests, ..Amount::default() }
    }

    #[test]
    fn windows_are_summed_in_the_finest_unit_that_is_still_known() {
        let mut history = History::default();
        let start = 1_000 * DAY;
        for minute in 0..=3 * 24 * 60 {
            history.add(start + minute * MINUTE, &requests(1));
        }
        let now = start + 3 * DAY;
        let within = |span: u64| history.between(now - span, now).requests;
        assert_eq!((within(0), within(MINUTE), within(10 * MINUTE), within(HOUR)), (1, 2, 11, 61));
        assert_eq!((within(2 * HOUR), within(24 * HOUR)), (121, 24 * 60 + 1));
        assert_eq!(within(30 * DAY), 3 * 24 * 60 + 1, "nothing is lost");
        assert_eq!((history.minutes.0.len(), history.hours.0.len(), history.days.0.len()), (61, 49, 4));
    }

    #[test]
    fn what_comes_late_is_put_where_it_belongs() {
        let mut history = History::default();
        let now = 1_000 * DAY;
        history.add(now, &requests(1));
        history.add(now - 5 * MINUTE, &requests(10));
        history.add(now - 20 * DAY, &requests(100));
        assert_eq!(history.between(now - MINUTE, now).requests, 1);
        assert_eq!(history.between(now - 5 * MINUTE, now).requests, 11);
        assert_eq!(history.between(now - 21 * DAY, now).requests, 111);
        assert_eq!(history.between(now - 10 * DAY, now).requests, 11);
    }

    #[test]
    fn counts_that_went_back_take_nothing_away() {
        assert_eq!(requests(3).since(&requests(5)), Amount::default());
        assert_eq!(requests(5).since(&requests(3)), requests(2));
    }
}
