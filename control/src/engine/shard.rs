//! Several engines that share a node's work: each has the calls of some Call-IDs, the first has
//! the registrations too. None waits for another. What they show together is their shards' sum.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::config::{Config, Network, Protection};
use crate::effect::Effects;
use crate::engine::Engine;
use crate::engine::admin::Totals;
use crate::engine::explain::peer::{LISTED_MAX, PeerExplained};
use crate::engine::explain::usage::NetworkUsage;
use crate::engine::names::Names;
use crate::engine::peer::PeerView;
use crate::engine::reconfigure::RetiredView;
use crate::id::{Aor, NetworkId, Shard};
use crate::sip::registrar::Binding;

pub use crate::media::Silence;
pub use crate::sip::shard::KEY_BYTES;
pub use crate::sip::shard::Shards;

/// Which Call-ID is whose, for engines with this seed.
#[must_use]
pub fn shards(seed: [u8; 32], count: u16) -> Shards {
    let secret = Names::new(seed, Shard::ONLY).secret("Call-IDs");
    let mut key = [0; KEY_BYTES];
    for (byte, secret) in key.iter_mut().zip(secret) {
        *byte = secret;
    }
    Shards::new(count, key)
}

/// Gives all shards of a node another configuration; returned is the one in force.
pub fn reconfigure(
    shards: &mut [(&mut Engine, &mut Effects)],
    mut config: Config,
    now: Instant,
) -> Arc<Config> {
    number(
        shards.iter().map(|(engine, _)| &**engine),
        &mut config.networks,
    );
    let config = Arc::new(config);
    let mut calls = 0;
    let mut networks = Vec::new();
    for (engine, effects) in &mut *shards {
        let touched = engine.take_over(config.clone(), now, effects);
        calls += touched.calls;
        networks = touched.networks;
    }
    if let Some((first, _)) = shards.first_mut() {
        first.note_applied(&networks, calls, now);
    }
    share(shards.iter_mut().map(|(engine, _)| &mut **engine));
    config
}

/// Lets all shards of a node count together what peers and networks carry.
pub fn share<'e>(mut engines: impl Iterator<Item = &'e mut Engine>) {
    let Some(first) = engines.next() else { return };
    first.capacity = first.capacity.of(&first.config);
    for other in engines {
        other.capacity = first.capacity.clone();
    }
}

/// Gives every network the number it had, or one that nothing in use has in any shard.
fn number<'e>(engines: impl Iterator<Item = &'e Engine> + Clone, networks: &mut [Network]) {
    let known: Vec<&Network> = engines.clone().flat_map(Engine::networks_known).collect();
    let configured = |id| {
        engines
            .clone()
            .next()
            .is_some_and(|e| e.config.network(id).is_some())
    };
    let mut taken: BTreeSet<NetworkId> = known.iter().map(|network| network.id).collect();
    let names: BTreeSet<String> = networks.iter().map(|n| n.name.clone()).collect();
    for network in networks {
        let here = || known.iter().filter(|old| old.address == network.address);
        // With another name and all else that tells networks apart, it was renamed just now.
        let renamed = |old: &&&Network| {
            let goes = configured(old.id) && !names.contains(&old.name);
            goes && old.media_ports == network.media_ports
        };
        let same = here().find(|old| old.name == network.name);
        network.id = match same.or_else(|| here().find(renamed)) {
            Some(old) => old.id,
            None if taken.contains(&network.id) => {
                let free = (0..=u16::MAX).map(NetworkId).find(|id| !taken.contains(id));
                free.unwrap_or(network.id)
            }
            None => network.id,
        };
        taken.insert(network.id);
    }
}

/// A shard's part of what strangers may do. The first one has it whole, because all REGISTERs go
/// there, the others share as much once more: together hardly twice of it.
pub(super) fn protection(whole: &Protection, shard: Shard) -> Protection {
    let share = |whole: u32| match whole {
        // No limit.
        0 => 0,
        _ if shard.is_first() => whole,
        _ => (whole / u32::from(shard.of())).max(1),
    };
    Protection {
        source_rate: share(whole.source_rate),
        account_rate: share(whole.account_rate),
        ban_after: share(whole.ban_after),
        ..whole.clone()
    }
}

impl Engine {
    /// Which Call-ID is whose, where that is not for the seed to say: calls of an earlier process
    /// must find the shard that had them.
    pub fn route_by(&mut self, whose: Shards) {
        self.whose = whose;
    }

    /// Those it keeps, rather than knows of.
    pub(super) fn own_registrations(&self) -> impl Iterator<Item = (&Aor, &Binding)> {
        let own = self.shard.is_first().then_some(&self.registrar);
        own.into_iter().flat_map(|registrar| registrar.iter())
    }
}

impl Totals {
    #[must_use]
    pub fn sum(shards: impl IntoIterator<Item = Self>) -> Self {
        shards.into_iter().fold(Self::default(), |sum, one| Self {
            calls: sum.calls + one.calls,
            calls_answered: sum.calls_answered + one.calls_answered,
            registrations: sum.registrations + one.registrations,
            transactions: sum.transactions + one.transactions,
            adopted_flows: sum.adopted_flows + one.adopted_flows,
        })
    }
}

impl NetworkUsage {
    /// Adds what another shard has.
    pub fn add(&mut self, other: Self) {
        self.registrations += other.registrations;
        self.calls += other.calls;
        self.peers.extend(other.peers);
        self.ports.used += other.ports.used;
        self.ports.resting += other.ports.resting;
        self.ports.free += other.ports.free;
    }
}

impl PeerView {
    /// Adds what another shard has heard.
    pub fn add(&mut self, other: &Self) {
        let each = [self.answered, other.answered];
        self.answered = each.into_iter().flatten().min();
    }
}

impl PeerExplained {
    /// Adds what another shard has.
    pub fn add(&mut self, other: Self) {
        self.registrations.extend(other.registrations);
        self.calls.extend(other.calls);
        self.calls.sort_unstable();
        self.calls.truncate(LISTED_MAX);
    }
}

/// Silence in all shards, by the network of the silent party.
#[must_use]
pub fn silence(
    shards: impl IntoIterator<Item = BTreeMap<NetworkId, Silence>>,
) -> BTreeMap<NetworkId, Silence> {
    let mut all: BTreeMap<NetworkId, Silence> = BTreeMap::new();
    for (network, one) in shards.into_iter().flatten() {
        let sum = all.entry(network).or_default();
        sum.streams += one.streams;
        sum.one_way += one.one_way;
    }
    all
}

/// Networks that any shard still uses.
#[must_use]
pub fn retired(shards: impl IntoIterator<Item = Vec<RetiredView>>) -> Vec<RetiredView> {
    let mut all: BTreeMap<NetworkId, RetiredView> = BTreeMap::new();
    for view in shards.into_iter().flatten() {
        match all.get_mut(&view.network.id) {
            Some(sum) => {
                sum.legs += view.legs;
                sum.registrations += view.registrations;
                sum.media_sockets += view.media_sockets;
            }
            None => {
                all.insert(view.network.id, view);
            }
        }
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests;
