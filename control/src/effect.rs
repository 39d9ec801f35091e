//! Everything the core may ask of the world. Performed by the shell, in order.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::IpNet;

use crate::id::{Aor, Listener, NetworkId};

/// What the core wants done. Pushed into a list the caller owns, in the order it must happen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Send a SIP message from a listener; over TCP and TLS on the connection there is. Without one
    /// it comes back as `Input::Unsent`.
    Send {
        on: Listener,
        to: SocketAddr,
        bytes: Bytes,
    },
    /// Connect to a peer, from the listener's address; what is sent meanwhile waits. If it fails
    /// `Input::Closed` says so.
    Dial {
        on: Listener,
        to: SocketAddr,
        /// What a TLS certificate must say; none: the address.
        name: Option<String>,
    },
    /// Open the UDP media socket at a local address.
    Open { at: SocketAddr, network: NetworkId },
    /// Close it.
    Close { at: SocketAddr },
    /// Forward what arrives at `at` by this rule, in the kernel if it can, else in userspace.
    /// Replaces the rule that was there.
    Install { at: SocketAddr, rule: Rule },
    /// Stop forwarding what arrives at `at`.
    Remove { at: SocketAddr },
    /// Send an empty datagram from a media socket: it keeps a pinhole open, or opens one (RFC 6263
    /// §4.1).
    KeepAlive { at: SocketAddr, to: SocketAddr },
    /// Send one datagram from a media socket: it is the party's, but no flow carries it yet.
    Forward {
        at: SocketAddr,
        to: SocketAddr,
        bytes: Bytes,
    },
    /// Listen for TCP at a local address and join what comes by this rule. Replaces the rule that
    /// was there; connections stay.
    Listen { at: SocketAddr, rule: JoinRule },
    /// Stop listening there, and end its connections.
    Unlisten { at: SocketAddr },
    /// An address-of-record has other bindings: the other shards are to know before anything that
    /// follows is done.
    Publish { aor: Aor },
    /// Somebody is not heard any more; the other shards are not to hear them either.
    Ban {
        net: IpNet,
        account: Option<String>,
        why: &'static str,
    },
    /// What an address of a peer was found to be: the other shards count it too.
    Peer { address: SocketAddr, sign: PeerSign },
    /// Credentials were taken: the other shards are not to take them again.
    Spent(Spent),
    /// A call ended: its last line in the books.
    Record(CallRecord),
    /// Keep this under a key beyond the end of the process, in place of what was there; none
    /// forgets it. Messages that follow in the same list wait until it is kept.
    Store {
        table: Table,
        key: Bytes,
        record: Option<Record>,
    },
}

/// What kind of thing is kept.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Table {
    /// By address-of-record: its bindings.
    Registrations,
    /// By number and part: calls that are up.
    Calls,
    /// By conference and part of it: its state.
    Conferences,
    /// By link and number: a message that has yet to reach a broker.
    Outbox,
    /// By prefix, account and who made it: bans.
    Bans,
}

impl Table {
    pub const ALL: [Self; 5] = [
        Self::Registrations,
        Self::Calls,
        Self::Conferences,
        Self::Outbox,
        Self::Bans,
    ];
}

/// What was kept, and under which key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    pub table: Table,
    pub key: Bytes,
    pub record: Record,
}

/// What is kept. Times in it count from `at`, which is put down as a time of day.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    pub at: Instant,
    pub bytes: Bytes,
}

/// One use of a nonce (RFC 7616 §3.4: `nc`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Spent {
    /// When the nonce was made, since the start.
    pub issued: Duration,
    /// Tells those apart who share it.
    pub by: [u8; 32],
    pub count: u32,
}

/// What an address of a peer was found to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerSign {
    /// It answered; a probe says how fast.
    Answered { rtt: Option<Duration> },
    /// It did not, or said that it cannot serve, and for how long.
    Failed {
        why: &'static str,
        wait: Option<Duration>,
    },
}

/// The list effects are pushed into.
pub type Effects = Vec<Effect>;

/// What to do with media that arrives at a local address: a flow before routes and neighbours
/// have made it concrete.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Rule {
    /// The only source allowed in (the latched one).
    pub peer: SocketAddr,
    /// Rewritten source: our other leg. Also the local socket the packet leaves from.
    pub source: SocketAddr,
    /// Rewritten destination: the other party.
    pub target: SocketAddr,
    /// Differentiated services field to write, if the network asks for one (RFC 2474).
    pub tos: Option<u8>,
    /// Hop limit to write, if the network asks for one; else one is taken off.
    pub hops: Option<u8>,
    pub kind: MediaKind,
    /// Another way for RTCP: the peer multiplexes it, the other party does not (RFC 5761).
    pub rtcp: Option<RtcpWay>,
}

/// What a flow carries, for the books.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum MediaKind {
    Audio,
    Video,
    /// Neither, or of an earlier run.
    Data,
    Rtcp,
}

impl MediaKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Data => "data",
            Self::Rtcp => "rtcp",
        }
    }
}

/// Where the RTCP of a multiplexed stream goes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RtcpWay {
    pub source: SocketAddr,
    pub target: SocketAddr,
}

/// What becomes of a TCP connection that arrives at a local address (RFC 4145): it is joined to
/// one that we make to the other party.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JoinRule {
    /// Who may connect.
    pub accept: Vec<IpNet>,
    /// Our address on the other side.
    pub from: IpAddr,
    /// Where the other party listens.
    pub to: SocketAddr,
}

/// One ended call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CallRecord {
    pub call_id: String,
    pub from: String,
    pub to: String,
    /// Final status of the INVITE: 200 for an answered call.
    pub status: u16,
    /// From INVITE to the final answer.
    pub setup: Duration,
    /// From answer to BYE; zero if never answered.
    pub length: Duration,
    /// Who or what ended it.
    pub ended_by: &'static str,
}
