//! The only reader of the clock and of entropy.

use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

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

/// RFC 3339 §5.6, in UTC.
pub(crate) fn rfc3339(at_s: u64) -> String {
    let (mut days, seconds) = (at_s / 86_400, at_s % 86_400);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    let length = |year| if leap(year) { 366 } else { 365 };
    while days >= length(year) {
        days -= length(year);
        year += 1;
    }
    let mut month = 1;
    for length in [
        31,
        if leap(year) { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
    ] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let day = days + 1;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (at_s, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(at_s), expected);
        }
    }
}
