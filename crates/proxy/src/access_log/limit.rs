//! How many lines of refusals are written: a flood must neither fill a disk nor hide what else happens. What is left out is
//! counted by kind, and the counts are written.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::connections::Direction;
use crate::reasons::Reason;

/// For how long lines are counted together.
pub const WINDOW: Duration = Duration::from_secs(1);

/// Refusals of one kind that have no line of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// How many.
    pub left_out: u64,
    /// Which way.
    pub direction: Direction,
    /// Why.
    pub reason: Reason,
}

/// Whether a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is.
    Yes,
    /// It is the first that is left out: somebody has to ask for the counts when the window is over.
    FirstLeftOut,
    /// It is left out, too.
    LeftOut,
}

/// Counts lines, with the time given from outside.
#[derive(Debug)]
pub struct Limiter {
    most: u64,
    kinds: Mutex<BTreeMap<(Direction, Reason), Window>>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u64,
}

impl Limiter {
    /// `most` lines of each kind in a [`WINDOW`]; 0: all.
    #[must_use]
    pub fn new(most: u64) -> Self {
        Self { most: if most == 0 { u64::MAX } else { most }, kinds: Mutex::default() }
    }

    /// Counts a line.
    pub fn admit(&self, direction: Direction, reason: Reason, now: Instant) -> Admitted {
        let mut kinds = self.lock();
        let window = kinds.entry((direction, reason)).or_insert(Window { began: now, lines: 0 });
        // A window in which something was left out lasts until that is told.
        if now.duration_since(window.began) >= WINDOW && window.lines <= self.most {
            *window = Window { began: now, lines: 0 };
        }
        window.lines += 1;
        match window.lines.checked_sub(self.most) {
            None | Some(0) => Admitted::Yes,
            Some(1) => Admitted::FirstLeftOut,
            Some(_) => Admitted::LeftOut,
        }
    }

    /// When the next window with something left out is over.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let kinds = self.lock();
        kinds.values().filter(|window| window.lines > self.most).map(|window| window.began + WINDOW).min()
    }

    /// Takes what was left out in windows that are over by `now`; in all of them when it is `None`.
    #[must_use]
    pub fn take(&self, now: Option<Instant>) -> Vec<LeftOut> {
        let mut kinds = self.lock();
        let is_over =
            |window: &Window| window.lines > self.most && now.is_none_or(|now| now.duration_since(window.began) >= WINDOW);
        let over: Vec<_> = kinds.iter().filter(|(_, window)| is_over(window)).map(|(kind, _)| *kind).collect();
        let left_out = |kind| {
            let window: Window = kinds.remove(&kind)?;
            Some(LeftOut { left_out: window.lines - self.most, direction: kind.0, reason: kind.1 })
        };
        over.into_iter().filter_map(left_out).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Direction, Reason), Window>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN: Direction = Direction::Inbound;

    #[test]
    fn so_many_of_a_kind_in_a_window_and_the_rest_is_counted() {
        let (limiter, start) = (Limiter::new(3), Instant::now());
        let admit = |reason, after| limiter.admit(IN, reason, start + Duration::from_millis(after));
        for _ in 0..3 {
            assert_eq!(admit(Reason::NotReady, 0), Admitted::Yes);
        }
        assert_eq!(limiter.due(), None);
        assert_eq!(admit(Reason::NotReady, 10), Admitted::FirstLeftOut);
        assert_eq!(admit(Reason::NotReady, 999), Admitted::LeftOut);
        assert_eq!(admit(Reason::Truncated, 10), Admitted::Yes, "another kind");
        assert_eq!(limiter.admit(Direction::Outbound, Reason::NotReady, start), Admitted::Yes, "another kind");
        assert_eq!(limiter.due(), Some(start + WINDOW));
        assert_eq!(limiter.take(Some(start + Duration::from_millis(999))), []);
        // The count is told late: the window goes on.
        assert_eq!(admit(Reason::NotReady, 1500), Admitted::LeftOut);
        let expected = LeftOut { left_out: 3, direction: IN, reason: Reason::NotReady };
        assert_eq!(limiter.take(Some(start + WINDOW)), [expected]);
        assert_eq!((limiter.take(None), limiter.due()), (vec![], None), "once");
        assert_eq!(admit(Reason::NotReady, 1500), Admitted::Yes);
    }

    #[test]
    fn a_quiet_kind_is_never_left_out_and_zero_means_all() {
        let (limiter, start) = (Limiter::new(1), Instant::now());
        for second in 0..100 {
            assert_eq!(limiter.admit(IN, Reason::NotReady, start + WINDOW * second), Admitted::Yes);
        }
        let all = Limiter::new(0);
        assert!((0..1000).all(|_| all.admit(IN, Reason::NotReady, start) == Admitted::Yes));
        assert_eq!(all.take(None), []);
    }
}
