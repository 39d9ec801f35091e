//! The maps: names, capacities, and the one encoder of their keys.
//!
//! | map | type | key → value | written by |
//! |---|---|---|---|
//! | `SETTINGS` | array of one | → `Settings` | control |
//! | `PORTS` | array | `port_index` → `Port`, all zeros = not ours | control |
//! | `FLOWS` | array | flow slot → `Flow`, complete before `PORTS` names it | control |
//! | `STATS` | per-CPU array | stats slot → `FlowStats` | kernel |
//! | `MEDIA` | array | stats slot → `Media` | kernel |
//! | `REASONS` | per-CPU array | `Reason` → `u64` | kernel |
//! | `EVENTS` | ring buffer | `Event` | kernel |
//! | `EGRESS` | device hash | interface index → itself | control |
//! | `BANS` | longest prefix | prefix → `BANNED` or `HEARD` | control |

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::wire::{Be16, Ip};

/// Grows with every change of a map's name, type, key, value or meaning. Pinned maps live under a
/// path that contains it.
pub const ABI: u32 = 5;

/// The section in which an object says its ABI.
pub const ABI_SECTION: &str = ".rodata.abi";

pub const SETTINGS: &str = "SETTINGS";
pub const PORTS: &str = "PORTS";
pub const FLOWS: &str = "FLOWS";
pub const STATS: &str = "STATS";
pub const MEDIA: &str = "MEDIA";
pub const REASONS: &str = "REASONS";
pub const EVENTS: &str = "EVENTS";
pub const EGRESS: &str = "EGRESS";
pub const BANS: &str = "BANS";
/// Every map the program shares with userspace.
pub const NAMES: [&str; 9] = [
    SETTINGS, PORTS, FLOWS, STATS, MEDIA, REASONS, EVENTS, EGRESS, BANS,
];

/// The program's name in the object.
pub const PROGRAM: &str = "relay";

/// Local addresses the look-up compares with, one after the other.
pub const LOCALS_MAX: u32 = 16;
/// Every port of every local address: 8 MiB, for a look-up without hashing.
pub const PORTS_MAX: u32 = LOCALS_MAX << 16;
/// Slots of FLOWS, STATS and MEDIA as the object has them; the loader sets the configured capacity.
/// A flow slot takes 128 bytes, a stats slot 64 bytes for every CPU and 64 bytes in MEDIA.
pub const FLOWS_DEFAULT: u32 = 16_384;
/// Slot 0 is nobody's: a port that holds it is not ours, and the time stamp of its statistics is
/// the budget of strangers that all flows share.
pub const SLOT_NONE: u32 = 0;
pub const EVENTS_BYTES: u32 = 256 * 1024;
/// Interfaces a flow can leave by.
pub const EGRESS_MAX: u32 = 64;

/// Prefixes the program is told to shut out, or not to. Memory is taken as they come.
pub const BANS_MAX: u32 = 16_384;
/// Ranges of ports a ban covers.
pub const GUARDED_MAX: u32 = 16;
/// A source whose longest prefix in BANS has this is not heard at our ports.
pub const BANNED: u32 = 1;
/// One that is, though a shorter prefix is banned.
pub const HEARD: u32 = 0;

/// One stranger of a flow is shown to userspace in this time, by each CPU.
pub const STRANGER_FLOW_NS: u64 = 100_000_000;
/// One stranger of any flow, by each CPU.
pub const STRANGER_ALL_NS: u64 = 1_000_000;
/// A flow that brings a packet after so long was silent, and is told to have resumed.
pub const SILENCE_NS: u64 = 1_000_000_000;

const TICKS_EARLY_NS: u64 = 300_000_000_000;

/// Entries of FLOWS for so many flows: all may be replaced at once; the old ones rest meanwhile.
#[must_use]
pub const fn flow_entries(flows_max: u32) -> u32 {
    flows_max.saturating_mul(2).saturating_add(1)
}

/// Entries of STATS and MEDIA: a quarter of the flows may end and as many begin while slots rest.
#[must_use]
pub const fn stats_entries(flows_max: u32) -> u32 {
    let quarter = flows_max / 4;
    let spare = if quarter > 64 { quarter } else { 64 };
    flows_max.saturating_add(spare).saturating_add(1)
}

/// Where what belongs to a local endpoint lies. Both numbers are known at once, so that the flow
/// and its statistics are fetched from memory side by side and not one after the other.
#[repr(C, align(8))]
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Port {
    /// Slot of FLOWS; `SLOT_NONE`: not ours.
    pub flow: u32,
    /// Slot of STATS and MEDIA, as the flow has it.
    pub stats: u32,
}

/// What an entry takes anyway: the kernel keeps them at multiples of eight.
const _: () = assert!(size_of::<Port>() == 8);

/// Where a local endpoint lies in PORTS.
#[must_use]
#[inline(always)]
pub const fn port_index(local: u32, port: Be16) -> u32 {
    (local << 16) | port.get() as u32
}

/// Ports a ban covers, in host order, both included.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Guarded {
    pub first: u16,
    pub last: u16,
}

/// The prefix of a key of BANS: an IPv4 prefix is one of mapped addresses.
#[must_use]
pub const fn ban_prefix(v4: bool, bits: u8) -> u32 {
    if v4 { 96 + bits as u32 } else { bits as u32 }
}

/// What the program has to know that is not a flow's.
///
/// All zeros is harmless: no address is ours.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Settings {
    pub abi: u32,
    /// How many of `locals` to compare with.
    pub locals_used: u32,
    /// See `STRANGER_FLOW_NS`.
    pub stranger_flow_ns: u64,
    /// See `STRANGER_ALL_NS`.
    pub stranger_all_ns: u64,
    /// See `SILENCE_NS`.
    pub silence_ns: u64,
    /// How long a timer tick lasts: reading the count of ticks costs next to nothing, reading a
    /// clock a third of what forwarding costs.
    pub tick_ns: u64,
    /// The tick at which the monotonic clock began.
    pub tick_first: u64,
    /// Entries of BANS; without any nobody is looked up.
    pub bans: u32,
    /// How many of `guarded` there are.
    pub guarded_used: u32,
    /// SIP's ports and those of media.
    pub guarded: [Guarded; GUARDED_MAX as usize],
    /// Our media addresses. The position of an address is its slot in PORTS and does not change
    /// while the address is ours; a hole is all zeros and its ports are not ours.
    pub locals: [Ip; LOCALS_MAX as usize],
}

const _: () = assert!(size_of::<Settings>() == 376);

impl Settings {
    #[must_use]
    pub fn new(locals: &[Ip]) -> Self {
        let mut settings = Self {
            abi: ABI,
            stranger_flow_ns: STRANGER_FLOW_NS,
            stranger_all_ns: STRANGER_ALL_NS,
            silence_ns: SILENCE_NS,
            ..Self::default()
        };
        for (slot, (mine, ip)) in (1..).zip(settings.locals.iter_mut().zip(locals)) {
            *mine = *ip;
            settings.locals_used = slot;
        }
        settings
    }

    /// With the timer of this machine: `tick_ns` is the resolution of `CLOCK_MONOTONIC_COARSE`.
    #[must_use]
    pub fn with_tick(mut self, tick_ns: u64) -> Self {
        self.tick_ns = tick_ns.max(1);
        // As the kernel has it (INITIAL_JIFFIES): 32 bits overflow five minutes after the start.
        let early = u32::try_from(TICKS_EARLY_NS / self.tick_ns).unwrap_or(u32::MAX);
        self.tick_first = early.wrapping_neg().into();
        self
    }

    /// The monotonic clock at a tick.
    #[must_use]
    #[inline(always)]
    pub const fn at_ns(&self, ticks: u64) -> u64 {
        ticks
            .wrapping_sub(self.tick_first)
            .wrapping_mul(self.tick_ns)
    }

    /// Whether a ban covers this port.
    #[must_use]
    #[inline(always)]
    pub fn guards(&self, port: Be16) -> bool {
        let port = port.get();
        for (slot, guarded) in (0..GUARDED_MAX).zip(&self.guarded) {
            if slot >= self.guarded_used {
                break;
            }
            if guarded.first <= port && port <= guarded.last {
                return true;
            }
        }
        false
    }

    /// The slot of one of our addresses; `LOCALS_MAX` if it is not ours.
    #[must_use]
    #[inline(always)]
    pub fn slot(&self, ip: Ip) -> u32 {
        for (slot, local) in (0..LOCALS_MAX).zip(&self.locals) {
            if slot >= self.locals_used {
                break;
            }
            if *local == ip {
                return slot;
            }
        }
        LOCALS_MAX
    }
}
