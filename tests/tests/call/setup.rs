//! How calls come about, or do not.

use towpath_tests::sim::edge::Datapath;
use towpath_tests::sim::nat::Behaviour;
use towpath_tests::sim::phone::{Dial, Manner, State};
use towpath_tests::sim::world::World;
use towpath_tests::sim::{NodeId, Packet};

use super::{BOTH, SECOND, connect, far_pair, ms, pair};

/// A call that must fail with `code`, and cleanly.
#[track_caller]
fn check_refused(world: &mut World, a: NodeId, dial: &Dial, code: u16, others: &[NodeId]) {
    let call = world.dial_as(a, dial);
    assert_eq!(world.settle(a, call), code, "{}", world.sim.story());
    world.finished(&[&[a], others].concat());
}

fn to(user: &str) -> Dial {
    Dial {
        user: user.to_owned(),
        ..Dial::default()
    }
}

#[test]
fn refusals() {
    let lan_pair = |answers| {
        let mut world = World::new(20, Datapath::Sockets);
        let (a, b) = pair(&mut world, answers);
        (world, a, b)
    };
    let (mut world, a, b) = lan_pair(Manner::BUSY);
    check_refused(&mut world, a, &to("1002"), 486, &[b]);
    let (mut world, a, b) = lan_pair(Manner::EAGER);
    check_refused(&mut world, a, &to("4711"), 404, &[b]);
    check_refused(&mut world, a, &to("1003"), 480, &[b]);
    world.register(b);
    let foreign = Dial {
        uri: "sip:1002@example.net".into(),
        ..Dial::default()
    };
    check_refused(&mut world, a, &foreign, 403, &[b]);
    let no_hops = Dial {
        max_forwards: Some(0),
        ..to("1002")
    };
    check_refused(&mut world, a, &no_hops, 483, &[b]);
    let scheme = Dial {
        uri: "tel:+1002".into(),
        ..Dial::default()
    };
    check_refused(&mut world, a, &scheme, 416, &[b]);
    assert!(world.sim.phone(b).requests("INVITE").is_empty());
}

#[test]
fn a_call_nobody_answers_ends() {
    let mut world = World::new(21, Datapath::Sockets);
    let (a, b) = pair(&mut world, Manner::RINGS);
    // Timer C of the edge (RFC 3261 §16.6 step 11): over three minutes.
    let call = world.dial(a, "1002");
    world.sim.run_for(170 * SECOND);
    assert_eq!(world.sim.phone(a).call(call).status, 0);
    assert_eq!(world.settle(a, call), 408);
    world.sim.run_for(SECOND);
    assert_eq!(world.sim.phone(b).calls[0].status, 487);
    world.finished(&[a, b]);
}

#[test]
fn a_dead_callee_is_given_up() {
    let mut world = World::new(22, Datapath::Sockets);
    let (a, b) = pair(&mut world, Manner::EAGER);
    world.sim.phone_mut(b).manner = Manner::DEAD;
    assert_eq!(world.call(a, "1002"), 408);
    assert_eq!(world.sim.elapsed().as_secs() / 4, 8, "timer B is 32 s");
    world.finished(&[a, b]);
}

#[test]
fn cancel_before_and_after_ringing() {
    let slow = Manner {
        ring: Some(3 * SECOND),
        answer: None,
        ..Manner::EAGER
    };
    for (answers, wait) in [(slow, SECOND), (Manner::RINGS, SECOND)] {
        for far in [false, true] {
            let mut world = World::new(23, Datapath::Sockets);
            let pair = if far { far_pair } else { pair };
            let (a, b) = pair(&mut world, answers);
            let call = world.dial(a, "1002");
            world.sim.run_for(wait);
            world.hang_up(a, call);
            assert_eq!(world.settle(a, call), 487);
            world.sim.run_for(8 * SECOND);
            let phone = world.sim.phone(b);
            assert_eq!(
                (phone.calls[0].state, phone.calls[0].status),
                (State::Over, 487)
            );
            world.finished(&[a, b]);
        }
    }
}

/// The callee says nothing at all; the caller gives up meanwhile.
#[test]
fn cancel_of_a_call_to_the_dead() {
    let mut world = World::new(24, Datapath::Sockets);
    let (a, b) = pair(&mut world, Manner::EAGER);
    world.sim.phone_mut(b).manner = Manner::DEAD;
    let call = world.dial(a, "1002");
    world.sim.run_for(SECOND);
    world.hang_up(a, call);
    assert_eq!(world.settle(a, call), 487);
    world.finished(&[a, b]);
}

/// CANCEL and 200 pass each other at every possible distance.
#[test]
fn cancel_and_success_cross() {
    let mut ends = std::collections::BTreeMap::<u16, u32>::new();
    for wait in (0..400).step_by(4) {
        let mut world = World::new(25 + wait, Datapath::Sockets);
        let (a, b) = far_pair(&mut world, Manner::EAGER);
        let call = world.dial(a, "1002");
        world.sim.run_for(ms(wait));
        world.sim.act(a, |p, now, out| p.cancel(call, now, out));
        let status = world.settle(a, call);
        *ends.entry(status).or_default() += 1;
        world.sim.run_for(3 * SECOND);
        let (one, other) = (world.sim.phone(a).call(call).state, world.sim.phone(b));
        match status {
            200 => assert_eq!((one, other.calls[0].state), (State::Up, State::Up)),
            _ => assert!(
                other.calls.iter().all(|c| c.state == State::Over),
                "{}",
                world.sim.story()
            ),
        }
        world.finish(&[a, b]);
    }
    assert!(
        ends.keys().eq(&[200, 487]) && ends[&487] > 3 && ends[&200] > 3,
        "{ends:?}"
    );
}

#[test]
fn wrong_passwords_and_borrowed_names() {
    let mut world = World::new(26, Datapath::Sockets);
    let lan = world.lan;
    let a = world.phone("1001", lan, "10.0.0.31", Manner::EAGER);
    world.sim.phone_mut(a).id.password = "guess".into();
    assert_eq!(world.register(a), 401);
    assert_eq!(world.call(a, "1002"), 407);
    assert_eq!(world.counted("sip_auth", "wrong"), 2);
    // An unknown user is told the same (no enumeration).
    let b = world.phone("1099", lan, "10.0.0.32", Manner::EAGER);
    assert_eq!(world.register(b), 401);
    assert_eq!(world.call(b, "1002"), 407);
    // A proven user that speaks for another.
    let c = world.registered("1003", lan, "10.0.0.33", Manner::EAGER);
    world.sim.phone_mut(c).id.speaks_as = Some("1001".into());
    assert_eq!(world.call(c, "1002"), 403);
    assert_eq!(world.register(c), 403);
    assert_eq!(world.edge().engine.totals().registrations, 1);
    world.finished(&[a, b, c]);
}

#[test]
fn delayed_offer() {
    for datapath in BOTH {
        for far in [false, true] {
            let mut world = World::new(27, datapath);
            let pair = if far { far_pair } else { pair };
            let (a, b) = pair(&mut world, Manner::EAGER);
            let dial = Dial {
                delayed: true,
                ..to("1002")
            };
            let call = world.dial_as(a, &dial);
            assert_eq!(world.settle(a, call), 200);
            world.sim.run_for(ms(200));
            let other = world.sim.phone(b).last().unwrap();
            world.talk((a, call), (b, other), SECOND);
            world.finish(&[a, b]);
        }
    }
}

#[test]
fn early_media_flows_before_the_answer() {
    let answers = Manner {
        early: true,
        answer: Some(5 * SECOND),
        ..Manner::EAGER
    };
    for datapath in BOTH {
        for far in [false, true] {
            let mut world = World::new(28, datapath);
            let pair = if far { far_pair } else { pair };
            let (a, b) = pair(&mut world, answers);
            let call = world.dial(a, "1002");
            world.sim.run_for(SECOND);
            world.talk((a, call), (b, 0), 2 * SECOND);
            assert_eq!(world.sim.phone(a).call(call).state, State::Calling);
            assert_eq!(world.settle(a, call), 200);
            world.talk((a, call), (b, 0), SECOND);
            world.finish(&[a, b]);
        }
    }
}

/// Early media, then a refusal: the media stops and nothing is left.
#[test]
fn early_media_and_a_refusal() {
    let answers = Manner {
        early: true,
        answer: Some(2 * SECOND),
        code: 486,
        ..Manner::EAGER
    };
    let mut world = World::new(29, Datapath::Frames);
    let (a, b) = pair(&mut world, answers);
    let call = world.dial(a, "1002");
    world.sim.run_for(SECOND);
    assert!(!world.edge().flows().is_empty());
    assert_eq!(world.settle(a, call), 486);
    assert!(world.edge().flows().is_empty());
    world.finished(&[a, b]);
}

/// The contact registered last is dead; the one before answers.
#[test]
fn the_second_contact_answers() {
    for datapath in BOTH {
        let mut world = World::new(30, datapath);
        let (a, b) = pair(&mut world, Manner::EAGER);
        let (_, home) = world.router(Behaviour::SYMMETRIC);
        world.sim.run_for(SECOND);
        let dead = world.registered("1002", home, "192.168.1.10", Manner::EAGER);
        world.prefers(b, "0.5");
        world.sim.phone_mut(dead).manner = Manner::DEAD;
        let call = world.dial(a, "1002");
        assert_eq!(world.settle(a, call), 200);
        assert_eq!(world.counted("call_setup", "next_target"), 1);
        world.sim.run_for(ms(200));
        world.talk((a, call), (b, 0), SECOND);
        world.sim.phone_mut(dead).calls.clear();
        world.finish(&[a, b]);
    }
}

/// The contact registered last gives early media and then refuses; the other answers elsewhere.
#[test]
fn the_second_contact_answers_after_early_media_of_the_first() {
    for (code, asked) in [(480, true), (503, true), (486, true), (603, false)] {
        let refuses = Manner {
            early: true,
            answer: Some(2 * SECOND),
            code,
            ..Manner::EAGER
        };
        let mut world = World::new(31, Datapath::Frames);
        let (a, b) = far_pair(&mut world, Manner::EAGER);
        world.sim.run_for(SECOND);
        let lan = world.lan;
        let first = world.registered("1002", lan, "10.0.0.40", refuses);
        world.prefers(b, "0.5");
        let call = world.dial(a, "1002");
        let status = world.settle(a, call);
        if asked {
            assert_eq!(status, 200);
            world.sim.run_for(SECOND);
            // What was heard early came from the first; from now on only the second is.
            world.sim.phone_mut(a).call_mut(call).rtp.received = Default::default();
            world.talk((a, call), (b, 0), SECOND);
        } else {
            assert_eq!(status, code);
            assert!(world.sim.phone(b).calls.is_empty());
        }
        world.finish(&[a, b, first]);
    }
}

/// Each message of a call is lost once, then twice: the call comes about all the same.
#[test]
fn each_message_of_a_call_is_lost() {
    let kinds = [
        "INVITE ",
        "SIP/2.0 100",
        "SIP/2.0 180",
        "SIP/2.0 200",
        "SIP/2.0 407",
        "ACK ",
        "BYE ",
    ];
    for kind in kinds {
        for times in 1..=3 {
            for leg in ["10.0.0.31", "10.0.0.32"] {
                let mut world = World::new(32, Datapath::Frames);
                let (a, b) = pair(&mut world, Manner::EAGER);
                let mut left = times;
                world.sim.steal(move |packet: &Packet| {
                    let ends = [packet.from, packet.to].map(|at| at.ip().to_string());
                    let hit = packet.start_line().starts_with(kind)
                        && packet.is_sip()
                        && ends.iter().any(|ip| ip == leg)
                        && left > 0;
                    left -= u32::from(hit);
                    hit
                });
                let call = world.dial(a, "1002");
                assert_eq!(world.settle(a, call), 200, "{}", world.sim.story());
                world.sim.run_for(10 * SECOND);
                let state = world.sim.phone(b).calls[0].state;
                assert_eq!(state, State::Up, "{}", world.sim.story());
                world.talk((a, call), (b, 0), SECOND);
                world.hang_up(a, call);
                world.sim.run_for(10 * SECOND);
                assert_eq!(world.sim.phone(b).calls.len(), 1);
                let over = world.sim.phone(b).calls[0].state == State::Over;
                assert!(over, "{kind}\n{}", world.sim.story());
                world.finished(&[a, b]);
            }
        }
    }
}

/// The ACK never arrives: the callee ends the call, and the caller hears of it.
#[test]
fn an_ack_that_never_arrives() {
    let mut world = World::new(33, Datapath::Sockets);
    let (a, b) = pair(&mut world, Manner::EAGER);
    let lost = |packet: &Packet| {
        packet.to.ip().to_string() == "10.0.0.32" && packet.start_line().starts_with("ACK ")
    };
    world.sim.steal(lost);
    let (call, other) = connect(&mut world, a, b, "1002");
    world.sim.run_for(40 * SECOND);
    assert_eq!(world.sim.phone(b).call(other).state, State::Over);
    assert!(world.sim.phone(a).call(call).cut);
    world.finished(&[a, b]);
}
