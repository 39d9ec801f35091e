//! What came of a run: JSON, a table, plots.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::border::BANS;
use super::conditions::{self, Conditions};
use super::goal::Goal;
use super::{
    Border, Column, Cost, LOADS, Measured, Memory, Row, SHARE, Sustained, plot, rtpengine,
};

/// A whole run.
#[derive(Clone, Debug)]
pub struct Report {
    pub conditions: Conditions,
    pub rows: Vec<Row>,
    pub costs: Vec<Cost>,
    pub border: Border,
    pub memory: Memory,
}

/// Grows when a member changes its meaning.
const VERSION: u32 = 2;
const NOTES: [&str; 9] = [
    "source, relay and sink are three network namespaces joined by veth pairs; all work of a \
     column is done by one core, making and counting the packets included",
    "frames of 214 bytes: G.711, 20 ms, with whole UDP checksums; one stream",
    "columns take turns in every round; the median of the rounds counts; packets that \
     were lost on the way are not counted in a rate, and said",
    "kernel columns are fed by live frames of BPF_PROG_TEST_RUN in batches of 64, processes by a \
     packet socket in bursts of 32, at the highest rate that loses nothing",
    "at 80 % of its rate a column is fed for eight rounds: the kernel in runs of 20,000 at full \
     speed with rests between, a process in bursts of 32",
    "latency is taken from socket to socket, a process on a core of its own, one packet at a time \
     and at steady loads; under load it counts from when a packet was due",
    "cost is taken by BPF_PROG_TEST_RUN, 250 packets a run, a program that does nothing taken off",
    "looking up alone is a program that finds the port, the flow and its counters in tables of the \
     same size, reads both cache lines of the flow, counts one packet, and checks and sends \
     nothing: what memory takes on this machine, and no forwarder with these tables can be below",
    "every packet names the flow of the next, so that the processor cannot fetch ahead: with many \
     flows the cost is the time memory takes to answer, one packet after the other",
];

/// Read before a run begins.
pub(super) fn conditions() -> Result<Conditions> {
    let rtpengine = rtpengine::version().unwrap_or_else(|error| format!("{error:#}"));
    Conditions::read(vec![("rtpengine", rtpengine)], &NOTES)
}

impl Report {
    /// The document `datapath.json` holds.
    #[must_use]
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(|row| self.row(row)).collect();
        let maps: serde_json::Map<String, Value> = self
            .memory
            .maps
            .iter()
            .map(|(name, bytes)| (name.clone(), json!(bytes)))
            .collect();
        json!({
            "version": VERSION,
            "conditions": self.conditions.json(),
            "columns": rows,
            "cost": costs_json(&self.costs),
            "border": border_json(&self.border),
            "memory": {
                "flows": self.memory.flows, "cpus": self.memory.cpus, "maps": maps,
                "bytes": self.memory.bytes(),
                "bytes_per_flow": rounded(self.bytes_per_flow()),
                "bytes_per_cpu": self.memory.per_cpu / (self.memory.cpus as u64).max(1),
                "bytes_on_64_cpus": self.memory.on(64),
            },
            "goals": self.goals().iter().map(Goal::json).collect::<Vec<_>>(),
        })
    }

    fn row(&self, row: &Row) -> Value {
        let (name, label) = (row.column.name(), row.column.label());
        match &row.measured {
            Err(why) => json!({ "name": name, "label": label, "left_out": why }),
            Ok(measured) => {
                let latency = measured.latency;
                json!({
                    "name": name, "label": label,
                    "packets_per_s": measured.rate().round(),
                    "ns_per_packet": rounded(1e9 / measured.rate().max(1.0)),
                    "of_limit": ratio(self.of_limit(measured)),
                    "rounds": measured.rates.iter().map(|r| r.round()).collect::<Vec<_>>(),
                    "lost": measured.lost,
                    "sustained": {
                        "share": SHARE, "packets_per_s": measured.sustained.packets_per_s.round(),
                        "packets": measured.sustained.packets, "lost": measured.sustained.lost,
                    },
                    "latency_under_load_ns": loaded(measured),
                    "latency_ns": {
                        "p50": latency.p50, "p90": latency.p90, "p99": latency.p99,
                        "p99_9": latency.p999, "packets": latency.packets, "lost": latency.lost,
                    },
                    "added_latency_ns": {
                        "p50": self.added(measured, |l| l.p50),
                        "p99": self.added(measured, |l| l.p99),
                    },
                })
            }
        }
    }

    /// The table, in Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| column | packets/s, one core | ns/packet | of bare redirect | latency p50 / p99 | \
             added p50 / p99 |\n|---|---:|---:|---:|---:|---:|\n",
        );
        for row in &self.rows {
            let label = row.column.label();
            match &row.measured {
                Err(why) => text += &format!("| {label} | left out: {why} | | | | |\n"),
                Ok(measured) => {
                    let lost = match measured.lost {
                        0 => String::new(),
                        lost => format!(" ({lost} lost)"),
                    };
                    text += &format!(
                        "| {label}{lost} | {:.0} | {:.0} | {:.3} | {} / {} µs | {} / {} µs |\n",
                        measured.rate(),
                        1e9 / measured.rate().max(1.0),
                        self.of_limit(measured),
                        micro(measured.latency.p50 as i64),
                        micro(measured.latency.p99 as i64),
                        micro(self.added(measured, |l| l.p50)),
                        micro(self.added(measured, |l| l.p99)),
                    );
                }
            }
        }
        text += &self.loads();
        text += &costs(&self.costs);
        text += &border(&self.border);
        let memory = &self.memory;
        text += &format!(
            "\n{} flows take {:.1} MiB of maps on {} CPUs, {:.0} bytes each.\n",
            memory.flows,
            memory.bytes() as f64 / MIB,
            memory.cpus,
            self.bytes_per_flow()
        );
        text += &format!(
            "Of that, {:.1} MiB are counters that every CPU has its own of: on 16 CPUs the same \
             tables take {:.0} MiB, on 64 {:.0} MiB. Room for fewer flows (`datapath.flows`) takes \
             in proportion.\n\n| goal | measured | |\n|---|---:|---|\n",
            memory.per_cpu as f64 / MIB,
            memory.on(16) as f64 / MIB,
            memory.on(64) as f64 / MIB,
        );
        for goal in self.goals() {
            text += &goal.line();
        }
        text
    }

    /// What becomes of packets under load.
    fn loads(&self) -> String {
        let mut text = String::from("\n| column | lost at 80 % |");
        for load in LOADS {
            text += &format!(" p50 / p99 at {load}/s |");
        }
        text += "\n|---|---:|---:|---:|---:|\n";
        for row in &self.rows {
            let Ok(measured) = &row.measured else {
                continue;
            };
            let Sustained { packets, lost, .. } = measured.sustained;
            text += &format!("| {} | {lost} of {packets} |", row.column.label());
            for latency in &measured.loaded {
                let lost = match latency.lost {
                    0 => String::new(),
                    lost => format!(", {lost} lost"),
                };
                let (p50, p99) = (micro(latency.p50 as i64), micro(latency.p99 as i64));
                text += &format!(" {p50} / {p99} µs{lost} |");
            }
            text.push('\n');
        }
        text
    }

    /// Writes `datapath.json`, `datapath.md` and the plots.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let files = [
            ("datapath.json", conditions::pretty(&self.json())?),
            ("datapath.md", self.page()),
            ("datapath-rate.svg", plot::rates(self)),
            ("datapath-cost.svg", plot::costs(&self.costs)),
        ];
        conditions::write(directory, &files)
    }

    fn page(&self) -> String {
        format!(
            "# Data plane\n\nWritten by `cargo xtask bench datapath`; the same in \
             [datapath.json](datapath.json).\n\n{}\n![packets per second](datapath-rate.svg)\n\n\
             ![cost by flows](datapath-cost.svg)\n\n{}",
            self.table(),
            self.conditions.section()
        )
    }

    /// Median of the ratios to the bare redirect of the same round.
    #[must_use]
    pub fn of_limit(&self, measured: &Measured) -> f64 {
        let limit = self.limit();
        let ratios = measured.rates.iter().zip(&limit.rates);
        super::median(
            &mut ratios
                .map(|(own, limit)| own / limit.max(1.0))
                .collect::<Vec<_>>(),
        )
    }

    fn added(&self, measured: &Measured, of: fn(&super::Latency) -> u64) -> i64 {
        of(&measured.latency) as i64 - of(&self.limit().latency) as i64
    }

    fn limit(&self) -> Measured {
        let row = self.rows.iter().find(|r| r.column == Column::Redirect);
        row.and_then(|r| r.measured.clone().ok())
            .unwrap_or_default()
    }

    fn bytes_per_flow(&self) -> f64 {
        self.memory.bytes() as f64 / f64::from(self.memory.flows.max(1))
    }
}

pub(super) const MIB: f64 = 1_048_576.0;

/// What the program costs, and what looking up alone does.
#[must_use]
pub fn costs(costs: &[Cost]) -> String {
    let mut text = String::from(
        "\n| flows, hit at random | IPv4, ns above nop | of that, looking up alone | IPv6 | IPv4, \
         loss and jitter kept | IPv6 |\n|---:|---:|---:|---:|---:|---:|\n",
    );
    let cost = |flows, v6, measured| {
        let alike = |c: &&Cost| (c.flows, c.v6, c.measured) == (flows, v6, measured);
        costs.iter().find(alike).map_or(0.0, |cost| cost.ns)
    };
    for first in costs.iter().filter(|c| !c.v6 && !c.measured) {
        let flows = first.flows;
        text += &format!(
            "| {flows} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
            first.ns,
            first.floor_ns.unwrap_or_default(),
            cost(flows, true, false),
            cost(flows, false, true),
            cost(flows, true, true)
        );
    }
    text
}

/// What bans cost.
#[must_use]
pub fn border(border: &Border) -> String {
    let Border {
        without_ns,
        others_ns,
        banned_ns,
    } = border;
    format!(
        "\nA packet to SIP's port takes {without_ns:.0} ns above nop to pass to the stack, and \
         {others_ns:.0} ns with {BANS} others banned; that of a banned sender is dropped after \
         {banned_ns:.0} ns. Packets of flows are not looked up.\n"
    )
}

/// The same for `datapath.json`.
#[must_use]
pub fn border_json(border: &Border) -> Value {
    json!({
        "bans": BANS, "without_ns": rounded(border.without_ns),
        "others_ns": rounded(border.others_ns), "banned_ns": rounded(border.banned_ns),
    })
}

/// The same for `datapath.json`.
#[must_use]
pub fn costs_json(costs: &[Cost]) -> Value {
    let one = |cost: &Cost| {
        json!({
            "family": family(cost.v6), "measured": cost.measured, "flows": cost.flows,
            "ns": rounded(cost.ns), "ns_p10": rounded(cost.ns_p10),
            "nop_ns": rounded(cost.nop_ns), "floor_ns": cost.floor_ns.map(rounded),
        })
    };
    costs.iter().map(one).collect()
}

/// Each load with its percentiles.
fn loaded(measured: &Measured) -> Vec<Value> {
    let one = |(load, latency): (&u32, &super::Latency)| {
        json!({
            "packets_per_s": load, "p50": latency.p50, "p90": latency.p90, "p99": latency.p99,
            "p99_9": latency.p999, "packets": latency.packets, "lost": latency.lost,
        })
    };
    LOADS.iter().zip(&measured.loaded).map(one).collect()
}

fn family(v6: bool) -> &'static str {
    if v6 { "ipv6" } else { "ipv4" }
}

pub(super) fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

pub(super) fn ratio(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn micro(ns: i64) -> String {
    format!("{:.1}", ns as f64 / 1000.0)
}
