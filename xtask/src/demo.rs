//! `demo`: real calls in a private lab. Standard output is the demonstration's alone.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::run::{say, target};
use crate::test::Built;

#[derive(Args)]
pub(crate) struct Options {
    /// Print the summary as one line of JSON
    #[arg(long)]
    json: bool,
    /// Leave the lab up and say how to look around
    #[arg(long)]
    keep: bool,
    /// Passed on to the demonstration
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// The demonstration's exit code is ours: zero only if every leg got its media.
pub(crate) fn demo(options: &Options) -> Result<ExitCode> {
    let built = Built::all(&["-p", "towpath", "-p", "towpath-tests"])?;
    let mut command = Command::new(target()?.join("debug").join("demo"));
    command.args(options.json.then_some("--json"));
    command.args(options.keep.then_some("--keep"));
    command.args(&options.rest);
    say("==> the demonstration runs");
    let status = built.tell(&mut command).status();
    let status = status.context("cannot start the demonstration")?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}
