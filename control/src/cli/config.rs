//! `towpath config`: what is in force, and how it is replaced.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use hyper::Method;
use serde_json::Value;

use super::client::Client;
use super::output::{self, Format, Kind};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// The configuration in force, value by value
    Show {
        /// Also where each value was written
        #[arg(long)]
        origin: bool,
    },
    /// What a file would change; exit code 0 nothing, 2 something, 1 it is refused
    Diff {
        /// Configuration file
        file: PathBuf,
    },
    /// Put a file's text in force, as a whole or not at all
    Apply {
        /// Configuration file
        file: PathBuf,
        /// Only say what it would change, and whether it could be applied
        #[arg(long)]
        dry_run: bool,
    },
    /// Configurations that were in force; with a number, the text of one without its secrets
    History {
        /// Its number in `config history`
        generation: Option<u64>,
    },
    /// Put an earlier configuration in force again
    Rollback {
        /// Its number in `config history`
        generation: u64,
    },
}

/// Exit code of `config diff` when there is a difference.
const DIFFERS: u8 = 2;

pub(super) fn run(
    command: ConfigCommand,
    client: &Client<'_>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Show { origin } => {
            let shown = client.get(&["config"])?;
            output::print(&shown, Kind::Config { origin }, format)
        }
        ConfigCommand::Diff { file } => {
            let plan = plan(client, &file)?;
            output::print(&plan, Kind::Changes, format)?;
            let same = plan.get("unchanged") == Some(&Value::Bool(true));
            Ok(ExitCode::from(if same { 0 } else { DIFFERS }))
        }
        ConfigCommand::Apply {
            file,
            dry_run: true,
        } => {
            let plan = plan(client, &file)?;
            output::print(&plan, Kind::Changes, format)?;
            let problems = output::problems(&plan, Some(&file));
            if problems.is_empty() {
                return Ok(ExitCode::SUCCESS);
            }
            let error = anyhow::anyhow!("{}: it takes a restart", file.display());
            output::error(&error, &problems);
            Ok(ExitCode::FAILURE)
        }
        ConfigCommand::Apply {
            file,
            dry_run: false,
        } => {
            let text = read(&file)?;
            let tag = in_force(client)?;
            let answer = client.send(Method::PUT, &["config"], text, Some(&tag));
            let answer = answer.map_err(|error| output::at(error, &file))?;
            output::print(&answer, Kind::InForce, format)
        }
        ConfigCommand::History { generation: None } => {
            let history = client.get(&["config", "history"])?;
            output::print(&history, Kind::Generations, format)
        }
        ConfigCommand::History {
            generation: Some(number),
        } => {
            let one = client.get(&["config", "history", &number.to_string()])?;
            output::print(&one, Kind::Text, format)
        }
        ConfigCommand::Rollback { generation } => {
            let tag = in_force(client)?;
            let path = ["config", "rollback", &generation.to_string()];
            let answer = client.send(Method::POST, &path, String::new(), Some(&tag))?;
            output::print(&answer, Kind::InForce, format)
        }
    }
}

fn plan(client: &Client<'_>, file: &Path) -> anyhow::Result<Value> {
    let plan = client.send(Method::POST, &["config", "plan"], read(file)?, None);
    plan.map_err(|error| output::at(error, file))
}

/// The entity tag of what is replaced.
fn in_force(client: &Client<'_>) -> anyhow::Result<String> {
    let shown = client.get(&["config"])?;
    let hash = shown.get("hash").and_then(Value::as_str);
    Ok(format!("\"{}\"", hash.unwrap_or_default()))
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| {
        format!(
            "cannot read {}: name a text file that exists and that this user may read",
            file.display()
        )
    })
}
