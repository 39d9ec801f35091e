//! What phones say of who they are, what peers say, and what each is told.

use std::net::SocketAddr;
use std::time::Instant;

use control::effect::{Effect, Effects};
use control::engine::Engine;
use control::engine::input::Input;
use control::id::{Listener, Transport};
use control::sip::digest::{Attempt, Secret, answer};
use towpath_tests::clock;
use towpath_tests::sim::world::parsed;

const PEER: &str = "10.0.0.21:5060";
const PHONE: &str = "198.51.100.7:1024";
const FROM: &str = "<sip:1001@example.com>";
const NOBODY: &str = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";
const CLAIMS: &str = "P-Asserted-Identity: \"Boss\" <sip:1@example.com>, <tel:+1>\r\n\
                      X-Kept:  yes\r\nP-Preferred-Identity: <sip:1@example.com>\r\n\
                      Remote-Party-ID: <sip:1@example.com>;privacy=off\r\n";

struct Bench {
    engine: Engine,
    now: Instant,
    branch: u32,
}

impl Bench {
    fn new(asserts: bool) -> Self {
        let config = parsed(&format!(
            "[sip]\ndomain = 'example.com'\n[[sip.account]]\nuser = '1001'\npassword = 'x'\n\
             [[sip.peer]]\nname = 'pbx'\nuri = 'sip:{PEER}'\nroutes = ['8*']\n\
             assert_identity = {asserts}\n\
             [[network]]\nname = 'lan'\ninterface = 'eth1'\naddress = '10.0.0.3'\n\
             peers = ['10.0.0.0/8']\n\
             [[network]]\nname = 'wan'\ninterface = 'eth0'\naddress = '203.0.113.9'\n\
             media_ports = '30000-39999'\npeers = ['0.0.0.0/0']\n"
        ));
        let now = clock::now();
        let engine = Engine::new(config, [9; 32], now);
        Self {
            engine,
            now,
            branch: 0,
        }
    }

    /// All that is sent but `100 Trying`.
    fn receive(&mut self, from: &str, text: &str) -> Vec<(String, String)> {
        let from: SocketAddr = from.parse().unwrap();
        let near = from.ip().to_string().starts_with("10.");
        let local = if near {
            "10.0.0.3:5060"
        } else {
            "203.0.113.9:5060"
        };
        let on = Listener {
            transport: Transport::Udp,
            local: local.parse().unwrap(),
        };
        let bytes = text.to_owned().into();
        let mut effects = Effects::new();
        let input = Input::Sip { on, from, bytes };
        self.engine.handle(input, self.now, &mut effects);
        let mut sends = Vec::new();
        for effect in effects {
            if let Effect::Send { to, bytes, .. } = effect {
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                if !text.starts_with("SIP/2.0 100") {
                    sends.push((to.to_string(), text));
                }
            }
        }
        sends
    }

    fn ask(
        &mut self,
        at: &str,
        method: &str,
        from: &str,
        to: &str,
        more: &str,
    ) -> (String, String) {
        self.branch += 1;
        let branch = self.branch;
        let sdp = "v=0\r\no=- 1 1 IN IP4 10.9.9.9\r\ns=-\r\nc=IN IP4 10.9.9.9\r\nt=0 0\r\n\
                   m=audio 4000 RTP/AVP 0\r\n";
        let (kind, body) = match method {
            "INVITE" => ("Content-Type: application/sdp\r\n", sdp),
            _ => ("", ""),
        };
        let length = body.len();
        let text = format!(
            "{method} {to} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKc{branch}\r\n\
             Max-Forwards: 70\r\nFrom: {from};tag=f{branch}\r\nTo: <{to}>\r\nCall-ID: c{branch}\r\n\
             CSeq: {branch} {method}\r\nContact: <sip:x@{at}>\r\n{more}{kind}\
             User-Agent: Example Room System 4.21.7 (build 1234), with a long name\r\n\
             Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, NOTIFY, SUBSCRIBE, REFER\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        one(self.receive(at, &text))
    }

    /// A phone that answers the challenge.
    fn ask_proven(&mut self, method: &str, from: &str, more: &str) -> (String, String) {
        let to = "sip:8001@example.com";
        let (_, challenged) = self.ask(PHONE, method, from, to, more);
        assert!(challenged.starts_with("SIP/2.0 407"), "{challenged}");
        let challenge = line(&challenged, "Proxy-Authenticate: ");
        let attempt = Attempt {
            user: "1001",
            secret: Secret::Password("x"),
            method: method.as_bytes(),
            uri: to,
            body: b"",
            cnonce: "c",
            count: 1,
        };
        let proof = answer(challenge.as_bytes(), &attempt).unwrap();
        let more = format!("Proxy-Authorization: {proof}\r\n{more}");
        self.ask(PHONE, method, from, to, &more)
    }

    fn counted(&self, which: &'static str) -> u64 {
        self.engine.counters().get("sip_identity", which)
    }
}

#[track_caller]
fn one(mut sent: Vec<(String, String)>) -> (String, String) {
    assert_eq!(sent.len(), 1, "{sent:#?}");
    sent.remove(0)
}

fn line<'t>(text: &'t str, name: &str) -> &'t str {
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap_or_else(|| unreachable!("no {name} in\n{text}"))
}

/// What a message says of who somebody is, and what stood between.
fn claims(text: &str) -> String {
    let names = ["P-", "Remote-", "Privacy", "X-"];
    let lines = text.lines();
    let lines = lines.filter(|line| names.iter().any(|name| line.starts_with(name)));
    lines.map(|line| format!("{line}\r\n")).collect()
}

/// A response to what was sent.
fn reply(request: &str, status: &str, more: &str) -> String {
    let copied = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
    let lines = request.lines();
    let lines = lines.filter(|line| copied.iter().any(|name| line.starts_with(name)));
    let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
    let lines = lines.replace(
        "To: <sip:8001@example.com>",
        "To: <sip:8001@example.com>;tag=t",
    );
    format!("SIP/2.0 {status}\r\n{lines}{more}Content-Length: 0\r\n\r\n")
}

#[test]
fn a_phone_is_who_it_proves_to_be() {
    for method in ["INVITE", "MESSAGE"] {
        for (asserts, from) in [(true, FROM), (true, NOBODY), (false, FROM), (false, NOBODY)] {
            let mut bench = Bench::new(asserts);
            let more = format!("{CLAIMS}Privacy: id\r\n");
            let (to, sent) = bench.ask_proven(method, from, &more);
            assert_eq!(to, PEER);
            assert!(line(&sent, "From: ").starts_with(from), "{sent}");
            let own = "P-Asserted-Identity: <sip:1001@example.com>\r\n";
            let own = if asserts { own } else { "" };
            assert_eq!(
                claims(&sent),
                format!("X-Kept:  yes\r\nPrivacy: id\r\n{own}")
            );
            let asserted = u64::from(asserts);
            let counts = ["disbelieved", "asserted", "withheld"].map(|which| bench.counted(which));
            assert_eq!(counts, [2, asserted, 0]);
        }
    }
    // Only oneself or nobody.
    let mut bench = Bench::new(true);
    let (_, refused) = bench.ask_proven("INVITE", "<sip:1002@example.com>", "");
    assert!(refused.starts_with("SIP/2.0 403"), "{refused}");
}

/// Registers a phone, which proves who it is.
fn register(bench: &mut Bench) {
    let uri = "sip:example.com";
    let send = |bench: &mut Bench, more: &str| {
        bench.branch += 1;
        let branch = bench.branch;
        let text = format!(
            "REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bKr{branch}\r\n\
             Max-Forwards: 70\r\nFrom: {FROM};tag=f\r\nTo: {FROM}\r\nCall-ID: r\r\n\
             CSeq: {branch} REGISTER\r\nContact: <sip:1001@{PHONE}>\r\n{more}\
             User-Agent: Example Room System 4.21.7 (build 1234), with a long name\r\n\
             Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, NOTIFY, SUBSCRIBE, REFER\r\n\
             Content-Length: 0\r\n\r\n"
        );
        one(bench.receive(PHONE, &text)).1
    };
    let challenged = send(bench, "");
    let attempt = Attempt {
        user: "1001",
        secret: Secret::Password("x"),
        method: b"REGISTER",
        uri,
        body: b"",
        cnonce: "c",
        count: 1,
    };
    let challenge = line(&challenged, "WWW-Authenticate: ");
    let proof = answer(challenge.as_bytes(), &attempt).unwrap();
    let granted = send(bench, &format!("Authorization: {proof}\r\n"));
    assert!(granted.starts_with("SIP/2.0 200"), "{granted}");
}

#[test]
fn what_a_peer_says_is_told_unless_it_is_private() {
    for method in ["INVITE", "MESSAGE"] {
        for (privacy, told) in [
            ("", true),
            ("Privacy: none\r\n", true),
            ("Privacy: header;id\r\n", false),
        ] {
            let mut bench = Bench::new(true);
            register(&mut bench);
            let said = "P-Asserted-Identity: <sip:7@pbx.example>\r\nX-Kept:  yes\r\n\
                        Remote-Party-ID: <sip:7@pbx.example>\r\n";
            let more = format!("{said}{privacy}");
            let from = "<sip:7@pbx.example>";
            let (to, sent) = bench.ask(PEER, method, from, "sip:1001@example.com", &more);
            assert_eq!(to, PHONE);
            let expected = if told { said } else { "X-Kept:  yes\r\n" };
            assert_eq!(claims(&sent), format!("{expected}{privacy}"));
            assert_eq!(bench.counted("withheld"), u64::from(!told));
            // The phone's own word in its answer goes no further.
            let busy = reply(&sent, "486 Busy Here", CLAIMS);
            let back = bench.receive(PHONE, &busy).into_iter();
            let back = back
                .filter(|(to, _)| to == PEER)
                .map(|(_, text)| claims(&text));
            assert_eq!(back.collect::<Vec<_>>(), ["X-Kept:  yes\r\n"]);
        }
    }
}

#[test]
fn a_peer_that_answers_says_who_it_is() {
    for (privacy, told) in [("", CLAIMS), ("Privacy: id\r\n", "X-Kept:  yes\r\n")] {
        let mut bench = Bench::new(false);
        let (_, sent) = bench.ask_proven("INVITE", FROM, "");
        let more = format!("{CLAIMS}{privacy}").replace("P-Pref", "X-Pref");
        let ringing = reply(&sent, "180 Ringing", &more);
        let (to, back) = one(bench.receive(PEER, &ringing));
        assert_eq!(to, PHONE);
        let told = told.replace("P-Pref", "X-Pref");
        let left = "X-Preferred-Identity: <sip:1@example.com>\r\n";
        let told = if told.contains(left) {
            told
        } else {
            told + left
        };
        assert_eq!(claims(&back), format!("{told}{privacy}"));
    }
}
