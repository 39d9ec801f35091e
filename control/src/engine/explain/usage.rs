//! Who uses each network now.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use crate::engine::Engine;
use crate::engine::call::Call;
use crate::id::NetworkId;
use crate::media::port::Usage;
use crate::media::session::Side;

/// Peer addresses named as examples.
pub const PEERS_SHOWN_MAX: usize = 5;

/// One network, as it is used.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NetworkUsage {
    pub registrations: usize,
    /// Calls with a party in it; a call with both parties in it is one.
    pub calls: usize,
    /// Addresses that registrations and calls came from.
    pub peers: BTreeSet<IpAddr>,
    /// Media port pairs.
    pub ports: Ports,
}

/// Pairs of media ports.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ports {
    pub used: usize,
    /// Not given out again yet: late packets of an ended call may still come.
    pub resting: usize,
    pub free: usize,
}

impl Engine {
    /// Every network of the configuration, in one pass over registrations and calls.
    #[must_use]
    pub fn network_usage(&self, now: Instant) -> BTreeMap<NetworkId, NetworkUsage> {
        let mut networks: BTreeMap<NetworkId, NetworkUsage> = self
            .config
            .networks()
            .map(|(id, _)| (id, NetworkUsage::default()))
            .collect();
        for (_, binding) in self.own_registrations() {
            if let Some(network) = networks.get_mut(&binding.network) {
                network.registrations += 1;
                network.peers.insert(binding.path.to.ip());
            }
        }
        for call in self.calls.values() {
            for (id, peer) in parties(call) {
                if let Some(network) = networks.get_mut(&id) {
                    network.peers.insert(peer);
                }
            }
            let parties: BTreeSet<NetworkId> = parties(call).map(|(id, _)| id).collect();
            for id in parties {
                if let Some(network) = networks.get_mut(&id) {
                    network.calls += 1;
                }
            }
        }
        for (id, usage) in self.pools.usage(now) {
            if let Some(network) = networks.get_mut(&id) {
                let Usage {
                    taken,
                    resting,
                    free,
                } = usage;
                network.ports = Ports {
                    used: taken,
                    resting,
                    free,
                };
            }
        }
        networks
    }
}

fn parties(call: &Call) -> impl Iterator<Item = (NetworkId, IpAddr)> {
    let legs = Side::BOTH.into_iter().filter_map(|side| call.leg(side));
    legs.map(|leg| (leg.network, leg.path.to.ip()))
}
