//! When a certificate is renewed: a pure schedule over the times that are passed in.

use std::time::{Duration, SystemTime};

/// Share of the life after which renewal is due, in thousandths (Istio's `SECRET_GRACE_PERIOD_RATIO` 0.5).
const DUE: u32 = 500;
/// Spread around it, in thousandths (Istio's `SECRET_GRACE_PERIOD_RATIO_JITTER` 0.01).
const JITTER: u32 = 10;
/// First pause after a failed renewal; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest pause while there is no valid leaf: nothing is served meanwhile.
const DEAD_PAUSE: Duration = Duration::from_secs(5);

/// When renewal of a leaf is due: at half of the time between issuance and its end, give or take one per cent.
/// `random` in 0..=1000 chooses the spread. Never before `issued`, never after `not_after`.
#[must_use]
pub fn renewal_due(issued: SystemTime, not_after: SystemTime, random: u32) -> SystemTime {
    let life = not_after.duration_since(issued).unwrap_or_default();
    let share = DUE - JITTER + 2 * JITTER * random.min(1000) / 1000;
    issued + life * share / 1000
}

/// When a root is to be changed by itself: before a fifth of its life remains (as Istio's rotator).
#[must_use]
pub fn root_due(not_before: SystemTime, not_after: SystemTime) -> SystemTime {
    not_after - not_after.duration_since(not_before).unwrap_or_default() / 5
}

/// How long to wait after the `failures`-th failed attempt in a row (from 1). It never waits past half of what is
/// left of the leaf, so that attempts grow denser as its end comes near.
#[must_use]
pub fn retry_pause(failures: u32, left: Duration) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    let dense = if left.is_zero() { DEAD_PAUSE } else { (left / 2).max(FIRST_PAUSE) };
    doubled.min(LONGEST_PAUSE).min(dense)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn renewal_falls_within_one_per_cent_of_half_life(life in 1_u64..10_000_000, random in 0_u32..2000) {
            let issued = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
            let due = renewal_due(issued, issued + Duration::from_secs(life), random).duration_since(issued).unwrap().as_secs_f64();
            prop_assert!(due >= life as f64 * 0.4899 && due <= life as f64 * 0.5101);
        }

        #[test]
        fn pauses_are_bounded_and_shrink_towards_the_end(failures in 0_u32..100, left in 0_u64..100_000) {
            let pause = retry_pause(failures, Duration::from_secs(left));
            prop_assert!(pause >= FIRST_PAUSE.min(LONGEST_PAUSE) && pause <= LONGEST_PAUSE);
            prop_assert!(left == 0 || pause <= Duration::from_secs(left));
        }
    }

    #[test]
    fn a_root_is_due_when_a_fifth_of_its_life_remains() {
        let start = SystemTime::UNIX_EPOCH;
        let of = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(root_due(of(100), of(1100)), of(900));
        assert_eq!(root_due(of(100), of(50)), of(50));
    }

    #[test]
    fn a_dead_leaf_is_due_at_once() {
        let issued = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(renewal_due(issued, SystemTime::UNIX_EPOCH, 500), issued);
    }
}
