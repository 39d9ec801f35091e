//! Numbers of the conference plane.

use std::collections::BTreeMap;

use crate::cascade::Reason;
use crate::plane::count::{WAITS_S, Waits};
use crate::shell::Shell;

use super::{Kind, Text, count};

/// What became of floor requests, so that each is there from the start.
const OUTCOMES: [&str; 6] = [
    "granted",
    "denied",
    "cancelled",
    "released",
    "revoked",
    "refused",
];
const FORWARDED: [&str; 4] = ["answered", "home_unreachable", "busy", "not_shared"];
const STALE: [&str; 2] = ["old_cseq", "rev_conflict"];

pub(super) fn conference(shell: &Shell, text: &mut Text) {
    let plane = shell.plane.lock();
    let conferences = plane.conferences().count();
    let participants = plane.conferences().map(|c| c.roster().participants.len());
    let participants = participants.sum();
    let counts = plane.counts().clone();
    let cascade = plane.cascade();
    let shared = [
        ("home", cascade.shared()),
        ("member", cascade.foreign().count()),
    ];
    let dropped = Reason::ALL.map(|reason| {
        let count = cascade.dropped().get(&reason).copied();
        (reason.word(), count.unwrap_or(0))
    });
    drop(plane);
    let help = "Conferences that servers share, by what this one is to them.";
    text.family("cascade_conferences", Kind::Gauge, help);
    for (role, number) in shared {
        text.series(&[("role", role)], count(number));
    }
    let help = "Frames of other servers that were dropped, by why.";
    text.family("cascade_dropped_total", Kind::Counter, help);
    for (reason, number) in dropped {
        text.series(&[("reason", reason)], number);
    }
    let help = "Commands for conferences at home elsewhere, by what became of them.";
    text.family("cascade_commands_total", Kind::Counter, help);
    labelled("result", &FORWARDED, &counts.forwarded, text);
    text.family("conferences", Kind::Gauge, "Conferences now.");
    text.series(&[], count(conferences));
    let help = "Participants of all conferences now.";
    text.family("conference_participants", Kind::Gauge, help);
    text.series(&[], count(participants));
    let help = "What became of floor requests.";
    text.family("floor_requests_total", Kind::Counter, help);
    labelled("outcome", &OUTCOMES, &counts.floor, text);
    let help = "How long those waited for a floor that were granted it.";
    text.family("floor_wait_seconds", Kind::Histogram, help);
    histogram("floor_wait_seconds", &counts.waits, text);
    let help = "Commands that were not carried out because the client or the state was further.";
    text.family("view_stale_commands_total", Kind::Counter, help);
    labelled("reason", &STALE, &counts.stale, text);
    let help = "Messages that belong to nothing we know, by why; `towpath events` shows them.";
    text.family("conference_unplaced_total", Kind::Counter, help);
    labelled("reason", &["no_such_conference"], &counts.unplaced, text);
    let help = "Accepted views that the conference server did not take.";
    text.family("view_hook_failed_total", Kind::Counter, help);
    text.series(&[], shell.plane.hook.failed());
}

/// Those that are known, and whatever else there was.
fn labelled(
    label: &str,
    known: &[&'static str],
    counts: &BTreeMap<&'static str, u64>,
    text: &mut Text,
) {
    for value in known {
        let count = counts.get(value).copied().unwrap_or(0);
        text.series(&[(label, value)], count);
    }
    for (value, count) in counts.iter().filter(|(value, _)| !known.contains(value)) {
        text.series(&[(label, value)], *count);
    }
}

fn histogram(name: &str, waits: &Waits, text: &mut Text) {
    for (bound, count) in WAITS_S.iter().zip(waits.buckets) {
        text.line(&format!("{name}_bucket{{le=\"{bound}\"}} {count}"));
    }
    text.line(&format!("{name}_bucket{{le=\"+Inf\"}} {}", waits.count));
    text.line(&format!("{name}_sum {}", waits.sum_s));
    text.line(&format!("{name}_count {}", waits.count));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_times() {
        let waits = Waits {
            buckets: [0, 1, 1, 1, 2, 2, 2, 2, 2],
            sum_s: 12.4,
            count: 3,
        };
        let mut text = Text::default();
        histogram("floor_wait_seconds", &waits, &mut text);
        let lines: Vec<&str> = text.text.lines().collect();
        assert_eq!(lines[1], "towpath_floor_wait_seconds_bucket{le=\"0.5\"} 1");
        assert_eq!(lines[9], "towpath_floor_wait_seconds_bucket{le=\"+Inf\"} 3");
        assert_eq!(
            lines[10..],
            [
                "towpath_floor_wait_seconds_sum 12.4",
                "towpath_floor_wait_seconds_count 3"
            ]
        );
    }
}
