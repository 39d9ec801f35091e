//! Random networks, random life: whatever happens, what must hold holds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use towpath_tests::sim::life::{Report, live};

/// Seeds of a test; TOWPATH_SEEDS=first..last asks for others.
const SEEDS: std::ops::Range<u64> = 0..300;
/// So many see everything at least once.
const MANY: u64 = 3000;
const THREADS: usize = 2;
/// Of so many seeds one is run again: the same must happen.
const TWICE: u64 = 25;

#[test]
fn any_seed() {
    let asked = std::env::var("TOWPATH_SEEDS").ok();
    let seeds = match asked.as_deref().map(|text| text.split_once("..")) {
        Some(Some((first, last))) => first.parse().unwrap()..last.parse().unwrap(),
        Some(None) => 0..asked.as_deref().unwrap_or_default().parse().unwrap(),
        None => SEEDS,
    };
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let (mut sum, mut failed) = (Report::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return (sum, failed);
            }
            match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                Ok(report) => sum.add(&report),
                Err(_) => failed.push(seed),
            }
        }
    };
    let done = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let done = threads.into_iter().map(|thread| thread.join().unwrap());
        done.collect::<Vec<_>>()
    });
    let mut sum = Report::default();
    let mut failed = Vec::new();
    for (report, seeds) in done {
        sum.add(&report);
        failed.extend(seeds);
    }
    failed.sort_unstable();
    println!("{:#?}", sum.seen);
    assert!(
        failed.is_empty(),
        "{} of {} seeds fail; TOWPATH_SEEDS=n..n+1 shows one: {failed:?}",
        failed.len(),
        seeds.end - seeds.start
    );
    let never: Vec<_> = sum.seen.iter().filter(|(_, times)| **times == 0).collect();
    let many = seeds.end - seeds.start >= MANY;
    assert!(!many || never.is_empty(), "never happened: {never:?}");
}

fn run(seed: u64) -> Report {
    let report = live(seed);
    if seed.is_multiple_of(TWICE) {
        assert_eq!(live(seed), report, "seed {seed}: another run, another life");
    }
    report
}
