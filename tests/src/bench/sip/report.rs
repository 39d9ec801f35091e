//! What came of a run: JSON and a page.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::{FIXED_PER_S, Held, Measured, Outcome, Row, load, server};
use crate::bench::conditions::{self, Conditions};
use crate::bench::report::{ratio, rounded};
use crate::bench::rtpengine;

/// A whole run.
#[derive(Clone, Debug)]
pub struct Report {
    pub conditions: Conditions,
    pub rows: Vec<Row>,
    /// Towpath's calls at [`FIXED_PER_S`].
    pub fixed: Result<Outcome, String>,
    pub held: Vec<Held>,
}

/// Grows when a member changes its meaning.
const VERSION: u32 = 1;
/// Ours, theirs, and what is to be reached: (name, column, column, least).
const RATIOS: [(&str, &str, &str, Option<f64>); 5] = [
    (
        "register",
        "register-towpath",
        "register-kamailio",
        Some(1.3),
    ),
    ("register-md5", "md5-towpath", "md5-kamailio", Some(1.3)),
    (
        "calls-anchored",
        "calls-towpath",
        "calls-rtpengine",
        Some(3.0),
    ),
    ("calls-proxy-1", "calls-towpath", "calls-kamailio-1", None),
    ("calls-proxy-2", "calls-towpath", "calls-kamailio-2", None),
];
const ADDED_P99_US_MAX: f64 = 2_000.0;
const BINDING_BYTES_MAX: f64 = 1_500.0;
const CALL_BYTES_MAX: f64 = 8_000.0;
const NOTES: [&str; 10] = [
    "callers, the edge and what is called are three network namespaces joined by veth pairs; \
     generators and servers share all cores",
    "load is made by SIPp with the scenarios in tests/src/bench/sip: two generators \
     from two ports, one process that answers calls",
    "a rate holds if every operation of a trial succeeds, none is refused, and the trial ends in \
     time; rates are tried in steps of a tenth; columns take turns in every round, the median of \
     the rounds counts",
    "every trial begins with a server that has just been started: port pairs rest for 30 s after \
     a call on both sides; a longer run at such rates needs more ports than an address has",
    "a registration is one REGISTER of one of 20,000 users, with MD5 two of one of 2,000; a call \
     is INVITE with SDP, 180, 200, ACK, BYE, without a pause and without media",
    "Kamailio keeps registrations in memory and checks one password for all; one UDP socket; it \
     relays calls with Record-Route; with rtpengine one worker, because two let ACK and BYE \
     overtake each other",
    "Towpath's limits of requests from one source are off: all users have one address here",
    "Towpath and rtpengine allocate ports and rewrite SDP for every call, in userspace",
    "processor time is that of all processes of the edge at the highest rate; memory is the \
     growth of their proportional set size 34 s after the last one, when transactions have \
     ended",
    "added latency is the time of INVITE, ACK and BYE from the caller's interface to the callee's, \
     by the kernel's time stamps, at 500 calls a second",
];

/// Read before a run begins.
pub(super) fn conditions() -> Result<Conditions> {
    let or_why = |version: Result<String>| version.unwrap_or_else(|error| format!("{error:#}"));
    let programs = vec![
        ("kamailio", or_why(server::version())),
        ("rtpengine", or_why(rtpengine::version())),
        ("sipp", load::version()?),
    ];
    Conditions::read(programs, &NOTES)
}

impl Report {
    /// The document `sip.json` holds.
    #[must_use]
    pub fn json(&self) -> Value {
        let ratios: Vec<Value> = RATIOS
            .iter()
            .map(|(name, ours, theirs, least)| {
                let (ours, theirs) = (self.measured(ours), self.measured(theirs));
                let of = |what: fn(&Measured) -> f64| {
                    let (ours, theirs) = (what(ours?), what(theirs?));
                    (ours > 0.0 && theirs > 0.0).then(|| ratio(ours / theirs))
                };
                let rate = of(Measured::rate);
                json!({
                    "name": name, "rate": rate, "cost": of(Measured::cost_us), "target": least,
                    "reached": least.map(|least| rate.is_some_and(|rate| rate >= least)),
                })
            })
            .collect();
        let fixed = match &self.fixed {
            Err(why) => json!({ "per_s": FIXED_PER_S, "left_out": why }),
            Ok(outcome) => json!({
                "per_s": FIXED_PER_S, "calls": outcome.done + outcome.failed,
                "failed": outcome.failed, "retransmitted": outcome.retransmitted,
            }),
        };
        json!({
            "version": VERSION,
            "conditions": self.conditions.json(),
            "columns": self.rows.iter().map(row).collect::<Vec<_>>(),
            "ratios": ratios,
            "calls_at_fixed_rate": fixed,
            "systems": self.held.iter().map(held).collect::<Vec<_>>(),
        })
    }

    fn measured(&self, name: &str) -> Option<&Measured> {
        let row = self.rows.iter().find(|row| row.column.name == name)?;
        row.measured.as_ref().ok()
    }

    /// The tables, in Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| column | a second, none failed | rounds | processor time each | retransmitted |\n\
             |---|---:|---|---:|---:|\n",
        );
        for row in &self.rows {
            let label = row.column.label;
            text += &match &row.measured {
                Err(why) => format!("| {label} | left out: {why} | | | |\n"),
                Ok(measured) => format!(
                    "| {label} | {:.0} | {} | {:.0} µs | {} of {} |\n",
                    measured.rate(),
                    words(measured.rates.iter().map(|rate| format!("{rate:.0}"))),
                    measured.cost_us(),
                    measured.retransmitted,
                    measured.operations,
                ),
            };
        }
        text += "\n| ratio | rate | to be reached | processor time |\n|---|---:|---:|---:|\n";
        for (name, ours, theirs, least) in RATIOS {
            let (ours, theirs) = (self.measured(ours), self.measured(theirs));
            let of = |what: fn(&Measured) -> f64| match (ours.map(what), theirs.map(what)) {
                (Some(ours), Some(theirs)) if theirs > 0.0 => format!("{:.2}", ours / theirs),
                _ => "-".to_owned(),
            };
            let least = least.map_or_else(|| "-".to_owned(), |least| format!("{least}"));
            let (rate, cost) = (of(Measured::rate), of(Measured::cost_us));
            text += &format!("| {name} | {rate} | {least} | {cost} |\n");
        }
        text += &match &self.fixed {
            Err(why) => format!("\nTowpath at {FIXED_PER_S} calls/s: left out: {why}\n"),
            Ok(outcome) => format!(
                "\nTowpath at {FIXED_PER_S} calls/s: {} of {} failed, {} retransmitted.\n",
                outcome.failed,
                outcome.done + outcome.failed,
                outcome.retransmitted
            ),
        };
        text += &format!(
            "\n| system | added latency p50 / p99 | bytes per binding | bytes per call |\n\
             |---|---:|---:|---:|\n| to be reached | below {:.0} ms | {BINDING_BYTES_MAX} | \
             {CALL_BYTES_MAX} |\n",
            ADDED_P99_US_MAX / 1000.0
        );
        for held in &self.held {
            let bytes = |result: &Result<f64, String>| match result {
                Ok(bytes) => format!("{bytes:.0}"),
                Err(why) => format!("left out: {why}"),
            };
            let added = match &held.added {
                Ok(added) => format!("{:.0} / {:.0} µs", added.p50_us, added.p99_us),
                Err(why) => format!("left out: {why}"),
            };
            text += &format!(
                "| {} | {added} | {} | {} |\n",
                held.label,
                bytes(&held.bytes_per_binding),
                bytes(&held.bytes_per_call)
            );
        }
        text
    }

    /// Writes `sip.json` and `sip.md`.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let files = [
            ("sip.json", conditions::pretty(&self.json())?),
            ("sip.md", self.page()),
        ];
        conditions::write(directory, &files)
    }

    fn page(&self) -> String {
        format!(
            "# SIP\n\nWritten by `cargo xtask bench sip`; the same in [sip.json](sip.json).\n\n{}\n\
             {}",
            self.table(),
            self.conditions.section()
        )
    }
}

fn row(row: &Row) -> Value {
    let (name, label) = (row.column.name, row.column.label);
    match &row.measured {
        Err(why) => json!({ "name": name, "label": label, "left_out": why }),
        Ok(measured) => json!({
            "name": name, "label": label,
            "per_s": measured.rate(), "rounds": measured.rates, "failed": 0,
            "retransmitted": measured.retransmitted, "operations": measured.operations,
            "cpu_us": rounded(measured.cost_us()),
        }),
    }
}

fn held(held: &Held) -> Value {
    let bytes = |result: &Result<f64, String>, most: f64| match result {
        Ok(bytes) => json!({ "bytes": bytes.round(), "target": most, "reached": *bytes < most }),
        Err(why) => json!({ "left_out": why }),
    };
    let added = match &held.added {
        Ok(added) => json!({
            "p50_us": rounded(added.p50_us), "p99_us": rounded(added.p99_us),
            "requests": added.requests, "lost": added.lost, "target": ADDED_P99_US_MAX,
            "reached": added.p99_us < ADDED_P99_US_MAX && added.lost == 0,
        }),
        Err(why) => json!({ "left_out": why }),
    };
    json!({
        "name": held.name, "label": held.label, "added_latency": added,
        "binding": bytes(&held.bytes_per_binding, BINDING_BYTES_MAX),
        "call": bytes(&held.bytes_per_call, CALL_BYTES_MAX),
    })
}

fn words(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}
