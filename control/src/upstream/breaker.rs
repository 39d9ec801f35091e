//! A server that answers nothing is not asked for a while: whoever would ask is told at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Calls of so long are looked at.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Fewer of them say nothing.
pub const CALLS_MIN: u32 = 10;
/// At first; doubled whenever the probe fails.
pub const OPEN_MIN: Duration = Duration::from_secs(1);
pub const OPEN_MAX: Duration = Duration::from_secs(30);
/// A probe of which nothing was heard is taken for lost.
pub const PROBE_MAX: Duration = Duration::from_secs(30);
const BUCKET: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Breaker {
    state: State,
    /// Calls by the second, oldest first; not longer than the window.
    buckets: VecDeque<Bucket>,
    /// Times it has opened since the start.
    opened: u64,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
        wait: Duration,
    },
    /// One call may try.
    HalfOpen {
        since: Instant,
        wait: Duration,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Bucket {
    since: Instant,
    calls: u32,
    failed: u32,
}

impl Breaker {
    /// Whether a call may be made.
    ///
    /// # Errors
    /// When it is worth asking again.
    pub fn permit(&mut self, now: Instant) -> Result<(), Instant> {
        match self.state {
            State::Closed => Ok(()),
            State::Open { until, .. } if now < until => Err(until),
            State::HalfOpen { since, .. } if now < since + PROBE_MAX => Err(since + PROBE_MAX),
            State::Open { wait, .. } | State::HalfOpen { wait, .. } => {
                self.state = State::HalfOpen { since: now, wait };
                Ok(())
            }
        }
    }

    /// What became of a call that was permitted.
    pub fn note(&mut self, succeeded: bool, now: Instant) {
        match (self.state, succeeded) {
            (State::Closed, _) => {
                self.count(succeeded, now);
                if self.too_many() {
                    self.open(OPEN_MIN, now);
                }
            }
            (State::HalfOpen { .. }, true) => {
                self.state = State::Closed;
                self.buckets.clear();
            }
            (State::HalfOpen { wait, .. }, false) => self.open((wait * 2).min(OPEN_MAX), now),
            // Begun before it opened.
            (State::Open { .. }, _) => {}
        }
    }

    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.state {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::HalfOpen { .. } => "half-open",
        }
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened
    }

    fn open(&mut self, wait: Duration, now: Instant) {
        let until = now + wait;
        self.state = State::Open { until, wait };
        self.opened += 1;
        self.buckets.clear();
    }

    fn count(&mut self, succeeded: bool, now: Instant) {
        while self
            .buckets
            .front()
            .is_some_and(|b| b.since + WINDOW <= now)
        {
            self.buckets.pop_front();
        }
        if self.buckets.back().is_none_or(|b| b.since + BUCKET <= now) {
            let (since, calls, failed) = (now, 0, 0);
            self.buckets.push_back(Bucket {
                since,
                calls,
                failed,
            });
        }
        if let Some(last) = self.buckets.back_mut() {
            last.calls = last.calls.saturating_add(1);
            last.failed = last.failed.saturating_add(u32::from(!succeeded));
        }
    }

    fn too_many(&self) -> bool {
        let sum = |of: fn(&Bucket) -> u32| self.buckets.iter().map(of).fold(0, u32::saturating_add);
        let (calls, failed) = (sum(|b| b.calls), sum(|b| b.failed));
        calls >= CALLS_MIN && failed >= calls.div_ceil(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::tests::start;

    /// At each time in milliseconds: `+` a call that succeeds, `-` one that fails, `!` one that
    /// must be refused, `?` one that is permitted and never heard of again; the state in the end.
    fn check(script: &[(u64, &str)], expected: &str) {
        let (mut breaker, begin) = (Breaker::default(), start());
        for (at, calls) in script {
            let now = begin + Duration::from_millis(*at);
            for (number, call) in calls.chars().enumerate() {
                let permitted = breaker.permit(now).is_ok();
                assert_eq!(
                    permitted,
                    call != '!',
                    "{script:?}: {at} ms, call {number}: {breaker:?}"
                );
                match call {
                    '+' => breaker.note(true, now),
                    '-' => breaker.note(false, now),
                    _ => {}
                }
            }
        }
        assert_eq!(breaker.word(), expected, "{script:?}");
    }

    #[test]
    fn opens_when_half_of_ten_have_failed() {
        check(&[(0, "---------")], "closed");
        check(&[(0, "----------!")], "open");
        check(&[(0, "+++++-----!")], "open");
        check(&[(0, "++++++----")], "closed");
        check(&[(0, "-----"), (9000, "-----")], "open");
        check(&[(0, "-----"), (10_000, "-----")], "closed");
    }

    #[test]
    fn one_probe_after_a_wait_that_doubles() {
        let open = (0, "----------!");
        check(&[open, (999, "!")], "open");
        check(&[open, (1000, "?!")], "half-open");
        check(&[open, (1000, "+++++++++")], "closed");
        check(&[open, (1000, "+---------")], "closed");
        check(&[open, (1000, "-!"), (2999, "!"), (3000, "-!")], "open");
        check(
            &[
                open,
                (1000, "-"),
                (3000, "-"),
                (7000, "-"),
                (15_000, "-"),
                (30_999, "!"),
                (31_000, "-"),
                (60_999, "!"),
                (61_000, "-"),
                (90_999, "!"),
                (91_000, "+"),
            ],
            "closed",
        );
        check(
            &[open, (1000, "?!"), (30_999, "!"), (31_000, "+")],
            "closed",
        );
    }
}
