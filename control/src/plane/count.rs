//! What the plane has done, in numbers.

use std::collections::BTreeMap;
use std::time::Duration;

/// Upper bounds of the buckets of waiting times, in seconds.
pub const WAITS_S: [f64; 9] = [0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 1800.0];

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// What became of floor requests.
    pub floor: BTreeMap<&'static str, u64>,
    /// How long those waited that were granted.
    pub waits: Waits,
    /// View and floor commands that came too late, and why.
    pub stale: BTreeMap<&'static str, u64>,
    /// Messages that belong to nothing we know, and why.
    pub unplaced: BTreeMap<&'static str, u64>,
    /// Commands for conferences at home elsewhere, by what became of them.
    pub forwarded: BTreeMap<&'static str, u64>,
    /// Commands, by what they were answered.
    pub commands: BTreeMap<&'static str, u64>,
}

/// A histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Waits {
    /// Each bucket holds those of the ones before it too.
    pub buckets: [u64; WAITS_S.len()],
    pub sum_s: f64,
    pub count: u64,
}

impl Counts {
    pub(super) fn count(
        &mut self,
        outcomes: &[&'static str],
        waits: &[Duration],
        stale: &[&'static str],
    ) {
        for outcome in outcomes {
            *self.floor.entry(outcome).or_default() += 1;
        }
        for reason in stale {
            *self.stale.entry(reason).or_default() += 1;
        }
        for wait in waits {
            self.waits.add(wait.as_secs_f64());
        }
    }
}

impl Waits {
    fn add(&mut self, seconds: f64) {
        for (bucket, bound) in self.buckets.iter_mut().zip(WAITS_S) {
            *bucket += u64::from(seconds <= bound);
        }
        self.sum_s += seconds;
        self.count += 1;
    }
}
