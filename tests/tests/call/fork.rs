//! One call to several phones (RFC 3261 §16.6, §16.7).

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use control::engine::admin::CallView;
use control::sip::index::Name;
use towpath_tests::sim::edge::Datapath;
use towpath_tests::sim::nat::Behaviour;
use towpath_tests::sim::phone::{Dial, Extras, Manner, State};
use towpath_tests::sim::rng::Rng;
use towpath_tests::sim::world::World;
use towpath_tests::sim::{Link, NodeId};

use super::{BOTH, SECOND, ms, restart};

/// A caller in the LAN, and as many phones of one account as there are manners: in the LAN, and
/// behind one NAT.
fn family(world: &mut World, manners: &[Manner]) -> (NodeId, Vec<NodeId>) {
    let (lan, (_, home)) = (world.lan, world.router(Behaviour::SYMMETRIC));
    let a = world.registered("1001", lan, "10.0.0.31", Manner::EAGER);
    let places = [
        (lan, "10.0.0.32"),
        (home, "192.168.1.10"),
        (home, "192.168.1.11"),
        (lan, "10.0.0.33"),
    ];
    let phones = manners.iter().zip(places);
    let phones = phones.map(|(manner, (net, ip))| world.registered("1002", net, ip, *manner));
    (a, phones.collect())
}

fn answers(after: u64) -> Manner {
    Manner {
        answer: Some(ms(after)),
        ..Manner::EAGER
    }
}

fn refuses(code: u16, after: u64) -> Manner {
    Manner {
        code,
        ..answers(after)
    }
}

fn early(manner: Manner) -> Manner {
    Manner {
        early: true,
        ..manner
    }
}

fn views(world: &World) -> Vec<CallView> {
    world.edge().engine.calls(world.sim.now())
}

/// Every phone rings, the caller sees a dialog for each, one answers, the others are told.
#[test]
fn the_first_to_answer_has_the_call() {
    for datapath in BOTH {
        for winner in 0..3 {
            let mut world = World::new(200, datapath);
            let mut manners = [Manner::RINGS; 3];
            manners[winner] = answers(900);
            let (a, phones) = family(&mut world, &manners);
            let call = world.dial(a, "1002");
            world.sim.run_for(ms(600));
            assert_eq!(world.counted("call_setup", "forked"), 1);
            let branches = &views(&world)[0].branches;
            let states: Vec<_> = branches.iter().map(|b| (b.state, b.status)).collect();
            assert_eq!(states, [("ringing", 180); 3]);
            // One pair for the caller, one for each who is asked.
            assert_eq!(world.edge().sockets().len(), 2 * (1 + 3));
            assert_eq!(world.settle(a, call), 200);
            world.sim.run_for(ms(400));
            let heard = &world.sim.phone(a).heard;
            let tags = heard.iter().filter(|m| m.code() == Some(180));
            let tags: BTreeSet<_> = tags.map(|m| m.to_tag().unwrap().to_vec()).collect();
            assert_eq!(tags.len(), 3, "a dialog for each");
            assert_eq!(
                world.edge().sockets().len(),
                2 * 2,
                "the others' ports rest"
            );
            for (index, phone) in phones.iter().enumerate() {
                let call = &world.sim.phone(*phone).calls[0];
                let expected = if index == winner {
                    (State::Up, 200)
                } else {
                    (State::Over, 487)
                };
                assert_eq!((call.state, call.status), expected, "{index}");
            }
            world.talk((a, call), (phones[winner], 0), SECOND);
            world.finish(&[&[a], &phones[..]].concat());
        }
    }
}

/// Whoever spoke last is heard before the call is answered; whoever answers is heard then, also if
/// that is the one who had spoken first.
#[test]
fn early_media_of_several() {
    for datapath in BOTH {
        for winner in 0..3 {
            let mut world = World::new(201, datapath);
            let mut manners = [300, 100, 200].map(|ring| Manner {
                ring: Some(ms(ring)),
                ..early(Manner::RINGS)
            });
            manners[winner].answer = Some(2 * SECOND);
            let (a, phones) = family(&mut world, &manners);
            let call = world.dial(a, "1002");
            world.sim.run_for(ms(1500));
            let ssrc = world.sim.phone(phones[0]).calls[0].rtp.ssrc;
            let heard = &world.sim.phone(a).call(call).rtp;
            let foreign = heard.foreign(ssrc);
            assert!(foreign.len() <= 2, "{foreign:?}");
            assert_eq!(world.edge().flows().len(), 4, "of one party only");
            assert_eq!(world.settle(a, call), 200);
            world.sim.run_for(SECOND);
            world.sim.phone_mut(a).call_mut(call).rtp.received = Default::default();
            world.talk((a, call), (phones[winner], 0), SECOND);
            // What the winner said is kept, whoever spoke after it.
            assert_eq!(world.edge().kept_calls(), 3, "{winner}");
            restart::restart(&mut world);
            world.talk((a, call), (phones[winner], 0), SECOND);
            world.finish(&[&[a], &phones[..]].concat());
        }
    }
}

/// Two answer at once: one has the call, the other is thanked and sent away.
#[test]
fn successes_cross() {
    let mut away = 0;
    for apart in (0..160).step_by(8) {
        let mut world = World::new(202, Datapath::Frames);
        let (a, phones) = family(&mut world, &[answers(300 + apart), answers(380)]);
        let call = world.dial(a, "1002");
        assert_eq!(world.settle(a, call), 200);
        world.sim.run_for(SECOND);
        let up = |p: &&NodeId| world.sim.phone(**p).calls[0].state == State::Up;
        let winners: Vec<NodeId> = phones.iter().filter(up).copied().collect();
        let [winner] = winners[..] else {
            unreachable!("{winners:?}\n{}", world.sim.story())
        };
        let loser = if winner == phones[0] {
            phones[1]
        } else {
            phones[0]
        };
        let lost = &world.sim.phone(loser).calls[0];
        assert_eq!(lost.cut, lost.status == 200, "BYE for who answered");
        away += world.counted("call_setup", "late_success");
        world.talk((a, call), (winner, 0), SECOND);
        world.finish(&[&[a], &phones[..]].concat());
    }
    assert!(away > 3, "{away}");
}

/// §16.7 step 6: the best of all refusals is what the caller hears, after all have spoken.
#[test]
fn the_best_refusal() {
    check(&[486, 480], 486);
    check(&[480, 486], 486);
    check(&[486, 503], 486);
    check(&[404, 500, 486], 404);
    check(&[486, 603, 404], 603);
    check(&[500, 503], 500);
    check(&[480, 480, 480], 480);
    check(&[486, 484], 484);

    #[track_caller]
    fn check(codes: &[u16], expected: u16) {
        let mut world = World::new(203, Datapath::Sockets);
        let manners = codes.iter().zip([300, 600, 900]);
        let manners: Vec<Manner> = manners.map(|(code, at)| refuses(*code, at)).collect();
        let (a, phones) = family(&mut world, &manners);
        assert_eq!(world.call(a, "1002"), expected, "{codes:?}");
        world.finished(&[&[a], &phones[..]].concat());
    }
}

/// A 6xx ends it for everybody: nobody else rings on.
#[test]
fn a_global_refusal() {
    let mut world = World::new(204, Datapath::Sockets);
    let manners = [Manner::RINGS, refuses(603, 500), Manner::RINGS];
    let (a, phones) = family(&mut world, &manners);
    assert_eq!(world.call(a, "1002"), 603);
    world.sim.run_for(SECOND);
    for phone in [phones[0], phones[2]] {
        assert_eq!(world.sim.phone(phone).calls[0].status, 487);
    }
    world.finished(&[&[a], &phones[..]].concat());
}

#[test]
fn one_refuses_another_answers() {
    for early_first in [false, true] {
        let mut world = World::new(205, Datapath::Frames);
        let refuses = refuses(486, 400);
        let refuses = if early_first { early(refuses) } else { refuses };
        let (a, phones) = family(&mut world, &[refuses, answers(1500)]);
        let call = world.dial(a, "1002");
        world.sim.run_for(SECOND);
        assert_eq!(world.edge().sockets().len(), 2 * 2, "its ports rest");
        assert!(world.edge().flows().is_empty());
        assert_eq!(world.settle(a, call), 200);
        world.sim.run_for(SECOND);
        world.sim.phone_mut(a).call_mut(call).rtp.received = Default::default();
        world.talk((a, call), (phones[1], 0), SECOND);
        world.finish(&[&[a], &phones[..]].concat());
    }
}

#[test]
fn the_caller_gives_up() {
    for wait in (0..1000).step_by(40) {
        let mut world = World::new(206 + wait, Datapath::Sockets);
        let manners = [answers(700), Manner::RINGS, early(Manner::RINGS)];
        let (a, phones) = family(&mut world, &manners);
        let call = world.dial(a, "1002");
        world.sim.run_for(ms(wait));
        world.hang_up(a, call);
        let status = world.settle(a, call);
        assert!(matches!(status, 200 | 487), "{status}");
        world.sim.run_for(5 * SECOND);
        for phone in &phones {
            for call in &world.sim.phone(*phone).calls {
                assert_eq!(call.state, State::Over, "{wait}\n{}", world.sim.story());
            }
        }
        world.finished(&[&[a], &phones[..]].concat());
    }
}

/// The branch that ended first is long forgotten when the caller gives up.
#[test]
fn cancel_reaches_who_is_left() {
    let mut world = World::new(207, Datapath::Sockets);
    let (a, phones) = family(&mut world, &[Manner::RINGS, refuses(486, 300)]);
    let call = world.dial(a, "1002");
    world.sim.run_for(60 * SECOND);
    world.hang_up(a, call);
    assert_eq!(world.settle(a, call), 487);
    world.sim.run_for(SECOND);
    assert_eq!(world.sim.phone(phones[0]).calls[0].status, 487);
    world.finished(&[&[a], &phones[..]].concat());
}

/// A phone that is switched off delays nobody, and is given up in its own time.
#[test]
fn one_is_dead() {
    let mut world = World::new(208, Datapath::Frames);
    let (a, phones) = family(&mut world, &[Manner::EAGER, Manner::EAGER]);
    world.sim.phone_mut(phones[1]).manner = Manner::DEAD;
    let call = world.dial(a, "1002");
    assert_eq!(world.settle(a, call), 200);
    assert!(world.sim.elapsed() < 2 * SECOND);
    world.sim.run_for(ms(400));
    world.talk((a, call), (phones[0], 0), SECOND);
    // It comes back while its INVITE is still repeated: it rings in vain for a moment only.
    world.sim.phone_mut(phones[1]).manner = Manner::RINGS;
    world.sim.run_for(10 * SECOND);
    let late = &world.sim.phone(phones[1]).calls;
    assert!(late.iter().all(|call| call.status == 487), "{late:?}");
    assert!(!late.is_empty());
    world.finish(&[&[a], &phones[..]].concat());
}

/// Each who answers makes an offer of its own; the caller answers the one it gets.
#[test]
fn delayed_offers() {
    for datapath in BOTH {
        let mut world = World::new(209, datapath);
        let (a, phones) = family(&mut world, &[answers(500), answers(900)]);
        let dial = Dial {
            user: "1002".into(),
            delayed: true,
            ..Dial::default()
        };
        let call = world.dial_as(a, &dial);
        assert_eq!(world.settle(a, call), 200);
        world.sim.run_for(ms(500));
        world.talk((a, call), (phones[0], 0), SECOND);
        world.finish(&[&[a], &phones[..]].concat());
    }
}

/// Equal preference at the same time, lower preference after (§16.6, §20.10).
#[test]
fn preferences() {
    let mut world = World::new(210, Datapath::Sockets);
    let manners = [answers(300), refuses(486, 200), refuses(480, 400)];
    let (a, phones) = family(&mut world, &manners);
    world.prefers(phones[0], "0.3");
    world.prefers(phones[1], "0.8");
    world.prefers(phones[2], "0.8");
    let call = world.dial(a, "1002");
    world.sim.run_for(ms(250));
    let rang = phones.iter().map(|p| world.sim.phone(*p).calls.len());
    assert_eq!(rang.collect::<Vec<_>>(), [0, 1, 1]);
    assert_eq!(world.settle(a, call), 200);
    world.sim.run_for(ms(500));
    world.talk((a, call), (phones[0], 0), SECOND);
    world.finish(&[&[a], &phones[..]].concat());
}

/// RFC 5393 §5.3.3: the breadth is shared out; what it does not allow at once comes after.
#[test]
fn breadth() {
    for (given, first, said) in [
        ("", 3, "20"),
        ("Max-Breadth: 7\r\n", 3, "2"),
        ("Max-Breadth: 2\r\n", 2, "1"),
        ("Max-Breadth: 1\r\n", 1, "1"),
    ] {
        let mut world = World::new(211, Datapath::Sockets);
        let (a, phones) = family(&mut world, &[refuses(486, 500); 3]);
        let dial = Dial {
            user: "1002".into(),
            lines: given.as_bytes().to_vec(),
            ..Dial::default()
        };
        let call = world.dial_as(a, &dial);
        world.sim.run_for(ms(400));
        let invited = |p: &NodeId| world.sim.phone(*p).requests("INVITE").first().copied();
        let invites: Vec<_> = phones.iter().filter_map(invited).collect();
        assert_eq!(invites.len(), first, "{given}");
        for invite in invites {
            let breadth = invite.get(Name::MaxBreadth);
            assert_eq!(breadth, Some(said.as_bytes()), "{given}");
        }
        assert_eq!(world.settle(a, call), 486);
        let all = phones.iter().all(|p| world.sim.phone(*p).calls.len() == 1);
        assert!(all, "{given}");
        world.finished(&[&[a], &phones[..]].concat());
    }
}

/// Calls of all kinds to one to four phones, over links of all kinds: at the end one has the call,
/// or nobody, and nothing is left over.
#[test]
fn any_seed() {
    let (from, to) = match std::env::var("TOWPATH_SEEDS") {
        Ok(range) => {
            let (from, to) = range.split_once("..").unwrap();
            (from.parse().unwrap(), to.parse().unwrap())
        }
        Err(_) => (0, 60),
    };
    let failed: Vec<u64> = (from..to)
        .filter(|seed| catch_unwind(AssertUnwindSafe(|| run(*seed))).is_err())
        .collect();
    assert!(
        failed.is_empty(),
        "TOWPATH_SEEDS=n..n+1 shows one: {failed:?}"
    );
}

fn run(seed: u64) {
    let mut chance = Rng::new(seed ^ 0x666f_726b);
    let datapath = BOTH[usize::from(chance.below(2) == 0)];
    let mut world = World::new(seed, datapath);
    let count = 1 + usize::try_from(chance.below(4)).unwrap();
    let manners: Vec<Manner> = (0..count).map(|_| manner(&mut chance)).collect();
    let (a, phones) = family(&mut world, &manners);
    for phone in &phones {
        if chance.below(4) == 0 {
            world.prefers(*phone, "0.5");
        }
    }
    let lossy = chance.below(3) == 0;
    for net in [world.lan, world.wan] {
        world.sim.set_link(net, link(&mut chance, lossy));
    }
    for _ in 0..3 {
        if chance.below(5) == 0 {
            let dead = chance.below(phones.len() as u64);
            world
                .sim
                .phone_mut(phones[usize::try_from(dead).unwrap()])
                .manner
                .dead ^= true;
        }
        one_call(&mut world, a, &phones, &mut chance, lossy);
    }
    for phone in &phones {
        world.sim.phone_mut(*phone).manner.dead = false;
        world.sim.phone_mut(*phone).calls.clear();
        world.sim.phone_mut(*phone).rest();
    }
    let faults = &world.sim.phone(a).faults;
    assert!(faults.is_empty(), "seed {seed}: {faults:?}");
    world.finish(&[a]);
}

fn one_call(world: &mut World, a: NodeId, phones: &[NodeId], chance: &mut Rng, lossy: bool) {
    let before: Vec<usize> = phones
        .iter()
        .map(|p| world.sim.phone(*p).calls.len())
        .collect();
    let dial = Dial {
        user: "1002".into(),
        delayed: chance.below(4) == 0,
        ..Dial::default()
    };
    let call = world.dial_as(a, &dial);
    if chance.below(3) == 0 {
        world.sim.run_for(ms(chance.below(3000)));
        world.hang_up(a, call);
    }
    let status = world.settle(a, call);
    assert!(status >= 200, "{}", world.sim.story());
    world
        .sim
        .run_for(if lossy { 40 * SECOND } else { 4 * SECOND });
    let up = |(phone, from): (&NodeId, &usize)| {
        let calls = world.sim.phone(*phone).calls.iter().enumerate().skip(*from);
        let mut up = calls.filter(|(_, call)| call.state == State::Up);
        up.next().map(|(index, _)| (*phone, index))
    };
    let dead = |p: &&NodeId| world.sim.phone(**p).manner.dead;
    let any_dead = phones.iter().any(|p| dead(&p));
    let winners: Vec<_> = phones.iter().zip(&before).filter_map(up).collect();
    let is_up = world.sim.phone(a).call(call).state == State::Up;
    if !lossy && !any_dead {
        assert_eq!(winners.len(), usize::from(is_up), "{}", world.sim.story());
    }
    if let (true, false, [winner]) = (is_up, lossy || any_dead, &winners[..]) {
        world.sim.phone_mut(a).call_mut(call).rtp.received = Default::default();
        world.talk((a, call), *winner, SECOND);
    }
    world.hang_up(a, call);
    world.sim.run_for(Duration::from_secs(80));
    assert_eq!(world.sim.phone(a).call(call).state, State::Over);
}

fn manner(chance: &mut Rng) -> Manner {
    let codes = [200, 200, 200, 486, 480, 404, 503, 603, 302];
    let code = codes[usize::try_from(chance.below(codes.len() as u64)).unwrap()];
    let answer = (chance.below(8) > 0).then(|| ms(chance.below(2500)));
    Manner {
        ring: (chance.below(4) > 0).then(|| ms(chance.below(400))),
        early: chance.below(3) == 0,
        answer,
        code,
        extras: if chance.below(4) == 0 {
            Extras::Conference
        } else {
            Extras::None
        },
        ..Manner::EAGER
    }
}

fn link(chance: &mut Rng, lossy: bool) -> Link {
    Link {
        delay: ms(chance.below(60)),
        jitter: ms(chance.below(40)),
        sip_loss: if lossy { 50 } else { 0 },
        media_loss: 0,
        duplicate: if lossy { 30 } else { 0 },
    }
}
