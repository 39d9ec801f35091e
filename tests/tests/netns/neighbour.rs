//! Links, neighbours and routes that change under a call.

use towpath_tests::clock;
use towpath_tests::lab::{Parts, Role, plan};
use towpath_tests::observer::Observer;

use super::stage::{LIMIT, Mode, Stage, assert_whole};

/// Packets each way in every phase.
const PHASE: u64 = 250;

fn parts() -> Parts {
    Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    }
}

#[test]
fn a_neighbour_that_is_not_resolved_yet_is_reached_by_userspace_first() {
    let stage = Stage::raise(Mode::Xdp, &parts());
    let c1 = stage.phone(Role::C1, "1001");
    let mut c3 = stage.phone(Role::C3, "1003");
    // Its media is at an address nobody has spoken to, and that does not answer ARP yet.
    let namespace = stage.lab.namespace(Role::C3).unwrap();
    namespace.addresses("eth0", &["10.1.0.40/24"]).unwrap();
    let elsewhere = "10.1.0.40:10000".parse().unwrap();
    c3.move_media(namespace, elsewhere).unwrap();
    let mute = |ignore| {
        let key = "net/ipv4/conf/all/arp_ignore";
        namespace.sysctls(&[(key, ignore)]).unwrap();
    };
    mute("8"); // answers for no address
    let dialog = c1.call(&c3).unwrap();
    let call = super::stage::Between {
        caller: &c1,
        callee: &c3,
        dialog,
    };
    let talk = call.talk();
    let mut seen = Vec::new();
    clock::until("a flow that waits for its neighbour", LIMIT, || {
        seen = stage.flows(&call);
        let waits = |f: &towpath_tests::calls::Flow| {
            (f.path.as_str(), f.why.as_str()) == ("user", "neighbour not resolved yet")
        };
        Ok(seen.iter().any(waits).then_some(()))
    })
    .unwrap_or_else(|e| panic!("{e:#}: {seen:#?}"));
    mute("0");
    stage.settled(&call, "xdp");
    talk.hear(PHASE, LIMIT).unwrap();
    talk.finish().unwrap();
    stage.carries(&call, PHASE, "xdp");
    call.hang_up();
    stage.is_empty();
}

#[test]
fn a_forgotten_neighbour_costs_no_packet() {
    let stage = Stage::raise(Mode::Xdp, &parts());
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, "xdp");
    let talk = call.talk();
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    let lan = format!("neigh del {} dev lan", plan::ip(plan::C3_V4));
    let wan = format!("neigh del {} dev wan", plan::ip(plan::NAT1_WAN));
    for line in [lan.as_str(), wan.as_str(), "neigh flush all"] {
        talk.hear(PHASE, LIMIT).unwrap();
        edge.ip(line).unwrap();
        talk.hear(PHASE, LIMIT).unwrap();
        stage.settled(&call, "xdp");
    }
    assert_whole(&talk.finish().unwrap());
    stage.carries(&call, PHASE, "xdp");
}

#[test]
fn a_phone_with_a_new_link_address_is_found_again() {
    let stage = Stage::raise(Mode::Xdp, &parts());
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, "xdp");
    let phone = stage.lab.namespace(Role::C3).unwrap();
    // As a phone does that wakes up on another access point: it says so.
    phone
        .sysctls(&[("net/ipv4/conf/eth0/arp_notify", "1")])
        .unwrap();
    let talk = call.talk();
    talk.hear(PHASE, LIMIT).unwrap();
    phone.ip("link set eth0 address 02:10:20:30:40:51").unwrap();
    talk.hear(PHASE, LIMIT).unwrap();
    stage.settled(&call, "xdp");
    let [to_c1, to_c3] = talk.finish().unwrap();
    eprintln!(
        "new link address: {} of {} lost",
        to_c3.missing(),
        to_c3.sent
    );
    assert_eq!(to_c1.missing(), 0, "{to_c1:?}");
    // Less than a second of 250 packets.
    assert!(to_c3.missing() < 250, "{to_c3:?}");
    stage.carries(&call, PHASE, "xdp");
}

#[test]
fn a_route_to_another_gateway_is_followed_without_loss() {
    let parts = Parts {
        mcu: true,
        ..parts()
    };
    // The peer's media is behind gateways: two legs of the peer itself.
    let stage = Stage::with(Mode::Xdp, &parts, |c| {
        c.networks[2].peers = "10.9.0.0/24\", \"10.77.0.0/24";
    });
    let mcu = stage.lab.namespace(Role::Mcu).unwrap();
    let switch = stage.lab.namespace(Role::Switch).unwrap();
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    mcu.sysctls(&[("net/ipv4/conf/all/arp_ignore", "1")])
        .unwrap();
    mcu.veth("eth1", switch, "core-mcu1").unwrap();
    switch.ip("link set core-mcu1 master core").unwrap();
    mcu.addresses("eth1", &["10.9.0.21/32"]).unwrap();
    mcu.addresses("lo", &["10.77.0.1/32"]).unwrap();
    edge.ip("route add 10.77.0.0/24 via 10.9.0.20").unwrap();
    let mut peer = stage.phone(Role::Mcu, "9000");
    peer.move_media(mcu, "10.77.0.1:10000".parse().unwrap())
        .unwrap();
    let c3 = stage.phone(Role::C3, "1003");
    let call = stage.call(&c3, &peer, "xdp");
    let [first, second] = ["eth0", "eth1"].map(|i| Observer::start(mcu, i).unwrap());
    let arrived = |by: &Observer| -> u64 {
        let media = by.received().into_iter();
        media.map(|s| s.judgement.packets).sum()
    };
    let talk = call.talk();
    talk.hear(PHASE, LIMIT).unwrap();
    assert_eq!(arrived(&second), 0);
    edge.ip("route replace 10.77.0.0/24 via 10.9.0.21").unwrap();
    clock::until("media by the other gateway", LIMIT, || {
        Ok((arrived(&second) >= PHASE).then_some(()))
    })
    .unwrap();
    stage.settled(&call, "xdp");
    let at_first = arrived(&first);
    talk.hear(PHASE, LIMIT).unwrap();
    assert_eq!(arrived(&first), at_first, "still by the old gateway");
    assert_whole(&talk.finish().unwrap());
    stage.carries(&call, PHASE, "xdp");
}
