//! The edge that MQTT clients connect to.

use super::{Kind, Text, count};
use crate::mqtt::broker::Dropped;
use crate::shell::Shell;

pub(super) fn mqtt(shell: &Shell, text: &mut Text) {
    let (totals, counters) = (
        shell.publisher.edge.totals(),
        shell.publisher.edge.counters(),
    );
    text.family("mqtt_clients", Kind::Gauge, "Sessions of MQTT clients now.");
    text.series(&[("state", "connected")], count(totals.connected));
    let away = totals.sessions.saturating_sub(totals.connected);
    text.series(&[("state", "away")], count(away));
    let help = "MQTT connections since the start, by what became of them.";
    text.family("mqtt_connections_total", Kind::Counter, help);
    text.series(&[("result", "accepted")], counters.connected);
    text.series(
        &[("result", "turned_away")],
        shell.publisher.edge.turned_away(),
    );
    for (why, number) in &counters.refused {
        text.series(&[("result", why.word())], *number);
    }
    let help = "MQTT connections that we ended, by reason.";
    text.family("mqtt_expelled_total", Kind::Counter, help);
    for (why, number) in &counters.expelled {
        text.series(&[("reason", why.word())], *number);
    }
    let help = "Publications of clients, and messages sent to them.";
    text.family("mqtt_messages_total", Kind::Counter, help);
    text.series(&[("direction", "in")], counters.received);
    text.series(&[("direction", "out")], counters.sent);
    let help = "Wills published for clients that went without a word.";
    text.family("mqtt_wills_total", Kind::Counter, help);
    text.series(&[], counters.wills);
    let help = "Messages that somebody did not get, by reason.";
    text.family("mqtt_dropped_total", Kind::Counter, help);
    for why in Dropped::ALL {
        let number = counters.dropped.get(&why).copied().unwrap_or_default();
        text.series(&[("reason", why.word())], number);
    }
    let help = "Messages that wait for clients.";
    text.family("mqtt_queue_messages", Kind::Gauge, help);
    text.series(&[], count(totals.queue_messages));
    text.family(
        "mqtt_queue_bytes",
        Kind::Gauge,
        "Bytes that wait for clients.",
    );
    text.series(&[], count(totals.queue_bytes));
    let help = "Sessions that were forgotten to make room for others.";
    text.family("mqtt_sessions_forgotten_total", Kind::Counter, help);
    text.series(&[], counters.forgotten);
    text.family("mqtt_subscriptions", Kind::Gauge, "Filters of all clients.");
    text.series(&[], count(totals.subscriptions));
    text.family(
        "mqtt_retained_messages",
        Kind::Gauge,
        "Topics with a last word.",
    );
    text.series(&[], count(totals.retained));
    text.family(
        "mqtt_retained_bytes",
        Kind::Gauge,
        "Bytes of all last words.",
    );
    text.series(&[], count(totals.retained_bytes));
}
