//! A phone's end of one stream, RTP with its RTCP or floor control: numbered packets out,
//! everything that comes in judged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Packet;
use super::sdp::Kind;

/// How often packets are sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    pub rtp: Duration,
    pub rtcp: Duration,
}

impl Pace {
    /// As G.711 is; RTCP more often than real phones, so that short calls have some.
    pub const G711: Self = Self {
        rtp: Duration::from_millis(20),
        rtcp: Duration::from_millis(500),
    };
}

#[derive(Clone, Debug)]
pub struct Rtp {
    pub kind: Kind,
    /// Offered or accepted; otherwise its `m=` line has port 0.
    pub on: bool,
    pub pace: Pace,
    /// The even port; RTCP is on the next.
    pub local: SocketAddr,
    /// Every even port it ever had.
    pub ports: Vec<u16>,
    /// Where to, as the other side's SDP says.
    pub remote: Option<SocketAddr>,
    pub ssrc: u32,
    pub sending: bool,
    next_rtp: Option<Instant>,
    next_rtcp: Option<Instant>,
    /// Packets sent so far: the number of the next.
    pub sent: u32,
    pub received: Received,
}

/// What came in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Received {
    /// Numbers by synchronisation source.
    pub rtp: BTreeMap<u32, BTreeSet<u32>>,
    pub rtcp: BTreeMap<u32, u32>,
    pub duplicates: u32,
    /// From an address other than the one the last SDP named, once there was one.
    pub misplaced: u32,
    /// Neither RTP nor RTCP as a phone sends it.
    pub garbage: u32,
}

impl Rtp {
    #[must_use]
    pub fn new(kind: Kind, local: SocketAddr, ssrc: u32, pace: Pace) -> Self {
        Self {
            kind,
            on: true,
            pace,
            local,
            ports: vec![local.port()],
            remote: None,
            ssrc,
            sending: false,
            next_rtp: None,
            next_rtcp: None,
            sent: 0,
            received: Received::default(),
        }
    }

    /// Goes on from another address.
    pub fn move_to(&mut self, local: SocketAddr) {
        self.local = local;
        if !self.ports.contains(&local.port()) {
            self.ports.push(local.port());
        }
    }

    /// Goes on, or stops, as the state of the call says.
    pub fn set(&mut self, sending: bool, now: Instant) {
        if sending && !self.sending {
            self.next_rtp = Some(now);
            self.next_rtcp = self.kind.is_rtp().then_some(now + self.pace.rtcp);
        }
        self.sending = sending;
    }

    #[must_use]
    pub fn rtcp(&self) -> SocketAddr {
        SocketAddr::new(self.local.ip(), self.local.port() + 1)
    }

    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let due = [self.next_rtp, self.next_rtcp].into_iter().flatten().min();
        due.filter(|_| self.sending && self.remote.is_some())
    }

    pub fn expire(&mut self, now: Instant, out: &mut Vec<Packet>) {
        let Some(remote) = self.remote.filter(|_| self.sending) else {
            return;
        };
        if self.next_rtp.is_some_and(|at| at <= now) {
            self.next_rtp = Some(now + self.pace.rtp);
            let bytes = match self.kind {
                Kind::Audio => packet(self.ssrc, self.sent),
                Kind::Video => video(self.ssrc, self.sent),
                Kind::Floor => floor(self.ssrc, self.sent),
            };
            let bytes = bytes.into();
            self.sent += 1;
            let (from, to) = (self.local, remote);
            out.push(Packet { from, to, bytes });
        }
        if self.next_rtcp.is_some_and(|at| at <= now) {
            self.next_rtcp = Some(now + self.pace.rtcp);
            let from = self.rtcp();
            let to = SocketAddr::new(remote.ip(), remote.port() + 1);
            let bytes = report(self.ssrc).into();
            out.push(Packet { from, to, bytes });
        }
    }

    pub fn receive(&mut self, packet: &Packet) {
        // It keeps a pinhole open, or pierced one, and is meant for the NAT (RFC 6263 §4.1).
        if packet.bytes.is_empty() {
            return;
        }
        let control = packet.to == self.rtcp();
        let expected = self.remote.map(|at| at.port() + u16::from(control));
        let expected = self.remote.zip(expected);
        if expected.is_some_and(|(at, port)| packet.from != SocketAddr::new(at.ip(), port)) {
            self.received.misplaced += 1;
        }
        match (control, read(&packet.bytes)) {
            (false, Some(Read::Rtp { ssrc, number })) => {
                let new = self.received.rtp.entry(ssrc).or_default().insert(number);
                self.received.duplicates += u32::from(!new);
            }
            (true, Some(Read::Rtcp { ssrc })) => {
                *self.received.rtcp.entry(ssrc).or_default() += 1;
            }
            (false, Some(Read::Rtcp { .. })) | (true, Some(Read::Rtp { .. })) | (_, None) => {
                self.received.garbage += 1;
            }
        }
    }

    /// Of the numbers `from..to` of a source, how many are missing.
    #[must_use]
    pub fn missing(&self, ssrc: u32, from: u32, to: u32) -> usize {
        let seen = self.received.rtp.get(&ssrc);
        let got = seen.map_or(0, |numbers| numbers.range(from..to).count());
        usize::try_from(to.saturating_sub(from)).unwrap_or(0) - got
    }

    /// Sources heard other than `ssrc`.
    #[must_use]
    pub fn foreign(&self, ssrc: u32) -> Vec<u32> {
        let all = self.received.rtp.keys().chain(self.received.rtcp.keys());
        all.copied().filter(|other| *other != ssrc).collect()
    }
}

/// The last byte of what phones send.
const OURS: u8 = 0x55;
/// And of what strangers send, whatever source they copy.
const THEIRS: u8 = 0x66;

/// RFC 3550 §5.1, G.711; the payload is the whole number, the header its low half.
#[must_use]
pub fn packet(ssrc: u32, number: u32) -> Vec<u8> {
    stream(0, ssrc, number, OURS)
}

/// The same with a dynamic payload type.
#[must_use]
pub fn video(ssrc: u32, number: u32) -> Vec<u8> {
    stream(96, ssrc, number, OURS)
}

/// As a stranger sends it.
#[must_use]
pub fn forged(ssrc: u32, number: u32) -> Vec<u8> {
    stream(0, ssrc, number, THEIRS)
}

fn stream(payload_type: u8, ssrc: u32, number: u32, end: u8) -> Vec<u8> {
    let [_, _, high, low] = number.wrapping_add(65_500).to_be_bytes();
    let mut out = vec![0x80, payload_type, high, low];
    out.extend(number.wrapping_mul(160).to_be_bytes());
    out.extend(ssrc.to_be_bytes());
    out.extend(number.to_be_bytes());
    out.extend([end; 28]);
    out
}

/// An RTCP receiver report without blocks (RFC 3550 §6.4.2).
#[must_use]
pub fn report(ssrc: u32) -> Vec<u8> {
    [&[0x80, 201, 0, 1][..], &ssrc.to_be_bytes()].concat()
}

/// As a stranger sends it: with an extension nobody else has.
#[must_use]
pub fn forged_report(ssrc: u32) -> Vec<u8> {
    let extension = [THEIRS; 4];
    [&[0x80, 201, 0, 2][..], &ssrc.to_be_bytes(), &extension].concat()
}

/// A BFCP Hello (RFC 8855 §5.1) whose conference is our source.
#[must_use]
pub fn floor(ssrc: u32, number: u32) -> Vec<u8> {
    let [_, _, high, low] = number.to_be_bytes();
    let conference = ssrc.to_be_bytes();
    let tail = [&[high, low, 0, 1][..], &number.to_be_bytes()].concat();
    [&[0x40, 11, 0, 1][..], &conference, &tail].concat()
}

/// Whose packet it is, if it is one of a phone; a stranger's has no source of ours.
#[must_use]
pub fn source(bytes: &[u8]) -> Option<u32> {
    match read(bytes)? {
        // Behind the number; floor control ends with it.
        Read::Rtp { .. } if bytes.get(16) == Some(&THEIRS) => None,
        Read::Rtp { ssrc, .. } | Read::Rtcp { ssrc } => Some(ssrc),
    }
}

enum Read {
    Rtp { ssrc: u32, number: u32 },
    Rtcp { ssrc: u32 },
}

fn read(bytes: &[u8]) -> Option<Read> {
    let word = |at: usize| {
        let word = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(word))
    };
    match bytes {
        [0x80, 201, 0, 1, ..] if bytes.len() == 8 => Some(Read::Rtcp { ssrc: word(4)? }),
        [0x80, 0 | 96, ..] if bytes.len() == 44 => Some(Read::Rtp {
            ssrc: word(8)?,
            number: word(12)?,
        }),
        [0x40, 11, ..] if bytes.len() == 16 => Some(Read::Rtp {
            ssrc: word(4)?,
            number: word(12)?,
        }),
        _ => None,
    }
}
