//! The configuration changes under running calls.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use control::config::{Account, AddressChange, Auth, Config, NatMode, Secret};
use control::effect::{Effect, Effects};
use control::engine::Engine;
use control::engine::admin::{Command, Refused};
use control::engine::event::Kind;
use control::engine::input::{Activity, Input};
use control::id::NetworkId;
use control::media::session::{Mode, Side};
use control::sip::build;
use control::sip::index::{Message, Name};
use towpath_tests::clock;
use towpath_tests::sim::edge::Datapath;
use towpath_tests::sim::nat::Behaviour;
use towpath_tests::sim::phone::{Dial, Manner, Phone, State};
use towpath_tests::sim::sdp::{Description, Direction};
use towpath_tests::sim::world::{MCU, NETWORKS, World, config};
use towpath_tests::sim::{Link, NodeId, Packet};

use super::{BOTH, SECOND, connect, far_pair, ms, pair};

const OLD: &str = "203.0.113.9";
const NEW: &str = "203.0.113.77";
const WAN: usize = 1;

/// An address that another network may move to.
const SPARE: &str = "\n[[network]]\nname = \"spare\"\ninterface = \"eth0\"\n\
    address = \"203.0.113.10\"\npeers = [\"192.0.2.0/24\"]\nmedia_ports = \"30000-30039\"\n";

/// An edge behind a router that maps two addresses to it: it advertises the first.
fn mapped(seed: u64, datapath: Datapath) -> World {
    let networks = NETWORKS
        .replace(
            "address = \"203.0.113.9\"",
            "address = \"172.16.0.2\"\nadvertise = \"203.0.113.9\"",
        )
        .replace("30000-30039", "30000-30199")
        .replace("20000-20039", "20000-20199");
    let mut world = World::with(seed, datapath, &networks);
    world.map_edge("172.16.0.2", NEW);
    world.map_edge("172.16.0.2", OLD);
    world
}

/// A phone in the LAN, and one in the internet without a NAT.
fn phones(world: &mut World) -> (NodeId, NodeId) {
    let (lan, wan) = (world.lan, world.wan);
    let a = world.registered("1001", lan, "10.0.0.31", Manner::EAGER);
    let b = world.registered("1002", wan, "198.51.100.200", Manner::EAGER);
    (a, b)
}

/// Changes the running configuration. Nothing is sent at once.
fn reconfigure(world: &mut World, change: impl FnOnce(&mut Config)) {
    let edge = world.edge;
    let mut config = world.edge().engine.config().clone();
    change(&mut config);
    world.sim.order(edge, |edge, now, out| {
        edge.reconfigure(config, now, out);
        assert!(out.is_empty(), "{out:?}");
    });
}

/// The network's peers are told the new address.
fn advertise(world: &mut World, policy: AddressChange) {
    reconfigure(world, |config| {
        let network = &mut config.networks[WAN];
        network.advertise = NEW.parse().unwrap();
        network.advertise_media = network.advertise;
        network.address_change = policy;
    });
}

/// The network in the internet takes the spare address.
fn move_wan(world: &mut World, policy: AddressChange) {
    reconfigure(world, |config| {
        let spare = config.networks.pop().unwrap();
        let network = &mut config.networks[WAN];
        network.address = spare.address;
        network.advertise = spare.address;
        network.advertise_media = spare.address;
        network.address_change = policy;
        config
            .sip
            .listen
            .retain(|on| on.local.ip().to_string() != OLD);
        config.sip.address_grace = 100 * SECOND;
    });
}

fn order(world: &mut World, command: Command) -> Result<(), Refused> {
    let edge = world.edge;
    world.sim.order(edge, |edge, now, _| {
        let mut effects = Effects::new();
        let done = edge.engine.command(command, now, &mut effects);
        // What was sent is lost, and repeated.
        assert!(effects.len() < 2, "{effects:?}");
        done
    })
}

/// Packets go both ways, wherever they come from.
fn hears(world: &mut World, ends: [(NodeId, usize); 2]) {
    let count = |world: &World| {
        ends.map(|(phone, call)| {
            let rtp = &world.sim.phone(phone).call(call).rtp;
            rtp.received
                .rtp
                .values()
                .map(std::collections::BTreeSet::len)
                .sum::<usize>()
        })
    };
    world.sim.run_for(ms(500));
    let before = count(world);
    world.sim.run_for(SECOND);
    for (before, after) in before.into_iter().zip(count(world)) {
        let heard = after - before;
        assert!((45..=55).contains(&heard), "{heard}\n{}", world.sim.story());
    }
}

fn told(world: &World, phone: NodeId, call: usize) -> IpAddr {
    let sdp = world.sim.phone(phone).call(call).remote_sdp.as_ref();
    sdp.unwrap().at().ip()
}

fn hold(world: &mut World, phone: NodeId, call: usize, direction: Direction) {
    world.sim.act(phone, |p, now, out| {
        p.hold(call, direction, false, now, out);
    });
}

/// Numbers of the requests a phone was sent inside its last call, repeats left out; they rise.
fn numbers(phone: &Phone, method: &str) -> Vec<u32> {
    let mut highest = 0;
    let mut found = Vec::new();
    for message in phone.heard.iter().filter(|m| m.code().is_none()) {
        let (number, name) = message.cseq();
        let first = message.to_tag().is_none();
        if first || matches!(name, b"ACK" | b"CANCEL") {
            continue;
        }
        if number == highest {
            continue;
        }
        assert!(number > highest, "{number} after {highest}");
        highest = number;
        if name == method.as_bytes() {
            found.push(number);
        }
    }
    found
}

fn reinvites(world: &World, phone: NodeId) -> usize {
    numbers(world.sim.phone(phone), "INVITE").len()
}

fn kinds(world: &World) -> Vec<(Kind, String)> {
    let events = world.edge().engine.events(0);
    events.map(|e| (e.kind, e.subject.clone())).collect()
}

fn header(message: &Message, name: Name) -> String {
    String::from_utf8_lossy(message.get(name).unwrap_or_default()).into_owned()
}

/// The next SDP, Contact and Via carry the new address; the call that runs is left alone.
#[test]
fn the_next_call_is_told_the_new_address() {
    for datapath in BOTH {
        let mut world = mapped(200, datapath);
        let (a, b) = phones(&mut world);
        let (call, other) = connect(&mut world, a, b, "1002");
        advertise(&mut world, AddressChange::Ignore);
        world.talk((a, call), (b, other), SECOND);
        assert_eq!((reinvites(&world, a), reinvites(&world, b)), (0, 0));
        assert_eq!(told(&world, b, other).to_string(), OLD);
        let (again, newer) = connect(&mut world, a, b, "1002");
        assert_eq!(told(&world, b, newer).to_string(), NEW);
        let invite = world.sim.phone(b).requests("INVITE").pop().unwrap().clone();
        for name in [Name::Contact, Name::Via] {
            let value = header(&invite, name);
            assert!(value.contains(NEW) && !value.contains(OLD), "{value}");
        }
        // A hold of the old call tells the party too.
        hold(&mut world, a, call, Direction::SendRecv);
        world.sim.run_for(SECOND);
        assert_eq!(told(&world, b, other).to_string(), NEW);
        hears(&mut world, [(a, call), (b, other)]);
        hears(&mut world, [(a, again), (b, newer)]);
        world.finish(&[a, b]);
    }
}

/// An address that was ours is still taken for ours, for a while.
#[test]
fn the_old_address_is_recognised_for_a_while() {
    let mut world = mapped(201, Datapath::Sockets);
    let (a, b) = phones(&mut world);
    let (call, other) = connect(&mut world, a, b, "1002");
    let grace = 90 * SECOND;
    reconfigure(&mut world, |config| config.sip.address_grace = grace);
    advertise(&mut world, AddressChange::Ignore);
    let uri = format!("sip:1002@{OLD}");
    let dial = Dial {
        uri,
        ..Dial::default()
    };
    let late = world.dial_as(a, &dial);
    assert_eq!(world.settle(a, late), 200);
    world.hang_up(a, late);
    // It registers where it always did, and its BYE goes where its dialog says.
    assert_eq!(world.register(b), 200);
    world.sim.run_for(grace);
    world.hang_up(b, other);
    world.sim.run_for(SECOND);
    assert_eq!(world.sim.phone(a).call(call).state, State::Over);
    let later = world.dial_as(a, &dial);
    assert_eq!(world.settle(a, later), 403);
    world.finish(&[a, b]);
}

/// Each party in the network is told, once; both go on with their own numbers, and so do we.
#[test]
fn parties_are_told_and_go_on() {
    for (hold_by_callee, bye_by_callee) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        for datapath in BOTH {
            let mut world = mapped(202, datapath);
            let (a, b) = phones(&mut world);
            // Who is told is the callee, then the caller.
            for (from, to, user) in [(a, b, "1002"), (b, a, "1001")] {
                let (call, other) = connect(&mut world, from, to, user);
                let (near, far) = if from == a {
                    (call, other)
                } else {
                    (other, call)
                };
                world.talk((from, call), (to, other), SECOND);
                advertise(&mut world, AddressChange::Reinvite);
                world.sim.run_for(SECOND);
                assert_eq!(
                    told(&world, b, far).to_string(),
                    NEW,
                    "{}",
                    world.sim.story()
                );
                assert!(world.sim.phone(b).is_settled(far), "the ACK has come");
                let target = world
                    .sim
                    .phone(b)
                    .requests("INVITE")
                    .pop()
                    .map(|m| header(m, Name::Contact));
                assert!(target.unwrap().contains(NEW));
                hears(&mut world, [(a, near), (b, far)]);
                let (holder, its) = if hold_by_callee {
                    (to, other)
                } else {
                    (from, call)
                };
                for direction in [Direction::SendOnly, Direction::SendRecv] {
                    hold(&mut world, holder, its, direction);
                    world.sim.run_for(SECOND);
                    assert_eq!(world.sim.phone(holder).call(its).restatus, 200);
                }
                // Nobody repeats itself for want of an ACK.
                world.sim.run_for(40 * SECOND);
                hears(&mut world, [(a, near), (b, far)]);
                let (who, its) = if bye_by_callee {
                    (to, other)
                } else {
                    (from, call)
                };
                world.hang_up(who, its);
                world.sim.run_for(SECOND);
                for (phone, call) in [(a, near), (b, far)] {
                    assert_eq!(world.sim.phone(phone).call(call).state, State::Over);
                }
                assert_eq!(world.sim.phone(who).codes("BYE").last(), Some(&200));
                reconfigure(&mut world, |config| {
                    let network = &mut config.networks[WAN];
                    network.advertise = OLD.parse().unwrap();
                    network.advertise_media = network.advertise;
                });
            }
            assert_eq!(world.counted("call_refresh", "sent"), 2);
            assert_eq!(world.counted("call_refresh", "accepted"), 2);
            world.finished(&[a, b]);
        }
    }
}

/// The numbers each party sees rise whoever sends, and the answers bear the asker's own.
#[test]
fn numbers_of_both_parties() {
    let mut world = mapped(203, Datapath::Sockets);
    let (a, b) = phones(&mut world);
    let (call, other) = connect(&mut world, a, b, "1002");
    for _ in 0..2 {
        assert_eq!(order(&mut world, Command::Refresh { call: 1 }), Ok(()));
        world.sim.run_for(3 * SECOND);
        for (phone, its) in [(a, call), (b, other)] {
            hold(&mut world, phone, its, Direction::SendRecv);
            world.sim.run_for(SECOND);
            world.sim.act(phone, |p, now, out| {
                p.request(its, "INFO", b"", None, now, out)
            });
            world.sim.run_for(SECOND);
        }
    }
    world.hang_up(b, other);
    world.sim.run_for(SECOND);
    // The caller was challenged once: its INVITE was its second request.
    assert_eq!(numbers(world.sim.phone(b), "INVITE"), [3, 4, 6, 7]);
    assert_eq!(numbers(world.sim.phone(b), "INFO"), [5, 8]);
    assert_eq!(numbers(world.sim.phone(a), "INVITE"), [3, 4, 6, 7]);
    assert_eq!(numbers(world.sim.phone(a), "INFO"), [5, 8]);
    assert_eq!(numbers(world.sim.phone(a), "BYE"), [9]);
    let answers = |phone: NodeId, method: &str| -> Vec<u32> {
        let heard = world.sim.phone(phone).heard.iter();
        let answers = heard.filter(|m| m.code() == Some(200) && m.cseq().1 == method.as_bytes());
        answers.map(|m| m.cseq().0).collect()
    };
    assert_eq!(answers(a, "INVITE"), [2, 3, 5]);
    assert_eq!(answers(a, "INFO"), [4, 6]);
    assert_eq!(answers(b, "INVITE"), [1, 3]);
    assert_eq!(answers(b, "INFO"), [2, 4]);
    assert_eq!(answers(b, "BYE"), [5]);
    world.finished(&[a, b]);
}

/// A party renegotiates at the same time: one waits, both get through.
#[test]
fn glare_with_our_own() {
    for gap in 0..10 {
        for by_callee in [false, true] {
            let mut world = mapped(204 + gap, Datapath::Frames);
            let (a, b) = phones(&mut world);
            let (call, other) = connect(&mut world, a, b, "1002");
            let (who, its) = if by_callee { (b, other) } else { (a, call) };
            if gap < 5 {
                hold(&mut world, who, its, Direction::SendRecv);
                world.sim.run_for(ms(gap * 12));
                advertise(&mut world, AddressChange::Reinvite);
            } else {
                advertise(&mut world, AddressChange::Reinvite);
                world.sim.run_for(ms((gap - 5) * 12));
                hold(&mut world, who, its, Direction::SendRecv);
            }
            world.sim.run_for(12 * SECOND);
            assert_eq!(
                told(&world, b, other).to_string(),
                NEW,
                "{}",
                world.sim.story()
            );
            assert_eq!(
                world.sim.phone(who).call(its).restatus,
                200,
                "{}",
                world.sim.story()
            );
            hears(&mut world, [(a, call), (b, other)]);
            assert_eq!(world.counted("call_refresh", "accepted"), 1);
            world.finish(&[a, b]);
        }
    }
}

/// Every message of our own exchange is lost once.
#[test]
fn our_own_exchange_survives_loss() {
    for stolen in ["INVITE", "SIP/2.0 200", "ACK"] {
        let mut world = mapped(220, Datapath::Sockets);
        let (a, b) = phones(&mut world);
        let (call, other) = connect(&mut world, a, b, "1002");
        let mut left = 2;
        world.sim.steal(move |packet| {
            let hit = left > 0 && packet.start_line().starts_with(stolen);
            left -= i32::from(hit);
            hit
        });
        advertise(&mut world, AddressChange::Reinvite);
        world.sim.run_for(40 * SECOND);
        assert_eq!(told(&world, b, other).to_string(), NEW);
        assert_eq!(world.counted("call_refresh", "accepted"), 1);
        assert!(world.sim.phone(b).is_settled(other), "{stolen}");
        hears(&mut world, [(a, call), (b, other)]);
        world.finish(&[a, b]);
    }
}

/// A party whose dialog is gone, or that is gone itself, ends the call (RFC 3261 §12.2.1.2).
#[test]
fn a_party_that_is_gone_ends_the_call() {
    for dead in [false, true] {
        let mut world = mapped(221, Datapath::Sockets);
        let (a, b) = phones(&mut world);
        let (call, other) = connect(&mut world, a, b, "1002");
        if dead {
            world.sim.phone_mut(b).manner.dead = true;
        } else {
            world.sim.phone_mut(b).call_mut(other).state = State::Over;
        }
        advertise(&mut world, AddressChange::Reinvite);
        world.sim.run_for(40 * SECOND);
        assert!(world.sim.phone(a).call(call).cut, "{}", world.sim.story());
        assert_eq!(world.edge().records[0].ended_by, "party gone");
        world.sim.phone_mut(b).call_mut(other).state = State::Over;
        world.finished(&[a, b]);
    }
}

/// A party that lets our INVITE ring for ever keeps its call, and is not asked for ever.
#[test]
fn a_party_that_does_not_answer_keeps_its_call() {
    let mut world = mapped(222, Datapath::Frames);
    let (a, b) = phones(&mut world);
    let (call, other) = connect(&mut world, a, b, "1002");
    world.sim.phone_mut(b).manner.renegotiates = false;
    advertise(&mut world, AddressChange::Reinvite);
    world.sim.run_for(SECOND);
    // Meanwhile the other party's own offer has to wait.
    hold(&mut world, a, call, Direction::SendRecv);
    world.sim.run_for(ms(100));
    assert_eq!(world.sim.phone(a).call(call).restatus, 491);
    world.sim.phone_mut(b).manner.renegotiates = true;
    world.sim.run_for(230 * SECOND);
    assert_eq!(world.sim.phone(a).call(call).restatus, 200);
    assert_eq!(world.counted("call_refresh", "refused"), 1);
    let states = [(a, call), (b, other)].map(|(p, c)| world.sim.phone(p).call(c).state);
    assert_eq!(states, [State::Up; 2], "{}", world.sim.story());
    hears(&mut world, [(a, call), (b, other)]);
    world.finish(&[a, b]);
}

/// A call that is being set up is told once it is up.
#[test]
fn a_ringing_call_is_told_later() {
    let mut world = mapped(223, Datapath::Sockets);
    let (a, b) = phones(&mut world);
    world.sim.phone_mut(b).manner.answer = Some(5 * SECOND);
    let call = world.dial(a, "1002");
    world.sim.run_for(SECOND);
    advertise(&mut world, AddressChange::Reinvite);
    assert_eq!(world.settle(a, call), 200);
    world.sim.run_for(3 * SECOND);
    let other = world.sim.phone(b).last().unwrap();
    assert_eq!(told(&world, b, other).to_string(), NEW);
    assert_eq!(world.counted("call_refresh", "accepted"), 1);
    world.finish(&[a, b]);
}

/// A call whose offer came in the 200 and whose answer in the ACK.
#[test]
fn a_call_with_a_delayed_offer_is_told() {
    let mut world = mapped(237, Datapath::Sockets);
    let (a, b) = phones(&mut world);
    let dial = Dial {
        user: "1002".to_owned(),
        delayed: true,
        ..Dial::default()
    };
    let call = world.dial_as(a, &dial);
    assert_eq!(world.settle(a, call), 200);
    advertise(&mut world, AddressChange::Reinvite);
    world.sim.run_for(3 * SECOND);
    let other = world.sim.phone(b).last().unwrap();
    assert_eq!(told(&world, b, other).to_string(), NEW);
    assert_eq!(world.counted("call_refresh", "accepted"), 1);
    hears(&mut world, [(a, call), (b, other)]);
    world.finish(&[a, b]);
}

/// The call ends while our INVITE is open.
#[test]
fn bye_during_our_own() {
    for by_callee in [false, true] {
        for answers in [false, true] {
            let mut world = mapped(238, Datapath::Sockets);
            let (a, b) = phones(&mut world);
            let (call, other) = connect(&mut world, a, b, "1002");
            world.sim.phone_mut(b).manner.renegotiates = answers;
            advertise(&mut world, AddressChange::Reinvite);
            world.sim.run_for(ms(25));
            let (who, its) = if by_callee { (b, other) } else { (a, call) };
            world.hang_up(who, its);
            world.sim.run_for(2 * SECOND);
            for (phone, call) in [(a, call), (b, other)] {
                assert_eq!(world.sim.phone(phone).call(call).state, State::Over);
            }
            assert_eq!(world.edge().records.len(), 1);
            world.finished(&[a, b]);
        }
    }
}

/// A network with another name is the same network.
#[test]
fn a_network_is_renamed() {
    let mut world = World::new(239, Datapath::Frames);
    let (a, b) = far_pair(&mut world, Manner::EAGER);
    let (call, other) = connect(&mut world, a, b, "1002");
    reconfigure(&mut world, |config| {
        config.networks[WAN].name = "internet".to_owned()
    });
    assert_eq!(world.counted("network", "retired"), 0);
    world.talk((a, call), (b, other), SECOND);
    assert_eq!(reinvites(&world, b), 0);
    assert_eq!(world.call(a, "1002"), 200);
    world.finish(&[a, b]);
}

/// A 2xx comes again after another INVITE has succeeded: its ACK is repeated, the call goes on.
#[test]
fn an_earlier_success_comes_again() {
    let mut world = mapped(240, Datapath::Sockets);
    let (a, b) = phones(&mut world);
    let (call, other) = connect(&mut world, a, b, "1002");
    let mut left = 1;
    world.sim.steal(move |packet| {
        let hit = left > 0
            && packet
                .start_line()
                .starts_with("ACK sip:1002@198.51.100.200");
        left -= i32::from(hit);
        hit
    });
    hold(&mut world, a, call, Direction::SendRecv);
    world.sim.run_for(ms(200));
    hold(&mut world, b, other, Direction::SendRecv);
    world.sim.run_for(5 * SECOND);
    let states = [(a, call), (b, other)].map(|(p, c)| world.sim.phone(p).call(c).state);
    assert_eq!(states, [State::Up; 2], "{}", world.sim.story());
    assert!(world.sim.phone(b).is_settled(other));
    world.finish(&[a, b]);
}

/// Our INVITEs, theirs, changes of address and loss, in any order: nothing hangs, nothing is left.
#[test]
fn any_seed() {
    for seed in 1000..1016 {
        let mut world = mapped(seed, Datapath::Sockets);
        let (a, b) = phones(&mut world);
        let (call, other) = connect(&mut world, a, b, "1002");
        let (lan, wan) = (world.lan, world.wan);
        for net in [lan, wan] {
            let link = Link {
                delay: ms(5),
                jitter: ms(60),
                sip_loss: 150,
                duplicate: 50,
                ..Link::default()
            };
            world.sim.set_link(net, link);
        }
        for _ in 0..12 {
            let (who, its) = [(a, call), (b, other)][usize::from(world.sim.rng.permille(500))];
            match world.sim.rng.below(5) {
                0 => advertise(&mut world, AddressChange::Reinvite),
                1 => reconfigure(&mut world, |config| {
                    config.networks[WAN].advertise = OLD.parse().unwrap();
                }),
                2 => drop(order(&mut world, Command::Refresh { call: 1 })),
                _ if !world.sim.phone(who).is_settled(its) => {}
                3 => hold(&mut world, who, its, Direction::SendRecv),
                _ => world.sim.act(who, |p, now, out| {
                    p.request(its, "INFO", b"", None, now, out);
                }),
            }
            let wait = ms(world.sim.rng.below(700));
            world.sim.run_for(wait);
        }
        world.sim.run_for(30 * SECOND);
        let refreshed = [
            "accepted",
            "refused",
            "not_sent",
            "no_answer",
            "dialog_gone",
        ]
        .map(|outcome| world.counted("call_refresh", outcome));
        let up = [(a, call), (b, other)].map(|(p, c)| world.sim.phone(p).call(c).state);
        assert_eq!(up, [State::Up; 2], "{refreshed:?}\n{}", world.sim.story());
        for net in [lan, wan] {
            world.sim.set_link(
                net,
                Link {
                    delay: ms(5),
                    ..Link::default()
                },
            );
        }
        assert_eq!(order(&mut world, Command::Refresh { call: 1 }), Ok(()));
        world.sim.run_for(20 * SECOND);
        let network = world.edge().engine.config().networks[WAN].advertise_media;
        assert_eq!(told(&world, b, other), network, "{}", world.sim.story());
        hears(&mut world, [(a, call), (b, other)]);
        world.finish(&[a, b]);
    }
}

/// Flows of an earlier daemon keep their ports, also those of a network that is gone.
#[test]
fn adopted_flows_outlive_their_network() {
    let start = clock::now();
    let mut engine = Engine::new(config(NETWORKS), [7; 32], start);
    let mut effects = Effects::new();
    let at: SocketAddr = "203.0.113.9:30000".parse().unwrap();
    engine.handle(Input::Adopted(vec![(at, at)]), start, &mut effects);
    let mut without = engine.config().clone();
    without.networks.remove(WAN);
    without.sip.address_grace = Duration::ZERO;
    engine.reconfigure(without, start, &mut effects);
    let held = |engine: &Engine| -> Vec<usize> {
        let retired = engine.networks_retired();
        retired.iter().map(|view| view.media_sockets).collect()
    };
    for second in 1..=70 {
        let now = start + second * SECOND;
        if second < 20 {
            let active = Activity {
                at,
                last: now,
                ssrc: None,
            };
            engine.handle(Input::Active(vec![active]), now, &mut effects);
        }
        engine.expire(now, &mut effects);
        assert_eq!((held(&engine), effects.len()), (vec![1], 0));
    }
    engine.expire(start + 80 * SECOND, &mut effects);
    assert_eq!(effects, [Effect::Remove { at }, Effect::Close { at }]);
    assert!(held(&engine).is_empty());
}

/// Many calls are told, or ended, one after the other, evenly.
#[test]
fn the_pace() {
    for (policy, method) in [
        (AddressChange::Reinvite, "INVITE"),
        (AddressChange::Drop, "BYE"),
    ] {
        let mut world = mapped(224, Datapath::Sockets);
        let (a, b) = phones(&mut world);
        let calls: Vec<_> = (0..12).map(|_| connect(&mut world, a, b, "1002")).collect();
        let heard = |world: &World| {
            let requests = world.sim.phone(b).requests(method);
            requests.iter().filter(|m| m.to_tag().is_some()).count()
        };
        let edge = &world.edge().engine;
        assert_eq!(edge.touched_by(&[NetworkId(1)]), 12);
        assert_eq!(edge.touched_by(&[NetworkId(0), NetworkId(1)]), 12);
        assert_eq!(edge.touched_by(&[NetworkId(2)]), 0);
        advertise(&mut world, policy);
        // On their way for 20 ms.
        world.sim.run_for(ms(21));
        for expected in 1..=12 {
            assert_eq!(heard(&world), expected, "{method}");
            world.sim.run_for(ms(50));
        }
        world.sim.run_for(SECOND);
        assert_eq!(heard(&world), 12);
        for (call, other) in &calls {
            let states = [(a, *call), (b, *other)].map(|(p, c)| world.sim.phone(p).call(c).state);
            let expected = if policy == AddressChange::Drop {
                State::Over
            } else {
                State::Up
            };
            assert_eq!(states, [expected; 2]);
        }
        if policy == AddressChange::Drop {
            let ended = world
                .edge()
                .records
                .iter()
                .all(|r| r.ended_by == "address change");
            assert!(ended, "{:?}", world.edge().records);
        }
        world.finish(&[a, b]);
    }
}

/// A network that is no longer configured serves its calls until they end, and nobody else.
#[test]
fn a_network_retires() {
    for datapath in BOTH {
        let mut world = World::new(225, datapath);
        let (a, b) = far_pair(&mut world, Manner::EAGER);
        let (call, other) = connect(&mut world, a, b, "1002");
        world.talk((a, call), (b, other), SECOND);
        let before = world.edge().engine.config().clone();
        reconfigure(&mut world, |config| {
            config.networks.remove(WAN);
            config
                .sip
                .listen
                .retain(|on| on.local.ip().to_string() != OLD);
            config.sip.address_grace = 10 * SECOND;
        });
        assert_eq!(world.counted("network", "retired"), 1);
        world.talk((a, call), (b, other), SECOND);
        let listeners = |world: &World| {
            let used = world.edge().engine.listeners_in_use(world.sim.now());
            used.iter()
                .filter(|on| on.local.ip().to_string() == OLD)
                .count()
        };
        assert_eq!(world.call(a, "1002"), 480, "nobody new");
        // Long after its address is forgotten, its call can still be held and ended.
        world.sim.run_for(100 * SECOND);
        let retired = world.edge().engine.networks_retired();
        assert_eq!(retired.len(), 1);
        assert_eq!(
            (retired[0].network.name.as_str(), retired[0].legs),
            ("wan", 1)
        );
        assert_eq!((retired[0].registrations, listeners(&world)), (0, 1));
        hold(&mut world, b, other, Direction::SendRecv);
        world.sim.run_for(SECOND);
        assert_eq!(world.sim.phone(b).call(other).restatus, 200);
        world.talk((a, call), (b, other), SECOND);
        // It comes back: the same network, with its number.
        reconfigure(&mut world, |config| *config = before.clone());
        assert!(world.edge().engine.networks_retired().is_empty());
        assert_eq!(*world.edge().engine.config(), before);
        reconfigure(&mut world, |config| {
            config.networks.remove(WAN);
            config
                .sip
                .listen
                .retain(|on| on.local.ip().to_string() != OLD);
            config.sip.address_grace = Duration::ZERO;
        });
        world.hang_up(b, other);
        world.sim.run_for(70 * SECOND);
        assert_eq!(world.sim.phone(a).call(call).state, State::Over);
        assert!(world.edge().engine.networks_retired().is_empty());
        assert_eq!(listeners(&world), 0);
        assert_eq!(world.counted("network", "gone"), 1);
        world.finished(&[a, b]);
    }
}

/// A network moves to another address: phones that know the old one only still register there and
/// are called, with media at the new one.
#[test]
fn a_network_moves() {
    let networks = format!("{NETWORKS}{SPARE}");
    let mut world = World::with(226, Datapath::Frames, &networks);
    let (a, b) = phones(&mut world);
    let (call, other) = connect(&mut world, a, b, "1002");
    move_wan(&mut world, AddressChange::Ignore);
    let number = world.edge().engine.config().networks[WAN].id;
    assert_ne!(number, NetworkId(1), "another network");
    world.talk((a, call), (b, other), SECOND);
    // Called at once, and again when it has registered at the old address.
    for _ in 0..2 {
        let (again, newer) = connect(&mut world, a, b, "1002");
        assert_eq!(told(&world, b, newer).to_string(), "203.0.113.10");
        world.talk((a, again), (b, newer), SECOND);
        world.hang_up(b, newer);
        world.sim.run_for(SECOND);
        assert_eq!(world.sim.phone(a).call(again).state, State::Over);
        assert_eq!(world.register(b), 200);
    }
    assert_eq!(
        world.edge().engine.registrations(world.sim.now())[1].network,
        number
    );
    assert_eq!(world.call(b, "1001"), 200, "through the old address");
    world.sim.run_for(100 * SECOND);
    world.sim.phone_mut(b).registered = 0;
    world.sim.act(b, |p, now, out| p.register(3600, now, out));
    world.sim.run_for(40 * SECOND);
    assert_eq!(
        world.sim.phone(b).registered,
        408,
        "nobody is there any more"
    );
    world.talk((a, call), (b, other), SECOND);
    world.finish(&[a, b]);
}

/// The parties of a network that moved are told, and their media moves with them; the old ports
/// are closed once the new ones are agreed. A party behind a NAT stays where it can be reached.
#[test]
fn calls_move_with_their_network() {
    for natted in [false, true] {
        for datapath in BOTH {
            let mut world = World::with(236, datapath, &format!("{NETWORKS}{SPARE}"));
            let (a, b) = if natted {
                far_pair(&mut world, Manner::EAGER)
            } else {
                phones(&mut world)
            };
            let (call, other) = connect(&mut world, a, b, "1002");
            world.talk((a, call), (b, other), SECOND);
            move_wan(&mut world, AddressChange::Reinvite);
            world.sim.run_for(SECOND);
            let at = told(&world, b, other).to_string();
            let expected = if natted { OLD } else { "203.0.113.10" };
            assert_eq!(at, expected, "{}", world.sim.story());
            hears(&mut world, [(a, call), (b, other)]);
            let retired = world.edge().engine.networks_retired();
            let sockets = if natted { 2 } else { 0 };
            assert_eq!(retired[0].media_sockets, sockets);
            hold(&mut world, b, other, Direction::SendRecv);
            world.sim.run_for(SECOND);
            hold(&mut world, a, call, Direction::SendRecv);
            world.sim.run_for(SECOND);
            hears(&mut world, [(a, call), (b, other)]);
            world.hang_up(b, other);
            world.sim.run_for(SECOND);
            assert_eq!(world.sim.phone(a).call(call).state, State::Over);
            world.finished(&[a, b]);
        }
    }
}

/// Two networks at one address exchange their port ranges while calls hold ports of both.
#[test]
fn port_ranges_change_hands() {
    let networks = NETWORKS
        .replace("30000-30039", "30000-30003")
        .replace("peers = [\"0.0.0.0/0\"]", "peers = [\"198.51.100.0/25\"]");
    let more = "\n[[network]]\nname = \"more\"\ninterface = \"eth0\"\naddress = \"203.0.113.9\"\n\
        peers = [\"198.51.100.128/25\"]\nmedia_ports = \"30004-30007\"\n";
    let mut world = World::with(227, Datapath::Frames, &format!("{networks}{more}"));
    let (lan, wan) = (world.lan, world.wan);
    let a = world.registered("1001", lan, "10.0.0.31", Manner::EAGER);
    let b = world.registered("1002", wan, "198.51.100.20", Manner::EAGER);
    let c = world.registered("1003", wan, "198.51.100.200", Manner::EAGER);
    let (call, other) = connect(&mut world, a, b, "1002");
    reconfigure(&mut world, |config| {
        let (one, two) = (
            config.networks[WAN].media_ports,
            config.networks[3].media_ports,
        );
        (
            config.networks[WAN].media_ports,
            config.networks[3].media_ports,
        ) = (two, one);
        for network in &mut config.networks {
            network.advertise_ports = network.media_ports;
        }
    });
    // One pair of the two is the first call's.
    assert_eq!(world.call(a, "1003"), 200);
    assert_eq!(world.call(a, "1003"), 503);
    world.talk((a, call), (b, other), SECOND);
    let (last, its) = (
        world.sim.phone(a).calls.len() - 2,
        world.sim.phone(c).last().unwrap(),
    );
    world.talk((a, last), (c, its), SECOND);
    world.hang_up(a, call);
    world.sim.run_for(32 * SECOND);
    assert_eq!(world.call(a, "1003"), 200, "it came back");
    world.finish(&[a, b, c]);
}

#[test]
fn exhausted_ports_are_said() {
    let networks = NETWORKS.replace("20000-20039", "20000-20003");
    let mut world = World::with(228, Datapath::Frames, &networks);
    let (a, b) = pair(&mut world, Manner::EAGER);
    let lan = world.lan;
    let c = world.registered("1003", lan, "10.0.0.33", Manner::EAGER);
    let (call, _) = connect(&mut world, a, b, "1002");
    for _ in 0..3 {
        assert_eq!(world.call(c, "1002"), 503);
    }
    let heard = &world.sim.phone(c).heard;
    let refusal = heard.iter().rfind(|m| m.code() == Some(503)).unwrap();
    assert_eq!(header(refusal, Name::RetryAfter), "10");
    let said = kinds(&world)
        .into_iter()
        .filter(|(kind, _)| *kind == Kind::PortsExhausted);
    assert_eq!(
        said.collect::<Vec<_>>(),
        [(Kind::PortsExhausted, "lan".to_owned())]
    );
    world.hang_up(a, call);
    world.finish(&[a, b, c]);
}

/// Accounts, passwords and lifetimes of now.
#[test]
fn accounts_are_hot() {
    let mut world = World::new(229, Datapath::Sockets);
    let (a, b) = pair(&mut world, Manner::EAGER);
    let (call, other) = connect(&mut world, a, b, "1002");
    reconfigure(&mut world, |config| {
        config.sip.accounts.retain(|a| a.user != "1002")
    });
    assert_eq!(world.counted("sip_registration", "account_removed"), 1);
    assert_eq!(world.edge().engine.totals().registrations, 1);
    world.talk((a, call), (b, other), SECOND);
    assert_eq!(world.register(b), 401);
    assert_eq!(world.call(a, "1002"), 404);
    reconfigure(&mut world, |config| {
        config.sip.accounts.push(Account {
            user: "1002".to_owned(),
            secret: Secret::Password("another".to_owned()),
            algorithm: None,
        });
        config.sip.expires_max = 70 * SECOND;
    });
    assert_eq!(world.register(b), 401);
    world.sim.phone_mut(b).id.password = "another".to_owned();
    assert_eq!(world.register(b), 200);
    assert_eq!(world.sim.phone(b).granted, 70);
    // Without passwords accounts are nobody's business.
    reconfigure(&mut world, |config| {
        config.sip.auth = Auth::None;
        config.sip.accounts.clear();
    });
    assert_eq!(world.edge().engine.totals().registrations, 2);
    assert_eq!(world.call(a, "1002"), 200);
    world.finish(&[a, b]);
}

/// A network's word on NAT counts more than what messages say.
#[test]
fn nat_as_configured() {
    for (mode, far, near) in [
        (NatMode::Auto, true, false),
        (NatMode::Always, true, true),
        (NatMode::Never, false, false),
    ] {
        let mut world = World::new(230, Datapath::Sockets);
        let (wan, (_, home)) = (world.wan, world.router(Behaviour::CONE));
        reconfigure(&mut world, |config| config.networks[WAN].nat = mode);
        let a = world.registered("1001", home, "192.168.1.10", Manner::EAGER);
        let b = world.registered("1002", wan, "198.51.100.200", Manner::EAGER);
        let views = world.edge().engine.registrations(world.sim.now());
        let natted: Vec<bool> = views.iter().map(|view| view.natted).collect();
        assert_eq!(natted, [far, near], "{mode:?}");
        world.finish(&[a, b]);
    }
}

/// The port that signalling is told.
#[test]
fn the_advertised_port() {
    let mut world = World::new(231, Datapath::Sockets);
    let (a, b) = far_pair(&mut world, Manner::EAGER);
    reconfigure(&mut world, |config| {
        config.networks[WAN].advertise_port = Some(15_060)
    });
    let call = world.dial(a, "1002");
    world.settle(a, call);
    let invite = world.sim.phone(b).requests("INVITE").pop().unwrap().clone();
    for name in [Name::Contact, Name::Via] {
        let value = header(&invite, name);
        assert!(value.contains("203.0.113.9:15060"), "{value}");
    }
    world.sim.run_for(SECOND);
    let contact = world
        .sim
        .phone(a)
        .heard
        .iter()
        .rfind(|m| m.code() == Some(200));
    assert!(header(contact.unwrap(), Name::Contact).contains("10.0.0.3:5060"));
    world.hang_up(a, call);
    world.finish(&[a, b]);
}

#[test]
fn orders_and_what_refuses_them() {
    let mut world = mapped(232, Datapath::Sockets);
    let (a, b) = phones(&mut world);
    let media = |call| Command::SetMedia {
        call,
        leg: Side::B,
        mode: Some(Mode::Symmetric),
    };
    assert_eq!(
        order(&mut world, Command::Refresh { call: 1 }),
        Err(Refused::NoSuchCall)
    );
    assert_eq!(order(&mut world, media(1)), Err(Refused::NoSuchCall));
    world.sim.phone_mut(b).manner.answer = None;
    let ringing = world.dial(a, "1002");
    world.sim.run_for(SECOND);
    assert_eq!(
        order(&mut world, Command::Refresh { call: 1 }),
        Err(Refused::NotAnswered)
    );
    assert_eq!(order(&mut world, media(1)), Ok(()));
    world.hang_up(a, ringing);
    world.sim.run_for(SECOND);
    world.sim.phone_mut(b).manner.answer = Manner::EAGER.answer;
    let (call, other) = connect(&mut world, a, b, "1002");
    let rule = |world: &World| {
        let view = world.edge().engine.calls(world.sim.now()).pop().unwrap();
        let callee = view.flows.iter().find(|flow| flow.leg == "callee");
        callee.unwrap().rule
    };
    let before = rule(&world);
    assert_eq!(order(&mut world, media(2)), Ok(()));
    assert_ne!(rule(&world), before);
    world.talk((a, call), (b, other), SECOND);
    assert_eq!(order(&mut world, Command::Refresh { call: 2 }), Ok(()));
    world.sim.run_for(5 * SECOND);
    assert_eq!((reinvites(&world, a), reinvites(&world, b)), (1, 1));
    world.talk((a, call), (b, other), SECOND);
    world.finish(&[a, b]);
}

/// A session timer the parties have agreed on goes on (RFC 4028 §7.4).
#[test]
fn a_session_timer_survives() {
    for (agreed, to_caller, to_callee) in [
        ("90;refresher=uas", "90;refresher=uac", "90;refresher=uas"),
        (
            "1800 ; Refresher=UAC;x",
            "1800;refresher=uas",
            "1800;refresher=uac",
        ),
        ("soon", "", ""),
    ] {
        let mut world = World::new(233, Datapath::Sockets);
        let (lan, at) = (world.lan, MCU.parse().unwrap());
        let a = world.registered("1001", lan, "10.0.0.31", Manner::EAGER);
        let mcu = world.sim.add_stranger(lan, at);
        let answer = |world: &mut World, extra: &[(&str, String)]| {
            let received = &world.sim.stranger(mcu).received;
            let invite = received
                .iter()
                .rfind(|p| p.start_line().starts_with("INVITE"));
            let (invite, to) = invite.map(|p| (p.bytes.clone(), p.from)).unwrap();
            let invite = Message::parse(invite).unwrap();
            let media = "10.0.0.20:4000".parse().unwrap();
            let sdp = Description::audio(media, Direction::SendRecv, 1);
            let sdp = sdp.write();
            let body = Some(("application/sdp", &sdp[..]));
            let bytes = build::response(&invite, 200, None, Some("mcu"), extra, body);
            let from = at;
            world.sim.inject(mcu, Packet { from, to, bytes });
            world.sim.run_for(SECOND);
            header(&invite, Name::SessionExpires)
        };
        let call = world.dial(a, "8123");
        world.sim.run_for(SECOND);
        let extra = [
            ("Contact", format!("<sip:mcu@{at}>")),
            ("Session-Expires", agreed.to_owned()),
        ];
        answer(&mut world, &extra);
        assert_eq!(world.sim.phone(a).call(call).status, 200);
        assert_eq!(order(&mut world, Command::Refresh { call: 1 }), Ok(()));
        world.sim.run_for(2 * SECOND);
        assert_eq!(
            answer(&mut world, &extra),
            to_callee,
            "{}",
            world.sim.story()
        );
        let invite = world.sim.phone(a).requests("INVITE").pop().unwrap().clone();
        assert_eq!(header(&invite, Name::SessionExpires), to_caller);
        world.hang_up(a, call);
        world.finished(&[a]);
    }
}

/// What happened can be read, in order, from any number on.
#[test]
fn events_tell_the_story() {
    let mut world = World::new(234, Datapath::Frames);
    let (a, b) = far_pair(&mut world, Manner::EAGER);
    let (call, other) = connect(&mut world, a, b, "1002");
    world.talk((a, call), (b, other), SECOND);
    world.hang_up(a, call);
    world.sim.run_for(SECOND);
    world.sim.act(a, |p, now, out| p.register(0, now, out));
    world.sim.run_for(SECOND);
    let all = kinds(&world);
    let of = |subject: &str| -> Vec<Kind> {
        all.iter()
            .filter(|(_, s)| s == subject)
            .map(|(kind, _)| *kind)
            .collect()
    };
    let aor = [Kind::RegistrationNew, Kind::RegistrationEnded];
    assert_eq!(of("1001@example.com"), aor);
    assert_eq!(of("1002@example.com"), aor[..1]);
    let calls = of("1");
    let (first, rest) = calls.split_first().unwrap();
    let (last, middle) = rest.split_last().unwrap();
    assert_eq!((*first, *last), (Kind::CallStarted, Kind::CallEnded));
    assert!(middle.contains(&Kind::CallAnswered) && middle.contains(&Kind::SourceLocked));
    let engine = &world.edge().engine;
    let numbers: Vec<u64> = engine.events(0).map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=engine.last_event()).collect::<Vec<_>>());
    let since: Vec<u64> = engine.events(3).map(|event| event.seq).collect();
    assert_eq!(since, numbers[3..]);
    assert_eq!(engine.events(engine.last_event()).count(), 0);
    assert_eq!(engine.events(u64::MAX).count(), 0);
    world.finished(&[a, b]);
}

/// The same configuration again changes nothing.
#[test]
fn the_same_again() {
    let mut world = World::new(235, Datapath::Frames);
    let (a, b) = far_pair(&mut world, Manner::EAGER);
    let (call, other) = connect(&mut world, a, b, "1002");
    let before = world.edge().engine.config().clone();
    for _ in 0..20 {
        reconfigure(&mut world, |now| *now = config(NETWORKS));
    }
    assert_eq!(*world.edge().engine.config(), before);
    world.talk((a, call), (b, other), SECOND);
    assert_eq!((reinvites(&world, a), reinvites(&world, b)), (0, 0));
    world.finish(&[a, b]);
}
