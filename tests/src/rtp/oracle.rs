//! Judges one RTP stream by its sequence numbers, timestamps and arrival times.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Header;

/// Sequence numbers one oracle remembers: an hour of 250 packets a second.
pub const SEQUENCE_NUMBERS_MAX: usize = 1 << 20;

/// What is known about a stream so far.
#[derive(Clone, Debug)]
pub struct Oracle {
    clock_rate: u32,
    payload_type: u8,
    packets: u64,
    reordered: u64,
    duplicates: u64,
    highest: Option<i64>,
    /// Extended sequence numbers; the first packet's lies in 0..65536.
    seen: BTreeSet<i64>,
    /// Arrival and timestamp of the packet before.
    last: Option<(Instant, u32)>,
    /// In timestamp units (RFC 3550 §6.4.1).
    jitter: f64,
}

/// The verdict on a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Judgement {
    pub payload_type: u8,
    /// Everything that arrived, duplicates too.
    pub packets: u64,
    /// Sequence numbers between the lowest and the highest that never came.
    pub lost: u64,
    pub duplicates: u64,
    /// Packets that came after one with a higher number.
    pub reordered: u64,
    /// Numbers that are missing in a row, at most.
    pub longest_gap: u64,
    /// Interarrival jitter (RFC 3550 §6.4.1), in microseconds.
    pub jitter_us: u64,
}

impl Oracle {
    /// `clock_rate` in timestamp units a second.
    #[must_use]
    pub fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate,
            payload_type: 0,
            packets: 0,
            reordered: 0,
            duplicates: 0,
            highest: None,
            seen: BTreeSet::new(),
            last: None,
            jitter: 0.0,
        }
    }

    /// A packet arrived.
    pub fn packet(&mut self, header: &Header, at: Instant) {
        self.packets += 1;
        self.payload_type = header.payload_type;
        let number = match self.highest {
            None => i64::from(header.sequence),
            Some(highest) => extend(highest, header.sequence),
        };
        if self.highest.is_some_and(|highest| number < highest) {
            self.reordered += 1;
        }
        self.highest = self.highest.max(Some(number));
        if !self.seen.insert(number) {
            self.duplicates += 1;
            self.reordered = self
                .reordered
                .saturating_sub(u64::from(Some(number) < self.highest));
        }
        if self.seen.len() > SEQUENCE_NUMBERS_MAX {
            self.seen.pop_first();
        }
        self.jitter(header.timestamp, at);
    }

    // RFC 3550 §6.4.1, A.8.
    fn jitter(&mut self, timestamp: u32, at: Instant) {
        if let Some((last_at, last_timestamp)) = self.last {
            let arrival = at.saturating_duration_since(last_at).as_secs_f64();
            let sent = f64::from(timestamp.wrapping_sub(last_timestamp).cast_signed());
            let difference = (arrival * f64::from(self.clock_rate) - sent).abs();
            self.jitter += (difference - self.jitter) / 16.0;
        }
        self.last = Some((at, timestamp));
    }

    /// The verdict so far.
    #[must_use]
    pub fn judge(&self) -> Judgement {
        let gaps = || std::iter::zip(&self.seen, self.seen.iter().skip(1)).map(|(a, b)| b - a - 1);
        let jitter = Duration::from_secs_f64(self.jitter / f64::from(self.clock_rate));
        Judgement {
            payload_type: self.payload_type,
            packets: self.packets,
            lost: gaps().sum::<i64>().cast_unsigned(),
            duplicates: self.duplicates,
            reordered: self.reordered,
            longest_gap: gaps().max().unwrap_or(0).cast_unsigned(),
            jitter_us: u64::try_from(jitter.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

/// The extended number nearest to the highest so far.
fn extend(highest: i64, sequence: u16) -> i64 {
    let [.., low, lower] = highest.to_be_bytes();
    let difference = sequence
        .wrapping_sub(u16::from_be_bytes([low, lower]))
        .cast_signed();
    highest + i64::from(difference)
}

/// Timestamp units a second: 8000 for the static audio types, 90000 for the dynamic ones, which
/// are video in the lab.
#[must_use]
pub fn clock_rate(payload_type: u8) -> u32 {
    if is_audio(payload_type) { 8000 } else { 90_000 }
}

/// Whether a payload type is one of the static audio ones (RFC 3551 §6).
#[must_use]
pub fn is_audio(payload_type: u8) -> bool {
    payload_type < 24
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn judge(sequences: &[u16], late_ms: &[u64]) -> Judgement {
        let (start, mut oracle) = (clock::now(), Oracle::new(8000));
        for (i, sequence) in (0u32..).zip(sequences) {
            let header = Header {
                payload_type: 0,
                marker: false,
                sequence: *sequence,
                timestamp: i * 160,
                ssrc: 1,
            };
            let late = late_ms.get(i as usize).copied().unwrap_or(0);
            let at = start + Duration::from_millis(u64::from(i) * 20 + late);
            oracle.packet(&header, at);
        }
        oracle.judge()
    }

    /// Expected: lost, duplicates, reordered, longest gap.
    fn check(sequences: &[u16], expected: (u64, u64, u64, u64)) {
        let j = judge(sequences, &[]);
        assert_eq!(j.packets, sequences.len() as u64);
        assert_eq!(
            (j.lost, j.duplicates, j.reordered, j.longest_gap),
            expected,
            "{sequences:?}"
        );
    }

    #[test]
    fn sequences_are_judged() {
        check(&[], (0, 0, 0, 0));
        check(&[7], (0, 0, 0, 0));
        check(&[1, 2, 3], (0, 0, 0, 0));
        check(&[1, 3, 2, 4], (0, 0, 1, 0));
        check(&[1, 2, 2, 3], (0, 1, 0, 0));
        check(&[1, 2, 3, 2, 4], (0, 1, 0, 0));
        check(&[1, 5, 6, 8], (4, 0, 0, 3));
        check(&[65_534, 65_535, 0, 1], (0, 0, 0, 0));
        check(&[65_535, 1], (1, 0, 0, 1));
        check(&[0, 65_535, 1], (0, 0, 1, 0));
    }

    #[test]
    fn jitter_is_that_of_the_rfc() {
        assert_eq!(judge(&[1, 2, 3, 4], &[]).jitter_us, 0);
        // One packet 16 ms late: 16/16 = 1 ms, then the next is 16 ms early: 1 + 15/16.
        assert_eq!(judge(&[1, 2], &[0, 16]).jitter_us, 1000);
        assert_eq!(judge(&[1, 2, 3], &[0, 16, 0]).jitter_us, 1937);
    }
}
