//! `cargo xtask bench`: measures in namespaces of its own.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use serde_json::Value;
use towpath_tests::bench::{self, Programs, report};
use towpath_tests::netns::{Namespace, stale};
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
    /// Messages a second, latency and memory of the MQTT edge.
    Mqtt,
    /// How soon the API answers while calls are set up, one scrape, the cost of `top`.
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
        What::Mqtt => mqtt(arguments)?,
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
        let (costs, border) = bench::cost(programs, depth)?;
        let text = report::costs(&costs) + &report::border(&border);
        let json = serde_json::json!({
            "cost": report::costs_json(&costs), "border": report::border_json(&border),
        });
        return Ok((text, json));
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

fn mqtt(arguments: &Arguments) -> Result<(String, Value)> {
    let depth = if arguments.quick {
        bench::mqtt::Depth::QUICK
    } else {
        bench::mqtt::Depth::FULL
    };
    let network = Namespace::create(&stale::unique_name())?;
    let report = network.enter(|| bench::mqtt::run(depth, &say))??;
    if let Some(directory) = &arguments.output {
        report.write(directory)?;
    }
    Ok((report.table(), report.json()))
}

fn api(programs: &Programs, arguments: &Arguments) -> Result<(String, Value)> {
    let depth = if arguments.quick {
        bench::sip::api::Depth::QUICK
    } else {
        bench::sip::api::Depth::FULL
    };
    let report = bench::sip::api::run(programs, depth, &say)?;
    if let Some(directory) = &arguments.output {
        report.write(directory)?;
    }
    Ok((report.table(), report.json()))
}

fn say(what: &str) {
    eprintln!("bench: {what}");
}
