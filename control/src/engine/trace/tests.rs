use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::config::Config;
use crate::effect::Effects;
use crate::engine::explain::testing::config;
use crate::engine::input::Input;
use crate::id::{Listener, Transport};

mod redact;

const NETWORKS: &str = "
[[sip.peer]]
name = 'mcu'
uri = 'sip:10.0.0.20'
routes = ['8*']
[[network]]
name = 'lan'
interface = 'eth1'
address = '10.0.0.3'
peers = ['10.0.0.0/8']
media_ports = '20000-20999'
";

#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can be had from the clock only; the tests count from this one"
)]
pub(super) fn start() -> Instant {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    *START
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn configured(trace: &str) -> Config {
    config(&format!("{NETWORKS}[trace]\n{trace}\n"))
}

/// An engine whose effects are done, as far as they are messages.
struct World {
    engine: Engine,
    now: Instant,
}

impl World {
    fn new(trace: &str) -> Self {
        Self {
            engine: Engine::new(configured(trace), [7; 32], start()),
            now: start(),
        }
    }

    fn send(&mut self, from: &str, message: &str) -> Vec<(SocketAddr, Bytes)> {
        let on = Listener {
            transport: Transport::Udp,
            local: at("10.0.0.3:5060"),
        };
        let bytes = Bytes::from(message.replace('\n', "\r\n"));
        let from = at(from);
        let mut effects = Effects::new();
        let input = Input::Sip { on, from, bytes };
        self.engine.handle(input, self.now, &mut effects);
        self.done(effects)
    }

    fn done(&mut self, effects: Effects) -> Vec<(SocketAddr, Bytes)> {
        self.engine.trace(&effects, self.now);
        self.now += Duration::from_millis(10);
        let mut sent = Vec::new();
        for effect in effects {
            if let Effect::Send { to, bytes, .. } = effect {
                sent.push((to, bytes));
            }
        }
        sent
    }

    fn invite(&mut self, call_id: &str) -> Vec<(SocketAddr, Bytes)> {
        let message = format!(
            "INVITE sip:8001@example.com SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;\
             branch=z9hG4bK{call_id}\nMax-Forwards: 70\n\
             From: \"Ann\" <sip:1001@example.com>;tag=1\nTo: <sip:8001@example.com>\n\
             Call-ID: {call_id}\nCSeq: 1 INVITE\nContact: <sip:1001@10.0.0.5>\n\
             Content-Length: 0\n\n"
        );
        self.send("10.0.0.5:5060", &message)
    }

    /// What the peer answers to what it was sent last.
    fn answer(&mut self, request: &Bytes, code: u16, reason: &str) -> Vec<(SocketAddr, Bytes)> {
        let text = String::from_utf8(request.to_vec()).unwrap();
        let kept = text.lines().filter(|line| {
            let kept = ["Via:", "From:", "Call-ID:", "CSeq:"];
            kept.iter().any(|name| line.starts_with(name))
        });
        let kept: Vec<&str> = kept.collect();
        let to = text.lines().find(|line| line.starts_with("To:")).unwrap();
        let message = format!(
            "SIP/2.0 {code} {reason}\n{}\n{to};tag=2\nContact: <sip:10.0.0.20>\n\
             Content-Length: 0\n\n",
            kept.join("\n")
        );
        self.send("10.0.0.20:5060", &message)
    }

    fn ladder(&self, call: u64) -> LadderView {
        self.engine.ladders().view_of(call, false).unwrap()
    }
}

/// Whether it came or went, whose it is, what it is, and which one it repeats.
fn drawn(view: &LadderView) -> Vec<String> {
    let steps = view.steps.iter().map(|step| {
        let what = match &step.start {
            Start::Request { method, .. } => method.clone(),
            Start::Response { code, .. } => code.to_string(),
            Start::Other(line) => line.clone(),
        };
        let (way, role) = (step.direction.word(), view.parties[step.party].role);
        let again = step
            .repeats
            .map_or(String::new(), |first| format!(" = {first}"));
        format!("{way} {role} {what}{again}")
    });
    steps.collect()
}

fn requests<'s>(sent: &'s [(SocketAddr, Bytes)], method: &str) -> Option<&'s Bytes> {
    let mut found = sent
        .iter()
        .filter(|(_, bytes)| bytes.starts_with(method.as_bytes()));
    found.next().map(|(_, bytes)| bytes)
}

#[test]
fn both_legs_of_a_call_are_kept_in_order_and_after_its_end() {
    let mut world = World::new("");
    let sent = world.invite("one");
    let invite = requests(&sent, "INVITE").unwrap().clone();
    world.invite("one");
    world.answer(&invite, 486, "Busy Here");
    let view = world.ladder(1);
    assert_eq!(
        drawn(&view),
        [
            "in caller INVITE",
            "out caller 100",
            "out callee INVITE",
            "in caller INVITE = 0",
            "out caller 100 = 1",
            "in callee 486",
            "out callee ACK",
            "out caller 486",
        ]
    );
    assert_eq!((view.call_id.as_str(), &view.calls[..]), ("one", &[1][..]));
    assert!(!view.live, "it was refused");
    assert_eq!(view.parties[0].path.to, at("10.0.0.5:5060"));
    assert_eq!(view.parties[1].path.to, at("10.0.0.20:5060"));
    assert_eq!(view.steps[0].cseq.as_deref(), Some("1 INVITE"));
    let after = view.steps[3].at - view.steps[0].at;
    assert_eq!(after, Duration::from_millis(10));
    assert!(world.engine.ladders().view(b"one", false).is_some());
    assert!(world.engine.ladders().view(b"two", false).is_none());
    assert!(world.engine.ladders().view_of(2, false).is_none());
}

#[test]
fn a_call_that_goes_on_is_live() {
    let mut world = World::new("");
    world.invite("one");
    assert!(world.ladder(1).live);
}

#[test]
fn calls_that_ended_go_when_there_are_too_many() {
    let mut world = World::new("calls = 2");
    let sent = world.invite("stays");
    assert!(requests(&sent, "INVITE").is_some());
    for call_id in ["a", "b", "c"] {
        let sent = world.invite(call_id);
        world.answer(requests(&sent, "INVITE").unwrap(), 486, "Busy Here");
    }
    let known = |world: &World, call_id: &str| {
        world
            .engine
            .ladders()
            .view(call_id.as_bytes(), false)
            .is_some()
    };
    let kept: Vec<bool> = ["stays", "a", "b", "c"]
        .map(|id| known(&world, id))
        .to_vec();
    assert_eq!(kept, [true, false, true, true]);
    let usage = world.engine.ladders().usage();
    assert_eq!((usage.calls, usage.forgotten), (3, 1));
}

#[test]
fn nothing_is_kept_where_it_is_not_wanted() {
    let mut world = World::new("");
    world.invite("one");
    assert!(world.engine.ladders().usage().bytes > 1_000);
    let other = configured("ladder = false");
    world
        .engine
        .reconfigure(other, world.now, &mut Effects::new());
    world.invite("two");
    assert_eq!(world.engine.ladders().usage().calls, 0);
    assert_eq!(world.engine.ladders().usage().bytes, 0);
    let other = configured("ladder = true");
    world
        .engine
        .reconfigure(other, world.now, &mut Effects::new());
    world.invite("three");
    assert_eq!(world.engine.ladders().usage().calls, 1);
}

#[test]
fn the_middle_of_a_long_row_is_left_out() {
    let mut world = World::new("");
    world.invite("one");
    let info = |n: usize| {
        format!(
            "INFO sip:8001@example.com SIP/2.0\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKi{n}\n\
             Max-Forwards: 70\nFrom: <sip:1001@example.com>;tag=9\n\
             To: <sip:8001@example.com>;tag=8\nCall-ID: one\nCSeq: {n} INFO\nContent-Length: 0\n\n"
        )
    };
    for n in 0..MESSAGES_MAX {
        world.send("10.0.0.5:5060", &info(n));
    }
    let view = world.ladder(1);
    assert_eq!(view.steps.len(), MESSAGES_MAX);
    let (count, before) = view.left_out.unwrap();
    assert_eq!(before, MESSAGES_FIRST);
    assert!(drawn(&view)[0].ends_with("INVITE"));
    let usage = world.engine.ladders().usage();
    assert_eq!(usage.left_out, count);
    // What is counted is what is there.
    let octets: usize = view.steps.iter().map(|step| step.length).sum();
    let expected = octets + MESSAGES_MAX * MESSAGE_OVERHEAD + LADDER_OVERHEAD;
    assert_eq!(usage.bytes, expected);
}

#[test]
fn a_call_at_rest_takes_little_and_is_shown_as_it_was() {
    let mut world = World::new("");
    let sent = world.invite("one");
    let request = requests(&sent, "INVITE").unwrap().clone();
    world.answer(&request, 180, "Ringing");
    let shown = |world: &World| format!("{:?}", world.ladder(1));
    let (before, awake) = (shown(&world), world.engine.ladders().usage().bytes);
    let rest = |world: &mut World, time| {
        let now = world.now + time;
        world.engine.ladders.rest(now);
        world.engine.ladders().usage().bytes
    };
    assert_eq!(rest(&mut world, REST - Duration::from_secs(1)), awake);
    let packed = rest(&mut world, REST);
    assert!(packed * 2 < awake + LADDER_OVERHEAD, "{packed} of {awake}");
    assert_eq!(shown(&world), before);
    // It goes on, and rests again.
    world.answer(&request, 200, "OK");
    assert!(world.engine.ladders().usage().bytes > awake);
    let after = shown(&world);
    assert!(after.len() > before.len());
    rest(&mut world, REST);
    assert_eq!(shown(&world), after);
    // What comes back then is marked all the same.
    let path = world.ladder(1).parties[1].path;
    let (bytes, now) = (request, world.now);
    world
        .engine
        .handle(Input::Unsent { path, bytes }, now, &mut Effects::new());
    assert!(world.ladder(1).steps.iter().any(|step| step.unsent));
    world.engine.ladders.keep(Limits { ended: 0, bytes: 0 });
    assert_eq!(world.engine.ladders().usage().bytes, 0);
}

#[test]
fn a_long_message_is_cut() {
    let mut world = World::new("");
    world.invite("one");
    let body = "x".repeat(MESSAGE_BYTES_MAX);
    world.send(
        "10.0.0.5:5060",
        &format!("MESSAGE sip:8001@example.com SIP/2.0\nCall-ID: one\n\n{body}"),
    );
    let view = world.ladder(1);
    let step = view
        .steps
        .iter()
        .rfind(|step| step.direction == Direction::In)
        .unwrap();
    assert!(step.cut && step.length > MESSAGE_BYTES_MAX);
}

#[test]
fn octets_are_bounded_and_calls_that_go_on_go_last() {
    let mut ladders = Ladders::default();
    let path = Path {
        on: Listener {
            transport: Transport::Udp,
            local: at("10.0.0.3:5060"),
        },
        to: at("10.0.0.5:5060"),
    };
    let limits = Limits {
        ended: 10,
        bytes: 3 * (LADDER_OVERHEAD + MESSAGE_OVERHEAD + 100),
    };
    let bytes = Bytes::from(vec![b'x'; 100]);
    for call_id in [b"a", b"b", b"c"] {
        let place = ladders.begin(call_id);
        ladders.push(place, Direction::In, path, &bytes, start());
        if call_id == b"a" {
            let ended = ladders.ladders.get_mut(&place).unwrap().ended.take();
            ladders.ended.remove(&ended.unwrap());
        }
    }
    ladders.keep(limits);
    assert_eq!(ladders.usage().calls, 3);
    let place = ladders.begin(b"d");
    ladders.push(place, Direction::In, path, &bytes, start());
    ladders.keep(limits);
    let kept: Vec<&[u8]> = ladders.places.keys().map(|id| &**id).collect();
    assert_eq!(kept, [b"a", b"c", b"d"]);
    ladders.keep(Limits {
        ended: 10,
        bytes: 0,
    });
    assert_eq!(ladders.usage().bytes, 0);
    assert!(ladders.places.is_empty() && ladders.ended.is_empty());
}

#[test]
fn what_found_no_connection_is_marked() {
    let mut world = World::new("");
    let sent = world.invite("one");
    let bytes = requests(&sent, "INVITE").unwrap().clone();
    let path = world.ladder(1).parties[1].path;
    let input = Input::Unsent { path, bytes };
    world.engine.handle(input, world.now, &mut Effects::new());
    let unsent: Vec<bool> = world
        .ladder(1)
        .steps
        .iter()
        .map(|step| step.unsent)
        .collect();
    assert_eq!(unsent, [false, false, true]);
}
