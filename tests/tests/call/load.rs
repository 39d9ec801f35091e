//! New calls are refused while the node is drained or has too much to do; those there are go on.

use control::effect::{Effect, Effects};
use control::engine::admin::Command;
use control::engine::input::Input;
use control::id::{Listener, Transport};
use control::sip::index::Name;
use control::sip::transaction::TRANSACTIONS_MAX;
use towpath_tests::sim::edge::Datapath;
use towpath_tests::sim::phone::{Manner, State};
use towpath_tests::sim::world::World;

use super::{SECOND, connect, pair};

fn order(world: &mut World, command: Command) {
    let edge = world.edge;
    let mut sim = |command| {
        world
            .sim
            .order(edge, |e, now, out| e.command(command, now, out))
    };
    assert!(sim(command));
}

#[test]
fn a_drained_node_keeps_the_calls_it_has_until_their_time_is_over() {
    for deadline in [None, Some(60 * SECOND)] {
        let mut world = World::new(91, Datapath::Frames);
        let (a, b) = pair(&mut world, Manner::EAGER);
        let lan = world.lan;
        let c = world.registered("1003", lan, "10.0.0.33", Manner::EAGER);
        let (call, other) = connect(&mut world, a, b, "1002");
        order(&mut world, Command::Drain { deadline });
        assert_eq!(world.call(c, "1002"), 503);
        let heard = &world.sim.phone(c).heard;
        let refusal = heard.iter().rfind(|m| m.code() == Some(503)).unwrap();
        assert_eq!(refusal.get(Name::RetryAfter), Some(&b"10"[..]));
        assert_eq!(world.counted("sip_refused", "draining"), 1);
        // Registrations are taken, media goes on.
        world.register(c);
        world.talk((a, call), (b, other), 50 * SECOND);
        assert_eq!(world.sim.phone(a).call(call).state, State::Up);
        world.sim.run_for(12 * SECOND);
        let over = deadline.is_some();
        let state = if over { State::Over } else { State::Up };
        assert_eq!(world.sim.phone(a).call(call).state, state);
        assert_eq!(world.sim.phone(b).call(other).state, state);
        assert_eq!(world.counted("call_ended", "drain"), u64::from(over));
        assert_eq!(world.call(c, "1002"), 503, "drained all the same");
        order(&mut world, Command::Undrain);
        if !over {
            world.hang_up(a, call);
            world.sim.run_for(SECOND);
        }
        assert_eq!(world.call(c, "1002"), 200);
        world.finish(&[a, b, c]);
    }
}

#[test]
fn an_overloaded_shard_refuses_new_calls_only() {
    let mut world = World::new(92, Datapath::Frames);
    let (a, b) = pair(&mut world, Manner::EAGER);
    let lan = world.lan;
    let c = world.registered("1003", lan, "10.0.0.33", Manner::EAGER);
    let (call, other) = connect(&mut world, a, b, "1002");
    let edge = world.edge;
    world.sim.edge_mut(edge).engine.set_overloaded(true);
    assert_eq!(world.call(c, "1002"), 503);
    assert_eq!(world.counted("sip_refused", "overloaded"), 1);
    world.talk((a, call), (b, other), SECOND);
    world.hang_up(a, call);
    world.sim.run_for(SECOND);
    assert_eq!(world.sim.phone(b).call(other).state, State::Over);
    world.sim.edge_mut(edge).engine.set_overloaded(false);
    assert_eq!(world.call(c, "1002"), 200);
    world.finish(&[a, b, c]);
}

/// More registrations than there are transactions, within the time that each is remembered: those
/// who call notice nothing, and who repeats itself soon has the same answer.
#[test]
fn a_flood_of_registrations_leaves_calls_alone() {
    let mut world = World::new(93, Datapath::Frames);
    let mut config = world.edge().engine.config().clone();
    config.sip.protection.exempt = vec!["10.0.0.0/8".parse().unwrap()];
    let edge = world.edge;
    world
        .sim
        .order(edge, |edge, now, out| edge.reconfigure(config, now, out));
    let (a, b) = pair(&mut world, Manner::EAGER);
    let (call, other) = connect(&mut world, a, b, "1002");
    let on = Listener {
        transport: Transport::Udp,
        local: "10.0.0.3:5060".parse().unwrap(),
    };
    let from = "10.0.0.99:5060".parse().unwrap();
    let now = world.sim.now();
    let mut register = |n: usize| {
        let text = format!(
            "REGISTER sip:example.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP 10.0.0.99;branch=z9hG4bKflood{n}\r\nMax-Forwards: 70\r\n\
             From: <sip:1009@example.com>;tag=f\r\nTo: <sip:1009@example.com>\r\n\
             Call-ID: flood\r\nCSeq: {n} REGISTER\r\nContact: <sip:x@10.0.0.99>\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let bytes = text.into();
        let mut effects = Effects::new();
        let engine = &mut world.sim.edge_mut(edge).engine;
        engine.handle(Input::Sip { on, from, bytes }, now, &mut effects);
        let [Effect::Send { bytes, .. }] = &effects[..] else {
            unreachable!("{effects:?}")
        };
        assert!(bytes.starts_with(b"SIP/2.0 401"), "{n}");
        bytes.clone()
    };
    let all = TRANSACTIONS_MAX + 1000;
    let answers: Vec<_> = (1..=all).map(&mut register).collect();
    for n in all - 10_000..=all {
        assert_eq!(register(n), answers[n - 1], "{n}");
    }
    let displaced = world.counted("sip_transaction", "displaced");
    assert!(displaced > 30_000, "{displaced}");
    world.hang_up(a, call);
    world.sim.run_for(SECOND);
    assert_eq!(world.sim.phone(b).call(other).state, State::Over);
    for _ in 0..3 {
        assert_eq!(world.call(a, "1002"), 200);
        let call = world.sim.phone(a).last().unwrap();
        world.hang_up(a, call);
        world.sim.run_for(SECOND);
    }
    assert_eq!(world.counted("sip_refused", "overload"), 0);
    world.finish(&[a, b]);
}
