//! `towpath check`: a file without a daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use super::output::{self, Format};
use crate::config::Config;
use crate::config::check::Problem;
use crate::shell;
use crate::shell::configuration::{self, Refused};

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Configuration file
    #[arg(default_value = "/etc/towpath/towpath.toml")]
    file: PathBuf,
    /// Do not compare with the interfaces of this host
    #[arg(long)]
    no_host: bool,
}

/// Exit code 0 if it could be put in force here, else 1.
pub(super) fn run(what: &Check, format: Format) -> anyhow::Result<ExitCode> {
    let host = if what.no_host {
        None
    } else {
        let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
        Some(runtime.block_on(shell::host_interfaces())?)
    };
    match configuration::read(&what.file, host.as_deref()) {
        Ok(config) => output::done(
            &document(&what.file, Some(&config), &[]),
            &well(&what.file, &config),
            format,
        ),
        Err(error) => match (error.downcast_ref::<Refused>(), format) {
            (None, _) | (_, Format::Table) => Err(error),
            (Some(refused), Format::Json | Format::Jsonl) => {
                let document = document(&what.file, None, &refused.problems);
                output::done(&document, "", format)?;
                Ok(ExitCode::FAILURE)
            }
        },
    }
}

fn names(config: &Config) -> Vec<&str> {
    config.networks.iter().map(|n| n.name.as_str()).collect()
}

fn well(file: &Path, config: &Config) -> String {
    let accounts = config.sip.accounts.len();
    let (file, networks) = (file.display(), names(config).join(", "));
    format!("{file}: ok; networks: {networks}; accounts: {accounts}")
}

fn document(file: &Path, config: Option<&Config>, problems: &[Problem]) -> Value {
    let problem = |problem: &Problem| {
        json!({
            "file": problem.file, "line": problem.line, "column": problem.column,
            "key": problem.key, "message": problem.message, "help": problem.help,
        })
    };
    json!({
        "file": file.display().to_string(),
        "ok": config.is_some(),
        "networks": config.map(names),
        "accounts": config.map(|config| config.sip.accounts.len()),
        "problems": problems.iter().map(problem).collect::<Vec<_>>(),
    })
}
