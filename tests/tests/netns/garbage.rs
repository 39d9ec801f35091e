//! Malformed SIP and SDP against the daemon while a call runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use towpath_tests::lab::{Parts, Role, plan};
use towpath_tests::ua::Ua;

use super::stage::{LIMIT, Mode, Stage, assert_whole};

/// Mutated messages; each is reproducible from the seed and its number.
const MUTATIONS: u64 = 2000;
const SEED: u64 = 0x7011_9a74;

/// Messages sent before the daemon is asked whether it lives: its socket's buffer holds as many.
const BURST: usize = 25;

/// What no parser should like.
fn garbage() -> Vec<Vec<u8>> {
    let long = |n: usize| "a".repeat(n);
    let texts = [
        String::new(),
        "\r\n\r\n".into(),
        "\0".into(),
        "SIP/2.0".into(),
        "SIP/2.0 200 OK".into(),
        "SIP/2.0 200 OK\r\n\r\n".into(),
        "SIP/2.0 99999999999999999999 OK\r\n\r\n".into(),
        "INVITE".into(),
        "INVITE sip:1002@towpath.test SIP/2.0\r\n\r\n".into(),
        "INVITE sip:1002@towpath.test SIP/3.0\r\nVia: x\r\n\r\n".into(),
        "INVITE  sip:1002@towpath.test  SIP/2.0\r\n\r\n".into(),
        format!("INVITE sip:{}@towpath.test SIP/2.0\r\n\r\n", long(60_000)),
        format!("{} sip:x SIP/2.0\r\n\r\n", long(1000)),
        format!("OPTIONS sip:x SIP/2.0\r\n{}", "A: b\r\n".repeat(5000)),
        format!("OPTIONS sip:x SIP/2.0\r\n{}: b\r\n\r\n", long(30_000)),
        "OPTIONS sip:x SIP/2.0\r\n: nameless\r\n\r\n".into(),
        "OPTIONS sip:x SIP/2.0\r\n folded: first\r\n\r\n".into(),
        "OPTIONS sip:x SIP/2.0\nVia: lf only\n\n".into(),
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\n".into(),
        format!("{{\"json\":{}", "[".repeat(10_000)),
    ];
    let mut all: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
    all.push(vec![0xff; 1500]);
    all.push((0..=255).cycle().take(65_000).collect());
    all.push(vec![0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xa4, 0x42]); // STUN, cut
    all.push([&b"INVITE sip:\xff\xfe@towpath.test SIP/2.0\r\n\r\n"[..]].concat());
    all
}

/// Bodies that are SDP only nearly; each comes in an INVITE that is all right.
fn sdp_garbage() -> Vec<String> {
    let head = "v=0\r\no=- 7 7 IN IP4 203.0.113.66\r\ns=-\r\n";
    let audio = "m=audio 4000 RTP/AVP 0\r\n";
    let connection = "c=IN IP4 203.0.113.66\r\nt=0 0\r\n";
    vec![
        "x".into(),
        "v=1\r\n".into(),
        "\r\n\r\n\r\n".into(),
        "m=".into(),
        format!("{head}{audio}"), // no c=
        format!("{head}c=IN IP4 not.an.address\r\nt=0 0\r\n{audio}"),
        format!("{head}c=IN IP9 1.2.3.4\r\nt=0 0\r\n{audio}"),
        format!("{head}{connection}m=audio 99999 RTP/AVP 0\r\n"),
        format!("{head}{connection}m=audio -1 RTP/AVP 0\r\n"),
        format!("{head}{connection}m=audio 4000/70000 RTP/AVP 0\r\n"),
        format!("{head}{connection}m=audio 4000 RTP/AVP\r\n"),
        format!("{head}{connection}m=audio\r\n"),
        format!("{head}{connection}{}", audio.repeat(500)),
        format!("{head}{connection}{audio}a={}\r\n", "x".repeat(50_000)),
        format!("{head}{connection}{audio}a=rtcp:99999 IN IP4 1.2.3.4\r\n"),
        format!(
            "{head}{connection}{audio}{}",
            "no equals sign\r\n".repeat(3)
        ),
    ]
}

/// A small generator (xorshift64*): the same seed gives the same mutations everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % limit.max(1)
    }
}

/// One to four changes of a valid message.
fn mutate(message: &[u8], number: u64) -> Vec<u8> {
    const WORDS: [&[u8]; 12] = [
        b"\r\n",
        b"\0",
        b"<",
        b">",
        b"\"",
        b";",
        b":",
        b"@",
        b"%00",
        b"4294967296",
        b"\xff",
        b" ",
    ];
    let mut random = Random(SEED ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut bytes = message.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let to = (at + random.below(40)).min(bytes.len());
        match random.below(6) {
            0 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            1 => drop(bytes.drain(at..to)),
            2 => {
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
            3 => {
                let word = WORDS[random.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            4 => bytes.truncate(at.max(1)),
            _ => {
                let other = random.below(bytes.len());
                bytes.swap(at, other);
            }
        }
        if bytes.is_empty() {
            bytes.push(b' ');
        }
    }
    bytes
}

/// The valid messages that are mutated.
fn originals(attacker: &Ua) -> Vec<Vec<u8>> {
    let mut invite = attacker.invite("1002");
    let invite_wire = invite.wire();
    invite.start = "REGISTER sip:towpath.test SIP/2.0".to_owned();
    invite.body.clear();
    let register = String::from_utf8(invite.wire())
        .unwrap()
        .replace("1 INVITE", "1 REGISTER");
    let options = register.replace("REGISTER", "OPTIONS");
    let cancel = register.replace("REGISTER", "CANCEL");
    let response = register.replace("REGISTER sip:towpath.test SIP/2.0", "SIP/2.0 200 OK");
    let others = [register, options, cancel, response].map(String::into_bytes);
    // Most is in an INVITE: it gets half of all mutations.
    let [register, options, cancel, response] = others;
    let mut all = Vec::new();
    for other in [register, options, cancel, response] {
        all.extend([invite_wire.clone(), other]);
    }
    all
}

/// Sends everything in bursts; between them the daemon has to answer.
fn fire(stage: &Stage, from: &Ua, messages: impl Iterator<Item = Vec<u8>>) -> usize {
    let mut sent = 0;
    for message in messages {
        // A datagram has an end of its own (RFC 768).
        from.send_raw(&message[..message.len().min(65_000)])
            .unwrap();
        sent += 1;
        if sent % BURST == 0 {
            stage.number("pid");
        }
    }
    sent
}

/// Tells a thread to end when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn malformed_messages_are_counted_and_harm_nothing() {
    let parts = Parts {
        nat: true,
        c3: true,
        attacker: true,
        ..Parts::default()
    };
    // Every INVITE that is good enough takes ports, and these rest after use.
    let mut stage = Stage::with(Mode::Xdp, &parts, |config| {
        for (network, first) in config.networks.iter_mut().zip([30_000, 20_000, 40_000]) {
            network.ports = (first, first + 7_999);
        }
        // Each message shall be read.
        config.sip = "[sip.protection]\nban_after = 0\n";
    });
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let busy = stage.phone(Role::C2, "1002");
    let attacker = stage.ua(
        Role::Attacker,
        "1006",
        plan::ip(plan::ATTACKER_V4),
        plan::EDGE_WAN,
    );
    let call = stage.call(&c3, &c1, "xdp");
    let process = stage.towpath.id();
    let talk = call.talk();
    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        // However this ends: a failure must not leave the scope waiting for its thread.
        let _stop = Stop(&stop);
        scope.spawn(|| {
            // The callee of every INVITE that is good enough has no time.
            while !stop.load(Ordering::Relaxed) {
                if let Ok(invite) =
                    busy.receive(Duration::from_millis(50), |m| m.method() == "INVITE")
                {
                    busy.respond(&invite, "486 Busy Here", None).unwrap();
                }
            }
        });
        let sdp = sdp_garbage().into_iter().map(|sdp| {
            let mut invite = attacker.invite("1002");
            invite.body = sdp;
            invite.wire()
        });
        let originals = originals(&attacker);
        let mutated = (0..MUTATIONS).map(|number| {
            let original = usize::try_from(number).unwrap() % originals.len();
            mutate(&originals[original], number)
        });
        let all = garbage().into_iter().chain(sdp).chain(mutated);
        fire(&stage, &attacker, all)
    });
    talk.hear(250, LIMIT).unwrap();
    assert!(stage.towpath.is_running().unwrap());
    assert_eq!(stage.towpath.id(), process);
    assert_whole(&talk.finish().unwrap());
    let (malformed, refused, sdp) = (
        stage.counted("sip_malformed."),
        stage.counted("sip_refused."),
        stage.counted("sdp_refused."),
    );
    eprintln!("{sent} sent: {malformed} malformed, {refused} refused, {sdp} bad SDP");
    assert!(sent > 2000);
    assert!(malformed > 500, "{malformed}");
    assert!(refused > 0, "{refused}");
    assert!(sdp >= 8, "{sdp}");
    // And it still does its work.
    stage.carries(&call, 250, "xdp");
    call.hang_up();
    let again = stage.call(&c1, &c3, "xdp");
    again.hang_up();
}
