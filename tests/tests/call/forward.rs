//! Registrations kept by a peer: a scripted registrar on one side, a scripted phone on the other.

use std::net::SocketAddr;
use std::time::Instant;

use control::effect::{Effect, Effects};
use control::engine::Engine;
use control::engine::input::Input;
use control::id::{Listener, Transport};
use towpath_tests::clock;
use towpath_tests::sim::world::parsed;

use super::*;

const REGISTRAR: &str = "10.0.0.20:5060";
const PHONE: &str = "198.51.100.7:1024";
const MOVED: &str = "198.51.100.7:2048";
const CREDENTIALS: &str = "Authorization: Digest username=\"1001\", realm=\"example.com\", \
                           nonce=\"n1\", uri=\"x\", response=\"00\"\r\n";

/// The edge, and what it has sent.
struct Bench {
    engine: Engine,
    now: Instant,
    sent: Vec<(String, String)>,
    branch: u32,
}

impl Bench {
    fn new(by: &str) -> Self {
        let config = parsed(&format!(
            "[sip]\ndomain = 'example.com'\n[[sip.account]]\nuser = '2001'\npassword = 'x'\n\
             [[sip.peer]]\nname = 'pbx'\nuri = 'sip:{REGISTRAR}'\nregister = 'forward'\n\
             register_by = '{by}'\nregister_expires = '2h'\n\
             [[network]]\nname = 'lan'\ninterface = 'eth1'\naddress = '10.0.0.3'\n\
             peers = ['10.0.0.0/8']\n\
             [[network]]\nname = 'wan'\ninterface = 'eth0'\naddress = '203.0.113.9'\n\
             media_ports = '30000-39999'\npeers = ['0.0.0.0/0']\n"
        ));
        let now = clock::now();
        Self {
            engine: Engine::new(config, [9; 32], now),
            now,
            sent: Vec::new(),
            branch: 0,
        }
    }

    fn perform(&mut self, effects: Effects) {
        for effect in effects {
            if let Effect::Send { to, bytes, .. } = effect {
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                if text != "\r\n\r\n" {
                    self.sent.push((to.to_string(), text));
                }
            }
        }
    }

    fn receive(&mut self, from: &str, text: String) {
        let from: SocketAddr = from.parse().unwrap();
        let at = if from.ip().to_string().starts_with("10.") {
            "10.0.0.3:5060"
        } else {
            "203.0.113.9:5060"
        };
        let on = Listener {
            transport: Transport::Udp,
            local: at.parse().unwrap(),
        };
        let bytes = text.into();
        let mut effects = Effects::new();
        let input = Input::Sip { on, from, bytes };
        self.engine.handle(input, self.now, &mut effects);
        self.perform(effects);
    }

    /// Time passes, its timers run.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.engine.next_timeout() <= end {
            self.now = self.now.max(self.engine.next_timeout());
            let mut effects = Effects::new();
            self.engine.expire(self.now, &mut effects);
            self.perform(effects);
        }
        self.now = end;
    }

    fn register(&mut self, from: &str, cseq: u32, expires: u32, more: &str) {
        self.branch += 1;
        let branch = self.branch;
        self.receive(
            from,
            format!(
                "REGISTER sip:example.com SIP/2.0\r\n\
                 Via: SIP/2.0/UDP 192.168.1.10:5060;branch=z9hG4bKp{branch}\r\nMax-Forwards: 70\r\n\
             Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, NOTIFY, SUBSCRIBE, REFER\r\n\
             User-Agent: Example Room System 4.21.7 (build 1234)\r\nX-Serial: 0123456789abcdef\r\n\
                 From: <sip:1001@example.com>;tag=f\r\nTo: <sip:1001@example.com>\r\n\
                 Call-ID: reg\r\nCSeq: {cseq} REGISTER\r\n\
                 Contact: <sip:1001@192.168.1.10:5060>\r\nExpires: {expires}\r\n{more}\
                 Content-Length: 0\r\n\r\n"
            ),
        );
    }

    /// The one message that was sent since the last time, to whom it must be.
    #[track_caller]
    fn one(&mut self, to: &str) -> String {
        let mut sent = std::mem::take(&mut self.sent);
        assert_eq!(sent.len(), 1, "{sent:#?}");
        let (found, text) = sent.remove(0);
        assert_eq!(found, to, "{text}");
        text
    }

    /// The registrar answers what it was sent.
    fn answer(&mut self, request: &str, status: &str, more: &str) {
        let copied = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
        let lines = request.lines();
        let lines = lines.filter(|line| copied.iter().any(|name| line.starts_with(name)));
        let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
        let lines = lines.replace(
            "To: <sip:1001@example.com>",
            "To: <sip:1001@example.com>;tag=r",
        );
        let text = format!("SIP/2.0 {status}\r\n{lines}{more}Content-Length: 0\r\n\r\n");
        self.receive(REGISTRAR, text);
    }

    /// A phone that has been registered with credentials: what the registrar knows it by.
    fn registered(by: &str) -> (Self, String) {
        let mut bench = Self::new(by);
        bench.register(PHONE, 2, 3600, CREDENTIALS);
        let asked = bench.one(REGISTRAR);
        let contact = line(&asked, "Contact: ").replace("7200", "1800");
        let path = if by == "path" {
            format!("Path: {}\r\n", line(&asked, "Path: "))
        } else {
            String::new()
        };
        bench.answer(&asked, "200 OK", &format!("Contact: {contact}\r\n{path}"));
        let granted = bench.one(PHONE);
        assert!(granted.starts_with("SIP/2.0 200"), "{granted}");
        assert_eq!(
            line(&granted, "Contact: "),
            "<sip:1001@192.168.1.10:5060>;expires=60"
        );
        let way = if by == "path" {
            line(&asked, "Path: ")
        } else {
            contact
        };
        let uri = way[1..].split('>').next().unwrap().to_owned();
        (bench, uri)
    }

    fn counted(&self, which: &'static str) -> u64 {
        self.engine.counters().get("sip_registration", which)
    }

    fn bindings(&self) -> usize {
        self.engine.registrations(self.now).len()
    }

    /// Calls out of the blue.
    fn invite(&mut self, from: &str, uri: &str, more: &str) {
        self.branch += 1;
        let branch = self.branch;
        self.receive(
            from,
            format!(
                "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKi{branch}\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:9@example.com>;tag=f{branch}\r\n\
                 To: <sip:1001@example.com>\r\nCall-ID: call{branch}\r\nCSeq: 1 INVITE\r\n\
                 Contact: <sip:9@{from}>\r\n{more}Content-Length: 0\r\n\r\n"
            ),
        );
    }
}

fn line(text: &str, name: &str) -> String {
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found
        .unwrap_or_else(|| unreachable!("no {name} in\n{text}"))
        .to_owned()
}

#[test]
fn the_registrar_challenges_and_judges() {
    let mut bench = Bench::new("contact");
    bench.register(PHONE, 1, 3600, "");
    let asked = bench.one(REGISTRAR);
    assert!(
        asked.starts_with("REGISTER sip:example.com SIP/2.0\r\n"),
        "{asked}"
    );
    let contact = line(&asked, "Contact: ");
    assert!(
        contact.starts_with("<sip:1001@10.0.0.3:5060;tpr="),
        "{contact}"
    );
    assert!(contact.ends_with(">;expires=7200"), "{contact}");
    let challenge = "WWW-Authenticate: Digest realm=\"example.com\", nonce=\"n1\"\r\n";
    bench.answer(&asked, "401 Unauthorized", challenge);
    let challenged = bench.one(PHONE);
    assert!(challenged.starts_with("SIP/2.0 401") && challenged.contains(challenge));
    assert_eq!(bench.bindings(), 0);
    // Credentials are the registrar's business, as they are.
    bench.register(PHONE, 2, 3600, CREDENTIALS);
    let asked = bench.one(REGISTRAR);
    assert!(asked.contains(CREDENTIALS), "{asked}");
    assert_eq!(line(&asked, "Contact: "), contact);
    bench.answer(&asked, "403 Forbidden", "");
    assert!(bench.one(PHONE).starts_with("SIP/2.0 403"));
    assert_eq!(
        (bench.bindings(), bench.counted("registrar_refused")),
        (0, 1)
    );
    // A registrar that wants a longer lifetime says so to the phone.
    bench.register(PHONE, 3, 60, CREDENTIALS);
    let asked = bench.one(REGISTRAR);
    bench.answer(&asked, "423 Interval Too Brief", "Min-Expires: 9000\r\n");
    assert_eq!(line(&bench.one(PHONE), "Min-Expires: "), "9000");
    bench.register(PHONE, 4, 9000, CREDENTIALS);
    assert!(line(&bench.one(REGISTRAR), "Contact: ").ends_with("expires=9000"));
    // Who has an account here is judged here.
    let mine = "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9:5060;\
                branch=z9hG4bKm\r\nMax-Forwards: 70\r\nFrom: <sip:2001@example.com>;tag=f\r\n\
                To: <sip:2001@example.com>\r\nCall-ID: m\r\nCSeq: 1 REGISTER\r\n\
                Contact: <sip:2001@198.51.100.9>\r\n\
                Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, NOTIFY, SUBSCRIBE, REFER\r\n\
                User-Agent: Example Room System 4.21.7 (build 1234)\r\nContent-Length: 0\r\n\r\n";
    bench.receive("198.51.100.9:5060", mine.to_owned());
    assert!(bench.one("198.51.100.9:5060").starts_with("SIP/2.0 401"));
}

#[test]
fn a_refresh_is_answered_here_while_the_registrars_word_is_fresh() {
    let (mut bench, _) = Bench::registered("contact");
    for cseq in 3..8 {
        bench.pass(30 * SECOND);
        bench.register(PHONE, cseq, 3600, CREDENTIALS);
        assert!(bench.one(PHONE).starts_with("SIP/2.0 200"));
    }
    assert_eq!(bench.counted("refreshed_here"), 5);
    let goes_on = |bench: &mut Bench, from: &str, cseq, expires, credentials: &str| {
        bench.register(from, cseq, expires, credentials);
        let asked = bench.one(REGISTRAR);
        assert!(asked.starts_with("REGISTER"), "{asked}");
        asked
    };
    // Another flow, other credentials, a farewell: for the registrar to judge.
    goes_on(&mut bench, MOVED, 8, 3600, CREDENTIALS);
    goes_on(&mut bench, PHONE, 9, 3600, &CREDENTIALS.replace("n1", "n2"));
    goes_on(&mut bench, PHONE, 10, 3600, "");
    goes_on(&mut bench, PHONE, 11, 0, CREDENTIALS);
    // What it has not answered changed nothing; half an hour is not yet over, five minutes are.
    assert_eq!((bench.bindings(), bench.counted("refreshed_here")), (1, 5));
    bench.pass(20 * SECOND);
    bench.sent.clear();
    bench.register(PHONE, 12, 3600, CREDENTIALS);
    assert!(bench.one(PHONE).starts_with("SIP/2.0 200"));
    for cseq in [13, 14, 15] {
        bench.pass(50 * SECOND);
        bench.sent.clear();
        bench.register(PHONE, cseq, 3600, CREDENTIALS);
    }
    let asked = bench.one(REGISTRAR);
    bench.answer(
        &asked,
        "200 OK",
        &format!("Contact: {}\r\n", line(&asked, "Contact: ")),
    );
    assert!(bench.one(PHONE).starts_with("SIP/2.0 200"));
}

#[test]
fn calls_of_the_registrar_find_the_phone() {
    for by in ["contact", "path"] {
        let (mut bench, uri) = Bench::registered(by);
        let (asked, route) = match by {
            "path" => ("sip:1001@192.168.1.10:5060", format!("Route: <{uri}>\r\n")),
            _ => (&uri[..], String::new()),
        };
        bench.invite(REGISTRAR, asked, &route);
        let to_phone: Vec<_> = bench.sent.iter().filter(|(to, _)| to == PHONE).collect();
        let [(_, invite)] = &to_phone[..] else {
            panic!("{by}: {:#?}", bench.sent)
        };
        let start = "INVITE sip:1001@192.168.1.10:5060 SIP/2.0\r\n";
        assert!(
            invite.starts_with(start) && !invite.contains("Route:"),
            "{invite}"
        );
        // Nobody can guess the name of a binding, and one that is over leads nowhere.
        bench.sent.clear();
        let forged = uri.replace("tpr=", "tpr=0");
        bench.invite(REGISTRAR, &forged, "");
        let (_, refusal) = bench.sent.last().unwrap();
        assert!(refusal.starts_with("SIP/2.0 480"), "{refusal}");
    }
}

#[test]
fn what_is_over_here_is_over_there() {
    for by in ["contact", "path"] {
        // The phone says goodbye.
        let (mut bench, _) = Bench::registered(by);
        bench.register(PHONE, 3, 0, CREDENTIALS);
        let asked = bench.one(REGISTRAR);
        assert!(line(&asked, "Contact: ").ends_with("expires=0"));
        bench.answer(&asked, "200 OK", "");
        assert!(bench.one(PHONE).starts_with("SIP/2.0 200"));
        assert_eq!(bench.bindings(), 0);
        // The phone is never heard of again.
        let (mut bench, uri) = Bench::registered(by);
        bench.pass(59 * SECOND);
        assert_eq!((bench.bindings(), bench.sent.len()), (1, 0));
        bench.pass(3 * SECOND);
        assert_eq!((bench.bindings(), bench.counted("withdrawn")), (0, 1));
        let asked = bench.sent[0].1.clone();
        assert!(
            line(&asked, "Contact: ").ends_with(">;expires=0"),
            "{asked}"
        );
        assert!(asked.contains(&uri), "{asked}");
        assert_eq!(line(&asked, "CSeq: "), "3 REGISTER");
    }
}

/// What is lost is repeated, what comes twice counts once, and silence is not the phone's end.
#[test]
fn loss_order_and_silence() {
    let mut bench = Bench::new("contact");
    bench.register(PHONE, 2, 3600, CREDENTIALS);
    let asked = bench.one(REGISTRAR);
    // The phone repeats: nothing more goes on. We repeat: the same.
    bench.branch -= 1;
    bench.register(PHONE, 2, 3600, CREDENTIALS);
    assert_eq!(bench.sent, []);
    bench.pass(ms(600));
    assert_eq!(bench.one(REGISTRAR), asked);
    let contact = format!("Contact: {}\r\n", line(&asked, "Contact: "));
    bench.answer(&asked, "100 Trying", "");
    assert_eq!(bench.sent, []);
    bench.answer(&asked, "200 OK", &contact);
    let granted = bench.one(PHONE);
    bench.answer(&asked, "200 OK", &contact);
    assert_eq!(bench.sent, []);
    // The answer was lost: the phone repeats, and gets the same.
    bench.branch -= 1;
    bench.register(PHONE, 2, 3600, CREDENTIALS);
    assert_eq!(bench.one(PHONE), granted);
    // An older request that comes late is not obeyed, nor sent on.
    bench.register(PHONE, 1, 3600, CREDENTIALS);
    assert!(bench.one(PHONE).starts_with("SIP/2.0 500"));
    // A new flow, and a registrar that is silent: the old binding stays as long as it was granted.
    bench.register(MOVED, 3, 3600, CREDENTIALS);
    bench.pass(40 * SECOND);
    assert_eq!(
        (bench.counted("registrar_silent"), bench.bindings()),
        (1, 1)
    );
    let seen = bench.engine.registrations(bench.now)[0].seen.to;
    assert_eq!(seen.to_string(), PHONE);
    // It comes back, and forgot everything meanwhile: it takes the phone anew.
    bench.sent.clear();
    bench.register(MOVED, 4, 3600, CREDENTIALS);
    let asked = bench.one(REGISTRAR);
    assert!(
        asked.contains(&contact),
        "the contact stays the same: {asked}"
    );
    bench.answer(&asked, "200 OK", &contact);
    assert!(bench.one(MOVED).starts_with("SIP/2.0 200"));
    let seen = bench.engine.registrations(bench.now)[0].seen.to;
    assert_eq!(seen.to_string(), MOVED);
}

/// Calls of a phone that the registrar vouched for go to the registrar, credentials and all.
#[test]
fn a_phones_calls_are_the_registrars_to_judge() {
    let (mut bench, _) = Bench::registered("contact");
    let credentials = CREDENTIALS.replace("Authorization", "Proxy-Authorization");
    let invite = |bench: &mut Bench, from: &str, user: &str| {
        bench.branch += 1;
        let branch = bench.branch;
        bench.receive(
            from,
            format!(
                "INVITE sip:1002@example.com SIP/2.0\r\n\
                 Via: SIP/2.0/UDP 192.168.1.10;branch=z9hG4bKo{branch}\r\nMax-Forwards: 70\r\n\
                 From: <sip:{user}@example.com>;tag=o{branch}\r\nTo: <sip:1002@example.com>\r\n\
                 Call-ID: out{branch}\r\nCSeq: 1 INVITE\r\nContact: <sip:1001@192.168.1.10>\r\n\
                 {credentials}Content-Length: 0\r\n\r\n"
            ),
        );
        std::mem::take(&mut bench.sent)
    };
    let sent = invite(&mut bench, PHONE, "1001");
    let (_, onward) = sent.iter().find(|(to, _)| to == REGISTRAR).unwrap();
    assert!(
        onward.starts_with("INVITE sip:1002@example.com SIP/2.0"),
        "{onward}"
    );
    assert!(onward.contains(&credentials), "{onward}");
    // From another flow, or in another name: challenged here, and nobody can answer that.
    for (from, user) in [(MOVED, "1001"), (PHONE, "1002")] {
        let sent = invite(&mut bench, from, user);
        assert!(sent[0].1.starts_with("SIP/2.0 407"), "{sent:?}");
        assert_eq!(sent.len(), 1);
    }
}
