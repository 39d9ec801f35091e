//! Whole calls in the simulator: the real engine, virtual time, phones behind all kinds of NAT.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![allow(clippy::indexing_slicing, reason = "helpers of tests fail the test")]

#[path = "call/abandoned.rs"]
mod abandoned;
#[path = "call/capacity.rs"]
mod capacity;
#[path = "call/change.rs"]
mod change;
#[path = "call/claims.rs"]
mod claims;
#[path = "call/fork.rs"]
mod fork;
#[path = "call/forward.rs"]
mod forward;
#[path = "call/hostile.rs"]
mod hostile;
#[path = "call/identity.rs"]
mod identity;
#[path = "call/load.rs"]
mod load;
#[path = "call/outside.rs"]
mod outside;
#[path = "call/peer.rs"]
mod peer;
#[path = "call/pulse.rs"]
mod pulse;
#[path = "call/reconfigure.rs"]
mod reconfigure;
#[path = "call/restart.rs"]
mod restart;
#[path = "call/setup.rs"]
mod setup;
#[path = "call/stream.rs"]
mod stream;
#[path = "call/sweep.rs"]
mod sweep;
#[path = "call/transfer.rs"]
mod transfer;
#[path = "call/wide.rs"]
mod wide;

use std::time::Duration;

use towpath_tests::sim::edge::Datapath;
use towpath_tests::sim::nat::{Behaviour, Dependence};
use towpath_tests::sim::phone::{Manner, State};
use towpath_tests::sim::world::{NETWORKS, World};
use towpath_tests::sim::{Link, NodeId};

const BOTH: [Datapath; 2] = [Datapath::Sockets, Datapath::Frames];
const SECOND: Duration = Duration::from_secs(1);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A call that is up: both phones' views of it.
fn connect(world: &mut World, a: NodeId, b: NodeId, user: &str) -> (usize, usize) {
    let call = world.dial(a, user);
    assert_eq!(world.settle(a, call), 200, "{}", world.sim.story());
    // The ACK arrives.
    world.sim.run_for(ms(200));
    (call, world.sim.phone(b).last().unwrap())
}

/// Dials, talks, hangs up from either side, and leaves nothing behind.
fn whole_call(world: &mut World, a: NodeId, b: NodeId, user: &str) {
    for callee_ends in [false, true] {
        let (call, other) = connect(world, a, b, user);
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
    let records = &world.edge().records;
    let [.., first, second] = records.as_slice() else {
        unreachable!("{records:?}")
    };
    assert_eq!((first.status, first.ended_by), (200, "caller"));
    assert_eq!((second.status, second.ended_by), (200, "callee"));
    world.finished(&[a, b]);
}

/// Two phones in the LAN.
fn pair(world: &mut World, answers: Manner) -> (NodeId, NodeId) {
    let lan = world.lan;
    let a = world.registered("1001", lan, "10.0.0.31", Manner::EAGER);
    let b = world.registered("1002", lan, "10.0.0.32", answers);
    (a, b)
}

/// One phone in the LAN, one behind a harsh NAT.
fn far_pair(world: &mut World, answers: Manner) -> (NodeId, NodeId) {
    let (lan, (_, home)) = (world.lan, world.router(Behaviour::SYMMETRIC));
    let a = world.registered("1001", lan, "10.0.0.31", Manner::EAGER);
    let b = world.registered("1002", home, "192.168.1.10", answers);
    (a, b)
}

/// Every behaviour of a router there is.
fn behaviours() -> Vec<Behaviour> {
    let mut all = Vec::new();
    for mapping in Dependence::ALL {
        for filtering in Dependence::ALL {
            for preserve in [true, false] {
                all.push(Behaviour {
                    mapping,
                    filtering,
                    preserve,
                    hairpin: preserve,
                    timeout: 30 * SECOND,
                    inbound_refresh: true,
                });
            }
        }
    }
    all
}

#[test]
fn lan_to_lan() {
    for datapath in BOTH {
        let mut world = World::new(1, datapath);
        let (a, b) = pair(&mut world, Manner::EAGER);
        whole_call(&mut world, a, b, "1002");
    }
}

#[test]
fn lan_to_nat_and_back() {
    for behaviour in behaviours() {
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

#[test]
fn two_phones_behind_one_router() {
    for behaviour in behaviours() {
        let mut world = World::new(3, Datapath::Frames);
        let (_, home) = world.router(behaviour);
        let a = world.registered("1001", home, "192.168.1.10", Manner::EAGER);
        let b = world.registered("1002", home, "192.168.1.11", Manner::EAGER);
        whole_call(&mut world, a, b, "1002");
    }
}

/// Both homes use the same private addresses.
#[test]
fn two_phones_behind_two_routers() {
    for behaviour in behaviours() {
        let mut world = World::new(4, Datapath::Frames);
        let (_, one) = world.router(behaviour);
        let (_, other) = world.router(Behaviour::SYMMETRIC);
        let a = world.registered("1001", one, "192.168.1.10", Manner::EAGER);
        let b = world.registered("1002", other, "192.168.1.10", Manner::EAGER);
        whole_call(&mut world, a, b, "1002");
    }
}

#[test]
fn through_the_conference_server_and_from_it() {
    for datapath in BOTH {
        let mut world = World::new(5, datapath);
        let (_, home) = world.router(Behaviour::SYMMETRIC);
        let a = world.registered("1001", home, "192.168.1.10", Manner::EAGER);
        let mcu = world.mcu(Manner::EAGER);
        whole_call(&mut world, a, mcu, "8123");
        world.register(a);
        whole_call(&mut world, mcu, a, "1001");
    }
}

#[test]
fn ipv6_and_between_the_families() {
    for datapath in BOTH {
        let mut world = World::new(6, datapath);
        let (lan, wan) = (world.lan, world.wan);
        let a = world.registered("1001", wan, "2001:db8:1::10", Manner::EAGER);
        let b = world.registered("1002", wan, "2001:db8:2::10", Manner::EAGER);
        whole_call(&mut world, a, b, "1002");
        let c = world.registered("1003", lan, "10.0.0.33", Manner::EAGER);
        world.register(a);
        whole_call(&mut world, a, c, "1003");
        world.register(a);
        world.register(c);
        whole_call(&mut world, c, a, "1001");
    }
}

/// The edge stands behind a router that maps its ports to it; phones in the LAN are told the LAN's
/// address at the same time.
#[test]
fn behind_a_port_mapping() {
    let networks = NETWORKS.replace(
        "address = \"203.0.113.9\"",
        "address = \"172.16.0.2\"\nadvertise = \"203.0.113.9\"",
    );
    for datapath in BOTH {
        let mut world = World::with(7, datapath, &networks);
        let (_, home) = world.router(Behaviour::SYMMETRIC);
        world.map_edge("172.16.0.2", "203.0.113.9");
        let lan = world.lan;
        let a = world.registered("1001", lan, "10.0.0.31", Manner::EAGER);
        let b = world.registered("1002", home, "192.168.1.10", Manner::EAGER);
        whole_call(&mut world, a, b, "1002");
        let told = |p| {
            world.sim.phone(p).calls[0]
                .remote_sdp
                .clone()
                .unwrap()
                .at()
                .ip()
                .to_string()
        };
        assert_eq!(
            (told(a), told(b)),
            ("10.0.0.3".into(), "203.0.113.9".into())
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| {
        let mut world = World::new(seed, Datapath::Frames);
        let (a, b) = far_pair(&mut world, Manner::EAGER);
        let (lan, wan) = (world.lan, world.wan);
        for net in [lan, wan] {
            let link = Link {
                delay: ms(5),
                jitter: ms(40),
                sip_loss: 100,
                media_loss: 50,
                duplicate: 50,
            };
            world.sim.set_link(net, link);
        }
        let call = world.dial(a, "1002");
        world.settle(a, call);
        world.sim.run_for(2 * SECOND);
        world.finish(&[a, b]);
        world.sim.digest()
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12), "chance decides nothing");
}

/// What a phone hears does not depend on who forwards: every packet, at the same time.
#[test]
fn both_datapaths_deliver_the_same() {
    for behaviour in behaviours() {
        let [sockets, frames] = BOTH.map(|datapath| {
            let mut world = World::new(8, datapath);
            let (_, home) = world.router(behaviour);
            let a = world.registered("1001", home, "192.168.1.10", Manner::EAGER);
            let b = world.registered("1002", home, "192.168.1.11", Manner::EAGER);
            let (call, other) = connect(&mut world, a, b, "1002");
            world.sim.run_for(3 * SECOND);
            let received = [(a, call), (b, other)]
                .map(|(phone, call)| world.sim.phone(phone).call(call).rtp.received.clone());
            let count = world.edge().count;
            assert_eq!(count.kernel > 0, datapath == Datapath::Frames);
            world.finish(&[a, b]);
            (received, world.sim.digest())
        });
        assert_eq!(sockets, frames);
    }
}
