//! `sim`: the conference plane in virtual time, as many runs as one has time for, shared among the
//! processors.

use anyhow::{Result, ensure};
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
    let arguments = [
        "test",
        "--release",
        "-p",
        "towpath-tests",
        "--features",
        "root",
        "--test",
        "plane",
    ];
    let mut build = cargo(&arguments)?;
    build.arg("--no-run");
    step("the simulator", &mut build)?;
    let shares = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let shares = u64::try_from(shares)?.clamp(1, options.seeds.max(1));
    let mut running = Vec::new();
    for share in 0..shares {
        let (first, last) = (
            options.first + options.seeds * share / shares,
            options.first + options.seeds * (share + 1) / shares,
        );
        let mut test = cargo(&arguments)?;
        test.args(["--", "--exact", "any_seed", "--nocapture"])
            .env("TOWPATH_SEEDS", format!("{first}..{last}"));
        running.push((first, last, test.spawn()?));
    }
    let mut failed = Vec::new();
    for (first, last, mut test) in running {
        if !test.wait()?.success() {
            failed.push(format!("{first}..{last}"));
        }
    }
    ensure!(failed.is_empty(), "seeds that fail are in {failed:?}");
    Ok(())
}
