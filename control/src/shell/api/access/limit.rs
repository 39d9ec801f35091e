//! How much one asks, and how often one guesses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Names remembered; those that have rested are forgotten first.
const NAMES_MAX: usize = 1024;
/// How many seconds' worth may come at once.
const BURST_S: u32 = 10;

/// Wrong tokens from one source, within [`FAILURES_WITHIN`], before it is told to wait.
const FAILURES_MAX: u32 = 10;
const FAILURES_WITHIN: Duration = Duration::from_secs(60);
const SOURCES_MAX: usize = 4096;

/// What each principal has left.
#[derive(Debug)]
pub(super) struct Rates {
    /// A second; zero is no limit.
    rate: u32,
    /// Until when each has spent what it may.
    spent: BTreeMap<String, Instant>,
}

impl Rates {
    pub(super) fn new(rate: u32) -> Self {
        Self {
            rate,
            spent: BTreeMap::new(),
        }
    }

    pub(super) fn set(&mut self, rate: u32) {
        self.rate = rate;
        self.spent.clear();
    }

    /// Takes one; how long to wait if there is none.
    pub(super) fn take(&mut self, name: &str, now: Instant) -> Option<Duration> {
        let each = Duration::from_secs(1).checked_div(self.rate)?;
        if self.spent.len() >= NAMES_MAX {
            self.spent.retain(|_, until| *until > now);
        }
        let until = self.spent.get(name).map_or(now, |until| (*until).max(now));
        let ahead = until.saturating_duration_since(now);
        let burst = Duration::from_secs(BURST_S.into());
        if ahead.saturating_add(each) > burst {
            return Some(ahead.saturating_add(each).saturating_sub(burst));
        }
        if self.spent.len() < NAMES_MAX || self.spent.contains_key(name) {
            self.spent.insert(name.to_owned(), until + each);
        }
        None
    }
}

/// Wrong tokens, by the source they came from.
#[derive(Debug, Default)]
pub(super) struct Failures {
    sources: BTreeMap<IpAddr, (u32, Instant)>,
}

impl Failures {
    /// Notes one; how long to wait if it was one too many.
    pub(super) fn note(&mut self, source: IpAddr, now: Instant) -> Option<Duration> {
        let over = |since: Instant| now.saturating_duration_since(since) >= FAILURES_WITHIN;
        if self.sources.len() >= SOURCES_MAX {
            self.sources.retain(|_, (_, since)| !over(*since));
        }
        if self.sources.len() >= SOURCES_MAX {
            return Some(FAILURES_WITHIN);
        }
        let (count, since) = self.sources.entry(prefix(source)).or_insert((0, now));
        if over(*since) {
            (*count, *since) = (0, now);
        }
        *count = count.saturating_add(1);
        let left = FAILURES_WITHIN.saturating_sub(now.saturating_duration_since(*since));
        (*count > FAILURES_MAX).then_some(left)
    }
}

/// An IPv6 host has a /64 of addresses to guess from.
fn prefix(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::clock;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_and_then_the_rate() {
        let now = clock::now();
        let mut rates = Rates::new(2);
        for n in 0..20 {
            assert_eq!(rates.take("a", now), None, "{n}");
        }
        assert_eq!(rates.take("a", now), Some(S / 2));
        assert_eq!(rates.take("b", now), None, "each has its own");
        assert_eq!(rates.take("a", now + S), None);
        assert_eq!(rates.take("a", now + S), None);
        assert_eq!(rates.take("a", now + S), Some(S / 2));
        rates.set(0);
        for _ in 0..1000 {
            assert_eq!(rates.take("a", now), None);
        }
    }

    #[test]
    fn guesses_are_limited_by_source() {
        let now = clock::now();
        let mut failures = Failures::default();
        let mut note = |source: &str, at| failures.note(source.parse().unwrap(), at);
        for _ in 0..FAILURES_MAX {
            assert_eq!(note("2001:db8::1", now), None);
        }
        assert_eq!(note("2001:db8::2", now + S), Some(59 * S));
        assert_eq!(note("2001:db8:0:1::2", now + S), None);
        assert_eq!(note("::ffff:192.0.2.1", now), None);
        assert_eq!(note("2001:db8::1", now + 60 * S), None);
    }
}
