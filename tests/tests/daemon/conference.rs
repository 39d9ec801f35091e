//! Conferences of a daemon that runs: made by calls, asked over HTTP, kept beyond SIGKILL.

use towpath_tests::http::{Answer, send};

use super::*;

const CONFERENCE: &str = r#"
[conference]
uris = ["8*"]
chairs = ["1000"]
[[conference.floor]]
id = "audio"
[[conference.floor]]
id = "slides"
policy = "chair"
"#;

fn start(name: &str) -> Daemon {
    ip(LINKS).unwrap();
    Daemon::with(name, &format!("{CONFIG}{CONFERENCE}"))
}

/// The only one there is, once there is one.
fn conference(daemon: &Daemon) -> String {
    clock::until("a call makes a conference", LIMIT, || {
        let found = http::get(&daemon.socket(), "/api/v1/conferences")?;
        let cid = found["conferences"][0]["cid"].as_str();
        Ok(cid.map(str::to_owned))
    })
    .unwrap()
}

fn order(daemon: &Daemon, method: &str, path: &str, head: &str, body: &str) -> Answer {
    let path = format!("/api/v1/conferences{path}");
    send(&daemon.socket(), method, &path, head, body).unwrap()
}

#[test]
fn a_call_makes_a_conference() {
    in_private_network("conference::a_call_makes_a_conference", || {
        let daemon = start("conference");
        let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let room = Phone::register(&daemon, "8001", "10.0.1.20", "10.0.1.3");
        let call = caller.call(&room);
        call.speak();
        let cid = conference(&daemon);
        let view = format!("/{cid}/views/main");
        let set = |head: &str, zoom: f64| {
            let body = format!(r#"{{"pid":"1001","target":{{"zoom":{zoom}}}}}"#);
            order(&daemon, "PUT", &view, head, &body)
        };
        let first = set("X-Client-Seq: 2\r\n", 2.0);
        assert_eq!(first.status, 200, "{first:?}");
        let tag = first.etag.unwrap();
        // Overtaken; then meant for a state that is not there any more.
        let stale = set("X-Client-Seq: 1\r\n", 3.0);
        assert_eq!((stale.status, &stale.body["code"]), (409, &"stale".into()));
        let head = format!("If-Match: {tag}\r\n");
        assert_eq!(set(&head, 4.0).status, 200);
        let conflict = set(&head, 5.0);
        assert_eq!(
            (conflict.status, &conflict.body["code"]),
            (412, &"conflict".into())
        );
        assert_eq!(conflict.body["answer"]["data"]["current"]["zoom"], 4.0);
        let ask = |pid: &str, head: &str| {
            let body = format!(r#"{{"pid":"{pid}"}}"#);
            order(
                &daemon,
                "POST",
                &format!("/{cid}/floor/slides/requests"),
                head,
                &body,
            )
        };
        let asked = ask("1001", "Idempotency-Key: a\r\n");
        assert_eq!(asked.status, 202, "{asked:?}");
        assert_eq!(ask("1001", "Idempotency-Key: a\r\n").body, asked.body);
        let stranger = ask("1002", "");
        assert_eq!(
            (stranger.status, &stranger.body["reason"]),
            (403, &"not_in_roster".into())
        );
        for (document, path) in [
            ("conferences", "conferences"),
            ("conference", &*format!("conferences/{cid}")),
            ("conference-roster", &*format!("conferences/{cid}/roster")),
            ("conference-floor", &*format!("conferences/{cid}/floor")),
            ("conference-views", &*format!("conferences/{cid}/views")),
            ("conference-view", &*format!("conferences/{cid}/views/main")),
        ] {
            daemon.documented(document, path);
        }
        let (code, shown) = daemon.ask(&["conf", "show", &cid]);
        assert_eq!(code, 0, "{shown}");
        assert!(
            shown.contains("1001") && shown.contains("pending"),
            "{shown}"
        );
        let (_, listed) = daemon.ask(&["conf", "list"]);
        assert!(listed.contains(&cid), "{listed}");
        let metrics = daemon.metrics();
        for line in [
            "towpath_conferences 1",
            "towpath_view_stale_commands_total{reason=\"old_cseq\"} 1",
            "towpath_view_stale_commands_total{reason=\"rev_conflict\"} 1",
        ] {
            assert!(metrics.contains(line), "{line}\n{metrics}");
        }
        let (_, events) = daemon.ask(&["events"]);
        for kind in ["conference.started", "conference.joined", "floor.requested"] {
            assert!(events.contains(kind), "{kind}\n{events}");
        }
        assert_eq!(daemon.ask(&["conf", "end", &cid]).0, 0);
        let (_, none) = daemon.ask(&["conf", "list"]);
        assert_eq!(none, "no conferences\n");
        Ok(())
    })
    .unwrap();
}

/// Whoever says what state is meant changes no other: of the whole, and of a floor.
#[test]
fn if_match_counts_for_a_conference_and_its_floors() {
    in_private_network(
        "conference::if_match_counts_for_a_conference_and_its_floors",
        || {
            let daemon = start("conference-match");
            let opened = order(&daemon, "POST", "", "", r#"{"uri":"8002"}"#);
            let cid = opened.body["cid"].as_str().unwrap().to_owned();
            let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
            let room = Phone::register(&daemon, "8002", "10.0.1.20", "10.0.1.3");
            caller.call(&room).speak();
            let there = || {
                let whole = order(&daemon, "GET", &format!("/{cid}"), "", "");
                let joined = whole.body["roster"][0]["media"]["audio"] == "heard";
                Ok(joined.then_some(whole.etag))
            };
            let whole = clock::until("the caller is there", LIMIT, there)?.unwrap();
            let ask = |tag: &str| {
                let (path, head) = (
                    format!("/{cid}/floor/audio/requests"),
                    format!("If-Match: {tag}\r\n"),
                );
                order(&daemon, "POST", &path, &head, r#"{"pid":"1001"}"#)
            };
            assert_eq!(ask(&whole).status, 200);
            // The floor has another holder than the one that was seen.
            let late = ask(&whole);
            assert_eq!((late.status, &late.body["code"]), (412, &"conflict".into()));
            let floors = late.body["answer"]["floors"].as_array().unwrap();
            assert!(
                floors
                    .iter()
                    .any(|floor| floor["holders"][0]["pid"] == "1001")
            );
            assert_eq!(ask("\"nonsense\"").status, 412);
            let end = |tag: &str| {
                let head = format!("If-Match: {tag}\r\n");
                order(&daemon, "DELETE", &format!("/{cid}"), &head, "")
            };
            let late = end(&whole);
            assert_eq!((late.status, &late.body["code"]), (412, &"conflict".into()));
            let now = order(&daemon, "GET", &format!("/{cid}"), "", "").etag;
            assert_eq!(end(&now.unwrap()).status, 200);
            assert_eq!(end("*").status, 404);
            Ok(())
        },
    )
    .unwrap();
}

/// A client that knows nothing but its account finds its conference, asks to speak, and sees that
/// it may.
#[test]
fn a_request_to_speak_over_mqtt() {
    in_private_network("conference::a_request_to_speak_over_mqtt", || {
        ip(LINKS)?;
        let edge = "[mqtt]\nlisten = [\"tcp:10.0.0.3:1883\"]\n";
        let daemon = Daemon::with("floor-mqtt", &format!("{CONFIG}{CONFERENCE}{edge}"));
        let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let room = Phone::register(&daemon, "8001", "10.0.1.20", "10.0.1.3");
        caller.call(&room).speak();
        let cid = conference(&daemon);
        let topic = read("1001", "towpath/v1/c/+/roster/1001");
        assert!(
            topic.starts_with(&format!("towpath/v1/c/{cid}/roster/1001 ")),
            "{topic}"
        );
        let request = r#"{"id":"a","type":"floor.request","data":{"fid":"audio"}}"#;
        let sent = Command::new("mosquitto_pub")
            .args(["-h", "10.0.0.3", "-u", "1001", "-q", "1", "-m", request])
            .args(["-t", &format!("towpath/v1/c/{cid}/cmd/1001")])
            .status()?;
        assert!(sent.success());
        // It was acknowledged: so it is there.
        let floor = read("1001", &format!("towpath/v1/c/{cid}/floor/audio"));
        assert!(
            floor.contains(r#""pid":"1001""#) && floor.contains("granted"),
            "{floor}"
        );
        Ok(())
    })
    .unwrap();
}

/// The first message a filter lets through, behind its topic.
fn read(user: &str, filter: &str) -> String {
    let output = Command::new("mosquitto_sub")
        .args([
            "-h", "10.0.0.3", "-u", user, "-q", "1", "-v", "-C", "1", "-W", "10",
        ])
        .args(["-t", filter])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Killed right after each answer: what was acknowledged is so afterwards, and what is sent again
/// is answered the same.
#[test]
fn an_acknowledged_command_survives_a_kill() {
    in_private_network(
        "conference::an_acknowledged_command_survives_a_kill",
        || {
            let mut daemon = start("floor-kill");
            let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
            let room = Phone::register(&daemon, "8001", "10.0.1.20", "10.0.1.3");
            caller.call(&room).speak();
            let cid = conference(&daemon);
            for round in 1..=KILLS {
                let path = format!("/{cid}/floor/audio/requests");
                let head = format!("Idempotency-Key: ask-{round}\r\n");
                let ask =
                    |daemon: &Daemon| order(daemon, "POST", &path, &head, r#"{"pid":"1001"}"#);
                let answer = ask(&daemon);
                assert_eq!(answer.status, 200, "{answer:?}");
                let id = answer.body["data"]["request_id"]
                    .as_str()
                    .unwrap()
                    .to_owned();
                assert_eq!(id, format!("r{round}"));
                daemon.kill(|_| ());
                assert_eq!(holders(&daemon, &cid), std::slice::from_ref(&id));
                assert_eq!(ask(&daemon).body, answer.body);
                let released = order(&daemon, "DELETE", &format!("{path}/{id}"), "", "");
                assert_eq!(released.status, 200, "{released:?}");
                daemon.kill(|_| ());
                assert_eq!(holders(&daemon, &cid), [""; 0]);
            }
            Ok(())
        },
    )
    .unwrap();
}

const KILLS: u32 = 15;

fn holders(daemon: &Daemon, cid: &str) -> Vec<String> {
    let path = format!("/api/v1/conferences/{cid}/floor");
    let floors = http::get(&daemon.socket(), &path).unwrap();
    let holders = floors["floors"][0]["holders"].as_array().unwrap();
    let id = |request: &Value| request["request_id"].as_str().unwrap().to_owned();
    holders.iter().map(id).collect()
}
