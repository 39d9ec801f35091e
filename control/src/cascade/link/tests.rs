use std::time::Duration;

use super::*;
use crate::cascade::tests::start;

fn frame(number: u64) -> Bytes {
    Bytes::from(number.to_string())
}

fn filled(boot: u64, frames: u64) -> Link {
    let mut link = Link::new(boot);
    for number in 1..=frames {
        link.push(frame(number), None).unwrap();
    }
    link
}

fn taken(link: &mut Link, now: Instant) -> Vec<u64> {
    std::iter::from_fn(|| link.take(now).map(|n| n.number)).collect()
}

fn had(boot: u64, number: u64) -> Had {
    Had { boot, number }
}

#[test]
fn a_window_of_what_is_not_acknowledged() {
    let (mut link, now) = (filled(1, 40), start());
    assert_eq!(taken(&mut link, now), (1..=16).collect::<Vec<_>>());
    assert!(!link.is_due());
    link.acknowledged(had(1, 3));
    assert_eq!(taken(&mut link, now), (17..=19).collect::<Vec<_>>());
    // Of another start: not about ours.
    link.acknowledged(had(2, 40));
    assert_eq!(
        (link.queued(), link.in_flight(), link.oldest()),
        (37, 16, 4)
    );
    link.rewind();
    assert_eq!(taken(&mut link, now), (4..=19).collect::<Vec<_>>());
    link.acknowledged(had(1, 40));
    assert_eq!((link.queued(), link.in_flight(), link.oldest()), (0, 0, 41));
    assert_eq!(taken(&mut link, now), Vec::<u64>::new());
}

#[test]
fn what_is_late_is_not_sent_but_keeps_its_number() {
    let (mut link, now) = (Link::new(1), start());
    let later = now + Duration::from_secs(1);
    link.push(frame(1), Some(later)).unwrap();
    link.push(frame(2), None).unwrap();
    assert_eq!(link.take(now).unwrap().frame, frame(1));
    link.rewind();
    assert_eq!(
        link.take(later),
        Some(Numbered {
            number: 1,
            frame: Bytes::new()
        })
    );
    assert_eq!(link.take(later).unwrap().frame, frame(2));
}

#[test]
fn full_is_said_and_so_is_that_it_is_not_any_more() {
    let most = u64::try_from(QUEUE_MAX).unwrap();
    let mut link = filled(1, most);
    assert_eq!(link.push(frame(0), None), Err(Full));
    assert!(!link.recovered());
    link.acknowledged(had(1, most / 2 + 1));
    assert!(link.recovered());
    assert!(!link.recovered());
    link.push(frame(0), None).unwrap();
    let large = Bytes::from(vec![0; QUEUE_BYTES_MAX]);
    assert_eq!(link.push(large, None), Err(Full));
}

/// What arrives as [boot, oldest, number], and what is handled then.
fn check(arrivals: &[([u64; 3], &[u64])], heard: Had) {
    let mut link = Link::new(9);
    for ([boot, oldest, number], expected) in arrivals {
        let (number, frame) = (*number, frame(*number));
        let handled = link.receive(*boot, *oldest, Numbered { number, frame });
        let expected: Vec<Bytes> = expected.iter().map(|number| self::frame(*number)).collect();
        assert_eq!(handled, expected, "{arrivals:?}: {boot} {oldest} {number}");
    }
    assert_eq!(link.heard(), Some(heard), "{arrivals:?}");
}

#[test]
fn once_and_in_order() {
    check(&[([1, 1, 1], &[1]), ([1, 1, 2], &[2])], had(1, 2));
    check(&[([1, 1, 1], &[1]), ([1, 1, 1], &[])], had(1, 1));
    check(&[([1, 1, 2], &[]), ([1, 1, 1], &[1, 2])], had(1, 2));
    check(
        &[
            ([1, 1, 3], &[]),
            ([1, 1, 3], &[]),
            ([1, 1, 1], &[1]),
            ([1, 1, 2], &[2, 3]),
        ],
        had(1, 3),
    );
    // Late, when the sender keeps it no more.
    check(&[([1, 1, 3], &[]), ([1, 3, 4], &[3, 4])], had(1, 4));
    // We are new, it is not: what it keeps is what is missing.
    check(&[([1, 7, 8], &[]), ([1, 7, 7], &[7, 8])], had(1, 8));
    // It is new.
    check(
        &[([1, 1, 1], &[1]), ([2, 1, 2], &[]), ([2, 1, 1], &[1, 2])],
        had(2, 2),
    );
}

#[test]
fn no_more_is_held_than_can_be_under_way() {
    let mut link = Link::new(9);
    for number in 2..100 {
        let frame = frame(number);
        assert!(link.receive(1, 1, Numbered { number, frame }).is_empty());
    }
    let (number, frame) = (1, frame(1));
    let handled = link.receive(1, 1, Numbered { number, frame });
    assert_eq!(handled.len(), 1 + WINDOW, "the last of them had no place");
}
