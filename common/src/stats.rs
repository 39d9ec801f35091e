//! What the kernel counts.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::event::EventKind;
use crate::forward::{Action, Reason, Verdict};

/// One CPU's account of one flow; a cache line. The flow's whole account is the sum over the CPUs
/// that have its generation.
///
/// Whoever replaces a flow under another `generation` need not clear anything: each CPU starts anew
/// when it first meets it, so a slot has one writer.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct FlowStats {
    /// Forwarded by the kernel.
    pub packets: u64,
    /// Of those, from the IP header on.
    pub bytes: u64,
    /// When the first was forwarded, monotonic clock, with the resolution of a timer tick.
    pub first_ns: u64,
    /// When the latest was.
    pub last_ns: u64,
    /// From a source that is not the peer: dropped or shown.
    pub strangers: u64,
    /// Left to userspace for any other reason.
    pub punted: u64,
    /// When a stranger was last shown to userspace.
    pub shown_ns: u64,
    pub generation: u32,
    zero: u32,
}

const _: () = assert!(size_of::<FlowStats>() == 64);

impl FlowStats {
    /// Starts anew if the slot was last used for another flow.
    #[inline(always)]
    pub fn turn_to(&mut self, generation: u32) {
        if self.generation != generation {
            self.packets = 0;
            self.bytes = 0;
            self.first_ns = 0;
            self.last_ns = 0;
            self.strangers = 0;
            self.punted = 0;
            self.shown_ns = 0;
            self.generation = generation;
        }
    }

    /// Counts what became of a packet of this flow; says if it is the first one this CPU forwards,
    /// or the first one after `silence_ns`.
    #[inline(always)]
    pub fn count(&mut self, verdict: &Verdict, now_ns: u64, silence_ns: u64) -> EventKind {
        self.turn_to(verdict.generation);
        match verdict.action {
            Action::Transmit | Action::Redirect => {
                let change = if self.packets == 0 {
                    self.first_ns = now_ns;
                    EventKind::FIRST_PACKET
                } else if now_ns.wrapping_sub(self.last_ns) >= silence_ns {
                    EventKind::RESUMED
                } else {
                    EventKind::NONE
                };
                self.packets += 1;
                self.bytes += u64::from(verdict.bytes);
                self.last_ns = now_ns;
                return change;
            }
            Action::Pass | Action::Drop
                if matches!(verdict.reason, Reason::WrongSource | Reason::Banned) =>
            {
                self.strangers += 1;
            }
            Action::Pass | Action::Drop => self.punted += 1,
        }
        EventKind::NONE
    }

    /// Whether a stranger may be shown now, one in `every_ns`; if so, the time starts again.
    #[inline(always)]
    pub fn show(&mut self, now_ns: u64, every_ns: u64) -> bool {
        let may = self.shown_ns == 0 || now_ns.saturating_sub(self.shown_ns) >= every_ns;
        if may {
            self.shown_ns = now_ns;
        }
        may
    }
}
