//! `cargo xtask demo`: real calls through a running daemon, in namespaces of their own.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use towpath_tests::clock;
use towpath_tests::demo::progress::Progress;
use towpath_tests::demo::{Demo, Options};
use towpath_tests::process;

/// Places real calls through Towpath in a lab of network namespaces, and proves what arrived.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Print the summary as one JSON line.
    #[arg(long)]
    json: bool,
    /// Leave the lab up after the calls, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// The daemon's binary; default: the one built beside this program.
    #[arg(long, value_name = "PATH")]
    towpath: Option<PathBuf>,
    /// The kernel object; default: the one `cargo xtask ebpf` built.
    #[arg(long, value_name = "PATH")]
    object: Option<PathBuf>,
    /// Use the kernel object in the daemon's binary.
    #[arg(long, conflicts_with = "object")]
    embedded: bool,
    /// How long each call lasts.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = seconds())]
    seconds: u64,
}

/// Long enough to hear a tone, short enough for the tone to last.
fn seconds() -> impl clap::builder::TypedValueParser<Value = u64> {
    clap::value_parser!(u64).range(4..=240)
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("demo: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every leg got its media.
fn run(arguments: &Arguments) -> Result<bool> {
    let interrupted = interruption()?;
    let stop = || interrupted.load(Ordering::Relaxed);
    let progress = Progress::start();
    let object = match arguments.embedded {
        true => None,
        false => Some(arguments.object.clone().map_or_else(process::object, Ok)?),
    };
    let options = Options {
        towpath: arguments.towpath.clone().map_or_else(process::binary, Ok)?,
        object,
        time: Duration::from_secs(arguments.seconds),
    };
    let demo = Demo::set_up(&options, &progress, &stop)?;
    let summary = demo.run(&progress, &stop);
    if arguments.keep {
        eprintln!(
            "The lab is up. To look around:\n{}Ctrl-C removes it.",
            demo.tour()
        );
    }
    let summary = match summary {
        Ok(summary) => {
            eprint!("\n{}", summary.table());
            if arguments.json {
                writeln!(std::io::stdout(), "{}", summary.json()).context("standard output")?;
            }
            Ok(summary.is_good())
        }
        Err(e) => Err(e),
    };
    if arguments.keep {
        if let Err(e) = &summary {
            eprintln!("demo: {e:#}");
        }
        while !stop() {
            clock::wait_until(clock::now() + Duration::from_millis(200));
        }
    }
    summary
}

/// Becomes true at the first Ctrl-C, so that the lab is taken down; the second one ends at once.
fn interruption() -> Result<Arc<AtomicBool>> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // Before any other thread exists: they inherit it, children do not.
    signals.thread_block().context("block signals")?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let wait = move || {
        while signals.wait().is_ok() {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            eprintln!("demo: stopping");
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)?;
    Ok(interrupted)
}
