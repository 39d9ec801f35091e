//! A moment as the conference plane counts it, and as people read it.

use std::time::Instant;

/// Time as an argument: the steady one for what must pass, the time of day for people.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Now {
    pub at: Instant,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

/// RFC 3339 §5.6, in UTC.
#[must_use]
pub fn rfc3339(at_s: u64) -> String {
    let (date, time) = parts(at_s);
    format!("{date}T{time}Z")
}

/// The same to the millisecond.
#[must_use]
pub fn rfc3339_ms(at_ms: u64) -> String {
    let (date, time) = parts(at_ms / 1000);
    format!("{date}T{time}.{:03}Z", at_ms % 1000)
}

fn parts(at_s: u64) -> (String, String) {
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
    (
        format!("{year:04}-{month:02}-{day:02}"),
        format!("{hour:02}:{minute:02}:{second:02}"),
    )
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
            let precise = expected.replace('Z', ".007Z");
            assert_eq!(rfc3339_ms(at_s * 1000 + 7), precise);
        }
    }
}
