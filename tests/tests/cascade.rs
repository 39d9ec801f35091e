//! Servers that share conferences, under trouble of every kind, in virtual time.

use control::cascade::Reason;
use towpath_tests::cascade::{Report, Terms, Wiring, run};

/// Seeds for each wiring; TOWPATH_SEEDS=first..last asks for others.
const SEEDS: std::ops::Range<u64> = 0..40;

fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("TOWPATH_SEEDS").ok();
    let asked = asked.as_deref().and_then(|range| range.split_once(".."));
    asked.map_or(SEEDS, |(first, last)| {
        let number = |text: &str| text.parse().expect("TOWPATH_SEEDS=first..last");
        number(first)..number(last)
    })
}

/// All seeds of a wiring, together.
fn check(wiring: Wiring) -> Report {
    let (mut failed, mut sum) = (Vec::new(), Report::default());
    for seed in seeds() {
        match run(seed, Terms::rough(wiring)) {
            Ok(report) => {
                sum.commands += report.commands;
                sum.answers += report.answers;
                sum.unreachable += report.unreachable;
                sum.shown += report.shown;
                for (reason, count) in report.dropped {
                    *sum.dropped.entry(reason).or_default() += count;
                }
            }
            Err(why) => failed.push((seed, why)),
        }
    }
    assert!(
        failed.is_empty(),
        "{wiring:?}: {} failed; TOWPATH_SEEDS=n..n+1 shows one: {:?}",
        failed.len(),
        failed.first()
    );
    assert!(sum.commands > 0 && sum.unreachable > 0 && sum.shown > 0);
    sum
}

#[test]
fn a_pair() {
    let sum = check(Wiring::Pair);
    assert_eq!(sum.dropped.get(&Reason::Detour), None);
}

#[test]
fn two_below_one() {
    check(Wiring::Tree);
}

#[test]
fn three_in_a_row() {
    check(Wiring::Chain);
}

#[test]
fn a_ring_on_purpose() {
    let sum = check(Wiring::Ring);
    // What comes round the other way is dropped, and that is seen.
    assert!(sum.dropped.get(&Reason::Detour).is_some_and(|n| *n > 0));
}

#[test]
fn the_same_seed_gives_the_same_course() {
    for wiring in Wiring::ALL {
        assert_eq!(run(7, Terms::rough(wiring)), run(7, Terms::rough(wiring)));
    }
}
