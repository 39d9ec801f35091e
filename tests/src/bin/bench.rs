//! `cargo xtask bench`: measures the data path in namespaces of its own.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use towpath_tests::bench::{self, Depth, Programs};
use towpath_tests::process;

/// Measures who forwards media how fast, on the same links, in one run.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Print the results as JSON.
    #[arg(long)]
    json: bool,
    /// Show that everything runs, in seconds; the numbers say little.
    #[arg(long)]
    quick: bool,
    /// Where to write the results; default: nowhere.
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let relay = process::object()?;
    let programs = Programs {
        towpath: process::binary()?,
        bench: relay.with_file_name("yardstick"),
        relay,
    };
    let depth = if arguments.quick {
        Depth::QUICK
    } else {
        Depth::FULL
    };
    let report = bench::run(&programs, depth, &|what| eprintln!("bench: {what}"))?;
    if let Some(directory) = &arguments.output {
        report.write(directory)?;
    }
    let text = if arguments.json {
        serde_json::to_string_pretty(&report.json())?
    } else {
        report.table()
    };
    writeln!(std::io::stdout(), "{text}").context("standard output")
}
