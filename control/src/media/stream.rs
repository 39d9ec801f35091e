//! One agreed `m=` line: where both parties are, their latches, and the flows that follow.

mod adopt;
mod pulse;
mod tcp;
mod view;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::bandwidth::Said;
use super::leg::{Both, Side, rtcp_policy};
use crate::effect::{Effect, Effects, MediaKind, RtcpWay, Rule};
use crate::id::NetworkId;
use crate::nat::latch::{Latch, Pace, Policy, Reach, Verdict};
use crate::nat::packet::Packet;
use crate::sdp::lines::{Direction, Media, Protocol, Sdp, Setup, slice};

pub use pulse::{Change, Silence};
pub use tcp::ACTIVE_PORT;
pub use view::{Seen, SideView, StreamView};

/// Two adjacent local ports: RTP on the even one, RTCP on the odd one (RFC 3550 §11).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Pair {
    pub network: NetworkId,
    pub local: IpAddr,
    pub port: u16,
}

/// The parts of a pair.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Component {
    Rtp,
    Rtcp,
}

/// What one party's SDP says about a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remote {
    /// None if it is a name, or nowhere.
    pub rtp: Option<SocketAddr>,
    pub rtcp: Option<SocketAddr>,
    /// `c=0.0.0.0`: hold in the manner of RFC 2543.
    pub nowhere: bool,
    pub direction: Direction,
    pub setup: Option<Setup>,
    pub mux: bool,
    /// It cannot do without: RFC 8858, and browsers, which say so only by failing.
    pub mux_needed: bool,
    pub payload_types: u128,
    pub ssrcs: Vec<u32>,
    pub bandwidth: Said,
}

/// What a stream is agreed to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Terms {
    /// The `m=` line's first word.
    pub kind: String,
    pub protocol: Protocol,
    pub pairs: Both<Pair>,
    /// What each party was told.
    pub advertise: Both<SocketAddr>,
    pub tos: Both<Option<u8>>,
    pub hops: Both<Option<u8>>,
    pub remote: Both<Remote>,
    pub policy: Both<Policy>,
    /// Why that policy, for the operator.
    pub why: Both<&'static str>,
    pub reach: Both<Reach>,
    /// RTCP comes and goes by the RTP port (RFC 5761).
    pub mux: Both<bool>,
}

/// A stream that is agreed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stream {
    terms: Terms,
    latches: Both<Latches>,
    /// Last sign of life, or the last agreement.
    active: Instant,
    agreed: Instant,
    pulse: pulse::Pulse,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Latches {
    rtp: Latch,
    rtcp: Latch,
    /// What signalling last said about RTCP; the latch may since have followed RTP.
    rtcp_terms: Policy,
    /// Packets refused for their synchronisation source.
    misnamed: u8,
    outward: Outward,
    outward_rtcp: Outward,
}

/// What we do to keep a party's NAT open to us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Outward {
    /// When something last went to the party.
    sent: Instant,
    /// Datagrams sent before the party was heard.
    pierced: u8,
}

/// A pinhole that carries nothing outward this long is refreshed (RFC 6263 §4.1, §5).
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// So many datagrams are sent towards a party behind a NAT that is not heard, one each second.
pub const PIERCE_MAX: u8 = 5;
/// A party that is silent this long while the other may hear is shown as such.
pub const SILENT: Duration = Duration::from_secs(10);

/// So many packets from sources that SDP does not name are refused; then the names are taken to be
/// wrong or incomplete, which RFC 5576 §4 allows, and addresses alone decide.
pub const MISNAMED_MAX: u8 = 25;

impl Component {
    pub const BOTH: [Self; 2] = [Self::Rtp, Self::Rtcp];
}

impl Pair {
    #[must_use]
    pub fn at(self, component: Component) -> SocketAddr {
        let port = match component {
            Component::Rtp => self.port,
            Component::Rtcp => self.rtcp(),
        };
        SocketAddr::new(self.local, port)
    }

    /// The odd port.
    #[must_use]
    pub fn rtcp(self) -> u16 {
        self.port | 1
    }
}

impl Remote {
    /// Reads a section; none if it has no connection at all.
    #[must_use]
    pub fn read(sdp: &Sdp, media: &Media) -> Option<Self> {
        let connection = sdp.connection_of(media)?;
        let rtcp = match &media.rtcp {
            Some(line) => line.connection.as_ref().unwrap_or(connection).at(line.port),
            None => media
                .port
                .checked_add(1)
                .and_then(|port| connection.at(port)),
        };
        Some(Self {
            rtp: connection.at(media.port),
            rtcp,
            nowhere: connection.is_nowhere(),
            direction: sdp.direction_of(media),
            setup: sdp.setup_of(media),
            mux: !media.mux.is_empty(),
            mux_needed: media.mux_only
                || !media.mux.is_empty() && media.protocol == Protocol::DtlsRtp,
            payload_types: media.payload_types,
            ssrcs: media.known_ssrcs().to_vec(),
            bandwidth: Said {
                line: media.bandwidth,
                session: sdp.bandwidth,
            },
        })
    }

    fn is_held(&self) -> bool {
        self.nowhere || self.direction != Direction::SendRecv
    }
}

impl Terms {
    /// The name of a section's media.
    #[must_use]
    pub fn kind(body: &[u8], media: &Media) -> String {
        String::from_utf8_lossy(slice(body, &media.kind)).into_owned()
    }

    /// What holds for one party stays as it was.
    pub fn keep(&mut self, side: Side, before: &Self) {
        *self.advertise.of_mut(side) = *before.advertise.of(side);
        *self.tos.of_mut(side) = *before.tos.of(side);
        *self.hops.of_mut(side) = *before.hops.of(side);
        *self.policy.of_mut(side) = *before.policy.of(side);
        *self.why.of_mut(side) = *before.why.of(side);
        self.reach.of_mut(side).clone_from(before.reach.of(side));
        *self.mux.of_mut(side) = *before.mux.of(side);
    }

    /// The same, but one party takes part no more: it rejected the line.
    #[must_use]
    pub fn without(&self, side: Side) -> Self {
        let mut terms = self.clone();
        *terms.policy.of_mut(side) = Policy::Nobody;
        *terms.why.of_mut(side) = "the party rejected the line";
        let remote = terms.remote.of_mut(side);
        remote.rtp = None;
        remote.rtcp = None;
        remote.direction = Direction::Inactive;
        terms
    }

    fn media_kind(&self) -> MediaKind {
        match self.kind.as_str() {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            _ => MediaKind::Data,
        }
    }

    fn is_mux(&self) -> bool {
        self.mux.a && self.mux.b
    }

    fn rtcp_policy(&self, side: Side) -> Policy {
        if self.protocol.is_rtp() && !self.mux.of(side) {
            rtcp_policy(*self.policy.of(side), self.remote.of(side).rtcp)
        } else {
            Policy::Nobody
        }
    }
}

impl Stream {
    #[must_use]
    pub fn new(terms: Terms, now: Instant) -> Self {
        let latches = terms.pairs.map(|side, _| Latches::new(&terms, side, now));
        Self {
            terms,
            latches,
            active: now,
            agreed: now,
            pulse: pulse::Pulse::default(),
        }
    }

    /// Newly agreed terms. What they do not change stays as it is.
    pub fn renew(&mut self, terms: Terms, now: Instant) {
        if self.terms.protocol != terms.protocol {
            *self = Self::new(terms, now);
            return;
        }
        for side in Side::BOTH {
            if self.terms.pairs.of(side) == terms.pairs.of(side) {
                self.latches.of_mut(side).renew(&terms, side, now);
            } else {
                *self.latches.of_mut(side) = Latches::new(&terms, side, now);
            }
        }
        self.terms = terms;
        self.active = now;
        self.agreed = now;
    }

    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Which side and component a local socket is.
    #[must_use]
    pub fn find(&self, at: SocketAddr) -> Option<(Side, Component)> {
        Side::BOTH.into_iter().find_map(|side| {
            let pair = self.terms.pairs.of(side);
            let component = match at {
                at if at == pair.at(Component::Rtp) => Component::Rtp,
                at if at == pair.at(Component::Rtcp) => Component::Rtcp,
                _ => return None,
            };
            Some((side, component))
        })
    }

    /// A packet that no flow claimed; none if it is not of the kind that is expected here.
    pub fn receive(
        &mut self,
        (side, component): (Side, Component),
        from: SocketAddr,
        head: &[u8],
        now: Instant,
    ) -> Option<Verdict> {
        let packet = Packet::read(head);
        if !self.expects((side, component), packet, head) {
            return None;
        }
        let named = self.is_named(side, packet);
        let latches = self.latches.of_mut(side);
        if !named && latches.misnamed < MISNAMED_MAX {
            latches.misnamed += 1;
            return Some(Verdict::Stranger("not a source named in SDP"));
        }
        let verdict = match component {
            Component::Rtp => latches.rtp.receive(from, packet, now),
            Component::Rtcp => latches.rtcp.receive(from, packet, now),
        };
        if verdict == Verdict::Held {
            self.active = now;
            if let Packet::Rtp { ssrc, .. } = packet {
                self.pulse.source(side, ssrc);
            }
            latches.follow(now);
            if self.rule(side, component).is_some() {
                self.sent_on(side, component, now);
            }
        }
        Some(verdict)
    }

    /// Whereby a packet that teaches nothing crosses: STUN goes end to end, wherever its sender may
    /// come to be latched (RFC 7584 §4).
    #[must_use]
    pub fn way_across(
        &self,
        (side, component): (Side, Component),
        from: SocketAddr,
        packet: &[u8],
    ) -> Option<(SocketAddr, SocketAddr)> {
        let (other, there) = (side.other(), self.across(side, component));
        let to = self.target(other, there)?;
        let latch = self.latches.of(side).of(component);
        let crosses = Packet::read(packet) == Packet::Stun && latch.admits(from);
        crosses.then(|| (self.terms.pairs.of(other).at(there), to))
    }

    /// A flow at this socket carried packets.
    pub fn heard(&mut self, (side, component): (Side, Component), ssrc: Option<u32>, now: Instant) {
        self.active = self.active.max(now);
        self.sent_on(side, component, now);
        let latches = self.latches.of_mut(side);
        match component {
            Component::Rtp => {
                latches.rtp.heard(ssrc, now);
                if let Some(ssrc) = ssrc {
                    self.pulse.source(side, ssrc);
                }
            }
            Component::Rtcp => latches.rtcp.heard(None, now),
        }
    }

    /// Since when nothing was heard; none if silence means nothing: on hold, one-way, or no RTP.
    /// A held party may be silent for as long as it likes.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        let steady = matches!(self.terms.kind.as_str(), "audio" | "video");
        let held = self.terms.remote.a.is_held() || self.terms.remote.b.is_held();
        (steady && self.terms.protocol.is_rtp() && !held).then_some(self.active)
    }

    /// Keeps open the NATs that would close by now, and opens those that let nobody in whom their
    /// party has not sent to.
    pub fn keep_alive(&mut self, now: Instant, effects: &mut Effects) {
        if self.is_tcp() {
            return;
        }
        for side in Side::BOTH {
            for component in Component::BOTH {
                let latches = self.latches.of(side);
                let Policy::Learn {
                    from, signalled, ..
                } = latches.of(component).policy()
                else {
                    continue;
                };
                let mut outward = *latches.outward(component);
                let to = match self.target(side, component) {
                    Some(to) => {
                        let quiet = now.saturating_duration_since(outward.sent);
                        (quiet >= KEEP_ALIVE).then_some(to)
                    }
                    None if outward.pierced < PIERCE_MAX => {
                        outward.pierced += 1;
                        signalled.map(|at| SocketAddr::new(from, at.port()))
                    }
                    None => None,
                };
                if let Some(to) = to {
                    outward.sent = now;
                    let at = self.terms.pairs.of(side).at(component);
                    effects.push(Effect::KeepAlive { at, to });
                }
                *self.latches.of_mut(side).outward_mut(component) = outward;
            }
        }
    }

    /// When the last sign of life was.
    #[must_use]
    pub fn active(&self) -> Instant {
        self.active
    }

    /// Both ends of a flow are known, or there is none.
    pub fn add_wanted(&self, wanted: &mut BTreeMap<SocketAddr, Rule>) {
        if self.is_tcp() {
            return;
        }
        for side in Side::BOTH {
            for component in Component::BOTH {
                if let Some(rule) = self.rule(side, component) {
                    wanted.insert(self.terms.pairs.of(side).at(component), rule);
                }
            }
        }
    }

    /// Where a party's media is sent.
    fn target(&self, side: Side, component: Component) -> Option<SocketAddr> {
        let known = self.latches.of(side).of(component).target();
        match component {
            Component::Rtp => known.or_else(|| self.guess(side)),
            Component::Rtcp => known,
        }
    }

    /// A party that only receives never shows where from; its RTCP does, one port above (RFC 3550
    /// §11), if its NAT keeps neighbours together.
    fn guess(&self, side: Side) -> Option<SocketAddr> {
        let rtcp = self.latches.of(side).rtcp.settled()?;
        let port = rtcp.port().checked_sub(1).filter(|port| *port > 0)?;
        self.is_mute(side).then(|| SocketAddr::new(rtcp.ip(), port))
    }

    /// A party that sends nothing to learn from.
    fn is_mute(&self, side: Side) -> bool {
        let learns = matches!(self.terms.policy.of(side), Policy::Learn { .. });
        let (own, other) = (
            self.terms.remote.of(side),
            self.terms.remote.of(side.other()),
        );
        let sends = own.direction.sends() && other.direction.receives();
        learns && self.terms.protocol.is_rtp() && own.direction.receives() && !sends
    }

    /// By which port of ours what came by `component` from `side` leaves.
    fn across(&self, side: Side, component: Component) -> Component {
        if *self.terms.mux.of(side.other()) {
            Component::Rtp
        } else {
            component
        }
    }

    /// What came from a party went on to the other.
    fn sent_on(&mut self, side: Side, component: Component, now: Instant) {
        let there = self.across(side, component);
        let latches = self.latches.of_mut(side.other());
        latches.outward_mut(there).sent = now;
    }

    fn rule(&self, side: Side, component: Component) -> Option<Rule> {
        let (other, there) = (side.other(), self.across(side, component));
        let pair = self.terms.pairs.of(other);
        let target = self.target(other, there)?;
        let apart = *self.terms.mux.of(side) && !self.terms.mux.of(other);
        // Until it is known: one port above (RFC 3550 §11).
        let above = SocketAddr::new(target.ip(), target.port().saturating_add(1));
        let rtcp = apart.then(|| RtcpWay {
            source: pair.at(Component::Rtcp),
            target: self.target(other, Component::Rtcp).unwrap_or(above),
        });
        Some(Rule {
            peer: self.latches.of(side).of(component).peer()?,
            source: pair.at(there),
            target,
            rtcp,
            tos: *self.terms.tos.of(other),
            hops: *self.terms.hops.of(other),
            kind: match component {
                Component::Rtp => self.terms.media_kind(),
                Component::Rtcp => MediaKind::Rtcp,
            },
        })
    }

    /// Whether a packet is of a kind that may teach a source. RTCP that strays onto the RTP port
    /// teaches nothing unless multiplexing was agreed; STUN never does.
    fn expects(&self, (side, component): (Side, Component), packet: Packet, head: &[u8]) -> bool {
        match (self.terms.protocol, packet) {
            (Protocol::Rtp | Protocol::DtlsRtp, Packet::Rtp { payload_type, .. }) => {
                component == Component::Rtp && self.is_agreed(payload_type)
            }
            (Protocol::Rtp | Protocol::DtlsRtp, Packet::Rtcp { .. }) => {
                component == Component::Rtcp || *self.terms.mux.of(side)
            }
            (Protocol::Rtp | Protocol::DtlsRtp | Protocol::Bfcp, Packet::Dtls) => true,
            (Protocol::Rtp | Protocol::DtlsRtp, Packet::Other) => false,
            (Protocol::Bfcp, Packet::Rtp { .. } | Packet::Rtcp { .. } | Packet::Other) => {
                Packet::is_bfcp(head)
            }
            (_, Packet::Stun) => false,
            (
                Protocol::Datagram | Protocol::Stream,
                Packet::Rtp { .. } | Packet::Rtcp { .. } | Packet::Dtls | Packet::Other,
            ) => true,
        }
    }

    /// Parties may send what either SDP lists (RFC 3264 §5.1 and §6.1, read generously).
    fn is_agreed(&self, payload_type: u8) -> bool {
        let listed = self.terms.remote.a.payload_types | self.terms.remote.b.payload_types;
        listed == 0 || listed & (1u128 << (payload_type & 0x7f)) != 0
    }

    /// Whether a packet's source is one its party named, if it named any.
    fn is_named(&self, side: Side, packet: Packet) -> bool {
        let ssrcs = &self.terms.remote.of(side).ssrcs;
        match packet {
            Packet::Rtp { ssrc, .. } => ssrcs.is_empty() || ssrcs.contains(&ssrc),
            Packet::Rtcp { .. } | Packet::Stun | Packet::Dtls | Packet::Other => true,
        }
    }
}

impl Latches {
    fn new(terms: &Terms, side: Side, now: Instant) -> Self {
        let pace = if terms.protocol.is_rtp() {
            &Pace::RTP
        } else {
            &Pace::DATAGRAM
        };
        let rtcp_terms = terms.rtcp_policy(side);
        let reach = terms.reach.of(side);
        let outward = Outward {
            sent: now,
            pierced: 0,
        };
        Self {
            rtp: Latch::new(*terms.policy.of(side), reach.clone(), pace, now),
            rtcp: Latch::new(rtcp_terms, reach.of_rtcp(), &Pace::RTCP, now),
            rtcp_terms,
            misnamed: 0,
            outward,
            outward_rtcp: outward,
        }
    }

    fn renew(&mut self, terms: &Terms, side: Side, now: Instant) {
        let (policy, reach) = (*terms.policy.of(side), terms.reach.of(side));
        if policy != self.rtp.policy() {
            self.outward.pierced = 0;
            self.outward_rtcp.pierced = 0;
        }
        self.rtp.expect(policy, reach, now);
        let rtcp_terms = terms.rtcp_policy(side);
        if rtcp_terms != self.rtcp_terms {
            self.rtcp_terms = rtcp_terms;
            self.rtcp.expect(rtcp_terms, &reach.of_rtcp(), now);
        }
    }

    fn of(&self, component: Component) -> &Latch {
        match component {
            Component::Rtp => &self.rtp,
            Component::Rtcp => &self.rtcp,
        }
    }

    fn outward(&self, component: Component) -> &Outward {
        match component {
            Component::Rtp => &self.outward,
            Component::Rtcp => &self.outward_rtcp,
        }
    }

    fn outward_mut(&mut self, component: Component) -> &mut Outward {
        match component {
            Component::Rtp => &mut self.outward,
            Component::Rtcp => &mut self.outward_rtcp,
        }
    }

    /// RTCP must share RTP's IP: when packets moved RTP to another one, RTCP is learnt from there.
    fn follow(&mut self, now: Instant) {
        let expected = match self.rtcp.policy() {
            Policy::Learn { from, .. } => from,
            Policy::Believe { at, .. } => at.ip(),
            Policy::Strict { .. } | Policy::Nobody => return,
        };
        if let Some(rtp) = self.rtp.settled()
            && rtp.ip() != expected
        {
            let policy = Policy::Learn {
                from: rtp.ip(),
                signalled: None,
                first: None,
            };
            let reach = self.rtcp.reach().clone();
            self.rtcp.expect(policy, &reach, now);
        }
    }
}
