//! What libFuzzer calls: the target that the environment names, and a look at the processor's time.

#![no_main]

#[path = "../../tests/fuzz/targets.rs"]
mod targets;

use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;

/// No input may cost more: whoever sends it pays less.
const CPU_MAX: Duration = Duration::from_millis(10);
/// An input that seems to cost too much is tried again: the machine has other things to do.
const TRIES: u32 = 5;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    let target = TARGET.get_or_init(chosen);
    let fastest = (0..TRIES).map(|_| cost(target, data));
    let affordable = fastest.into_iter().any(|cost| cost <= CPU_MAX);
    assert!(
        affordable,
        "{} octets cost more than {CPU_MAX:?}",
        data.len()
    );
});

fn chosen() -> fn(&[u8]) {
    let name = std::env::var("TOWPATH_FUZZ_TARGET").expect("TOWPATH_FUZZ_TARGET names a target");
    let known = targets::TARGETS.iter().find(|(known, _)| *known == name);
    known.expect("one of `TARGETS`").1
}

fn cost(target: &fn(&[u8]), data: &[u8]) -> Duration {
    let before = used();
    target(data);
    used().saturating_sub(before)
}

/// Processor time of this thread.
fn used() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live timespec that the call fills in.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0, "no clock");
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
