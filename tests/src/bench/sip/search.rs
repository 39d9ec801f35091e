//! The highest rate that holds, on a ladder of rates.

use anyhow::Result;

/// The first rung's rate.
const BOTTOM: f64 = 100.0;
/// From one rung to the next.
const STEP: f64 = 1.1;
/// How far a search strides before it looks closer.
const STRIDE: u32 = 4;
const TOP: u32 = 80;

/// The rate of a rung.
pub(super) fn rate(rung: u32) -> u32 {
    let rate = BOTTOM * STEP.powf(f64::from(rung));
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small and positive"
    )]
    let rate = rate.round() as u32;
    // Shared evenly by the generators.
    rate & !1
}

/// The rung nearest below a rate.
pub(super) fn rung(of: u32) -> u32 {
    (0..TOP).take_while(|n| rate(*n) <= of).last().unwrap_or(0)
}

/// The highest rung that holds, found from `start` with at most `steps` trials.
///
/// # Errors
/// What `holds` refuses with.
pub(super) fn highest(
    start: u32,
    steps: u32,
    mut holds: impl FnMut(u32) -> Result<bool>,
) -> Result<Option<u32>> {
    let (mut good, mut bad): (Option<u32>, Option<u32>) = (None, None);
    let mut next = start;
    for _ in 0..steps {
        if holds(next)? {
            good = good.max(Some(next));
        } else {
            bad = Some(bad.map_or(next, |bad| bad.min(next)));
        }
        next = match (good, bad) {
            (None, Some(0)) => break,
            (None, bad) => bad.unwrap_or(next).saturating_sub(STRIDE),
            (Some(good), None) if good >= TOP => break,
            (Some(good), None) => (good + STRIDE).min(TOP),
            (Some(good), Some(bad)) if bad <= good + 1 => break,
            (Some(good), Some(bad)) => good.midpoint(bad),
        };
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(start: u32, limit: u32, steps: u32, expected: Option<u32>) {
        let mut trials = 0;
        let found = highest(start, steps, |rung| {
            trials += 1;
            Ok(rung < limit)
        });
        assert_eq!(found.unwrap(), expected, "from {start} to {limit}");
        assert!(trials <= steps);
    }

    #[test]
    fn a_search_ends_at_the_limit() {
        check(10, 17, 20, Some(16));
        check(10, 11, 20, Some(10));
        check(10, 3, 20, Some(2));
        check(10, 0, 20, None);
        check(0, 1, 20, Some(0));
        check(10, 500, 40, Some(TOP));
        check(10, 500, 2, Some(14));
        check(10, 9, 1, None);
    }

    #[test]
    fn rates_climb() {
        assert_eq!(rate(0), 100);
        assert!((0..TOP).all(|n| rate(n) < rate(n + 1)));
        assert_eq!(rung(100), 0);
        assert_eq!(rung(rate(33)), 33);
        assert_eq!(rung(rate(33) + 1), 33);
    }
}
