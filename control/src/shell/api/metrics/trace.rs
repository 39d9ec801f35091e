//! What is kept of calls.

use std::sync::atomic::Ordering;

use super::{Kind, Text, count};
use crate::shell::Shell;

pub(super) fn trace(shell: &Shell, text: &mut Text) {
    let usage = shell.engine.ladders_usage();
    let help = "Calls whose SIP messages are kept, also of those that have ended.";
    text.family("trace_calls", Kind::Gauge, help);
    text.series(&[], count(usage.calls));
    let help = "What is kept of them.";
    text.family("trace_bytes", Kind::Gauge, help);
    text.series(&[], count(usage.bytes));
    let help = "Calls whose messages were given up for those of others.";
    text.family("trace_calls_forgotten_total", Kind::Counter, help);
    text.series(&[], usage.forgotten);
    let help = "Messages that were left out of calls with very many.";
    text.family("trace_messages_left_out_total", Kind::Counter, help);
    text.series(&[], usage.left_out);
    let help = "Copies of SIP messages for a capture server.";
    text.family("hep_messages_total", Kind::Counter, help);
    let out = shell.sip.out();
    let counts = &out.copies.counts;
    for (result, messages) in [
        ("sent", &counts.sent),
        ("dropped", &counts.dropped),
        ("failed", &counts.failed),
    ] {
        text.series(&[("result", result)], messages.load(Ordering::Relaxed));
    }
}
