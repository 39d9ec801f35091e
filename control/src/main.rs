//! The binary `towpath`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    control::cli::Cli::parse().run()
}
