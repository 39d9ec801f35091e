//! Media ports: even/odd pairs (RFC 3550 §11) from a range per network, with quarantine after use,
//! so that a late packet of one call does not reach the next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::id::{NetworkId, Shard};

/// How long a pair rests before it is used again.
pub const QUARANTINE: Duration = Duration::from_secs(30);

/// The ports of all networks. A pair belongs to its local address: whichever network's range it is
/// in now, it is taken once and rests once.
#[derive(Clone, Debug)]
pub struct Pools {
    seed: u64,
    /// Whose pairs these are; the others of each range are given away by other shards.
    shard: Shard,
    places: BTreeMap<IpAddr, Place>,
    ranges: BTreeMap<NetworkId, Range>,
}

/// How a network's ports are used, in pairs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Usage {
    /// Taken from this network, also from a range it had before.
    pub taken: usize,
    pub resting: usize,
    pub free: usize,
}

/// The pairs in use at one local address, named by their even port.
#[derive(Clone, Debug, Default)]
struct Place {
    /// With the network they were taken from; none for a flow found running outside all ranges.
    taken: BTreeMap<u16, Option<NetworkId>>,
    resting: VecDeque<(Instant, u16)>,
    /// Those that rest.
    quiet: BTreeSet<u16>,
}

/// The pairs a network may give away.
#[derive(Clone, Debug)]
struct Range {
    local: IpAddr,
    first: u16,
    last: u16,
    /// In the order they are tried; one that is in use when its turn comes leaves, and comes back
    /// when it has rested.
    queue: VecDeque<u16>,
    queued: BTreeSet<u16>,
    shard: Shard,
    /// All there are.
    pairs: usize,
}

impl Default for Pools {
    fn default() -> Self {
        Self::new(0, Shard::ONLY)
    }
}

impl Pools {
    /// No networks yet. The seed decides where in its range each network begins.
    #[must_use]
    pub fn new(seed: u64, shard: Shard) -> Self {
        Self {
            seed,
            shard,
            places: BTreeMap::new(),
            ranges: BTreeMap::new(),
        }
    }

    /// Sets a network's address and range, both ends included. Pairs in use stay in use, and rest
    /// afterwards, whichever range they are in then.
    pub fn configure(&mut self, network: NetworkId, local: IpAddr, first: u16, last: u16) {
        let same = |r: &Range| (r.local, r.first, r.last) == (local, first, last);
        if self.ranges.get(&network).is_some_and(same) {
            return;
        }
        self.places.entry(local).or_default();
        let range = Range::new(local, first, last, self.seed, self.shard);
        self.ranges.insert(network, range);
        self.tidy();
    }

    /// Forgets a network; pairs in use are given back as ever.
    pub fn remove(&mut self, network: NetworkId) {
        self.ranges.remove(&network);
        self.tidy();
    }

    /// The even port of a free pair; none if the network has no more, or is unknown.
    pub fn take(&mut self, network: NetworkId, now: Instant) -> Option<u16> {
        let local = self.ranges.get(&network)?.local;
        self.wake(local, now);
        let place = self.places.get_mut(&local)?;
        let range = self.ranges.get_mut(&network)?;
        while let Some(port) = range.pop() {
            if !place.is_busy(port) {
                place.taken.insert(port, Some(network));
                return Some(port);
            }
        }
        None
    }

    /// Ends the use of a pair: it rests.
    pub fn give_back(&mut self, local: IpAddr, port: u16, now: Instant) {
        if let Some(place) = self.places.get_mut(&local)
            && place.taken.remove(&port).is_some()
        {
            place.resting.push_back((now + QUARANTINE, port));
            place.quiet.insert(port);
        }
    }

    /// Undoes a `take` nobody was told about: the pair need not rest.
    pub fn untake(&mut self, local: IpAddr, port: u16) {
        let place = self.places.get_mut(&local);
        let owner = place.and_then(|place| place.taken.remove(&port)).flatten();
        if let Some(range) = owner.and_then(|network| self.ranges.get_mut(&network))
            && range.holds(local, port)
            && range.queued.insert(port)
        {
            range.queue.push_front(port);
        }
    }

    /// Takes the pair a flow was found running on; false if it is taken already.
    pub fn reserve(&mut self, network: Option<NetworkId>, local: IpAddr, port: u16) -> bool {
        let place = self.places.entry(local).or_default();
        if place.is_busy(port) {
            return false;
        }
        place.taken.insert(port, network);
        true
    }

    /// Usage per network.
    pub fn usage(&self, now: Instant) -> impl Iterator<Item = (NetworkId, Usage)> {
        let each = move |(network, range): (&NetworkId, &Range)| {
            let place = self.places.get(&range.local)?;
            Some((*network, range.usage(*network, place, now)))
        };
        self.ranges.iter().filter_map(each)
    }

    /// Pairs that have rested are offered again, by the network that has them now.
    fn wake(&mut self, local: IpAddr, now: Instant) {
        let Some(place) = self.places.get_mut(&local) else {
            return;
        };
        while let Some((_, port)) = place.resting.pop_front_if(|(until, _)| *until <= now) {
            place.quiet.remove(&port);
            for range in self.ranges.values_mut() {
                if range.holds(local, port) && range.queued.insert(port) {
                    range.queue.push_back(port);
                }
            }
        }
    }

    /// Forgets addresses that no network has and no pair is in use at.
    fn tidy(&mut self) {
        let ranges = &self.ranges;
        self.places.retain(|local, place| {
            let idle = place.taken.is_empty() && place.resting.is_empty();
            !idle || ranges.values().any(|range| range.local == *local)
        });
    }
}

impl Place {
    fn is_busy(&self, port: u16) -> bool {
        self.taken.contains_key(&port) || self.quiet.contains(&port)
    }
}

impl Range {
    fn new(local: IpAddr, first: u16, last: u16, seed: u64, shard: Shard) -> Self {
        // Only whole pairs: from an even port to an odd one.
        let start = u32::from(first).next_multiple_of(2);
        let mut queue: VecDeque<u16> = (start..u32::from(last))
            .step_by(2)
            .filter_map(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0 && shard.owns_port(*port))
            .collect();
        let turn = seed.checked_rem(queue.len() as u64).unwrap_or(0);
        queue.rotate_left(usize::try_from(turn).unwrap_or(0));
        let queued = queue.iter().copied().collect();
        Self {
            local,
            first,
            last,
            pairs: queue.len(),
            queue,
            queued,
            shard,
        }
    }

    fn holds(&self, local: IpAddr, port: u16) -> bool {
        let within = (self.first..self.last).contains(&port);
        let whole = port.is_multiple_of(2) && port != 0;
        local == self.local && within && whole && self.shard.owns_port(port)
    }

    fn pop(&mut self) -> Option<u16> {
        let port = self.queue.pop_front()?;
        self.queued.remove(&port);
        Some(port)
    }

    fn usage(&self, network: NetworkId, place: &Place, now: Instant) -> Usage {
        let here = |port: &u16| self.holds(self.local, *port);
        let taken_here = place.taken.range(self.first..=self.last);
        let taken_here = taken_here.filter(|(port, _)| here(port)).count();
        let resting = place.resting.iter();
        let resting = resting.filter(|(until, port)| *until > now && here(port));
        let (resting, owners) = (resting.count(), place.taken.values());
        Usage {
            taken: owners.filter(|owner| **owner == Some(network)).count(),
            resting,
            free: self.pairs.saturating_sub(taken_here + resting),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const N: NetworkId = NetworkId(0);

    #[test]
    fn pairs_of_a_range() {
        check(20_000, 20_005, 0, &[20_000, 20_002, 20_004]);
        check(20_000, 20_005, 4, &[20_002, 20_004, 20_000]);
        check(20_001, 20_006, 0, &[20_002, 20_004]);
        check(65_532, 65_535, 0, &[65_532, 65_534]);
        check(20_001, 20_002, 9, &[]);
        check(20_000, 20_000, 9, &[]);

        fn check(first: u16, last: u16, seed: u64, expected: &[u16]) {
            let mut pools = pools(first, last, seed);
            let now = start();
            let got: Vec<u16> = std::iter::from_fn(|| pools.take(N, now)).collect();
            assert_eq!(got, expected, "{first}-{last}");
        }
    }

    #[test]
    fn shards_share_a_range_and_no_pair() {
        let now = start();
        for of in 1..=4 {
            let mut all: Vec<u16> = Vec::new();
            for shard in Shard::all(of) {
                let mut pools = Pools::new(5, shard);
                pools.configure(N, local(), 20_000, 20_019);
                let (_, before) = pools.usage(now).next().unwrap();
                let taken: Vec<u16> = std::iter::from_fn(|| pools.take(N, now)).collect();
                assert_eq!(before.free, taken.len());
                assert!(taken.iter().all(|port| shard.owns_port(*port)));
                pools.give_back(local(), taken[0], now);
                assert_eq!(pools.take(N, now + QUARANTINE), Some(taken[0]));
                all.extend(taken);
            }
            all.sort_unstable();
            assert_eq!(
                all,
                (20_000..20_020).step_by(2).collect::<Vec<u16>>(),
                "{of}"
            );
        }
    }

    #[test]
    fn a_pair_rests_after_use() {
        let now = start();
        let mut pools = pools(20_000, 20_001, 0);
        let port = pools.take(N, now).unwrap();
        assert_eq!(pools.take(N, now), None);
        pools.give_back(local(), port, now);
        pools.give_back(local(), port, now); // Twice is once.
        assert_eq!(
            pools.take(N, now + QUARANTINE - Duration::from_nanos(1)),
            None
        );
        assert_eq!(pools.take(N, now + QUARANTINE), Some(port));
        assert_eq!(pools.take(N, now + 9 * QUARANTINE), None);
        pools.untake(local(), port);
        assert_eq!(pools.take(N, now), Some(port));
        assert_eq!(pools.take(NetworkId(7), now), None);
    }

    #[test]
    fn reserves_what_is_free() {
        let mut pools = pools(20_000, 20_003, 0);
        assert!(pools.reserve(Some(N), local(), 20_002));
        assert!(!pools.reserve(Some(N), local(), 20_002));
        assert!(pools.reserve(None, local(), 30_000));
        assert_eq!(pools.take(N, start()), Some(20_000));
        assert_eq!(pools.take(N, start()), None);
    }

    #[test]
    fn a_new_range_keeps_what_is_in_use() {
        let now = start();
        let mut pools = pools(20_000, 20_003, 0);
        let (a, b) = (pools.take(N, now).unwrap(), pools.take(N, now).unwrap());
        pools.configure(N, local(), 20_002, 20_005);
        assert_eq!(pools.take(N, now), Some(20_004));
        pools.give_back(local(), a, now);
        pools.give_back(local(), b, now);
        let later = now + QUARANTINE;
        assert_eq!(
            (pools.take(N, later), pools.take(N, later)),
            (Some(b), None)
        );
    }

    #[test]
    fn a_pair_rests_although_its_range_came_and_went() {
        let now = start();
        let mut pools = pools(20_000, 20_001, 0);
        let port = pools.take(N, now).unwrap();
        pools.give_back(local(), port, now);
        pools.configure(N, local(), 30_000, 30_001);
        pools.configure(N, local(), 20_000, 20_001);
        assert_eq!(pools.take(N, now), None);
        assert_eq!(pools.take(N, now + QUARANTINE), Some(port));
    }

    #[test]
    fn what_one_network_has_taken_another_does_not_give_away() {
        let (now, other) = (start(), NetworkId(1));
        let mut pools = pools(20_000, 20_001, 0);
        pools.configure(other, local(), 30_000, 30_001);
        assert_eq!(pools.take(N, now), Some(20_000));
        // They exchange their ranges.
        pools.configure(N, local(), 30_000, 30_001);
        pools.configure(other, local(), 20_000, 20_001);
        assert_eq!(pools.take(other, now), None);
        let usage: Vec<Usage> = pools.usage(now).map(|(_, usage)| usage).collect();
        assert_eq!(usage.iter().map(|u| u.taken).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(usage.iter().map(|u| u.free).collect::<Vec<_>>(), [1, 0]);
        pools.give_back(local(), 20_000, now);
        assert_eq!(pools.take(other, now), None);
        assert_eq!(pools.take(other, now + QUARANTINE), Some(20_000));
        // At another address the same number is another pair.
        pools.configure(N, "192.0.2.2".parse().unwrap(), 20_000, 20_001);
        assert_eq!(pools.take(N, now + QUARANTINE), Some(20_000));
    }

    proptest! {
        /// No pair is out twice, and none is lost.
        #[test]
        fn conserves_pairs(moves in proptest::collection::vec((0u8..4, 0usize..8), 0..200)) {
            let mut now = start();
            let mut pools = pools(20_000, 20_015, 3);
            let mut out: Vec<u16> = Vec::new();
            for (what, which) in moves {
                match what {
                    0 => if let Some(port) = pools.take(N, now) {
                        prop_assert!(!out.contains(&port));
                        out.push(port);
                    },
                    1 if which < out.len() => pools.give_back(local(), out.swap_remove(which), now),
                    2 if which < out.len() => pools.untake(local(), out.swap_remove(which)),
                    _ => now += Duration::from_secs(7),
                }
                let (_, usage) = pools.usage(now).next().unwrap();
                prop_assert_eq!(usage.taken, out.len());
                prop_assert_eq!(usage.taken + usage.resting + usage.free, 8);
            }
        }
    }

    fn pools(first: u16, last: u16, seed: u64) -> Pools {
        let mut pools = Pools::new(seed, Shard::ONLY);
        pools.configure(N, local(), first, last);
        pools
    }

    fn local() -> IpAddr {
        "192.0.2.1".parse().unwrap()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do as the origin"
    )]
    fn start() -> Instant {
        Instant::now()
    }
}
