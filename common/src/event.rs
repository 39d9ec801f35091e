//! What the kernel tells userspace: changes of state, never packets.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What happened. A number rather than an enum: the other side may be newer.
#[repr(transparent)]
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct EventKind(pub u16);

impl EventKind {
    /// A CPU forwarded its first packet of a flow. Packets of a flow may arrive on several CPUs, so
    /// this may come more than once.
    pub const FIRST_PACKET: Self = Self(1);
    /// A packet from somebody who is not the flow's peer was let through to the flow's socket,
    /// which is where its source is to be read.
    pub const STRANGER: Self = Self(2);
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
    zero: [u8; 6],
}

const _: () = assert!(size_of::<Event>() == 24);

impl Event {
    #[must_use]
    #[inline(always)]
    pub const fn new(at_ns: u64, stats: u32, generation: u32, kind: EventKind) -> Self {
        Self {
            at_ns,
            stats,
            generation,
            kind,
            zero: [0; 6],
        }
    }
}
