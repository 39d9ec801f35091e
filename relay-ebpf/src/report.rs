//! What userspace is told: changes of a flow's state, never packets.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::info;
use common::event::{Event, EventKind};
use common::forward::Verdict;

use crate::maps::EVENTS;

/// Reports what has changed with a flow, by its counters and by its stream.
#[inline(always)]
pub(crate) fn changes(ctx: &XdpContext, verdict: &Verdict, counted: EventKind, now_ns: u64) {
    if counted != EventKind::NONE {
        info!(
            ctx,
            "flow {} generation {}: event {}", verdict.stats, verdict.generation, counted.0
        );
        submit(verdict, counted, now_ns);
    }
    if verdict.change != EventKind::NONE {
        submit(verdict, verdict.change, now_ns);
    }
}

/// A full ring loses the event: userspace polls STATS as well.
#[inline(always)]
fn submit(verdict: &Verdict, kind: EventKind, now_ns: u64) {
    if let Some(mut entry) = EVENTS.reserve::<Event>(0) {
        entry.write(Event::new(now_ns, verdict.stats, verdict.generation, kind));
        entry.submit(0);
    }
}
