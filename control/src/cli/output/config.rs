//! Configurations as tables.

use serde_json::Value;

use super::table::{Column, Show, cell, list, text, wide};
use super::wrap::wrapped;

const VALUES: [Column; 3] = [
    text("KEY", "/key"),
    text("VALUE", "/value"),
    text("CHANGE TAKES", "/takes"),
];

const ORIGINS: [Column; 4] = [
    text("KEY", "/key"),
    text("VALUE", "/value"),
    text("CHANGE TAKES", "/takes"),
    text("WRITTEN AT", "/origin"),
];

const CHANGES: [Column; 5] = [
    text("KEY", "/key"),
    text("FROM", "/old"),
    text("TO", "/new"),
    text("TAKES", "/takes"),
    text("CALLS", "/calls"),
];

const GENERATIONS: [Column; 6] = [
    text("GENERATION", "/generation"),
    text("AT", "/at"),
    text("SOURCE", "/source"),
    text("WHO", "/who"),
    text("HASH", "/hash"),
    text("IN FORCE", "/running"),
];

pub(super) fn values(value: &Value, origin: bool) -> String {
    let head = format!("{}\n", in_force(value));
    let columns = if origin { &ORIGINS[..] } else { &VALUES[..] };
    let mut shown = format!("{head}\n{}", wide(list(value, "values"), columns));
    if origin {
        shown = shown.replace("WRITTEN AT", "WRITTEN AT (-: default)");
    }
    shown
}

/// One line: which configuration is in force, and by whose word.
pub(super) fn in_force(value: &Value) -> String {
    let get = |at: &str| cell(value.pointer(at), Show::Text);
    let who = match value.get("who").and_then(Value::as_str) {
        Some(who) => format!(" by {who}"),
        None => String::new(),
    };
    let file = match value.get("after_restart").and_then(Value::as_str) {
        Some("file") => "; not what the file says: a restart uses the file",
        Some(_) if !who.is_empty() => "; a restart uses it too, unless the file changes",
        Some(_) | None => "",
    };
    let (generation, source, at) = (get("/generation"), get("/source"), get("/at"));
    format!("generation {generation}, {source}{who} at {at}{file}")
}

/// The same in `status`, from column `indent` on.
pub(super) fn status(status: &Value, indent: usize) -> String {
    let shown = in_force(status.get("config").unwrap_or(&Value::Null));
    wrapped(&shown, indent)
}

/// What is wrong with a file that was refused, from column `indent` on.
pub(super) fn refused(status: &Value, indent: usize) -> String {
    let refused = status.pointer("/config/refused");
    let problems = refused.map_or(&[][..], |refused| list(refused, "problems"));
    let one = |problem: &Value| {
        let get = |name: &str| cell(problem.get(name), Show::Text);
        let (file, line, column) = (get("file"), get("line"), get("column"));
        let text = format!("{file}:{line}:{column}: {}", get("message"));
        format!("{:indent$}{}\n", "", wrapped(&text, indent))
    };
    problems.iter().map(one).collect()
}

pub(super) fn changes(value: &Value) -> String {
    let changes = list(value, "changes");
    if value.get("unchanged") == Some(&Value::Bool(true)) {
        return "nothing: it is the configuration in force\n".to_owned();
    }
    if changes.is_empty() {
        return "no value changes: the text is another one\n".to_owned();
    }
    let more = match value.get("more").and_then(Value::as_u64) {
        Some(more) if more > 0 => format!("and {more} more\n"),
        _ => String::new(),
    };
    format!("{}{more}", wide(changes, &CHANGES))
}

/// What was done.
pub(super) fn applied(value: &Value) -> String {
    let generation = cell(value.get("generation"), Show::Text);
    if value.get("unchanged") == Some(&Value::Bool(true)) {
        return format!("nothing to do: generation {generation} is this configuration\n");
    }
    let lost = match value.get("stored") {
        Some(Value::Bool(false)) => "; it is kept in memory only, a restart uses the file",
        _ => "",
    };
    let head = format!("generation {generation} is in force{lost}\n");
    match list(value, "changes") {
        [] => head,
        _ => format!("{head}\n{}", changes(value)),
    }
}

pub(super) fn generations(value: &Value) -> String {
    let mut generations = list(value, "generations").to_vec();
    for generation in &mut generations {
        if let Some(Value::String(hash)) = generation.get_mut("hash") {
            hash.truncate(HASH_CHARS_SHOWN);
        }
        let to = generation.get("rollback_to").and_then(Value::as_u64);
        if let (Some(to), Some(source)) = (to, generation.get_mut("source")) {
            *source = format!("rollback to {to}").into();
        }
    }
    wide(&generations, &GENERATIONS)
}

/// Enough to tell one from another.
const HASH_CHARS_SHOWN: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(shown: &str, expected: &str) {
        let expected = expected.strip_prefix('\n').unwrap_or(expected);
        assert_eq!(shown, expected, "\n{shown}");
    }

    #[test]
    fn values_stand_under_their_generation() {
        let mut value = json!({
            "generation": 7, "source": "API", "who": "uid 0", "at": "2026-11-22T19:10:44Z",
            "after_restart": "this", "values": [
                { "key": "sip.auth", "value": "digest", "takes": "hot", "origin": null },
                { "key": "network.wan.peers", "value": ["10.0.0.0/8", "::/0"], "takes": "hot",
                  "origin": "towpath.toml:17" },
            ],
        });
        check(
            &values(&value, true),
            "
generation 7, API by uid 0 at 2026-11-22T19:10:44Z; a restart uses it too, unless the file changes

KEY                VALUE             CHANGE TAKES  WRITTEN AT (-: default)
sip.auth           digest            hot           -
network.wan.peers  10.0.0.0/8, ::/0  hot           towpath.toml:17
",
        );
        value["who"] = Value::Null;
        value["source"] = "SIGHUP".into();
        let line = "generation 7, SIGHUP at 2026-11-22T19:10:44Z";
        assert_eq!(in_force(&value), line);
        value["after_restart"] = "file".into();
        assert!(in_force(&value).ends_with("; not what the file says: a restart uses the file"));
    }

    #[test]
    fn changes_are_a_table() {
        let change = json!({ "key": "sip.auth", "old": "digest", "new": "none", "takes": "hot",
                             "calls": 0 });
        let plan = json!({ "unchanged": false, "changes": [change], "more": 3 });
        check(
            &changes(&plan),
            "
KEY       FROM    TO    TAKES  CALLS
sip.auth  digest  none  hot    0
and 3 more
",
        );
        let same = json!({ "unchanged": true, "changes": [], "generation": 4 });
        check(
            &changes(&same),
            "nothing: it is the configuration in force\n",
        );
        check(
            &applied(&same),
            "nothing to do: generation 4 is this configuration\n",
        );
        let text = json!({ "unchanged": false, "changes": [], "generation": 5, "stored": false });
        check(
            &changes(&text),
            "no value changes: the text is another one\n",
        );
        let expected = "generation 5 is in force; it is kept in memory only, a restart uses the \
                        file\n";
        check(&applied(&text), expected);
    }

    #[test]
    fn generations_are_a_table() {
        let history = json!({ "generations": [
            { "generation": 2, "at": "2026-11-22T19:10:44Z", "source": "rollback", "who": "uid 0",
              "rollback_to": 1, "hash": "0123456789abcdef", "running": true },
            { "generation": 1, "at": "2026-11-22T19:00:00Z", "source": "start", "who": null,
              "rollback_to": null, "hash": "fedcba9876543210", "running": false },
        ]});
        check(
            &generations(&history),
            "
GENERATION  AT                    SOURCE         WHO    HASH          IN FORCE
2           2026-11-22T19:10:44Z  rollback to 1  uid 0  0123456789ab  yes
1           2026-11-22T19:00:00Z  start          -      fedcba987654  no
",
        );
    }
}
