//! Learns and holds a peer's media source (RFC 4961, with the precautions of RFC 7362 §5).
//!
//! A latch never goes to an address that nobody vouched for: a party is only ever accepted from
//! the address in its SDP, if that is believed, from the address its signalling comes from, or
//! from where the operator allowed (`Reach`). A synchronisation source alone proves nothing:
//! whoever sees one packet can copy it.
//!
//! ```text
//! Waiting    first-rank source                                  → Held
//! Waiting    lower-rank source                                  → Tentative
//! Waiting    after new terms: the old peer                      → Waiting, old peer kept
//! Held       its peer                                           → Held
//! Held       believed address never heard, same IP, in window   → Held at the new port
//! Held       lower-rank source, likewise                        → Tentative, old peer kept
//! Held       on a low ground, first-rank source, in window      → Held at that source
//! Held       same IP, same SSRC, sequence goes on, old silent   → Tentative, old peer kept
//! Held       declared sender, old silent or never heard         → Held at the sender
//! Tentative  enough in sequence from the candidate              → Held at the candidate
//! Tentative  a better candidate, or a first-rank source         → as if there were none
//! Tentative  the old peer                                       → Held at the old peer
//! any        anybody else                                       → unchanged, counted
//! any        new terms                                          → Held if believed, else Waiting
//! ```

mod peer;
mod terms;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::packet::Packet;

pub use peer::{Candidate, Ground};
pub use terms::{ANYWHERE_PACKETS, Accept, Pace, Policy, Reach};

use peer::{Peer, Sign, follows};
use terms::are_neighbours;

/// How long after new terms a believed address may still turn out to be another port, and an old
/// peer is kept beside the search for a new one.
pub const WINDOW: Duration = Duration::from_secs(30);
/// A sequence number older than this says nothing about where the sequence is now.
pub const SEQUENCE_FRESH: Duration = Duration::from_secs(10);
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
    reach: Reach,
    pace: &'static Pace,
    state: State,
    /// A source on probation.
    candidate: Option<Box<Candidate>>,
    /// When the present terms came into force.
    opened: Instant,
    /// When the peer was found or lost.
    since: Instant,
    /// Packets refused.
    strangers: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Waiting { old: Option<Peer> },
    Held { peer: Peer },
}

/// What may be made of a source that is not the peer.
enum Rank {
    First(Ground),
    Probation(Ground, u8),
    None(&'static str),
}

impl Latch {
    #[must_use]
    pub fn new(policy: Policy, reach: Reach, pace: &'static Pace, now: Instant) -> Self {
        let state = State::begin(policy, &reach, None);
        Self {
            policy,
            reach,
            pace,
            state,
            candidate: None,
            opened: now,
            since: now,
            strangers: 0,
        }
    }

    /// New terms from signalling or from the operator. Equal terms move nothing.
    pub fn expect(&mut self, policy: Policy, reach: &Reach, now: Instant) {
        if policy == self.policy && *reach == self.reach {
            return;
        }
        let state = State::begin(policy, reach, self.state.peer());
        self.policy = policy;
        self.reach.clone_from(reach);
        self.opened = now;
        self.candidate = None;
        self.turn(state, now);
    }

    /// A source that was held before this process began.
    pub fn adopt(&mut self, from: SocketAddr, now: Instant) {
        if self.policy != Policy::Nobody && self.settled() != Some(from) {
            self.hold(Peer::unheard(from, Ground::Signalling), now);
        }
    }

    /// A packet that no flow claimed.
    pub fn receive(&mut self, from: SocketAddr, packet: Packet, now: Instant) -> Verdict {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        self.close_window(now);
        let sign = Sign::of(packet);
        if self.state.peer().is_some_and(|peer| peer.at == from) {
            self.hear(sign, now);
            return Verdict::Held;
        }
        match self.rank(from, sign, now) {
            Rank::First(ground) => self.hold(Peer::seen(from, ground, sign, now), now),
            Rank::Probation(ground, needs) => self.probe(
                Candidate {
                    at: from,
                    ground,
                    needs,
                    count: 1,
                    sign,
                    last: now,
                },
                now,
            ),
            Rank::None(why) => self.refuse(why),
        }
    }

    /// Whether a source could be the party, by its address alone.
    #[must_use]
    pub fn admits(&self, from: SocketAddr) -> bool {
        let ip = from.ip().to_canonical();
        let by_policy = match self.policy {
            Policy::Nobody => false,
            Policy::Strict { at } => at == SocketAddr::new(ip, from.port()),
            Policy::Believe { at, also } => at.ip() == ip || also == Some(ip),
            Policy::Learn { from, .. } => from.to_canonical() == ip,
        };
        by_policy || self.is_declared(ip) || self.state.peer().is_some_and(|peer| peer.at == from)
    }

    /// The held peer was heard elsewhere: in the kernel, or by a flow in userspace.
    pub fn heard(&mut self, ssrc: Option<u32>, at: Instant) {
        match &mut self.state {
            State::Waiting { old: None } => {}
            State::Waiting { old: Some(peer) } => peer.carried(ssrc, at),
            State::Held { peer } => {
                peer.carried(ssrc, at);
                // Whoever was on probation meanwhile is not where the peer has moved to.
                self.candidate.take_if(|candidate| at > candidate.last);
            }
        }
    }

    /// Where media comes from; an old peer until a new one is found.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.state.peer().map(|peer| peer.at)
    }

    /// Where media goes to: back to the peer, unless it only sends.
    #[must_use]
    pub fn target(&self) -> Option<SocketAddr> {
        match (self.state.peer(), self.policy) {
            (Some(peer), _) if peer.ground == Ground::Declared => self.signalled(),
            (Some(peer), _) => Some(peer.at),
            (None, Policy::Learn { first, .. }) => first,
            (None, _) => None,
        }
    }

    /// The peer, but none while a new one is searched.
    #[must_use]
    pub fn settled(&self) -> Option<SocketAddr> {
        self.state.settled().map(|peer| peer.at)
    }

    /// When the peer was heard last.
    #[must_use]
    pub fn last_heard(&self) -> Option<Instant> {
        self.state.peer().and_then(|peer| peer.heard)
    }

    /// When the present terms came into force.
    #[must_use]
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// When the peer was found, or lost.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The source on probation.
    #[must_use]
    pub fn candidate(&self) -> Option<Candidate> {
        self.candidate.as_deref().copied()
    }

    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    #[must_use]
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Packets refused so far.
    #[must_use]
    pub fn strangers(&self) -> u64 {
        self.strangers
    }

    /// The state's name.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match (self.state, &self.candidate) {
            (_, Some(_)) => "tentative",
            (State::Waiting { old: None }, None) => "waiting",
            (State::Waiting { old: Some(_) }, None) => "waiting (old kept)",
            (State::Held { .. }, None) => "held",
        }
    }

    /// Which rule chose the address: a name that stays, and words for the operator.
    #[must_use]
    pub fn rule(&self) -> (&'static str, &'static str) {
        let ground = self.state.settled().map(|peer| peer.ground);
        match (self.policy, ground) {
            (_, Some(Ground::Declared)) => (
                "declared-sender",
                "from a declared sender; sent where SDP says",
            ),
            (_, Some(Ground::Subnet)) => (
                "subnet",
                "where packets from beside the signalling address come from",
            ),
            (_, Some(Ground::Anywhere)) => (
                "anywhere",
                "where packets came from that passed the long probation",
            ),
            (Policy::Nobody, _) => ("nobody", "no address is known"),
            (Policy::Strict { .. }, _) => ("sdp-strict", "as SDP says, strictly"),
            (Policy::Believe { .. }, Some(Ground::SdpPort)) => (
                "sdp-port",
                "the address in SDP, at the port packets come from",
            ),
            (Policy::Believe { .. }, Some(Ground::Signalling)) => (
                "sdp-signalling",
                "SDP was believed, packets came from the signalling address",
            ),
            (Policy::Believe { .. }, Some(Ground::Sdp) | None) => ("sdp", "as SDP says"),
            (Policy::Learn { .. }, _) => (
                "learn-signalling",
                "where packets from the signalling address come from",
            ),
        }
    }

    fn rank(&self, from: SocketAddr, sign: Sign, now: Instant) -> Rank {
        let rank = self.rank_by_policy(from, sign, now);
        if !matches!(rank, Rank::None(_)) || !self.is_declared(from.ip()) {
            return rank;
        }
        // Whoever is declared may take over from whoever has fallen silent.
        match self.state.settled() {
            Some(peer) if peer.heard.is_some_and(|at| !self.is_quiet(at, now)) => rank,
            Some(_) | None => Rank::First(Ground::Declared),
        }
    }

    fn rank_by_policy(&self, from: SocketAddr, sign: Sign, now: Instant) -> Rank {
        let ip = from.ip();
        let in_window = now.saturating_duration_since(self.opened) < WINDOW;
        // Not yet heard, or on so low a ground that a better one may still come; or it only sends,
        // and has stopped.
        let open = |peer: &Peer| {
            in_window && (peer.heard.is_none() || peer.ground.is_low())
                || peer.ground == Ground::Declared
                    && peer.heard.is_none_or(|at| self.is_quiet(at, now))
        };
        match (self.policy, self.state.settled()) {
            (Policy::Nobody, _) => Rank::None("nobody is expected"),
            (Policy::Strict { at }, Some(peer)) if at == from => {
                // A declared sender is held.
                if peer.heard.is_some_and(|at| !self.is_quiet(at, now)) {
                    Rank::None("a declared sender is heard")
                } else {
                    Rank::First(Ground::Sdp)
                }
            }
            (Policy::Strict { .. }, _) => Rank::None("not the address in SDP"),
            (Policy::Learn { from: named, .. }, None) => {
                if named.to_canonical() == ip {
                    Rank::First(Ground::Signalling)
                } else {
                    self.beyond(ip, sign, "not the signalling address")
                }
            }
            (Policy::Learn { from: named, .. }, Some(peer)) => {
                if named.to_canonical() == ip && open(&peer) {
                    Rank::First(Ground::Signalling)
                } else {
                    self.rebound(&peer, from, sign, now, "not the signalling address")
                }
            }
            (Policy::Believe { at, also }, Some(peer)) => {
                let held = "the peer is held at another address";
                if !open(&peer) {
                    self.rebound(&peer, from, sign, now, held)
                } else if at.ip().to_canonical() == ip {
                    Rank::First(if at == from {
                        Ground::Sdp
                    } else {
                        Ground::SdpPort
                    })
                } else if also.is_some_and(|also| also.to_canonical() == ip) {
                    Rank::Probation(Ground::Signalling, self.pace.probation)
                } else if peer.heard.is_none() {
                    let neither = "neither the address in SDP nor the signalling address";
                    self.beyond(ip, sign, neither)
                } else {
                    self.rebound(&peer, from, sign, now, held)
                }
            }
            (Policy::Believe { .. }, None) => Rank::None("nobody is expected"),
        }
    }

    /// What the operator allows beyond SDP and signalling. Without an address that speaks for it,
    /// a source must show a stream: RTP in sequence.
    fn beyond(&self, ip: IpAddr, sign: Sign, refused: &'static str) -> Rank {
        let near = match self.policy {
            Policy::Learn { from, .. } => Some(from),
            Policy::Believe { at, also } => Some(also.unwrap_or(at.ip())),
            Policy::Nobody | Policy::Strict { .. } => None,
        };
        let is_near = near.is_some_and(|near| are_neighbours(near.to_canonical(), ip));
        match self.reach.accept {
            Accept::Subnet | Accept::Anywhere if is_near => {
                Rank::Probation(Ground::Subnet, self.pace.probation)
            }
            Accept::Anywhere if sign.sequence.is_some() => {
                Rank::Probation(Ground::Anywhere, ANYWHERE_PACKETS)
            }
            Accept::Signalling | Accept::Subnet | Accept::Anywhere => Rank::None(refused),
        }
    }

    /// Whether a NAT gave the peer another port: same IP, same source, sequence goes on, the old
    /// port silent. Protocols without a source to compare need a longer silence. Another IP only
    /// if the operator allows it, and then all of this must hold as well.
    fn rebound(
        &self,
        peer: &Peer,
        from: SocketAddr,
        sign: Sign,
        now: Instant,
        refused: &'static str,
    ) -> Rank {
        let rank = if peer.at.ip() == from.ip() {
            let ground = peer.ground.max(Ground::SdpPort);
            Rank::Probation(ground, self.pace.probation)
        } else {
            self.beyond(from.ip(), sign, refused)
        };
        let Rank::Probation(..) = rank else {
            return rank;
        };
        if !self.is_quiet(peer.heard.unwrap_or(self.opened), now) {
            return Rank::None("the peer is heard on another port");
        }
        if peer.ssrc != sign.ssrc || peer.heard.is_none() {
            return Rank::None("another source than the peer's");
        }
        match (peer.sequence, sign.sequence) {
            (Some((last, at)), Some(next))
                if now.saturating_duration_since(at) < SEQUENCE_FRESH && !follows(last, next) =>
            {
                Rank::None("same source, but not its sequence")
            }
            _ => rank,
        }
    }

    /// One more packet of a candidate. Another source does not push out a candidate that is alive,
    /// unless it stands on better ground.
    fn probe(&mut self, fresh: Candidate, now: Instant) -> Verdict {
        let patience = self.pace.patience(fresh.sign);
        let alive = self
            .candidate()
            .filter(|candidate| !candidate.is_stale(now, patience));
        let candidate = match alive {
            Some(known) if known.at == fresh.at && known.is_continued_by(fresh.sign) => Candidate {
                count: known.count.saturating_add(1),
                ..fresh
            },
            Some(known) if known.at != fresh.at && known.ground <= fresh.ground => {
                return self.refuse("another source is on probation");
            }
            Some(_) | None => fresh,
        };
        if candidate.count >= candidate.needs {
            let peer = Peer::seen(candidate.at, candidate.ground, candidate.sign, now);
            return self.hold(peer, now);
        }
        self.candidate = Some(Box::new(candidate));
        Verdict::Tentative
    }

    fn hold(&mut self, peer: Peer, now: Instant) -> Verdict {
        self.candidate = None;
        self.turn(State::Held { peer }, now);
        Verdict::Held
    }

    fn refuse(&mut self, why: &'static str) -> Verdict {
        self.strangers = self.strangers.saturating_add(1);
        Verdict::Stranger(why)
    }

    fn hear(&mut self, sign: Sign, now: Instant) {
        match &mut self.state {
            State::Waiting { old: None } => {}
            State::Waiting { old: Some(peer) } => peer.hear(sign, now),
            State::Held { peer } => {
                peer.hear(sign, now);
                self.candidate = None;
            }
        }
    }

    /// A search for a new peer that found none ends with the old one, if it is still acceptable.
    fn close_window(&mut self, now: Instant) {
        if let State::Waiting { old: Some(peer) } = self.state
            && now.saturating_duration_since(self.opened) >= WINDOW
        {
            let state = match self.policy {
                Policy::Learn { from, .. }
                    if from.to_canonical() == peer.at.ip() || self.allows(peer) =>
                {
                    State::Held { peer }
                }
                Policy::Learn { .. }
                | Policy::Nobody
                | Policy::Strict { .. }
                | Policy::Believe { .. } => State::Waiting { old: None },
            };
            self.turn(state, now);
        }
    }

    /// Whether a peer that was found on the operator's word still has it.
    fn allows(&self, peer: Peer) -> bool {
        match peer.ground {
            Ground::Declared => self.is_declared(peer.at.ip()),
            Ground::Subnet | Ground::Anywhere => {
                let sign = Sign {
                    ssrc: peer.ssrc,
                    sequence: peer.sequence.map(|(sequence, _)| sequence),
                };
                matches!(self.beyond(peer.at.ip(), sign, ""), Rank::Probation(..))
            }
            Ground::Sdp | Ground::SdpPort | Ground::Signalling => false,
        }
    }

    fn turn(&mut self, state: State, now: Instant) {
        if state.settled().map(|peer| peer.at) != self.settled() {
            self.since = now;
        }
        self.state = state;
    }

    /// The address in SDP, whether it is believed or not.
    fn signalled(&self) -> Option<SocketAddr> {
        match self.policy {
            Policy::Strict { at } | Policy::Believe { at, .. } => Some(at),
            Policy::Learn { signalled, .. } => signalled,
            Policy::Nobody => None,
        }
    }

    fn is_declared(&self, ip: IpAddr) -> bool {
        self.policy != Policy::Nobody && self.reach.declares(ip)
    }

    fn is_quiet(&self, heard: Instant, now: Instant) -> bool {
        now.saturating_duration_since(heard) >= self.pace.silence
    }
}

impl Ground {
    /// No address of the party speaks for it.
    fn is_low(self) -> bool {
        self >= Self::Subnet
    }
}

impl State {
    /// The first state under new terms.
    fn begin(policy: Policy, reach: &Reach, old: Option<Peer>) -> Self {
        let declared = |peer: &Peer| {
            peer.ground == Ground::Declared && reach.declares(peer.at.ip().to_canonical())
        };
        match policy {
            Policy::Nobody => Self::Waiting { old: None },
            Policy::Strict { at } | Policy::Believe { at, .. } => {
                let kept = match old {
                    Some(peer) if peer.at == at => Some(Peer {
                        ground: Ground::Sdp,
                        ..peer
                    }),
                    old => old.filter(declared),
                };
                Self::Held {
                    peer: kept.unwrap_or(Peer::unheard(at, Ground::Sdp)),
                }
            }
            Policy::Learn { .. } => Self::Waiting { old },
        }
    }

    fn peer(&self) -> Option<Peer> {
        match self {
            Self::Waiting { old } => *old,
            Self::Held { peer } => Some(*peer),
        }
    }

    /// The peer, unless a new one is being searched.
    fn settled(&self) -> Option<Peer> {
        match self {
            Self::Waiting { .. } => None,
            Self::Held { peer } => Some(*peer),
        }
    }
}

#[cfg(test)]
mod tests;
