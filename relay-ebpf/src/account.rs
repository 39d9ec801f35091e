//! Counting, per reason and per flow.

use common::event::EventKind;
use common::forward::Verdict;
use common::map::SLOT_NONE;

use crate::maps;

/// Counts a verdict; says what has changed with its flow.
#[inline(always)]
pub(crate) fn count(verdict: &Verdict, now_ns: u64, silence_ns: u64) -> EventKind {
    if let Some(counter) = maps::reason(verdict.reason) {
        *counter += 1;
    }
    if verdict.stats == SLOT_NONE {
        return EventKind::NONE;
    }
    match maps::stats(verdict.stats) {
        Some(stats) => stats.count(verdict, now_ns, silence_ns),
        None => EventKind::NONE,
    }
}
