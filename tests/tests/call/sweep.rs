//! Random scripts, random routers, loss: whatever happens, nothing is leaked and nothing is left.

use std::panic::{AssertUnwindSafe, catch_unwind};

use towpath_tests::sim::edge::Datapath;
use towpath_tests::sim::nat::{Behaviour, Dependence};
use towpath_tests::sim::phone::{Dial, Manner, State};
use towpath_tests::sim::rng::Rng;
use towpath_tests::sim::sdp::Direction;
use towpath_tests::sim::world::World;
use towpath_tests::sim::{Link, NodeId};

use super::{SECOND, ms};

/// Runs of a test; TOWPATH_SEEDS asks for more.
const SEEDS: u64 = 200;

#[test]
fn any_seed() {
    let asked = std::env::var("TOWPATH_SEEDS").ok();
    let (first, last) = match asked.as_deref().map(|text| text.split_once("..")) {
        Some(Some((first, last))) => (first.parse().unwrap(), last.parse().unwrap()),
        Some(None) => (0, asked.unwrap().parse().unwrap()),
        None => (0, SEEDS),
    };
    let failed: Vec<u64> = (first..last)
        .filter(|seed| catch_unwind(AssertUnwindSafe(|| run(*seed))).is_err())
        .collect();
    assert!(
        failed.is_empty(),
        "TOWPATH_SEEDS=n..n+1 shows one: {failed:?}"
    );
}

fn run(seed: u64) {
    let mut chance = Rng::new(seed);
    let datapath = chance.pick(&[Datapath::Sockets, Datapath::Frames]);
    let mut world = World::new(seed, datapath);
    let a = phone(&mut world, "1001", 1, &mut chance);
    let b = phone(&mut world, "1002", 2, &mut chance);
    let lossy = chance.permille(700);
    for net in [world.lan, world.wan] {
        let link = Link {
            delay: ms(chance.below(80)),
            jitter: if lossy { ms(chance.below(60)) } else { ms(0) },
            sip_loss: if lossy { chance.below(250) } else { 0 },
            media_loss: if lossy { chance.below(100) } else { 0 },
            duplicate: if lossy { chance.below(100) } else { 0 },
        };
        world.sim.set_link(net, link);
    }
    for _ in 0..1 + chance.below(2) {
        one_call(&mut world, a, b, &mut chance, lossy);
    }
    world.finish(&[a, b]);
}

fn phone(world: &mut World, user: &str, last: u8, chance: &mut Rng) -> NodeId {
    let mut manner = Manner {
        ring: chance.pick(&[None, Some(ms(0)), Some(ms(300))]),
        early: chance.permille(300),
        answer: chance.pick(&[
            Some(ms(0)),
            Some(ms(100)),
            Some(ms(900)),
            Some(3 * SECOND),
            None,
        ]),
        code: chance.pick(&[200, 200, 200, 200, 486, 480]),
        dead: false,
        renegotiates: chance.permille(900),
        ..Manner::EAGER
    };
    if manner.answer.is_none() {
        // A phone that says nothing at all cannot be cancelled either (RFC 3261 §9.1).
        manner.ring = manner.ring.or(Some(SECOND));
    }
    let behaviour = Behaviour {
        mapping: chance.pick(&Dependence::ALL),
        filtering: chance.pick(&Dependence::ALL),
        preserve: chance.permille(500),
        hairpin: chance.permille(500),
        timeout: 120 * SECOND,
        inbound_refresh: chance.permille(500),
    };
    let (net, ip) = match chance.below(4) {
        0 => (world.lan, format!("10.0.0.{}", 30 + last)),
        1 => (world.wan, format!("198.18.0.{last}")),
        2 => (world.wan, format!("2001:db8:{last}::1")),
        _ => (world.router(behaviour).1, "192.168.1.10".to_owned()),
    };
    world.registered(user, net, &ip, manner)
}

fn one_call(world: &mut World, a: NodeId, b: NodeId, chance: &mut Rng, lossy: bool) {
    let dial = Dial {
        user: "1002".into(),
        delayed: chance.permille(200),
        ..Dial::default()
    };
    let call = world.dial_as(a, &dial);
    for _ in 0..chance.below(6) {
        world.sim.run_for(ms(chance.below(1500)));
        let who = chance.pick(&[a, b]);
        let Some(its) = world.sim.phone(who).last() else {
            continue;
        };
        let state = world.sim.phone(who).call(its).state;
        match (chance.below(8), state) {
            (0, _) => world.hang_up(who, its),
            (1, State::Up) => world.sim.act(who, |p, now, out| {
                p.request(its, "INFO", b"", None, now, out)
            }),
            (2 | 3, State::Up) => {
                let direction = chance.pick(&[
                    Direction::SendRecv,
                    Direction::Inactive,
                    Direction::SendOnly,
                ]);
                let zero = chance.permille(300);
                world
                    .sim
                    .act(who, |p, now, out| p.hold(its, direction, zero, now, out));
            }
            (4, State::Calling) => world.sim.act(who, |p, now, out| p.cancel(its, now, out)),
            _ => {}
        }
    }
    world.sim.run_for(ms(500));
    let other = world.sim.phone(b).last();
    let quiet = |s: NodeId, c: usize| world.sim.phone(s).is_settled(c);
    if let Some(other) = other
        && !lossy
        && quiet(a, call)
        && quiet(b, other)
        && world.sim.phone(a).call(call).rtp.sending
        && world.sim.phone(b).call(other).rtp.sending
    {
        world.sim.run_for(SECOND);
        world.talk((a, call), (b, other), SECOND);
    }
    for (phone, call) in [(a, Some(call)), (b, other)] {
        let Some(call) = call else { continue };
        let ssrcs = [a, b].map(|p| {
            let calls = &world.sim.phone(p).calls;
            calls.iter().map(|c| c.rtp.ssrc).collect::<Vec<_>>()
        });
        let rtp = &world.sim.phone(phone).call(call).rtp;
        let theirs = if phone == a { &ssrcs[1] } else { &ssrcs[0] };
        let heard = rtp.received.rtp.keys().chain(rtp.received.rtcp.keys());
        for ssrc in heard {
            assert!(
                theirs.contains(ssrc),
                "{ssrc:08x} is heard by {phone:?}, not {ssrcs:08x?}: {:x?}\n{}",
                rtp.received.rtcp,
                world.sim.story()
            );
        }
        assert_eq!(rtp.received.garbage, 0);
    }
    if chance.permille(700) {
        world.hang_up(a, call);
    }
    world.sim.run_for(ms(chance.below(2000)));
}
