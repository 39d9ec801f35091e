//! Offer and answer (RFC 3264): what each line is agreed to be, and the ports it needs.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use super::{Both, Refusal, Session, Side};
use crate::effect::{Effect, Effects};
use crate::media::bandwidth;
use crate::media::port::Pools;
use crate::media::stream::{ACTIVE_PORT, Component, Pair, Remote, Stream, Terms};
use crate::nat::latch::Policy;
use crate::sdp::edit::{Anchor, Mux, Rewrite, rewrite};
use crate::sdp::lines::{Media, Protocol, Sdp};

/// The offer that was made last.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) from: Side,
    pub(super) stage: Stage,
    pub(super) lines: Vec<Line>,
    /// We made it, on behalf of `from`, who knows nothing of it.
    pub(super) own: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    Offered,
    /// Answered for the first time in this call. Another branch of a fork may answer otherwise,
    /// so ports of rejected lines are kept.
    Early,
    Answered,
}

/// What a pair of ports is used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// An offered `m=` line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// None for a line that is rejected or not relayed.
    pub(super) offered: Option<Offered>,
    /// Port 0, or given up since: whatever an answer says, there is no media (RFC 3264 §6).
    pub(super) rejected: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Offered {
    pub(super) kind: String,
    pub(super) protocol: Protocol,
    pub(super) pairs: Both<Pair>,
    pub(super) remote: Remote,
    /// The other party is offered to multiplex RTCP.
    pub(super) mux: bool,
}

impl Transport {
    pub(super) fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Stream => Self::Tcp,
            Protocol::Rtp | Protocol::DtlsRtp | Protocol::Bfcp | Protocol::Datagram => Self::Udp,
        }
    }
}

impl Exchange {
    /// Its offer is not answered yet.
    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Offered
    }

    /// What the offer asks for, in kbit/s.
    pub(super) fn bandwidth(&self) -> u64 {
        let lines = self.lines.iter().filter_map(|line| line.offered.as_ref());
        let lines: Vec<_> = lines
            .map(|line| (line.kind.as_bytes(), line.remote.bandwidth))
            .collect();
        bandwidth::of(&lines).unwrap_or_else(|| bandwidth::usual(lines.iter().map(|l| l.0)))
    }
}

impl Session {
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
        if open.is_some_and(|exchange| exchange.own || exchange.from != from) {
            return Err(Refusal::Glare);
        }
        let sdp = Sdp::parse(body)?;
        let mut fresh = Vec::new();
        let lines = match self.offered_lines(from, body, &sdp, pools, now, &mut fresh) {
            Ok(lines) => lines,
            Err(refusal) => {
                for pair in fresh.into_iter().rev() {
                    pools.untake(pair.local, pair.port);
                }
                return Err(refusal);
            }
        };
        self.open(fresh, &lines, effects);
        let to = from.other();
        let anchors = sdp
            .media
            .iter()
            .zip(&lines)
            .map(|(media, line)| match &line.offered {
                Some(offered) => {
                    let mux = mux(offered.mux, offered.remote.mux);
                    self.anchor(to, *offered.pairs.of(to), media, mux)
                }
                None => unrelayed(media),
            });
        let mut rewriting = self.rewriting(to, anchors.collect());
        let (plain, out) = self.tell(to, body, &sdp, &mut rewriting);
        self.told.of_mut(to).offer(plain);
        self.exchange = Some(Exchange {
            from,
            stage: Stage::Offered,
            lines,
            own: false,
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
                    Some(terms) => {
                        let to = from.other();
                        let mux = mux(*terms.mux.of(to), terms.remote.of(from).mux);
                        self.anchor(to, *terms.pairs.of(to), media, mux)
                    }
                    None if line.rejected => Anchor::Refused,
                    None => unrelayed(media),
                });
            }
            agreed.push(terms);
        }
        let own = exchange.own;
        let mut rewriting = self.rewriting(from.other(), anchors);
        self.told.of_mut(from).agree();
        let out = if own {
            // Nobody waits for it.
            agreed = self.with_absent(agreed, from);
            Vec::new()
        } else {
            let (plain, out) = self.tell(from.other(), body, &sdp, &mut rewriting);
            self.told.of_mut(from.other()).answer(plain);
            out
        };
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
            for side in Side::BOTH {
                self.told.of_mut(side).withdraw();
            }
            self.settle_ports(pools, now, effects);
        }
    }

    /// A body with our addresses: under its sender's version, as it is kept, and under the one its
    /// receiver counts by.
    fn tell(
        &mut self,
        to: Side,
        body: &[u8],
        sdp: &Sdp,
        rewriting: &mut Rewrite,
    ) -> (Vec<u8>, Vec<u8>) {
        let plain = rewrite(body, sdp, rewriting);
        rewriting.version = self.told.of_mut(to).version(sdp, body, &plain);
        let out = match rewriting.version {
            Some(_) => rewrite(body, sdp, rewriting),
            None => plain.clone(),
        };
        (plain, out)
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
                lines.push(Line {
                    offered: None,
                    rejected: media.port == 0,
                });
                continue;
            }
            let remote = self.remote(from, sdp, media)?;
            let transport = Transport::of(media.protocol);
            let mut pair = |side| self.pair(index, side, transport, pools, now, fresh);
            let pairs = Both {
                a: pair(Side::A)?,
                b: pair(Side::B)?,
            };
            let remote = self.inherit(index, from, pairs, remote);
            // Who multiplexes towards a party that does not goes on with it.
            let agreed = self.before(index);
            let mux = remote.mux || agreed.is_some_and(|s| *s.terms().mux.of(from.other()));
            let kind = Terms::kind(body, media);
            let protocol = media.protocol;
            lines.push(Line {
                offered: Some(Offered {
                    kind,
                    protocol,
                    pairs,
                    remote,
                    mux,
                }),
                rejected: false,
            });
        }
        Ok(lines)
    }

    /// The pair a line has on a side, if that is still in the leg's network; else a new one.
    pub(super) fn pair(
        &self,
        index: usize,
        side: Side,
        transport: Transport,
        pools: &mut Pools,
        now: Instant,
        fresh: &mut Vec<Pair>,
    ) -> Result<Pair, Refusal> {
        let leg = self.legs.of(side);
        let fits = |pair: &Pair| {
            let here = pair.network == leg.network && pair.local == leg.local;
            here && self.open.get(*pair) == Some(transport)
        };
        if let Some(pair) = self.held_pair(index, side, fits) {
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
        let before = self.before(index).map(Stream::terms);
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
        let answered = self.remote(from, sdp, media)?;
        let answered = self.inherit(index, from, offered.pairs, answered);
        let to = from.other();
        let mux = Both::new(
            from,
            answered.mux && offered.mux,
            offered.remote.mux && (answered.mux || offered.remote.mux_needed),
        );
        let remote = Both::new(from, answered, offered.remote.clone());
        let policy = remote.map(|side, remote| self.policy(side, remote));
        let why = policy.map(|_, (_, why)| *why);
        let policy = policy.map(|_, (policy, _)| *policy);
        let mut terms = Terms {
            kind: offered.kind.clone(),
            protocol: offered.protocol,
            pairs: offered.pairs,
            advertise: offered
                .pairs
                .map(|side, pair| self.legs.of(side).told(pair.port)),
            tos: self.legs.map(|_, leg| leg.tos),
            hops: self.legs.map(|_, leg| leg.hops),
            remote,
            policy,
            why,
            reach: self.legs.map(|_, leg| leg.reach()),
            mux,
        };
        let agreed = self.agreed.get(index).and_then(Option::as_ref);
        if let Some(before) = agreed.filter(|_| self.exchange.as_ref().is_some_and(|e| e.own)) {
            // It is told nothing, and keeps what it has.
            terms.keep(to, before.terms());
        }
        Ok(terms)
    }

    /// From whom a party's media is accepted now, and why.
    pub(super) fn policy(&self, side: Side, remote: &Remote) -> (Policy, &'static str) {
        let passages = self.passages.of(side);
        if let Some(at) = remote.rtp.filter(|at| passages.leads_to(*at)) {
            return (Policy::Strict { at }, "the call passes us again");
        }
        let signalled = remote.rtp.filter(|at| !self.is_ours(*at));
        self.legs.of(side).policy(signalled, self.prefixes.of(side))
    }

    /// What a section says of its sender. RTCP is not sent to ourselves either.
    pub(super) fn remote(&self, from: Side, sdp: &Sdp, media: &Media) -> Result<Remote, Refusal> {
        let mut remote = Remote::read(sdp, media).ok_or(NO_CONNECTION)?;
        let passages = self.passages.of(from);
        let here = |at: SocketAddr| passages.socket(at).unwrap_or(at);
        remote.rtp = remote.rtp.map(here);
        let ours = |at: &SocketAddr| self.is_ours(*at) && !passages.leads_to(*at);
        remote.rtcp = remote.rtcp.map(here).filter(|at| !ours(at));
        Ok(remote)
    }

    /// Media sent there would go round for ever, or into another call.
    fn is_ours(&self, at: SocketAddr) -> bool {
        self.ours.holds(at) || self.is_own(at)
    }

    /// A socket of this call, by any of its names, also those it had before.
    fn is_own(&self, at: SocketAddr) -> bool {
        let is = |pair: &Pair, component| {
            let local = pair.at(component);
            let mut legs = [&self.legs.a, &self.legs.b].into_iter();
            local == at
                || legs.any(|leg| leg.network == pair.network && leg.told(local.port()) == at)
        };
        let mut open = self.open.iter();
        // What was told and is not yet taken back still leads to us.
        let mut agreed = self.streams_agreed().map(|stream| stream.terms().advertise);
        open.any(|(pair, _)| Component::BOTH.into_iter().any(|c| is(&pair, c)))
            || agreed.any(|told| told.a == at || told.b == at)
    }

    fn agree(&mut self, terms: Vec<Option<Terms>>, now: Instant) {
        let first = self.agreed.iter().all(Option::is_none) || self.branches.is_forked();
        self.branches.agree(&self.agreed);
        let mut before = std::mem::take(&mut self.agreed).into_iter();
        for terms in terms {
            let stream = match (before.next().flatten(), terms) {
                (Some(stream), Some(terms)) if *stream.terms() == terms => Some(stream),
                (Some(mut stream), Some(terms)) => {
                    stream.renew(terms, now);
                    Some(stream)
                }
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

    /// Holds new pairs; those of TCP are listened at when both parties are known.
    pub(super) fn open(&mut self, fresh: Vec<Pair>, lines: &[Line], effects: &mut Effects) {
        let offered = lines.iter().filter_map(|line| line.offered.as_ref());
        let tcp: BTreeSet<Pair> = offered
            .filter(|line| Transport::of(line.protocol) == Transport::Tcp)
            .flat_map(|line| [line.pairs.a, line.pairs.b])
            .collect();
        for pair in fresh {
            if tcp.contains(&pair) {
                self.open.insert(pair, Transport::Tcp);
                continue;
            }
            self.open.insert(pair, Transport::Udp);
            for component in Component::BOTH {
                effects.push(Effect::Open {
                    at: pair.at(component),
                    network: pair.network,
                });
            }
        }
    }

    /// Closes and gives back every pair that neither an agreed stream nor an open offer needs.
    pub(super) fn settle_ports(&mut self, pools: &mut Pools, now: Instant, effects: &mut Effects) {
        let agreed = self.streams_agreed().map(|stream| stream.terms().pairs);
        let mut needed: BTreeSet<Pair> = agreed.flat_map(|p| [p.a, p.b]).collect();
        needed.extend(self.branches.needed());
        if let Some(exchange) = &mut self.exchange {
            if exchange.stage == Stage::Answered {
                for line in &mut exchange.lines {
                    let kept = |o: &Offered| needed.contains(&o.pairs.a);
                    let before = line.offered.is_some();
                    line.offered = line.offered.take().filter(kept);
                    line.rejected |= before && line.offered.is_none();
                }
            }
            let offered = exchange
                .lines
                .iter()
                .filter_map(|line| line.offered.as_ref());
            needed.extend(offered.flat_map(|o| [o.pairs.a, o.pairs.b]));
        }
        for (pair, transport) in self.open.let_go(|pair| needed.contains(pair)) {
            if transport == Transport::Udp {
                let close = |component| Effect::Close {
                    at: pair.at(component),
                };
                effects.extend(Component::BOTH.map(close));
            }
            pools.give_back(pair.local, pair.port, now);
        }
    }

    /// The ports a party is told for a pair.
    pub(super) fn anchor(&self, to: Side, pair: Pair, media: &Media, mux: Mux) -> Anchor {
        let leg = self.legs.of(to);
        if media.protocol == Protocol::Stream && media.port == ACTIVE_PORT {
            // It will connect, and so shall we.
            return Anchor::Here {
                rtp: ACTIVE_PORT,
                rtcp: ACTIVE_PORT,
                mux,
            };
        }
        Anchor::Here {
            rtp: leg.told(pair.port).port(),
            rtcp: leg.told(pair.rtcp()).port(),
            mux,
        }
    }

    pub(super) fn rewriting(&self, to: Side, media: Vec<Anchor>) -> Rewrite {
        let address = self.legs.of(to).advertise;
        Rewrite {
            address,
            version: None,
            media,
            strip_ice: !(self.legs.a.ice && self.legs.b.ice),
        }
    }
}

pub(super) const NO_CONNECTION: Refusal = Refusal::Malformed("m= line without a c= line");

pub(super) fn is_relayed(sdp: &Sdp, media: &Media) -> bool {
    let multicast = || sdp.connection_of(media).is_some_and(|c| c.is_multicast());
    media.port != 0 && !multicast()
}

pub(super) fn unrelayed(media: &Media) -> Anchor {
    if media.port == 0 {
        Anchor::Rejected
    } else {
        Anchor::Untouched
    }
}

/// What becomes of the line if it should be there, and is or is not.
fn mux(wanted: bool, written: bool) -> Mux {
    match (wanted, written) {
        (true, false) => Mux::Added,
        (false, true) => Mux::Removed,
        (true, true) | (false, false) => Mux::Kept,
    }
}
