//! Conferences that servers share, with their clients: daemons on one machine, mosquitto's own
//! clients at each.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ChildStdin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use serde_json::json;
use towpath_tests::path::Path as Delay;

use super::*;

/// Where the servers are, the first being the upper one of the second.
const SITES: [(&str, &str); 3] = [
    ("core-01", "10.0.0.3"),
    ("edge-01", "10.0.1.3"),
    ("edge-02", "10.0.2.3"),
];
const THIRD: &str = "address add 10.0.2.3/24 dev eth1";
/// How long what crosses servers may take on a busy machine.
const CROSSING: Duration = Duration::from_secs(30);
/// Of the test; `cargo xtask soak cascade` asks for an hour.
const SECONDS: u64 = 6;
/// Each client says something so often.
const PACE: Duration = Duration::from_millis(500);

/// What a client that only listens has seen.
#[derive(Default)]
struct Seen {
    messages: u64,
    /// Of another conference.
    foreign: u64,
    /// Events of the log that had come before.
    again: u64,
    last: BTreeMap<String, (u64, u64)>,
    /// The last answers, by their cause.
    answers: BTreeMap<String, Value>,
    answered: u64,
}

impl Seen {
    fn take(&mut self, cid: &str, line: &str) {
        let Some((topic, payload)) = line.split_once(' ') else {
            return;
        };
        self.messages += 1;
        let Some(part) = topic.strip_prefix(&format!("towpath/v1/c/{cid}/")) else {
            self.foreign += 1;
            return;
        };
        let message: Value = serde_json::from_str(payload).unwrap_or_default();
        if part == "evt" {
            let number = |name: &str| message[name].as_u64().unwrap();
            let now = (number("epoch"), number("seq"));
            let before = self.last.insert(topic.to_owned(), now);
            self.again += u64::from(before.is_some_and(|before| before >= now));
        }
        if part.starts_with("rsp/") {
            self.answered += 1;
            if self.answers.len() > 256 {
                self.answers.pop_first();
            }
            let cause = message["cause"].as_str().unwrap_or_default().to_owned();
            self.answers.insert(cause, message);
        }
    }
}

/// Somebody in a conference: one program of theirs listens, another speaks.
struct Participant {
    listens: Child,
    speaks: Child,
    line: ChildStdin,
    seen: Arc<Mutex<Seen>>,
    account: String,
    said: u64,
    ids: u64,
}

impl Participant {
    fn new(address: &str, account: &str, cid: &str) -> Self {
        let client = |program: &str, id: &str, topic: &str| {
            let mut command = Command::new(program);
            command.args(["-h", address, "-u", account, "-q", "1", "-t", topic]);
            command.args(["-i", &format!("{account}-{id}")]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            command.stderr(Stdio::null());
            command
        };
        let mut listens = client("mosquitto_sub", "ear", "towpath/v1/c/#");
        let mut listens = listens.arg("-v").spawn().unwrap();
        let topic = format!("towpath/v1/c/{cid}/cmd/{account}");
        let mut speaks = client("mosquitto_pub", "mouth", &topic);
        let mut speaks = speaks.arg("-l").spawn().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (theirs, lines) = (Arc::clone(&seen), listens.stdout.take().unwrap());
        let of = cid.to_owned();
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                theirs.lock().unwrap().take(&of, &line);
            }
        });
        Self {
            listens,
            line: speaks.stdin.take().unwrap(),
            speaks,
            seen,
            account: account.to_owned(),
            said: 0,
            ids: 0,
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// Returned is the command's id.
    fn say(&mut self, kind: &str, data: &Value) -> String {
        self.said += 1;
        self.ids += 1;
        let id = format!("{}-{}", self.account, self.ids);
        let command = json!({ "v": 1, "id": id, "type": kind, "data": data });
        writeln!(self.line, "{command}").unwrap();
        id
    }

    /// Says it and waits for its answer.
    #[track_caller]
    fn ask(&mut self, kind: &str, data: &Value) -> Value {
        let id = self.say(kind, data);
        let answer = clock::until(kind, CROSSING, || Ok(self.seen().answers.get(&id).cloned()));
        answer.unwrap()
    }

    /// Until it is in: who listens before it is let in may hear nothing of the first answer.
    #[track_caller]
    fn join(&mut self) {
        clock::until("joined", CROSSING, || {
            let id = self.say("conference.join", &json!({}));
            let limit = Duration::from_secs(2);
            let answer = || Ok(self.seen().answers.get(&id).cloned());
            let answer = clock::until("an answer", limit, answer).ok();
            Ok(answer.filter(|answer| answer["status"] == "ok"))
        })
        .unwrap();
        let mut seen = self.seen();
        *seen = Seen::default();
        drop(seen);
        self.said = 0;
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        for child in [&mut self.listens, &mut self.speaks] {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn site(number: usize, cascade: &str, conference: &str) -> Daemon {
    let (id, address) = SITES[number];
    let rest = format!(
        "[mqtt]\nlisten = [\"tcp:{address}:1883\"]\n[conference]\nuris = [\"8*\"]\n\
         {conference}\n[cascade]\nlisten = [\"tcp:{address}:8443\"]\n{cascade}"
    );
    server(id, address, &rest)
}

fn below(id: &str) -> String {
    let token = sha256(TOKEN);
    format!("[[cascade.lower]]\nid = \"{id}\"\ntoken_sha256 = \"{token}\"\n")
}

impl Daemon {
    fn opens(&self, uri: &str) -> String {
        let body = format!(r#"{{"uri":"{uri}"}}"#);
        let path = "/api/v1/conferences";
        let answer = http::send(&self.socket(), "POST", path, "", &body).unwrap();
        answer.body["cid"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn shares(&self, cid: &str) {
        clock::until(&format!("{cid} is shared"), CROSSING, || {
            let all = http::get(&self.socket(), "/api/v1/conferences")?;
            Ok(all.to_string().contains(cid).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }

    /// The sum of a metric's series.
    fn sum(&self, name: &str) -> u64 {
        let text = self.metrics();
        let lines = text.lines().filter(|line| line.starts_with(name));
        let value = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
        lines.filter_map(value).sum()
    }

    fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let words = line.unwrap().split_whitespace();
        words.rev().nth(1).unwrap().parse().unwrap()
    }

    fn holders(&self, cid: &str) -> Vec<String> {
        let path = format!("/api/v1/conferences/{cid}/floor");
        let Ok(floors) = http::get(&self.socket(), &path) else {
            return Vec::new();
        };
        let holders = floors["floors"][0]["holders"].as_array();
        let holders = holders.into_iter().flatten();
        holders
            .map(|request| request["pid"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Each server below the next, on purpose: two conferences, one at home at each of two servers, both
/// shared by all, stay apart; nothing goes round.
#[test]
fn two_conferences_in_a_ring() {
    in_private_network("cascade::share::two_conferences_in_a_ring", || {
        ip(LINKS)?;
        ip(THIRD)?;
        let files = Files::new("ring");
        let token = files.write("token", TOKEN);
        let daemons = [0, 1, 2].map(|number| {
            let (upper, lower) = ([2, 0, 1][number], [1, 2, 0][number]);
            let others: Vec<&str> = SITES.iter().map(|site| site.0).collect();
            let cascade = format!(
                "upper = \"http://{}:8443\"\ntoken_file = \"{token}\"\n{}",
                SITES[upper].1,
                below(SITES[lower].0)
            );
            site(number, &cascade, &format!("share = {others:?}"))
        });
        let cids = [daemons[0].opens("8001"), daemons[1].opens("8002")];
        let mut all = Vec::new();
        for (conference, cid) in cids.iter().enumerate() {
            for (number, daemon) in daemons.iter().enumerate() {
                daemon.shares(cid);
                let account = format!("{}00{number}", conference + 1);
                let mut participant = Participant::new(SITES[number].1, &account, cid);
                participant.join();
                all.push(participant);
            }
        }
        let asked = std::env::var("TOWPATH_SOAK_SECONDS").ok();
        let lasts = asked.map_or(SECONDS, |text| text.parse().unwrap());
        let before = daemons.each_ref().map(Daemon::memory_kib);
        talk(&mut all, Duration::from_secs(lasts));
        let (mut said, mut messages, mut foreign, mut again) = (0, 0, 0, 0);
        for participant in &all {
            clock::until("one answer to each", CROSSING, || {
                let done = participant.seen().answered >= participant.said;
                Ok(done.then_some(()))
            })?;
            let seen = participant.seen();
            assert_eq!(seen.answered, participant.said, "{}", participant.account);
            said += participant.said;
            messages += seen.messages;
            foreign += seen.foreign;
            again += seen.again;
        }
        let frames = || -> u64 {
            let sent = "towpath_cascade_link_sent_total";
            daemons.iter().map(|daemon| daemon.sum(sent)).sum()
        };
        // They stop when commands do.
        let mut last = frames();
        let still = clock::until("links to fall silent", CROSSING, || {
            clock::wait_until(clock::now() + Duration::from_secs(2));
            let now = frames();
            Ok((std::mem::replace(&mut last, now) == now).then_some(()))
        });
        let dropped = |reason: &str| -> u64 {
            let name = format!("towpath_cascade_dropped_total{{reason=\"{reason}\"");
            daemons.iter().map(|daemon| daemon.sum(&name)).sum()
        };
        let loops = again + dropped("loop") + u64::from(still.is_err());
        println!(
            "sent {said}, seen {messages}, foreign {foreign}, loops {loops}, frames {last}, \
             dropped on the way round {}, memory KiB {before:?} -> {:?}",
            dropped("detour"),
            daemons.each_ref().map(Daemon::memory_kib)
        );
        assert_eq!((foreign, loops), (0, 0));
        assert!(messages > said && dropped("detour") > 0);
        Ok(())
    })
    .unwrap();
}

/// Everybody says something now and then, at one pace.
fn talk(all: &mut [Participant], lasts: Duration) {
    let mut next: Instant = clock::now();
    let end = next + lasts;
    for round in 0_u64.. {
        for participant in &mut *all {
            match round % 4 {
                0 => participant.say("floor.request", &json!({ "fid": "audio" })),
                2 => participant.say("floor.release", &json!({ "fid": "audio" })),
                _ => {
                    let target = json!({ "zoom": 1 + round % 5 });
                    participant.say("view.set", &json!({ "vid": "main", "target": target }))
                }
            };
        }
        next += PACE;
        if next > end {
            return;
        }
        clock::wait_until(next);
    }
}

/// A path of 50 ms each way, on which a fixed time of 50 ms fails; then it breaks, and heals; and
/// both servers are killed.
#[test]
fn a_floor_at_the_upper_server() {
    in_private_network("cascade::share::a_floor_at_the_upper_server", || {
        ip(LINKS)?;
        let files = Files::new("floor");
        let token = files.write("token", TOKEN);
        let (at, to): (SocketAddr, SocketAddr) =
            ("127.0.0.1:18443".parse()?, "10.0.0.3:8443".parse()?);
        let path = Delay::open(at, to, Duration::from_millis(50))?;
        let upper = format!("upper = \"http://{at}\"\ntoken_file = \"{token}\"\n");
        let mut core = site(0, &below("edge-01"), "");
        let mut edge = site(1, &upper, "");
        let link = edge.link_becomes("up", "");
        assert!(link["rtt_ms"].as_u64() >= Some(100), "{link:#}");
        assert!(link["timeout_ms"].as_u64() >= Some(200), "{link:#}");
        assert!(!answers(at, Duration::from_millis(50)), "row 7");
        assert!(answers(at, Duration::from_secs(5)));
        let cid = core.opens("8001");
        let (code, told) = edge.ask(&["conf", "share", &cid, "edge-01"]);
        assert_ne!(code, 0, "only its home may: {told}");
        let (code, told) = core.ask(&["conf", "share", &cid, "edge-01"]);
        assert_eq!(
            (code, &*told),
            (0, &*format!("{cid}: shared with edge-01\n"))
        );
        edge.shares(&cid);
        let (_, shown) = core.ask(&["conf", "show", &cid]);
        assert!(shown.contains("edge-01"), "{shown}");
        let audit = http::text(&core.socket(), "/api/v1/audit")?;
        assert!(audit.contains(&format!("{cid}/members/edge-01")), "{audit}");
        let mut participant = Participant::new(SITES[1].1, "1001", &cid);
        participant.join();
        let answer = participant.ask("floor.request", &json!({ "fid": "audio" }));
        assert_eq!(answer["data"]["state"], "granted", "{answer}");
        assert_eq!(core.holders(&cid), ["1001"]);
        clock::until("the floor at the edge", CROSSING, || {
            Ok((edge.holders(&cid) == ["1001"]).then_some(()))
        })?;
        called(&core, &edge, &cid);
        broken(&path, &edge, &mut participant);
        // What was acknowledged is so after either of them was killed.
        participant.ask("floor.release", &json!({ "fid": "audio" }));
        let answer = participant.ask("floor.request", &json!({ "fid": "audio" }));
        assert_eq!(answer["data"]["state"], "granted", "{answer}");
        core.kill(|_| ());
        assert_eq!(core.holders(&cid), ["1001"]);
        edge.kill(|_| ());
        edge.shares(&cid);
        clock::until("the floor is there again", CROSSING, || {
            Ok((edge.holders(&cid) == core.holders(&cid)).then_some(()))
        })?;
        let (code, _) = core.ask(&["conf", "unshare", &cid, "edge-01"]);
        assert_eq!(code, 0);
        clock::until("unshared", CROSSING, || {
            let all = http::get(&edge.socket(), "/api/v1/conferences")?;
            Ok((!all.to_string().contains(&cid)).then_some(()))
        })?;
        assert!(core.noted("conference.unshared", "edge-01"));
        assert!(edge.noted("conference.unshared", "core-01"));
        Ok(())
    })
    .unwrap();
}

/// Whether a request is answered within that time.
fn answers(at: SocketAddr, within: Duration) -> bool {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(within)).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: core\r\n\r\n")
        .unwrap();
    match stream.read(&mut [0; 16]) {
        Ok(count) => count > 0,
        Err(error) => {
            let kind = error.kind();
            assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut));
            false
        }
    }
}

/// A call at the lower server to the conference's URI is a call to it.
fn called(core: &Daemon, edge: &Daemon, cid: &str) {
    let caller = Phone::register(edge, "1005", "10.0.0.20", "10.0.1.3");
    let room = Phone::register(edge, "8001", "10.0.1.20", "10.0.1.3");
    let call = caller.call(&room);
    call.speak();
    let path = format!("/api/v1/conferences/{cid}/roster");
    clock::until("the caller is in the roster at home", CROSSING, || {
        let roster = http::get(&core.socket(), &path)?;
        let mut all = roster["participants"].as_array().unwrap().iter();
        let there = all.any(|p| p["pid"] == "1005" && p["by"] == json!(["call"]));
        Ok(there.then_some(()))
    })
    .unwrap();
}

/// The path breaks: commands are answered at once; it heals, and they are carried out.
fn broken(path: &Delay, edge: &Daemon, participant: &mut Participant) {
    path.cut();
    edge.link_becomes("down", "");
    let asked = clock::now();
    let answer = participant.ask("floor.query", &json!({}));
    assert_eq!(answer["code"], "home_unreachable", "{answer}");
    let took = clock::now() - asked;
    assert!(took < Duration::from_secs(5), "{took:?}");
    path.mend();
    edge.link_becomes("up", "");
    clock::until("it is carried out again", CROSSING, || {
        let answer = participant.ask("floor.query", &json!({}));
        Ok((answer["status"] == "ok").then_some(()))
    })
    .unwrap();
    // Who was away longer than grace has to come back.
    participant.join();
}
