//! What every command prints for programs: `-o json` is a document of its schema, `-o jsonl` a line
//! for each element of its list.

use std::io::{BufRead as _, BufReader};

use super::*;

/// What prints nothing for programs: the daemon, texts for shells, readers and editors.
const OF_TEXT: [&str; 4] = ["run", "init", "completions", "man"];
/// What needs root: tested where it works.
const ELSEWHERE: [&str; 1] = ["bench"];

/// Words, the schema, the list whose elements are lines, exit code.
type Row = (&'static str, &'static str, Option<&'static str>, i32);

/// `CALL` and `CID` are the only call and conference, `FILE` is the daemon's configuration. Orders
/// that take something away come last.
const ROWS: [Row; 51] = [
    ("version", "version", None, 0),
    ("check --no-host FILE", "check", None, 0),
    ("check --no-host BAD", "check", None, 1),
    ("status", "status", None, 0),
    ("top --batch -n 1", "TOP", None, 0),
    ("call list", "calls", Some("calls"), 0),
    ("call show CALL", "call", None, 0),
    ("call media CALL caller symmetric", "done", None, 0),
    ("call refresh CALL", "done", None, 0),
    ("trace CALL", "ladder", Some("messages"), 0),
    ("reg list", "registrations", Some("registrations"), 0),
    (
        "reg show 1001@example.com",
        "registration",
        Some("bindings"),
        0,
    ),
    ("network list", "networks", Some("networks"), 0),
    ("peer list", "peers", Some("peers"), 0),
    ("peer probe mcu", "done", None, 0),
    ("ban add 192.0.2.1", "done", None, 0),
    ("ban list", "bans", Some("bans"), 0),
    ("ban remove 192.0.2.1", "done", None, 0),
    ("mqtt list", "mqtt-clients", Some("clients"), 0),
    ("conf list", "conferences", Some("conferences"), 0),
    ("conf show CID", "conference", None, 0),
    ("conf share CID edge-02", "done", None, 0),
    ("conf unshare CID edge-02", "done", None, 0),
    (
        "explain reg 1001@example.com",
        "registration-explain",
        None,
        0,
    ),
    ("explain call CALL", "call-explain", None, 0),
    ("explain peer 10.0.0.20", "network-explain", None, 0),
    ("token create x", "token", None, 0),
    ("token list", "tokens", Some("tokens"), 0),
    ("token revoke x", "done", None, 0),
    ("audit list", "audit", Some("lines"), 0),
    ("audit verify", "audit-verify", None, 0),
    ("config show", "config", Some("values"), 0),
    ("config diff OTHER", "config-plan", Some("changes"), 2),
    (
        "config apply --dry-run OTHER",
        "config-plan",
        Some("changes"),
        0,
    ),
    ("config apply OTHER", "config-applied", None, 0),
    ("config history", "config-history", Some("generations"), 0),
    ("config history 1", "config-generation", None, 0),
    ("config rollback 1", "config-applied", None, 0),
    ("events", "events", Some("events"), 0),
    ("log level", "log", None, 0),
    ("log level info", "log", None, 0),
    ("log calls CALL", "log", None, 0),
    ("bpf status", "bpf", Some("interfaces"), 0),
    ("bpf maps", "bpf", Some("maps"), 0),
    ("bpf drops", "bpf", Some("verdicts"), 0),
    (
        "doctor --check config --config FILE",
        "doctor",
        Some("checks"),
        0,
    ),
    ("call kill CALL", "done", None, 0),
    ("conf end CID", "done", None, 0),
    ("reg drop 1001@example.com", "done", None, 0),
    ("drain --no-wait", "done", None, 0),
    ("undrain", "done", None, 0),
];

#[test]
fn every_command_prints_what_its_schema_says() {
    let name = "printed::every_command_prints_what_its_schema_says";
    in_private_network(name, || {
        ip(LINKS)?;
        let config = format!("{CONFIG}{PEER}{ROOM}");
        let daemon = Daemon::with("printed", &config);
        let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let callee = Phone::register(&daemon, "1002", "10.0.1.20", "10.0.1.3");
        let call = caller.call(&callee);
        call.speak();
        let made = http::send(&daemon.socket(), "POST", "/api/v1/conferences", "", OPEN)?;
        let cid = made.body["cid"].as_str().unwrap().to_owned();
        let file = |name: &str, text: &str| {
            let path = daemon.directory.join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let own = config.replace("DIRECTORY", &daemon.directory.display().to_string());
        let names = [
            ("CALL", daemon.call()),
            ("CID", cid),
            ("BAD", file("bad.toml", "[sip]\ndomian = 1\n")),
            (
                "OTHER",
                file("other.toml", &own.replace("weight=2", "weight=3")),
            ),
            ("FILE", file("same.toml", &own)),
        ];
        for format in ["json", "jsonl"] {
            for row in ROWS {
                // A call that was ended is not ended again.
                let ends = row.0.starts_with("call kill") || row.0.starts_with("conf end");
                let drops = row.0.starts_with("reg drop");
                if format == "json" && (ends || drops) {
                    continue;
                }
                printed(&daemon, row, &names, format);
            }
        }
        followed(&daemon);
        complete();
        Ok(())
    })
    .unwrap();
}

const ROOM: &str = "\n[conference]\nuris = [\"8*\"]\n";
const OPEN: &str = r#"{"uri":"8001"}"#;

fn printed(daemon: &Daemon, row: Row, names: &[(&str, String)], format: &str) {
    let (words, schema, list, expected) = row;
    let words: Vec<&str> = words
        .split(' ')
        .map(|word| {
            let known = names.iter().find(|(name, _)| *name == word);
            known.map_or(word, |(_, value)| value.as_str())
        })
        .collect();
    let (code, text) = daemon.ask(&[&words[..], &["-o", format]].concat());
    let what = format!("{words:?} -o {format}: {text}");
    assert_eq!(code, expected, "{what}");
    let read = |text: &str| -> Value { serde_json::from_str(text).expect(&what) };
    match list.filter(|_| format == "jsonl") {
        None => fits(schema, "", &read(&text), &what),
        Some(list) => {
            for line in text.lines() {
                fits(schema, list, &read(line), &what);
            }
        }
    }
}

/// A document, or an element of its list.
#[track_caller]
fn fits(schema: &str, list: &str, found: &Value, what: &str) {
    if schema == "TOP" {
        for part in ["status", "bpf", "top"] {
            fits(part, "", &found[part], what);
        }
        return;
    }
    let path = format!("{}/vectors/api/{schema}.schema", env!("CARGO_MANIFEST_DIR"));
    let lines = fs::read_to_string(&path).unwrap();
    let lines = match list {
        "" => lines,
        list => part(&lines, &format!("{list}[].")),
    };
    // What may be null has members that are not there then: an object's own are asked for.
    let parents = |path: &str| -> Option<bool> {
        let (parent, _) = path.rsplit_once('.')?;
        let parent = parent.split("[]").next()?.replace('.', "/");
        let there = found.pointer(&format!("/{parent}"));
        Some(there.is_some_and(|parent| parent.is_object()) && !path.contains("[]"))
    };
    let differences = schema::differences(&lines, found);
    let differences: Vec<&String> = differences
        .iter()
        .filter(|difference| match difference.strip_suffix(" is missing") {
            // A list, or an object with members of any name, may be empty.
            Some(path) => !path.ends_with([']', '*']) && parents(path).unwrap_or(true),
            None => true,
        })
        .filter(|difference| !(schema == "peers" && difference.starts_with("links")))
        .collect();
    assert!(differences.is_empty(), "{differences:#?} {what}");
}

/// The lines below a member.
fn part(lines: &str, of: &str) -> String {
    let below = lines.lines().filter_map(|line| line.strip_prefix(of));
    below.map(|line| format!("{line}\n")).collect()
}

/// Each event is a line as it happens.
fn followed(daemon: &Daemon) {
    let mut child = Command::new(process::binary().unwrap())
        .args(["events", "--follow", "-o", "jsonl", "--socket"])
        .arg(daemon.socket())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let event: Value = serde_json::from_str(&line).expect(&line);
    fits("events", "events", &event, &line);
}

/// No command is left out.
fn complete() {
    let scratch = std::env::temp_dir().join(format!("towpath-pages-{}", std::process::id()));
    fs::create_dir(&scratch).unwrap();
    let status = Command::new(process::binary().unwrap())
        .args(["man", "--dir"])
        .arg(&scratch)
        .status()
        .unwrap();
    assert!(status.success());
    let names: Vec<String> = fs::read_dir(&scratch)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            name.strip_prefix("towpath-")
                .map(|name| name.replace('-', " "))
        })
        .collect();
    fs::remove_dir_all(&scratch).unwrap();
    assert!(names.len() > 50, "{names:?}");
    for name in &names {
        let is_group = names
            .iter()
            .any(|other| other.starts_with(&format!("{name} ")));
        let left_out = OF_TEXT.contains(&name.as_str()) || ELSEWHERE.contains(&name.as_str());
        let tried = |row: &Row| row.0 == name || row.0.starts_with(&format!("{name} "));
        let detached = name == "bpf detach";
        assert!(
            is_group || left_out || detached || ROWS.iter().any(tried),
            "no row for `{name}`"
        );
    }
}
