//! What a latch remembers of a source.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::nat::packet::Packet;

/// On what ground an address is taken for the party's, the best first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Ground {
    /// SDP names it.
    Sdp,
    /// SDP names the IP; the port was learnt.
    SdpPort,
    /// The operator declared it.
    Declared,
    /// Signalling comes from the IP.
    Signalling,
    /// Signalling comes from its neighbourhood.
    Subnet,
    /// It passed the long probation.
    Anywhere,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Peer {
    pub(super) at: SocketAddr,
    pub(super) ground: Ground,
    pub(super) ssrc: Option<u32>,
    /// Last sequence number seen, and when: packets the kernel forwards are not seen here.
    pub(super) sequence: Option<(u16, Instant)>,
    pub(super) heard: Option<Instant>,
}

/// A source on probation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Candidate {
    pub at: SocketAddr,
    pub ground: Ground,
    /// Packets it has shown in a row.
    pub count: u8,
    /// Packets it must show.
    pub needs: u8,
    pub(super) sign: Sign,
    pub(super) last: Instant,
}

/// What a packet says about its sender.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sign {
    pub(super) ssrc: Option<u32>,
    pub(super) sequence: Option<u16>,
}

impl Peer {
    pub(super) fn unheard(at: SocketAddr, ground: Ground) -> Self {
        Self {
            at,
            ground,
            ssrc: None,
            sequence: None,
            heard: None,
        }
    }

    pub(super) fn seen(at: SocketAddr, ground: Ground, sign: Sign, now: Instant) -> Self {
        let mut peer = Self::unheard(at, ground);
        peer.hear(sign, now);
        peer
    }

    /// Flows carried its packets, the latest at `at`; a change of its source passed by unseen.
    pub(super) fn carried(&mut self, ssrc: Option<u32>, at: Instant) {
        self.heard = self.heard.max(Some(at));
        if ssrc.is_some() && ssrc != self.ssrc {
            self.ssrc = ssrc;
            self.sequence = None;
        }
    }

    pub(super) fn hear(&mut self, sign: Sign, now: Instant) {
        self.heard = self.heard.max(Some(now));
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
    pub(super) fn is_stale(&self, now: Instant, patience: Duration) -> bool {
        now.saturating_duration_since(self.last) > patience
    }

    pub(super) fn is_continued_by(&self, sign: Sign) -> bool {
        self.sign.ssrc == sign.ssrc
            && match (self.sign.sequence, sign.sequence) {
                (Some(last), Some(next)) => follows(last, next),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            }
    }
}

impl Sign {
    pub(super) fn of(packet: Packet) -> Self {
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
pub(super) fn follows(last: u16, next: u16) -> bool {
    (1..0x8000).contains(&next.wrapping_sub(last))
}
