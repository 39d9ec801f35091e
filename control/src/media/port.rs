//! Media ports: even/odd pairs (RFC 3550 §11) from a range per network, with quarantine after use,
//! so that a late packet of one call does not reach the next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::id::NetworkId;

/// How long a pair rests before it is used again.
pub const QUARANTINE: Duration = Duration::from_secs(30);

/// The ports of all networks.
#[derive(Clone, Debug)]
pub struct Pools {
    seed: u64,
    pools: BTreeMap<NetworkId, Ports>,
}

/// How a network's ports are used, in pairs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Usage {
    pub taken: usize,
    pub resting: usize,
    pub free: usize,
}

/// One network's pairs, named by their even port.
#[derive(Clone, Debug)]
pub struct Ports {
    local: IpAddr,
    first: u16,
    last: u16,
    free: VecDeque<u16>,
    resting: VecDeque<(Instant, u16)>,
    taken: BTreeSet<u16>,
}

impl Default for Pools {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Pools {
    /// No networks yet. The seed decides where in its range each network begins.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            pools: BTreeMap::new(),
        }
    }

    /// Sets a network's address and range, both ends included. Pairs in use stay in use; those
    /// outside a new range are forgotten when they come back.
    pub fn configure(&mut self, network: NetworkId, local: IpAddr, first: u16, last: u16) {
        let fresh = Ports::new(local, first, last, self.seed);
        match self.pools.get_mut(&network) {
            Some(old)
                if (old.local, old.first, old.last) == (fresh.local, fresh.first, fresh.last) => {}
            Some(old) => old.become_like(fresh),
            None => {
                self.pools.insert(network, fresh);
            }
        }
    }

    /// The even port of a free pair; none if the network has no more, or is unknown.
    pub fn take(&mut self, network: NetworkId, now: Instant) -> Option<u16> {
        self.pools.get_mut(&network)?.take(now)
    }

    /// Ends the use of a pair: it rests.
    pub fn give_back(&mut self, network: NetworkId, port: u16, now: Instant) {
        let until = now + QUARANTINE;
        if let Some(ports) = self.pools.get_mut(&network) {
            ports.give_back(port, until);
        }
    }

    /// Undoes a `take` nobody was told about: the pair need not rest.
    pub fn untake(&mut self, network: NetworkId, port: u16) {
        if let Some(ports) = self.pools.get_mut(&network)
            && ports.taken.remove(&port)
            && ports.holds(port)
        {
            ports.free.push_front(port);
        }
    }

    /// Takes a certain pair, for a flow found running; false if it is not free.
    pub fn reserve(&mut self, network: NetworkId, port: u16) -> bool {
        self.pools
            .get_mut(&network)
            .is_some_and(|ports| ports.reserve(port))
    }

    /// Usage per network.
    pub fn usage(&self, now: Instant) -> impl Iterator<Item = (NetworkId, Usage)> {
        self.pools
            .iter()
            .map(move |(network, ports)| (*network, ports.usage(now)))
    }
}

impl Ports {
    fn new(local: IpAddr, first: u16, last: u16, seed: u64) -> Self {
        // Only whole pairs: from an even port to an odd one.
        let start = u32::from(first).next_multiple_of(2);
        let mut free: VecDeque<u16> = (start..u32::from(last))
            .step_by(2)
            .filter_map(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0)
            .collect();
        let turn = seed.checked_rem(free.len() as u64).unwrap_or(0);
        free.rotate_left(usize::try_from(turn).unwrap_or(0));
        Self {
            local,
            first,
            last,
            free,
            resting: VecDeque::new(),
            taken: BTreeSet::new(),
        }
    }

    /// Takes on another range. Sockets of another address are other sockets: nothing rests.
    fn become_like(&mut self, fresh: Self) {
        let old = std::mem::replace(self, fresh);
        if old.local == self.local {
            self.resting = old
                .resting
                .into_iter()
                .filter(|(_, p)| self.holds(*p))
                .collect();
        }
        self.taken = old.taken;
        let resting: BTreeSet<u16> = self.resting.iter().map(|(_, port)| *port).collect();
        let taken = &self.taken;
        self.free
            .retain(|port| !taken.contains(port) && !resting.contains(port));
    }

    fn holds(&self, port: u16) -> bool {
        (self.first..self.last).contains(&port) && port.is_multiple_of(2)
    }

    fn take(&mut self, now: Instant) -> Option<u16> {
        while let Some((_, port)) = self.resting.pop_front_if(|(until, _)| *until <= now) {
            self.free.push_back(port);
        }
        let port = self.free.pop_front()?;
        self.taken.insert(port);
        Some(port)
    }

    fn give_back(&mut self, port: u16, until: Instant) {
        if self.taken.remove(&port) && self.holds(port) {
            self.resting.push_back((until, port));
        }
    }

    fn reserve(&mut self, port: u16) -> bool {
        let Some(at) = self.free.iter().position(|free| *free == port) else {
            return false;
        };
        self.free.remove(at);
        self.taken.insert(port)
    }

    fn usage(&self, now: Instant) -> Usage {
        let resting = self
            .resting
            .iter()
            .filter(|(until, _)| *until > now)
            .count();
        Usage {
            taken: self.taken.len(),
            resting,
            free: self.free.len() + self.resting.len() - resting,
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
    fn a_pair_rests_after_use() {
        let now = start();
        let mut pools = pools(20_000, 20_001, 0);
        let port = pools.take(N, now).unwrap();
        assert_eq!(pools.take(N, now), None);
        pools.give_back(N, port, now);
        pools.give_back(N, port, now); // Twice is once.
        assert_eq!(
            pools.take(N, now + QUARANTINE - Duration::from_nanos(1)),
            None
        );
        assert_eq!(pools.take(N, now + QUARANTINE), Some(port));
        assert_eq!(pools.take(N, now + 9 * QUARANTINE), None);
        pools.untake(N, port);
        assert_eq!(pools.take(N, now), Some(port));
        assert_eq!(pools.take(NetworkId(7), now), None);
    }

    #[test]
    fn reserves_what_is_free() {
        let mut pools = pools(20_000, 20_003, 0);
        assert!(pools.reserve(N, 20_002));
        assert!(!pools.reserve(N, 20_002));
        assert!(!pools.reserve(N, 20_003));
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
        pools.give_back(N, a, now);
        pools.give_back(N, b, now);
        let later = now + QUARANTINE;
        assert_eq!(
            (pools.take(N, later), pools.take(N, later)),
            (Some(b), None)
        );
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
                    1 if which < out.len() => pools.give_back(N, out.swap_remove(which), now),
                    2 if which < out.len() => pools.untake(N, out.swap_remove(which)),
                    _ => now += Duration::from_secs(7),
                }
                let (_, usage) = pools.usage(now).next().unwrap();
                prop_assert_eq!(usage.taken, out.len());
                prop_assert_eq!(usage.taken + usage.resting + usage.free, 8);
            }
        }
    }

    fn pools(first: u16, last: u16, seed: u64) -> Pools {
        let mut pools = Pools::new(seed);
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
