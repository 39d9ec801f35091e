//! How answers look: tables for people, JSON for programs.

mod config;
mod show;
pub(super) mod table;
pub(super) mod wrap;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::Value;

use super::{bench, bpf, conference, doctor, version};
use crate::cli::client::Refusal;
use crate::config::check::Problem;
use crate::shell::Exit;
use crate::shell::configuration::Refused;

/// `json` is the API's document, indented; `jsonl` has a line for each element of a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
    Jsonl,
}

/// Which document is shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Status {
        verbose: bool,
    },
    Calls,
    Call,
    Registrations,
    Registration,
    Networks,
    Bans,
    Conferences,
    Conference,
    Peers,
    MqttClients,
    Bench,
    Doctor,
    Version,
    BpfStatus,
    BpfMaps,
    BpfDrops,
    Explained,
    Events,
    Config {
        origin: bool,
    },
    Changes,
    InForce,
    Generations,
    /// A document whose `text` is what people want.
    Text,
    /// The list `of` in the document, in these columns; `none` if it is empty.
    List {
        of: &'static str,
        columns: &'static [table::Column],
        none: &'static str,
    },
}

pub(super) fn print(value: &Value, kind: Kind, format: Format) -> anyhow::Result<ExitCode> {
    let text = match format {
        Format::Json => format!("{value:#}\n"),
        Format::Jsonl => lines(value, kind),
        Format::Table => match kind {
            Kind::Status { verbose } => table::status(value, verbose),
            Kind::Calls => table::calls(value),
            Kind::Registrations => table::registrations(value),
            Kind::Call => show::call(value),
            Kind::Registration => show::registration(value),
            Kind::Networks => show::networks(value),
            Kind::Peers => table::peers(value),
            Kind::MqttClients => table::mqtt_clients(value),
            Kind::Bans => table::bans(value),
            Kind::Conferences => conference::conferences(value),
            Kind::Conference => conference::conference(value),
            Kind::Explained => show::explained(value),
            Kind::Events => show::events(value),
            Kind::Config { origin } => config::values(value, origin),
            Kind::Changes => config::changes(value),
            Kind::InForce => config::applied(value),
            Kind::Generations => config::generations(value),
            Kind::Text => value
                .get("text")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            Kind::List { of, columns, none } => match table::list(value, of) {
                [] => format!("{none}\n"),
                rows => table::table(rows, columns),
            },
            Kind::Bench => bench::table(value),
            Kind::Doctor => doctor::table(value),
            Kind::Version => version::table(value),
            Kind::BpfStatus => bpf::status(value),
            Kind::BpfMaps => bpf::maps(value),
            Kind::BpfDrops => bpf::drops(value),
        },
    };
    write(&text)
}

/// An explanation as text.
pub(super) fn explained(value: &Value) -> String {
    show::explained(value)
}

/// An order was carried out.
pub(super) fn done(answer: &Value, what: &str, format: Format) -> anyhow::Result<ExitCode> {
    match format {
        Format::Json | Format::Jsonl => write(&format!("{answer}\n")),
        Format::Table => write(&format!("{what}\n")),
    }
}

/// What is wrong with a configuration, then an error and its causes, on standard error.
pub(super) fn error(error: &anyhow::Error, problems: &[Problem]) {
    let mut text = String::new();
    for problem in problems {
        text.push_str(&format!("{problem}\n\n"));
    }
    text.push_str(&format!("error: {error}\n"));
    for cause in error.chain().skip(1) {
        text.push_str(&format!("  because: {cause}\n"));
    }
    // Without standard error there is nobody to tell; the exit code still does.
    drop(io::stderr().write_all(text.as_bytes()));
}

/// The problems that a document of the API lists; `file` is the name of what was sent.
pub(super) fn problems(document: &Value, file: Option<&Path>) -> Vec<Problem> {
    let listed = document.get("problems").and_then(Value::as_array);
    let text = |problem: &Value, name: &str| {
        let text = problem.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let number = |problem: &Value, name: &str| {
        let number = problem.get(name).and_then(Value::as_u64);
        number
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or_default()
    };
    let one = |problem: &Value| Problem {
        file: file.map_or_else(|| text(problem, "file"), |file| file.display().to_string()),
        line: number(problem, "line"),
        column: number(problem, "column"),
        key: text(problem, "key"),
        message: text(problem, "message"),
        help: text(problem, "help"),
        excerpt: text(problem, "excerpt"),
        indent: number(problem, "indent"),
        width: number(problem, "width"),
    };
    listed.into_iter().flatten().map(one).collect()
}

/// An error about what was sent, with its problems, as one of `check` is.
pub(super) fn at(error: anyhow::Error, file: &Path) -> anyhow::Error {
    let Some(Refusal(document)) = error.downcast_ref::<Refusal>() else {
        return error;
    };
    let problems = problems(document, Some(file));
    if problems.is_empty() {
        return error;
    }
    let name = file.display().to_string();
    Refused {
        name,
        problems,
        exit: Exit::Config,
    }
    .into()
}

/// A reader that has seen enough (`| head`) is no error.
pub(super) fn write(text: &str) -> anyhow::Result<ExitCode> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn lines(value: &Value, kind: Kind) -> String {
    let list = match kind {
        Kind::Status { .. }
        | Kind::Call
        | Kind::Conference
        | Kind::Explained
        | Kind::InForce
        | Kind::Bench
        | Kind::Version
        | Kind::Text => None,
        Kind::Events => value.get("events"),
        Kind::Registration => value.get("bindings"),
        Kind::Calls => value.get("calls"),
        Kind::Registrations => value.get("registrations"),
        Kind::Networks => value.get("networks"),
        Kind::Peers => value.get("peers"),
        Kind::MqttClients => value.get("clients"),
        Kind::Bans => value.get("bans"),
        Kind::Conferences => value.get("conferences"),
        Kind::Doctor => value.get("checks"),
        Kind::Config { .. } => value.get("values"),
        Kind::Changes => value.get("changes"),
        Kind::Generations => value.get("generations"),
        Kind::BpfStatus => value.get("interfaces"),
        Kind::BpfMaps => value.get("maps"),
        Kind::BpfDrops => value.get("verdicts"),
        Kind::List { of, .. } => value.get(of),
    };
    match list.and_then(Value::as_array) {
        Some(elements) => elements.iter().map(|e| format!("{e}\n")).collect(),
        None => format!("{value}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_is_one_line_for_each_element() {
        let calls = json!({ "calls": [{ "id": 1 }, { "id": 2 }] });
        assert_eq!(lines(&calls, Kind::Calls), "{\"id\":1}\n{\"id\":2}\n");
        assert_eq!(lines(&json!({ "calls": [] }), Kind::Calls), "");
        let status = Kind::Status { verbose: true };
        assert_eq!(lines(&json!({ "a": [1] }), status), "{\"a\":[1]}\n");
    }
}
