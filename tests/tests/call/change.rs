//! What happens to calls once they are up.

use control::engine::admin::Command;
use control::sip::index::{Message, Name};
use towpath_tests::sim::edge::Datapath;
use towpath_tests::sim::nat::Behaviour;
use towpath_tests::sim::phone::{Dial, Manner, State};
use towpath_tests::sim::sdp::Direction;
use towpath_tests::sim::world::World;

use super::{BOTH, SECOND, connect, far_pair, ms, pair};

/// Hold in all its styles, from both sides, longer than the media timeout; then back.
#[test]
fn hold_and_resume() {
    let styles = [
        (Direction::Inactive, false),
        (Direction::SendOnly, false),
        (Direction::SendRecv, true),
        (Direction::Inactive, true),
    ];
    for (direction, zero) in styles {
        for by_callee in [false, true] {
            for datapath in BOTH {
                let mut world = World::new(50, datapath);
                let (a, b) = far_pair(&mut world, Manner::EAGER);
                let (call, other) = connect(&mut world, a, b, "1002");
                world.talk((a, call), (b, other), SECOND);
                let (who, its, whom, theirs) = if by_callee {
                    (b, other, a, call)
                } else {
                    (a, call, b, other)
                };
                world
                    .sim
                    .act(who, |p, now, out| p.hold(its, direction, zero, now, out));
                world.sim.run_for(SECOND);
                assert_eq!(world.sim.phone(who).call(its).restatus, 200);
                let sent = world.sim.phone(whom).call(theirs).rtp.sent;
                world.sim.run_for(100 * SECOND);
                if zero || direction == Direction::Inactive {
                    assert_eq!(world.sim.phone(whom).call(theirs).rtp.sent, sent);
                }
                let up = world.sim.phone(whom).call(theirs).state == State::Up;
                assert!(up, "hold is no silence\n{}", world.sim.story());
                world.sim.act(who, |p, now, out| {
                    p.hold(its, Direction::SendRecv, false, now, out);
                });
                world.sim.run_for(SECOND);
                world.talk((a, call), (b, other), SECOND);
                world.finish(&[a, b]);
            }
        }
    }
}

/// Both re-INVITE at once: 491 for one at least, and after its wait all is well.
#[test]
fn glare() {
    for gap in 0..5 {
        let mut world = World::new(51 + gap, Datapath::Frames);
        let (a, b) = far_pair(&mut world, Manner::EAGER);
        let (call, other) = connect(&mut world, a, b, "1002");
        let hold = |p: &mut towpath_tests::sim::phone::Phone, call, now, out: &mut Vec<_>| {
            p.hold(call, Direction::SendRecv, false, now, out);
        };
        world.sim.act(a, |p, now, out| hold(p, call, now, out));
        world.sim.run_for(ms(gap * 5));
        world.sim.act(b, |p, now, out| hold(p, other, now, out));
        world.sim.run_for(10 * SECOND);
        let codes = [world.sim.phone(a), world.sim.phone(b)].map(|p| p.codes("INVITE"));
        let refused = codes.iter().flatten().filter(|c| **c == 491).count();
        assert!(refused > 0, "{codes:?}");
        assert_eq!(world.sim.phone(a).call(call).restatus, 200);
        assert_eq!(world.sim.phone(b).call(other).restatus, 200);
        world.talk((a, call), (b, other), SECOND);
        world.finish(&[a, b]);
    }
}

/// A re-INVITE that is cancelled, or never answered, leaves the call as it was (RFC 3261 §14.1).
#[test]
fn a_re_invite_that_fails_leaves_the_call() {
    for cancel in [true, false] {
        let mut world = World::new(52, Datapath::Frames);
        let (a, b) = pair(&mut world, Manner::EAGER);
        let (call, other) = connect(&mut world, a, b, "1002");
        world.sim.phone_mut(b).manner.renegotiates = false;
        world.sim.act(a, |p, now, out| {
            p.hold(call, Direction::SendRecv, false, now, out);
        });
        world.sim.run_for(SECOND);
        if cancel {
            world.sim.act(a, |p, now, out| p.cancel(call, now, out));
            world.sim.run_for(SECOND);
            assert_eq!(world.sim.phone(a).call(call).restatus, 487);
        } else {
            world.sim.run_for(250 * SECOND);
            assert!(matches!(world.sim.phone(a).call(call).restatus, 408 | 487));
        }
        let states = [(a, call), (b, other)].map(|(p, c)| world.sim.phone(p).call(c).state);
        assert_eq!(states, [State::Up; 2], "{}", world.sim.story());
        world.talk((a, call), (b, other), SECOND);
        world.sim.phone_mut(b).manner.renegotiates = true;
        world.sim.act(a, |p, now, out| {
            p.hold(call, Direction::SendRecv, false, now, out);
        });
        world.sim.run_for(SECOND);
        assert_eq!(world.sim.phone(a).call(call).restatus, 200);
        world.talk((a, call), (b, other), SECOND);
        world.finish(&[a, b]);
    }
}

/// CANCEL and the 200 of a re-INVITE cross: the call lives on both sides or on none.
#[test]
fn cancel_of_a_re_invite_crosses_its_success() {
    for wait in (0..120).step_by(4) {
        let mut world = World::new(53 + wait, Datapath::Frames);
        let (a, b) = far_pair(&mut world, Manner::EAGER);
        let (call, other) = connect(&mut world, a, b, "1002");
        world.sim.act(a, |p, now, out| {
            p.hold(call, Direction::SendRecv, false, now, out);
        });
        world.sim.run_for(ms(wait));
        world.sim.act(a, |p, now, out| p.cancel(call, now, out));
        world.sim.run_for(3 * SECOND);
        let states = [(a, call), (b, other)].map(|(p, c)| world.sim.phone(p).call(c).state);
        assert_eq!(states, [State::Up; 2], "{wait}\n{}", world.sim.story());
        world.talk((a, call), (b, other), SECOND);
        world.finish(&[a, b]);
    }
}

/// BYE while a re-INVITE is open: its sender gets a final answer, nothing is left.
#[test]
fn bye_during_a_re_invite() {
    for by_callee in [false, true] {
        let mut world = World::new(54, Datapath::Frames);
        let (a, b) = pair(&mut world, Manner::EAGER);
        let (call, other) = connect(&mut world, a, b, "1002");
        world.sim.phone_mut(b).manner.renegotiates = false;
        world.sim.act(a, |p, now, out| {
            p.hold(call, Direction::SendRecv, false, now, out);
        });
        world.sim.run_for(SECOND);
        if by_callee {
            world.hang_up(b, other);
        } else {
            world.hang_up(a, call);
        }
        world.sim.run_for(5 * SECOND);
        let restatus = world.sim.phone(a).call(call).restatus;
        assert_eq!(restatus, 487, "{}", world.sim.story());
        world.finished(&[a, b]);
    }
}

#[test]
fn bye_from_both_sides() {
    for gap in [0, 1, 5, 20, 21, 22, 41, 42, 60] {
        let mut world = World::new(55 + gap, Datapath::Sockets);
        let (a, b) = far_pair(&mut world, Manner::EAGER);
        let (call, other) = connect(&mut world, a, b, "1002");
        world.hang_up(a, call);
        world.sim.run_for(ms(gap));
        world.hang_up(b, other);
        world.finished(&[a, b]);
        assert_eq!(world.edge().records.len(), 1);
    }
}

#[test]
fn bye_by_the_administrator() {
    let mut world = World::new(56, Datapath::Sockets);
    let (a, b) = far_pair(&mut world, Manner::EAGER);
    let (call, other) = connect(&mut world, a, b, "1002");
    world.talk((a, call), (b, other), SECOND);
    let edge = world.edge;
    let order = |call| Command::HangUp { call };
    assert!(
        !world
            .sim
            .order(edge, |e, now, out| e.command(order(99), now, out))
    );
    assert!(
        world
            .sim
            .order(edge, |e, now, out| e.command(order(1), now, out))
    );
    world.sim.run_for(SECOND);
    assert!(world.sim.phone(a).call(call).cut && world.sim.phone(b).call(other).cut);
    world.finished(&[a, b]);
    assert_eq!(world.edge().records[0].ended_by, "administrator");
}

/// The administrator ends a call that rings, and one that renegotiates.
#[test]
fn bye_by_the_administrator_at_other_times() {
    for renegotiating in [false, true] {
        let mut world = World::new(57, Datapath::Sockets);
        let answers = if renegotiating {
            Manner::EAGER
        } else {
            Manner::RINGS
        };
        let (a, b) = pair(&mut world, answers);
        let call = world.dial(a, "1002");
        world.sim.run_for(2 * SECOND);
        if renegotiating {
            world.sim.phone_mut(b).manner.renegotiates = false;
            world.sim.act(a, |p, now, out| {
                p.hold(call, Direction::SendRecv, false, now, out);
            });
            world.sim.run_for(SECOND);
        }
        let edge = world.edge;
        let order = Command::HangUp { call: 1 };
        assert!(
            world
                .sim
                .order(edge, |e, now, out| e.command(order, now, out))
        );
        world.sim.run_for(5 * SECOND);
        let phone = world.sim.phone(a);
        assert_eq!(phone.call(call).state, State::Over, "{}", world.sim.story());
        if renegotiating {
            assert_eq!(phone.call(call).restatus, 487, "{}", world.sim.story());
        } else {
            assert_eq!(phone.call(call).status, 480);
        }
        world.finished(&[a, b]);
    }
}

#[test]
fn silence_ends_a_call() {
    for datapath in BOTH {
        let mut world = World::new(58, datapath);
        let (a, b) = far_pair(&mut world, Manner::EAGER);
        let (call, other) = connect(&mut world, a, b, "1002");
        world.talk((a, call), (b, other), 90 * SECOND);
        // Both cables are pulled.
        for (phone, call) in [(a, call), (b, other)] {
            let call = world.sim.phone_mut(phone).call_mut(call);
            call.rtp.remote = None;
        }
        world.sim.run_for(55 * SECOND);
        assert_eq!(world.sim.phone(a).call(call).state, State::Up);
        world.sim.run_for(10 * SECOND);
        assert!(world.sim.phone(a).call(call).cut && world.sim.phone(b).call(other).cut);
        assert_eq!(world.edge().records[0].ended_by, "media timeout");
        world.finished(&[a, b]);
    }
}

/// Requests inside a call cross with their bodies, whatever those are, and so do their answers.
#[test]
fn requests_inside_a_call_cross() {
    let binary: Vec<u8> = (0..=255).chain([0, 0xff, b'\r', b'\n']).collect();
    let bodies = [
        (
            "INFO",
            "application/media_control+xml",
            &b"<fast_update/>"[..],
        ),
        ("INFO", "application/octet-stream", &binary),
        ("REFER", "text/plain;charset=gb2312", b"\xc4\xe3\xba\xc3"),
        ("MESSAGE", "text/plain", b"\r\n\r\n"),
        ("NOTIFY", "message/sipfrag", b"SIP/2.0 100 Trying\r\n"),
        ("UPDATE", "application/x-unknown", b"v=0\r\nnot sdp"),
        ("DANCE", "x/y", b"z"),
    ];
    let lines = b"X-Name: \"\xc4\xe3\xba\xc3\" <sip:a@b>\r\nX-Latin: Stra\xdfe\r\nX-Empty:\r\n\
        X-Spaced :  a,\tb ;c=\"d\\\"e\"\r\n";
    let mut world = World::new(59, Datapath::Sockets);
    let (a, b) = far_pair(&mut world, Manner::EAGER);
    let (call, other) = connect(&mut world, a, b, "1002");
    for (from, its, to) in [(a, call, b), (b, other, a)] {
        for (method, kind, body) in bodies {
            let before = world.sim.phone(to).heard.len();
            let answered = world.sim.phone(from).codes(method).len();
            world.sim.act(from, |p, now, out| {
                p.request(its, method, lines, Some((kind, body)), now, out);
            });
            world.sim.run_for(SECOND);
            let heard = &world.sim.phone(to).heard[before..];
            let request = heard.iter().find(|m| m.cseq().1 == method.as_bytes());
            let request = request.unwrap_or_else(|| panic!("{method}\n{}", world.sim.story()));
            check_same(request, kind, body, lines);
            let codes = world.sim.phone(from).codes(method);
            assert_eq!(codes.len(), answered + 1, "{method} {codes:?}");
            let answer = world
                .sim
                .phone(from)
                .heard
                .iter()
                .rfind(|m| m.code().is_some());
            check_same(answer.unwrap(), kind, body, lines);
        }
    }
    world.talk((a, call), (b, other), SECOND);
    world.finish(&[a, b]);

    fn check_same(message: &Message, kind: &str, body: &[u8], lines: &[u8]) {
        assert_eq!(message.body(), body);
        assert_eq!(message.get(Name::ContentType), Some(kind.as_bytes()));
        let whole = message.bytes();
        let found = whole.windows(lines.len()).any(|window| window == lines);
        assert!(found, "{}", whole.escape_ascii());
    }
}

/// An UPDATE with an offer renegotiates like a re-INVITE (RFC 3311).
#[test]
fn update_with_an_offer() {
    let mut world = World::new(60, Datapath::Frames);
    let (a, b) = far_pair(&mut world, Manner::EAGER);
    let (call, other) = connect(&mut world, a, b, "1002");
    let sdp = {
        let rtp = &world.sim.phone(a).call(call).rtp;
        towpath_tests::sim::sdp::Description::audio(rtp.local, Direction::SendRecv, 2).write()
    };
    world.sim.act(a, |p, now, out| {
        p.request(
            call,
            "UPDATE",
            b"",
            Some(("application/sdp", &sdp)),
            now,
            out,
        );
    });
    world.sim.run_for(SECOND);
    assert_eq!(world.sim.phone(a).codes("UPDATE"), [200]);
    let told = world.sim.phone(b).call(other).remote_sdp.clone().unwrap();
    assert_eq!(told.version, 2);
    assert_eq!(told.at().ip().to_string(), "203.0.113.9");
    world.talk((a, call), (b, other), SECOND);
    world.finish(&[a, b]);
}

/// The INVITE itself: unknown headers, bytes that are not UTF-8, and a body of several parts.
#[test]
fn an_invite_crosses_byte_for_byte() {
    let lines = b"X-Name: \"\xc4\xe3\xba\xc3\" <sip:a@b>\r\nSubject:  two  blanks\r\n\
        Alert-Info: <http://a/b>;info=x\r\nP-Odd-One: a,b , c\r\n";
    let sdp = b"v=0\r\no=Some Room 1 1 IN IP4 10.0.0.31\r\ns=\xc4\xe3\r\nc=IN IP4 10.0.0.31\r\n\
        t=0 0\r\nm=audio 4000 RTP/AVP 0 101\r\ny=0100\r\nf=v/1\r\na=x-vendor:\xff\r\n";
    let head = b"--b1\r\nContent-Type: application/sdp\r\n\r\n";
    let tail =
        b"\r\n--b1\r\nContent-Type: application/x-other\r\n\r\n\x00\x01\xfe\xff\r\n--b1--\r\n";
    let mut world = World::new(61, Datapath::Frames);
    let (a, b) = pair(&mut world, Manner::RINGS);
    let whole = [&head[..], sdp, tail].concat();
    let dial = Dial {
        user: "1002".into(),
        lines: lines.to_vec(),
        body: Some(("multipart/mixed;boundary=b1".into(), whole)),
        ..Dial::default()
    };
    let call = world.dial_as(a, &dial);
    world.sim.run_for(SECOND);
    let invite = world.sim.phone(b).requests("INVITE")[0].clone();
    let found = invite.bytes().windows(lines.len()).any(|w| w == lines);
    assert!(found, "{}", invite.bytes().escape_ascii());
    let body = invite.body();
    assert!(
        body.starts_with(head) && body.ends_with(tail),
        "{}",
        body.escape_ascii()
    );
    let inner = &body[head.len()..body.len() - tail.len()];
    let lines = |sdp: &[u8]| {
        sdp.split(|b| *b == b'\n')
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    for (old, new) in lines(sdp).iter().zip(lines(inner)) {
        let ours = [&b"c="[..], b"m=", b"o="]
            .iter()
            .any(|p| old.starts_with(p));
        assert!(
            ours || *old == new,
            "{} {}",
            old.escape_ascii(),
            new.escape_ascii()
        );
    }
    let text = inner.escape_ascii().to_string();
    assert!(
        text.contains("c=IN IP4 10.0.0.3\\r") && !text.contains("10.0.0.31"),
        "{text}"
    );
    world.hang_up(a, call);
    world.finish(&[a, b]);
}

/// The router forgets everything in the middle of a call: media is back within 3 s without a word
/// of signalling, and the next registration brings signalling back.
#[test]
fn the_router_restarts_in_mid_call() {
    for datapath in BOTH {
        let mut world = World::new(62, datapath);
        let (lan, (router, home)) = (world.lan, world.router(Behaviour::SYMMETRIC));
        let a = world.registered("1001", lan, "10.0.0.31", Manner::EAGER);
        let b = world.registered("1002", home, "192.168.1.10", Manner::EAGER);
        let (call, other) = connect(&mut world, a, b, "1002");
        world.talk((a, call), (b, other), SECOND);
        world.sim.nat(router).rebind();
        world.sim.run_for(ms(2600));
        world.talk((a, call), (b, other), SECOND);
        // The refresh comes from another port and replaces the binding.
        world.sim.run_for(60 * SECOND);
        assert_eq!(world.edge().engine.totals().registrations, 2);
        world.hang_up(a, call);
        world.sim.run_for(SECOND);
        let over = world.sim.phone(b).call(other).state == State::Over;
        assert!(over, "BYE follows the registration\n{}", world.sim.story());
        let (call, other) = connect(&mut world, a, b, "1002");
        world.talk((a, call), (b, other), SECOND);
        world.finish(&[a, b]);
    }
}

/// A phone behind a forgetful router stays reachable for as long as it is registered.
#[test]
fn keep_alives_hold_the_way_open() {
    let mut world = World::new(63, Datapath::Sockets);
    let (a, b) = far_pair(&mut world, Manner::EAGER);
    for _ in 0..20 {
        world.sim.run_for(47 * SECOND);
        assert_eq!(world.call(a, "1002"), 200, "{}", world.sim.story());
        let call = world.sim.phone(a).last().unwrap();
        world.hang_up(a, call);
        world.sim.run_for(SECOND);
    }
    world.finish(&[a, b]);
}

/// A registration that ends, and a caller that hangs up later than its registration.
#[test]
fn registrations_end() {
    let mut world = World::new(64, Datapath::Sockets);
    let (a, b) = pair(&mut world, Manner::EAGER);
    world.sim.act(b, |p, now, out| p.register(0, now, out));
    world.sim.run_for(SECOND);
    assert_eq!(world.call(a, "1002"), 480);
    world.register(b);
    let (call, other) = connect(&mut world, a, b, "1002");
    let edge = world.edge;
    let order = Command::DropRegistration {
        aor: "1002@example.com".into(),
    };
    assert!(
        world
            .sim
            .order(edge, |e, now, out| e.command(order, now, out))
    );
    world.talk((a, call), (b, other), SECOND);
    world.hang_up(b, other);
    world.sim.run_for(SECOND);
    assert_eq!(world.call(a, "1002"), 480);
    world.finished(&[a, b]);
}
