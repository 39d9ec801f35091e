//! What one established call takes of the engine's memory.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use control::effect::{Effect, Effects};
use control::engine::Engine;
use control::engine::input::Input;
use control::id::{Listener, Transport};
use control::sip::index::{Message, Name};
use towpath_tests::clock;
use towpath_tests::sim::world::parsed;

use super::{ALONE, LIVE, rest};

/// What a call may take: audio, anchored, both parties behind us, its transactions over.
const CALL_BYTES_MAX: usize = 8_000;
/// The same without the messages that are kept to be shown.
const BARE_BYTES_MAX: usize = 6_500;
const CALLS: usize = 4_000;

const CALLER: &str = "198.51.100.7:5060";
const CALLEE: &str = "10.0.0.20:5060";

#[test]
fn a_call_is_small() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let each = call_bytes(true);
    let bare = call_bytes(false);
    println!("{each} octets for each call, {bare} without its messages");
    assert!(each <= CALL_BYTES_MAX, "{each} octets");
    assert!(bare <= BARE_BYTES_MAX, "{bare} octets without messages");
    assert!(bare > 1_000, "{bare} octets are too few to be true");
}

/// Of one of many, with or without the messages that `call trace` shows.
fn call_bytes(ladder: bool) -> usize {
    let config = parsed(&format!(
        "[sip]\ndomain = 'example.com'\nauth = 'none'\n\
         listen = ['udp:203.0.113.9:5060', 'udp:10.0.0.1:5060']\n\
         [datapath]\nmedia_timeout = '1h'\n[trace]\nladder = {ladder}\n\
         [sip.protection]\nsource_rate = 0\naccount_rate = 0\nban_after = 0\n\
         [[sip.peer]]\nname = 'trunk'\nuri = 'sip:{CALLER}'\n\
         [[sip.peer]]\nname = 'mcu'\nuri = 'sip:{CALLEE}'\nroutes = ['9*']\n\
         [[network]]\nname = 'wan'\ninterface = 'eth0'\naddress = '203.0.113.9'\n\
         peers = ['198.51.100.0/24']\nmedia_ports = '10000-65001'\n\
         [[network]]\nname = 'lan'\ninterface = 'eth1'\naddress = '10.0.0.1'\n\
         peers = ['10.0.0.0/24']\nmedia_ports = '10000-65001'\n"
    ));
    let start = clock::now();
    let mut engine = Engine::new(config, [1; 32], start);
    // The ring of events is full, and tables have had their first allocations.
    for number in 0..CALLS {
        set_up(&mut engine, number, start);
    }
    let now = rest(&mut engine, start);
    let before = super::blocks();
    let live = LIVE.load(Ordering::Relaxed);
    for number in CALLS..2 * CALLS {
        set_up(&mut engine, number, now);
    }
    rest(&mut engine, now);
    let grown = LIVE.load(Ordering::Relaxed) - live;
    assert_eq!(engine.totals().calls, 2 * CALLS);
    assert_eq!(engine.totals().transactions, 0);
    super::show(&before, CALLS);
    grown / CALLS
}

/// INVITE, 100, 180, 200 and ACK, as phones and video rooms write them.
fn set_up(engine: &mut Engine, number: usize, now: Instant) {
    let headers = format!(
        "Via: SIP/2.0/UDP {CALLER};branch=z9hG4bK-524287-1---{number:016x};rport\r\n\
         Max-Forwards: 70\r\nContact: <sip:1001@{CALLER}>\r\n\
         From: \"Meeting room\" <sip:1001@example.com>;tag=a{number:08x}\r\n\
         Call-ID: {number:032x}@198.51.100.7\r\n",
    );
    let invite = format!(
        "INVITE sip:9000@example.com SIP/2.0\r\n{headers}To: <sip:9000@example.com>\r\n\
         CSeq: 1 INVITE\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, REFER\r\n\
         Supported: replaces, timer\r\nUser-Agent: Example Room System 4.21.7 (build 1234)\r\n{}",
        body("198.51.100.7", "0 8 101")
    );
    let sent = hear(engine, CALLER, invite, now);
    let invite = find(&sent, CALLEE, b"INVITE ");
    let ringing = answer(&invite, "180 Ringing", "Content-Length: 0\r\n\r\n");
    hear(engine, CALLEE, ringing, now);
    let accepted = answer(&invite, "200 OK", &body("10.0.0.20", "0 101"));
    let sent = hear(engine, CALLEE, accepted, now);
    let success = find(&sent, CALLER, b"SIP/2.0 200 ");
    let to = text(success.get(Name::To).unwrap());
    let contact = text(success.get(Name::Contact).unwrap());
    let target = contact.trim_start_matches('<').trim_end_matches('>');
    let ack = format!(
        "ACK {target} SIP/2.0\r\n{headers}To: {to}\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n"
    )
    .replace("---", "--a");
    let sent = hear(engine, CALLER, ack, now);
    find(&sent, CALLEE, b"ACK ");
}

fn hear(engine: &mut Engine, from: &str, message: String, now: Instant) -> Effects {
    let local = match from {
        CALLER => "203.0.113.9:5060",
        _ => "10.0.0.1:5060",
    };
    let on = Listener {
        transport: Transport::Udp,
        local: local.parse().unwrap(),
    };
    let input = Input::Sip {
        on,
        from: from.parse().unwrap(),
        // As a socket hands it over.
        bytes: Bytes::copy_from_slice(message.as_bytes()),
    };
    let mut effects = Effects::new();
    engine.handle(input, now, &mut effects);
    engine.trace(&effects, now);
    effects
}

fn find(effects: &Effects, to: &str, start: &[u8]) -> Message {
    let mut sent = effects.iter().filter_map(|effect| {
        let Effect::Send { to, bytes, .. } = effect else {
            return None;
        };
        Some((to.to_string(), bytes))
    });
    let found = sent.find(|(target, bytes)| target == to && bytes.starts_with(start));
    let bytes = found.map(|(_, bytes)| bytes.clone()).unwrap();
    Message::parse(bytes).unwrap()
}

fn answer(request: &Message, status: &str, rest: &str) -> String {
    let header = |name: Name| text(request.get(name).unwrap());
    format!(
        "SIP/2.0 {status}\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=b0123456789\r\nCall-ID: {}\r\n\
         CSeq: {}\r\nContact: <sip:9000@{CALLEE}>\r\nServer: Example MCU 7.1\r\n\
         Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO\r\n{rest}",
        header(Name::Via),
        header(Name::From),
        header(Name::To),
        header(Name::CallId),
        header(Name::CSeq),
    )
}

fn body(ip: &str, formats: &str) -> String {
    let sdp = format!(
        "v=0\r\no=room 53655765 2353687637 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio 16384 RTP/AVP {formats}\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
    );
    let length = sdp.len();
    format!("Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{sdp}")
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}
