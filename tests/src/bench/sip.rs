//! `cargo xtask bench sip`: registrations and calls a second, beside Kamailio on the same cores in
//! one run.

pub mod api;
mod latency;
mod load;
mod report;
mod search;
mod server;
mod site;

use std::time::Duration;

use anyhow::{Context, Result};

pub use self::latency::Added;
use self::latency::Captures;
use self::load::{Callee, Load, Users};
pub use self::load::{Outcome, Work};
pub use self::report::Report;
use self::server::Server;
pub use self::server::System;
use self::site::Site;
pub(super) use self::site::user_and_system;
use super::{Programs, median};
use crate::clock;

/// One that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// In the JSON.
    pub name: &'static str,
    pub label: &'static str,
    pub work: Work,
    pub system: System,
    /// Where the first search begins, a second.
    start: u32,
}

const fn column(
    name: &'static str,
    label: &'static str,
    work: Work,
    system: System,
    start: u32,
) -> Column {
    Column {
        name,
        label,
        work,
        system,
        start,
    }
}

pub const COLUMNS: [Column; 8] = {
    use System::{Kamailio, KamailioWithRtpengine, Towpath};
    use Work::{Call, Register, RegisterMd5};
    let two = Kamailio { workers: 2 };
    [
        column(
            "register-towpath",
            "REGISTER, Towpath",
            Register,
            Towpath,
            12_000,
        ),
        column(
            "register-kamailio",
            "REGISTER, Kamailio, 2 workers",
            Register,
            two,
            10_000,
        ),
        column(
            "md5-towpath",
            "REGISTER with MD5, Towpath",
            RegisterMd5,
            Towpath,
            6_000,
        ),
        column(
            "md5-kamailio",
            "REGISTER with MD5, Kamailio, 2 workers",
            RegisterMd5,
            two,
            5_500,
        ),
        column(
            "calls-towpath",
            "calls, anchored, Towpath",
            Call,
            Towpath,
            1_500,
        ),
        column(
            "calls-rtpengine",
            "calls, anchored, Kamailio and rtpengine",
            Call,
            KamailioWithRtpengine,
            450,
        ),
        column(
            "calls-kamailio-1",
            "calls, not anchored, Kamailio, 1 worker",
            Call,
            Kamailio { workers: 1 },
            1_500,
        ),
        column(
            "calls-kamailio-2",
            "calls, not anchored, Kamailio, 2 workers",
            Call,
            two,
            2_000,
        ),
    ]
};

/// How thorough.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    rounds: u32,
    /// Of one trial.
    seconds: u32,
    /// Trials of a column's first search, and of each later one.
    steps: [u32; 2],
    /// Seconds of calls whose requests are timed.
    timed_s: u32,
    bindings: u32,
    calls: u32,
    /// How long after the last of them memory is read.
    rest: Duration,
    /// Calls a second that must not fail, for how long.
    fixed_s: u32,
}

impl Depth {
    pub const FULL: Self = Self {
        rounds: 3,
        seconds: 3,
        steps: [6, 3],
        timed_s: 10,
        bindings: 50_000,
        calls: 5_000,
        // The longest transaction is kept for 32 s (RFC 3261 §17.1.2.2).
        rest: Duration::from_secs(34),
        fixed_s: 6,
    };
    /// Shows that everything runs; the numbers say little.
    pub const QUICK: Self = Self {
        rounds: 1,
        seconds: 1,
        steps: [3, 1],
        timed_s: 2,
        bindings: 5_000,
        calls: 500,
        rest: Duration::ZERO,
        fixed_s: 1,
    };
}

/// Everybody that is registered in a search for a rate; then they register again.
const USERS: Users = Users(20_000);
/// Each has an account.
const USERS_MD5: Users = Users(2_000);
/// Calls a second at which requests are timed.
const TIMED_PER_S: u32 = 500;
/// Calls a second that Towpath has to carry.
pub const FIXED_PER_S: u32 = 2_000;
/// Registrations and calls a second while memory is filled.
const FILL_PER_S: u32 = 2_000;
const FILL_CALLS_PER_S: u32 = 400;
/// How long calls stand that are counted: longer than it takes to set them up.
const STAND: Duration = Duration::from_secs(60);
/// How much longer a trial may take than it was asked for.
const LATE: Duration = Duration::from_millis(750);

/// One column's results, or why there are none.
#[derive(Clone, Debug)]
pub struct Row {
    pub column: Column,
    pub measured: Result<Measured, String>,
}

#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// The highest rate without a failure, in each round; zero where none held.
    pub rates: Vec<f64>,
    /// Processor time of the edge for one operation at that rate, in microseconds.
    pub costs_us: Vec<f64>,
    /// At those rates.
    pub retransmitted: u64,
    pub operations: u64,
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
    pub name: &'static str,
    pub label: &'static str,
    pub added: Result<Added, String>,
    pub bytes_per_binding: Result<f64, String>,
    pub bytes_per_call: Result<f64, String>,
}

struct Trial {
    outcome: Outcome,
    cost_us: f64,
    holds: bool,
}

/// Measures all columns in turns. `say` is told what is under way.
///
/// # Errors
/// No root. A column that cannot be set up is left out, with the reason.
pub fn run(programs: &Programs, depth: Depth, say: &dyn Fn(&str)) -> Result<Report> {
    let conditions = report::conditions()?;
    let bench = Bench {
        site: Site::lay()?,
        programs,
        depth,
        say,
    };
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
            if let Err(error) = bench.round(row.column, measured) {
                row.measured = Err(format!("{error:#}"));
            }
        }
    }
    let fixed = bench.fixed().map_err(|error| format!("{error:#}"));
    let held = [
        ("towpath", "Towpath", System::Towpath),
        (
            "kamailio",
            "Kamailio and rtpengine",
            System::KamailioWithRtpengine,
        ),
    ]
    .map(|(name, label, system)| bench.held(name, label, system));
    Ok(Report {
        conditions,
        rows,
        fixed,
        held: held.to_vec(),
    })
}

struct Bench<'a> {
    site: Site,
    programs: &'a Programs,
    depth: Depth,
    say: &'a dyn Fn(&str),
}

impl Bench<'_> {
    /// The highest rate of one column; a later round begins where the former ones ended.
    fn round(&self, column: Column, measured: &mut Measured) -> Result<()> {
        let [first, later] = self.depth.steps;
        let (start, steps) = match measured.rate() {
            rate if rate > 0.0 => (rate, later),
            _ => (f64::from(column.start), first),
        };
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate, small and positive"
        )]
        let start = search::rung(start as u32);
        let mut best: Option<(u32, Trial)> = None;
        search::highest(start, steps, |rung| {
            let rate = search::rate(rung);
            let trial = self.trial(column, rate, self.depth.seconds)?;
            let holds = trial.holds;
            let Outcome { done, failed, .. } = trial.outcome;
            (self.say)(&format!(
                "{}: {rate}/s: {done} done, {failed} failed, {} retransmitted, {:.2} s, {:.0} µs \
                 each{}",
                column.label,
                trial.outcome.retransmitted,
                trial.outcome.took.as_secs_f64(),
                trial.cost_us,
                if holds { "" } else { ": too many" },
            ));
            if holds && best.as_ref().is_none_or(|(best, _)| rate > *best) {
                best = Some((rate, trial));
            }
            Ok(holds)
        })?;
        let (rate, trial) = best.context("no rate without a failed one was found")?;
        measured.rates.push(rate.into());
        measured.costs_us.push(trial.cost_us);
        measured.retransmitted += trial.outcome.retransmitted;
        measured.operations += trial.outcome.done;
        Ok(())
    }

    /// One rate, against a server that has just been started.
    fn trial(&self, column: Column, per_s: u32, seconds: u32) -> Result<Trial> {
        let Column { work, system, .. } = column;
        let users = match work {
            Work::RegisterMd5 => USERS_MD5,
            Work::Register | Work::Call => USERS,
        };
        let _server = Server::start(system, work, users, &self.site, self.programs)?;
        let _callee = work
            .is_call()
            .then(|| Callee::start(&self.site))
            .transpose()?;
        let before = self.site.processor_time()?;
        let load = Load {
            work,
            per_s,
            operations: per_s * seconds,
            hold: Duration::ZERO,
        };
        let outcome = load.start(&self.site, users)?.finish()?;
        let spent = self.site.processor_time()?.saturating_sub(before);
        let limit = Duration::from_secs(seconds.into()) + LATE;
        let whole = outcome.done == u64::from(load.operations) && outcome.failed == 0;
        Ok(Trial {
            outcome,
            cost_us: spent.as_secs_f64() * 1e6 / (outcome.done.max(1) as f64),
            holds: whole && outcome.took <= limit,
        })
    }

    /// What Towpath has to carry.
    fn fixed(&self) -> Result<Outcome> {
        let column = COLUMNS
            .into_iter()
            .find(|c| c.work == Work::Call && c.system == System::Towpath);
        let column = column.context("no column of Towpath's calls")?;
        (self.say)(&format!("{}: {FIXED_PER_S}/s", column.label));
        let trial = self.trial(column, FIXED_PER_S, self.depth.fixed_s)?;
        Ok(trial.outcome)
    }

    fn held(&self, name: &'static str, label: &'static str, system: System) -> Held {
        let said = |error: anyhow::Error| format!("{error:#}");
        (self.say)(&format!("{label}: latency"));
        let added = self.added(system).map_err(said);
        (self.say)(&format!("{label}: memory"));
        let bytes_per_binding = self.bytes_per_binding(system).map_err(said);
        let bytes_per_call = self.bytes_per_call(system).map_err(said);
        Held {
            name,
            label,
            added,
            bytes_per_binding,
            bytes_per_call,
        }
    }

    fn added(&self, system: System) -> Result<Added> {
        let _server = Server::start(system, Work::Call, USERS, &self.site, self.programs)?;
        let _callee = Callee::start(&self.site)?;
        let captures = Captures::start(&self.site)?;
        let load = Load {
            work: Work::Call,
            per_s: TIMED_PER_S,
            operations: TIMED_PER_S * self.depth.timed_s,
            hold: Duration::ZERO,
        };
        load.start(&self.site, USERS)?.finish()?;
        captures.finish()
    }

    fn bytes_per_binding(&self, system: System) -> Result<f64> {
        // Registrations never meet rtpengine.
        let system = match system {
            System::KamailioWithRtpengine => System::Kamailio { workers: 2 },
            System::Towpath | System::Kamailio { .. } => system,
        };
        let users = Users(self.depth.bindings);
        let _server = Server::start(system, Work::Register, users, &self.site, self.programs)?;
        let before = self.site.memory_bytes()?;
        let load = Load {
            work: Work::Register,
            per_s: FILL_PER_S,
            operations: users.0,
            hold: Duration::ZERO,
        };
        let outcome = load.start(&self.site, users)?.finish()?;
        clock::wait_until(clock::now() + self.depth.rest);
        let grown = self.site.memory_bytes()?.saturating_sub(before);
        Ok(grown as f64 / outcome.done.max(1) as f64)
    }

    fn bytes_per_call(&self, system: System) -> Result<f64> {
        let _server = Server::start(system, Work::Call, USERS, &self.site, self.programs)?;
        let _callee = Callee::start(&self.site)?;
        let before = self.site.memory_bytes()?;
        let calls = u64::from(self.depth.calls);
        let load = Load {
            work: Work::Call,
            per_s: FILL_CALLS_PER_S,
            operations: self.depth.calls,
            hold: STAND,
        };
        let running = load.start(&self.site, USERS)?;
        running.stand(calls)?;
        clock::wait_until(clock::now() + self.depth.rest);
        let grown = self.site.memory_bytes()?.saturating_sub(before);
        Ok(grown as f64 / calls as f64)
    }
}
