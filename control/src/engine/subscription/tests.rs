use std::net::SocketAddr;

use super::*;
use crate::config::check::check;
use crate::effect::Effect;
use crate::engine::input::Input;
use crate::id::{Listener, Transport};

const CONFIG: &str = r#"
[sip]
domain = "example.com"
[[sip.peer]]
name = "mcu"
uri = "sip:10.0.0.20:5060"
routes = ["8*"]
[[sip.peer]]
name = "pbx"
uri = "sip:203.0.113.50:5060"
routes = ["7*"]
[[network]]
name = "lan"
interface = "eth1"
address = "10.0.0.3"
peers = ["10.0.0.0/8"]
media_ports = "20000-20039"
[[network]]
name = "wan"
interface = "eth0"
address = "192.0.2.3"
advertise = "203.0.113.9"
peers = ["0.0.0.0/0"]
media_ports = "30000-30039"
"#;
const MCU: &str = "10.0.0.20:5060";
const PBX: &str = "203.0.113.50:5060";

/// The edge between two peers.
struct Edge {
    engine: Engine,
    now: Instant,
    branch: u32,
}

impl Edge {
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant can be had from the clock only; the tests count from this one"
    )]
    fn new() -> Self {
        let config = check("t", CONFIG, None, &mut |_| {
            Err(std::io::ErrorKind::NotFound.into())
        });
        let now = Instant::now();
        Self {
            engine: Engine::new(config.unwrap(), [1; 32], now),
            now,
            branch: 0,
        }
    }

    /// What the edge sends when `from` has sent `text`: destinations and messages.
    fn send(&mut self, from: &str, text: &str) -> Vec<(String, Message)> {
        let local = if from == MCU {
            "10.0.0.3:5060"
        } else {
            "192.0.2.3:5060"
        };
        let on = Listener {
            transport: Transport::Udp,
            local: local.parse().unwrap(),
        };
        let from: SocketAddr = from.parse().unwrap();
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let mut effects = Effects::new();
        let input = Input::Sip { on, from, bytes };
        self.engine.handle(input, self.now, &mut effects);
        let sent = effects.into_iter().filter_map(|effect| {
            let Effect::Send { to, bytes, .. } = effect else {
                return None;
            };
            Some((to.to_string(), Message::parse(bytes).unwrap()))
        });
        sent.collect()
    }

    /// The only thing it sends.
    fn one(&mut self, from: &str, text: &str) -> (String, Message) {
        let mut sent = self.send(from, text);
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    fn request(&mut self, from: &str, start: &str, tags: (&str, &str), lines: &str) -> String {
        self.branch += 1;
        let method = start.split(' ').next().unwrap();
        let to = if tags.1.is_empty() {
            String::new()
        } else {
            format!(";tag={}", tags.1)
        };
        format!(
            "{start} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{}\r\nMax-Forwards: 9\r\n\
             From: <sip:x@y>;tag={}\r\nTo: <sip:z@y>{to}\r\nCall-ID: c\r\n\
             CSeq: {} {method}\r\nContact: <sip:room@{from}>\r\n{lines}Content-Length: 0\r\n\r\n",
            self.branch, tags.0, self.branch
        )
    }
}

fn answer(request: &Message, line: &str, tag: &str, lines: &str) -> String {
    let value = |name| String::from_utf8_lossy(request.get(name).unwrap()).into_owned();
    let tag = if request.to_tag().is_some() {
        String::new()
    } else {
        format!(";tag={tag}")
    };
    format!(
        "SIP/2.0 {line}\r\nVia: {}\r\nFrom: {}\r\nTo: {}{tag}\r\nCall-ID: c\r\nCSeq: {}\r\n\
         {lines}Content-Length: 0\r\n\r\n",
        value(Name::Via),
        value(Name::From),
        value(Name::To),
        value(Name::CSeq)
    )
}

fn contact(message: &Message) -> String {
    String::from_utf8(contact_uri(message).unwrap().to_vec()).unwrap()
}

fn uri(message: &Message) -> String {
    let range = message.uri_range().unwrap();
    String::from_utf8_lossy(message.slice(&range)).into_owned()
}

/// A subscription to a conference: request, answer, NOTIFY, refresh, end; each along our Contacts.
#[test]
fn a_subscription_stays_with_us() {
    let mut edge = Edge::new();
    let start = "SUBSCRIBE sip:8123@example.com";
    let lines = "Event: conference\r\nExpires: 600\r\n";
    let subscribe = edge.request(PBX, start, ("1", ""), lines);
    let (to, sent) = edge.one(PBX, &subscribe);
    assert_eq!(
        (to.as_str(), uri(&sent).as_str()),
        (MCU, "sip:8123@10.0.0.20:5060")
    );
    let ours = contact(&sent);
    assert!(ours.starts_with("sip:room@10.0.0.3:5060;tp="), "{ours}");
    // NOTIFY may overtake the answer (RFC 6665 §4.4.1).
    let notify = edge.request(
        MCU,
        &format!("NOTIFY {ours}"),
        ("2", "1"),
        "Event: conference\r\n",
    );
    let (to, told) = edge.one(MCU, &notify);
    assert_eq!((to.as_str(), uri(&told)), (PBX, format!("sip:room@{PBX}")));
    let theirs = contact(&told);
    assert!(
        theirs.starts_with("sip:room@203.0.113.9:5060;tp="),
        "{theirs}"
    );
    let (to, _) = edge.one(PBX, &answer(&told, "200 OK", "", ""));
    assert_eq!(to, MCU);
    let lines = format!("Contact: <sip:room@{MCU}>\r\n");
    let (to, accepted) = edge.one(MCU, &answer(&sent, "202 Accepted", "2", &lines));
    assert_eq!((to.as_str(), contact(&accepted)), (PBX, theirs.clone()));
    // The refresh goes where the Contact leads.
    let refresh = edge.request(
        PBX,
        &format!("SUBSCRIBE {theirs}"),
        ("1", "2"),
        "Expires: 0\r\n",
    );
    let (to, sent) = edge.one(PBX, &refresh);
    assert_eq!((to.as_str(), uri(&sent)), (MCU, format!("sip:room@{MCU}")));
    assert_eq!(contact(&sent), ours, "the same Contact in the same dialog");
    assert_eq!(
        sent.cseq().0,
        Message::parse(Bytes::from(refresh)).unwrap().cseq().0
    );
    // Forgotten an hour after the last word.
    for (after, expected) in [(3_500, MCU), (3_599, MCU), (3_601, PBX)] {
        edge.now += Duration::from_secs(after);
        edge.engine.expire(edge.now, &mut Effects::new());
        let refresh = edge.request(PBX, &format!("SUBSCRIBE {theirs}"), ("1", "2"), "");
        let (to, sent) = edge.one(PBX, &refresh);
        assert_eq!(to, expected);
        assert_eq!(sent.code(), (expected == PBX).then_some(481));
    }
}

#[test]
fn what_is_forwarded_outside_calls() {
    check("REFER", None);
    check("NOTIFY", None);
    check("PUBLISH", None);
    check("MESSAGE", None);
    check("UPDATE", Some(501));
    check("DANCE", None);

    fn check(method: &str, refused: Option<u16>) {
        let mut edge = Edge::new();
        let start = format!("{method} sip:7000@example.com");
        let text = edge.request(MCU, &start, ("1", ""), "Refer-To: <sip:1@x>\r\n");
        let (to, sent) = edge.one(MCU, &text);
        assert_eq!(sent.code(), refused, "{method}");
        assert_eq!(to, if refused.is_some() { MCU } else { PBX }, "{method}");
    }
}

const INVITE: &str = "v=0\r\no=- 1 1 IN IP4 203.0.113.50\r\ns=-\r\nc=IN IP4 203.0.113.50\r\n\
    t=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

/// A conference server sends a call to another node of its cluster, to somebody of ours, or away.
#[test]
fn peers_may_redirect() {
    check("sip:8123@10.0.0.21:5070", Some("10.0.0.21:5070"));
    check("sip:7001@example.com", Some(PBX));
    check("sip:8123@198.51.100.7", None);
    check("sip:8123@other.example", None);
    check("tel:+1", None);

    fn check(elsewhere: &str, expected: Option<&str>) {
        let mut edge = Edge::new();
        let (kind, length) = ("Content-Type: application/sdp\r\n", INVITE.len());
        let invite = edge.request(PBX, "INVITE sip:8123@example.com", ("1", ""), kind);
        let invite = invite.replace("Content-Length: 0", &format!("Content-Length: {length}"));
        let sent = edge.send(PBX, &(invite + INVITE));
        let (to, first) = sent.last().unwrap();
        assert_eq!(to, MCU);
        let lines = format!("Contact: <{elsewhere}>\r\n");
        let sent = edge.send(MCU, &answer(first, "302 Moved", "2", &lines));
        let (to, next) = sent.last().unwrap();
        match expected {
            Some(expected) => {
                assert_eq!((to.as_str(), next.code()), (expected, None), "{elsewhere}");
                assert_eq!(next.method(), Some(Method::Invite));
            }
            None => assert_eq!((to.as_str(), next.code()), (PBX, Some(480)), "{elsewhere}"),
        }
    }
}

/// Two places that name each other are not asked for ever.
#[test]
fn redirections_have_an_end() {
    let mut edge = Edge::new();
    let invite = edge.request(PBX, "INVITE sip:8123@example.com", ("1", ""), "");
    let mut sent = edge.send(PBX, &invite);
    let mut asked = 0;
    while let Some((_, invite)) = sent
        .iter()
        .find(|(to, m)| to == MCU && m.code().is_none() && m.method() == Some(Method::Invite))
    {
        asked += 1;
        let lines = "Contact: <sip:8123@example.com>\r\n";
        let text = answer(invite, "302 Moved", "2", lines);
        sent = edge.send(MCU, &text);
    }
    assert_eq!(asked, 6);
    assert_eq!(sent.last().unwrap().1.code(), Some(480));
}
