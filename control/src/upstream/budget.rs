//! How many requests may be sent again: a share of all, so that retries do not bury a server that
//! is already too slow.

use std::time::{Duration, Instant};

/// Thousandths of a retry that a request earns.
pub const PER_REQUEST: u64 = 100;
/// And a second.
pub const PER_SECOND: u64 = 1000;
/// Thousandths that can be saved up.
pub const SAVED_MAX: u64 = 10 * RETRY;
/// One, also what there is at the start.
const RETRY: u64 = 1000;

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Budget {
    saved: u64,
    counted: Instant,
}

impl Budget {
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            saved: RETRY,
            counted: now,
        }
    }

    /// A request is made.
    pub fn earn(&mut self, now: Instant) {
        self.saved = (self.at(now) + PER_REQUEST).min(SAVED_MAX);
        self.counted = self.counted.max(now);
    }

    /// Whether it may be sent again.
    pub fn spend(&mut self, now: Instant) -> bool {
        let saved = self.at(now);
        self.counted = self.counted.max(now);
        let after = saved.checked_sub(RETRY);
        self.saved = after.unwrap_or(saved);
        after.is_some()
    }

    /// Whole retries.
    #[must_use]
    pub fn left(&self, now: Instant) -> u64 {
        self.at(now) / RETRY
    }

    fn at(&self, now: Instant) -> u64 {
        let time = now.saturating_duration_since(self.counted);
        let millis = time.min(Duration::from_secs(60)).as_millis();
        let earned = u64::try_from(millis).unwrap_or(0) * PER_SECOND / 1000;
        (self.saved + earned).min(SAVED_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::tests::start;

    #[test]
    fn a_share_of_the_requests_and_a_few_a_second() {
        let begin = start();
        let mut budget = Budget::new(begin);
        for (requests, seconds, granted) in [
            // There at the start.
            (0, 0, 1),
            (0, 0, 0),
            (9, 0, 0),
            (1, 0, 1),
            (100, 0, 10),
            (0, 1, 1),
            (0, 3, 3),
            (5, 2, 2),
            (5, 0, 1),
            // No more than can be saved.
            (1000, 0, 10),
            (0, 3600, 10),
        ] {
            let now = budget.counted + Duration::from_secs(seconds);
            for _ in 0..requests {
                budget.earn(now);
            }
            assert_eq!(budget.left(now), granted, "{requests} {seconds}");
            let spent = (0..20).filter(|_| budget.spend(now)).count() as u64;
            assert_eq!(spent, granted, "{requests} {seconds}");
        }
    }
}
