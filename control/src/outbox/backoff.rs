//! When a link that was lost is tried again.

use std::time::Duration;

/// The first wait, at most.
pub const FIRST: Duration = Duration::from_millis(200);
/// Any wait, at most.
pub const LONGEST: Duration = Duration::from_secs(15);

/// Waits that double, each drawn anew so that not all clients of a broker come at once.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait, with full jitter; `random` is the caller's.
    pub fn next(&mut self, random: u64) -> Duration {
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let most = FIRST.saturating_mul(factor).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let most_ms = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(random % most_ms.saturating_add(1))
    }

    /// The link is of use again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let most = [200, 400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000];
        for most in most {
            let most = Duration::from_millis(most);
            let ms = u64::try_from(most.as_millis()).unwrap();
            let failures = backoff.failures;
            assert_eq!(backoff.next(ms), most);
            backoff.failures = failures;
            assert_eq!(backoff.next(ms + 1), Duration::ZERO);
        }
        backoff.failures = u32::MAX;
        assert_eq!(backoff.next(15_000), LONGEST);
        backoff.reset();
        assert_eq!(backoff.next(200), FIRST);
    }
}
