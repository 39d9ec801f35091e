//! Tables for people: units are spelt, numbers stand to the right, nothing is `-`.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::show::lined;
use super::wrap::{WIDTH, field, wrapped};

/// A column: its title, where its value stands, and how it is shown.
#[derive(Debug)]
pub(in crate::cli) struct Column {
    title: &'static str,
    /// A JSON pointer into the row.
    at: &'static str,
    show: Show,
}

#[derive(Clone, Copy, Debug)]
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

const CALLS: [Column; 7] = [
    count("ID", "/id"),
    text("CALLER", "/from"),
    text("CALLEE", "/to"),
    text("STATE", "/state"),
    Column {
        title: "FOR",
        at: "/age_s",
        show: Show::Seconds,
    },
    text("NETWORKS", "/networks"),
    text("MEDIA", "/paths"),
];

const REGISTRATIONS: [Column; 6] = [
    text("USER", "/aor"),
    text("NETWORK", "/network"),
    text("SEEN AT", "/seen"),
    text("SAYS IT IS AT", "/claimed"),
    text("NAT", "/nat"),
    Column {
        title: "EXPIRES",
        at: "/expires_s",
        show: Show::Seconds,
    },
];

const PEERS: [Column; 10] = [
    text("PEER", "/name"),
    text("ADDRESS", "/address"),
    text("OVER", "/transport"),
    count("PRIO", "/priority"),
    count("WEIGHT", "/weight"),
    count("CALLS", "/calls"),
    text("STATE", "/state"),
    Column {
        title: "HEARD",
        at: "/answered_s",
        show: Show::Seconds,
    },
    count("RTT ms", "/rtt_ms"),
    text("WHY", "/why"),
];

pub(super) fn peers(value: &Value) -> String {
    let (peers, links) = (list(value, "peers"), list(value, "links"));
    let some = |rows: &[Value], columns: &[Column]| match rows {
        [] => None,
        rows => Some(table(rows, columns)),
    };
    let tables = [some(peers, &PEERS), some(links, &LINKS)];
    let tables: Vec<String> = tables.into_iter().flatten().collect();
    if tables.is_empty() {
        return "no peers\n".to_owned();
    }
    tables.join("\n")
}

const MQTT_CLIENTS: [Column; 9] = [
    text("CLIENT", "/id"),
    text("WHO", "/who"),
    text("STATE", "/state"),
    text("MQTT", "/version"),
    text("FROM", "/remote"),
    text("REACHED", "/local"),
    text("KNOWS US AS", "/known_as"),
    count("FILTERS", "/filters"),
    count("WAITING", "/queue_messages"),
];

pub(super) fn mqtt_clients(value: &Value) -> String {
    let rows = list(value, "clients");
    if rows.is_empty() {
        return "no MQTT clients\n".to_owned();
    }
    table(rows, &MQTT_CLIENTS)
}

/// Links to other servers of the cascade.
const LINKS: [Column; 10] = [
    text("SERVER", "/server"),
    text("SIDE", "/side"),
    text("STATE", "/state"),
    Column {
        title: "HEARD",
        at: "/heard_s",
        show: Show::Seconds,
    },
    count("RTT ms", "/rtt_ms"),
    count("TIMEOUT", "/timeout_ms"),
    text("BREAKER", "/breaker"),
    count("CONF", "/conferences"),
    count("QUEUE", "/queued"),
    text("WHY", "/why"),
];

const BANS: [Column; 6] = [
    text("SOURCE", "/source"),
    text("ACCOUNT", "/account"),
    text("WHY", "/why"),
    Column {
        title: "FOR",
        at: "/age_s",
        show: Show::Seconds,
    },
    Column {
        title: "ENDS IN",
        at: "/left_s",
        show: Show::Seconds,
    },
    count("TIMES", "/times"),
];

pub(super) fn bans(value: &Value) -> String {
    let rows = list(value, "bans");
    if rows.is_empty() {
        return "nobody is banned\n".to_owned();
    }
    table(rows, &BANS)
}

pub(super) fn registrations(value: &Value) -> String {
    let rows = list(value, "registrations");
    if rows.is_empty() {
        return "nobody is registered\n".to_owned();
    }
    table(rows, &REGISTRATIONS)
}

/// One line for each call.
pub(super) fn calls(value: &Value) -> String {
    let calls = list(value, "calls");
    if calls.is_empty() {
        return "no calls\n".to_owned();
    }
    let rows: Vec<Value> = calls.iter().map(row).collect();
    table(&rows, &CALLS)
}

/// A call with what is made of its parts: the networks it crosses and the paths its media takes.
fn row(call: &Value) -> Value {
    let network = |party: &str| {
        let name = call.get(party).and_then(|leg| leg.get("network"));
        cell(name, Show::Text)
    };
    let flows = list(call, "flows");
    let by = |path: &str| {
        let those = flows
            .iter()
            .filter(|flow| flow.get("path") == Some(&path.into()));
        those.count()
    };
    let paths = [("xdp", "kernel"), ("user", "user"), ("none", "waiting")];
    let paths = paths.map(|(path, name)| (by(path), name));
    let paths: Vec<String> = paths
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    let mut row = call.clone();
    if let Some(row) = row.as_object_mut() {
        let networks = format!("{} → {}", network("caller"), network("callee"));
        row.insert("networks".to_owned(), networks.into());
        if !paths.is_empty() {
            row.insert("paths".to_owned(), paths.join(", ").into());
        }
    }
    row
}

/// Who calls whom, and since when.
pub(super) fn headline(call: &Value) -> String {
    let get = |at: &str| cell(call.pointer(at), Show::Text);
    let setup = match call.get("setup_ms").and_then(Value::as_u64) {
        Some(ms) => format!(", set up in {ms} ms"),
        None => String::new(),
    };
    let line = format!(
        "call {}: {} → {}, {} for {}{setup}",
        get("/id"),
        get("/from"),
        get("/to"),
        get("/state"),
        cell(call.get("age_s"), Show::Seconds),
    );
    format!("{}\n", wrapped(&line, 2))
}

pub(super) fn status(value: &Value, verbose: bool) -> String {
    let get = |at: &str| cell(value.pointer(at), Show::Text);
    let kernel_path = match value.pointer("/datapath/why").and_then(Value::as_str) {
        Some(why) => format!("off: {why}"),
        None => format!("on: {}", get("/datapath/interfaces")),
    };
    let broker = broker(value);
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
        ("configuration", super::config::status(value, 15)),
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
    let lines = lines.into_iter().chain(broker);
    let mut shown: String = lines
        .map(|(name, value)| format!("{name:<15}{value}\n"))
        .collect();
    shown.push_str(&warnings(value));
    if verbose {
        shown.push_str("\nshards\n");
        shown.push_str(&wide(list(value, "shards"), &SHARDS));
        shown.push_str(&counters("packets by verdict", value.get("verdicts")));
        shown.push_str(&counters("counters", value.get("counters")));
    }
    shown
}

/// The broker behind us, where there is one.
fn broker(status: &Value) -> Option<(&'static str, String)> {
    let broker = status.get("broker").filter(|broker| !broker.is_null())?;
    let get = |at: &str| cell(broker.pointer(at), Show::Text);
    let since = cell(broker.get("since_s"), Show::Seconds);
    let state = match broker.get("state").and_then(Value::as_str) {
        Some("up") => format!("reached for {since}"),
        _ => format!("not reached for {since}"),
    };
    let line = format!(
        "{}, {state}; {} messages wait",
        get("/url"),
        get("/waiting")
    );
    Some(("broker", line))
}

const SHARDS: [Column; 4] = [
    count("SHARD", "/shard"),
    count("CALLS", "/calls"),
    count("TRANSACTIONS", "/transactions"),
    count("WAITING", "/queue"),
];

/// What is wrong, and each problem of a refused configuration.
fn warnings(value: &Value) -> String {
    let mut shown = String::new();
    for warning in list(value, "warnings") {
        let text = wrapped(&lined(warning), 15);
        shown.push_str(&format!("{:<15}{text}\n", "warning"));
    }
    shown.push_str(&super::config::refused(value, 15));
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
    let shown = wide(rows, columns);
    if shown.lines().all(|line| line.chars().count() <= WIDTH) {
        return shown;
    }
    expanded(rows, columns)
}

/// A line for each row, however long.
pub(super) fn wide(rows: &[Value], columns: &[Column]) -> String {
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

/// Rows that are too wide for a terminal: each as a block of its own.
fn expanded(rows: &[Value], columns: &[Column]) -> String {
    let titles = columns.iter().map(|column| column.title.chars().count());
    let indent = titles.max().unwrap_or(0) + 4;
    let block = |row: &Value| {
        let shown = columns.iter().map(|c| cell(row.pointer(c.at), c.show));
        let lines = columns.iter().zip(shown);
        let lines: String = lines
            .map(|(c, text)| field(c.title, &text, indent))
            .collect();
        lines
    };
    rows.iter().map(block).collect::<Vec<_>>().join("\n")
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
