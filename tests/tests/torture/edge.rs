//! A running edge between a phone in the internet and a peer in the LAN that takes everybody: what
//! the phone sends, what the peer gets, and back. The wire is the engine's own: a datagram in is
//! `Input::Sip`, a datagram out is `Effect::Send`.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use control::effect::{Effect, Effects};
use control::engine::Engine;
use control::engine::input::Input;
use control::id::{Listener, Transport};
use control::sip::index::{Message, Start};
use control::sip::uri::{Host, Uri};
use towpath_tests::clock;
use towpath_tests::sim::world::parsed;

use super::compare::{self, lines, value};
use super::table::Seen;

const PEER: &str = "10.0.0.20:5060";
/// Where the peer wants requests within a dialog.
const TARGET: &str = "sip:room;x=%61@10.0.0.20:5060;y";
const INSIDE: &str = "10.0.0.3";
const OUTSIDE: &str = "203.0.113.9";
const DOMAIN: &str = "example.com";
/// An answer that fits the offer of a first INVITE of ours.
const AUDIO: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.77\r\ns=-\r\nc=IN IP4 192.0.2.77\r\nt=0 0\r\n\
                     m=audio 4000 RTP/AVP 0\r\n";

/// Sends a message through an edge of its own; what was seen. What crossed has been compared.
pub(super) fn send(name: &str, wire: &Bytes) -> Seen {
    let message = Message::parse(wire.clone()).ok();
    let Some(message) = message else {
        return Edge::new(None).sent(name, wire);
    };
    match message.start() {
        Start::Request { uri, .. } => {
            let mut edge = Edge::new(Uri::parse(uri).as_ref());
            if message.to_tag().is_some() && message.method().unwrap().as_bytes() != b"CANCEL" {
                edge.establish(&message);
            }
            edge.sent(name, wire)
        }
        Start::Response { .. } => Edge::new(None).answered(name, &message),
    }
}

struct Edge {
    engine: Engine,
    now: Instant,
    phone: SocketAddr,
    outside: SocketAddr,
    to_peer: Vec<Bytes>,
    to_phone: Vec<Bytes>,
    established: bool,
}

impl Edge {
    /// An edge that the URI names: by its domain or its address.
    fn new(uri: Option<&Uri<'_>>) -> Self {
        let (domain, outside) = match uri.map(|uri| &uri.host) {
            Some(Host::Name(name)) if !name.is_empty() => {
                (std::str::from_utf8(name).unwrap(), OUTSIDE.to_owned())
            }
            Some(Host::V4(ip)) => (DOMAIN, ip.to_string()),
            Some(Host::V6(ip)) => (DOMAIN, ip.to_string()),
            Some(Host::Name(_)) | None => (DOMAIN, OUTSIDE.to_owned()),
        };
        let outside: IpAddr = outside.parse().unwrap();
        let (phone, peers, any) = match outside {
            IpAddr::V4(_) => ("198.51.100.7:5062", "0.0.0.0/0", "0.0.0.0"),
            IpAddr::V6(_) => ("[2001:db8:1::7]:5062", "::/0", "[::]"),
        };
        let config = parsed(&format!(
            "[sip]\ndomain = '{domain}'\nauth = 'none'\n\
             listen = ['udp:{INSIDE}:5060', 'udp:{any}:5060']\n\
             [[sip.peer]]\nname = 'pbx'\nuri = 'sip:{PEER}'\nroutes = ['*']\n\
             register = 'forward'\nregister_by = 'path'\n\
             [[network]]\nname = 'lan'\ninterface = 'eth1'\naddress = '{INSIDE}'\n\
             peers = ['10.0.0.0/8']\nmedia_ports = '20000-20039'\n\
             [[network]]\nname = 'wan'\ninterface = 'eth0'\naddress = '{outside}'\n\
             peers = ['{peers}']\nmedia_ports = '30000-30039'\n"
        ));
        let now = clock::now();
        Self {
            engine: Engine::new(config, [7; 32], now),
            now,
            phone: phone.parse().unwrap(),
            outside: SocketAddr::new(outside, 5060),
            to_peer: Vec::new(),
            to_phone: Vec::new(),
            established: false,
        }
    }

    fn receive(&mut self, local: SocketAddr, from: SocketAddr, bytes: Bytes) {
        let transport = Transport::Udp;
        let on = Listener { transport, local };
        let mut effects = Effects::new();
        let input = Input::Sip { on, from, bytes };
        self.engine.handle(input, self.now, &mut effects);
        for effect in effects {
            let Effect::Send { to, bytes, .. } = effect else {
                continue;
            };
            let trying = bytes.starts_with(b"SIP/2.0 100 ");
            match to.to_string() == PEER {
                true => self.to_peer.push(bytes),
                false if trying => {}
                false => {
                    assert_eq!(to, self.phone, "to nobody else");
                    self.to_phone.push(bytes);
                }
            }
        }
    }

    fn phone_sends(&mut self, bytes: Bytes) {
        self.receive(self.outside, self.phone, bytes);
    }

    fn peer_sends(&mut self, bytes: Bytes) {
        let local = SocketAddr::new(INSIDE.parse().unwrap(), 5060);
        self.receive(local, PEER.parse().unwrap(), bytes);
    }

    /// What the message does that the phone sends.
    fn sent(mut self, name: &str, wire: &Bytes) -> Seen {
        self.to_peer.clear();
        self.to_phone.clear();
        self.phone_sends(wire.clone());
        let told = self.to_phone.pop();
        if let Some(got) = self.to_peer.pop() {
            assert_eq!((told, self.to_peer.len()), (None, 0), "{name}");
            let target = if self.established { TARGET } else { "" };
            let told = INSIDE.parse().unwrap();
            compare::request(name, wire, &got, told, target.as_bytes());
            return Seen::Crosses;
        }
        assert!(self.to_phone.is_empty(), "{name}: {:?}", self.to_phone);
        seen(told.as_deref())
    }

    /// What a response does: as the peer's answer to a request of the phone, with the Via that was
    /// put there; or as it is, where it answers nothing.
    fn answered(mut self, name: &str, response: &Message) -> Seen {
        let (number, method) = response.cseq();
        let method = std::str::from_utf8(method).unwrap();
        let body = value(response.bytes(), "content-type")
            .is_some_and(|kind| kind == b"application/sdp")
            .then(|| response.body().to_vec());
        self.phone_sends(self.request(response, method, number, body.as_deref()));
        let asked = self.to_peer.pop().expect("the request crosses");
        self.peer_sends(response.bytes().clone());
        assert!(
            self.to_phone.is_empty(),
            "{name} crosses with somebody's Via"
        );
        let ours = value(&asked, "via").unwrap();
        self.peer_sends(compare::with_via(response.bytes(), ours));
        let Some(got) = self.to_phone.pop() else {
            return Seen::Nothing;
        };
        assert!(self.to_phone.is_empty(), "{name}: {:?}", self.to_phone);
        compare::response(name, response.bytes(), &got, self.outside.ip());
        Seen::Crosses
    }

    /// The call that the message belongs to.
    fn establish(&mut self, message: &Message) {
        let number = message.cseq().0.saturating_sub(1);
        self.phone_sends(self.request(message, "INVITE", number, Some(AUDIO.as_bytes())));
        let asked = self.to_peer.pop().expect("the INVITE crosses");
        let tag = String::from_utf8(message.to_tag().unwrap().to_vec()).unwrap();
        let mut answer = b"SIP/2.0 200 OK\r\n".to_vec();
        for (field, line) in lines(&asked) {
            match field.as_str() {
                "via" | "from" | "call-id" | "cseq" => answer.extend_from_slice(line),
                _ => {}
            }
        }
        let rest = format!(
            "To: <sip:b@b.example>;tag={tag}\r\nContact: <{TARGET}>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{AUDIO}",
            AUDIO.len()
        );
        answer.extend_from_slice(rest.as_bytes());
        self.peer_sends(answer.into());
        let answer = self.to_phone.pop().expect("the answer crosses");
        assert!(answer.starts_with(b"SIP/2.0 200 "), "{answer:?}");
        self.phone_sends(self.request(message, "ACK", number, None));
        assert_eq!(self.to_peer.len(), 1, "the ACK crosses");
        self.established = true;
    }

    /// A request of the phone in the dialog that a message names.
    fn request(&self, like: &Message, method: &str, number: u32, body: Option<&[u8]>) -> Bytes {
        let (phone, domain) = (self.phone, &self.engine.config().sip.domain);
        let mut out = format!(
            "{method} sip:b@{domain} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {phone};branch=z9hG4bKfirst{method}\r\nMax-Forwards: 70\r\n\
             CSeq: {number} {method}\r\nContact: <sip:a@{phone}>\r\n"
        )
        .into_bytes();
        for (field, line) in lines(like.bytes()) {
            let acked = method == "ACK" && field == "to";
            if matches!(field.as_str(), "from" | "call-id") || acked {
                out.extend_from_slice(line);
            }
        }
        if method != "ACK" {
            out.extend_from_slice(b"To: <sip:b@b.example>\r\n");
        }
        if body.is_some() {
            out.extend_from_slice(b"Content-Type: application/sdp\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body.unwrap_or_default());
        out.into()
    }
}

fn seen(told: Option<&[u8]>) -> Seen {
    match told {
        None => Seen::Nothing,
        Some(b"\r\n") => Seen::Pong,
        Some(answer) => {
            let code = answer.strip_prefix(b"SIP/2.0 ").and_then(|a| a.get(..3));
            let code = std::str::from_utf8(code.expect("an answer")).unwrap();
            Seen::Answers(code.parse().unwrap())
        }
    }
}
