//! The link to the broker behind us, and what waits for it; nothing where there is none.

use std::time::Instant;

use super::{Kind, Text, count};
use crate::outbox::Lost;
use crate::shell::Shell;
use crate::shell::outbox::Link;

const LINK: (&str, &str) = ("link", "broker");

pub(super) fn broker(shell: &Shell, now: Instant, text: &mut Text) {
    let Some(view) = shell.publisher.outbox.view(now) else {
        return;
    };
    let help = "Whether the broker behind us is reached.";
    text.family("mqtt_upstream_up", Kind::Gauge, help);
    let up = matches!(view.link, Link::Up { .. });
    text.series(&[LINK], up.into());
    let help = "Messages that the broker has not acknowledged.";
    text.family("outbox_depth", Kind::Gauge, help);
    text.series(&[LINK], count(view.depth));
    let help = "What they take, as outbox_bytes limits it.";
    text.family("outbox_bytes", Kind::Gauge, help);
    text.series(&[LINK], count(view.bytes));
    let help = "How long the oldest of them has waited.";
    text.family("outbox_oldest_seconds", Kind::Gauge, help);
    text.series(&[LINK], view.oldest.as_secs());
    let counts = &view.counts;
    let help = "Messages that the broker has acknowledged.";
    text.family("outbox_delivered_total", Kind::Counter, help);
    text.series(&[LINK], counts.delivered);
    let help = "Messages submitted once more because a connection ended before the answer.";
    text.family("outbox_redelivered_total", Kind::Counter, help);
    text.series(&[LINK], counts.redelivered);
    let help = "Messages that did not get there, by reason; full: they were never accepted.";
    text.family("outbox_lost_total", Kind::Counter, help);
    text.series(&[LINK, ("reason", "full")], counts.full);
    for why in Lost::ALL {
        let lost = counts.lost.get(&why).copied().unwrap_or(0);
        text.series(&[LINK, ("reason", why.name())], lost);
    }
}
