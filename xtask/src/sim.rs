//! `sim`: the conference plane in virtual time, as many runs as one has time for.

use anyhow::Result;
use clap::Args;

use crate::run::{cargo, step};

#[derive(Args)]
pub(crate) struct Options {
    /// How many runs
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    first: u64,
}

pub(crate) fn sim(options: &Options) -> Result<()> {
    let seeds = format!("{}..{}", options.first, options.first + options.seeds);
    let mut test = cargo(&[
        "test",
        "--release",
        "-p",
        "towpath-tests",
        "--test",
        "plane",
    ])?;
    test.args(["--", "--exact", "any_seed", "--nocapture"])
        .env("TOWPATH_SEEDS", seeds);
    step("conferences", &mut test)
}
