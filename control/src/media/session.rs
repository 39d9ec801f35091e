//! A call's media: SDP of one party in, SDP for the other out; ports, latches and flows follow.
//! Knows nothing of SIP.
//!
//! An offer reserves ports and opens sockets, an answer agrees streams; flows exist for agreed
//! streams only, as soon as the source of a direction and its target are known. Media over TCP is
//! joined byte by byte. Multicast is not relayed: its lines pass untouched.

mod branch;
mod exchange;
mod held;
mod reoffer;
mod restore;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ipnet::IpNet;

use super::bandwidth;
use super::ours::{Ours, Passages};
use super::plan::{Installed, Listening};
use super::port::Pools;
use super::stream::{Change, Component, Pair, Seen, Silence, Stream, StreamView, Terms};
use super::told::Told;
use crate::effect::{Effect, Effects, Rule};
use crate::id::{NetworkId, SessionId};
use crate::nat::latch::Verdict;
use crate::sdp::lines::Fault;

use self::branch::Branches;
use self::exchange::{Exchange, Transport};
use self::held::Held;

pub use self::restore::Lines;
pub use super::leg::{Accept, Both, LegSettings, Mode, Side};

/// Why SDP was not accepted. Nothing has changed then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The network has no free port pair: 503.
    NoPorts(NetworkId),
    /// More than a peer or a network has left for it: 488. Said by who keeps the books.
    NoBandwidth,
    /// Not SDP, and why: 400 or 488.
    Malformed(&'static str),
    /// Over the limits of `sdp::lines`: 513.
    TooLarge,
    /// No offer is open for this side to answer, or it does not match the offer.
    NotAnAnswer,
    /// The other side's offer is still open: 491 (RFC 3261 §14.1).
    Glare,
}

/// What became of a packet that no flow had claimed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Learned {
    /// It is the party's. If a flow is installed now, the packet may follow it.
    Held,
    /// On probation: not to be forwarded.
    Tentative,
    /// Not the party's, and why.
    Stranger(&'static str),
    /// STUN of the party (RFC 7584): sent on, but nothing is learnt from it.
    Passed,
    /// Nothing a source is learnt from: noise, a payload type nobody agreed to.
    NotMedia,
}

/// A change in who is heard, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Heard {
    /// Of the `m=` line.
    pub index: usize,
    pub kind: String,
    pub side: Side,
    /// Our socket.
    pub at: SocketAddr,
    pub change: Change,
}

/// The media of one call.
#[derive(Clone, Debug)]
pub struct Session {
    id: SessionId,
    legs: Both<LegSettings>,
    /// Who else belongs to each leg's network.
    prefixes: Both<Vec<IpNet>>,
    /// What no party may name as its own.
    ours: Arc<Ours>,
    /// What each party may name all the same.
    passages: Both<Passages>,
    /// By `m=` line.
    agreed: Vec<Option<Stream>>,
    exchange: Option<Exchange>,
    /// Others who are asked, while nobody is decided for.
    branches: Branches,
    /// What each party was told.
    told: Both<Told>,
    /// An operator's word, which stands above the network's.
    modes: Both<Option<Mode>>,
    /// The network's.
    configured: Both<Mode>,
    /// Every pair we hold.
    open: Held,
    installed: Installed,
    listening: Listening,
}

impl Session {
    #[must_use]
    pub fn new(id: SessionId, a: LegSettings, b: LegSettings) -> Self {
        Self {
            id,
            configured: Both {
                a: a.mode,
                b: b.mode,
            },
            modes: Both::default(),
            told: Both::default(),
            legs: Both { a, b },
            prefixes: Both::default(),
            ours: Arc::default(),
            passages: Both::default(),
            agreed: Vec::new(),
            exchange: None,
            branches: Branches::default(),
            open: Held::default(),
            installed: Installed::default(),
            listening: Listening::default(),
        }
    }

    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// A party changed: another branch of a fork, or it came to another address. What is agreed
    /// stays until the next answer; ports in another network are taken with the next offer.
    pub fn set_leg(&mut self, side: Side, mut leg: LegSettings) {
        *self.configured.of_mut(side) = leg.mode;
        leg.mode = self.modes.of(side).unwrap_or(leg.mode);
        *self.legs.of_mut(side) = leg;
    }

    /// Where a party is now, and what it is told. How its media is treated stays as it was when the
    /// call began, unless it has come to another network.
    pub fn inform(&mut self, side: Side, now: LegSettings) {
        let leg = self.legs.of_mut(side);
        if leg.network != now.network {
            return self.set_leg(side, now);
        }
        leg.advertise = now.advertise;
        leg.port_offset = now.port_offset;
        leg.signalled_from = now.signalled_from;
        leg.natted = now.natted;
    }

    /// A party changed, and what is agreed follows at once: its flow is another one (RFC 5626), or
    /// its network is configured otherwise. Media may then come from its new address; the old path
    /// stays until it does.
    pub fn follow(&mut self, side: Side, leg: LegSettings, now: Instant, effects: &mut Effects) {
        self.set_leg(side, leg);
        self.apply_policy(side, now, effects);
    }

    /// An operator's word on where a party's media is sent; none takes it back. It holds for what
    /// is agreed, at once, and for all that will be.
    pub fn set_mode(
        &mut self,
        side: Side,
        mode: Option<Mode>,
        now: Instant,
        effects: &mut Effects,
    ) {
        *self.modes.of_mut(side) = mode;
        self.legs.of_mut(side).mode = mode.unwrap_or(*self.configured.of(side));
        self.apply_policy(side, now, effects);
    }

    fn apply_policy(&mut self, side: Side, now: Instant, effects: &mut Effects) {
        for index in 0..self.agreed.len() {
            let stream = self.agreed.get(index).and_then(Option::as_ref);
            let Some(mut terms) = stream.map(|stream| stream.terms().clone()) else {
                continue;
            };
            let (policy, why) = self.policy(side, terms.remote.of(side));
            *terms.policy.of_mut(side) = policy;
            *terms.why.of_mut(side) = why;
            *terms.reach.of_mut(side) = self.legs.of(side).reach();
            if let Some(stream) = self.agreed.get_mut(index).and_then(Option::as_mut)
                && *stream.terms() != terms
            {
                stream.renew(terms, now);
            }
        }
        self.replan(effects);
    }

    /// The prefixes of a leg's network: media addresses inside are believed although signalling
    /// comes from another address there. Without them only the signalling address is.
    pub fn set_prefixes(&mut self, side: Side, prefixes: Vec<IpNet>) {
        *self.prefixes.of_mut(side) = prefixes;
    }

    /// The media ports of the whole edge: what SDP says of them is not believed.
    pub fn set_ours(&mut self, ours: Arc<Ours>) {
        self.ours = ours;
    }

    /// Where the other passages of this call are with us: what a trusted party's SDP says of them
    /// is believed.
    pub fn set_passages(&mut self, side: Side, passages: Passages) {
        *self.passages.of_mut(side) = passages;
    }

    /// Our sockets of this call, each after a name that a party may know it by.
    pub fn sockets(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> + '_ {
        let legs = [&self.legs.a, &self.legs.b];
        self.open.iter().flat_map(move |(pair, _)| {
            let its = legs
                .into_iter()
                .filter(move |leg| leg.network == pair.network);
            its.flat_map(move |leg| {
                Component::BOTH.map(|component| {
                    let local = pair.at(component);
                    (leg.told(local.port()), local)
                })
            })
        })
    }

    #[must_use]
    pub fn leg(&self, side: Side) -> &LegSettings {
        self.legs.of(side)
    }

    /// A packet that no installed flow claimed: `at` is our socket.
    pub fn media(
        &mut self,
        at: SocketAddr,
        from: SocketAddr,
        packet: &[u8],
        now: Instant,
        effects: &mut Effects,
    ) -> Learned {
        let Some((stream, place)) = self.find(at) else {
            return Learned::Stranger("no stream is agreed at this port");
        };
        match stream.receive(place, from, packet, now) {
            Some(Verdict::Held) => {
                self.replan(effects);
                Learned::Held
            }
            Some(Verdict::Tentative) => Learned::Tentative,
            Some(Verdict::Stranger(why)) => Learned::Stranger(why),
            None => match stream.way_across(place, from, packet) {
                Some((at, to)) => {
                    let bytes = Bytes::copy_from_slice(packet);
                    effects.push(Effect::Forward { at, to, bytes });
                    Learned::Passed
                }
                None => Learned::NotMedia,
            },
        }
    }

    /// The flow at a local socket carried packets since it was last asked.
    ///
    /// `last` is when its latest packet came, `ssrc` whose it was.
    pub fn note_activity(&mut self, at: SocketAddr, ssrc: Option<u32>, last: Instant) {
        if let Some((stream, place)) = self.find(at) {
            stream.heard(place, ssrc, last);
        }
    }

    /// What has changed in who is heard since it was last asked.
    pub fn changes(&mut self, now: Instant) -> Vec<Heard> {
        let mut heard = Vec::new();
        for (index, stream) in self.agreed.iter_mut().enumerate() {
            let Some(stream) = stream else { continue };
            for (side, change) in stream.changes(now) {
                heard.push(Heard {
                    index,
                    kind: stream.terms().kind.clone(),
                    side,
                    at: stream.terms().pairs.of(side).at(Component::Rtp),
                    change,
                });
            }
        }
        heard
    }

    /// A party's silence over all streams, as `changes` last found it.
    #[must_use]
    pub fn silence(&self, side: Side) -> Silence {
        let mut all = Silence::default();
        for silence in self.streams_agreed().map(|stream| stream.silence(side)) {
            all.streams += silence.streams;
            all.one_way += silence.one_way;
        }
        all
    }

    /// Whose media a local socket takes.
    #[must_use]
    pub fn side_at(&self, at: SocketAddr) -> Option<Side> {
        let mut found = self.streams_agreed().filter_map(|stream| stream.find(at));
        found.next().map(|(side, _)| side)
    }

    /// Keeps pinholes open, and opens those it can; to be called about once a second.
    pub fn keep_alive(&mut self, now: Instant, effects: &mut Effects) {
        for stream in self.agreed.iter_mut().flatten() {
            stream.keep_alive(now, effects);
        }
    }

    /// Since when no stream of the call was heard. None while nothing is agreed that must be
    /// heard: a call on hold, one-way media, BFCP alone. Then silence is no failure.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        self.streams_agreed().find_map(Stream::idle_since)?;
        self.streams_agreed().map(Stream::active).max()
    }

    /// The flows this call wants now.
    #[must_use]
    pub fn wanted(&self) -> BTreeMap<SocketAddr, Rule> {
        let mut wanted = BTreeMap::new();
        for stream in self.streams_agreed() {
            stream.add_wanted(&mut wanted);
        }
        wanted
    }

    /// What it takes in one direction, in kbit/s: by what is agreed, and by an offer that is open.
    /// The larger of what both parties say holds, or what one of them says.
    #[must_use]
    pub fn bandwidth(&self) -> u64 {
        let streams: Vec<&Terms> = self.streams_agreed().map(Stream::terms).collect();
        let by = |side: Side| {
            let lines = streams.iter();
            let lines = lines.map(|t| (t.kind.as_bytes(), t.remote.of(side).bandwidth));
            bandwidth::of(&lines.collect::<Vec<_>>())
        };
        let agreed = by(Side::A).max(by(Side::B));
        let usual = || bandwidth::usual(streams.iter().map(|terms| terms.kind.as_bytes()));
        let open = self.exchange.as_ref().filter(|exchange| exchange.is_open());
        let offered = open.map_or(0, Exchange::bandwidth);
        agreed.unwrap_or_else(usual).max(offered)
    }

    /// Every local media socket of this call.
    #[must_use]
    pub fn locals(&self) -> Vec<(NetworkId, SocketAddr)> {
        let both = |(pair, _): (Pair, Transport)| {
            let network = pair.network;
            Component::BOTH.map(|c| (network, pair.at(c)))
        };
        let udp = self.open.iter().filter(|(_, t)| *t == Transport::Udp);
        udp.flat_map(both).collect()
    }

    /// Where media of the agreed streams arrives, and since when whose is silent while the other
    /// party's is not.
    pub fn flows(&self, each: &mut dyn FnMut(SocketAddr, Option<Instant>)) {
        self.streams_agreed()
            .for_each(|stream| stream.flow_ends(each));
    }

    /// The agreed streams, for status and explanation.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamView> {
        let indexed = self.agreed.iter().enumerate();
        indexed
            .filter_map(|(index, stream)| {
                let has_flow = |at| self.installed.has(at);
                let seen = self.legs.map(|side, leg| Seen {
                    signalling: leg.signalled_from,
                    mode: *self.modes.of(side),
                    network: self.prefixes.of(side),
                });
                Some(stream.as_ref()?.view(index, seen, has_flow))
            })
            .collect()
    }

    /// The call is over: no flow, no socket, no port is left.
    pub fn close(&mut self, pools: &mut Pools, now: Instant, effects: &mut Effects) {
        self.agreed.clear();
        self.exchange = None;
        self.branches = Branches::default();
        self.told = Both::default();
        self.replan(effects);
        self.settle_ports(pools, now, effects);
    }

    fn streams_agreed(&self) -> impl Iterator<Item = &Stream> {
        self.agreed.iter().flatten()
    }

    fn find(&mut self, at: SocketAddr) -> Option<(&mut Stream, (Side, Component))> {
        let mut streams = self.agreed.iter_mut().flatten();
        streams.find_map(|stream| stream.find(at).map(|place| (stream, place)))
    }

    fn replan(&mut self, effects: &mut Effects) {
        let wanted = self.wanted();
        self.installed.reconcile(wanted, effects);
        let mut listening = BTreeMap::new();
        for stream in self.streams_agreed() {
            stream.add_listening(&mut listening);
        }
        self.listening.reconcile(listening, effects);
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::TooLarge => Self::TooLarge,
            Fault::Malformed(what) => Self::Malformed(what),
        }
    }
}

#[cfg(test)]
mod tests;
