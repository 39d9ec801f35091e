#![allow(
    clippy::cast_possible_truncation,
    reason = "numbers of a test are small"
)]

use proptest::prelude::*;
use zerocopy::FromBytes as _;

use super::*;

const GENERATION: u32 = 3;
const MS: u64 = 1_000_000;

fn packet(sequence: u16, timestamp: u32, ssrc: u32) -> Rtp {
    let mut bytes = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[2..4].copy_from_slice(&sequence.to_be_bytes());
    bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
    bytes[8..].copy_from_slice(&ssrc.to_be_bytes());
    Rtp::read_from_bytes(&bytes).unwrap()
}

/// A packet that comes at a tick.
fn receive(media: &mut Media, generation: u32, clock: u32, rtp: &Rtp, at: u64) -> EventKind {
    media.receive(generation, clock, rtp, at, || at)
}

/// Packets of one source, one in 20 ms.
fn after(sequences: &[u16]) -> Media {
    let mut media = Media::default();
    for (count, sequence) in (0..).zip(sequences) {
        receive(
            &mut media,
            GENERATION,
            8000,
            &packet(*sequence, 160 * count, 7),
            20 * MS * u64::from(count),
        );
    }
    media
}

#[test]
fn loss_and_order() {
    let check = |sequences: &[u16], received, lost, reordered| {
        let media = after(sequences);
        let found = (media.received(), media.lost(), media.reordered);
        assert_eq!(found, (received, lost, reordered), "{sequences:?}");
    };
    check(&[5], 1, 0, 0);
    check(&[5, 6, 7], 3, 0, 0);
    check(&[5, 7, 8], 3, 1, 0);
    check(&[5, 7, 6, 8], 4, 0, 1);
    check(&[5, 6, 6, 7], 4, 0, 1); // a duplicate
    check(&[5, 6, 6, 9], 4, 1, 1); // makes up for a loss (RFC 3550 §A.3)
    check(&[65_534, 65_535, 0, 1], 4, 0, 0);
    check(&[65_534, 1], 2, 2, 0);
    check(&[1, 65_535, 2], 3, 0, 1); // late at the beginning
    check(&[10, 2_999 + 10], 2, 2_998, 0);
    check(&[10, 3_000 + 10], 1, 0, 0); // far off, once
    check(&[10, 3_010, 11], 2, 0, 0);
    check(&[10, 3_010, 3_011], 2, 0, 0); // and twice: begins anew
    check(&[10, 20, 3_020, 3_021], 3, 9, 0);
    check(&[200, 101], 2, 0, 1);
    check(&[200, 100], 1, 0, 0);
}

/// Byte for byte the sum of RFC 3550 §A.8, by its own words.
fn jitter_of(steps: &[(u64, u32)], clock_hz: u64) -> u32 {
    let (mut jitter, mut arrival, mut timestamp) = (0u32, 0u64, 0u32);
    for (passed_ns, there) in steps {
        arrival += passed_ns;
        timestamp += there;
        let here = i64::try_from(passed_ns * clock_hz / 1_000_000_000).unwrap();
        let d = u32::try_from((here - i64::from(*there)).abs()).unwrap();
        jitter = jitter.wrapping_add(d).wrapping_sub((jitter + 8) >> 4);
    }
    jitter
}

#[test]
fn a_steady_stream_has_no_jitter_and_an_unknown_clock_none_either() {
    let steady: [u16; 500] = core::array::from_fn(|count| count as u16);
    assert_eq!(after(&steady).jitter, 0);
    let mut media = Media::default();
    for count in 0..50u16 {
        let at = MS * u64::from(count) * u64::from(count % 7);
        receive(&mut media, GENERATION, 0, &packet(count, 1, 7), at);
    }
    assert_eq!(media.jitter, 0);
}

#[test]
fn another_source_is_told_and_the_old_losses_stay() {
    let mut media = after(&[1, 2, 5]);
    let other = packet(40_000, 9, 8);
    assert_eq!(
        receive(&mut media, GENERATION, 8000, &other, 0),
        EventKind::SSRC_CHANGED
    );
    let next = packet(40_001, 9, 8);
    assert_eq!(
        receive(&mut media, GENERATION, 8000, &next, 0),
        EventKind::NONE
    );
    assert_eq!((media.received(), media.lost(), media.changes), (5, 2, 1));
    assert_eq!(
        receive(&mut media, GENERATION + 1, 8000, &other, 0),
        EventKind::NONE
    );
    assert_eq!((media.received(), media.lost(), media.changes), (1, 0, 0));
}

#[test]
fn a_pause_is_no_jitter() {
    let mut media = after(&[1, 2]);
    receive(
        &mut media,
        GENERATION,
        8000,
        &packet(3, 200, 7),
        20 * MS + (1 << 32),
    );
    assert_eq!(media.jitter, 0);
    receive(
        &mut media,
        GENERATION,
        8000,
        &packet(4, 360, 7),
        20 * MS + (1 << 32) + 50 * MS,
    );
    assert_eq!(media.jitter, 400 - 160);
}

proptest! {
    #[test]
    fn jitter_is_that_of_the_rfc(
        steps in proptest::collection::vec((0..200 * MS, 0..20_000u32), 1..60),
        clock in prop::sample::select(&[8_000u32, 48_000, 90_000][..]),
    ) {
        let mut media = Media::default();
        let (mut at, mut timestamp) = (0, 0);
        receive(&mut media, GENERATION, clock, &packet(0, 0, 7), 0);
        for (sequence, (passed, there)) in (1..).zip(&steps) {
            at += passed;
            timestamp += there;
            receive(&mut media, GENERATION, clock, &packet(sequence, timestamp, 7), at);
        }
        let expected = jitter_of(&steps, clock.into());
        // A reciprocal may round a tick the other way.
        let apart = media.jitter.abs_diff(expected);
        prop_assert!(apart <= 16 + steps.len() as u32 / 16, "{} {expected}", media.jitter);
    }

    /// Whatever comes, in whatever order: nobody received is unaccounted for.
    #[test]
    fn nothing_overflows(sequences in proptest::collection::vec(any::<u16>(), 1..200)) {
        let media = after(&sequences);
        prop_assert!(media.received() <= sequences.len() as u64);
    }
}

/// The clock is read for the first packet of a tick; what follows in it is no jitter.
#[test]
fn jitter_is_of_the_first_in_a_tick() {
    let reads = core::cell::Cell::new(0);
    let mut media = Media::default();
    for (sequence, tick, at, timestamp) in [
        (0, 4, 5, 0),
        (1, 4, 6, 0),
        (2, 24, 25, 160),
        (3, 24, 27, 160),
        (4, 44, 46, 320),
    ] {
        let packet = packet(sequence, timestamp, 7);
        media.receive(GENERATION, 8000, &packet, tick * MS, || {
            reads.set(reads.get() + 1);
            at * MS
        });
    }
    // One of 20 ms, one of 21: a millisecond is eight ticks of the clock.
    assert_eq!((reads.get(), media.jitter, media.received()), (3, 8, 5));
    assert_eq!((media.arrival_ns, media.timestamp), (46 * MS, 320));
}
