//! Peers with several addresses, some of which do not answer.

use control::config::PeerAddress;

use super::*;

const SILENT: &str = "10.0.0.77:5060";

/// The conference server at its second address; at the first is nobody.
fn stage(probe: Duration) -> (World, NodeId) {
    let mut world = World::new(90, Datapath::Frames);
    let mut config = world.edge().engine.config().clone();
    let peer = &mut config.sip.peers[0];
    let mcu = peer.addresses[0].address;
    let at = |address, priority| PeerAddress {
        address,
        transport: None,
        priority,
        weight: 1,
    };
    peer.addresses = vec![at(SILENT.parse().unwrap(), 0), at(mcu, 1)];
    peer.probe = probe;
    let edge = world.edge;
    world
        .sim
        .order(edge, |edge, now, out| edge.reconfigure(config, now, out));
    world.mcu(Manner::EAGER);
    let lan = world.lan;
    let phone = world.registered("1001", lan, "10.0.0.31", Manner::EAGER);
    (world, phone)
}

fn states(world: &World) -> Vec<&'static str> {
    let now = world.sim.now();
    let peers = world.edge().engine.peers(now).into_iter();
    peers.map(|peer| peer.state).collect()
}

#[test]
fn the_next_address_is_asked_and_the_silent_one_left_out() {
    let (mut world, phone) = stage(Duration::ZERO);
    for calls in 1..=3 {
        assert_eq!(world.call(phone, "8123"), 200);
        assert_eq!(world.counted("call_setup", "next_target"), calls);
    }
    assert_eq!(states(&world), ["down", "up"]);
    assert_eq!(world.call(phone, "8123"), 200);
    assert_eq!(world.counted("call_setup", "next_target"), 3);
    // It rests, then it is tried again.
    world.sim.run_for(31 * SECOND);
    assert_eq!(world.call(phone, "8123"), 200);
    assert_eq!(world.counted("call_setup", "next_target"), 4);
}

#[test]
fn probes_find_the_silent_one_before_a_call_does() {
    let (mut world, phone) = stage(10 * SECOND);
    world.sim.run_for(60 * SECOND);
    assert_eq!(states(&world)[1], "up");
    assert_eq!(world.counted("peer", "down"), 1);
    assert_eq!(world.call(phone, "8123"), 200);
    assert_eq!(world.counted("call_setup", "next_target"), 0);
}
