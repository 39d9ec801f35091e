//! One agreed `m=` line: where both parties are, their latches, and the flows that follow.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::leg::{Both, Mode, Side, rtcp_policy};
use crate::effect::Rule;
use crate::id::NetworkId;
use crate::nat::latch::{Latch, Pace, Policy, Verdict};
use crate::nat::packet::Packet;
use crate::sdp::lines::{Direction, Media, Protocol, Sdp, slice};

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
    pub mux: bool,
    pub payload_types: u128,
    pub ssrcs: Vec<u32>,
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
    pub remote: Both<Remote>,
    pub policy: Both<Policy>,
}

/// A stream that is agreed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stream {
    terms: Terms,
    latches: Both<Latches>,
    /// Last sign of life, or the last agreement.
    active: Instant,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Latches {
    rtp: Latch,
    rtcp: Latch,
    /// What signalling last said about RTCP; the latch may since have followed RTP.
    rtcp_terms: Policy,
    /// Packets refused for their synchronisation source.
    misnamed: u8,
}

/// So many packets from sources that SDP does not name are refused; then the names are taken to be
/// wrong or incomplete, which RFC 5576 §4 allows, and addresses alone decide.
pub const MISNAMED_MAX: u8 = 25;

/// A stream, for status and explanation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamView {
    /// Index of the `m=` line.
    pub index: usize,
    /// `audio`, `video`, `application`…
    pub kind: String,
    pub mux: bool,
    pub a: SideView,
    pub b: SideView,
}

/// One side of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SideView {
    /// The address this party was told.
    pub advertised: SocketAddr,
    /// Our socket.
    pub local: SocketAddr,
    /// What its SDP said.
    pub signalled: Option<SocketAddr>,
    /// Where its media is taken from and sent to.
    pub held: Option<SocketAddr>,
    pub latch: &'static str,
    /// Which rule chose the address.
    pub rule: &'static str,
    /// An operator's word, if the rule follows from one.
    pub mode: Option<Mode>,
    /// Packets refused, RTP and RTCP.
    pub strangers: u64,
    /// Whether a flow was asked for at `local`.
    pub flow: bool,
    pub rtcp_held: Option<SocketAddr>,
    pub rtcp_flow: bool,
}

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
            mux: media.mux,
            payload_types: media.payload_types,
            ssrcs: media.known_ssrcs().to_vec(),
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

    /// The same, but one party takes part no more: it rejected the line.
    #[must_use]
    pub fn without(&self, side: Side) -> Self {
        let mut terms = self.clone();
        *terms.policy.of_mut(side) = Policy::Nobody;
        let remote = terms.remote.of_mut(side);
        remote.rtp = None;
        remote.rtcp = None;
        remote.direction = Direction::Inactive;
        terms
    }

    fn is_mux(&self) -> bool {
        self.remote.a.mux && self.remote.b.mux
    }

    fn rtcp_policy(&self, side: Side) -> Policy {
        if self.protocol.is_rtp() && !self.is_mux() {
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
        if !self.expects(component, packet, head) {
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
            latches.follow(now);
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
        let latches = self.latches.of(side);
        let latch = match component {
            Component::Rtp => &latches.rtp,
            Component::Rtcp => &latches.rtcp,
        };
        let other = side.other();
        let to = self.latches.of(other).peer(component)?;
        let crosses = Packet::read(packet) == Packet::Stun && latch.admits(from);
        crosses.then(|| (self.terms.pairs.of(other).at(component), to))
    }

    /// A flow at this socket carried packets.
    pub fn heard(&mut self, (side, component): (Side, Component), now: Instant) {
        self.active = self.active.max(now);
        let latches = self.latches.of_mut(side);
        match component {
            Component::Rtp => latches.rtp.heard(now),
            Component::Rtcp => latches.rtcp.heard(now),
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

    /// When the last sign of life was.
    #[must_use]
    pub fn active(&self) -> Instant {
        self.active
    }

    /// Both ends of a flow are known, or there is none.
    pub fn add_wanted(&self, wanted: &mut BTreeMap<SocketAddr, Rule>) {
        for side in Side::BOTH {
            for component in Component::BOTH {
                if let Some(rule) = self.rule(side, component) {
                    wanted.insert(self.terms.pairs.of(side).at(component), rule);
                }
            }
        }
    }

    #[must_use]
    pub fn view(
        &self,
        index: usize,
        modes: Both<Option<Mode>>,
        has_flow: impl Fn(SocketAddr) -> bool,
    ) -> StreamView {
        let sides = self.latches.map(|side, latches| {
            let terms = &self.terms;
            let pair = terms.pairs.of(side);
            SideView {
                advertised: *terms.advertise.of(side),
                local: pair.at(Component::Rtp),
                signalled: terms.remote.of(side).rtp,
                held: latches.rtp.peer(),
                latch: latches.rtp.state(),
                rule: latches.rtp.rule(),
                mode: *modes.of(side),
                strangers: latches
                    .rtp
                    .strangers()
                    .saturating_add(latches.rtcp.strangers()),
                flow: has_flow(pair.at(Component::Rtp)),
                rtcp_held: latches.rtcp.peer(),
                rtcp_flow: has_flow(pair.at(Component::Rtcp)),
            }
        });
        let (kind, mux) = (self.terms.kind.clone(), self.terms.is_mux());
        StreamView {
            index,
            kind,
            mux,
            a: sides.a,
            b: sides.b,
        }
    }

    fn rule(&self, side: Side, component: Component) -> Option<Rule> {
        let other = side.other();
        Some(Rule {
            peer: self.latches.of(side).peer(component)?,
            source: self.terms.pairs.of(other).at(component),
            target: self.latches.of(other).peer(component)?,
            tos: *self.terms.tos.of(other),
        })
    }

    /// Whether a packet is of a kind that may teach a source. RTCP that strays onto the RTP port
    /// teaches nothing unless multiplexing was agreed; STUN never does.
    fn expects(&self, component: Component, packet: Packet, head: &[u8]) -> bool {
        match (self.terms.protocol, packet) {
            (Protocol::Rtp | Protocol::DtlsRtp, Packet::Rtp { payload_type, .. }) => {
                component == Component::Rtp && self.is_agreed(payload_type)
            }
            (Protocol::Rtp | Protocol::DtlsRtp, Packet::Rtcp { .. }) => {
                component == Component::Rtcp || self.terms.is_mux()
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
            Pace::RTP
        } else {
            Pace::DATAGRAM
        };
        let rtcp_terms = terms.rtcp_policy(side);
        Self {
            rtp: Latch::new(*terms.policy.of(side), pace, now),
            rtcp: Latch::new(rtcp_terms, Pace::RTCP, now),
            rtcp_terms,
            misnamed: 0,
        }
    }

    fn renew(&mut self, terms: &Terms, side: Side, now: Instant) {
        self.rtp.expect(*terms.policy.of(side), now);
        let rtcp_terms = terms.rtcp_policy(side);
        if rtcp_terms != self.rtcp_terms {
            self.rtcp_terms = rtcp_terms;
            self.rtcp.expect(rtcp_terms, now);
        }
    }

    fn peer(&self, component: Component) -> Option<SocketAddr> {
        match component {
            Component::Rtp => self.rtp.peer(),
            Component::Rtcp => self.rtcp.peer(),
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
            let signalled = None;
            self.rtcp.expect(
                Policy::Learn {
                    from: rtp.ip(),
                    signalled,
                },
                now,
            );
        }
    }
}
