//! `towpath conf`: conferences.

use std::process::ExitCode;

use clap::Subcommand;
use hyper::Method;
use serde_json::Value;

use super::client::Client;
use super::output::table::{Column, count, list, table, text};
use super::output::{self, Format};

#[derive(Debug, Subcommand)]
pub(super) enum ConfCommand {
    /// Conferences that go on, one line each
    List,
    /// One conference: roster, floors, views
    Show {
        /// CID of `conf list`
        cid: String,
    },
    /// Share a conference with another server, which every server on the way must share too
    Share {
        /// CID of `conf list`, at its home
        cid: String,
        /// node.id of the other server
        server: String,
    },
    /// Share a conference with another server no more
    Unshare {
        /// CID of `conf list`, at its home
        cid: String,
        /// node.id of the other server
        server: String,
    },
    /// End a conference; calls go on
    End {
        /// CID of `conf list`
        cid: String,
    },
}

pub(super) fn run(
    command: ConfCommand,
    client: &Client<'_>,
    format: Format,
) -> anyhow::Result<ExitCode> {
    match command {
        ConfCommand::List => {
            let conferences = client.get(&["conferences"])?;
            output::print(&conferences, output::Kind::Conferences, format)
        }
        ConfCommand::Show { cid } => {
            let conference = client.get(&["conferences", &cid])?;
            output::print(&conference, output::Kind::Conference, format)
        }
        ConfCommand::Share { cid, server } => {
            let parts = ["conferences", &*cid, "members", &*server];
            let answer = client.send(Method::PUT, &parts, String::new(), None)?;
            output::done(&answer, &format!("{cid}: shared with {server}"), format)
        }
        ConfCommand::Unshare { cid, server } => {
            let answer = client.delete(&["conferences", &cid, "members", &server])?;
            let told = format!("{cid}: not shared with {server} any more");
            output::done(&answer, &told, format)
        }
        ConfCommand::End { cid } => {
            let answer = client.delete(&["conferences", &cid])?;
            output::done(&answer, &format!("{cid}: ended"), format)
        }
    }
}

const CONFERENCES: [Column; 8] = [
    text("CID", "/cid"),
    text("URI", "/uri"),
    text("HOME", "/home"),
    count("SHARED", "/members"),
    count("IN IT", "/participants"),
    count("SPEAK", "/holders"),
    count("WAIT", "/waiting"),
    text("REVISION", "/revision"),
];

const MEMBERS: [Column; 2] = [text("SHARED WITH", "/server"), text("STATE", "/state")];

const ROSTER: [Column; 5] = [
    text("PARTICIPANT", "/pid"),
    text("ROLE", "/role"),
    text("STATE", "/state"),
    text("BY", "/by"),
    text("SINCE", "/since"),
];

const REQUESTS: [Column; 5] = [
    text("REQUEST", "/request_id"),
    text("PARTICIPANT", "/pid"),
    text("STATE", "/state"),
    count("PRIORITY", "/priority"),
    text("SINCE", "/since"),
];

const VIEWS: [Column; 5] = [
    text("VIEW", "/vid"),
    text("LAYOUT", "/layout"),
    text("FOCUS", "/focus"),
    count("ZOOM", "/zoom"),
    text("BY", "/by"),
];

pub(super) fn conferences(value: &Value) -> String {
    match list(value, "conferences") {
        [] => "no conferences\n".to_owned(),
        rows => table(rows, &CONFERENCES),
    }
}

pub(super) fn conference(value: &Value) -> String {
    let at = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("-");
    let mut shown = format!(
        "conference {}\nuri {}, home {}, since {}, revision {}\n",
        at("cid"),
        at("uri"),
        at("home"),
        at("began"),
        at("revision")
    );
    if value.get("reachable") == Some(&Value::Bool(false)) {
        shown.push_str("its home cannot be reached: nothing is decided; see towpath peer list\n");
    }
    if let rows @ [_, ..] = list(value, "members") {
        shown.push_str(&format!("\n{}", table(rows, &MEMBERS)));
    }
    match list(value, "roster") {
        [] => shown.push_str("\nnobody is in it\n"),
        rows => shown.push_str(&format!("\n{}", table(rows, &ROSTER))),
    }
    for floor in list(value, "floors") {
        let word = |name: &str| floor.get(name).and_then(Value::as_str).unwrap_or("-");
        shown.push_str(&format!("\nfloor {}, {}\n", word("fid"), word("policy")));
        let requests = [list(floor, "holders"), list(floor, "queue")].concat();
        if requests.is_empty() {
            shown.push_str("nobody speaks or waits\n");
        } else {
            shown.push_str(&table(&requests, &REQUESTS));
        }
    }
    if let rows @ [_, ..] = list(value, "views") {
        shown.push_str(&format!("\n{}", table(rows, &VIEWS)));
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_conference_on_a_screen() {
        assert_eq!(
            conferences(&json!({ "conferences": [] })),
            "no conferences\n"
        );
        let shown = conference(&json!({
            "cid": "edge~1", "uri": "8001", "home": "edge", "began": "T", "revision": "1.7",
            "reachable": false, "members": [{ "server": "core", "state": "down" }],
            "roster": [{ "pid": "1001", "role": "chair", "state": "joined", "by": ["call"],
                         "since": "T" }],
            "floors": [
                { "fid": "audio", "policy": "fifo", "queue": [], "holders": [
                    { "request_id": "r1", "pid": "1001", "state": "granted", "priority": 2,
                      "since": "T" }] },
                { "fid": "slides", "policy": "chair", "queue": [], "holders": [] },
            ],
            "views": [{ "vid": "main", "layout": "focus", "focus": null, "zoom": 2.0,
                        "by": "1001" }],
        }));
        let words: Vec<Vec<&str>> = shown
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        for line in [
            &["conference", "edge~1"][..],
            &[
                "its", "home", "cannot", "be", "reached:", "nothing", "is", "decided;", "see",
                "towpath", "peer", "list",
            ],
            &["core", "down"],
            &["1001", "chair", "joined", "call", "T"],
            &["floor", "audio,", "fifo"],
            &["r1", "1001", "granted", "2", "T"],
            &["nobody", "speaks", "or", "waits"],
            &["main", "focus", "-", "2.0", "1001"],
        ] {
            assert!(words.iter().any(|found| found == line), "{line:?}\n{shown}");
        }
    }
}
