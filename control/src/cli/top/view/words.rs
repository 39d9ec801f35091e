//! Numbers in few characters.

/// `950`, `1.2k`, `34M`.
pub(super) fn short(number: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (1_000, "k"),
    ];
    for (unit, name) in UNITS {
        if number >= unit {
            let (whole, tenth) = (number / unit, number % unit / (unit / 10));
            return match whole {
                0..10 => format!("{whole}.{tenth}{name}"),
                _ => format!("{whole}{name}"),
            };
        }
    }
    number.to_string()
}

/// `59s`, `12m`, `3h`, `9d`.
pub(super) fn ago(seconds: u64) -> String {
    match seconds {
        0..100 => format!("{seconds}s"),
        100..6_000 => format!("{}m", seconds / 60),
        6_000..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Of parts per million.
pub(super) fn percent(ppm: Option<u64>) -> String {
    match ppm {
        None => "-".to_owned(),
        Some(ppm) => format!("{}.{:02}", ppm / 10_000, ppm % 10_000 / 100),
    }
}

/// Of microseconds, in milliseconds.
pub(super) fn jitter(us: Option<u64>) -> String {
    match us {
        None => "-".to_owned(),
        Some(us) => format!("{}.{}", us / 1_000, us % 1_000 / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit() {
        let check = |number, expected: &str| assert_eq!(short(number), expected);
        check(0, "0");
        check(999, "999");
        check(1_000, "1.0k");
        check(9_999, "9.9k");
        check(87_400, "87k");
        check(999_999, "999k");
        check(1_250_000, "1.2M");
        check(43_000_000_000, "43G");
        assert!(short(u64::MAX).ends_with('T'));
        let times = [0, 99, 100, 5_999, 6_000, 172_799, 172_800].map(ago);
        assert_eq!(times, ["0s", "99s", "1m", "99m", "1h", "47h", "2d"]);
        let losses = [None, Some(0), Some(12_345), Some(1_000_000)].map(percent);
        assert_eq!(losses, ["-", "0.00", "1.23", "100.00"]);
        assert_eq!(
            [None, Some(40), Some(12_345)].map(jitter),
            ["-", "0.0", "12.3"]
        );
    }
}
