//! `cargo xtask bench`: here who forwards media how fast, on the same links, in one run; `sip` has
//! registrations and calls, `mqtt` messages.

pub mod border;
pub mod conditions;
pub mod cost;
mod goal;
mod latency;
mod memory;
pub mod mqtt;
mod path;
mod plot;
pub mod report;
pub mod rtpengine;
pub mod sip;
mod stand;
mod throughput;
mod userspace;

use std::time::Duration;

use anyhow::Result;

pub use self::border::Border;
pub use self::cost::Cost;
pub use self::latency::{LOADS, Latency};
pub use self::memory::Memory;
pub use self::report::Report;
use self::stand::Stand;
pub use self::stand::{Column, Programs};
use self::throughput::Effort;
pub use self::throughput::{SHARE, Sustained};

/// How thorough.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    columns: &'static [Column],
    /// Of columns the kernel forwards.
    rounds: u32,
    /// Of columns a process forwards; each takes seconds.
    process_rounds: u32,
    effort: Effort,
    latency_packets: u32,
    latency_time: Duration,
    /// Numbers of flows the program's cost is taken for.
    flows: &'static [u32],
    cost_runs: u32,
    memory_flows: u32,
}

impl Depth {
    pub const FULL: Self = Self {
        columns: &Column::ALL,
        rounds: 25,
        process_rounds: 5,
        effort: Effort::FULL,
        latency_packets: 5_000,
        latency_time: Duration::from_secs(3),
        flows: &[1, 1_000, 10_000, 65_536, 100_000],
        cost_runs: 2_000,
        memory_flows: 100_000,
    };
    /// Shows that everything runs; the numbers say little.
    pub const QUICK: Self = Self {
        columns: &Column::ALL,
        rounds: 3,
        process_rounds: 1,
        effort: Effort::QUICK,
        latency_packets: 200,
        latency_time: Duration::from_millis(100),
        flows: &[1, 1_000],
        cost_runs: 200,
        memory_flows: 100_000,
    };
    /// The columns that need nothing but the kernel.
    pub const KERNEL: Self = Self {
        columns: &[
            Column::Redirect,
            Column::Xdp,
            Column::Measured,
            Column::Forward,
            Column::Nftables,
        ],
        ..Self::QUICK
    };
}

/// One column's results, or why there are none.
#[derive(Clone, Debug)]
pub struct Row {
    pub column: Column,
    pub measured: Result<Measured, String>,
}

#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Packets a second without loss, in each round.
    pub rates: Vec<f64>,
    pub lost: u64,
    /// At 80 % of the rate.
    pub sustained: Sustained,
    pub latency: Latency,
    /// At each of `LOADS`.
    pub loaded: Vec<Latency>,
}

impl Measured {
    /// The median of all rounds.
    #[must_use]
    pub fn rate(&self) -> f64 {
        median(&mut self.rates.clone())
    }
}

/// Measures all columns in turns, then the program alone. `say` is told what is under way.
///
/// # Errors
/// No root, or a kernel without what is needed. A column that cannot be set up is left out, with
/// the reason.
pub fn run(programs: &Programs, depth: Depth, say: &dyn Fn(&str)) -> Result<Report> {
    let before = report::conditions()?;
    let mut rows: Vec<(Row, Option<Stand>)> = Vec::new();
    for column in depth.columns.iter().copied() {
        say(&format!("set up {}", column.label()));
        let (measured, stand) = match Stand::raise(column, programs) {
            Ok(stand) => (Ok(Measured::default()), Some(stand)),
            Err(error) => (Err(format!("{error:#}")), None),
        };
        rows.push((Row { column, measured }, stand));
    }
    for round in 0..depth.rounds {
        say(&format!("round {} of {}", round + 1, depth.rounds));
        for (row, stand) in &mut rows {
            let (Ok(measured), Some(stand)) = (&mut row.measured, stand) else {
                continue;
            };
            if row.column.has_process() && round >= depth.process_rounds {
                continue;
            }
            let rate = throughput::measure(stand, depth.effort)?;
            measured.rates.push(rate.packets_per_s);
            measured.lost += rate.lost;
        }
    }
    for (row, stand) in &mut rows {
        if let (Ok(measured), Some(stand)) = (&mut row.measured, stand) {
            say(&format!("80 % of what it carries: {}", row.column.label()));
            stand.wake(programs)?;
            measured.sustained = throughput::sustain(stand, measured.rate(), depth.effort)?;
            say(&format!("latency of {}", row.column.label()));
            (measured.latency, measured.loaded) =
                latency::measure(stand, depth.latency_packets, depth.latency_time)?;
        }
    }
    let rows: Vec<Row> = rows.into_iter().map(|(row, _)| row).collect();
    say("the program alone");
    let costs = cost::measure(programs, depth.flows, depth.cost_runs)?;
    let border = border::measure(programs, depth.cost_runs)?;
    let memory = memory::measure(programs, depth.memory_flows)?;
    Ok(Report {
        conditions: before,
        rows,
        costs,
        border,
        memory,
    })
}

/// What the program alone costs, for each number of flows.
///
/// # Errors
/// As `run`.
pub fn cost(programs: &Programs, depth: Depth) -> Result<(Vec<Cost>, Border)> {
    let costs = cost::measure(programs, depth.flows, depth.cost_runs)?;
    Ok((costs, border::measure(programs, depth.cost_runs)?))
}

/// The middle one; zero of none.
fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, reason = "a place in a slice")]
    let place = (values.len() as f64 * part) as usize;
    values.get(place).copied().unwrap_or_default()
}
