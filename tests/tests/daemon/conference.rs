//! Conferences of a daemon that runs: made by calls, asked over HTTP, kept beyond SIGKILL.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

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

/// A conference server that is told of views: one request a connection, kept until it is answered.
struct Server(TcpListener);

struct Posted {
    head: String,
    body: Value,
    stream: TcpStream,
}

impl Server {
    fn next(&self) -> Posted {
        let (mut stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut read = Vec::new();
        loop {
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk).unwrap();
            assert!(count > 0, "it ended");
            read.extend(&chunk[..count]);
            let text = String::from_utf8_lossy(&read).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            if let Ok(body) = serde_json::from_str(body) {
                let head = head.to_owned();
                return Posted { head, body, stream };
            }
        }
    }
}

impl Posted {
    fn answer(mut self, status: &str) {
        let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        self.stream.write_all(text.as_bytes()).unwrap();
    }
}

/// What was accepted is handed over: again if it was not taken, and the last word alone if there
/// were several meanwhile.
#[test]
fn an_accepted_view_is_handed_over() {
    in_private_network("conference::an_accepted_view_is_handed_over", || {
        ip(LINKS)?;
        let hook = "[conference]\nview_hook = \"http://127.0.0.1:8088/views\"";
        let server = Server(TcpListener::bind("127.0.0.1:8088")?);
        let conference_with_hook = CONFERENCE.replace("[conference]", hook);
        let daemon = Daemon::with("view-hook", &format!("{CONFIG}{conference_with_hook}"));
        let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let room = Phone::register(&daemon, "8001", "10.0.1.20", "10.0.1.3");
        caller.call(&room).speak();
        let cid = conference(&daemon);
        let set = |zoom: f64| {
            let body = format!(r#"{{"pid":"1001","target":{{"zoom":{zoom}}}}}"#);
            let answer = order(&daemon, "PUT", &format!("/{cid}/views/main"), "", &body);
            assert_eq!(answer.status, 200, "{answer:?}");
        };
        set(2.0);
        let first = server.next();
        let head = first.head.to_lowercase();
        assert!(head.starts_with("post /views http/1.1\r\n"), "{head}");
        for line in [
            "host: 127.0.0.1:8088".to_owned(),
            format!("x-conference: {cid}"),
            "x-view: main".to_owned(),
            "content-type: application/json".to_owned(),
        ] {
            assert!(head.lines().any(|l| l == line), "{line} in {head}");
        }
        assert_eq!(first.body["data"]["zoom"], 2.0, "{}", first.body);
        first.answer("503 Service Unavailable");
        let again = server.next();
        assert_eq!(again.body["data"]["zoom"], 2.0);
        // While one is under way others are set: the last of them comes next, and nothing else.
        set(3.0);
        set(4.0);
        set(5.0);
        again.answer("204 No Content");
        let last = server.next();
        assert_eq!(last.body["data"]["zoom"], 5.0, "{}", last.body);
        last.answer("200 OK");
        let line = "towpath_view_hook_failed_total 0";
        assert!(daemon.metrics().lines().any(|l| l == line));
        Ok(())
    })
    .unwrap();
}

/// The client of the handbook, as a developer would start it.
#[test]
fn the_example_client_asks_and_gives_back() {
    in_private_network("conference::the_example_client_asks_and_gives_back", || {
        ip(LINKS)?;
        let edge = "[mqtt]\nlisten = [\"tcp:10.0.0.3:1883\"]\n";
        let daemon = Daemon::with("example", &format!("{CONFIG}{CONFERENCE}{edge}"));
        let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let room = Phone::register(&daemon, "8001", "10.0.1.20", "10.0.1.3");
        caller.call(&room).speak();
        let cid = conference(&daemon);
        // One is in it by a call, the other joins.
        for (user, more) in [("1001", &[][..]), ("1002", &["--join", &cid])] {
            let mut client = Command::new(env!("CARGO_BIN_EXE_floor-client"))
                .args(["10.0.0.3:1883", user, "secret"])
                .args(more)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let held = || {
                let path = format!("/api/v1/conferences/{cid}/floor");
                let floors = http::get(&daemon.socket(), &path)?;
                let holder = &floors["floors"][0]["holders"][0]["pid"];
                Ok((holder == user).then_some(()))
            };
            clock::until("it has the floor", LIMIT, held).unwrap();
            drop(client.stdin.take());
            let output = client.wait_with_output()?;
            let said = String::from_utf8(output.stdout)?;
            assert!(output.status.success(), "{said}");
            assert_eq!(holders(&daemon, &cid), [""; 0]);
            for part in [
                &format!("conference {cid}\n"),
                "floor.request: ok ",
                &format!("towpath/v1/c/{cid}/floor/audio "),
                "floor.release: ok ",
            ] {
                assert!(said.contains(part), "{part} in {said}");
            }
        }
        Ok(())
    })
    .unwrap();
}

/// A client knows us by the address its account is registered with, wherever it connects; and by
/// that of its connection if it is not registered.
#[test]
fn a_registration_says_which_address_a_client_knows() {
    let test = "conference::a_registration_says_which_address_a_client_knows";
    in_private_network(test, || {
        ip(LINKS)?;
        let edge = "[mqtt]\nlisten = [\"tcp:0.0.0.0:1883\"]\ntopics = [\"room/#\"]\n\
                    legacy_address_fields = [\"/server/ip\"]\n";
        let advertise = "address = \"10.0.0.3\"\nadvertise = \"203.0.113.9\"";
        let config = CONFIG.replace("address = \"10.0.0.3\"", advertise);
        let daemon = Daemon::with("knows", &format!("{config}{edge}"));
        let _registered = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let known = |id: &str| {
            let found = http::get(&daemon.socket(), "/api/v1/mqtt/clients").unwrap();
            let clients = found["clients"].as_array().unwrap().clone();
            let client = clients.into_iter().find(|client| client["id"] == id);
            client.map(|client| client["known_as"].as_str().unwrap().to_owned())
        };
        let knows = |id: &str, ip: &str| {
            clock::until("the address it knows", LIMIT, || {
                Ok((known(id).as_deref() == Some(ip)).then_some(()))
            })
            .unwrap_or_else(|e| panic!("{id}: {ip}: {e}: {:?}", known(id)));
        };
        // Both come by the other network.
        let mut clients = ["1001", "1002"].map(|user| {
            Command::new("mosquitto_sub")
                .args(["-h", "10.0.1.3", "-u", user, "-i", user, "-t", "room/#"])
                .spawn()
                .unwrap()
        });
        knows("1001", "203.0.113.9");
        knows("1002", "10.0.1.3");
        // It registers while it is connected, and is told of another address.
        let _late = Phone::register(&daemon, "1002", "10.0.1.20", "10.0.0.3");
        knows("1002", "203.0.113.9");
        for client in &mut clients {
            client.kill()?;
            client.wait()?;
        }
        Ok(())
    })
    .unwrap();
}
