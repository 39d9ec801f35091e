//! What came of a run: JSON and a page.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Depth, Held, Measured, Row, Timed, system};
use crate::bench::conditions::{self, Conditions};
use crate::bench::report::{MIB, ratio, rounded};

/// A whole run.
#[derive(Clone, Debug)]
pub struct Report {
    pub conditions: Conditions,
    pub rows: Vec<Row>,
    pub held: Vec<Held>,
    pub depth: Depth,
}

/// Grows when a member changes its meaning.
const VERSION: u32 = 1;
/// Ours, theirs, and what is to be reached: (name, column, column, least).
const RATIOS: [(&str, &str, &str, Option<f64>); 3] = [
    ("qos1", "qos1-towpath", "qos1-mosquitto", Some(0.7)),
    ("qos0", "qos0-towpath", "qos0-mosquitto", None),
    ("fan-out", "fan-towpath", "fan-mosquitto", None),
];
const P99_US_MAX: f64 = 2_000.0;
/// What memory may grow by once it is warm, and is called flat: allocators keep a little.
const GROWN_BYTES_MAX: u64 = 4 << 20;
const NOTES: [&str; 8] = [
    "clients and broker are on one loopback interface in a network of their own, and share all \
     cores; the generator is ours, of one thread, and the same for both; MQTT 3.1.1, no delay",
    "a message has 200 bytes; four publishers with a receiver each over 100 topics, or with 20 \
     receivers each; at most 64 of a publisher are on their way until its slowest receiver has \
     them: what is counted has arrived",
    "columns take turns in every round, each with a broker that has just been started; the median \
     of the rounds counts",
    "mosquitto: no persistence, no delay, 64 in flight to a client, queues long enough; its other \
     settings are Debian's",
    "Towpath judges each message by the topics clients have; nothing else runs in it",
    "processor time is the broker's own for each message that arrived",
    "latency counts from when a message was due at the steady rate until it was read, at QoS 1",
    "memory is resident, of the broker's process; warm is after a tenth of everything; a churn is \
     a subscription, three retained messages, their end and the subscription's; conferences are \
     made and ended over the API",
];

/// Read before a run begins.
pub(super) fn conditions() -> Result<Conditions> {
    let mosquitto = system::version().unwrap_or_else(|error| format!("{error:#}"));
    Conditions::read(vec![("mosquitto", mosquitto)], &NOTES)
}

impl Report {
    /// The document `mqtt.json` holds.
    #[must_use]
    pub fn json(&self) -> Value {
        let ratios: Vec<Value> = RATIOS
            .iter()
            .map(|(name, ours, theirs, least)| {
                let rate = self.ratio(ours, theirs, Measured::rate);
                json!({
                    "name": name, "rate": rate.map(ratio), "target": least,
                    "cost": self.ratio(ours, theirs, Measured::cost_us).map(ratio),
                    "reached": least.map(|least| rate.is_some_and(|rate| rate >= least)),
                })
            })
            .collect();
        json!({
            "version": VERSION,
            "conditions": self.conditions.json(),
            "columns": self.rows.iter().map(row).collect::<Vec<_>>(),
            "ratios": ratios,
            "messages": self.depth.messages,
            "churns": self.depth.churns,
            "latency_per_s": self.depth.timed_per_s,
            "systems": self.held.iter().map(held).collect::<Vec<_>>(),
        })
    }

    fn ratio(&self, ours: &str, theirs: &str, of: fn(&Measured) -> f64) -> Option<f64> {
        let of = |name| {
            let row = self.rows.iter().find(|row| row.column.name == name)?;
            row.measured.as_ref().ok().map(of)
        };
        let (ours, theirs) = (of(ours)?, of(theirs)?);
        (ours > 0.0 && theirs > 0.0).then_some(ours / theirs)
    }

    /// The tables, in Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| column | messages a second | rounds | processor time each | lost, repeated or \
             disordered |\n|---|---:|---|---:|---:|\n",
        );
        for row in &self.rows {
            let label = row.column.label;
            text += &match &row.measured {
                Err(why) => format!("| {label} | left out: {why} | | | |\n"),
                Ok(measured) => format!(
                    "| {label} | {:.0} | {} | {:.1} µs | {} |\n",
                    measured.rate(),
                    words(&measured.rates),
                    measured.cost_us(),
                    measured.wrong,
                ),
            };
        }
        text += "\n| Towpath to mosquitto | rate | to be reached | processor time |\n\
                 |---|---:|---:|---:|\n";
        for (name, ours, theirs, least) in RATIOS {
            let shown = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.2}"));
            let rate = shown(self.ratio(ours, theirs, Measured::rate));
            let cost = shown(self.ratio(ours, theirs, Measured::cost_us));
            let least = least.map_or_else(|| "-".to_owned(), |least| format!("{least}"));
            text += &format!("| {name} | {rate} | {least} | {cost} |\n");
        }
        let per_s = self.depth.timed_per_s;
        text += &format!(
            "\n| at {per_s} messages a second, QoS 1 | p50 | p99 | p99 of the rounds |\n\
             |---|---:|---:|---|\n| to be reached | | below {P99_US_MAX:.0} µs | |\n"
        );
        for held in &self.held {
            let label = held.system.label();
            text += &match &held.timed {
                Err(why) => format!("| {label} | left out: {why} | | |\n"),
                Ok(timed) => format!(
                    "| {label} | {:.0} µs | {:.0} µs | {} |\n",
                    timed.p50_us,
                    timed.p99_us,
                    words(&timed.p99s_us)
                ),
            };
        }
        text + &self.memory_table()
    }

    fn memory_table(&self) -> String {
        let Depth {
            messages, churns, ..
        } = self.depth;
        let most = GROWN_BYTES_MAX as f64 / MIB;
        let mut text = format!(
            "\n| resident, MiB | at its start | warm | after {messages} messages | after {churns} \
             churns | after {churns} conferences | grown since warm |\n\
             |---|---:|---:|---:|---:|---:|---:|\n| to be reached | | | | | | at most {most} |\n"
        );
        for held in &self.held {
            let label = held.system.label();
            let mib = |bytes: u64| format!("{:.1}", bytes as f64 / MIB);
            text += &match &held.memory {
                Err(why) => format!("| {label} | left out: {why} | | | | | |\n"),
                Ok(memory) => format!(
                    "| {label} | {} | {} | {} | {} | {} | {} |\n",
                    mib(memory.start),
                    mib(memory.warm),
                    mib(memory.messages),
                    mib(memory.churned),
                    memory.conferences.map_or_else(|| "-".to_owned(), mib),
                    mib(memory.grown()),
                ),
            };
        }
        text
    }

    /// Writes `mqtt.json` and `mqtt.md`.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let files = [
            ("mqtt.json", conditions::pretty(&self.json())?),
            ("mqtt.md", self.page()),
        ];
        conditions::write(directory, &files)
    }

    fn page(&self) -> String {
        format!(
            "# MQTT\n\nWritten by `cargo xtask bench mqtt`; the same in [mqtt.json](mqtt.json).\n\n\
             {}\n{}",
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
            "name": name, "label": label, "per_s": measured.rate().round(),
            "rounds": measured.rates.iter().map(|rate| rate.round()).collect::<Vec<_>>(),
            "cpu_us": rounded(measured.cost_us()), "wrong": measured.wrong,
        }),
    }
}

fn held(held: &Held) -> Value {
    let timed = match &held.timed {
        Err(why) => json!({ "left_out": why }),
        Ok(Timed {
            p50_us,
            p99_us,
            p99s_us,
            messages,
            wrong,
        }) => json!({
            "p50_us": rounded(*p50_us), "p99_us": rounded(*p99_us),
            "p99s_us": p99s_us.iter().map(|p99| rounded(*p99)).collect::<Vec<_>>(),
            "messages": messages, "wrong": wrong, "target": P99_US_MAX,
            "reached": *p99_us < P99_US_MAX,
        }),
    };
    let memory = match &held.memory {
        Err(why) => json!({ "left_out": why }),
        Ok(memory) => json!({
            "start": memory.start, "warm": memory.warm, "messages": memory.messages,
            "churned": memory.churned, "conferences": memory.conferences,
            "grown": memory.grown(), "target": GROWN_BYTES_MAX,
            "reached": memory.grown() <= GROWN_BYTES_MAX,
        }),
    };
    let (name, label) = (held.system.name(), held.system.label());
    json!({ "name": name, "label": label, "latency": timed, "memory": memory })
}

fn words(numbers: &[f64]) -> String {
    let words = numbers.iter().map(|number| format!("{number:.0}"));
    words.collect::<Vec<_>>().join(", ")
}
