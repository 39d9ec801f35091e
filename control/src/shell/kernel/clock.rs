//! The rate of a stream's RTP clock, by how far it went in how much time: no need to know what the
//! parties have agreed on, and true even when they do not keep to it.

use common::media::Media;

/// Where a stream was: its source, its timestamp, and when that packet came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Position {
    pub ssrc: u32,
    pub timestamp: u32,
    pub at_ns: u64,
}

impl Position {
    #[must_use]
    pub fn of(media: &Media) -> Self {
        Self {
            ssrc: media.ssrc,
            timestamp: media.timestamp,
            at_ns: media.arrival_ns,
        }
    }
}

/// Clocks in use (RFC 3551 §6, RFC 7587 §4.1).
const RATES: [u32; 8] = [
    8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 90_000,
];
/// A shorter look says too little, a longer one has missed a turn of the timestamp.
const LOOK_NS: std::ops::Range<u64> = 500_000_000..60_000_000_000;
/// How far a look may be off, in hundredths: packets arrive with jitter.
const OFF_PERCENT: u64 = 8;

/// The rate between two looks at a stream; none while it cannot be told.
#[must_use]
pub fn rate(before: Position, after: Position) -> Option<u32> {
    let passed_ns = after.at_ns.checked_sub(before.at_ns)?;
    if before.ssrc != after.ssrc || !LOOK_NS.contains(&passed_ns) {
        return None;
    }
    let ticks = u64::from(after.timestamp.wrapping_sub(before.timestamp));
    let found = ticks.checked_mul(1_000_000_000)? / passed_ns;
    RATES.into_iter().find(|rate| {
        let rate = u64::from(*rate);
        found.abs_diff(rate) * 100 <= rate * OFF_PERCENT
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let look = |ssrc, timestamp, ms: u64| Position {
            ssrc,
            timestamp,
            at_ns: 7_000_000_000 + ms * 1_000_000,
        };
        let check = |after, expected| {
            assert_eq!(
                rate(look(1, 4_294_967_000, 0), after),
                expected,
                "{after:?}"
            );
        };
        let turned = |ticks: u32| 4_294_967_000u32.wrapping_add(ticks);
        check(look(1, turned(8_000), 1000), Some(8_000));
        check(look(1, turned(8_160), 1000), Some(8_000)); // one packet more
        check(look(1, turned(7_840), 1010), Some(8_000));
        check(look(1, turned(90_000), 1000), Some(90_000));
        check(look(1, turned(96_000), 2000), Some(48_000));
        check(look(1, turned(16_000), 1000), Some(16_000));
        check(look(1, turned(13_500), 1000), None); // of nobody
        check(look(1, turned(4_000), 499), None);
        check(look(1, turned(480_000), 60_000), None);
        check(look(2, turned(8_000), 1000), None); // another source
    }
}
