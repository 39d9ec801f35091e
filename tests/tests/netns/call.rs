//! Calls with media in both directions, through every kind of path.

use std::net::IpAddr;

use towpath_tests::lab::{Parts, PortMap, Role, plan};
use towpath_tests::netns::Checksums;

use super::stage::{LAN, LAN_V6, LIMIT, Mode, Net, Stage, WAN_V6, assert_whole, totals};

/// Packets each way that have to arrive, each once.
const PACKETS: u64 = 2000;

fn lan_to_nat_and_hairpin(mode: Mode) {
    let parts = Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    };
    let stage = Stage::raise(mode, &parts);
    let [c1, c2] = [(Role::C1, "1001"), (Role::C2, "1002")].map(|(r, u)| stage.phone(r, u));
    let c3 = stage.phone(Role::C3, "1003");
    for (caller, callee) in [(&c3, &c1), (&c1, &c2)] {
        let call = stage.call(caller, callee, mode.path());
        stage.carries(&call, PACKETS, mode.path());
        call.hang_up();
    }
    stage.is_empty();
}

#[test]
fn media_crosses_networks_and_hairpins_in_the_kernel() {
    lan_to_nat_and_hairpin(Mode::Xdp);
}

#[test]
fn media_crosses_networks_and_hairpins_in_userspace() {
    lan_to_nat_and_hairpin(Mode::Userspace);
}

fn peer_and_phone(mode: Mode) {
    let parts = Parts {
        nat: true,
        mcu: true,
        ..Parts::default()
    };
    let stage = Stage::raise(mode, &parts);
    let (c1, mcu) = (
        stage.phone(Role::C1, "1001"),
        stage.phone(Role::Mcu, "9000"),
    );
    for (caller, callee) in [(&mcu, &c1), (&c1, &mcu)] {
        let call = stage.call(caller, callee, mode.path());
        stage.carries(&call, 250, mode.path());
        call.hang_up();
    }
    stage.is_empty();
}

#[test]
fn a_trusted_peer_and_a_phone_behind_nat_call_each_other_in_the_kernel() {
    peer_and_phone(Mode::Xdp);
}

#[test]
fn a_trusted_peer_and_a_phone_behind_nat_call_each_other_in_userspace() {
    peer_and_phone(Mode::Userspace);
}

fn ipv6_and_a_change_of_family(mode: Mode) {
    let parts = Parts {
        nat: true,
        c3: true,
        attacker: true, // an ordinary host here
        ..Parts::default()
    };
    let stage = Stage::with(mode, &parts, |c| c.networks.extend([WAN_V6, LAN_V6]));
    let ua = |role, user, ip, edge| stage.ua(role, user, plan::ip(ip), edge);
    let lan = ua(Role::C3, "1003", plan::C3_V6, plan::EDGE_LAN_V6);
    let wan = ua(Role::Attacker, "1006", plan::ATTACKER_V6, plan::EDGE_WAN_V6);
    let v4 = stage.phone(Role::C1, "1001");
    for ua in [&lan, &wan] {
        ua.register().unwrap();
    }
    let call = stage.call(&lan, &wan, mode.path());
    stage.carries(&call, PACKETS / 2, mode.path());
    call.hang_up();
    let why = match mode {
        Mode::Xdp => "the two parties use different IP versions",
        Mode::Userspace => "the kernel path is off",
    };
    for (caller, callee) in [(&lan, &v4), (&v4, &wan)] {
        let call = stage.call(caller, callee, "user");
        stage.carries(&call, 250, "user");
        for flow in stage.flows(&call) {
            assert_eq!(flow.why, why);
        }
        call.hang_up();
    }
    stage.is_empty();
}

#[test]
fn ipv6_goes_by_the_kernel_and_a_change_of_family_by_userspace() {
    ipv6_and_a_change_of_family(Mode::Xdp);
}

#[test]
fn ipv6_and_a_change_of_family_go_by_userspace() {
    ipv6_and_a_change_of_family(Mode::Userspace);
}

#[test]
fn partial_checksums_are_left_to_the_stack_and_media_arrives() {
    let parts = Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    };
    let stage = Stage::raise(Mode::Xdp, &parts);
    // Nobody on the way computes them: not the phone, not the bridge.
    for (role, link) in [(Role::C3, "eth0"), (Role::Switch, "lan-edge")] {
        let lab = &stage.lab;
        lab.checksums(role, link, Checksums::Offloaded).unwrap();
    }
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, "xdp");
    let talk = call.talk();
    talk.hear(500, LIMIT).unwrap();
    let heard = talk.finish().unwrap();
    assert_whole(&heard);
    // All that c3 sent, and nothing that c1 did.
    let counted = stage.number("verdicts.partial-checksum");
    let flows = stage.flows(&call);
    let of = |leg: &str| flows.iter().find(|f| f.leg == leg).unwrap();
    eprintln!("partial: {counted}; {:?}", totals(&flows));
    assert!(counted >= u64::from(heard[0].sent), "{counted}");
    assert!(of("caller").packets_user >= u64::from(heard[0].sent));
    assert!(of("callee").packets_xdp >= u64::from(heard[1].sent));
    call.hang_up();
    stage.is_empty();
}

/// One NIC and one address for two networks, told apart by the gateway traffic comes from.
fn one_nic_two_networks(mode: Mode) {
    let map = PortMap {
        to: plan::EDGE_LAN.parse().unwrap(),
        sip_port: 5060,
        media_ports: (21_000, 21_199),
        offset: 0,
        rewrite_source: true,
    };
    let parts = Parts {
        c3: true,
        port_map: Some(map),
        ..Parts::default()
    };
    let stage = Stage::with(mode, &parts, |config| {
        let outside = Net {
            name: "outside",
            peers: "0.0.0.0/0",
            ports: (21_000, 21_199),
            more: "advertise = \"198.51.100.1\"\nsource_rewriting_gateways = [\"10.1.0.254\"]\n",
            ..LAN
        };
        config.networks = vec![LAN, outside];
    });
    let (inside, outside) = (
        stage.phone(Role::C3, "1003"),
        stage.phone(Role::Outside, "1007"),
    );
    let public: IpAddr = plan::ip(plan::PORT_MAP_OUT).parse().unwrap();
    let private: IpAddr = plan::EDGE_LAN.parse().unwrap();
    for (caller, callee, told) in [
        (&inside, &outside, [private, public]),
        (&outside, &inside, [public, private]),
    ] {
        let call = stage.call(caller, callee, mode.path());
        let dialog = &call.dialog;
        // The caller reads it in the answer, the callee in the offer.
        assert_eq!(
            [dialog.caller_sends_to.ip(), dialog.callee_sends_to.ip()],
            told
        );
        stage.carries(&call, 250, mode.path());
        call.hang_up();
    }
    stage.is_empty();
}

#[test]
fn one_nic_serves_inside_and_outside_in_the_kernel() {
    one_nic_two_networks(Mode::Xdp);
}

#[test]
fn one_nic_serves_inside_and_outside_in_userspace() {
    one_nic_two_networks(Mode::Userspace);
}
