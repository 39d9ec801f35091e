//! What the kernel knows about a stream: RFC 3550's account of loss, order and jitter.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::event::EventKind;
use crate::rtp::Rtp;

/// The account of one flow's RTP; a cache line. All CPUs share it: a network card keeps a stream on
/// one queue, and when it moves, a packet may be miscounted, not more.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout,
)]
pub struct Media {
    /// When the latest packet came that was the first of its tick, monotonic clock.
    pub arrival_ns: u64,
    /// Which use of the slot this is; see `FlowStats`.
    pub generation: u32,
    pub ssrc: u32,
    /// Packets of this source, duplicates too.
    pub received: u32,
    /// Extended sequence numbers: the first, and the highest (RFC 3550 §A.1).
    pub first: u32,
    pub highest: u32,
    /// Came after one that follows it, or twice; of all sources.
    pub reordered: u32,
    /// In units of the RTP clock, times 16 (RFC 3550 §A.8).
    pub jitter: u32,
    /// RTP timestamp of that packet.
    pub timestamp: u32,
    /// Other sources than the first that this flow has had.
    pub changes: u32,
    /// Lost and received of the sources before this one.
    pub lost_before: u32,
    pub received_before: u32,
    /// A number far off; the next one begins a new count (RFC 3550 §A.1).
    pub far: u32,
    /// The timer tick of the latest packet.
    pub tick_ns: u64,
}

const _: () = assert!(size_of::<Media>() == 64);

/// Ahead by less, a number is one that follows (RFC 3550 §A.1).
pub const DROPOUT_MAX: u16 = 3000;
/// Behind by less, it is late.
pub const MISORDER_MAX: u16 = 100;
/// A pause that is no jitter.
const PAUSE_NS: u64 = 1 << 32;
/// No number lies so far off.
const NONE_FAR: u32 = 1 << 16;

impl Media {
    /// A packet of a flow of this generation, that came in the timer tick `tick_ns`; says if its
    /// source is another one than before.
    ///
    /// Jitter is taken from the first packet of each tick. Reading the clock costs more than all
    /// the rest; voice comes once in many ticks, and what follows in the same tick is a burst, most
    /// often one picture with one timestamp, whose spacing is the sender's.
    #[inline(always)]
    pub fn receive(
        &mut self,
        generation: u32,
        clock_hz: u32,
        rtp: &Rtp,
        tick_ns: u64,
        clock: impl Fn() -> u64,
    ) -> EventKind {
        let (sequence, timestamp, ssrc) = (rtp.sequence(), rtp.timestamp(), rtp.ssrc());
        if self.generation != generation {
            self.changes = 0;
            self.reordered = 0;
            self.lost_before = 0;
            self.received_before = 0;
            self.generation = generation;
            self.tick_ns = tick_ns;
            self.start(sequence, timestamp, ssrc, clock());
            return EventKind::NONE;
        }
        if self.ssrc != ssrc {
            self.lost_before = self.lost();
            self.received_before = self.received_before.wrapping_add(self.received);
            self.changes = self.changes.wrapping_add(1);
            self.tick_ns = tick_ns;
            self.start(sequence, timestamp, ssrc, clock());
            return EventKind::SSRC_CHANGED;
        }
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the number without its cycles"
        )]
        let ahead = sequence.wrapping_sub(self.highest as u16);
        if ahead.wrapping_sub(1) < DROPOUT_MAX - 1 {
            self.highest = self.highest.wrapping_add(ahead.into());
        } else if ahead == 0 || ahead.wrapping_neg() < MISORDER_MAX {
            self.reordered = self.reordered.wrapping_add(1);
        } else if self.far == u32::from(sequence) {
            // Two in a row: the sender began anew without saying so.
            self.lost_before = self.lost();
            self.received_before = self.received_before.wrapping_add(self.received);
            self.tick_ns = tick_ns;
            self.start(sequence, timestamp, ssrc, clock());
            return EventKind::NONE;
        } else {
            self.far = u32::from(sequence.wrapping_add(1));
            return EventKind::NONE;
        }
        self.received = self.received.wrapping_add(1);
        self.far = NONE_FAR;
        if self.tick_ns != tick_ns {
            self.tick_ns = tick_ns;
            self.vary(clock_hz, timestamp, clock());
        }
        EventKind::NONE
    }

    /// Packets that were sent and did not come, of all sources; late ones and duplicates make up
    /// for some (RFC 3550 §A.3).
    #[must_use]
    #[inline(always)]
    pub const fn lost(&self) -> u32 {
        let expected = self.highest.wrapping_sub(self.first).wrapping_add(1);
        let lost = expected.saturating_sub(self.received);
        self.lost_before.saturating_add(lost)
    }

    /// Packets of all sources.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received_before as u64 + self.received as u64
    }

    #[inline(always)]
    fn start(&mut self, sequence: u16, timestamp: u32, ssrc: u32, now_ns: u64) {
        self.ssrc = ssrc;
        // One cycle up, so that what is late at the beginning is not below zero.
        self.first = u32::from(sequence) | 1 << 16;
        self.highest = self.first;
        self.received = 1;
        self.jitter = 0;
        self.timestamp = timestamp;
        self.arrival_ns = now_ns;
        self.far = NONE_FAR;
    }

    /// `J += |D| - J/16` in sixteenths, `D` being by how much more time passed here than there.
    #[inline(always)]
    fn vary(&mut self, clock_hz: u32, timestamp: u32, now_ns: u64) {
        let passed_ns = now_ns.wrapping_sub(self.arrival_ns);
        let there = timestamp.wrapping_sub(self.timestamp);
        self.arrival_ns = now_ns;
        self.timestamp = timestamp;
        if clock_hz == 0 || passed_ns >= PAUSE_NS {
            return;
        }
        // Divided by 10^9 = 2^9 · 1953125: BPF divides slowly. 2^32 ns of a megahertz fit.
        let ticks_e9 = passed_ns.wrapping_mul(clock_hz.into());
        #[allow(
            clippy::cast_possible_truncation,
            reason = "less than 2^32 ns of a megahertz"
        )]
        let here = ((ticks_e9 >> 9).wrapping_mul(OF_1953125) >> 41) as u32;
        let apart = here.wrapping_sub(there);
        let apart = if apart >> 31 == 1 {
            apart.wrapping_neg()
        } else {
            apart
        };
        self.jitter = self
            .jitter
            .wrapping_add(apart)
            .wrapping_sub((self.jitter + 8) >> 4);
    }
}

/// 2^41 / 1953125, rounded.
const OF_1953125: u64 = 1_125_900;

#[cfg(test)]
mod tests;
