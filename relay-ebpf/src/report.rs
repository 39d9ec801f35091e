//! What userspace is told: changes of a flow's state, at most once per flow and CPU, or at the
//! rate at which strangers are shown.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::{debug, info};
use common::event::{Event, EventKind};
use common::forward::{Action, Reason, Verdict};

use crate::maps::EVENTS;

/// Reports a first packet or a stranger that is let through.
#[inline(always)]
pub(crate) fn changes(ctx: &XdpContext, verdict: &Verdict, first: bool, now_ns: u64) {
    if first {
        info!(
            ctx,
            "flow {} generation {}: first packet", verdict.stats, verdict.generation
        );
        submit(verdict, EventKind::FIRST_PACKET, now_ns);
    } else if verdict.reason == Reason::WrongSource && verdict.action == Action::Pass {
        debug!(
            ctx,
            "flow {} generation {}: stranger", verdict.stats, verdict.generation
        );
        submit(verdict, EventKind::STRANGER, now_ns);
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
