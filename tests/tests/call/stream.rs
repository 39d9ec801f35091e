//! Connections: what is sent once, what fails at once, and who is reached by which.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use control::config::Config;
use control::config::check::check;
use control::id::{Listener, Path, Transport};
use towpath_tests::clock;
use towpath_tests::sim::Packet;
use towpath_tests::sim::edge::Edge;

use super::*;

/// UDP and TCP have ports of their own here, so that a packet tells one from the other.
const CONFIG: &str = "[sip]
domain = 'example.com'
auth = 'none'
listen = ['udp:10.0.0.3:5060', 'tcp:10.0.0.3:5062']
[[sip.peer]]
name = 'mcu'
uri = 'sip:10.0.0.20;transport=tcp'
routes = ['8*']
[[sip.peer]]
name = 'pbx'
uri = 'sip:10.0.0.30'
routes = ['9*']
[[sip.peer]]
name = 'pair'
uri = 'sip:10.0.0.40;transport=tcp'
uris = ['sip:10.0.0.41;transport=tcp']
probe_failures = 1
routes = ['7*']
[[network]]
name = 'lan'
interface = 'eth1'
address = '10.0.0.3'
[datapath]
mode = 'userspace'
";

const UDP: &str = "10.0.0.3:5060";
const TCP: &str = "10.0.0.3:5062";
const CALLER: &str = "10.0.0.31:5060";
/// A port no listener has: where a client's connection begins.
const CLIENT: &str = "10.0.0.32:40000";
const MCU: &str = "10.0.0.20:5060";
const PBX: &str = "10.0.0.30:5060";

/// The edge, and what it has sent.
struct Script {
    edge: Edge,
    now: Instant,
    out: Vec<Packet>,
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn config() -> Config {
    check("t", CONFIG, None, &mut |_| {
        Err(std::io::ErrorKind::NotFound.into())
    })
    .unwrap()
}

impl Script {
    fn new() -> Self {
        let now = clock::now();
        Self {
            edge: Edge::new(config(), 1, Datapath::Sockets, now),
            now,
            out: Vec::new(),
        }
    }

    fn send(&mut self, from: &str, to: &str, text: &str) {
        let packet = Packet {
            from: at(from),
            to: at(to),
            bytes: Bytes::from(text.to_owned()),
        };
        self.edge.receive(packet, self.now, &mut self.out);
        self.edge.check().unwrap();
    }

    fn request(&mut self, from: &str, to: &str, method: &str, user: &str, cseq: u32, body: &str) {
        let transport = if to == TCP { "TCP" } else { "UDP" };
        let own = from.split(':').next().unwrap();
        let text = format!(
            "{method} sip:{user}@example.com SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {own}:5060;branch=z9hG4bK{method}{cseq}\r\n\
             From: <sip:{user}@example.com>;tag=f\r\nTo: <sip:{user}@example.com>\r\n\
             Call-ID: {method}{own}\r\nCSeq: {cseq} {method}\r\nMax-Forwards: 70\r\n\
             Contact: <sip:{user}@{own}:5060>\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.send(from, to, &text);
    }

    /// What was sent since the last look, as `first line > to`.
    fn sent(&mut self) -> Vec<String> {
        let sent = std::mem::take(&mut self.out);
        let line = |p: &Packet| {
            let line = p.start_line();
            let words: Vec<&str> = line.split(' ').take(2).collect();
            let tcp = if p.from == at(TCP) { " by tcp" } else { "" };
            format!("{} > {}{tcp}", words.join(" "), p.to)
        };
        sent.iter().map(line).collect()
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.edge.next_timeout() <= end {
            self.now = self.edge.next_timeout();
            self.edge.expire(self.now, &mut self.out);
        }
        self.now = end;
    }

    fn cut(&mut self, to: &str) {
        let on = Listener {
            transport: Transport::Tcp,
            local: at(TCP),
        };
        let path = Path { on, to: at(to) };
        self.edge.cut(path, self.now, &mut self.out);
    }

    #[track_caller]
    fn expect(&mut self, expected: &[&str]) {
        assert_eq!(self.sent(), expected);
    }
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.31\r\ns=-\r\nc=IN IP4 10.0.0.31\r\nt=0 0\r\n\
                   m=audio 6000 RTP/AVP 0\r\n";

fn large() -> String {
    format!("{SDP}a=x:{}\r\n", "y".repeat(1300))
}

#[test]
fn what_goes_by_a_connection_is_sent_once() {
    let mut script = Script::new();
    script.request(CALLER, UDP, "MESSAGE", "8001", 1, "");
    let message = ["MESSAGE sip:8001@10.0.0.20:5060;transport=tcp > 10.0.0.20:5060 by tcp"];
    script.expect(&message);
    script.wait(ms(31_900));
    script.expect(&[]);
    script.request(CALLER, UDP, "INVITE", "8001", 1, SDP);
    let invite = "INVITE sip:8001@10.0.0.20:5060;transport=tcp > 10.0.0.20:5060 by tcp";
    script.expect(&["SIP/2.0 100 > 10.0.0.31:5060", invite]);
    script.wait(ms(31_000));
    script.expect(&[]);
    // Timer B runs over connections too.
    script.wait(ms(1_100));
    script.expect(&["SIP/2.0 408 > 10.0.0.31:5060"]);
}

#[test]
fn nobody_who_listens_is_known_at_once() {
    let mut script = Script::new();
    script.edge.deaf.insert(at(MCU));
    script.request(CALLER, UDP, "MESSAGE", "8001", 1, "");
    script.expect(&["SIP/2.0 503 > 10.0.0.31:5060"]);
    script.request(CALLER, UDP, "INVITE", "8001", 1, SDP);
    script.expect(&[
        "SIP/2.0 100 > 10.0.0.31:5060",
        "SIP/2.0 503 > 10.0.0.31:5060",
    ]);
    assert!(script.edge.sockets().is_empty());
}

/// One that takes no connection is left for the next at once, and then left out.
#[test]
fn a_peer_without_a_connection_is_left_for_its_next_address() {
    let mut script = Script::new();
    script.edge.deaf.insert(at("10.0.0.40:5060"));
    let trying = "SIP/2.0 100 > 10.0.0.31:5060";
    let next = "INVITE sip:7001@10.0.0.41:5060;transport=tcp > 10.0.0.41:5060 by tcp";
    script.request(CALLER, UDP, "INVITE", "7001", 1, SDP);
    script.expect(&[trying, next]);
    let views = script.edge.engine.peers(script.now);
    let pair = views.iter().filter(|view| view.name == "pair");
    let pair: Vec<_> = pair.map(|view| (view.state, view.why)).collect();
    assert_eq!(pair, [("down", Some("no connection")), ("unknown", None)]);
    script.request(CALLER, UDP, "MESSAGE", "7002", 1, "");
    script.expect(&[&next.replace("INVITE", "MESSAGE").replace("7001", "7002")]);
    // The other one goes while it is asked: nobody is left.
    script.cut("10.0.0.41:5060");
    let gone = "SIP/2.0 503 > 10.0.0.31:5060";
    script.expect(&[gone, gone]);
    script.request(CALLER, UDP, "MESSAGE", "7002", 2, "");
    script.expect(&[gone]);
}

#[test]
fn large_requests_avoid_datagrams_where_they_can() {
    let tcp = "INVITE sip:9001@10.0.0.30:5060 > 10.0.0.30:5060 by tcp";
    let udp = "INVITE sip:9001@10.0.0.30:5060 > 10.0.0.30:5060";
    let trying = "SIP/2.0 100 > 10.0.0.31:5060";
    let mut script = Script::new();
    script.request(CALLER, UDP, "INVITE", "9001", 1, SDP);
    script.expect(&[trying, udp]);
    script.request(CALLER, UDP, "INVITE", "9001", 2, &large());
    script.expect(&[trying, tcp]);
    // One that does not listen is reached by datagrams after all, and not asked again for a while.
    let mut script = Script::new();
    script.edge.deaf.insert(at(PBX));
    for cseq in [1, 2] {
        script.request(CALLER, UDP, "INVITE", "9001", cseq, &large());
        script.expect(&[trying, udp]);
    }
    script.edge.deaf.clear();
    script.request(CALLER, UDP, "INVITE", "9001", 3, &large());
    script.expect(&[trying, udp]);
    script.wait(ms(301_000));
    script.sent();
    script.request(CALLER, UDP, "INVITE", "9001", 4, &large());
    script.expect(&[trying, tcp]);
}

#[test]
fn a_client_is_reached_by_its_connection_alone() {
    let mut script = Script::new();
    script.request(CLIENT, TCP, "REGISTER", "1002", 1, "");
    script.expect(&["SIP/2.0 200 > 10.0.0.32:40000 by tcp"]);
    let invite = "INVITE sip:1002@10.0.0.32:5060 > 10.0.0.32:40000 by tcp";
    let trying = "SIP/2.0 100 > 10.0.0.31:5060";
    script.request(CALLER, UDP, "INVITE", "1002", 1, SDP);
    script.expect(&[trying, invite]);
    // It has not answered anything when it goes.
    script.cut(CLIENT);
    script.expect(&["SIP/2.0 480 > 10.0.0.31:5060"]);
    script.request(CALLER, UDP, "INVITE", "1002", 2, SDP);
    script.expect(&["SIP/2.0 480 > 10.0.0.31:5060"]);
    let again = "10.0.0.32:40001";
    script.request(again, TCP, "REGISTER", "1002", 2, "");
    script.expect(&["SIP/2.0 200 > 10.0.0.32:40001 by tcp"]);
    script.request(CALLER, UDP, "INVITE", "1002", 3, SDP);
    let invite = invite.replace("40000", "40001");
    script.expect(&[trying, &invite]);
}

/// What asks for TLS goes by nothing else.
#[test]
fn a_sips_uri_takes_tls() {
    let mut script = Script::new();
    script.request(CLIENT, TCP, "REGISTER", "1002", 1, "");
    script.sent();
    for (user, code) in [("1002", 480), ("8001", 480)] {
        let text = format!(
            "MESSAGE sips:{user}@example.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP 10.0.0.31:5060;branch=z9hG4bKs{user}\r\n\
             From: <sip:1001@example.com>;tag=f\r\nTo: <sips:{user}@example.com>\r\n\
             Call-ID: s{user}\r\nCSeq: 1 MESSAGE\r\nMax-Forwards: 70\r\n\r\n"
        );
        script.send(CALLER, UDP, &text);
        script.expect(&[&format!("SIP/2.0 {code} > 10.0.0.31:5060")]);
    }
}

/// The answer may come by the next connection (RFC 3261 §18.2.2).
#[test]
fn a_call_that_rings_survives_a_cut() {
    let mut script = Script::new();
    script.request(CLIENT, TCP, "REGISTER", "1002", 1, "");
    script.request(CALLER, UDP, "INVITE", "1002", 1, SDP);
    let invite = script.out.pop().unwrap();
    script.sent();
    let invite = String::from_utf8(invite.bytes.to_vec()).unwrap();
    let line = |name: &str| {
        let line = invite.lines().find(|line| line.starts_with(name));
        line.unwrap().to_owned()
    };
    let head = [
        line("Via:"),
        line("From:"),
        line("To:") + ";tag=t",
        line("Call-ID:"),
        line("CSeq:"),
        "Contact: <sip:1002@10.0.0.32:5060;transport=tcp>".to_owned(),
    ];
    let head = head.join("\r\n");
    let answer = |code: &str, body: &str| {
        let length = body.len();
        format!(
            "SIP/2.0 {code}\r\n{head}\r\nContent-Type: application/sdp\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
    };
    script.send(CLIENT, TCP, &answer("180 Ringing", ""));
    script.expect(&["SIP/2.0 180 > 10.0.0.31:5060"]);
    script.cut(CLIENT);
    script.expect(&[]);
    let sdp = SDP.replace("10.0.0.31", "10.0.0.32");
    script.send("10.0.0.32:40001", TCP, &answer("200 OK", &sdp));
    script.expect(&["SIP/2.0 200 > 10.0.0.31:5060"]);
}
