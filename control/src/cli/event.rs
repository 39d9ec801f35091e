//! `towpath events`: what happened, and what happens.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::client::{Client, encoded};
use super::output::{self, Format, Kind};

pub(super) fn events(
    client: &Client<'_>,
    since: u64,
    filter: [(&str, Option<String>); 2],
    follow: bool,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let given = filter
        .into_iter()
        .filter_map(|(name, text)| Some((name, encoded(&text?))));
    let mut query: Vec<(&str, String)> = given.collect();
    query.push(("since", since.to_string()));
    if !follow {
        let found = client.query(&["events"], &query)?;
        return output::print(&found, Kind::Events, format);
    }
    // A document for each event would be no document.
    let format = match format {
        Format::Json => Format::Jsonl,
        Format::Table | Format::Jsonl => format,
    };
    client.stream(&["events"], &query, &mut |kind, data| {
        let data: Value = serde_json::from_str(data)?;
        let (events, forgotten) = match kind {
            "gap" => (Vec::new(), true),
            _ => (vec![data], false),
        };
        let found = json!({ "events": events, "forgotten": forgotten });
        output::print(&found, Kind::Events, format).map(drop)
    })?;
    Ok(ExitCode::SUCCESS)
}
