//! What would happen to a peer at an address, seen or not, at each address of ours.

use std::net::IpAddr;
use std::time::Instant;

use super::{Explanation, steps, words};
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::admin::RegistrationView;
use crate::engine::gateway::Suspect;
use crate::id::NetworkId;
use crate::media::session::Side;

/// What would become of a packet, and who is there already.
#[derive(Clone, Debug)]
pub struct PeerExplained {
    pub ip: IpAddr,
    /// By our address; one for each there is, unless one was asked for.
    pub locals: Vec<(IpAddr, Explanation)>,
    /// The network that requests to it would leave by.
    pub towards: Option<NetworkId>,
    /// Who registered from it or says it is there.
    pub registrations: Vec<RegistrationView>,
    /// Calls with a party whose signalling comes from it.
    pub calls: Vec<u64>,
    pub suspect: Option<Suspect>,
}

/// Registrations and calls listed for an address.
pub const LISTED_MAX: usize = 100;

impl Engine {
    /// None if `local` is not an address of any network.
    #[must_use]
    pub fn explain_peer(
        &self,
        ip: IpAddr,
        local: Option<IpAddr>,
        now: Instant,
    ) -> Option<PeerExplained> {
        let mut addresses: Vec<IpAddr> = self.config.networks.iter().map(|n| n.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.retain(|address| match local {
            Some(local) => *address == local,
            None => address.is_ipv4() == ip.is_ipv4(),
        });
        if local.is_some() && addresses.is_empty() {
            return None;
        }
        let locals = addresses
            .into_iter()
            .filter_map(|local| Some((local, self.would(local, ip)?)))
            .collect();
        let registrations = self.own_registrations().filter(|(_, binding)| {
            let claimed = [binding.claimed, binding.via].into_iter().flatten();
            binding.path.to.ip() == ip || claimed.into_iter().any(|at| at.ip() == ip)
        });
        let calls = self.calls.iter().filter(|(_, call)| {
            let mut legs = Side::BOTH.into_iter().filter_map(|side| call.leg(side));
            legs.any(|leg| leg.path.to.ip() == ip)
        });
        Some(PeerExplained {
            ip,
            locals,
            towards: self.config.network_to(ip),
            registrations: registrations
                .take(LISTED_MAX)
                .map(|(aor, binding)| self.registration_view(aor, binding, now))
                .collect(),
            calls: calls.take(LISTED_MAX).map(|(key, _)| key.0).collect(),
            suspect: self.gateways.suspects().find(|s| s.address == ip).cloned(),
        })
    }

    fn would(&self, local: IpAddr, ip: IpAddr) -> Option<Explanation> {
        let config: &Config = &self.config;
        let step = steps::network(config, local, ip, None)?;
        let id = config.network_of(local, ip)?;
        let network = config.network(id)?;
        let on = self.listener(id);
        let answer = format!(
            "A packet from {ip} that arrives at {local} belongs to network {}; its sender is told \
             {}.",
            network.name,
            words::told(network)
        );
        let load = self.network_load(id);
        let limited = steps::capacity(config, network, load);
        let mut steps = vec![
            step,
            steps::told(config, network, on),
            steps::media(config, network, None),
        ];
        steps.extend(limited);
        Some(Explanation {
            answer: vec![answer],
            steps,
        })
    }
}
