//! Counting, per reason and per flow.

use common::forward::Verdict;
use common::map::SLOT_NONE;

use crate::maps;

/// Counts a verdict; true if it is the first packet of a flow that this CPU forwards.
#[inline(always)]
pub(crate) fn count(verdict: &Verdict, now_ns: u64) -> bool {
    if let Some(counter) = maps::reason(verdict.reason) {
        *counter += 1;
    }
    if verdict.stats == SLOT_NONE {
        return false;
    }
    match maps::stats(verdict.stats) {
        Some(stats) => stats.count(verdict, now_ns),
        None => false,
    }
}
