//! Ten minutes of the node's main numbers, one sample a second, for plots.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Json;
use axum::extract::{Query, State};
use axum::routing::get;
use common::forward::Reason;
use serde_json::{Map, Value, json};

use crate::shell::api::Api;
use crate::shell::api::error::Problem;
use crate::shell::api::route::Reply;
use crate::shell::api::table::{Answer, Kind, Parameter, Route, VIEW, schema};
use crate::shell::{Shell, clock};

/// Samples kept.
const SAMPLES_MAX: usize = 600;

pub(super) const ROUTES: &[Route] = &[Route {
    path: "/api/v1/history",
    about: "Ten minutes of the main numbers, one a second, a list for each; rates are per second",
    query: &[Parameter {
        name: "since",
        kind: Kind::Number,
        required: false,
        about: "only samples after this number",
    }],
    answer: Answer::Document(schema!("history")),
    refuses: &[Problem::BAD_NUMBER],
    handler: || get(history),
    ..VIEW
}];

/// What is kept of each second, in this order.
const NAMES: [&str; 16] = [
    "calls",
    "registrations",
    "flows_xdp",
    "flows_user",
    "packets_in_xdp",
    "packets_in_user",
    "packets_out_xdp",
    "packets_out_user",
    "bits_in_xdp",
    "bits_in_user",
    "bits_out_xdp",
    "bits_out_user",
    "drops",
    "loss_ppm",
    "cpu_percent",
    "rss_bytes",
];
/// Those before it are as they are, and so is the last; the others are rates.
const COUNTED: std::ops::Range<usize> = 4..15;
const LOSS: usize = 13;
const CPU: usize = 14;

struct Sample {
    at_s: u64,
    values: [f64; NAMES.len()],
}

#[derive(Default)]
struct Ring {
    samples: VecDeque<Sample>,
    /// Number of the last sample.
    seq: u64,
    /// What was counted until then.
    before: Option<(Instant, [u64; NAMES.len()], u64)>,
}

#[derive(Default)]
pub(super) struct History(Mutex<Ring>);

impl History {
    /// `counted` is what is now, or what there was ever; `received` the packets that losses are a
    /// share of.
    fn note(&self, now: Instant, at_s: u64, counted: [u64; NAMES.len()], received: u64) {
        let mut ring = self.lock();
        let before = ring.before.replace((now, counted, received));
        let Some((then, old, old_received)) = before else {
            return;
        };
        let time = now.saturating_duration_since(then).as_secs_f64();
        if time <= 0.0 {
            return;
        }
        let more = |new: u64, old: u64| number(new.saturating_sub(old));
        let mut values = [0.0; NAMES.len()];
        for (at, value) in values.iter_mut().enumerate() {
            let (new, old) = (part(&counted, at), part(&old, at));
            *value = match at {
                LOSS => {
                    let lost = more(new, old);
                    let sent = lost + more(received, old_received);
                    if sent > 0.0 {
                        (lost / sent * MILLION).round()
                    } else {
                        0.0
                    }
                }
                // In hundredths of a second: so many percent of one processor.
                CPU => (more(new, old) / time).round(),
                at if COUNTED.contains(&at) => (more(new, old) / time).round(),
                _ => number(new),
            };
        }
        if ring.samples.len() >= SAMPLES_MAX {
            ring.samples.pop_front();
        }
        ring.seq = ring.seq.saturating_add(1);
        ring.samples.push_back(Sample { at_s, values });
    }

    fn shown(&self, since: u64) -> Value {
        let ring = self.lock();
        let known = u64::try_from(ring.samples.len()).unwrap_or(u64::MAX);
        let first = ring.seq.saturating_sub(known);
        let skip = usize::try_from(since.saturating_sub(first)).unwrap_or(usize::MAX);
        let samples: Vec<&Sample> = ring.samples.iter().skip(skip).collect();
        let series = NAMES.iter().enumerate().map(|(at, name)| {
            let values = samples.iter().map(|sample| sample.values.get(at).copied());
            let values: Vec<Value> = values.map(|value| whole(value.unwrap_or(0.0))).collect();
            ((*name).to_owned(), values.into())
        });
        json!({
            "every_s": 1,
            "seq": ring.seq,
            "at": samples.iter().map(|sample| sample.at_s).collect::<Vec<u64>>(),
            "series": series.collect::<Map<String, Value>>(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const MILLION: f64 = 1_000_000.0;

fn part(values: &[u64], at: usize) -> u64 {
    values.get(at).copied().unwrap_or(0)
}

/// Beyond 2^53 the last digits of a plot are nobody's concern.
#[allow(clippy::cast_precision_loss, reason = "for plots")]
fn number(value: u64) -> f64 {
    value as f64
}

/// Rounded already; without a fraction it is shorter.
fn whole(value: f64) -> Value {
    serde_json::from_str(&format!("{value:.0}")).unwrap_or_default()
}

async fn history(
    State(api): State<Api>,
    Query(query): Query<std::collections::BTreeMap<String, String>>,
) -> Reply {
    let since = query.get("since").map_or("0", String::as_str);
    let since = since.parse().map_err(|_| Problem::BAD_NUMBER)?;
    Ok(Json(api.history.shown(since)))
}

impl Shell {
    /// One more second.
    pub(super) fn sample(&self, now: Instant) {
        let totals = self.engine.totals();
        let (kernel, user) = self.datapath.placements();
        let whole = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let books = &self.datapath.books;
        let carried = |direction: &str, path: &str, bytes: bool| -> u64 {
            let lines = books.carried.iter();
            let lines = lines.filter(|(line, _)| line.direction == direction && line.path == path);
            lines
                .map(|(_, sum)| if bytes { sum.bytes * 8 } else { sum.packets })
                .sum()
        };
        let of = |bytes| {
            [
                ("in", "xdp"),
                ("in", "user"),
                ("out", "xdp"),
                ("out", "user"),
            ]
            .map(|(direction, path)| carried(direction, path, bytes))
        };
        let [in_xdp, in_user, out_xdp, out_user] = of(false);
        let [bits_in_xdp, bits_in_user, bits_out_xdp, bits_out_user] = of(true);
        let lost = books.streams.values().map(|streams| streams.lost).sum();
        let received = books.streams.values().map(|streams| streams.received).sum();
        let (cpu, rss) = own();
        let counted = [
            whole(totals.calls),
            whole(totals.registrations),
            whole(kernel),
            whole(user),
            in_xdp,
            in_user,
            out_xdp,
            out_user,
            bits_in_xdp,
            bits_in_user,
            bits_out_xdp,
            bits_out_user,
            self.drops(),
            lost,
            cpu,
            rss,
        ];
        self.api
            .history
            .note(now, clock::wall_s(), counted, received);
    }

    /// Packets at media ports that went no further.
    fn drops(&self) -> u64 {
        let total = self.datapath.media.total();
        let here = [
            &total.hop_limit,
            &total.wrong_interface,
            &total.send_failed,
            &total.queue_full,
        ];
        let here: u64 = here.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        let Ok(kernel) = &self.datapath.kernel else {
            return here;
        };
        let judged = Reason::ALL.iter().zip(kernel.reasons());
        let dropped = judged.filter(|(reason, _)| DROPS.contains(reason));
        here.saturating_add(dropped.map(|(_, packets)| packets).sum())
    }
}

const DROPS: [Reason; 4] = [
    Reason::WrongSource,
    Reason::WrongInterface,
    Reason::HopLimit,
    Reason::NoEgress,
];

/// Processor time of this process in ticks, of which a second has a hundred, and its memory in
/// bytes (proc(5)).
fn own() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name before it may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let field = |at: usize| -> u64 {
        let field = fields.split_whitespace().nth(at);
        field.and_then(|field| field.parse().ok()).unwrap_or(0)
    };
    let memory = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = memory.split_whitespace().nth(1);
    let pages: u64 = pages.and_then(|pages| pages.parse().ok()).unwrap_or(0);
    (
        field(11).saturating_add(field(12)),
        pages.saturating_mul(PAGE_BYTES),
    )
}

const PAGE_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn counts_become_rates_and_the_oldest_are_forgotten() {
        let history = History::default();
        let start = clock::now();
        let at = |n: u64| start + Duration::from_secs(n);
        for n in 0..=u64::try_from(SAMPLES_MAX).unwrap() + 3 {
            let mut counted = [0; NAMES.len()];
            (counted[0], counted[4], counted[LOSS]) = (n, 50 * n, n);
            history.note(at(n), 1_000 + n, counted, 9 * n);
        }
        let shown = history.shown(601);
        assert_eq!(shown["seq"], 603);
        assert_eq!(shown["at"], json!([1_602, 1_603]));
        let series = &shown["series"];
        assert_eq!(series["calls"], json!([602, 603]));
        assert_eq!(series["packets_in_xdp"], json!([50, 50]));
        assert_eq!(series["loss_ppm"], json!([100_000, 100_000]));
        assert_eq!(series["bits_out_user"], json!([0, 0]));
        let all = history.shown(0);
        assert_eq!(all["at"].as_array().unwrap().len(), SAMPLES_MAX);
        assert_eq!(all["at"][0], 1_004);
        assert_eq!(history.shown(9_999)["at"], json!([]));
    }

    #[test]
    fn a_process_uses_memory() {
        assert!(own().1 > 1024 * 1024);
    }
}
