//! What people, routers, strangers and administrators do.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use control::engine::admin::Command;

use super::{CALLS_MAX, Life};
use crate::sim::phone::{By, Dial, Offer, State};
use crate::sim::plan::{Resident, weather};
use crate::sim::sdp::{Direction, Kind};
use crate::sim::stranger::SSRC;
use crate::sim::{NodeId, Packet};

impl Life {
    pub(super) fn dial(&mut self) {
        let (Some(who), Some(whom)) = (self.anyone(), self.anyone()) else {
            return;
        };
        let busy = |node: NodeId| {
            let calls = &self.site.sim.phone(node).calls;
            calls.iter().filter(|c| c.state != State::Over).count() >= CALLS_MAX
        };
        if who.user == whom.user || busy(who.node) || busy(whom.node) {
            return;
        }
        let user = match self.site.chance.below(20) {
            0 => "1999".to_owned(),
            _ if whom.user == "mcu" => "8123".to_owned(),
            _ => whom.user,
        };
        let dial = Dial {
            user,
            delayed: self.site.chance.permille(200),
            ..Dial::default()
        };
        self.report.count("dialled", 1);
        let sim = &mut self.site.sim;
        sim.act(who.node, |p, now, out| p.dial_as(&dial, now, out));
    }

    pub(super) fn hang_up(&mut self) {
        if let Some((who, call)) = self.any_call(|s| s != State::Over) {
            let sim = &mut self.site.sim;
            sim.act(who, |p, now, out| p.hang_up(call, now, out));
        }
    }

    pub(super) fn cancel(&mut self) {
        if let Some((who, call)) = self.any_call(|s| s == State::Calling) {
            self.report.count("cancelled", 1);
            let sim = &mut self.site.sim;
            sim.act(who, |p, now, out| p.cancel(call, now, out));
        }
    }

    pub(super) fn random_offer(&mut self) -> Offer {
        let chance = &mut self.site.chance;
        let directions = [
            Direction::SendRecv,
            Direction::SendRecv,
            Direction::SendOnly,
            Direction::RecvOnly,
            Direction::Inactive,
        ];
        let direction = chance.permille(600).then(|| {
            let zero = chance.permille(250);
            (chance.pick(&directions), zero)
        });
        let line = usize::try_from(chance.below(5)).unwrap_or(0);
        Offer {
            direction,
            switch: chance.permille(300).then_some(line),
            adds: chance
                .permille(150)
                .then(|| chance.pick(&[Kind::Video, Kind::Floor])),
            moves: chance.permille(300),
            by: chance.pick(&[By::Invite, By::Invite, By::InviteWithout, By::Update]),
        }
    }

    pub(super) fn offer(&mut self) {
        if let Some((who, call)) = self.any_call(|s| s == State::Up) {
            self.offer_from(who, call);
        }
    }

    pub(super) fn offer_from(&mut self, who: NodeId, call: usize) {
        if !self.site.sim.phone(who).may_offer(call) {
            return;
        }
        let offer = self.random_offer();
        let what = match offer.by {
            By::Invite => "re-INVITE",
            By::InviteWithout => "re-INVITE without SDP",
            By::Update => "UPDATE",
        };
        self.report.count(what, 1);
        self.report.count("moved media", u64::from(offer.moves));
        let sim = &mut self.site.sim;
        sim.act(who, |p, now, out| p.offer(call, &offer, now, out));
    }

    /// Both sides at once.
    pub(super) fn glare(&mut self) {
        let Some((who, call)) = self.any_call(|s| s == State::Up) else {
            return;
        };
        let other = self.other_side(who, call);
        self.offer_from(who, call);
        if let Some((other, call)) = other {
            self.report.count("both offer", 1);
            self.offer_from(other, call);
        }
    }

    pub(super) fn talk_aside(&mut self) {
        if let Some((who, call)) = self.any_call(|s| s == State::Up) {
            let sim = &mut self.site.sim;
            sim.act(who, |p, now, out| {
                p.request(call, "INFO", b"", Some(("text/plain", b"hello")), now, out);
            });
        }
    }

    pub(super) fn rebind(&mut self) {
        if self.site.routers.is_empty() {
            return;
        }
        self.report.count("rebound", 1);
        let router = self.site.chance.pick(&self.site.routers);
        self.site.sim.nat(router).rebind();
        // Whoever was behind it may miss a message meanwhile.
        for resident in self.site.residents.iter_mut().filter(|r| !r.direct) {
            resident.steady = false;
            resident.mute = self.site.sim.phone(resident.node).calls.len();
        }
    }

    pub(super) fn vanish(&mut self) {
        let Some(who) = self.anyone() else { return };
        self.report.count("vanished", 1);
        let sim = &mut self.site.sim;
        sim.act(who.node, |p, now, _| p.vanish(now));
        self.mark(who.node, |r| r.gone = true);
    }

    /// Another address: its calls hear of it, or do not.
    pub(super) fn relocate(&mut self) {
        let Some(who) = self.anyone() else { return };
        let Some(spare) = who.spare else { return };
        self.report.count("relocated", 1);
        self.site.sim.move_phone(who.node, spare);
        let calls = self.site.sim.phone(who.node).calls.len();
        self.mark(who.node, |r| {
            r.spare = None;
            r.steady = false;
            r.mute = calls;
        });
        // Its old contact is asked first, last, or at the same time (RFC 3261 §20.10).
        let q = self.site.chance.pick(&[None, Some("0.3"), Some("1")]);
        let sim = &mut self.site.sim;
        sim.act(who.node, |p, now, out| {
            p.q = q;
            p.register(3600, now, out);
        });
        if self.site.chance.permille(700) {
            self.run(Duration::from_millis(300));
            for call in 0..calls {
                let phone = self.site.sim.phone(who.node);
                if phone.call(call).state == State::Up && phone.may_offer(call) {
                    let offer = Offer::default();
                    let sim = &mut self.site.sim;
                    sim.act(who.node, |p, now, out| p.offer(call, &offer, now, out));
                }
            }
        }
    }

    pub(super) fn mark(&mut self, node: NodeId, change: impl Fn(&mut Resident)) {
        for resident in &mut self.site.residents {
            if resident.node == node {
                change(resident);
            }
        }
    }

    /// A stranger tries every port there is, or stops.
    pub(super) fn spray(&mut self) {
        if self.site.strangers.is_empty() {
            return;
        }
        let (stranger, towards) = self.site.chance.pick(&self.site.strangers);
        if self.site.chance.permille(300) {
            return self.site.sim.stranger(stranger).stop();
        }
        self.report.count("sprayed", 1);
        let ssrc = match self.any_call(|s| s != State::Over) {
            Some((who, call)) if self.site.chance.permille(600) => {
                self.site.sim.phone(who).call(call).rtp.ssrc
            }
            _ => SSRC,
        };
        let open: Vec<u16> = {
            let edge = self.site.sim.edge(self.site.edge);
            edge.sockets().keys().map(SocketAddr::port).collect()
        };
        let first = match open.is_empty() {
            true => 20_000,
            false => self.site.chance.pick(&open) & !7,
        };
        let now = self.site.sim.now();
        let every = Duration::from_millis(50 + self.site.chance.below(400));
        let at = SocketAddr::new(towards, 0);
        let ports = first..=first.saturating_add(15);
        let stranger = self.site.sim.stranger(stranger);
        stranger.spray(at, ports, every, ssrc, now);
    }

    pub(super) fn kill(&mut self) {
        let (edge, now) = (self.site.edge, self.site.sim.now());
        let calls = self.site.sim.edge(edge).calls(now);
        let ids: Vec<u64> = calls.iter().map(|c| c.id).collect();
        if ids.is_empty() {
            return;
        }
        self.report.count("killed", 1);
        let order = Command::HangUp {
            call: self.site.chance.pick(&ids),
        };
        let sim = &mut self.site.sim;
        sim.order(edge, |e, now, out| e.command(order, now, out));
    }

    pub(super) fn drop_registration(&mut self) {
        let Some(who) = self.anyone() else { return };
        let aor = format!("{}@example.com", who.user);
        let (sim, edge) = (&mut self.site.sim, self.site.edge);
        let order = Command::DropRegistration { aor };
        sim.order(edge, |e, now, out| e.command(order, now, out));
    }

    pub(super) fn reregister(&mut self) {
        let Some(who) = self.anyone() else { return };
        if who.user != "mcu" {
            let expires = self.site.chance.pick(&[0, 3600, 3600, 3600, 3600, 3600]);
            let sim = &mut self.site.sim;
            sim.act(who.node, |p, now, out| p.register(expires, now, out));
        }
    }

    pub(super) fn weather(&mut self) {
        if self.site.lossy {
            let net = self.site.chance.pick(&self.site.links);
            let link = weather(&mut self.site.chance, true);
            self.site.sim.set_link(net, link);
        }
    }

    /// The next few messages of a kind are lost.
    pub(super) fn rob(&mut self) {
        let first = self
            .site
            .chance
            .pick(&["ACK ", "BYE ", "CANCEL ", "SIP/2.0 200", "INVITE "]);
        let mut left = 1 + self.site.chance.below(6);
        self.report.count("robbed", 1);
        self.robbed = true;
        self.site.sim.steal(move |packet: &Packet| {
            let takes = left > 0 && packet.is_sip() && packet.bytes.starts_with(first.as_bytes());
            left -= u64::from(takes);
            takes
        });
    }

    /// Some ports cannot be opened from now on, or all can. What is open is nobody else's.
    pub(super) fn block_ports(&mut self) {
        let mut blocked = BTreeSet::new();
        for network in &self.site.networks {
            for port in network.ports.0..=network.ports.1 {
                if self.site.chance.permille(30) {
                    blocked.insert(SocketAddr::new(network.address, port));
                }
            }
        }
        if self.site.chance.permille(500) {
            blocked.clear();
        }
        let edge = self.site.sim.edge_mut(self.site.edge);
        blocked.retain(|at| !edge.has_open(*at));
        edge.unbindable = blocked;
    }

    pub(super) fn reload(&mut self) {
        let what = self.site.reload();
        self.report.count(what, 1);
    }

    pub(super) fn wait(&mut self) {
        let time = Duration::from_secs(5 + self.site.chance.below(35));
        self.run(time);
    }
}
