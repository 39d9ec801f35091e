//! The daemon dies and another begins with what was kept.

use std::net::SocketAddr;

use control::config::Config;
use control::engine::admin::Command;
use towpath_tests::sim::edge::Edge;
use towpath_tests::sim::phone::Offer;

use super::*;

/// Phones do not notice: they are called, and refresh, as if nothing had happened.
#[test]
fn registrations_survive_the_daemon() {
    for datapath in BOTH {
        let mut world = World::new(1, datapath);
        let (a, b) = far_pair(&mut world, Manner::EAGER);
        let before = seen(&world);
        assert_eq!(before.len(), 2);
        restart(&mut world);
        assert_eq!(seen(&world), before);
        world.sim.run_for(SECOND);
        restart(&mut world);
        let after = seen(&world).into_iter();
        let after: Vec<_> = after.map(|(a, at, left)| (a, at, left + SECOND)).collect();
        assert_eq!(after, before);
        whole_call(&mut world, a, b, "1002");
        assert_eq!([world.register(a), world.register(b)], [200, 200]);
        assert_eq!(seen(&world).len(), 2);
    }
}

#[test]
fn what_was_dropped_does_not_come_back() {
    let mut world = World::new(2, Datapath::Sockets);
    let (_, b) = far_pair(&mut world, Manner::EAGER);
    let aor = "1001@example.com".to_owned();
    let edge = world.edge;
    let order = Command::DropRegistration { aor };
    let done = world
        .sim
        .order(edge, |edge, now, out| edge.command(order, now, out));
    assert!(done);
    restart(&mut world);
    let left: Vec<_> = seen(&world).into_iter().map(|(aor, ..)| aor).collect();
    assert_eq!(left, ["1002@example.com"]);
    // Its account is removed while the daemon is down.
    let mut config = world.edge().engine.config().clone();
    config.sip.accounts.retain(|account| account.user != "1002");
    restart_with(&mut world, config);
    assert_eq!(seen(&world), []);
    assert_eq!(world.counted("sip_registration", "account_removed"), 1);
    restart(&mut world);
    assert_eq!(world.counted("sip_registration", "account_removed"), 0);
    assert_eq!(world.register(b), 401);
}

/// The parties do not notice: their media goes on, they may change it, and either may end it.
#[test]
fn calls_survive_the_daemon() {
    for datapath in BOTH {
        for callee_ends in [false, true] {
            let mut world = World::new(3, datapath);
            let (a, b) = far_pair(&mut world, Manner::EAGER);
            let (call, other) = connect(&mut world, a, b, "1002");
            world.talk((a, call), (b, other), 2 * SECOND);
            assert_eq!(world.edge().kept_calls(), 3);
            let before = calls(&world);
            restart(&mut world);
            assert_eq!(calls(&world), before);
            assert_eq!(world.counted("call_restored", "restored"), 1);
            world.talk((a, call), (b, other), 2 * SECOND);
            // An offer of each party, and of ours.
            for (phone, call) in [(a, call), (b, other)] {
                let offer = Offer {
                    moves: true,
                    ..Offer::default()
                };
                world
                    .sim
                    .act(phone, |p, now, out| p.offer(call, &offer, now, out));
                world.sim.run_for(2 * SECOND);
                assert_eq!(world.sim.phone(phone).codes("INVITE").last(), Some(&200));
            }
            refresh(&mut world);
            restart(&mut world);
            refresh(&mut world);
            world.talk((a, call), (b, other), 2 * SECOND);
            let (who, which) = if callee_ends { (b, other) } else { (a, call) };
            world.hang_up(who, which);
            world.sim.run_for(SECOND);
            assert_eq!(world.sim.phone(a).call(call).state, State::Over);
            assert_eq!(world.sim.phone(b).call(other).state, State::Over);
            let record = world.edge().records.last().unwrap();
            let by = if callee_ends { "callee" } else { "caller" };
            assert_eq!((record.status, record.ended_by), (200, by));
            assert_eq!(world.edge().kept_calls(), 0);
            assert_eq!(world.counted("sip_refused", "no_dialog"), 0);
            whole_call(&mut world, a, b, "1002");
        }
    }
}

#[test]
fn a_restored_call_ends_when_its_media_does() {
    let mut world = World::new(4, Datapath::Frames);
    let (a, b) = far_pair(&mut world, Manner::EAGER);
    connect(&mut world, a, b, "1002");
    world.sim.run_for(2 * SECOND);
    restart(&mut world);
    assert_eq!(calls(&world).len(), 1);
    let now = world.sim.now();
    for phone in [a, b] {
        world.sim.phone_mut(phone).vanish(now);
    }
    world.sim.run_for(70 * SECOND);
    assert_eq!(world.counted("call_ended", "media_timeout"), 1);
    assert_eq!(world.edge().kept_calls(), 0);
}

#[test]
fn a_call_that_rings_is_not_kept() {
    let mut world = World::new(5, Datapath::Frames);
    let (a, _) = far_pair(&mut world, Manner::RINGS);
    world.dial(a, "1002");
    world.sim.run_for(2 * SECOND);
    assert_eq!(world.edge().kept_calls(), 0);
    restart(&mut world);
    assert_eq!(calls(&world), []);
}

fn refresh(world: &mut World) {
    let edge = world.edge;
    let call = world.edge().calls(world.sim.now())[0].id;
    let order = Command::Refresh { call };
    let done = world
        .sim
        .order(edge, |edge, now, out| edge.command(order, now, out));
    assert!(done);
    world.sim.run_for(3 * SECOND);
    assert_eq!(world.counted("call_refresh", "accepted"), 2);
}

fn calls(world: &World) -> Vec<(u64, String, &'static str)> {
    let views = world.edge().calls(world.sim.now()).into_iter();
    views.map(|v| (v.id, v.call_id, v.state)).collect()
}

pub(super) fn restart(world: &mut World) {
    let config = world.edge().engine.config().clone();
    restart_with(world, config);
}

fn restart_with(world: &mut World, config: Config) {
    let edge = world.edge;
    let begin = |edge: &mut Edge, now, out: &mut _| edge.restart(config, now, out);
    world.sim.order(edge, begin);
}

/// Who is registered, where it was seen, and for how long.
fn seen(world: &World) -> Vec<(String, SocketAddr, Duration)> {
    let views = world.edge().engine.registrations(world.sim.now());
    let views = views.into_iter();
    views
        .map(|v| (v.aor.to_string(), v.seen.to, v.expires_in))
        .collect()
}
