//! The round trip to another server, and how long an answer is waited for (RFC 6298).

use std::collections::VecDeque;
use std::time::Duration;

/// RFC 6298 §2.1: before anything was measured.
pub const TIMEOUT_START: Duration = Duration::from_secs(1);
/// An answer may always be so late; RFC 6298 §2.4 asks for a floor.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(200);
/// RFC 6298 §2.5 allows a ceiling of a minute; a caller's deadline comes long before.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// RFC 6298 §2.3: G.
pub const GRANULARITY: Duration = Duration::from_millis(20);
/// Times a timeout is doubled in a row (RFC 6298 §5.5).
pub const DOUBLINGS_MAX: u32 = 3;
/// Samples kept to be shown.
pub const SAMPLES_MAX: usize = 20;

/// What is known of one class of requests to one server.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Estimator {
    known: Option<Known>,
    doublings: u32,
    samples: VecDeque<Duration>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Known {
    smoothed: Duration,
    variation: Duration,
}

impl Estimator {
    /// A request that was sent once was answered after this time. One that was sent again says
    /// nothing (RFC 6298 §3, Karn).
    pub fn sample(&mut self, rtt: Duration) {
        self.doublings = 0;
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(rtt);
        self.known = Some(match self.known {
            // RFC 6298 §2.2.
            None => Known {
                smoothed: rtt,
                variation: rtt / 2,
            },
            // RFC 6298 §2.3; the variation first.
            Some(Known {
                smoothed,
                variation,
            }) => Known {
                variation: variation * 3 / 4 + smoothed.abs_diff(rtt) / 4,
                smoothed: smoothed * 7 / 8 + rtt / 8,
            },
        });
    }

    /// An attempt was not answered in time (RFC 6298 §5.5).
    pub fn timed_out(&mut self) {
        self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
    }

    /// How long the next attempt waits.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        let timeout = self.known.map_or(TIMEOUT_START, |known| {
            let slack = GRANULARITY.max(known.variation.saturating_mul(4));
            let floor = TIMEOUT_MIN.max(known.smoothed.saturating_mul(2));
            known.smoothed.saturating_add(slack).max(floor)
        });
        self.doubled(timeout)
    }

    /// A timeout known otherwise, after as many attempts as have timed out here.
    pub(super) fn doubled(&self, timeout: Duration) -> Duration {
        timeout.saturating_mul(1 << self.doublings).min(TIMEOUT_MAX)
    }

    /// SRTT.
    #[must_use]
    pub fn smoothed(&self) -> Option<Duration> {
        self.known.map(|known| known.smoothed)
    }

    /// RTTVAR.
    #[must_use]
    pub fn variation(&self) -> Option<Duration> {
        self.known.map(|known| known.variation)
    }

    #[must_use]
    pub fn measured(&self) -> bool {
        self.known.is_some()
    }

    /// The last ones, oldest first.
    pub fn samples(&self) -> impl Iterator<Item = Duration> {
        self.samples.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1000.0)
    }

    /// Round trips in milliseconds, "x" an attempt that timed out; SRTT, RTTVAR and timeout after.
    fn check(history: &str, srtt: f64, rttvar: f64, timeout: f64) {
        let mut estimator = Estimator::default();
        for event in history.split_whitespace() {
            match event.parse() {
                Ok(rtt) => estimator.sample(ms(rtt)),
                Err(_) => estimator.timed_out(),
            }
        }
        let near = |is: Duration, expected: f64| is.abs_diff(ms(expected)).as_micros() < 10;
        let (s, v) = (estimator.smoothed(), estimator.variation());
        assert!(near(s.unwrap_or_default(), srtt), "{history}: SRTT {s:?}");
        assert!(
            near(v.unwrap_or_default(), rttvar),
            "{history}: RTTVAR {v:?}"
        );
        let is = estimator.timeout();
        assert!(near(is, timeout), "{history}: timeout {is:?}");
    }

    #[test]
    fn the_rules_of_the_rfc() {
        // §2.1, and §5.5 before anything was measured.
        check("", 0.0, 0.0, 1000.0);
        check("x", 0.0, 0.0, 2000.0);
        check("x x", 0.0, 0.0, 4000.0);
        check("x x x", 0.0, 0.0, 5000.0);
        // §2.2
        check("100", 100.0, 50.0, 300.0);
        // §2.3: 3/4 · 50 + 1/4 · 100, 7/8 · 100 + 1/8 · 200.
        check("100 200", 112.5, 62.5, 362.5);
        check("100 200 112.5", 112.5, 46.875, 300.0);
        // §5.5, §5.7: doubled until a sample is taken.
        check("100 x", 100.0, 50.0, 600.0);
        check("100 x x", 100.0, 50.0, 1200.0);
        check("100 x x x", 100.0, 50.0, 2400.0);
        check("100 x x x x x", 100.0, 50.0, 2400.0);
        check("100 x x x 200", 112.5, 62.5, 362.5);
    }

    #[test]
    fn floor_and_ceiling() {
        check("1", 1.0, 0.5, 200.0);
        check("0", 0.0, 0.0, 200.0);
        // A steady path: variation dies away, and twice the round trip is left.
        check(&"150 ".repeat(60), 150.0, 0.0, 300.0);
        check(&"90 ".repeat(60), 90.0, 0.0, 200.0);
        check("4000", 4000.0, 2000.0, 5000.0);
        check("300 x x x", 300.0, 150.0, 5000.0);
    }

    #[test]
    fn the_last_samples_are_kept() {
        let mut estimator = Estimator::default();
        for rtt in 0..50 {
            estimator.sample(Duration::from_millis(rtt));
        }
        let kept: Vec<_> = estimator.samples().map(|rtt| rtt.as_millis()).collect();
        assert_eq!(kept, (30..50).collect::<Vec<_>>());
    }
}
