//! A call's media: SDP of one party in, SDP for the other out; ports, latches and flows follow.
//! Knows nothing of SIP.
//!
//! An offer reserves ports and opens sockets, an answer agrees streams; flows exist for agreed
//! streams only, as soon as the source of a direction and its target are known. Connection-
//! oriented media (RFC 4145) and multicast are not relayed: their lines pass untouched.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use ipnet::IpNet;

use super::plan::Installed;
use super::port::Pools;
use super::stream::{Component, Pair, Remote, Stream, StreamView, Terms};
use crate::effect::{Effect, Effects, Rule};
use crate::id::{NetworkId, SessionId};
use crate::nat::latch::Verdict;
use crate::sdp::edit::{Anchor, Rewrite, rewrite};
use crate::sdp::lines::{Fault, Media, Protocol, Sdp};

pub use super::leg::{Accept, Both, LegSettings, Mode, Side};

/// Why SDP was not accepted. Nothing has changed then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The network has no free port pair: 503.
    NoPorts(NetworkId),
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
    /// Nothing a source is learnt from: STUN, noise, a payload type nobody agreed to.
    NotMedia,
}

/// The media of one call.
#[derive(Clone, Debug)]
pub struct Session {
    id: SessionId,
    legs: Both<LegSettings>,
    /// Who else belongs to each leg's network.
    prefixes: Both<Vec<IpNet>>,
    /// By `m=` line.
    agreed: Vec<Option<Stream>>,
    exchange: Option<Exchange>,
    /// Every pair we hold open.
    open: BTreeSet<Pair>,
    installed: Installed,
}

/// The offer that was made last.
#[derive(Clone, Debug)]
struct Exchange {
    from: Side,
    stage: Stage,
    lines: Vec<Line>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Offered,
    /// Answered for the first time in this call. Another branch of a fork may answer otherwise,
    /// so ports of rejected lines are kept.
    Early,
    Answered,
}

/// An offered `m=` line.
#[derive(Clone, Debug)]
struct Line {
    /// None for a line that is rejected or not relayed.
    offered: Option<Offered>,
}

#[derive(Clone, Debug)]
struct Offered {
    kind: String,
    protocol: Protocol,
    pairs: Both<Pair>,
    remote: Remote,
}

impl Session {
    #[must_use]
    pub fn new(id: SessionId, a: LegSettings, b: LegSettings) -> Self {
        Self {
            id,
            legs: Both { a, b },
            prefixes: Both::default(),
            agreed: Vec::new(),
            exchange: None,
            open: BTreeSet::new(),
            installed: Installed::default(),
        }
    }

    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// A party changed: another branch of a fork, or it came to another address. What is agreed
    /// stays until the next answer; ports in another network are taken with the next offer.
    pub fn set_leg(&mut self, side: Side, leg: LegSettings) {
        *self.legs.of_mut(side) = leg;
    }

    /// The prefixes of a leg's network: media addresses inside are believed although signalling
    /// comes from another address there. Without them only the signalling address is.
    pub fn set_prefixes(&mut self, side: Side, prefixes: Vec<IpNet>) {
        *self.prefixes.of_mut(side) = prefixes;
    }

    #[must_use]
    pub fn leg(&self, side: Side) -> &LegSettings {
        self.legs.of(side)
    }

    /// SDP from `from` as an offer (RFC 3264 §5, §8): the body for the other side. Sockets are
    /// opened before anything can be sent; what is agreed keeps flowing.
    pub fn offer(
        &mut self,
        from: Side,
        body: &[u8],
        pools: &mut Pools,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<Vec<u8>, Refusal> {
        let open = self.exchange.as_ref().filter(|e| e.stage == Stage::Offered);
        if open.is_some_and(|exchange| exchange.from != from) {
            return Err(Refusal::Glare);
        }
        let sdp = Sdp::parse(body)?;
        let mut fresh = Vec::new();
        let lines = match self.offered_lines(from, body, &sdp, pools, now, &mut fresh) {
            Ok(lines) => lines,
            Err(refusal) => {
                for pair in fresh.into_iter().rev() {
                    pools.untake(pair.network, pair.port);
                }
                return Err(refusal);
            }
        };
        for pair in fresh {
            self.open(pair, effects);
        }
        let to = from.other();
        let anchors = sdp
            .media
            .iter()
            .zip(&lines)
            .map(|(media, line)| match &line.offered {
                Some(offered) => anchor(*offered.pairs.of(to)),
                None => unrelayed(media),
            });
        let out = rewrite(body, &sdp, &self.rewriting(to, anchors.collect()));
        self.exchange = Some(Exchange {
            from,
            stage: Stage::Offered,
            lines,
        });
        self.settle_ports(pools, now, effects);
        Ok(out)
    }

    /// SDP from `from` as the answer to the other side's offer (RFC 3264 §6): the body for the
    /// offerer. Also early answers; a repeated one changes nothing, another branch's replaces it.
    pub fn answer(
        &mut self,
        from: Side,
        body: &[u8],
        pools: &mut Pools,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<Vec<u8>, Refusal> {
        let sdp = Sdp::parse(body)?;
        let exchange = self.exchange.as_ref().filter(|e| e.from == from.other());
        let exchange = exchange.ok_or(Refusal::NotAnAnswer)?;
        if sdp.media.len() > exchange.lines.len() {
            return Err(Refusal::NotAnAnswer);
        }
        let mut anchors = Vec::new();
        let mut agreed = Vec::new();
        for (index, line) in exchange.lines.iter().enumerate() {
            // RFC 3264 §6 wants as many lines as offered; missing ones are taken as rejected.
            let media = sdp.media.get(index);
            let relayed = match (&line.offered, media) {
                (Some(offered), Some(media)) if is_relayed(&sdp, media) => Some((offered, media)),
                _ => None,
            };
            let terms = match relayed {
                Some((offered, media)) => Some(self.terms(index, from, offered, &sdp, media)?),
                None => None,
            };
            if let Some(media) = media {
                anchors.push(match &terms {
                    Some(terms) => anchor(*terms.pairs.of(from.other())),
                    None => unrelayed(media),
                });
            }
            agreed.push(terms);
        }
        let out = rewrite(body, &sdp, &self.rewriting(from.other(), anchors));
        self.agree(agreed, now);
        self.replan(effects);
        self.settle_ports(pools, now, effects);
        Ok(out)
    }

    /// The answer was final: no other branch will answer this offer. Gives back the ports of lines
    /// it rejected; without this call they come back with the next offer or the end of the call.
    pub fn settle(&mut self, pools: &mut Pools, now: Instant, effects: &mut Effects) {
        if let Some(exchange) = &mut self.exchange
            && exchange.stage == Stage::Early
        {
            exchange.stage = Stage::Answered;
            self.settle_ports(pools, now, effects);
        }
    }

    /// The open offer was refused or given up: what was agreed before stays (RFC 3264 §8). An
    /// offer that was answered stays agreed whatever becomes of its request (RFC 6141 §3.4).
    pub fn roll_back(&mut self, pools: &mut Pools, now: Instant, effects: &mut Effects) {
        if self
            .exchange
            .as_ref()
            .is_some_and(|e| e.stage == Stage::Offered)
        {
            self.exchange = None;
            self.settle_ports(pools, now, effects);
        }
    }

    /// A packet that no installed flow claimed: `at` is our socket, `head` at least its first
    /// `nat::packet::HEAD_BYTES` bytes if it has them.
    pub fn media(
        &mut self,
        at: SocketAddr,
        from: SocketAddr,
        head: &[u8],
        now: Instant,
        effects: &mut Effects,
    ) -> Learned {
        let Some((stream, place)) = self.find(at) else {
            return Learned::Stranger("no stream is agreed at this port");
        };
        match stream.receive(place, from, head, now) {
            Some(Verdict::Held) => {
                self.replan(effects);
                Learned::Held
            }
            Some(Verdict::Tentative) => Learned::Tentative,
            Some(Verdict::Stranger(why)) => Learned::Stranger(why),
            None => Learned::NotMedia,
        }
    }

    /// The flow at a local socket carried packets since it was last asked.
    pub fn note_activity(&mut self, at: SocketAddr, now: Instant) {
        if let Some((stream, place)) = self.find(at) {
            stream.heard(place, now);
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

    /// Every local socket of this call.
    #[must_use]
    pub fn locals(&self) -> Vec<(NetworkId, SocketAddr)> {
        let both = |pair: &Pair| {
            let network = pair.network;
            [Component::Rtp, Component::Rtcp].map(|c| (network, pair.at(c)))
        };
        self.open.iter().flat_map(both).collect()
    }

    /// The agreed streams, for status and explanation.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamView> {
        let indexed = self.agreed.iter().enumerate();
        indexed
            .filter_map(|(index, stream)| {
                Some(stream.as_ref()?.view(index, |at| self.installed.has(at)))
            })
            .collect()
    }

    /// The call is over: no flow, no socket, no port is left.
    pub fn close(&mut self, pools: &mut Pools, now: Instant, effects: &mut Effects) {
        self.agreed.clear();
        self.exchange = None;
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

    /// The lines of an offer, each with the ports it had, or with new ones, noted in `fresh`.
    fn offered_lines(
        &self,
        from: Side,
        body: &[u8],
        sdp: &Sdp,
        pools: &mut Pools,
        now: Instant,
        fresh: &mut Vec<Pair>,
    ) -> Result<Vec<Line>, Refusal> {
        let mut lines = Vec::with_capacity(sdp.media.len());
        for (index, media) in sdp.media.iter().enumerate() {
            if !is_relayed(sdp, media) {
                lines.push(Line { offered: None });
                continue;
            }
            let remote = Remote::read(sdp, media).ok_or(NO_CONNECTION)?;
            let mut pair = |side| self.pair(index, side, pools, now, fresh);
            let pairs = Both {
                a: pair(Side::A)?,
                b: pair(Side::B)?,
            };
            let remote = self.inherit(index, from, pairs, remote);
            let kind = Terms::kind(body, media);
            let protocol = media.protocol;
            lines.push(Line {
                offered: Some(Offered {
                    kind,
                    protocol,
                    pairs,
                    remote,
                }),
            });
        }
        Ok(lines)
    }

    /// The pair a line has on a side, if that is still in the leg's network; else a new one.
    fn pair(
        &self,
        index: usize,
        side: Side,
        pools: &mut Pools,
        now: Instant,
        fresh: &mut Vec<Pair>,
    ) -> Result<Pair, Refusal> {
        let leg = self.legs.of(side);
        let agreed = self.agreed.get(index).and_then(Option::as_ref);
        let agreed = agreed.map(|stream| *stream.terms().pairs.of(side));
        // An offer repeated before it was answered: the same ports.
        let offered = self.exchange.as_ref().filter(|e| e.stage == Stage::Offered);
        let offered = offered.and_then(|e| e.lines.get(index)?.offered.as_ref());
        let offered = offered.map(|line| *line.pairs.of(side));
        let fits = |pair: &Pair| pair.network == leg.network && pair.local == leg.local;
        if let Some(pair) = agreed.filter(fits).or(offered.filter(fits)) {
            return Ok(pair);
        }
        let (network, local) = (leg.network, leg.local);
        let port = pools.take(network, now).ok_or(Refusal::NoPorts(network))?;
        let pair = Pair {
            network,
            local,
            port,
        };
        fresh.push(pair);
        Ok(pair)
    }

    /// Hold by `c=0.0.0.0` says nothing about where the party is: it stays where it was.
    fn inherit(&self, index: usize, side: Side, pairs: Both<Pair>, remote: Remote) -> Remote {
        let before = self
            .agreed
            .get(index)
            .and_then(Option::as_ref)
            .map(Stream::terms);
        match before {
            Some(before) if remote.nowhere && before.pairs.of(side) == pairs.of(side) => {
                let Remote { rtp, rtcp, .. } = *before.remote.of(side);
                Remote {
                    rtp,
                    rtcp,
                    ..remote
                }
            }
            Some(_) | None => remote,
        }
    }

    /// What an answered line is agreed to be.
    fn terms(
        &self,
        index: usize,
        from: Side,
        offered: &Offered,
        sdp: &Sdp,
        media: &Media,
    ) -> Result<Terms, Refusal> {
        let answered = Remote::read(sdp, media).ok_or(NO_CONNECTION)?;
        let answered = self.inherit(index, from, offered.pairs, answered);
        let remote = Both::new(from, answered, offered.remote.clone());
        let policy = remote.map(|side, remote| {
            let signalled = remote.rtp.filter(|at| !self.is_own(*at));
            self.legs.of(side).policy(signalled, self.prefixes.of(side))
        });
        Ok(Terms {
            kind: offered.kind.clone(),
            protocol: offered.protocol,
            pairs: offered.pairs,
            advertise: self.legs.map(|_, leg| leg.advertise),
            tos: self.legs.map(|_, leg| leg.tos),
            remote,
            policy,
        })
    }

    /// A socket of this call, by either of its names: media sent there would go round for ever.
    fn is_own(&self, at: SocketAddr) -> bool {
        let told = |side| self.legs.of(side).advertise == at.ip();
        let known = told(Side::A) || told(Side::B);
        let pairs = self.open.iter();
        pairs
            .filter(|pair| known || pair.local == at.ip())
            .any(|pair| pair.port == at.port() & !1)
    }

    fn agree(&mut self, terms: Vec<Option<Terms>>, now: Instant) {
        let first = self.agreed.iter().all(Option::is_none);
        let mut before = std::mem::take(&mut self.agreed).into_iter();
        for terms in terms {
            let stream = match (before.next().flatten(), terms) {
                (Some(stream), Some(terms)) if *stream.terms() == terms => Some(stream),
                (Some(stream), Some(terms)) => Some(stream.renew(terms, now)),
                (None, Some(terms)) => Some(Stream::new(terms, now)),
                (_, None) => None,
            };
            self.agreed.push(stream);
        }
        if let Some(exchange) = &mut self.exchange
            && exchange.stage == Stage::Offered
        {
            exchange.stage = if first { Stage::Early } else { Stage::Answered };
        }
    }

    fn replan(&mut self, effects: &mut Effects) {
        let wanted = self.wanted();
        self.installed.reconcile(wanted, effects);
    }

    fn open(&mut self, pair: Pair, effects: &mut Effects) {
        self.open.insert(pair);
        for component in [Component::Rtp, Component::Rtcp] {
            effects.push(Effect::Open {
                at: pair.at(component),
                network: pair.network,
            });
        }
    }

    /// Closes and gives back every pair that neither an agreed stream nor an open offer needs.
    fn settle_ports(&mut self, pools: &mut Pools, now: Instant, effects: &mut Effects) {
        let agreed = self.streams_agreed().map(|stream| stream.terms().pairs);
        let mut needed: BTreeSet<Pair> = agreed.flat_map(|p| [p.a, p.b]).collect();
        if let Some(exchange) = &mut self.exchange {
            if exchange.stage == Stage::Answered {
                for line in &mut exchange.lines {
                    let kept = |o: &Offered| needed.contains(&o.pairs.a);
                    line.offered = line.offered.take().filter(kept);
                }
            }
            let offered = exchange
                .lines
                .iter()
                .filter_map(|line| line.offered.as_ref());
            needed.extend(offered.flat_map(|o| [o.pairs.a, o.pairs.b]));
        }
        for pair in self.open.extract_if(.., |pair| !needed.contains(pair)) {
            for component in [Component::Rtp, Component::Rtcp] {
                effects.push(Effect::Close {
                    at: pair.at(component),
                });
            }
            pools.give_back(pair.network, pair.port, now);
        }
    }

    fn rewriting(&self, to: Side, media: Vec<Anchor>) -> Rewrite {
        let address = self.legs.of(to).advertise;
        Rewrite {
            address,
            version: None,
            media,
            strip_ice: true,
        }
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

const NO_CONNECTION: Refusal = Refusal::Malformed("m= line without a c= line");

fn is_relayed(sdp: &Sdp, media: &Media) -> bool {
    let multicast = || sdp.connection_of(media).is_some_and(|c| c.is_multicast());
    media.port != 0 && media.protocol != Protocol::Stream && !multicast()
}

fn anchor(pair: Pair) -> Anchor {
    Anchor::Here {
        rtp: pair.port,
        rtcp: pair.rtcp(),
    }
}

fn unrelayed(media: &Media) -> Anchor {
    if media.port == 0 {
        Anchor::Rejected
    } else {
        Anchor::Untouched
    }
}

#[cfg(test)]
mod tests;
