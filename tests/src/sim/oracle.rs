//! Judges media as it reaches a phone: it must come from a party of the same call, from the same
//! `m=` line, and never from somebody who has no call.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::phone::{Call, Phone};
use super::{NodeId, Packet, Sim, rtp};

#[derive(Debug, Default)]
pub struct Oracle {
    /// By which addresses a phone was ever seen from outside. Who shares one cannot be told apart
    /// by it: media of an old call may then reach a later one.
    pub sites: BTreeMap<NodeId, BTreeSet<IpAddr>>,
    owners: BTreeMap<u32, Place>,
    /// What was judged and found right.
    known: BTreeSet<(NodeId, u16, u32)>,
    /// Call-IDs of calls that a restart may have lost: their ports do not rest, and who still sends
    /// there is taken for a party of the call that has them next.
    pub forgotten: BTreeSet<String>,
    /// Media of another call from an address that a party of this call has too.
    pub strays: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Place {
    phone: NodeId,
    call: usize,
    line: usize,
}

impl Oracle {
    /// # Errors
    /// Why a packet must not have come.
    pub fn judge(&mut self, sim: &Sim, to: NodeId, packet: &Packet) -> Result<(), String> {
        let port = packet.to.port() & !1;
        let ssrc = rtp::source(&packet.bytes);
        let ssrc = ssrc.ok_or_else(|| format!("{to:?} hears a stranger at {}", packet.to))?;
        if self.known.contains(&(to, port, ssrc)) {
            return Ok(());
        }
        let here = find(to, sim.phone(to), |s| s.ports.contains(&port));
        let here = here.ok_or_else(|| format!("{} was never told", packet.to))?;
        let there = self.owner(sim, ssrc);
        let there = there.ok_or_else(|| format!("nobody sends as {ssrc:08x}"))?;
        let (mine, theirs) = (call(sim, here), call(sim, there));
        if mine.call_id == theirs.call_id {
            if mine.outgoing == theirs.outgoing {
                return Err(format!("{here:?} hears {there:?}: not the other side"));
            }
            if here.line != there.line {
                return Err(format!("{here:?} hears {there:?}: another line"));
            }
        } else if self.shares_site(sim, there.phone, mine)
            || [mine, theirs]
                .iter()
                .any(|call| self.forgotten.contains(&call.call_id))
        {
            self.strays += 1;
        } else {
            return Err(format!("{here:?} hears {there:?}: another call"));
        }
        self.known.insert((to, port, ssrc));
        Ok(())
    }

    fn owner(&mut self, sim: &Sim, ssrc: u32) -> Option<Place> {
        if let Some(place) = self.owners.get(&ssrc) {
            return Some(*place);
        }
        let mut phones = sim.phones();
        let place = phones.find_map(|(id, phone)| find(id, phone, |s| s.ssrc == ssrc))?;
        self.owners.insert(ssrc, place);
        Some(place)
    }

    /// Whether a phone was seen from an address that the other side of a call was seen from.
    fn shares_site(&self, sim: &Sim, phone: NodeId, call: &Call) -> bool {
        let sites = |id: &NodeId| self.sites.get(id).cloned().unwrap_or_default();
        let theirs = sites(&phone);
        let is_other = |c: &Call| c.call_id == call.call_id && c.outgoing != call.outgoing;
        let mut others = sim
            .phones()
            .filter(|(_, phone)| phone.calls.iter().any(is_other));
        others.any(|(id, _)| !sites(&id).is_disjoint(&theirs))
    }
}

fn find(id: NodeId, phone: &Phone, is: impl Fn(&rtp::Rtp) -> bool) -> Option<Place> {
    phone.calls.iter().enumerate().find_map(|(index, call)| {
        let line = call.streams().position(&is)?;
        Some(Place {
            phone: id,
            call: index,
            line,
        })
    })
}

fn call(sim: &Sim, place: Place) -> &Call {
    sim.phone(place.phone).call(place.call)
}
