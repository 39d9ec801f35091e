//! Who is not heard at our ports, as the program knows it.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use common::map::{self, BANNED, GUARDED_MAX, Guarded, HEARD, Settings, ban_prefix};
use common::wire::Ip;
use ipnet::IpNet;

use super::{Kernel, KernelError};

/// Prefixes, and whether they are banned: of those a source is in, the longest counts.
pub type Bans = BTreeMap<IpNet, bool>;

/// BANS, and what it holds.
pub(super) struct BanMap {
    map: LpmTrie<MapData, [u32; 4], u32>,
    holds: Bans,
}

impl BanMap {
    /// Takes over what the program was told before: nothing of it is known to hold any more, and
    /// the first `shut_out` says what does.
    pub(super) fn adopt(map: LpmTrie<MapData, [u32; 4], u32>) -> Result<Self, KernelError> {
        let mut bans = Self {
            map,
            holds: Bans::new(),
        };
        let keys: Result<Vec<_>, MapError> = bans.map.keys().collect();
        for key in keys.map_err(|e| KernelError::map(map::BANS, e))? {
            let removed = bans.map.remove(&key);
            removed.map_err(|e| KernelError::map(map::BANS, e))?;
        }
        Ok(bans)
    }

    pub(super) fn len(&self) -> usize {
        self.holds.len()
    }

    /// Writes what is different; those that go first, so that there is room.
    fn turn_to(&mut self, wanted: &Bans) -> Result<(), MapError> {
        let gone: BTreeSet<IpNet> = self.holds.keys().copied().collect();
        for net in gone.into_iter().filter(|net| !wanted.contains_key(net)) {
            self.map.remove(&key(net))?;
            self.holds.remove(&net);
        }
        for (net, banned) in wanted {
            if self.holds.get(net) != Some(banned) {
                let word = if *banned { BANNED } else { HEARD };
                self.map.insert(&key(*net), word, 0)?;
                self.holds.insert(*net, *banned);
            }
        }
        Ok(())
    }
}

fn key(net: IpNet) -> Key<[u32; 4]> {
    let v4 = matches!(net, IpNet::V4(_));
    Key::new(ban_prefix(v4, net.prefix_len()), Ip::from(net.network()).0)
}

impl Kernel {
    /// Drops what comes to these ports from whoever is banned, unless it is a flow's own.
    ///
    /// # Errors
    /// That a map cannot be written; what was told before holds as far as it was not.
    pub fn shut_out(&mut self, wanted: &Bans, ports: &[Guarded]) -> Result<(), KernelError> {
        self.bans
            .turn_to(wanted)
            .map_err(|e| KernelError::map(map::BANS, e))?;
        let settings = guarding(&self.settings, self.bans.len(), ports);
        if settings != self.settings {
            self.settings_map
                .set(0, settings, 0)
                .map_err(|e| KernelError::map(map::SETTINGS, e))?;
            self.settings = settings;
        }
        Ok(())
    }
}

/// The same settings with other bans and ports; of more ports than there is room for, the last
/// are userspace's.
fn guarding(old: &Settings, bans: usize, ports: &[Guarded]) -> Settings {
    let mut settings = Settings {
        bans: u32::try_from(bans).unwrap_or(u32::MAX),
        guarded_used: 0,
        guarded: [Guarded::default(); GUARDED_MAX as usize],
        ..*old
    };
    for (used, (guarded, ports)) in (1..).zip(settings.guarded.iter_mut().zip(ports)) {
        *guarded = *ports;
        settings.guarded_used = used;
    }
    settings
}
