//! How answers look: tables for people, JSON for programs. One renderer.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde_json::Value;

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Format {
    Table,
    /// The API's document, indented
    Json,
    /// One line: per element if the document is a list
    Jsonl,
}

/// Which document is shown: the columns of its table.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Status { verbose: bool },
    Calls,
    Registrations,
    Networks,
}

pub(super) fn print(value: &Value, kind: Kind, format: Format) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    match format {
        Format::Json => writeln!(out, "{value:#}")?,
        Format::Jsonl => match elements(value, kind) {
            Some(elements) => {
                for element in elements {
                    writeln!(out, "{element}")?;
                }
            }
            None => writeln!(out, "{value}")?,
        },
        Format::Table => out.write_all(table(value, kind).as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// An error and its causes, on standard error.
pub(super) fn error(error: &anyhow::Error) {
    let mut text = format!("error: {error}\n");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("  because: {cause}\n"));
    }
    // Without standard error there is nobody to tell; the exit code still does.
    drop(io::stderr().write_all(text.as_bytes()));
}

fn elements(value: &Value, kind: Kind) -> Option<&Vec<Value>> {
    let key = match kind {
        Kind::Status { .. } => return None,
        Kind::Calls => "calls",
        Kind::Registrations => "registrations",
        Kind::Networks => "networks",
    };
    value.get(key)?.as_array()
}

fn table(value: &Value, kind: Kind) -> String {
    match kind {
        Kind::Status { verbose } => status(value, verbose),
        Kind::Calls => calls(value),
        Kind::Registrations => rows(
            elements(value, kind),
            &[
                "aor",
                "network",
                "seen",
                "claimed",
                "nat",
                "expires_s",
                "user_agent",
            ],
            "nobody is registered",
        ),
        Kind::Networks => rows(
            elements(value, kind),
            &[
                "name",
                "interface",
                "address",
                "advertise",
                "media_ports",
                "media",
                "ports_used",
            ],
            "no networks",
        ),
    }
}

/// A table of the named fields of each element.
fn rows(elements: Option<&Vec<Value>>, columns: &[&str], empty: &str) -> String {
    let elements = elements.map(Vec::as_slice).unwrap_or_default();
    if elements.is_empty() {
        return format!("{empty}\n");
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(
        columns
            .iter()
            .map(|c| c.to_ascii_uppercase().replace('_', " ")),
    );
    for element in elements {
        table.add_row(columns.iter().map(|c| cell(element.get(*c))));
    }
    format!("{table}\n")
}

/// Calls, each with its flows below it.
fn calls(value: &Value) -> String {
    let calls = elements(value, Kind::Calls)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if calls.is_empty() {
        return "no calls\n".to_owned();
    }
    let mut text = String::new();
    for call in calls {
        let field = |name: &str| cell(call.get(name));
        text.push_str(&format!(
            "call {}  {} → {}  {}  {} s\n",
            field("id"),
            field("from"),
            field("to"),
            field("state"),
            field("age_s"),
        ));
        text.push_str(&rows(
            call.get("flows").and_then(Value::as_array),
            &[
                "leg",
                "kind",
                "component",
                "at",
                "peer",
                "target",
                "path",
                "packets_xdp",
                "packets_user",
                "why",
            ],
            "  no media yet",
        ));
    }
    text
}

fn status(value: &Value, verbose: bool) -> String {
    let get = |pointer: &str| cell(value.pointer(pointer));
    let mut text = format!(
        "{} {}  up {} s  {}\n\ncalls          {} ({} answered)\nregistrations  {}\nflows          \
         {} in the kernel, {} in userspace\nkernel path    {}\n",
        get("/node"),
        get("/version"),
        get("/uptime_s"),
        get("/state").to_uppercase(),
        get("/calls/now"),
        get("/calls/answered"),
        get("/registrations"),
        get("/flows/kernel"),
        get("/flows/user"),
        match value.pointer("/datapath/why").and_then(Value::as_str) {
            Some(why) => format!("off: {why}"),
            None => format!("on: {}", get("/datapath/interfaces")),
        },
    );
    for warning in value
        .get("warnings")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        text.push_str(&format!("warning        {}\n", cell(Some(warning))));
    }
    if verbose {
        for (title, pointer) in [("packets by verdict", "/verdicts"), ("events", "/counters")] {
            text.push_str(&format!("\n{title}\n"));
            let counters = value.pointer(pointer).and_then(Value::as_object);
            for (name, count) in counters.into_iter().flatten() {
                text.push_str(&format!("  {name:<40} {}\n", cell(Some(count))));
            }
        }
    }
    text
}

/// A JSON value as a cell.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| cell(Some(item)))
            .collect::<Vec<_>>()
            .join(", "),
        Some(other @ (Value::Number(_) | Value::Object(_))) => other.to_string(),
    }
}
