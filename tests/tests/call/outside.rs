//! Requests outside calls, sent to a peer of several addresses: one that does not serve is passed
//! over, as for calls.

use std::net::SocketAddr;
use std::time::Instant;

use control::effect::{Effect, Effects};
use control::engine::Engine;
use control::engine::input::Input;
use control::id::{Listener, Path, Transport};
use towpath_tests::clock;
use towpath_tests::sim::world::parsed;

use super::*;

const FIRST: &str = "10.0.0.21:5060";
const SECOND_BEST: &str = "10.0.0.22:5060";
const LAST: &str = "10.0.0.23:5060";
const PHONE: &str = "198.51.100.7:1024";
const UNSURE: &str = "SIP/2.0 100 Trying";

struct Bench {
    engine: Engine,
    now: Instant,
    branch: u32,
}

impl Bench {
    fn new(first: &str, more: &str) -> Self {
        let config = parsed(&format!(
            "[sip]\ndomain = 'example.com'\nauth = 'none'\n\
             listen = ['udp:10.0.0.3:5060', 'tcp:10.0.0.3:5060', 'udp:203.0.113.9:5060']\n\
             [[sip.peer]]\nname = 'pbx'\nuri = 'sip:{first}'\n\
             uris = ['sip:{LAST};priority=9', 'sip:{SECOND_BEST};priority=4']\n{more}\n\
             [[network]]\nname = 'lan'\ninterface = 'eth1'\naddress = '10.0.0.3'\n\
             peers = ['10.0.0.0/8']\n\
             [[network]]\nname = 'wan'\ninterface = 'eth0'\naddress = '203.0.113.9'\n\
             media_ports = '30000-39999'\npeers = ['0.0.0.0/0']\n"
        ));
        let now = clock::now();
        Self {
            engine: Engine::new(config, [9; 32], now),
            now,
            branch: 0,
        }
    }

    /// What follows from an input: what is sent, in order, to whom.
    fn handle(&mut self, input: Input) -> Vec<(String, String)> {
        let mut effects = Effects::new();
        self.engine.handle(input, self.now, &mut effects);
        sends(effects)
    }

    fn receive(&mut self, from: &str, text: &str) -> Vec<(String, String)> {
        let from: SocketAddr = from.parse().unwrap();
        let near = from.ip().to_string().starts_with("10.");
        let local = if near {
            "10.0.0.3:5060"
        } else {
            "203.0.113.9:5060"
        };
        let bytes = text.to_owned().into();
        let on = listener(Transport::Udp, local);
        self.handle(Input::Sip { on, from, bytes })
    }

    /// What is sent first in the time, repeats left out.
    fn pass(&mut self, time: Duration) -> Vec<(String, String)> {
        let end = self.now + time;
        let mut first: Vec<(String, String)> = Vec::new();
        while self.engine.next_timeout() <= end {
            self.now = self.now.max(self.engine.next_timeout());
            let mut effects = Effects::new();
            self.engine.expire(self.now, &mut effects);
            for sent in sends(effects) {
                if !first.contains(&sent) {
                    first.push(sent);
                }
            }
        }
        self.now = end;
        first
    }

    /// The phone asks for something; who is asked, and how.
    fn ask(&mut self, method: &str, more: &str) -> (String, String) {
        self.branch += 1;
        let branch = self.branch;
        let text = format!(
            "{method} sip:8001@example.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP {PHONE};branch=z9hG4bKo{branch}\r\nMax-Forwards: 70\r\n\
             From: <sip:1001@example.com>;tag=f\r\nTo: <sip:8001@example.com>\r\n\
             Call-ID: o{branch}\r\nCSeq: {branch} {method}\r\n{more}Content-Length: 0\r\n\r\n"
        );
        one(self.receive(PHONE, &text))
    }

    fn counted(&self, what: &'static str, which: &'static str) -> u64 {
        self.engine.counters().get(what, which)
    }

    fn states(&self) -> Vec<&'static str> {
        let peers = self.engine.peers(self.now).into_iter();
        peers.map(|peer| peer.state).collect()
    }
}

fn sends(effects: Effects) -> Vec<(String, String)> {
    let mut sends = Vec::new();
    for effect in effects {
        if let Effect::Send { to, bytes, .. } = effect {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            sends.push((to.to_string(), text));
        }
    }
    sends
}

fn listener(transport: Transport, local: &str) -> Listener {
    Listener {
        transport,
        local: local.parse().unwrap(),
    }
}

#[track_caller]
fn one(mut sent: Vec<(String, String)>) -> (String, String) {
    assert_eq!(sent.len(), 1, "{sent:#?}");
    sent.remove(0)
}

/// A response to what was sent.
fn answer(request: &str, status: &str) -> String {
    let copied = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
    let lines = request.lines();
    let lines = lines.filter(|line| copied.iter().any(|name| line.starts_with(name)));
    let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
    format!("SIP/2.0 {status}\r\n{lines}Content-Length: 0\r\n\r\n")
}

const ROUTES: &str = "routes = ['8*']";

/// Who is asked, and what the phone hears, if these answer so; silence is no answer.
#[test]
fn who_does_not_serve_is_passed_over() {
    let busy = "503 Service Unavailable";
    let cases: [(&[&str], &[&str], Option<&str>); 8] = [
        (&["200 OK"], &[FIRST], Some("200 OK")),
        (&[busy, "200 OK"], &[FIRST, SECOND_BEST], Some("200 OK")),
        (&["", "200 OK"], &[FIRST, SECOND_BEST], Some("200 OK")),
        (
            &["", busy, "200 OK"],
            &[FIRST, SECOND_BEST, LAST],
            Some("200 OK"),
        ),
        (&[busy, busy, busy], &[FIRST, SECOND_BEST, LAST], Some(busy)),
        (
            &[busy, "404 Not Found", "500 Server Internal Error"],
            &[FIRST, SECOND_BEST, LAST],
            Some("404 Not Found"),
        ),
        (&["403 Forbidden"], &[FIRST], Some("403 Forbidden")),
        (&["", "", ""], &[FIRST, SECOND_BEST, LAST], None),
    ];
    for method in ["MESSAGE", "OPTIONS", "SUBSCRIBE", "PUBLISH", "REFER"] {
        for (answers, asked, heard) in cases {
            let mut bench = Bench::new(FIRST, ROUTES);
            let mut next = bench.ask(method, "Contact: <sip:1001@198.51.100.7:1024>\r\n");
            let mut last = None;
            for (said, at) in answers.iter().zip(asked) {
                let (to, request) = next.clone();
                assert_eq!(to, *at, "{method} {answers:?}");
                assert!(
                    request.starts_with(&format!("{method} sip:8001@{at}")),
                    "{request}"
                );
                let then = match *said {
                    "" => {
                        let sent = bench.pass(5 * SECOND);
                        sent.into_iter()
                            .filter(|(_, text)| *text != request)
                            .collect()
                    }
                    said => bench.receive(at, &answer(&request, said)),
                };
                last = then.first().cloned();
                next = last.clone().unwrap_or(next);
            }
            let detours = u64::try_from(asked.len() - 1).unwrap();
            assert_eq!(bench.counted("sip_forward", "next_target"), detours);
            match heard {
                Some(status) => {
                    let (to, text) = last.unwrap();
                    assert_eq!(to, PHONE);
                    assert!(text.starts_with(&format!("SIP/2.0 {status}\r\n")), "{text}");
                }
                // RFC 4320 §4.2: there is no 408 for these.
                None => {
                    let sent = bench.pass(40 * SECOND);
                    assert!(sent.iter().all(|(to, _)| to == LAST), "{sent:#?}");
                }
            }
        }
    }
}

/// Whoever has said that it tries is waited for; what comes from one that was given up is late.
#[test]
fn who_tries_is_waited_for() {
    let mut bench = Bench::new(FIRST, ROUTES);
    let (_, request) = bench.ask("MESSAGE", "");
    let trying = answer(&request, UNSURE.strip_prefix("SIP/2.0 ").unwrap());
    assert_eq!(bench.receive(FIRST, &trying), []);
    let sent = bench.pass(20 * SECOND);
    assert!(sent.iter().all(|(to, _)| to == FIRST), "{sent:#?}");
    let (to, _) = one(bench.receive(FIRST, &answer(&request, "200 OK")));
    assert_eq!(to, PHONE);
    let (_, request) = bench.ask("MESSAGE", "");
    let mut sent = bench.pass(5 * SECOND);
    sent.retain(|(to, _)| to == SECOND_BEST);
    let (_, again) = sent.remove(0);
    assert_eq!(bench.receive(FIRST, &answer(&request, "200 OK")), []);
    assert_eq!(bench.counted("sip_transaction", "stray_response"), 1);
    let (to, _) = one(bench.receive(SECOND_BEST, &answer(&again, "202 Accepted")));
    assert_eq!(to, PHONE);
}

/// The silent one is left out once it has been silent often enough.
#[test]
fn the_silent_one_is_left_out() {
    let mut bench = Bench::new(FIRST, ROUTES);
    for _ in 0..3 {
        assert_eq!(bench.ask("MESSAGE", "").0, FIRST);
        let sent = bench.pass(5 * SECOND);
        let again = sent.into_iter().find(|(to, _)| to == SECOND_BEST).unwrap();
        bench.receive(SECOND_BEST, &answer(&again.1, "200 OK"));
    }
    assert_eq!(bench.states(), ["down", "unknown", "up"]);
    assert_eq!(bench.ask("MESSAGE", "").0, SECOND_BEST);
}

/// No connection comes about: the next is asked at once.
#[test]
fn who_cannot_be_connected_to_is_passed_over() {
    let mut bench = Bench::new(&format!("{FIRST};transport=tcp"), ROUTES);
    let (to, request) = bench.ask("MESSAGE", "");
    assert_eq!(to, FIRST);
    let path = Path {
        on: listener(Transport::Tcp, "10.0.0.3:5060"),
        to: FIRST.parse().unwrap(),
    };
    let bytes = request.into();
    let sent = bench.handle(Input::Unsent { path, bytes });
    assert_eq!(one(sent).0, FIRST);
    let (to, request) = one(bench.handle(Input::Closed(path)));
    assert_eq!(to, SECOND_BEST);
    let (to, _) = one(bench.receive(SECOND_BEST, &answer(&request, "200 OK")));
    assert_eq!(to, PHONE);
}

const REGISTRAR: &str = "register = 'forward'\nregister_by = 'path'";

fn register(bench: &mut Bench) -> Vec<(String, String)> {
    bench.branch += 1;
    let branch = bench.branch;
    let text = format!(
        "REGISTER sip:example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP {PHONE};branch=z9hG4bKr{branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:1001@example.com>;tag=f\r\nTo: <sip:1001@example.com>\r\n\
         Call-ID: reg\r\nCSeq: {branch} REGISTER\r\nContact: <sip:1001@{PHONE}>\r\n\
         Expires: 600\r\nContent-Length: 0\r\n\r\n"
    );
    bench.receive(PHONE, &text)
}

#[test]
fn a_registration_goes_to_the_registrars_next_address() {
    for (said, heard) in [("503 Service Unavailable", "200 OK"), ("", "200 OK")] {
        let mut bench = Bench::new(FIRST, REGISTRAR);
        let (to, request) = one(register(&mut bench));
        assert_eq!(to, FIRST);
        let then = match said {
            "" => bench.pass(5 * SECOND),
            said => bench.receive(FIRST, &answer(&request, said)),
        };
        let mut then = then.into_iter().filter(|(to, _)| to == SECOND_BEST);
        let (_, again) = then.next().unwrap();
        let path = again
            .lines()
            .find(|line| line.starts_with("Path: "))
            .unwrap();
        assert!(request.contains(path), "{again}");
        let granted = format!("200 OK\r\nContact: <sip:1001@{PHONE}>;expires=3600\r\n{path}");
        let (to, text) = one(bench.receive(SECOND_BEST, &answer(&again, &granted)));
        assert_eq!(to, PHONE);
        assert!(text.starts_with(&format!("SIP/2.0 {heard}\r\n")), "{text}");
        assert_eq!(bench.counted("sip_registration", "next_target"), 1);
        assert_eq!(bench.engine.registrations(bench.now).len(), 1);
    }
    // A refusal is the registrar's word, wherever it is said.
    let mut bench = Bench::new(FIRST, REGISTRAR);
    let (_, request) = one(register(&mut bench));
    let (to, text) = one(bench.receive(FIRST, &answer(&request, "403 Forbidden")));
    assert_eq!(to, PHONE);
    assert!(text.starts_with("SIP/2.0 403"), "{text}");
    // Nobody serves.
    let (_, mut request) = one(register(&mut bench));
    for (at, next) in [(FIRST, SECOND_BEST), (SECOND_BEST, LAST), (LAST, PHONE)] {
        let said = answer(&request, "503 Service Unavailable");
        let (to, text) = one(bench.receive(at, &said));
        assert_eq!(to, next, "{text}");
        request = text;
    }
    assert!(request.starts_with("SIP/2.0 503"), "{request}");
}

/// Whom the registrar vouches for calls through it: at another address if one does not serve, and
/// at the one that challenged as long as it does.
#[test]
fn calls_of_those_it_registered_go_to_its_next_address() {
    let mut bench = Bench::new(FIRST, REGISTRAR);
    let (_, request) = one(register(&mut bench));
    let path = request.lines().find(|line| line.starts_with("Path: "));
    let path = path.unwrap();
    let granted = format!("200 OK\r\nContact: <sip:1001@{PHONE}>;expires=3600\r\n{path}");
    one(bench.receive(FIRST, &answer(&request, &granted)));
    let invite = |bench: &mut Bench, from: &str| {
        bench.branch += 1;
        let branch = bench.branch;
        let text = format!(
            "INVITE sip:7001@example.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP {PHONE};branch=z9hG4bKi{branch}\r\nMax-Forwards: 70\r\n\
             From: <sip:{from}@example.com>;tag=f\r\nTo: <sip:7001@example.com>\r\n\
             Call-ID: i{branch}\r\nCSeq: 1 INVITE\r\nContact: <sip:1001@{PHONE}>\r\n\
             Content-Length: 0\r\n\r\n"
        );
        bench.receive(PHONE, &text)
    };
    let asked = |sent: Vec<(String, String)>| {
        let sent = sent
            .into_iter()
            .find(|(_, text)| text.starts_with("INVITE "));
        sent.unwrap()
    };
    for challenged in [false, true] {
        let (to, text) = asked(invite(&mut bench, "1001"));
        assert_eq!(to, FIRST);
        if challenged {
            let said = answer(&text, "407 Proxy Authentication Required");
            let sent = bench.receive(FIRST, &said);
            assert!(
                sent.iter()
                    .any(|(to, text)| to == PHONE && text.contains(" 407 "))
            );
            assert_eq!(asked(invite(&mut bench, "1001")).0, FIRST);
        } else {
            let said = answer(&text, "503 Service Unavailable");
            assert_eq!(asked(bench.receive(FIRST, &said)).0, SECOND_BEST);
        }
    }
}
