//! `cargo xtask bench`: measures in namespaces of its own.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use serde_json::Value;
use towpath_tests::bench::{self, Programs, report};
use towpath_tests::process;

/// Measures Towpath beside others, in one run.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    what: What,
    /// Print the results as JSON.
    #[arg(long)]
    json: bool,
    /// Show that everything runs, in seconds; the numbers say little.
    #[arg(long)]
    quick: bool,
    /// Of the data path only what the program alone costs, for each number of flows.
    #[arg(long)]
    cost: bool,
    /// Where to write the results; default: nowhere.
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Who forwards media how fast.
    Datapath,
    /// Registrations and calls a second, latency, memory.
    Sip,
    /// How soon the API answers while 500 calls a second are set up.
    Api,
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
    let (text, json) = match arguments.what {
        What::Datapath => datapath(&programs, arguments)?,
        What::Sip => sip(&programs, arguments)?,
        What::Api => api(&programs, arguments)?,
    };
    let text = if arguments.json {
        serde_json::to_string_pretty(&json)?
    } else {
        text
    };
    writeln!(std::io::stdout(), "{text}").context("standard output")
}

fn datapath(programs: &Programs, arguments: &Arguments) -> Result<(String, Value)> {
    let depth = if arguments.quick {
        bench::Depth::QUICK
    } else {
        bench::Depth::FULL
    };
    if arguments.cost {
        let costs = bench::cost(programs, depth)?;
        return Ok((report::costs(&costs), report::costs_json(&costs)));
    }
    let report = bench::run(programs, depth, &say)?;
    if let Some(directory) = &arguments.output {
        report.write(directory)?;
    }
    Ok((report.table(), report.json()))
}

fn sip(programs: &Programs, arguments: &Arguments) -> Result<(String, Value)> {
    let depth = if arguments.quick {
        bench::sip::Depth::QUICK
    } else {
        bench::sip::Depth::FULL
    };
    let report = bench::sip::run(programs, depth, &say)?;
    if let Some(directory) = &arguments.output {
        report.write(directory)?;
    }
    Ok((report.table(), report.json()))
}

fn api(programs: &Programs, arguments: &Arguments) -> Result<(String, Value)> {
    let seconds = if arguments.quick { 3 } else { 20 };
    let found = bench::sip::asked(programs, seconds)?;
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    let (p50, p99, longest) = (ms(found.p50), ms(found.p99), ms(found.longest));
    let text = format!(
        "{} answers while {} calls a second were set up ({} done, {} failed): half within \
         {p50:.1} ms, 99 of 100 within {p99:.1} ms (at most {:.0} ms wanted), all within \
         {longest:.1} ms",
        found.answers,
        found.calls_per_s,
        found.calls,
        found.failed,
        ms(bench::sip::LIMIT),
    );
    let json = serde_json::json!({
        "calls_per_s": found.calls_per_s, "calls": found.calls, "failed": found.failed,
        "answers": found.answers, "p50_ms": p50, "p99_ms": p99, "longest_ms": longest,
    });
    Ok((text, json))
}

fn say(what: &str) {
    eprintln!("bench: {what}");
}
