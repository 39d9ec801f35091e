//! The only reader of the clock and of entropy.

use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::bus::moment::Now;
pub(crate) use crate::bus::moment::rfc3339;

/// Monotonic time.
#[allow(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Time of day, for people.
#[allow(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the clock"
)]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// Both at once.
pub(crate) fn moment_now() -> Now {
    let since = wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        at: now(),
        wall_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Seconds since 1970, for people: nothing is measured by it.
pub(crate) fn wall_s() -> u64 {
    let since = wall().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Monotonic time as systemd compares it: microseconds.
pub(crate) fn monotonic_us() -> i64 {
    i64::try_from(monotonic_ns() / 1000).unwrap_or(i64::MAX)
}

/// Monotonic time as the kernel program counts it: nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        let part = |value: i64| u64::try_from(value).unwrap_or(0);
        part(now.tv_sec())
            .saturating_mul(1_000_000_000)
            .saturating_add(part(now.tv_nsec()))
    })
}

/// A moment that `monotonic_ns` gave; the present if it lies ahead.
pub(crate) fn moment(monotonic: u64) -> Instant {
    let ago = Duration::from_nanos(monotonic_ns().saturating_sub(monotonic));
    let now = now();
    now.checked_sub(ago).unwrap_or(now)
}

/// For what must differ and need not be secret; zeros where there is no entropy.
pub(crate) fn random() -> [u8; 16] {
    let seed = seed().unwrap_or_default();
    seed.first_chunk().copied().unwrap_or_default()
}

/// A fresh seed for the engine.
pub(crate) fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}
