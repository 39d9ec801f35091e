//! Whole calls in the simulator: the real engine, virtual time, phones behind all kinds of NAT.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::time::Duration;

use towpath_tests::sim::NodeId;
use towpath_tests::sim::edge::Datapath;
use towpath_tests::sim::nat::Behaviour;
use towpath_tests::sim::phone::{Manner, State};
use towpath_tests::sim::world::World;

const BOTH: [Datapath; 2] = [Datapath::Sockets, Datapath::Frames];
const SECOND: Duration = Duration::from_secs(1);

/// Dials, talks, hangs up from either side, and leaves nothing behind.
fn whole_call(world: &mut World, a: NodeId, b: NodeId, user: &str) {
    for callee_ends in [false, true] {
        let call = world.dial(a, user);
        assert_eq!(world.settle(a, call), 200, "{}", world.sim.story());
        let other = world.sim.phone(b).last().unwrap();
        world.talk((a, call), (b, other), 2 * SECOND);
        if callee_ends {
            world.hang_up(b, other);
        } else {
            world.hang_up(a, call);
        }
        world.sim.run_for(SECOND);
        assert_eq!(world.sim.phone(a).call(call).state, State::Over);
        assert_eq!(world.sim.phone(b).call(other).state, State::Over);
        let edge = world.edge();
        assert!(edge.flows().is_empty() && edge.sockets().is_empty());
    }
    world.finished(&[a, b]);
}

#[test]
fn lan_to_lan() {
    for datapath in BOTH {
        let mut world = World::new(1, datapath);
        let lan = world.lan;
        let a = world.registered("1001", lan, "10.0.0.31", Manner::EAGER);
        let b = world.registered("1002", lan, "10.0.0.32", Manner::EAGER);
        whole_call(&mut world, a, b, "1002");
    }
}

#[test]
fn lan_to_nat_and_back() {
    for behaviour in [Behaviour::CONE, Behaviour::SYMMETRIC] {
        for datapath in BOTH {
            let mut world = World::new(2, datapath);
            let (lan, (_, home)) = (world.lan, world.router(behaviour));
            let a = world.registered("1001", lan, "10.0.0.31", Manner::EAGER);
            let b = world.registered("1002", home, "192.168.1.10", Manner::EAGER);
            whole_call(&mut world, a, b, "1002");
            world.register(a);
            world.register(b);
            whole_call(&mut world, b, a, "1001");
        }
    }
}
