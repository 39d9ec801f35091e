//! Tables for people: units are spelt, numbers stand to the right, nothing is `-`.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

/// A column: its title, where its value stands, and how it is shown.
pub(in crate::cli) struct Column {
    title: &'static str,
    /// A JSON pointer into the row.
    at: &'static str,
    show: Show,
}

#[derive(Clone, Copy)]
pub(in crate::cli) enum Show {
    Text,
    Count,
    Seconds,
}

pub(in crate::cli) const fn text(title: &'static str, at: &'static str) -> Column {
    Column {
        title,
        at,
        show: Show::Text,
    }
}

pub(in crate::cli) const fn count(title: &'static str, at: &'static str) -> Column {
    Column {
        title,
        at,
        show: Show::Count,
    }
}

const REGISTRATIONS: [Column; 7] = [
    text("USER", "/aor"),
    text("NETWORK", "/network"),
    text("SEEN AT", "/seen"),
    text("SAYS IT IS AT", "/claimed"),
    text("NAT", "/nat"),
    Column {
        title: "EXPIRES IN",
        at: "/expires_s",
        show: Show::Seconds,
    },
    text("USER AGENT", "/user_agent"),
];

const NETWORKS: [Column; 8] = [
    text("NAME", "/name"),
    text("INTERFACE", "/interface"),
    text("ADDRESS", "/address"),
    text("ADVERTISED", "/advertise"),
    text("MEDIA", "/media"),
    text("MEDIA PORTS", "/media_ports"),
    count("PAIRS", "/pairs"),
    count("IN USE", "/pairs_used"),
];

const FLOWS: [Column; 9] = [
    text("FROM", "/leg"),
    text("MEDIA", "/kind"),
    text("PART", "/component"),
    text("PEER", "/peer"),
    text("ARRIVES AT", "/at"),
    text("SENT TO", "/target"),
    text("PATH", "/path"),
    count("XDP PKTS", "/packets_xdp"),
    count("USER PKTS", "/packets_user"),
];

pub(super) fn registrations(value: &Value) -> String {
    let rows = list(value, "registrations");
    if rows.is_empty() {
        return "nobody is registered\n".to_owned();
    }
    table(rows, &REGISTRATIONS)
}

pub(super) fn networks(value: &Value) -> String {
    table(list(value, "networks"), &NETWORKS)
}

/// Calls, each with its flows below it, and why a flow is not in the kernel.
pub(super) fn calls(value: &Value) -> String {
    let calls = list(value, "calls");
    if calls.is_empty() {
        return "no calls\n".to_owned();
    }
    calls.iter().map(call).collect::<Vec<_>>().join("\n")
}

fn call(call: &Value) -> String {
    let get = |at: &str| cell(call.pointer(at), Show::Text);
    let setup = match call.get("setup_ms").and_then(Value::as_u64) {
        Some(ms) => format!(", set up in {ms} ms"),
        None => String::new(),
    };
    let mut shown = format!(
        "call {}: {} → {}, {} for {}{setup}\n",
        get("/id"),
        get("/from"),
        get("/to"),
        get("/state"),
        cell(call.get("age_s"), Show::Seconds),
    );
    for party in ["caller", "callee"] {
        if let Some(leg) = call.get(party).filter(|leg| !leg.is_null()) {
            let part = |name: &str| cell(leg.get(name), Show::Text);
            let natted = leg.get("nat") == Some(&Value::Bool(true));
            shown.push_str(&format!(
                "  {party} in {}, signalling with {}{}\n",
                part("network"),
                part("signalling"),
                if natted { ", behind a NAT" } else { "" },
            ));
        }
    }
    let flows = list(call, "flows");
    if flows.is_empty() {
        shown.push_str("  no media yet\n");
        return shown;
    }
    shown.push_str(&indented(&table(flows, &FLOWS)));
    for (why, those) in outside(flows) {
        let which = if those.len() == flows.len() {
            "all".to_owned()
        } else {
            those.join(", ")
        };
        shown.push_str(&format!("  not in the kernel ({which}): {why}\n"));
    }
    shown
}

/// Flows that are not in the kernel, by the reason.
fn outside(flows: &[Value]) -> BTreeMap<&str, Vec<String>> {
    let mut outside: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for flow in flows {
        let part = |name: &str| cell(flow.get(name), Show::Text);
        if let Some(why) = flow.get("why").and_then(Value::as_str) {
            let which = format!("{} {} {}", part("leg"), part("kind"), part("component"));
            outside.entry(why).or_default().push(which);
        }
    }
    outside
}

pub(super) fn status(value: &Value, verbose: bool) -> String {
    let get = |at: &str| cell(value.pointer(at), Show::Text);
    let kernel_path = match value.pointer("/datapath/why").and_then(Value::as_str) {
        Some(why) => format!("off: {why}"),
        None => format!("on: {}", get("/datapath/interfaces")),
    };
    let lines = [
        ("state", get("/state").to_uppercase()),
        (
            "node",
            format!(
                "{}, version {}, process {}",
                get("/node"),
                get("/version"),
                get("/pid")
            ),
        ),
        ("up for", cell(value.get("uptime_s"), Show::Seconds)),
        ("kernel path", kernel_path),
        (
            "flows",
            format!(
                "{} in the kernel, {} in userspace; {} of them from before the start",
                get("/flows/kernel"),
                get("/flows/user"),
                get("/flows/adopted")
            ),
        ),
        (
            "calls",
            format!(
                "{}, {} of them answered",
                get("/calls/now"),
                get("/calls/answered")
            ),
        ),
        ("registrations", get("/registrations")),
        ("media sockets", get("/media_sockets")),
        ("transactions", get("/transactions")),
    ];
    let mut shown: String = lines
        .iter()
        .map(|(name, value)| format!("{name:<15}{value}\n"))
        .collect();
    for warning in list(value, "warnings") {
        shown.push_str(&format!(
            "{:<15}{}\n",
            "warning",
            cell(Some(warning), Show::Text)
        ));
    }
    if verbose {
        shown.push_str(&counters("packets by verdict", value.get("verdicts")));
        shown.push_str(&counters("counters", value.get("counters")));
    }
    shown
}

/// Numbers under their names, those that are not zero.
fn counters(title: &str, counters: Option<&Value>) -> String {
    let counters = counters.and_then(Value::as_object);
    let counters: Vec<(&String, String)> = counters
        .into_iter()
        .flatten()
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(name, count)| (name, cell(Some(count), Show::Count)))
        .collect();
    let names = counters.iter().map(|(name, _)| name.len()).max();
    let widest = counters.iter().map(|(_, count)| count.len()).max();
    let (Some(names), Some(widest)) = (names, widest) else {
        return format!("\n{title}: none\n");
    };
    let line = |(name, count): &(&String, String)| format!("  {name:<names$}  {count:>widest$}\n");
    format!(
        "\n{title}\n{}",
        counters.iter().map(line).collect::<String>()
    )
}

pub(in crate::cli) fn table(rows: &[Value], columns: &[Column]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|column| column.title));
    for row in rows {
        table.add_row(columns.iter().map(|c| cell(row.pointer(c.at), c.show)));
    }
    for (shown, column) in table.column_iter_mut().zip(columns) {
        match column.show {
            Show::Text => {}
            Show::Count | Show::Seconds => shown.set_cell_alignment(CellAlignment::Right),
        }
    }
    // The preset's padding, before the first column and after the last.
    let line = |line: &str| format!("{}\n", line.strip_prefix(' ').unwrap_or(line).trim_end());
    format!("{table}").lines().map(line).collect()
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

pub(in crate::cli) fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    let list = value.get(key).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

pub(in crate::cli) fn cell(value: Option<&Value>, show: Show) -> String {
    match (value, show) {
        (None | Some(Value::Null), _) => "-".to_owned(),
        (Some(Value::Number(number)), Show::Seconds) => {
            number.as_u64().map_or(number.to_string(), seconds)
        }
        (Some(Value::Number(number)), _) => number.to_string(),
        // What a peer sent is not let near the terminal's control.
        (Some(Value::String(text)), _) => text.replace(char::is_control, "�"),
        (Some(Value::Bool(true)), _) => "yes".to_owned(),
        (Some(Value::Bool(false)), _) => "no".to_owned(),
        (Some(Value::Array(items)), _) => {
            let items: Vec<String> = items.iter().map(|i| cell(Some(i), show)).collect();
            items.join(", ")
        }
        (Some(object @ Value::Object(_)), _) => object.to_string(),
    }
}

/// `3725` is `1h 2m 5s`.
fn seconds(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m {rest}s"),
        (0, _, _) => format!("{hours}h {minutes}m {rest}s"),
        _ => format!("{days}d {hours}h {minutes}m"),
    }
}

#[cfg(test)]
mod tests;
