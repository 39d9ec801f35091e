//! A table of fixed size that a flood cannot push the innocent out of. Keys are spread over small
//! sets by a secret hash. A full set lets go of the entry that is worth least: to be unknown and to
//! be worth nothing are the same, so whoever is let go of loses nothing, and whoever has run up a
//! bill keeps it.

use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use ipnet::IpNet;

const SETS: usize = 4096;
const WAYS: usize = 8;

/// A keyed hash: nobody can aim at a set.
pub(super) struct Hash {
    secret: [u8; 32],
}

impl Hash {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    pub(super) fn of(&self, net: IpNet, port: Option<u16>, name: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.secret);
        match net {
            IpNet::V4(net) => hasher.write(&net.addr().octets()),
            IpNet::V6(net) => hasher.write(&net.addr().octets()),
        }
        hasher.write_u32(port.map_or(u32::MAX, u32::from));
        hasher.write(name);
        hasher.finish()
    }
}

pub(super) struct Table<V> {
    /// Grows to `SETS` sets of `WAYS` entries.
    sets: Vec<Vec<(u64, V)>>,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        let sets = (0..SETS).map(|_| Vec::new()).collect();
        Self { sets }
    }
}

impl<V> Table<V> {
    /// Acts on the entry of a key; it is `fresh` if there was none.
    pub(super) fn with<R>(
        &mut self,
        key: u64,
        mut fresh: V,
        worth: impl Fn(&V) -> Duration,
        act: impl FnOnce(&mut V) -> R,
    ) -> R {
        let index = usize::try_from(key % SETS as u64).unwrap_or(0);
        let Some(set) = self.sets.get_mut(index) else {
            return act(&mut fresh);
        };
        if let Some((_, known)) = set.iter_mut().find(|(other, _)| *other == key) {
            return act(known);
        }
        let result = act(&mut fresh);
        if set.len() < WAYS {
            set.push((key, fresh));
        } else if let Some(least) = set.iter_mut().min_by_key(|(_, v)| worth(v)) {
            *least = (key, fresh);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of one set.
    fn key(n: u64) -> u64 {
        n * SETS as u64
    }

    #[test]
    fn a_full_set_lets_go_of_what_is_worth_least() {
        let mut table = Table::default();
        let worth = |v: &u64| Duration::from_secs(*v);
        table.with(key(1), 0, worth, |v| *v = 50);
        for n in 100..10_000 {
            table.with(key(n), 0, worth, |v| *v += 1);
            let debt = table.with(key(1), 0, worth, |v| *v);
            assert_eq!(debt, 50, "{n}");
        }
        assert_eq!(table.sets[0].len(), WAYS);
        assert!(table.sets[1..].iter().all(Vec::is_empty));
    }

    #[test]
    fn the_hash_tells_every_part() {
        let hash = Hash::new([1; 32]);
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let known = hash.of(net("192.0.2.1/32"), Some(5060), b"1001");
        assert_eq!(known, hash.of(net("192.0.2.1/32"), Some(5060), b"1001"));
        assert_ne!(known, hash.of(net("192.0.2.2/32"), Some(5060), b"1001"));
        assert_ne!(known, hash.of(net("192.0.2.1/32"), Some(5061), b"1001"));
        assert_ne!(known, hash.of(net("192.0.2.1/32"), None, b"1001"));
        assert_ne!(known, hash.of(net("192.0.2.1/32"), Some(5060), b"1002"));
        let other = Hash::new([2; 32]);
        assert_ne!(known, other.of(net("192.0.2.1/32"), Some(5060), b"1001"));
    }
}
