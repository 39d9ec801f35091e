//! What userspace is told: changes of a flow's state, never packets.

use aya_log_ebpf::info;
use common::event::{Event, EventKind};
use common::forward::Verdict;

use crate::maps::EVENTS;

/// Reports what has changed with a flow, by its counters and by its stream.
#[inline(always)]
pub(crate) fn changes(verdict: &Verdict, counted: EventKind, now_ns: u64) {
    let tell = |kind: EventKind| {
        if kind != EventKind::NONE {
            report(verdict.stats, verdict.generation, kind.0.into(), now_ns);
        }
    };
    tell(counted);
    tell(verdict.change);
}

/// On its own for the verifier, as `packet::is_whole`. A full ring loses the event: userspace polls
/// STATS as well.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn report(stats: u32, generation: u32, kind: u32, now_ns: u64) -> u32 {
    // The log asks for a context and does not look at it.
    info!(
        (),
        "flow {} generation {}: event {}", stats, generation, kind
    );
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        return 0;
    };
    #[allow(clippy::cast_possible_truncation, reason = "a halfword, as a word")]
    let kind = EventKind(kind as u16);
    entry.write(Event::new(now_ns, stats, generation, kind));
    entry.submit(0);
    1
}
