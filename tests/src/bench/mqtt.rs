//! `cargo xtask bench mqtt`: messages a second, latency and memory of our edge, beside mosquitto
//! under the same load in one run. It needs a network of its own with nothing but loopback.

mod churn;
mod generator;
mod report;
mod system;

use std::time::Duration;

use anyhow::Result;

pub use self::generator::{Load, Outcome, Pace};
pub use self::report::Report;
use self::system::Running;
pub use self::system::System;
use super::{median, quantile};

/// One that is measured: whose rate, under what load.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// In the JSON.
    pub name: &'static str,
    pub label: &'static str,
    pub system: System,
    pub load: Load,
}

const fn column(name: &'static str, label: &'static str, system: System, load: Load) -> Column {
    Column {
        name,
        label,
        system,
        load,
    }
}

pub const COLUMNS: [Column; 6] = {
    use System::{Mosquitto, Towpath};
    let fan = Load {
        topics: 1,
        readers: 20,
        ..Load::PAIRS
    };
    let swift = Load {
        qos: 0,
        ..Load::PAIRS
    };
    let (ours, theirs) = (Towpath, Mosquitto);
    [
        column("qos1-towpath", "QoS 1, Towpath", ours, Load::PAIRS),
        column("qos1-mosquitto", "QoS 1, mosquitto", theirs, Load::PAIRS),
        column("qos0-towpath", "QoS 0, Towpath", ours, swift),
        column("qos0-mosquitto", "QoS 0, mosquitto", theirs, swift),
        column("fan-towpath", "QoS 1, 20 receivers, Towpath", ours, fan),
        column(
            "fan-mosquitto",
            "QoS 1, 20 receivers, mosquitto",
            theirs,
            fan,
        ),
    ]
};

/// How thorough.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    rounds: u32,
    /// Of one trial.
    time: Duration,
    timed_rounds: u32,
    timed: Duration,
    /// Messages a second at which latency is taken.
    pub timed_per_s: u32,
    /// Published while memory is watched.
    pub messages: u64,
    /// Conferences that come and go while memory is watched.
    pub churns: u32,
}

impl Depth {
    pub const FULL: Self = Self {
        rounds: 7,
        time: Duration::from_secs(3),
        timed_rounds: 5,
        timed: Duration::from_secs(5),
        timed_per_s: 20_000,
        messages: 1_000_000,
        churns: 20_000,
    };
    /// Shows that everything runs; the numbers say little.
    pub const QUICK: Self = Self {
        rounds: 1,
        time: Duration::from_millis(300),
        timed_rounds: 1,
        timed: Duration::from_millis(500),
        timed_per_s: 1_000,
        messages: 5_000,
        churns: 50,
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
    /// Messages a second that arrived, in each round.
    pub rates: Vec<f64>,
    /// Processor time of the broker for each, in microseconds.
    pub costs_us: Vec<f64>,
    /// Lost, repeated or in the wrong order.
    pub wrong: u64,
}

impl Measured {
    #[must_use]
    pub fn rate(&self) -> f64 {
        median(&mut self.rates.clone())
    }

    #[must_use]
    pub fn cost_us(&self) -> f64 {
        median(&mut self.costs_us.clone())
    }
}

/// Of one system; none where it could not be measured.
#[derive(Clone, Debug)]
pub struct Held {
    pub system: System,
    pub timed: Result<Timed, String>,
    pub memory: Result<Memory, String>,
}

/// How long messages took at a steady rate, from when each was due; the median of all rounds.
#[derive(Clone, Debug, Default)]
pub struct Timed {
    pub p50_us: f64,
    pub p99_us: f64,
    /// Of each round.
    pub p99s_us: Vec<f64>,
    pub messages: u64,
    pub wrong: u64,
}

/// Resident bytes of the broker's process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub start: u64,
    /// After a tenth of the messages: what it needs for the load itself is there.
    pub warm: u64,
    pub messages: u64,
    /// After topics of conferences that came and went.
    pub churned: u64,
    /// After conferences of its own that came and went; Towpath alone has any.
    pub conferences: Option<u64>,
}

impl Memory {
    /// By how much it grew once it was warm.
    #[must_use]
    pub fn grown(&self) -> u64 {
        let end = self.conferences.unwrap_or(self.churned);
        end.max(self.messages).saturating_sub(self.warm)
    }
}

/// Measures all columns in turns. `say` is told what is under way.
///
/// # Errors
/// The machine's conditions cannot be read. A column that cannot be measured is left out, with the
/// reason.
pub fn run(depth: Depth, say: &dyn Fn(&str)) -> Result<Report> {
    let conditions = report::conditions()?;
    let mut rows: Vec<Row> = COLUMNS
        .iter()
        .map(|column| Row {
            column: *column,
            measured: Ok(Measured::default()),
        })
        .collect();
    for round in 0..depth.rounds {
        say(&format!("round {} of {}", round + 1, depth.rounds));
        for row in &mut rows {
            let Ok(measured) = &mut row.measured else {
                continue;
            };
            if let Err(error) = trial(row.column, depth, measured, say) {
                row.measured = Err(format!("{error:#}"));
            }
        }
    }
    let said = |error: anyhow::Error| format!("{error:#}");
    let timed = timed(depth, say).map(|result| result.map_err(said));
    let held = System::BOTH.into_iter().zip(timed).map(|(system, timed)| {
        say(&format!("{}: memory", system.label()));
        Held {
            system,
            timed,
            memory: memory(system, depth).map_err(said),
        }
    });
    Ok(Report {
        conditions,
        rows,
        held: held.collect(),
        depth,
    })
}

/// One column in one round, with a broker that has just been started.
fn trial(column: Column, depth: Depth, measured: &mut Measured, say: &dyn Fn(&str)) -> Result<()> {
    let running = Running::start(column.system)?;
    let before = running.processor_time()?;
    let pace = Pace::Time(depth.time);
    let outcome = generator::run(running.address(), column.load, pace)?;
    let spent = running.processor_time()?.saturating_sub(before);
    let rate = outcome.rate();
    let cost_us = spent.as_secs_f64() * 1e6 / (outcome.arrived.max(1) as f64);
    let (label, wrong) = (column.label, outcome.wrong());
    say(&format!(
        "{label}: {rate:.0}/s, {cost_us:.1} µs each, {wrong} wrong"
    ));
    measured.rates.push(rate);
    measured.costs_us.push(cost_us);
    measured.wrong += wrong;
    Ok(())
}

/// Latency of both, in turns.
fn timed(depth: Depth, say: &dyn Fn(&str)) -> [Result<Timed>; 2] {
    let mut found = System::BOTH.map(|_| Ok((Timed::default(), Vec::new())));
    for _ in 0..depth.timed_rounds {
        for (system, found) in System::BOTH.into_iter().zip(&mut found) {
            let Ok((timed, p50s)) = found else { continue };
            if let Err(error) = timed_round(system, depth, timed, p50s, say) {
                *found = Err(error);
            }
        }
    }
    found.map(|found| {
        let (mut timed, mut p50s) = found?;
        timed.p50_us = median(&mut p50s);
        timed.p99_us = median(&mut timed.p99s_us.clone());
        Ok(timed)
    })
}

fn timed_round(
    system: System,
    depth: Depth,
    timed: &mut Timed,
    p50s: &mut Vec<f64>,
    say: &dyn Fn(&str),
) -> Result<()> {
    let running = Running::start(system)?;
    let pace = Pace::Rate(depth.timed_per_s, depth.timed);
    let mut outcome = generator::run(running.address(), Load::PAIRS, pace)?;
    let p50 = quantile(&mut outcome.waits_us, 0.5);
    let p99 = quantile(&mut outcome.waits_us, 0.99);
    let (label, per_s) = (system.label(), depth.timed_per_s);
    say(&format!(
        "{label}: at {per_s}/s p50 {p50:.0} µs, p99 {p99:.0} µs"
    ));
    p50s.push(p50);
    timed.p99s_us.push(p99);
    timed.messages += outcome.arrived;
    timed.wrong += outcome.wrong();
    Ok(())
}

fn memory(system: System, depth: Depth) -> Result<Memory> {
    let running = Running::start(system)?;
    let mut memory = Memory {
        start: running.resident()?,
        ..Memory::default()
    };
    let send = |messages| generator::run(running.address(), Load::PAIRS, Pace::Messages(messages));
    let tenth = depth.messages / 10;
    send(tenth)?;
    churn::topics(running.address(), depth.churns / 10)?;
    if system == System::Towpath {
        churn::conferences(running.socket(), depth.churns / 10)?;
    }
    memory.warm = running.resident()?;
    send(depth.messages - tenth)?;
    memory.messages = running.resident()?;
    churn::topics(running.address(), depth.churns)?;
    memory.churned = running.resident()?;
    if system == System::Towpath {
        churn::conferences(running.socket(), depth.churns)?;
        memory.conferences = Some(running.resident()?);
    }
    Ok(memory)
}
