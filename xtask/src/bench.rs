//! `bench`: measures, with optimised programs. Standard output is the measurement's alone.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::run::{cargo, ourselves, root, say, step, target};
use crate::{ebpf, setup};

#[derive(Args)]
pub(crate) struct Options {
    what: What,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
    /// Show that everything runs, in seconds; the numbers say little
    #[arg(long)]
    quick: bool,
    /// Of `datapath` only what the kernel program alone costs; printed, not written
    #[arg(long)]
    cost: bool,
    /// Where to write the results; default: docs/benchmarks, and nowhere with --quick
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Who forwards media how fast; writes docs/benchmarks/
    Datapath,
    /// Registrations and calls a second beside Kamailio; writes docs/benchmarks/
    Sip,
    /// Messages a second, latency and memory beside mosquitto; writes docs/benchmarks/
    Mqtt,
    /// How soon the API answers under load, one scrape, the cost of top; writes docs/benchmarks/
    Api,
}

pub(crate) fn bench(options: &Options) -> Result<ExitCode> {
    let what = match options.what {
        What::Datapath => "datapath",
        What::Sip => "sip",
        What::Mqtt => "mqtt",
        What::Api => "api",
    };
    if let Err(error) = setup::bench() {
        say(&format!("some columns will be left out: {error:#}"));
    }
    step("the kernel program", &mut ourselves("ebpf")?)?;
    let object = ebpf::build()?;
    for package in [["-p", "towpath"], ["-p", "towpath-tests"]] {
        let build = [&["build", "--release", "--bins"], &package[..]].concat();
        step("the programs", &mut cargo(&build)?)?;
    }
    let release = target()?.join("release");
    let mut command = Command::new(release.join("bench"));
    command.arg(what).args(options.json.then_some("--json"));
    command.args(options.quick.then_some("--quick"));
    command.args(options.cost.then_some("--cost"));
    let usual = || root().map(|root| root.join("docs/benchmarks"));
    let output = match &options.output {
        Some(directory) => Some(directory.clone()),
        None if options.quick || options.cost => None,
        None => Some(usual()?),
    };
    if let Some(directory) = output {
        command.arg("--output").arg(directory);
    }
    command
        .env("TOWPATH_BIN", release.join("towpath"))
        .env("TOWPATH_OBJECT", &object);
    let status = command.status().context("cannot start the measurement")?;
    Ok(match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
