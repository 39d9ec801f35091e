//! The NAT boxes of the lab behave as they are told.

use std::time::Duration;

use towpath_tests::clock;
use towpath_tests::lab::{Lab, Parts, Role, plan};
use towpath_tests::sim::nat::{Behaviour, Dependence};

use super::{LIMIT, address, pass, socket};

#[test]
fn nat_boxes_map_and_filter_in_nine_ways() {
    let parts = Parts {
        boxes: vec![Behaviour::CONE],
        attacker: true,
        ..Parts::default()
    };
    let lab = Lab::raise(&parts).unwrap();
    let phone = socket(&lab, Role::C1, address(plan::C1_V4, 4000));
    // One destination, another port of it, another address.
    let others = [
        socket(&lab, Role::Edge, address(plan::EDGE_WAN, 1000)),
        socket(&lab, Role::Edge, address(plan::EDGE_WAN, 2000)),
        socket(&lab, Role::Attacker, address(plan::ATTACKER_V4, 1000)),
    ];
    let (nat, outside) = (&lab.boxes()[0], address(plan::NAT1_WAN, 0).ip());
    for mapping in Dependence::ALL {
        for filtering in Dependence::ALL {
            nat.replace(Behaviour {
                mapping,
                filtering,
                preserve: false,
                ..Behaviour::CONE
            });
            let seen = others.each_ref().map(|other| {
                let seen = pass(&phone, other.local_addr().unwrap(), other).unwrap();
                assert_eq!(seen.ip(), outside);
                seen
            });
            let [first, other_port, other_address] = seen;
            let same = [other_port == first, other_address == first];
            let expected = match mapping {
                Dependence::Endpoint => [true, true],
                Dependence::Address => [true, false],
                Dependence::AddressAndPort => [false, false],
            };
            assert_eq!(same, expected, "mapping by {mapping:?}");
            // Forgotten, and one spoken to: who is let in at its mapping?
            nat.rebind();
            let (one, at) = (&others[0], others[0].local_addr().unwrap());
            let mapped = pass(&phone, at, one).unwrap();
            assert_ne!(mapped, first, "rebinding moves the port");
            let let_in = others.each_ref().map(|o| pass(o, mapped, &phone).is_some());
            let expected = match filtering {
                Dependence::Endpoint => [true, true, true],
                Dependence::Address => [true, true, false],
                Dependence::AddressAndPort => [true, false, false],
            };
            assert_eq!(let_in, expected, "filtering by {filtering:?}");
            assert!(pass(one, first, &phone).is_none(), "the old mapping lives");
        }
    }
    let counts = nat.counts();
    assert!(counts.translated > 0 && counts.refused > 0, "{counts:?}");
}

#[test]
fn nat_boxes_preserve_ports_hairpin_and_forget() {
    let parts = Parts {
        boxes: vec![Behaviour::CONE],
        ..Parts::default()
    };
    let lab = Lab::raise(&parts).unwrap();
    let one = socket(&lab, Role::C1, address(plan::C1_V4, 4000));
    let two = socket(&lab, Role::C2, address(plan::C2_V4, 4000));
    let edge = socket(&lab, Role::Edge, address(plan::EDGE_WAN, 1000));
    let nat = &lab.boxes()[0];
    let at = edge.local_addr().unwrap();
    let mapped = [&one, &two].map(|phone| pass(phone, at, &edge).unwrap());
    assert_eq!(mapped[0].port(), 4000, "preserved while free");
    assert_ne!(mapped[1].port(), 4000);
    // From one phone to the other by their outside addresses.
    assert_eq!(pass(&one, mapped[1], &two), Some(mapped[0]));
    nat.replace(Behaviour {
        hairpin: false,
        ..Behaviour::CONE
    });
    let mapped = [&one, &two].map(|phone| pass(phone, at, &edge).unwrap());
    assert_eq!(pass(&one, mapped[1], &two), None);
    assert_eq!(pass(&edge, mapped[1], &two), Some(at));
    let timeout = Duration::from_millis(200);
    nat.replace(Behaviour {
        timeout,
        ..Behaviour::CONE
    });
    let mapped = pass(&one, at, &edge).unwrap();
    assert_eq!(pass(&edge, mapped, &one), Some(at));
    clock::until("the mapping to be forgotten", LIMIT, || {
        clock::wait_until(clock::now() + timeout);
        Ok(pass(&edge, mapped, &one).is_none().then_some(()))
    })
    .unwrap();
}

#[test]
fn two_nat_boxes_stand_in_series() {
    let parts = Parts {
        boxes: vec![Behaviour::SYMMETRIC, Behaviour::CONE],
        ..Parts::default()
    };
    let lab = Lab::raise(&parts).unwrap();
    let phone = socket(&lab, Role::C1, address(plan::C1_V4, 4000));
    let edge = socket(&lab, Role::Edge, address(plan::EDGE_WAN, 1000));
    let at = edge.local_addr().unwrap();
    let mapped = pass(&phone, at, &edge).unwrap();
    assert_eq!(mapped.ip(), address(plan::NAT1_WAN, 0).ip());
    assert_ne!(mapped.port(), 4000);
    assert_eq!(pass(&edge, mapped, &phone), Some(at));
    // Either box forgets.
    for nat in lab.boxes() {
        nat.rebind();
        assert_eq!(pass(&edge, mapped, &phone), None);
        pass(&phone, at, &edge).unwrap();
    }
    let [carrier, home] = lab.boxes() else {
        panic!("two boxes");
    };
    assert_eq!(carrier.counts().other, 0);
    assert!(home.counts().translated >= 4);
}
