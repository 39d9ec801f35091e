//! Requests to another server: how long an answer is waited for, when a request is tried again,
//! and when no more. The only fixed number is the caller's deadline; what is waited for one
//! attempt follows the round trip that was measured (RFC 6298). No I/O: see `Call`.

pub mod breaker;
pub mod budget;
pub mod call;
pub mod estimator;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use breaker::Breaker;
use budget::Budget;
use estimator::Estimator;

pub use call::{Call, Failure, Next, Terms};

/// What the caller of a request grants it, where nothing is configured.
pub const DEADLINE: Duration = Duration::from_secs(3);

/// Requests that take differently long upstream are measured apart.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// Asks for nothing but an answer.
    Ping,
    /// Frames of the cascade.
    Link,
    /// Views handed to the conference server.
    View,
}

impl Class {
    pub const ALL: [Self; 3] = [Self::Ping, Self::Link, Self::View];

    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Link => "link",
            Self::View => "view",
        }
    }
}

/// Another server, as our requests know it.
#[derive(Clone, Debug)]
pub struct Upstream {
    estimators: BTreeMap<Class, Estimator>,
    budget: Budget,
    breaker: Breaker,
    counts: Counts,
    /// State of SplitMix64: pauses need no better.
    random: u64,
}

/// What has become of requests since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    pub answered: u64,
    /// By their deadline.
    pub unanswered: u64,
    /// Every attempt was refused or broken off.
    pub broken: u64,
    /// Not sent, because the breaker was open.
    pub refused: u64,
    /// Nobody waits for the answer any more.
    pub abandoned: u64,
    pub attempts: u64,
    pub retries: u64,
    /// Attempts that were not answered in time.
    pub timeouts: u64,
    /// Retries that the budget did not allow.
    pub unaffordable: u64,
}

impl Upstream {
    #[must_use]
    pub fn new(seed: u64, now: Instant) -> Self {
        Self {
            estimators: BTreeMap::new(),
            budget: Budget::new(now),
            breaker: Breaker::default(),
            counts: Counts::default(),
            random: seed,
        }
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Retries it would grant at this moment.
    #[must_use]
    pub fn retries_left(&self, now: Instant) -> u64 {
        self.budget.left(now)
    }

    /// None: no request of that class yet.
    #[must_use]
    pub fn estimator(&self, class: Class) -> Option<&Estimator> {
        self.estimators.get(&class)
    }

    /// How long an attempt waits for its answer now.
    #[must_use]
    pub fn timeout(&self, class: Class) -> Duration {
        let own = self.estimators.get(&class);
        let ping = self.estimators.get(&Class::Ping);
        match (own, ping) {
            // What was never answered is taken to be as far away as a ping.
            (Some(own), Some(ping)) if !own.measured() => own.doubled(ping.timeout()),
            (Some(known), _) | (None, Some(known)) => known.timeout(),
            (None, None) => estimator::TIMEOUT_START,
        }
    }

    /// How long the way there and back takes; none: not measured yet.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        let each = Class::ALL.into_iter();
        let mut each = each.filter_map(|class| self.estimators.get(&class)?.smoothed());
        each.next()
    }

    fn estimator_mut(&mut self, class: Class) -> &mut Estimator {
        self.estimators.entry(class).or_default()
    }

    /// Uniform in 0..=most.
    fn pause(&mut self, most: Duration) -> Duration {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.random;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        let chosen = (z ^ (z >> 31)).checked_rem(most.saturating_add(1));
        Duration::from_micros(chosen.unwrap_or(0))
    }
}

/// Whether a deadline cannot be met over a path this long: it leaves no time for one answer that
/// is late, or for the connection to be made first.
#[must_use]
pub fn too_short(deadline: Duration, rtt: Duration) -> bool {
    deadline < rtt.saturating_mul(2)
}

#[cfg(test)]
mod tests;
