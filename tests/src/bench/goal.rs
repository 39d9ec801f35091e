//! What the numbers are meant to be, each beside what they are.

use serde_json::{Value, json};

use super::report::MIB;
use super::{Column, Report};

/// A number that should not be below, or not above.
#[derive(Clone, Debug)]
pub(super) struct Goal {
    name: String,
    limit: f64,
    /// It should be at least that; else at most.
    least: bool,
    /// None: what it is taken from is not there.
    measured: Option<f64>,
}

impl Goal {
    fn is_met(&self) -> Option<bool> {
        let met = |measured| match self.least {
            true => measured >= self.limit,
            false => measured <= self.limit,
        };
        self.measured.map(met)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name, "least": self.least, "limit": self.limit,
            "measured": self.measured.map(|m| (m * 1000.0).round() / 1000.0),
            "met": self.is_met(),
        })
    }

    /// A line of the table.
    pub(super) fn line(&self) -> String {
        let Self { name, limit, .. } = self;
        let bound = if self.least { "at least" } else { "at most" };
        let (measured, word) = match (self.measured, self.is_met()) {
            (Some(measured), Some(true)) => (format!("{measured:.2}"), "met"),
            (Some(measured), _) => (format!("{measured:.2}"), "not met"),
            (None, _) => ("not measured".to_owned(), ""),
        };
        format!("| {name}: {bound} {limit} | {measured} | {word} |\n")
    }
}

impl Report {
    pub(super) fn goals(&self) -> Vec<Goal> {
        let of = |column| {
            let row = self.rows.iter().find(|row| row.column == column)?;
            row.measured.as_ref().ok()
        };
        let share = |column| of(column).map(|measured| self.of_limit(measured));
        let times = |column| {
            let other = of(column)?.rate();
            Some(of(Column::Xdp)?.rate() / other.max(1.0))
        };
        let least = |name: &str, limit, measured| Goal {
            name: name.to_owned(),
            limit,
            least: true,
            measured,
        };
        let most = |name: &str, limit, measured| Goal {
            name: name.to_owned(),
            limit,
            least: false,
            measured,
        };
        let cost = |flows, v6, measured| {
            let alike = |c: &&super::Cost| (c.flows, c.v6, c.measured) == (flows, v6, measured);
            self.costs.iter().find(alike).map(|cost| cost.ns)
        };
        let lost = of(Column::Xdp).map(|measured| measured.sustained.lost as f64);
        let (flows, cpus) = (self.memory.flows, self.memory.cpus);
        let memory = (flows == 100_000).then(|| self.memory.on(2) as f64 / MIB);
        vec![
            least("of the bare redirect", 0.92, share(Column::Xdp)),
            least(
                "of it, with loss and jitter kept",
                0.88,
                share(Column::Measured),
            ),
            least("times nftables NAT", 3.4, times(Column::Nftables)),
            least(
                "times rtpengine in userspace",
                20.0,
                times(Column::Rtpengine),
            ),
            most("packets lost at 80 %", 0.0, lost),
            most("ns for one IPv4 flow", 60.0, cost(1, false, false)),
            most("ns for one IPv6 flow", 80.0, cost(1, true, false)),
            most(
                "ns for one IPv4 flow, loss and jitter kept",
                90.0,
                cost(1, false, true),
            ),
            most(
                "ns for one IPv6 flow, loss and jitter kept",
                110.0,
                cost(1, true, true),
            ),
            most(
                "ns for one of 65,536 IPv4 flows",
                120.0,
                cost(65_536, false, false),
            ),
            most(
                &format!("MiB for 100,000 flows on 2 CPUs (of {cpus} here)"),
                64.0,
                memory,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_or_not_or_not_measured() {
        let goal = |least, measured| Goal {
            name: "x".to_owned(),
            limit: 3.4,
            least,
            measured,
        };
        for (goal, expected) in [
            (goal(true, Some(3.5)), "| x: at least 3.4 | 3.50 | met |\n"),
            (
                goal(true, Some(3.3)),
                "| x: at least 3.4 | 3.30 | not met |\n",
            ),
            (goal(false, Some(3.4)), "| x: at most 3.4 | 3.40 | met |\n"),
            (goal(false, None), "| x: at most 3.4 | not measured |  |\n"),
        ] {
            assert_eq!(goal.line(), expected);
        }
    }
}
