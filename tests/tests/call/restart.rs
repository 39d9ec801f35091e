//! The daemon dies and another begins with what was kept.

use std::net::SocketAddr;

use control::config::Config;
use control::engine::admin::Command;
use towpath_tests::sim::edge::Edge;

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

fn restart(world: &mut World) {
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
