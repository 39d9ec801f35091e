//! `towpath log`: what is written down.

use std::process::ExitCode;

use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::output::{self, Format};

#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Show or set the level: off, error, warn, info, debug, trace; by part: info,event=debug
    Level {
        /// Without it: what it is now
        level: Option<String>,
    },
    /// Log every event of these calls, and of no other; without any: of none
    Calls {
        /// Numbers in `call list`
        ids: Vec<u64>,
    },
}

pub(super) fn run(
    command: LogCommand,
    client: &Client<'_>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let order = match command {
        LogCommand::Level { level: None } => None,
        LogCommand::Level { level: Some(level) } => Some(json!({ "level": level })),
        LogCommand::Calls { ids } => Some(json!({ "calls": ids })),
    };
    let answer = match order {
        None => client.get(&["log"])?,
        Some(order) => client.send(Method::PUT, &["log"], order.to_string(), None)?,
    };
    let level = answer.get("level").and_then(Value::as_str);
    let calls = answer.get("calls").and_then(Value::as_array);
    let calls = calls.into_iter().flatten().map(Value::to_string);
    let calls: Vec<String> = calls.collect();
    let mut text = format!("level {}", level.unwrap_or_default());
    if !calls.is_empty() {
        text.push_str(&format!("; calls followed: {}", calls.join(", ")));
    }
    output::done(&answer, &text, format)
}
