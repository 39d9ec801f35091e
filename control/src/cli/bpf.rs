//! `towpath bpf`: the kernel path on the screen.

use serde_json::Value;

use super::output::table::{Column, Show, cell, count, list, table, text};

const INTERFACES: [Column; 7] = [
    text("INTERFACE", "/name"),
    text("RUNG", "/rung"),
    text("WHY", "/why"),
    text("LINK", "/link"),
    text("PROGRAM", "/program"),
    count("TX ERRORS", "/tx_errors"),
    count("TX DROPPED", "/tx_dropped"),
];

const MAPS: [Column; 6] = [
    text("MAP", "/name"),
    text("KIND", "/kind"),
    text("ID", "/id"),
    count("USED", "/used"),
    count("CAPACITY", "/capacity"),
    count("BYTES", "/bytes"),
];

const DROPS: [Column; 3] = [
    text("VERDICT", "/reason"),
    count("PACKETS", "/packets"),
    count("PER SECOND", "/per_s"),
];

/// The program, and the rung every interface stands on.
pub(super) fn status(value: &Value) -> String {
    let get = |at: &str| cell(value.pointer(at), Show::Text);
    let mut lines = vec![match value.get("why").and_then(Value::as_str) {
        Some(why) => ("kernel path", format!("off: {why}")),
        None => ("kernel path", "on".to_owned()),
    }];
    if let Some(why) = value.get("refused").and_then(Value::as_str) {
        lines.push(("refused", why.to_owned()));
    }
    if value
        .get("program")
        .is_some_and(|program| !program.is_null())
    {
        let age = cell(value.pointer("/program/loaded_s"), Show::Seconds);
        lines.extend([
            (
                "program",
                format!(
                    "{}, tag {}, loaded {age} ago",
                    get("/program/id"),
                    get("/program/tag")
                ),
            ),
            (
                "instructions",
                format!(
                    "{}; the verifier looked at {}; {} bytes of machine code",
                    get("/program/instructions"),
                    get("/program/verified_instructions"),
                    get("/program/machine_bytes")
                ),
            ),
        ]);
    }
    lines.push((
        "ABI",
        format!("{}, pinned below {}", get("/abi"), get("/pin_dir")),
    ));
    let shown: String = lines
        .iter()
        .map(|(name, value)| format!("{name:<15}{value}\n"))
        .collect();
    format!("{shown}\n{}", table(list(value, "interfaces"), &INTERFACES))
}

/// How full the maps are.
pub(super) fn maps(value: &Value) -> String {
    match list(value, "maps") {
        [] => off(value),
        maps => table(maps, &MAPS),
    }
}

/// What became of packets, by verdict: those that happened.
pub(super) fn drops(value: &Value) -> String {
    if list(value, "maps").is_empty() {
        return off(value);
    }
    let happened = |verdict: &&Value| verdict.get("packets").and_then(Value::as_u64) != Some(0);
    let verdicts = list(value, "verdicts").iter().filter(happened);
    let verdicts: Vec<Value> = verdicts.cloned().collect();
    if verdicts.is_empty() {
        return "no packet yet\n".to_owned();
    }
    table(&verdicts, &DROPS)
}

fn off(value: &Value) -> String {
    format!(
        "the kernel path is off: {}\n",
        cell(value.get("why"), Show::Text)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(shown: &str, expected: &str) {
        assert_eq!(
            shown,
            expected.strip_prefix('\n').unwrap_or(expected),
            "\n{shown}"
        );
    }

    fn document() -> Value {
        json!({
            "state": "on", "why": null, "refused": null, "abi": 1,
            "pin_dir": "/sys/fs/bpf/towpath",
            "program": { "id": 40, "tag": "00c0ffee00c0ffee", "loaded_s": 61,
                         "instructions": 900, "verified_instructions": 5000,
                         "machine_bytes": 4100 },
            "interfaces": [
                { "name": "lan", "index": 2, "rung": "native", "link": 7, "program": 40,
                  "why": "in the driver", "rx_errors": 0, "rx_dropped": 0,
                  "tx_errors": 0, "tx_dropped": 3 },
                { "name": "wan", "index": 3, "rung": null, "link": null, "program": null,
                  "why": "gone", "rx_errors": 0, "rx_dropped": 0,
                  "tx_errors": 0, "tx_dropped": 0 },
            ],
            "maps": [
                { "name": "PORTS", "id": 9, "kind": "array", "used": 4, "capacity": 1_048_576,
                  "bytes": 4_194_560 },
                { "name": "EVENTS", "id": 13, "kind": "ring", "used": null,
                  "capacity": 262_144, "bytes": 270_000 },
            ],
            "verdicts": [
                { "reason": "forwarded", "packets": 12345, "per_s": 250 },
                { "reason": "not-ip", "packets": 0, "per_s": 0 },
                { "reason": "no-flow", "packets": 2, "per_s": 0 },
            ],
        })
    }

    #[test]
    fn the_program_and_its_rungs() {
        check(
            &status(&document()),
            "
kernel path    on
program        40, tag 00c0ffee00c0ffee, loaded 1m 1s ago
instructions   900; the verifier looked at 5000; 4100 bytes of machine code
ABI            1, pinned below /sys/fs/bpf/towpath

INTERFACE  RUNG    WHY            LINK  PROGRAM  TX ERRORS  TX DROPPED
lan        native  in the driver  7     40               0           3
wan        -       gone           -     -                0           0
",
        );
    }

    #[test]
    fn maps_and_verdicts() {
        check(
            &maps(&document()),
            "
MAP     KIND   ID  USED  CAPACITY    BYTES
PORTS   array  9      4   1048576  4194560
EVENTS  ring   13     -    262144   270000
",
        );
        check(
            &drops(&document()),
            "
VERDICT    PACKETS  PER SECOND
forwarded    12345         250
no-flow          2           0
",
        );
    }

    #[test]
    fn without_a_kernel_path_it_says_why() {
        let document = json!({ "why": "no BTF", "maps": [] });
        check(&maps(&document), "the kernel path is off: no BTF\n");
        check(&drops(&document), "the kernel path is off: no BTF\n");
    }
}
