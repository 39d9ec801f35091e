//! `towpath audit`: who changed what.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::client::Client;
use super::output::table::{Column, count, text};
use super::output::{self, Format};

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Orders, carried out or refused, the newest last
    List {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u64,
        /// Only those after this number
        #[arg(long, value_name = "N", default_value_t = 0)]
        since: u64,
    },
    /// Look at every line: exit code 0 if all are as they were written, else 1
    Verify,
}

const LINES: output::Kind = output::Kind::List {
    of: "lines",
    columns: &COLUMNS,
    none: "nothing was changed",
};

const COLUMNS: [Column; 7] = [
    count("N", "/seq"),
    text("AT", "/at"),
    text("WHO", "/who"),
    text("FROM", "/address"),
    text("WHAT", "/what"),
    text("RESULT", "/result"),
    count("GENERATION", "/generation"),
];

pub(super) fn run(
    command: AuditCommand,
    client: &Client<'_>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::List { limit, since } => {
            let query = [("limit", limit.to_string()), ("since", since.to_string())];
            output::print(&client.query(&["audit"], &query)?, LINES, format)
        }
        AuditCommand::Verify => {
            let verdict = client.get(&["audit", "verify"])?;
            let number = |name: &str| verdict.get(name).and_then(Value::as_u64).unwrap_or(0);
            let problem = verdict.get("problem").and_then(Value::as_str);
            let lines = number("lines");
            let text = match problem {
                None => format!(
                    "whole: {lines} lines, {} to {}",
                    number("first"),
                    number("last")
                ),
                Some(problem) => format!("not whole: {problem}"),
            };
            output::done(&verdict, &text, format)?;
            Ok(ExitCode::from(u8::from(problem.is_some())))
        }
    }
}
