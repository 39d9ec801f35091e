//! `max_calls` and `max_bandwidth`, of a peer or a network.

use crate::config::Limits;
use crate::config::problem::{At, Problems};

/// More calls than a node has at a time.
const CALLS_MAX: i64 = 1_000_000;
/// In kbit/s: 1 Tbit/s.
const BANDWIDTH_MAX: i64 = 1_000_000_000;

/// `keys` are those of the two values.
pub(super) fn read(
    (calls, bandwidth): (Option<At<i64>>, Option<At<i64>>),
    keys: (&str, &str),
    problems: &mut Problems<'_>,
) -> Limits {
    let mut limit = |written: Option<At<i64>>, key: &str, max: i64, unit: &str| {
        let written = written?;
        let good = u32::try_from(written.value).ok();
        let good = good.filter(|_| (1..=max).contains(&written.value));
        if good.is_none() {
            let message = format!("{} is out of range", written.value);
            let help = format!("write 1 to {max}{unit}, or remove it: no limit");
            problems.add(&written.span, key, message, help);
        }
        good
    };
    Limits {
        calls: limit(calls, keys.0, CALLS_MAX, ""),
        bandwidth: limit(bandwidth, keys.1, BANDWIDTH_MAX, " (kbit/s)"),
    }
}
