//! Who is asked for what before it may register, by whom it is reached first, and how the way to it
//! is kept open.

use std::net::SocketAddr;
use std::time::Instant;

use control::effect::{Effect, Effects};
use control::engine::Engine;
use control::engine::input::Input;
use control::id::{Listener, Transport};
use control::sip::digest::{Attempt, Secret, answer};
use towpath_tests::clock;
use towpath_tests::sim::world::parsed;

use super::*;

const HOME: &str = "198.51.100.7:1024";
const AWAY: &str = "198.51.100.8:1024";

struct Edge {
    engine: Engine,
    now: Instant,
    branch: u32,
}

/// With further lines of `[sip]`, accounts, and lines of the network.
fn edge(sip: &str, network: &str) -> Edge {
    let config = parsed(&format!(
        "[sip]\ndomain = 'example.com'\n{sip}\n[[network]]\nname = 'wan'\ninterface = 'eth0'\n\
         address = '203.0.113.9'\n{network}"
    ));
    let now = clock::now();
    Edge {
        engine: Engine::new(config, [3; 32], now),
        now,
        branch: 0,
    }
}

impl Edge {
    fn receive(&mut self, from: &str, text: String) -> Vec<(String, String)> {
        let from: SocketAddr = from.parse().unwrap();
        let on = Listener {
            transport: Transport::Udp,
            local: "203.0.113.9:5060".parse().unwrap(),
        };
        let bytes = text.into();
        let mut effects = Effects::new();
        let input = Input::Sip { on, from, bytes };
        self.engine.handle(input, self.now, &mut effects);
        sent(effects)
    }

    fn pass(&mut self, time: Duration) -> Vec<(String, String)> {
        let end = self.now + time;
        let mut effects = Effects::new();
        while self.engine.next_timeout() <= end {
            self.now = self.now.max(self.engine.next_timeout());
            self.engine.expire(self.now, &mut effects);
        }
        self.now = end;
        sent(effects)
    }

    /// The answer to a REGISTER, of one contact with its parameters.
    fn register(&mut self, from: &str, user: &str, contact: &str, more: &str) -> String {
        self.branch += 1;
        let branch = self.branch;
        let text = format!(
            "REGISTER sip:example.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.168.1.10;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
             Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, NOTIFY, SUBSCRIBE, REFER\r\n\
             User-Agent: Example Room System 4.21.7 (build 1234)\r\nX-Serial: 0123456789abcdef\r\n\
             From: <sip:{user}@example.com>;tag=f\r\nTo: <sip:{user}@example.com>\r\n\
             Call-ID: {user}\r\nCSeq: {branch} REGISTER\r\nContact: {contact}\r\n{more}\
             Content-Length: 0\r\n\r\n"
        );
        let mut sent = self.receive(from, text);
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0).1
    }
}

fn sent(effects: Effects) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let effects = effects.into_iter();
    effects
        .filter_map(|effect| {
            if let Effect::Send { to, bytes, .. } = effect {
                return Some((to.to_string(), text(&bytes)));
            }
            None
        })
        .collect()
}

/// Of our numbers, in Via and CSeq.
fn branch_digits(answered: &str) -> usize {
    let cseq = answered.lines().find_map(|l| l.strip_prefix("CSeq: "));
    2 * cseq.and_then(|cseq| cseq.find(' ')).unwrap()
}

fn challenge(answered: &str) -> String {
    let found = answered
        .lines()
        .find_map(|l| l.strip_prefix("WWW-Authenticate: "));
    found
        .unwrap_or_else(|| unreachable!("{answered}"))
        .to_owned()
}

fn authorization(challenge: &str, user: &str, count: u32) -> String {
    authorization_for(challenge, user, count, "sip:example.com")
}

fn authorization_for(challenge: &str, user: &str, count: u32, uri: &str) -> String {
    let attempt = Attempt {
        user,
        secret: Secret::Password("secret"),
        method: b"REGISTER",
        uri,
        body: b"",
        count,
        cnonce: "c",
    };
    let value = answer(challenge.as_bytes(), &attempt).unwrap();
    format!("Authorization: {value}\r\n")
}

/// Each account by its own algorithm; a stranger as one of them, and always the same.
#[test]
fn challenges_tell_nobody_who_there_is() {
    let accounts: String = (0..40)
        .map(|n| {
            let more = if n % 2 == 0 {
                "algorithm = 'sha256'\n"
            } else {
                ""
            };
            format!("[[sip.account]]\nuser = 'u{n}'\npassword = 'secret'\n{more}")
        })
        .collect();
    let mut edge = edge(&accounts, "");
    let mut length = None;
    let mut asked = |user: &str| {
        let answered = edge.register(HOME, user, "<sip:x@192.168.1.10>", "");
        let challenge = challenge(&answered);
        assert!(!challenge.contains("stale"));
        // Nothing differs in length but the hash, and the name, which stands in From, To, Call-ID.
        let hash = if challenge.contains("algorithm=SHA-256") {
            "SHA-256"
        } else {
            "MD5"
        };
        let varies = hash.len() + 3 * user.len() + branch_digits(&answered);
        assert_eq!(
            *length.get_or_insert(answered.len() - varies),
            answered.len() - varies
        );
        hash
    };
    for (user, hash) in [("u0", "SHA-256"), ("u1", "MD5"), ("u2", "SHA-256")] {
        assert_eq!(asked(user), hash, "{user}");
    }
    let strangers: Vec<_> = (0..40).map(|n| asked(&format!("x{n}"))).collect();
    let again: Vec<_> = (0..40).map(|n| asked(&format!("x{n}"))).collect();
    assert_eq!(strangers, again);
    let strong = strangers.iter().filter(|hash| **hash == "SHA-256").count();
    assert!((10..=30).contains(&strong), "{strong} of 40");
}

#[test]
fn both_algorithms_and_both_hashes_are_accepted() {
    // `printf %s u:example.com:secret | md5sum`, `sha256sum`
    let md5 = "eae66b7357f105b7e6f4828d37c0653f";
    let sha = "1390fdc924beac5d7bb7e121450775073399e5945dd6867045eda4d339b62879";
    for (lines, hash) in [
        ("password = 'secret'".to_owned(), "MD5"),
        (
            "password = 'secret'\nalgorithm = 'sha256'".to_owned(),
            "SHA-256",
        ),
        (format!("ha1_md5 = '{md5}'"), "MD5"),
        (format!("ha1_sha256 = '{sha}'"), "SHA-256"),
    ] {
        let mut edge = edge(&format!("[[sip.account]]\nuser = 'u'\n{lines}\n"), "");
        let contact = "<sip:u@192.168.1.10>";
        let challenge = challenge(&edge.register(HOME, "u", contact, ""));
        assert!(
            challenge.contains(&format!("algorithm={hash},")),
            "{challenge}"
        );
        let proof = authorization(&challenge, "u", 1);
        let answered = edge.register(HOME, "u", contact, &proof);
        assert!(answered.starts_with("SIP/2.0 200"), "{lines}: {answered}");
    }
}

/// Along its flow a phone may use a nonce again; from elsewhere it gets a fresh one first.
#[test]
fn who_moves_proves_itself_anew() {
    let mut edge = edge("[[sip.account]]\nuser = 'u'\npassword = 'secret'\n", "");
    let contact = "<sip:u@192.168.1.10>";
    let first = challenge(&edge.register(HOME, "u", contact, ""));
    let proof = |challenge: &str, count| authorization(challenge, "u", count);
    let ok = |answered: String| assert!(answered.starts_with("SIP/2.0 200"), "{answered}");
    ok(edge.register(HOME, "u", contact, &proof(&first, 1)));
    edge.pass(30 * SECOND);
    ok(edge.register(HOME, "u", contact, &proof(&first, 2)));
    let answered = edge.register(AWAY, "u", contact, &proof(&first, 3));
    assert!(answered.starts_with("SIP/2.0 401"), "{answered}");
    let second = challenge(&answered);
    assert!(
        second.ends_with("stale=true") && second != first,
        "{second}"
    );
    // What was overheard is worth nothing there; what is fresh is.
    assert_eq!(
        edge.engine.registrations(edge.now)[0].seen.to.to_string(),
        HOME
    );
    ok(edge.register(AWAY, "u", contact, &proof(&second, 1)));
    assert_eq!(
        edge.engine.registrations(edge.now)[0].seen.to.to_string(),
        AWAY
    );
    assert_eq!(edge.engine.counters().get("sip_auth", "moved"), 1);
}

/// RFC 5626 §6, and GRUU's parameters are left alone.
#[test]
fn flows_of_one_phone_are_kept_apart() {
    let mut edge = edge("auth = 'none'", "");
    let flow = |id| format!("<sip:u@192.168.1.10;gr=x>;+sip.instance=\"<urn:uuid:1>\";reg-id={id}");
    for id in [1, 2] {
        let answered = edge.register(HOME, "u", &flow(id), "Supported: path, outbound\r\n");
        assert!(answered.contains("\r\nRequire: outbound\r\n"), "{answered}");
        assert!(answered.contains("<sip:u@192.168.1.10;gr=x>"), "{answered}");
    }
    assert_eq!(edge.engine.registrations(edge.now).len(), 2);
    let answered = edge.register(HOME, "v", &flow(1), "");
    assert!(!answered.contains("Require"), "{answered}");
}

#[test]
fn preference_decides_then_the_newest() {
    let mut edge = edge("auth = 'none'", "nat = 'never'\n");
    for (host, q) in [("1", "0.5"), ("2", "1.0"), ("3", "0.5")] {
        edge.pass(SECOND);
        let contact = format!("<sip:u@192.0.2.{host}>;q={q}");
        edge.register(HOME, "u", &contact, "");
    }
    let text = "OPTIONS sip:u@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7:1024;\
                branch=z9hG4bKo\r\nMax-Forwards: 70\r\nFrom: <sip:a@b>;tag=f\r\nTo: <sip:a@b>\r\n\
                Call-ID: o\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
    let sent = edge.receive(HOME, text.to_owned());
    assert_eq!(sent[0].0, "192.0.2.2:5060");
}

/// Nothing, two line ends or a question, as often as the network says; hot.
#[test]
fn the_way_to_phones_behind_nat_is_kept_open() {
    for (keepalive, expected) in [("off", 0), ("crlf", 3), ("options", 3)] {
        let lines =
            format!("nat = 'always'\nkeepalive = '{keepalive}'\nkeepalive_interval = '10s'\n");
        let mut edge = edge("auth = 'none'", &lines);
        edge.register(HOME, "u", "<sip:u@192.168.1.10>", "");
        let mut sent = Vec::new();
        for _ in 0..30 {
            let now = edge.pass(SECOND);
            for (to, text) in &now {
                assert_eq!(to, HOME);
                if text.starts_with("OPTIONS") {
                    assert!(
                        text.starts_with("OPTIONS sip:u@192.168.1.10 SIP/2.0\r\n"),
                        "{text}"
                    );
                    let copied = ["Via", "From", "To", "Call-ID", "CSeq"];
                    let lines = text
                        .lines()
                        .filter(|l| copied.iter().any(|n| l.starts_with(n)));
                    let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
                    let answer = format!("SIP/2.0 200 OK\r\n{lines}Content-Length: 0\r\n\r\n");
                    edge.receive(HOME, answer);
                } else {
                    assert_eq!(text, "\r\n\r\n");
                }
            }
            sent.extend(now);
        }
        assert_eq!(sent.len(), expected, "{keepalive}: {sent:?}");
    }
}

/// RFC 7616 §3.4.3: a proof for one resource is none for another.
#[test]
fn a_proof_is_for_what_is_asked() {
    for (uri, code) in [
        ("sip:example.com", "200"),
        ("sip:EXAMPLE.com:5060;transport=udp", "200"),
        ("sip:example.net", "401"),
        ("sip:u@example.com", "401"),
        ("x", "401"),
    ] {
        let mut edge = edge("[[sip.account]]\nuser = 'u'\npassword = 'secret'\n", "");
        let contact = "<sip:u@192.168.1.10>";
        let challenge = challenge(&edge.register(HOME, "u", contact, ""));
        let proof = authorization_for(&challenge, "u", 1, uri);
        let answered = edge.register(HOME, "u", contact, &proof);
        assert!(
            answered.starts_with(&format!("SIP/2.0 {code}")),
            "{uri}: {answered}"
        );
    }
}
