//! What the kernel tells userspace: changes of state, never packets.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute};

use crate::flow::{Endpoint, Flow};
use crate::rtp::Rtp;
use crate::wire::{Be16, Ip};

/// What happened. A number rather than an enum: the other side may be newer.
#[repr(transparent)]
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct EventKind(pub u16);

impl EventKind {
    /// Nothing to tell.
    pub const NONE: Self = Self(0);
    /// A CPU forwarded its first packet of a flow. Packets of a flow may arrive on several CPUs, so
    /// this may come more than once.
    pub const FIRST_PACKET: Self = Self(1);
    /// A packet from somebody who is not the flow's peer was let through to the flow's socket,
    /// and is shown here too.
    pub const STRANGER: Self = Self(2);
    /// A CPU forwarded a packet of a flow again, after `Settings::silence_ns` without one.
    pub const RESUMED: Self = Self(3);
    /// The RTP source of a flow is another one than before.
    pub const SSRC_CHANGED: Self = Self(4);
}

/// One change of state of a flow.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Event {
    /// Monotonic clock, with the resolution of a timer tick.
    pub at_ns: u64,
    /// The flow's index in STATS, and which use of it.
    pub stats: u32,
    pub generation: u32,
    pub kind: EventKind,
    /// How much of `head` there is.
    pub head_bytes: u16,
    /// Who sent it, and how it begins: of a stranger only.
    pub from: Endpoint,
    pub head: [u8; HEAD_BYTES],
    zero: [u8; 4],
}

/// An RTP header.
pub const HEAD_BYTES: usize = 12;

const _: () = assert!(size_of::<Event>() == 56);

impl Event {
    #[must_use]
    #[inline(always)]
    pub const fn new(at_ns: u64, stats: u32, generation: u32, kind: EventKind) -> Self {
        let nobody = Endpoint::new(Ip([0; 4]), Be16(0));
        Self {
            at_ns,
            stats,
            generation,
            kind,
            head_bytes: 0,
            from: nobody,
            head: [0; HEAD_BYTES],
            zero: [0; 4],
        }
    }

    /// A stranger's packet. It is shown here as well as to the flow's socket, which a firewall may
    /// keep it from.
    #[must_use]
    #[inline(always)]
    pub fn stranger(at_ns: u64, flow: &Flow, from: Endpoint, head: Option<&Rtp>) -> Self {
        let mut event = Self::new(at_ns, flow.stats, flow.generation, EventKind::STRANGER);
        event.from = from;
        if let Some(head) = head {
            event.head_bytes = 12;
            event.head = transmute!(*head);
        }
        event
    }
}
