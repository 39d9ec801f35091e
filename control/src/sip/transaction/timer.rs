//! Timer values (RFC 3261 §17.1.1.1 and table 4) and the few timers one machine runs.

use std::time::{Duration, Instant};

/// Timers one state runs at most: one that repeats and one that ends.
const RUNNING_MAX: usize = 2;

/// Below this a machine would spin, above it a transaction would outlive every user's patience.
const T1_MIN: Duration = Duration::from_millis(1);
const T1_MAX: Duration = Duration::from_secs(60);

/// Timer D over an unreliable transport lasts at least this long (RFC 3261 §17.1.1.2).
const TIMER_D_MIN: Duration = Duration::from_secs(32);

/// The three values every timer is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// Estimate of the round trip.
    pub t1: Duration,
    /// Longest pause between retransmissions, except of an INVITE.
    pub t2: Duration,
    /// Longest time a message stays in the network.
    pub t4: Duration,
}

impl Default for Timing {
    /// RFC 3261 table 4.
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
        }
    }
}

impl Timing {
    /// The nearest values a machine can run on: T1 within its limits, T2 and T4 not below it.
    pub(super) fn bounded(self) -> Self {
        let t1 = self.t1.clamp(T1_MIN, T1_MAX);
        let longest = T1_MAX * 64;
        Self {
            t1,
            t2: self.t2.clamp(t1, longest),
            t4: self.t4.clamp(t1, longest),
        }
    }

    /// Timers B, F, H, J, L and M: 64*T1.
    pub(super) fn patience(&self) -> Duration {
        self.t1 * 64
    }

    /// Timer D.
    pub(super) fn completed_invite(&self) -> Duration {
        self.patience().max(TIMER_D_MIN)
    }

    /// Timers E and G: doubles up to T2.
    pub(super) fn doubled(&self, interval: Duration) -> Duration {
        (interval * 2).min(self.t2)
    }

    /// How long timer E takes to reach T2: before that no 100 answers a non-INVITE request over
    /// an unreliable transport (RFC 4320 §4.1).
    pub(super) fn until_t2(&self) -> Duration {
        let mut passed = Duration::ZERO;
        let mut interval = self.t1;
        while interval < self.t2 {
            passed += interval;
            interval = self.doubled(interval);
        }
        passed
    }
}

/// The timers that run, each with its time. `T` is a machine's enum of timer letters.
#[derive(Clone, Debug)]
pub(super) struct Timers<T> {
    running: [Option<(Instant, T)>; RUNNING_MAX],
}

impl<T: Copy + Ord> Timers<T> {
    pub(super) fn none() -> Self {
        Self {
            running: [None; RUNNING_MAX],
        }
    }

    /// The same timers and one more.
    pub(super) fn with(mut self, timer: T, at: Instant) -> Self {
        self.start(timer, at);
        self
    }

    /// Starts a timer, or starts it again.
    pub(super) fn start(&mut self, timer: T, at: Instant) {
        let slot = self
            .running
            .iter_mut()
            .find(|slot| slot.is_none_or(|(_, running)| running == timer))
            .expect("no state runs more than RUNNING_MAX timers");
        *slot = Some((at, timer));
    }

    /// When the first of them fires.
    pub(super) fn next(&self) -> Option<Instant> {
        self.running.iter().flatten().map(|(at, _)| *at).min()
    }

    /// Takes the timer that was due first; of two due together, the lower letter.
    pub(super) fn pop(&mut self, now: Instant) -> Option<T> {
        let slot = self
            .running
            .iter_mut()
            .filter(|slot| slot.is_some_and(|(at, _)| at <= now))
            .min_by_key(|slot| **slot)?;
        slot.take().map(|(_, timer)| timer)
    }

    /// Makes one running timer due and stops the other. False if it does not run.
    #[cfg(test)]
    pub(super) fn only(&mut self, timer: T, now: Instant) -> bool {
        let runs = self.running.iter().flatten().any(|(_, t)| *t == timer);
        *self = Self::none().with(timer, now);
        runs
    }

    /// Letters and remaining milliseconds, in letter order.
    #[cfg(test)]
    pub(super) fn describe(&self, now: Instant) -> String
    where
        T: std::fmt::Debug,
    {
        let mut running: Vec<_> = self.running.iter().flatten().collect();
        running.sort_by_key(|(_, timer)| *timer);
        let text: Vec<String> = running
            .iter()
            .map(|(at, timer)| format!("{timer:?}+{}", (*at - now).as_millis()))
            .collect();
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::start;
    use super::*;

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn timers_fire_in_order_and_once() {
        let now = start();
        let mut timers = Timers::none().with('B', now + ms(3)).with('A', now + ms(5));
        timers.start('A', now + ms(1));
        assert_eq!(timers.next(), Some(now + ms(1)));
        assert_eq!(timers.pop(now), None);
        assert_eq!(timers.pop(now + ms(9)), Some('A'));
        assert_eq!(timers.pop(now + ms(9)), Some('B'));
        assert_eq!(timers.pop(now + ms(9)), None);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn of_two_due_together_the_lower_letter_fires() {
        let now = start();
        let mut timers = Timers::none().with('H', now).with('G', now);
        assert_eq!(timers.pop(now), Some('G'));
        assert_eq!(timers.pop(now), Some('H'));
    }

    #[test]
    fn values_follow_from_t1() {
        let check = |t1: u64, t2: u64, patience: u64, d: u64, until_t2: u64| {
            let timing = Timing {
                t1: ms(t1),
                t2: ms(t2),
                t4: ms(5_000),
            };
            let timing = timing.bounded();
            assert_eq!(timing.patience(), ms(patience), "{t1} {t2}");
            assert_eq!(timing.completed_invite(), ms(d), "{t1} {t2}");
            assert_eq!(timing.until_t2(), ms(until_t2), "{t1} {t2}");
        };
        check(500, 4_000, 32_000, 32_000, 3_500);
        check(1_000, 4_000, 64_000, 64_000, 3_000);
        check(10, 4_000, 640, 32_000, 5_110);
        check(4_000, 500, 256_000, 256_000, 0);
        check(0, 0, 64, 32_000, 0);
    }
}
