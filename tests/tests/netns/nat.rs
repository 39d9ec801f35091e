//! Phones behind NAT boxes of every behaviour (RFC 4787), rebinding, carriers, and the host's own
//! firewall.

use std::time::Duration;

use towpath_tests::clock;
use towpath_tests::lab::{Parts, Role};
use towpath_tests::sim::nat::{Behaviour, Dependence};
use towpath_tests::ua::Ua;

use super::stage::{Between, LIMIT, Mode, Stage, assert_media_whole};

/// Packets each way that have to arrive, each once.
const PACKETS: u64 = 100;

/// How soon media is back after a NAT has given a phone another port, without any signalling.
const REBOUND_MAX: Duration = Duration::from_secs(3);

/// The same for reports, which come seldom: the old port must have been silent for two intervals
/// (RFC 3550 §6.2), and two must come from the new one.
const REPORTS_REBOUND_MAX: Duration = Duration::from_secs(20);

/// Packets that cannot still have been on their way from before.
const NOT_IN_FLIGHT: u64 = 25;

fn every_behaviour(mode: Mode) {
    let parts = Parts {
        boxes: vec![Behaviour::CONE],
        c3: true,
        mcu: true,
        ..Parts::default()
    };
    let stage = Stage::raise(mode, &parts);
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let mcu = stage.phone(Role::Mcu, "9000");
    for mapping in Dependence::ALL {
        for filtering in Dependence::ALL {
            eprintln!("mapping by {mapping:?}, filtering by {filtering:?}");
            stage.lab.boxes()[0].replace(Behaviour {
                mapping,
                filtering,
                ..Behaviour::SYMMETRIC
            });
            c1.register().unwrap();
            // Called by the one and calling the other.
            carries(&stage, &c3, &c1);
            carries(&stage, &c1, &mcu);
        }
    }
    stage.is_empty();
}

fn carries(stage: &Stage, caller: &Ua, callee: &Ua) {
    let call = stage.call(caller, callee, stage.mode.path());
    stage.carries(&call, PACKETS, stage.mode.path());
    call.hang_up();
}

#[test]
fn behind_every_nat_phones_call_and_are_called_in_the_kernel() {
    every_behaviour(Mode::Xdp);
}

#[test]
fn behind_every_nat_phones_call_and_are_called_in_userspace() {
    every_behaviour(Mode::Userspace);
}

fn rebinding(mode: Mode) {
    let parts = Parts {
        boxes: vec![Behaviour::SYMMETRIC],
        c3: true,
        ..Parts::default()
    };
    let stage = Stage::raise(mode, &parts);
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let nat = &stage.lab.boxes()[0];
    for mapping in [Dependence::Endpoint, Dependence::AddressAndPort] {
        nat.replace(Behaviour {
            mapping,
            ..Behaviour::SYMMETRIC
        });
        c1.register().unwrap();
        let call = stage.call(&c1, &c3, mode.path());
        moves_and_comes_back(&stage, &call);
        let talk = call.talk();
        talk.hear(PACKETS, LIMIT).unwrap();
        if mapping == Dependence::Endpoint {
            talk.hear_reports(2, REPORTS_REBOUND_MAX).unwrap();
        }
        // Before that RTCP is missing.
        assert_media_whole(&talk.finish().unwrap());
        call.hang_up();
    }
    stage.is_empty();
}

/// The NAT forgets its mappings in the middle of a call, twice.
fn moves_and_comes_back(stage: &Stage, call: &Between<'_>) {
    let talk = call.talk();
    for _ in 0..2 {
        talk.hear(PACKETS, LIMIT).unwrap();
        let peers = || stage.flows(call).into_iter().map(|f| f.peer);
        let before: Vec<_> = peers().collect();
        let start = clock::now();
        stage.lab.boxes()[0].rebind();
        talk.hear(NOT_IN_FLIGHT, LIMIT).unwrap();
        let took = start.elapsed();
        eprintln!("media is back after {} ms", took.as_millis());
        assert!(took < REBOUND_MAX, "{took:?}");
        let moved = peers().zip(&before).filter(|(now, old)| now != *old);
        assert_eq!(moved.count(), 1, "{before:?}");
        stage.media_settled(call, stage.mode.path());
    }
    talk.finish().unwrap();
}

#[test]
fn media_is_back_within_3_s_of_a_rebinding_in_the_kernel() {
    rebinding(Mode::Xdp);
}

#[test]
fn media_is_back_within_3_s_of_a_rebinding_in_userspace() {
    rebinding(Mode::Userspace);
}

fn carrier_and_hairpin(mode: Mode) {
    let parts = Parts {
        boxes: vec![Behaviour::SYMMETRIC, Behaviour::SYMMETRIC],
        c3: true,
        ..Parts::default()
    };
    let stage = Stage::raise(mode, &parts);
    let [c1, c2] = [(Role::C1, "1001"), (Role::C2, "1002")].map(|(r, u)| stage.phone(r, u));
    let c3 = stage.phone(Role::C3, "1003");
    for (caller, callee) in [(&c3, &c1), (&c2, &c3), (&c1, &c2)] {
        carries(&stage, caller, callee);
    }
    // The carrier's box is replaced; nobody behind it notices.
    let call = stage.call(&c1, &c2, mode.path());
    let talk = call.talk();
    talk.hear(PACKETS, LIMIT).unwrap();
    stage.lab.boxes()[0].rebind();
    let start = clock::now();
    talk.hear(NOT_IN_FLIGHT, LIMIT).unwrap();
    eprintln!("media is back after {} ms", start.elapsed().as_millis());
    talk.finish().unwrap();
    for phone in [&c1, &c2] {
        phone.register().unwrap();
    }
    call.hang_up();
    stage.is_empty();
}

#[test]
fn a_carriers_nat_and_a_hairpin_behind_it_in_the_kernel() {
    carrier_and_hairpin(Mode::Xdp);
}

#[test]
fn a_carriers_nat_and_a_hairpin_behind_it_in_userspace() {
    carrier_and_hairpin(Mode::Userspace);
}

/// The host forwards nothing, and rejects everything that is not for its own services.
const FORWARD_NOTHING: &str = "
table inet host {
    chain forward {
        type filter hook forward priority filter; policy drop;
        counter reject
    }
}
";

/// The same, and of what is for the host only what towpath is there for.
const LET_IN_NOTHING_ELSE: &str = "
table inet host {
    chain forward {
        type filter hook forward priority filter; policy drop;
        counter reject
    }
    chain input {
        type filter hook input priority filter; policy drop;
        iif lo accept
        udp dport { 5060, 20000-20199, 30000-30199, 40000-40199 } accept
        counter reject
    }
}
";

fn three_cards_behind_a_firewall(mode: Mode) {
    let parts = Parts {
        boxes: vec![Behaviour::SYMMETRIC],
        c3: true,
        mcu: true,
        attacker: true, // an ordinary host here
        ..Parts::default()
    };
    let stage = Stage::raise(mode, &parts);
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    let forwards = edge.run("cat", &["/proc/sys/net/ipv4/ip_forward"]).unwrap();
    assert_eq!(forwards.trim(), "0");
    let (home, lan) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let (mcu, wan) = (
        stage.phone(Role::Mcu, "9000"),
        stage.phone(Role::Attacker, "1006"),
    );
    for rules in [FORWARD_NOTHING, LET_IN_NOTHING_ELSE] {
        edge.nft(&format!("flush ruleset\n{rules}")).unwrap();
        for (caller, callee) in [
            (&home, &lan),
            (&lan, &home),
            (&lan, &mcu),
            (&mcu, &lan),
            (&mcu, &home),
            (&home, &mcu),
            (&wan, &lan),
            (&lan, &wan),
            (&mcu, &wan),
            (&wan, &home),
        ] {
            // That every answer and every packet of media comes from the address the party used
            // is what user agents and talkers insist on.
            carries(&stage, caller, callee);
        }
    }
    stage.is_empty();
}

#[test]
fn three_cards_and_a_firewall_that_rejects_the_rest_in_the_kernel() {
    three_cards_behind_a_firewall(Mode::Xdp);
}

#[test]
fn three_cards_and_a_firewall_that_rejects_the_rest_in_userspace() {
    three_cards_behind_a_firewall(Mode::Userspace);
}
