use super::*;
use crate::config::check::check as read;
use crate::effect::Effect;
use crate::engine::admin::Command;
use crate::engine::input::Input;
use crate::id::{Listener, Transport};
use crate::sip::digest::{self, Attempt, Secret};

const CONFIG: &str = "[sip]\ndomain = 'example.com'\n[sip.protection]\nban_after = 5\n\
                      exempt = ['198.51.100.0/24']\nscanners = ['Evil Phone']\n\
                      [[sip.account]]\nuser = '1001'\npassword = 'hunter2'\n\
                      [[sip.peer]]\nname = 'mcu'\nuri = 'sip:10.0.0.20'\n\
                      [[network]]\nname = 'lan'\ninterface = 'e'\naddress = '10.0.0.3'\n";

const PHONE: &str = "192.0.2.1:5060";

/// What phones say beside what they must.
const LINES: &str = "User-Agent: Make Model 1.2.3.4\r\nSupported: path, outbound\r\n\
                     Allow: INVITE, ACK, CANCEL, BYE, REFER, NOTIFY, OPTIONS, INFO, UPDATE\r\n";

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can be had from the clock only; the tests count from this one"
)]
fn start() -> Instant {
    Instant::now()
}

struct Edge {
    engine: Engine,
    now: Instant,
    branch: u32,
}

impl Edge {
    fn new() -> Self {
        let config = read("t", CONFIG, None, &mut |_| {
            Err(std::io::ErrorKind::NotFound.into())
        });
        let now = start();
        Self {
            engine: Engine::new(config.unwrap(), [1; 32], now),
            now,
            branch: 0,
        }
    }

    /// What is sent back.
    fn datagram(&mut self, from: &str, bytes: Vec<u8>) -> Vec<Bytes> {
        let on = Listener {
            transport: Transport::Udp,
            local: "10.0.0.3:5060".parse().unwrap(),
        };
        let from = from.parse().unwrap();
        let mut effects = Vec::new();
        let bytes = bytes.into();
        let input = Input::Sip { on, from, bytes };
        self.engine.handle(input, self.now, &mut effects);
        effects.retain(|effect| !matches!(effect, Effect::Store { .. }));
        let sent = |effect| {
            let Effect::Send { to, bytes, .. } = effect else {
                panic!("{effect:?}");
            };
            assert_eq!(to, from);
            bytes
        };
        effects.into_iter().map(sent).collect()
    }

    fn request(&mut self, from: &str, method: &str, user: &str, lines: &str) -> Vec<Bytes> {
        let bytes = self.write(from, method, user, lines);
        self.datagram(from, bytes)
    }

    fn write(&mut self, from: &str, method: &str, user: &str, lines: &str) -> Vec<u8> {
        self.branch += 1;
        let branch = self.branch;
        let uri = match method {
            "REGISTER" => "sip:example.com".to_owned(),
            _ => format!("sip:{user}@example.com"),
        };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{branch:08}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@example.com>;tag=a\r\n\
             To: <sip:{user}@example.com>\r\nCall-ID: c{branch:08}\r\nCSeq: 1 {method}\r\n\
             Contact: <sip:{user}@{from}>\r\n{lines}Content-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }

    /// A REGISTER with this password, challenged before; the final status.
    fn register(&mut self, from: &str, user: &str, password: &str) -> Option<u16> {
        let challenged = self.request(from, "REGISTER", user, LINES);
        let challenge = challenged
            .first()
            .map(|bytes| header(bytes, "WWW-Authenticate"))?;
        let attempt = Attempt {
            user,
            secret: Secret::Password(password),
            method: b"REGISTER",
            uri: "sip:example.com",
            body: b"",
            count: 1,
            cnonce: &self.branch.to_string(),
        };
        let answer = digest::answer(challenge.as_bytes(), &attempt).unwrap();
        let lines = format!("Authorization: {answer}\r\n{LINES}");
        let answered = self.request(from, "REGISTER", user, &lines);
        answered.first().map(status)
    }

    fn count(&self, what: &'static str, which: &'static str) -> u64 {
        self.engine.counters().get(what, which)
    }
}

fn header(bytes: &Bytes, name: &str) -> String {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let line = text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    });
    line.unwrap_or_else(|| panic!("{name} in {text}"))
}

fn status(bytes: &Bytes) -> u16 {
    let text = std::str::from_utf8(bytes.get(8..11).unwrap()).unwrap();
    text.parse().unwrap()
}

#[test]
fn an_account_that_is_not_there_looks_like_one_that_is() {
    for method in ["REGISTER", "INVITE", "OPTIONS", "MESSAGE", "SUBSCRIBE"] {
        let mut answers = Vec::new();
        for user in ["1001", "1999"] {
            let mut edge = Edge::new();
            let answer = edge.request(PHONE, method, user, LINES);
            let text = String::from_utf8(answer[0].to_vec()).unwrap();
            answers.push(text.replace(user, "USER"));
        }
        assert_eq!(answers[0], answers[1], "{method}");
    }
}

#[test]
fn a_stranger_is_sent_no_more_than_it_sent() {
    // As small as they get, and with everything a phone says.
    for lines in ["", LINES] {
        for method in ["REGISTER", "INVITE", "OPTIONS", "DANCE", "CANCEL", "BYE"] {
            let mut edge = Edge::new();
            let (mut received, mut sent) = (0, 0);
            for _ in 0..20 {
                let request = edge.write(PHONE, method, "1001", lines);
                received += request.len();
                for reply in edge.datagram(PHONE, request) {
                    sent += reply.len();
                }
                assert!(sent <= received, "{method}: {sent} for {received}");
                // Timers send nothing on top.
                let mut effects = Vec::new();
                edge.now += Duration::from_millis(500);
                edge.engine.expire(edge.now, &mut effects);
                assert_eq!(effects, []);
            }
            assert!(sent > received / 3, "{method}: {sent} for {received}");
        }
    }
}

#[test]
fn scanners_have_no_answer() {
    let mut edge = Edge::new();
    for agent in ["friendly-scanner", "VaxSIPUserAgent/3.1", "my EVIL phone 2"] {
        let line = format!("User-Agent: {agent}\r\n");
        assert_eq!(
            edge.request(PHONE, "OPTIONS", "100", &line),
            Vec::<Bytes>::new()
        );
    }
    assert_eq!(edge.count("sip_dropped", "scanner"), 3);
    assert_eq!(edge.bans_now(), Vec::<String>::new());
    edge.request(PHONE, "OPTIONS", "100", "User-Agent: sipcli\r\n");
    edge.request(PHONE, "OPTIONS", "100", "User-Agent: sipcli\r\n");
    assert_eq!(edge.bans_now(), ["192.0.2.1/32 scanner"]);
    assert!(edge.request(PHONE, "OPTIONS", "100", "").is_empty());
    assert_eq!(edge.count("sip_dropped", "banned"), 1);
    // Peers and exempt addresses are heard whatever they say.
    for from in ["10.0.0.20:5060", "198.51.100.7:5060"] {
        for _ in 0..9 {
            let line = "User-Agent: friendly-scanner\r\n";
            assert_eq!(
                edge.request(from, "OPTIONS", "100", line).len(),
                1,
                "{from}"
            );
        }
    }
}

impl Edge {
    fn bans_now(&self) -> Vec<String> {
        let bans = self.engine.bans(self.now).into_iter();
        bans.map(|ban| format!("{} {}", ban.net, ban.why)).collect()
    }
}

#[test]
fn guesses_shut_out_the_guesser_and_not_the_phone() {
    let mut edge = Edge::new();
    assert_eq!(edge.register(PHONE, "1001", "hunter2"), Some(200));
    // Behind the same NAT, and from elsewhere.
    for from in ["192.0.2.1:6666", "203.0.113.66:5060"] {
        for guess in 0..4 {
            assert_eq!(edge.register(from, "1001", &format!("{guess}")), Some(401));
        }
        edge.register(from, "1001", "4");
        assert_eq!(edge.register(from, "1001", "hunter2"), None, "{from}");
    }
    assert_eq!(
        edge.bans_now(),
        ["192.0.2.1/32 password", "203.0.113.66/32 password"]
    );
    assert_eq!(edge.register(PHONE, "1001", "hunter2"), Some(200));
    assert_eq!(
        edge.register("192.0.2.9:5060", "1001", "hunter2"),
        Some(200)
    );
    edge.now += Duration::from_secs(601);
    assert_eq!(
        edge.register("203.0.113.66:5060", "1001", "hunter2"),
        Some(200)
    );
}

#[test]
fn a_banned_source_is_heard_again_and_its_phones_are_all_the_time() {
    let mut edge = Edge::new();
    assert_eq!(edge.register(PHONE, "1001", "hunter2"), Some(200));
    for user in 0..30 {
        edge.register("192.0.2.1:6666", &format!("guess{user}"), "x");
    }
    assert_eq!(edge.bans_now(), ["192.0.2.1/32 passwords"]);
    assert_eq!(edge.register("192.0.2.1:6666", "1001", "hunter2"), None);
    assert_eq!(edge.register(PHONE, "1001", "hunter2"), Some(200));
    edge.now += Duration::from_secs(601);
    assert_eq!(
        edge.register("192.0.2.1:6666", "1001", "hunter2"),
        Some(200)
    );
}

#[test]
fn an_operator_shuts_out_whom_he_likes() {
    let mut edge = Edge::new();
    assert_eq!(edge.register(PHONE, "1001", "hunter2"), Some(200));
    let net: IpNet = "192.0.2.0/24".parse().unwrap();
    let order = |edge: &mut Edge, command| {
        let now = edge.now;
        edge.engine.command(command, now, &mut Vec::new())
    };
    assert_eq!(order(&mut edge, Command::Ban { net, time: None }), Ok(()));
    assert_eq!(edge.register(PHONE, "1001", "hunter2"), None);
    assert_eq!(edge.bans_now(), ["192.0.2.0/24 manual"]);
    assert_eq!(order(&mut edge, Command::Unban { net }), Ok(()));
    assert_eq!(
        order(&mut edge, Command::Unban { net }),
        Err(Refused::NoSuchBan)
    );
    assert_eq!(edge.register(PHONE, "1001", "hunter2"), Some(200));
    let kinds: Vec<Kind> = edge.engine.events(0).map(|event| event.kind).collect();
    assert!(
        kinds.ends_with(&[Kind::SourceBanned, Kind::SourceReleased]),
        "{kinds:?}"
    );
}

#[test]
fn whoever_asks_too_much_waits_and_others_do_not() {
    let mut edge = Edge::new();
    let heard = (0..3000)
        .filter(|_| {
            !edge
                .request("203.0.113.66:5060", "OPTIONS", "1001", "")
                .is_empty()
        })
        .count();
    assert!(heard < 1000, "{heard}");
    assert_eq!(edge.count("sip_dropped", "source_rate"), 2000);
    assert_eq!(edge.register(PHONE, "1001", "hunter2"), Some(200));
    edge.now += Duration::from_secs(10);
    assert_eq!(
        edge.register("203.0.113.66:5060", "1001", "hunter2"),
        Some(200)
    );
}
