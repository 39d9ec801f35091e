//! Learns and holds a peer's media source (RFC 4961, with the precautions of RFC 7362 §5).
//!
//! A latch never goes to an address that signalling did not name: a party is only ever accepted
//! from the address in its SDP, if that is believed, or from the address its signalling comes
//! from. A synchronisation source alone proves nothing: whoever sees one packet can copy it.
//!
//! ```text
//! Waiting    first-rank source                                  → Held
//! Waiting    after new terms: the old peer                      → Waiting, old peer kept
//! Held       its peer                                           → Held
//! Held       believed address never heard, same IP, in window   → Held at the new port
//! Held       second-rank source, likewise                       → Tentative, old peer kept
//! Held       same IP, same SSRC, sequence goes on, old silent   → Tentative, old peer kept
//! Tentative  enough in sequence from the candidate              → Held at the candidate
//! Tentative  the old peer                                       → Held at the old peer
//! any        anybody else                                       → unchanged, counted
//! any        new terms                                          → Held if believed, else Waiting
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::packet::Packet;

/// How long after new terms a believed address may still turn out to be another port, and an old
/// peer is kept beside the search for a new one.
pub const WINDOW: Duration = Duration::from_secs(30);
/// A sequence number older than this says nothing about where the sequence is now.
pub const SEQUENCE_FRESH: Duration = Duration::from_secs(10);

/// From whom media is expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Policy {
    /// No address is known and none may be learnt.
    Nobody,
    /// Exactly the signalled address, for good.
    Strict { at: SocketAddr },
    /// The signalled address; another port of it counts at once, `also` (where signalling comes
    /// from) after probation, both only while the signalled one was never heard.
    Believe {
        at: SocketAddr,
        also: Option<IpAddr>,
    },
    /// Any port of the address signalling comes from. What SDP said is not used as an address; a
    /// change of it reopens the search.
    Learn {
        from: IpAddr,
        signalled: Option<SocketAddr>,
    },
}

/// How patient a latch is with a kind of traffic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    /// An old peer quiet this long may have been given another port by its NAT.
    pub silence: Duration,
    /// Packets a candidate must show.
    pub probation: u8,
    /// A candidate quiet this long is forgotten.
    pub patience: Duration,
}

impl Pace {
    /// A stream of packets.
    pub const RTP: Self = Self {
        silence: Duration::from_secs(2),
        probation: 3,
        patience: Duration::from_secs(2),
    };
    /// A report every 5 s, give or take (RFC 3550 §6.2).
    pub const RTCP: Self = Self {
        silence: Duration::from_secs(12),
        probation: 2,
        patience: Duration::from_secs(15),
    };
    /// Now and then a message and its retransmissions, as BFCP (RFC 8855 §8.3).
    pub const DATAGRAM: Self = Self {
        silence: Duration::from_secs(30),
        probation: 3,
        patience: Duration::from_secs(15),
    };
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is the peer's.
    Held,
    /// It may become the peer's; it is not to be forwarded.
    Tentative,
    /// It is not, and why.
    Stranger(&'static str),
}

/// A media source, being learnt or held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Latch {
    policy: Policy,
    pace: Pace,
    state: State,
    /// When the present terms came into force.
    opened: Instant,
    /// Packets refused.
    strangers: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Waiting { old: Option<Peer> },
    Tentative { candidate: Candidate, old: Peer },
    Held { peer: Peer },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Peer {
    at: SocketAddr,
    ssrc: Option<u32>,
    /// Last sequence number seen, and when: packets the kernel forwards are not seen here.
    sequence: Option<(u16, Instant)>,
    heard: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Candidate {
    at: SocketAddr,
    sign: Sign,
    count: u8,
    last: Instant,
}

/// What a packet says about its sender.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Sign {
    ssrc: Option<u32>,
    sequence: Option<u16>,
}

/// What may be made of a source that is not the peer.
enum Rank {
    First,
    Second,
    None(&'static str),
}

impl Latch {
    #[must_use]
    pub fn new(policy: Policy, pace: Pace, now: Instant) -> Self {
        Self {
            policy,
            pace,
            state: State::begin(policy, None),
            opened: now,
            strangers: 0,
        }
    }

    /// New terms from signalling. Equal terms move nothing.
    pub fn expect(&mut self, policy: Policy, now: Instant) {
        if policy == self.policy {
            return;
        }
        self.state = State::begin(policy, self.state.peer());
        self.policy = policy;
        self.opened = now;
    }

    /// A packet that no flow claimed.
    pub fn receive(&mut self, from: SocketAddr, packet: Packet, now: Instant) -> Verdict {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        self.close_window(now);
        let sign = Sign::of(packet);
        if self.state.peer().is_some_and(|peer| peer.at == from) {
            self.state.heard(sign, now);
            return Verdict::Held;
        }
        match self.rank(from, sign, now) {
            Rank::First => {
                self.state = State::Held {
                    peer: Peer::seen(from, sign, now),
                };
                Verdict::Held
            }
            Rank::Second => self.probe(from, sign, now),
            Rank::None(why) => {
                self.strangers = self.strangers.saturating_add(1);
                Verdict::Stranger(why)
            }
        }
    }

    /// Whether a source could be the party, by its address alone.
    #[must_use]
    pub fn admits(&self, from: SocketAddr) -> bool {
        let ip = from.ip().to_canonical();
        match self.policy {
            Policy::Nobody => false,
            Policy::Strict { at } => at == SocketAddr::new(ip, from.port()),
            Policy::Believe { at, also } => at.ip() == ip || also == Some(ip),
            Policy::Learn { from, .. } => from.to_canonical() == ip,
        }
    }

    /// The held peer was heard elsewhere: in the kernel, or by a flow in userspace.
    pub fn heard(&mut self, now: Instant) {
        self.state.heard(Sign::default(), now);
    }

    /// Where media goes to and comes from; an old peer until a new one is found.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.state.peer().map(|peer| peer.at)
    }

    /// The same, but none while a new peer is searched.
    #[must_use]
    pub fn settled(&self) -> Option<SocketAddr> {
        self.state.settled().map(|peer| peer.at)
    }

    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Packets refused so far.
    #[must_use]
    pub fn strangers(&self) -> u64 {
        self.strangers
    }

    /// The state's name.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self.state {
            State::Waiting { old: None } => "waiting",
            State::Waiting { old: Some(_) } => "waiting (old kept)",
            State::Tentative { .. } => "tentative",
            State::Held { .. } => "held",
        }
    }

    /// Which rule chose the address, in words for the operator.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        let moved = |at: SocketAddr| self.peer().is_some_and(|peer| peer != at);
        match self.policy {
            Policy::Nobody => "no address is known",
            Policy::Strict { .. } => "as SDP says, strictly",
            Policy::Believe { at, .. } if moved(at) => "SDP was believed, packets came otherwise",
            Policy::Believe { .. } => "as SDP says",
            Policy::Learn { .. } => "where packets from the signalling address come from",
        }
    }

    fn rank(&self, from: SocketAddr, sign: Sign, now: Instant) -> Rank {
        let in_window = now.saturating_duration_since(self.opened) < WINDOW;
        match (self.policy, self.state.settled()) {
            (Policy::Nobody, _) => Rank::None("nobody is expected"),
            (Policy::Strict { .. }, _) => Rank::None("not the address in SDP"),
            (Policy::Learn { from: ip, .. }, _) if ip.to_canonical() != from.ip() => {
                Rank::None("not the signalling address")
            }
            (Policy::Learn { .. }, None) => Rank::First,
            (Policy::Learn { .. }, Some(peer)) => self.rebound(&peer, from, sign, now),
            (Policy::Believe { at, also }, Some(peer)) if peer.heard.is_none() && in_window => {
                if at.ip().to_canonical() == from.ip() {
                    Rank::First
                } else if also.is_some_and(|ip| ip.to_canonical() == from.ip()) {
                    Rank::Second
                } else {
                    Rank::None("neither the address in SDP nor the signalling address")
                }
            }
            (Policy::Believe { .. }, Some(peer)) => self.rebound(&peer, from, sign, now),
            (Policy::Believe { .. }, None) => Rank::None("nobody is expected"),
        }
    }

    /// Whether a NAT gave the peer another port: same IP, same source, sequence goes on, the old
    /// port silent. Protocols without a source to compare need a longer silence.
    fn rebound(&self, peer: &Peer, from: SocketAddr, sign: Sign, now: Instant) -> Rank {
        let quiet = |since: Instant| now.saturating_duration_since(since) >= self.pace.silence;
        if peer.at.ip() != from.ip() {
            return Rank::None("the peer is held at another address");
        }
        if !quiet(peer.heard.unwrap_or(self.opened)) {
            return Rank::None("the peer is heard on another port");
        }
        if peer.ssrc != sign.ssrc || peer.heard.is_none() {
            return Rank::None("same address, but another source");
        }
        match (peer.sequence, sign.sequence) {
            (Some((last, at)), Some(next))
                if now.saturating_duration_since(at) < SEQUENCE_FRESH && !follows(last, next) =>
            {
                Rank::None("same source, but not its sequence")
            }
            _ => Rank::Second,
        }
    }

    /// One more packet of a candidate. Another source does not push out a candidate that is alive.
    fn probe(&mut self, from: SocketAddr, sign: Sign, now: Instant) -> Verdict {
        let Some(old) = self.state.settled() else {
            return Verdict::Stranger("nobody is expected");
        };
        let fresh = Candidate {
            at: from,
            sign,
            count: 1,
            last: now,
        };
        let candidate = match self.state {
            State::Tentative { candidate, .. } if !candidate.is_stale(now, self.pace) => {
                if candidate.at != from {
                    self.strangers = self.strangers.saturating_add(1);
                    return Verdict::Stranger("another source is on probation");
                }
                if candidate.is_continued_by(sign) {
                    Candidate {
                        count: candidate.count.saturating_add(1),
                        ..fresh
                    }
                } else {
                    fresh
                }
            }
            State::Tentative { .. } | State::Waiting { .. } | State::Held { .. } => fresh,
        };
        if candidate.count >= self.pace.probation {
            self.state = State::Held {
                peer: Peer::seen(from, sign, now),
            };
            Verdict::Held
        } else {
            self.state = State::Tentative { candidate, old };
            Verdict::Tentative
        }
    }

    /// A search for a new peer that found none ends with the old one, if it is still acceptable.
    fn close_window(&mut self, now: Instant) {
        if let State::Waiting { old: Some(peer) } = self.state
            && now.saturating_duration_since(self.opened) >= WINDOW
        {
            self.state = match self.policy {
                Policy::Learn { from, .. } if from.to_canonical() == peer.at.ip() => {
                    State::Held { peer }
                }
                Policy::Learn { .. }
                | Policy::Nobody
                | Policy::Strict { .. }
                | Policy::Believe { .. } => State::Waiting { old: None },
            };
        }
    }
}

impl State {
    /// The first state under new terms.
    fn begin(policy: Policy, old: Option<Peer>) -> Self {
        match policy {
            Policy::Nobody => Self::Waiting { old: None },
            Policy::Strict { at } | Policy::Believe { at, .. } => {
                let kept = old.filter(|peer| peer.at == at);
                Self::Held {
                    peer: kept.unwrap_or(Peer::unheard(at)),
                }
            }
            Policy::Learn { .. } => Self::Waiting { old },
        }
    }

    fn peer(&self) -> Option<Peer> {
        match self {
            Self::Waiting { old } => *old,
            Self::Tentative { old, .. } => Some(*old),
            Self::Held { peer } => Some(*peer),
        }
    }

    /// The peer, unless a new one is being searched.
    fn settled(&self) -> Option<Peer> {
        match self {
            Self::Waiting { .. } => None,
            Self::Tentative { old, .. } => Some(*old),
            Self::Held { peer } => Some(*peer),
        }
    }

    fn heard(&mut self, sign: Sign, now: Instant) {
        match self {
            Self::Waiting { old } => {
                if let Some(peer) = old {
                    peer.hear(sign, now);
                }
            }
            Self::Held { peer } => peer.hear(sign, now),
            Self::Tentative { old, .. } => {
                let mut peer = *old;
                peer.hear(sign, now);
                *self = Self::Held { peer };
            }
        }
    }
}

impl Peer {
    fn unheard(at: SocketAddr) -> Self {
        Self {
            at,
            ssrc: None,
            sequence: None,
            heard: None,
        }
    }

    fn seen(at: SocketAddr, sign: Sign, now: Instant) -> Self {
        let mut peer = Self::unheard(at);
        peer.hear(sign, now);
        peer
    }

    fn hear(&mut self, sign: Sign, now: Instant) {
        self.heard = Some(now);
        // Multiplexed RTCP has no sequence and must not stand for the stream.
        if sign.sequence.is_some() || self.sequence.is_none() {
            self.ssrc = sign.ssrc.or(self.ssrc);
        }
        if let Some(sequence) = sign.sequence {
            self.sequence = Some((sequence, now));
        }
    }
}

impl Candidate {
    fn is_stale(&self, now: Instant, pace: Pace) -> bool {
        now.saturating_duration_since(self.last) > pace.patience
    }

    fn is_continued_by(&self, sign: Sign) -> bool {
        self.sign.ssrc == sign.ssrc
            && match (self.sign.sequence, sign.sequence) {
                (Some(last), Some(next)) => follows(last, next),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            }
    }
}

impl Sign {
    fn of(packet: Packet) -> Self {
        match packet {
            Packet::Rtp { ssrc, sequence, .. } => Self {
                ssrc: Some(ssrc),
                sequence: Some(sequence),
            },
            Packet::Rtcp { ssrc } => Self {
                ssrc: Some(ssrc),
                sequence: None,
            },
            Packet::Stun | Packet::Dtls | Packet::Other => Self::default(),
        }
    }
}

/// RFC 1982 order on 16 bits. Gaps are allowed: the kernel shows strangers at a bounded rate.
fn follows(last: u16, next: u16) -> bool {
    (1..0x8000).contains(&next.wrapping_sub(last))
}

#[cfg(test)]
mod tests;
