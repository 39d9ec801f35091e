//! The configuration changes while calls are up.

use super::network::belongs;
use super::{OUTSIDE, Site, ip, parsed};

impl Site {
    /// Changes the configuration in one way or another, and says which.
    pub fn reload(&mut self) -> &'static str {
        let count = self.networks.len();
        let index = usize::try_from(self.chance.below(count as u64)).unwrap_or(0);
        let what = match self.chance.below(7) {
            0 => self.reload_media(index),
            1 => self.reload_ports(index),
            2 => self.swap_ports(),
            3 => self.renumber(),
            4 => self.reload_prefix(),
            5 if count > 1 && !self.is_needed(index) => {
                let network = self.networks.remove(index);
                if network.name == "wan" {
                    self.lose_border();
                }
                self.removed.push(network);
                "network removed"
            }
            _ => match self.removed.pop() {
                Some(network) => {
                    self.networks.push(network);
                    "network added"
                }
                None => "nothing changed",
            },
        };
        let config = parsed(&self.text());
        let (sim, edge) = (&mut self.sim, self.edge);
        sim.order(edge, |e, now, out| e.reconfigure(config, now, out));
        self.inform();
        if !what.starts_with("media ports") {
            // Calls that are up go by the old rules, which may not suit the new expectations.
            for resident in &mut self.residents {
                let calls = self.sim.phone(resident.node).calls.len();
                resident.mute = resident.mute.max(calls);
            }
        }
        what
    }

    /// The conference server's network must stay.
    fn is_needed(&self, index: usize) -> bool {
        self.mcu && self.networks.get(index).is_some_and(|n| n.name == "lan")
    }

    fn reload_media(&mut self, index: usize) -> &'static str {
        let mode = self.chance.pick(&["auto", "symmetric", "sdp"]);
        let dscp = self.chance.pick(&[None, Some(34)]);
        if let Some(network) = self.networks.get_mut(index) {
            (network.media, network.dscp) = (mode, dscp);
        }
        "media mode changed"
    }

    /// Within the thousand that a network has for itself.
    fn reload_ports(&mut self, index: usize) -> &'static str {
        let (shift, pairs) = (
            self.chance.pick(&[0, 4, 500]),
            self.chance.pick(&[2, 10, 50]),
        );
        if let Some(network) = self.networks.get_mut(index) {
            let first = network.ports.0 / 1000 * 1000 + shift;
            network.ports = (first, first + 2 * pairs - 1);
        }
        "media ports changed"
    }

    fn swap_ports(&mut self) -> &'static str {
        let mut ports: Vec<_> = self.networks.iter().map(|n| n.ports).collect();
        ports.rotate_left(1);
        for (network, ports) in self.networks.iter_mut().zip(ports) {
            network.ports = ports;
        }
        "media ports exchanged"
    }

    /// The provider gives the border router another address: phones outside hear of it, calls that
    /// were up may be mute.
    fn renumber(&mut self) -> &'static str {
        let Some(border) = self.border.filter(|_| self.network("wan").is_some()) else {
            return "nothing changed";
        };
        let old = self.sim.nat(border).outside;
        let new = ip(if old == ip(OUTSIDE) {
            "203.0.113.10"
        } else {
            OUTSIDE
        });
        self.sim.nat(border).outside = new;
        self.sim.join(border, self.wan, new);
        for network in self.networks.iter_mut().chain(&mut self.removed) {
            if network.advertise == old {
                network.advertise = new;
            }
        }
        for resident in &mut self.residents {
            let phone = self.sim.phone_mut(resident.node);
            if phone.id.proxy.ip() != old {
                continue;
            }
            phone.id.proxy.set_ip(new);
            resident.steady = false;
            resident.mute = phone.calls.len();
            if resident.seen == old {
                resident.seen = new;
            }
            if let Some(oracle) = &mut self.sim.oracle {
                oracle
                    .sites
                    .entry(resident.node)
                    .or_default()
                    .insert(resident.seen);
            }
        }
        for (_, towards) in &mut self.strangers {
            if *towards == old {
                *towards = new;
            }
        }
        "advertised address changed"
    }

    /// Nobody is told the mapped address any more: who came by it is taken for a neighbour, and
    /// told an address that its packets reach by another way.
    fn lose_border(&mut self) {
        let Some(border) = self.border else { return };
        let outside = self.sim.nat(border).outside;
        for resident in &mut self.residents {
            if self.sim.phone(resident.node).id.proxy.ip() == outside {
                resident.mute = usize::MAX;
            }
        }
    }

    fn reload_prefix(&mut self) -> &'static str {
        let Some(branch) = self.networks.iter_mut().find(|n| n.name == "branch") else {
            return "nothing changed";
        };
        branch.peers = if branch.peers.starts_with("198") {
            "192.0.2.0/24"
        } else {
            "198.51.100.0/24"
        };
        "prefix changed"
    }

    /// What phones may be told from now on; who has no network any more may be told anything.
    fn inform(&mut self) {
        for resident in &mut self.residents {
            let phone = self.sim.phone_mut(resident.node);
            match belongs(&self.networks, resident.uses, resident.seen) {
                Some(network) if !phone.expects.is_empty() => {
                    phone.expects.insert(network.advertise);
                }
                Some(_) | None => {
                    phone.expects.clear();
                    resident.steady = false;
                    resident.mute = usize::MAX;
                }
            }
        }
    }
}
