//! Connections (RFC 3261 §18): which can be used, and what follows when one is gone. A client is
//! reached on the connection it made and on no other; a peer of ours may be connected to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::{Peer, PeerAddress};
use crate::effect::{Effect, Effects};
use crate::engine::Engine;
use crate::engine::relay::{Purpose, client_key};
use crate::engine::route::Target;
use crate::id::{Path, Transport};
use crate::sip::index::{Message, Start};
use crate::sip::transaction::ClientKey;

pub use crate::sip::connection::{Close, Connection, Limits, Why};
pub use crate::sip::framing::Unit;

/// A larger request prefers a transport that is congestion controlled (RFC 3261 §18.1.1).
const CONGESTION_BYTES: usize = 1300;
/// What our Via and Contact may add to a request that crosses.
const EDIT_BYTES: usize = 100;
/// How long a peer that was not reached over TCP is not tried again for large requests.
const AVOIDED: Duration = Duration::from_secs(300);

/// The connections there are.
#[derive(Debug, Default)]
pub(super) struct Flows {
    open: BTreeSet<Path>,
    /// Peers that do not listen for TCP after all, and until when that is believed: at most one
    /// for each peer.
    avoided: BTreeMap<SocketAddr, Instant>,
}

impl Flows {
    pub(super) fn expire(&mut self, now: Instant) {
        self.avoided.retain(|_, until| now < *until);
    }
}

impl Engine {
    /// Whether something sent along a path can arrive.
    pub(super) fn is_reachable(&self, path: Path) -> bool {
        !path.on.transport.is_reliable() || self.flows.open.contains(&path)
    }

    pub(super) fn connected(&mut self, path: Path) {
        self.counters.count("sip_connection", "connected");
        self.flows.open.insert(path);
    }

    /// A connection is gone: what was asked on it and is not answered at all has failed. A call
    /// that rings goes on: the answer may come on another (RFC 3261 §18.2.2).
    pub(super) fn closed(&mut self, path: Path, now: Instant, effects: &mut Effects) {
        self.counters.count("sip_connection", "closed");
        let was_open = self.flows.open.remove(&path);
        if let Some((_, found)) = self.peer_to(path) {
            let PeerAddress {
                address, transport, ..
            } = found;
            if !was_open && transport.is_none() {
                self.flows.avoided.insert(address, now + AVOIDED);
            }
            // It is called back where it listens; whence it had connected nobody waits.
            let legs = self.calls.values_mut().flat_map(|call| call.legs_mut());
            for leg in legs.filter(|leg| leg.path == path) {
                leg.path.to = address;
            }
        }
        let waiting = self.waiting_on(path);
        self.peer_undelivered(path, &waiting, now, effects);
        self.give_up_waiting(path, None, now, effects);
    }

    /// What was asked on a connection and has no response at all.
    fn waiting_on(&self, path: Path) -> Vec<ClientKey> {
        let relays = self.relays.iter();
        let waiting = relays.filter(|(_, relay)| relay.path == path && relay.until.is_none());
        waiting
            .filter(|(key, _)| !self.transactions.is_proceeding(key))
            .map(|(key, _)| key.clone())
            .collect()
    }

    fn give_up_waiting(
        &mut self,
        path: Path,
        but: Option<&ClientKey>,
        now: Instant,
        effects: &mut Effects,
    ) {
        for key in self.waiting_on(path) {
            if Some(&key) != but {
                self.unreachable(&key, now, effects);
            }
        }
    }

    /// A message found no connection: one is made where that is allowed.
    pub(super) fn unsent(&mut self, path: Path, bytes: Bytes, now: Instant, effects: &mut Effects) {
        self.flows.open.remove(&path);
        let Ok(message) = Message::parse(bytes.clone()) else {
            return;
        };
        let to = match message.start() {
            Start::Request { .. } => Some(path.to),
            Start::Response { .. } => waits_at(&message, path),
        };
        let to = to.map(|to| Path { on: path.on, to });
        let Some((to, (peer, _))) = to.and_then(|to| Some((to, self.peer_to(to)?))) else {
            self.counters.count("sip_connection", "none");
            return self.closed(path, now, effects);
        };
        let name = peer.tls_name.clone();
        self.counters.count("sip_connection", "dialled");
        // What else was asked on the old connection is not asked again.
        self.give_up_waiting(path, client_key(&message).as_ref(), now, effects);
        let Path { on, to } = to;
        effects.push(Effect::Dial { on, to, name });
        effects.push(Effect::Send { on, to, bytes });
    }

    /// The peer a connection may be made to along a path: to nobody else, and from a listener of
    /// ours, so that it can answer.
    fn peer_to(&self, path: Path) -> Option<(&Peer, PeerAddress)> {
        let Path { on, to } = path;
        let sip = &self.config.sip;
        if !on.transport.is_reliable() || !sip.listen.contains(&on) {
            return None;
        }
        let each = sip.addresses();
        let there = each.filter(|(_, found)| found.address.ip() == to.ip());
        // Of several on one host the one that is meant.
        let other = |found: &PeerAddress| {
            let transport = found.transport != Some(on.transport);
            (found.address != to, transport)
        };
        there.min_by_key(|(_, found)| other(found))
    }

    /// A request of ours could not be delivered: taken as a 503 (RFC 3261 §8.1.3.1), and a client
    /// without its connection as not there.
    fn unreachable(&mut self, key: &ClientKey, now: Instant, effects: &mut Effects) {
        self.peers.forget(key);
        if !self.transactions.forget_client(key) {
            return;
        }
        self.counters.count("sip_transaction", "unreachable");
        let Some(relay) = self.relays.remove(key) else {
            return;
        };
        let code = match self.peer_to(relay.path) {
            Some(_) => 503,
            None => 480,
        };
        match relay.purpose {
            Purpose::Invite { call, .. } => self.invite_unanswered(call, key, code, now, effects),
            Purpose::InDialog {
                origin,
                call,
                offered,
                ..
            } => self.in_dialog_unanswered(&origin, call, offered, Some(code), now, effects),
            Purpose::Outside(outside) => self.outside_failed(*outside, code, now, effects),
            Purpose::Register { origin, forwarded } if forwarded.has_other_ways() => {
                self.register_elsewhere(&origin, *forwarded, now, effects);
            }
            Purpose::Register { origin, .. } => {
                self.counters
                    .count("sip_registration", "registrar_unreachable");
                self.answer_unreached(&origin, code, now, effects);
            }
            Purpose::Refresh { call, side } => {
                self.refreshed(call, key, side, code, None, now, effects);
            }
            // Nobody heard it: as if nobody had answered.
            Purpose::Probe { call, side } => self.probed(call, side, 408, now, effects),
            Purpose::Own => {}
        }
    }

    /// Puts TCP before UDP for a large request to a peer that leaves the choice to us (RFC 3261
    /// §18.1.1); UDP stays, for peers that do not listen there.
    pub(super) fn uncongested(&self, targets: Vec<Target>, request: &Message) -> Vec<Target> {
        if request.bytes().len() + EDIT_BYTES <= CONGESTION_BYTES {
            return targets;
        }
        let both = |target: Target| [self.over_tcp(&target), Some(target)];
        targets.into_iter().flat_map(both).flatten().collect()
    }

    fn over_tcp(&self, target: &Target) -> Option<Target> {
        let Path { on, to } = target.path;
        if on.transport != Transport::Udp || self.flows.avoided.contains_key(&to) {
            return None;
        }
        let mut each = self.config.sip.addresses();
        each.find(|(_, found)| found.address == to && found.transport.is_none())?;
        let on = self.listener_of(target.network, Transport::Tcp)?;
        let path = Path { on, to };
        Some(Target {
            path,
            ..target.clone()
        })
    }
}

/// Where the sender of a request waits for its response if the connection it came on is gone: the
/// port in its Via, if that is where it came from (RFC 3261 §18.2.2).
fn waits_at(response: &Message, path: Path) -> Option<SocketAddr> {
    let via = response.top_via();
    let ip = via.host_ip().filter(|ip| *ip == path.to.ip())?;
    let port = via.port.unwrap_or(path.on.transport.port());
    Some(SocketAddr::new(ip, port))
}
