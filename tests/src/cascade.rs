//! Servers that share conferences, in virtual time: frames between them are lost, doubled,
//! delayed and reordered, links break, servers start again. What must never happen is looked for at
//! every step.

mod server;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use control::cascade::Reason;

pub use world::run;

/// Who is linked to whom; the first of a pair is the lower one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wiring {
    Pair,
    /// Two below one.
    Tree,
    /// One below one below one.
    Chain,
    /// Each below the next, on purpose.
    Ring,
}

impl Wiring {
    pub const ALL: [Self; 4] = [Self::Pair, Self::Tree, Self::Chain, Self::Ring];

    #[must_use]
    pub fn links(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Pair => &[("edge-01", "core-01")],
            Self::Tree => &[("edge-01", "core-01"), ("edge-02", "core-01")],
            Self::Chain => &[("edge-01", "edge-02"), ("edge-02", "core-01")],
            Self::Ring => &[
                ("edge-01", "edge-02"),
                ("edge-02", "core-01"),
                ("core-01", "edge-01"),
            ],
        }
    }

    #[must_use]
    pub fn servers(self) -> &'static [&'static str] {
        match self {
            Self::Pair => &["core-01", "edge-01"],
            Self::Tree | Self::Chain | Self::Ring => &["core-01", "edge-01", "edge-02"],
        }
    }
}

/// What is done to the servers.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub wiring: Wiring,
    /// Of trouble; after it everything has to heal.
    pub lasts: Duration,
    /// Clients want something so often.
    pub every: Duration,
    /// Of a thousand packets between servers.
    pub lost: u64,
    pub doubled: u64,
    /// A packet takes up to this long.
    pub delay: Duration,
    /// Seconds between breaks of links, and restarts; none for zero.
    pub breaks: u64,
    pub restarts: u64,
}

impl Terms {
    /// Trouble of every kind, a minute of it.
    #[must_use]
    pub fn rough(wiring: Wiring) -> Self {
        Self {
            wiring,
            lasts: Duration::from_secs(60),
            every: Duration::from_millis(250),
            lost: 50,
            doubled: 50,
            delay: Duration::from_millis(150),
            breaks: 10,
            restarts: 20,
        }
    }

    /// An hour of load over paths that are as they should be.
    #[must_use]
    pub fn hour(wiring: Wiring) -> Self {
        Self {
            wiring,
            lasts: Duration::from_secs(3600),
            every: Duration::from_millis(20),
            lost: 1,
            doubled: 0,
            delay: Duration::from_millis(60),
            breaks: 300,
            restarts: 900,
        }
    }
}

/// What happened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    pub commands: u64,
    /// Answers that clients saw, those that say the home cannot be reached among them.
    pub answers: u64,
    pub unreachable: u64,
    /// Documents that were shown at servers other than the home.
    pub shown: u64,
    pub frames: u64,
    pub dropped: BTreeMap<Reason, u64>,
}
