//! The trouble book: what once went wrong at a site, row by row. Each scenario runs twice, with
//! what solves it and without; without it the trouble must appear.

use std::net::SocketAddr;
use std::time::Duration;

use towpath_tests::demo::config::DOMAIN;
use towpath_tests::lab::{Parts, PortMap, Role, plan};
use towpath_tests::sim::nat::Behaviour;
use towpath_tests::ua::{Message, Ua};

use super::stage::{Between, CORE, LAN, LIMIT, Mode, Net, Stage, WAN, assert_whole};

/// Packets each way that have to arrive, each once.
const PACKETS: u64 = 100;

/// Long enough for a packet that gets through at all.
const SILENCE: Duration = Duration::from_millis(600);

/// What the router maps, port by port.
const MAPPED: (u16, u16) = (21_000, 21_199);

/// The LAN's own address, and the one outside.
const PRIVATE: &str = plan::EDGE_LAN;
const PUBLIC: &str = "198.51.100.1";

/// The address outside after the provider changed it.
const MOVED: &str = "198.51.100.2";

/// How much higher a router numbers the ports outside.
const OFFSET: u16 = 10_000;

/// Whoever comes through the port-mapping router, at the same card and address as the LAN.
const OUTSIDE: Net = Net {
    name: "outside",
    peers: "0.0.0.0/0",
    ports: MAPPED,
    more: "advertise = \"198.51.100.1\"\n",
    ..LAN
};

fn port_map(rewrite_source: bool) -> PortMap {
    PortMap {
        to: PRIVATE.parse().unwrap(),
        sip_port: 5060,
        media_ports: MAPPED,
        offset: 0,
        rewrite_source,
    }
}

/// An edge in a LAN behind a port-mapping router.
fn behind_a_router(mode: Mode, map: PortMap, networks: &[Net]) -> Stage {
    let parts = Parts {
        c3: true,
        mcu: true,
        port_map: Some(map),
        ..Parts::default()
    };
    Stage::with(mode, &parts, |config| config.networks = networks.to_vec())
}

/// Both call each other, with media, each told the address it can reach.
fn each_is_told(stage: &Stage, a: (&Ua, &str), b: (&Ua, &str)) {
    for [(caller, at), (callee, other)] in [[a, b], [b, a]] {
        let call = stage.call(caller, callee, stage.mode.path());
        assert_eq!(told(&call), [at, other]);
        stage.carries(&call, PACKETS, stage.mode.path());
        call.hang_up();
    }
}

/// The addresses caller and callee were told to send media to.
fn told(call: &Between<'_>) -> [String; 2] {
    let dialog = &call.dialog;
    [dialog.caller_sends_to, dialog.callee_sends_to].map(|at| at.ip().to_string())
}

/// Both send; the packets the callee had of the caller, and the caller of the callee.
fn heard(call: &Between<'_>) -> [u64; 2] {
    let talk = call.talk();
    let both = talk.hear(1, SILENCE);
    let heard = talk.finish_counting().unwrap();
    assert!(both.is_err(), "media both ways: {heard:?}");
    heard
}

/// Row 1: the server in the LAN, clients in it, in another, and outside a port-mapping router; one
/// card serves inside and outside. Everyone is told an address he can reach.
fn row_1(mode: Mode) {
    let raise = |outside| behind_a_router(mode, port_map(false), &[LAN, outside, CORE]);
    let stage = raise(OUTSIDE);
    let inside = (&stage.phone(Role::C3, "1003"), PRIVATE);
    let outside = (&stage.phone(Role::Outside, "1007"), PUBLIC);
    let elsewhere = (&stage.phone(Role::Mcu, "9000"), plan::EDGE_CORE);
    for (a, b) in [(inside, outside), (elsewhere, outside), (inside, elsewhere)] {
        each_is_told(&stage, a, b);
    }
    stage.is_empty();
    drop(stage);

    let stage = raise(Net {
        more: "",
        ..OUTSIDE
    });
    let inside = stage.phone(Role::C3, "1003");
    let outside = stage.phone(Role::Outside, "1007");
    let call = stage.set_up(&inside, &outside);
    assert_eq!(told(&call), [PRIVATE, PRIVATE], "without `advertise`");
    assert_eq!(heard(&call), [0, 0]);
}

#[test]
fn row_1_everyone_is_told_an_address_he_can_reach_in_the_kernel() {
    row_1(Mode::Xdp);
}

#[test]
fn row_1_everyone_is_told_an_address_he_can_reach_in_userspace() {
    row_1(Mode::Userspace);
}

/// Row 2: the router rewrites the sources of what it maps as well, so that who is outside looks
/// like a neighbour.
fn row_2(mode: Mode) {
    let raise = |outside| behind_a_router(mode, port_map(true), &[LAN, outside]);
    let registered = |stage: &Stage| {
        let answer = stage.towpath.get("/api/v1/registrations").unwrap();
        let all = answer["registrations"].as_array().unwrap();
        let found = all.iter().find(|r| r["aor"] == "1007@towpath.test");
        let found = found.unwrap_or_else(|| panic!("{answer}"));
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (text("network"), text("seen"), text("claimed"))
    };
    let router = plan::ip(plan::PORT_MAP_LAN);
    let stage = raise(Net {
        more: "advertise = \"198.51.100.1\"\nsource_rewriting_gateways = [\"10.1.0.254\"]\n",
        ..OUTSIDE
    });
    let inside = (&stage.phone(Role::C3, "1003"), PRIVATE);
    let outside = (&stage.phone(Role::Outside, "1007"), PUBLIC);
    let (network, seen, claimed) = registered(&stage);
    assert_eq!(network, "outside");
    assert!(seen.starts_with(&format!("{router}:")), "seen {seen}");
    assert_eq!(claimed, "198.51.100.7:5060");
    each_is_told(&stage, inside, outside);
    stage.is_empty();
    drop(stage);

    let stage = raise(OUTSIDE);
    let inside = stage.phone(Role::C3, "1003");
    let outside = stage.phone(Role::Outside, "1007");
    assert_eq!(registered(&stage).0, "lan", "without the gateway's name");
    let call = stage.set_up(&inside, &outside);
    assert_eq!(told(&call), [PRIVATE, PRIVATE]);
    assert_eq!(heard(&call), [0, 0]);
}

#[test]
fn row_2_who_comes_through_a_rewriting_router_is_outside_in_the_kernel() {
    row_2(Mode::Xdp);
}

#[test]
fn row_2_who_comes_through_a_rewriting_router_is_outside_in_userspace() {
    row_2(Mode::Userspace);
}

/// Row 3: the router maps one range, and every port of every call is in it.
fn row_3(mode: Mode) {
    let raise = |outside| behind_a_router(mode, port_map(false), &[LAN, outside]);
    let stage = raise(OUTSIDE);
    let inside = stage.phone(Role::C3, "1003");
    let outside = stage.phone(Role::Outside, "1007");
    for (caller, callee) in [(&inside, &outside), (&outside, &inside)] {
        let call = stage.call(caller, callee, mode.path());
        let ports = stage.all_flows(&call).into_iter();
        let outside: Vec<_> = ports.filter(|f| f.network == "outside").collect();
        assert_eq!(outside.len(), 2);
        for flow in outside {
            let port = flow.at.rsplit(':').next().unwrap().parse().unwrap();
            assert!((MAPPED.0..=MAPPED.1).contains(&port), "{flow:?}");
        }
        stage.carries(&call, PACKETS, mode.path());
        call.hang_up();
    }
    stage.is_empty();
    drop(stage);

    let stage = raise(Net {
        ports: (22_000, 22_199),
        ..OUTSIDE
    });
    let inside = stage.phone(Role::C3, "1003");
    let outside = stage.phone(Role::Outside, "1007");
    let call = stage.set_up(&outside, &inside);
    assert_eq!(told(&call), [PUBLIC, PRIVATE]);
    // The router lets out what it does not let in: one hears, the other is thrown out.
    assert_eq!(heard(&call)[0], 0, "ports outside the mapped range");
}

#[test]
fn row_3_every_port_is_of_the_mapped_range_in_the_kernel() {
    row_3(Mode::Xdp);
}

#[test]
fn row_3_every_port_is_of_the_mapped_range_in_userspace() {
    row_3(Mode::Userspace);
}

/// Row 3 again: the router numbers the ports otherwise outside.
fn row_3_shifted(mode: Mode) {
    let map = PortMap {
        offset: OFFSET,
        ..port_map(false)
    };
    let raise = |outside| behind_a_router(mode, map, &[LAN, outside]);
    // The address that SIP is mapped from has another port as well.
    let cast = |stage: &Stage| {
        let namespace = stage.lab.namespace(Role::Outside).unwrap();
        let edge = SocketAddr::new(PUBLIC.parse().unwrap(), 5060 + OFFSET);
        let ip = plan::ip(plan::OUTSIDE).parse().unwrap();
        let outside = Ua::new(namespace, "1007", DOMAIN, ip, 10_000, edge).unwrap();
        outside.register().unwrap();
        [stage.phone(Role::C3, "1003"), outside]
    };
    let stage = raise(Net {
        more: "advertise = \"198.51.100.1:15060\"\nadvertise_ports = \"31000-31199\"\n",
        ..OUTSIDE
    });
    let [inside, outside] = cast(&stage);
    for (caller, callee) in [(&inside, &outside), (&outside, &inside)] {
        let call = stage.call(caller, callee, mode.path());
        let dialog = &call.dialog;
        let (told, said) = match caller.user.as_str() {
            "1003" => (dialog.callee_sends_to, &dialog.offered),
            _ => (dialog.caller_sends_to, &dialog.answered),
        };
        assert_eq!(told.ip().to_string(), PUBLIC);
        assert!((MAPPED.0 + OFFSET..=MAPPED.1 + OFFSET).contains(&told.port()));
        let contact = said.uri("Contact");
        assert!(contact.contains("198.51.100.1:15060"), "{contact}");
        stage.carries(&call, PACKETS, mode.path());
        call.hang_up();
    }
    stage.is_empty();
    drop(stage);

    let stage = raise(Net {
        more: "advertise = \"198.51.100.1:15060\"\n",
        ..OUTSIDE
    });
    let [inside, outside] = cast(&stage);
    let call = stage.set_up(&outside, &inside);
    assert_eq!(heard(&call)[0], 0, "without `advertise_ports`");
}

#[test]
fn row_3_ports_may_be_numbered_otherwise_outside_in_the_kernel() {
    row_3_shifted(Mode::Xdp);
}

#[test]
fn row_3_ports_may_be_numbered_otherwise_outside_in_userspace() {
    row_3_shifted(Mode::Userspace);
}

/// Row 4: the address outside changes. The next SDP carries the new one, the running call loses
/// nothing, and nothing is restarted.
fn row_4(mode: Mode) {
    let stage = behind_a_router(mode, port_map(false), &[LAN, OUTSIDE]);
    let router = stage.lab.namespace(Role::PortMap).unwrap();
    router.addresses("out", &[&format!("{MOVED}/24")]).unwrap();
    let (inside, second) = (
        stage.phone(Role::C3, "1003"),
        stage.second_lan_phone("1004"),
    );
    let outside = stage.phone(Role::Outside, "1007");
    let host = stage.lab.namespace(Role::Outside).unwrap();
    host.addresses("eth0", &["198.51.100.8/24"]).unwrap();
    let late = stage.ua(Role::Outside, "1008", "198.51.100.8", MOVED);
    late.register().unwrap();

    let running = stage.call(&outside, &inside, mode.path());
    let talk = running.talk();
    talk.hear(PACKETS, LIMIT).unwrap();
    // Read at start only, as it once was: the new address is told to nobody.
    let before = stage.set_up(&second, &late);
    assert_eq!(told(&before), [PRIVATE, PUBLIC], "before the change");
    assert_eq!(heard(&before)[1], 0);
    before.hang_up();

    let mut config = stage.config.clone();
    config.networks[1].more = "advertise = \"198.51.100.2\"\naddress_change = \"ignore\"\n";
    stage.towpath.configure(&config.toml()).unwrap();
    stage.towpath.reload().unwrap();
    stage.advertises("outside", MOVED);
    let call = stage.call(&second, &late, mode.path());
    assert_eq!(told(&call), [PRIVATE, MOVED], "after the change");
    assert!(
        !names(&call.dialog.offered, PUBLIC),
        "{:#?}",
        call.dialog.offered
    );
    stage.carries(&call, PACKETS, mode.path());
    call.hang_up();
    assert_whole(&talk.finish().unwrap());
    running.hang_up();
    stage.is_empty();
}

#[test]
fn row_4_the_next_sdp_carries_the_new_address_and_running_calls_go_on_in_the_kernel() {
    row_4(Mode::Xdp);
}

#[test]
fn row_4_the_next_sdp_carries_the_new_address_and_running_calls_go_on_in_userspace() {
    row_4(Mode::Userspace);
}

/// Row 4 again: those in a call are told too, and go on at the new address.
fn row_4_told(mode: Mode) {
    let stage = behind_a_router(mode, port_map(false), &[LAN, OUTSIDE]);
    let router = stage.lab.namespace(Role::PortMap).unwrap();
    router.addresses("out", &[&format!("{MOVED}/24")]).unwrap();
    let inside = stage.phone(Role::C3, "1003");
    let outside = stage.phone(Role::Outside, "1007");
    let mut call = stage.call(&outside, &inside, mode.path());
    let mut config = stage.config.clone();
    config.networks[1].more = "advertise = \"198.51.100.2\"\naddress_change = \"reinvite\"\n";
    stage.towpath.configure(&config.toml()).unwrap();
    stage.towpath.reload().unwrap();
    let offer = outside.reoffered(&call.dialog.id).unwrap();
    let port = call.dialog.caller_sends_to.port();
    call.dialog.caller_sends_to = SocketAddr::new(MOVED.parse().unwrap(), port);
    assert_eq!(offer.media(), Some(call.dialog.caller_sends_to));
    // The old address is gone.
    let closed = format!("add rule ip nat prerouting ip daddr {PUBLIC} drop");
    router.nft(&closed).unwrap();
    let talk = call.talk();
    talk.hear(PACKETS, LIMIT).unwrap();
    talk.finish().unwrap();
    stage.carries(&call, PACKETS, mode.path());
}

#[test]
fn row_4_those_in_a_call_are_told_the_new_address_in_the_kernel() {
    row_4_told(Mode::Xdp);
}

#[test]
fn row_4_those_in_a_call_are_told_the_new_address_in_userspace() {
    row_4_told(Mode::Userspace);
}

/// Row 5: who registered through the mapped address is told that address, wherever one is told.
/// (Clients drop messages of a server they do not know by the address in them.)
fn row_5(mode: Mode) {
    let raise = |outside| behind_a_router(mode, port_map(false), &[LAN, outside]);
    let messages = |stage: &Stage| {
        let inside = stage.phone(Role::C3, "1003");
        let outside = stage.phone(Role::Outside, "1007");
        // What it is offered when it is called, and answered when it calls.
        let mut called = stage.set_up(&inside, &outside);
        let bye = inside.hang_up(&outside, &mut called.dialog).unwrap();
        let calling = stage.set_up(&outside, &inside);
        [called.dialog.offered, calling.dialog.answered, bye]
    };
    let stage = raise(OUTSIDE);
    for message in messages(&stage) {
        let request = message.status().is_none();
        assert!(!names(&message, PRIVATE), "{message:#?}");
        let own = format!("{PUBLIC}:5060");
        if request {
            assert!(message.header("Via").contains(&own), "{message:#?}");
        }
        if message.method() != "BYE" {
            assert!(message.uri("Contact").contains(&own), "{message:#?}");
            assert_eq!(message.media().unwrap().ip().to_string(), PUBLIC);
        }
    }
    drop(stage);

    let stage = raise(Net {
        more: "",
        ..OUTSIDE
    });
    for message in messages(&stage) {
        let private = names(&message, PRIVATE);
        assert!(private, "without `advertise`: {message:#?}");
    }
}

/// Whether an address stands anywhere in a message, as a whole.
fn names(message: &Message, address: &str) -> bool {
    let text = String::from_utf8(message.wire()).unwrap();
    let mut words = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    words.any(|word| word == address)
}

#[test]
fn row_5_who_registered_through_the_mapped_address_is_told_no_other_in_the_kernel() {
    row_5(Mode::Xdp);
}

#[test]
fn row_5_who_registered_through_the_mapped_address_is_told_no_other_in_userspace() {
    row_5(Mode::Userspace);
}

/// Row 6: where media goes. A phone behind a NAT is answered along the path its packets came, and
/// a system whose media comes from another box than its signalling is believed.
fn row_6(mode: Mode) {
    let parts = Parts {
        boxes: vec![Behaviour::SYMMETRIC],
        c3: true,
        mcu: true,
        ..Parts::default()
    };
    let raise = |wan, core| {
        Stage::with(mode, &parts, |config| {
            let chosen = [(WAN, wan), (LAN, ""), (CORE, core)];
            config.networks = chosen.map(|(net, more)| Net { more, ..net }).to_vec();
        })
    };
    let cast = |stage: &Stage| {
        let (home, lan) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
        let mut split = stage.phone(Role::Mcu, "9000");
        let mcu = stage.lab.namespace(Role::Mcu).unwrap();
        mcu.addresses("eth0", &["10.9.0.21/24"]).unwrap();
        split
            .move_media(mcu, "10.9.0.21:10000".parse().unwrap())
            .unwrap();
        [home, lan, split]
    };
    for (wan, core) in [
        ("media = \"symmetric\"\n", "media = \"sdp\"\n"),
        ("media = \"auto\"\n", "media = \"auto\"\n"),
    ] {
        let stage = raise(wan, core);
        let [home, lan, split] = cast(&stage);
        for (caller, callee) in [
            (&home, &lan),
            (&lan, &home),
            (&lan, &split),
            (&split, &home),
        ] {
            let call = stage.call(caller, callee, mode.path());
            stage.carries(&call, PACKETS, mode.path());
            call.hang_up();
        }
        stage.is_empty();
    }

    let stage = raise("media = \"sdp\"\n", "media = \"symmetric\"\n");
    let [home, lan, split] = cast(&stage);
    let call = stage.set_up(&home, &lan);
    assert_eq!(heard(&call), [0, 0], "by SDP, to a phone behind a NAT");
    call.hang_up();
    let call = stage.set_up(&split, &lan);
    assert_eq!(heard(&call), [0, 0], "symmetric, with media on another box");
    call.hang_up();
}

#[test]
fn row_6_media_goes_by_sdp_or_back_along_its_path_in_the_kernel() {
    row_6(Mode::Xdp);
}

#[test]
fn row_6_media_goes_by_sdp_or_back_along_its_path_in_userspace() {
    row_6(Mode::Userspace);
}

/// Row 10: several cards, each with a LAN of its own: all are served, each from its own address.
/// (That two of them may have one range is shown in `twins`.)
fn row_10(mode: Mode) {
    let parts = Parts {
        c3: true,
        mcu: true,
        attacker: true, // an ordinary host here
        ..Parts::default()
    };
    let stage = Stage::raise(mode, &parts);
    let lan = (&stage.phone(Role::C3, "1003"), plan::EDGE_LAN);
    let wan = (&stage.phone(Role::Attacker, "1006"), plan::EDGE_WAN);
    let core = (&stage.phone(Role::Mcu, "9000"), plan::EDGE_CORE);
    for (a, b) in [(lan, wan), (wan, core), (core, lan)] {
        each_is_told(&stage, a, b);
    }
    stage.is_empty();
    drop(stage);

    let stage = Stage::with(mode, &parts, |config| config.networks = vec![WAN, CORE]);
    let wan = stage.phone(Role::Attacker, "1006");
    let lan = stage.ua(Role::C3, "1003", plan::ip(plan::C3_V4), plan::EDGE_LAN);
    lan.send(&lan.invite("1006")).unwrap();
    let silence = lan.receive(SILENCE, |_| true);
    assert!(silence.is_err(), "its card is not served: {silence:?}");
    let mcu = stage.phone(Role::Mcu, "9000");
    stage.call(&wan, &mcu, mode.path()).hang_up();
}

#[test]
fn row_10_every_card_is_served_from_its_own_address_in_the_kernel() {
    row_10(Mode::Xdp);
}

#[test]
fn row_10_every_card_is_served_from_its_own_address_in_userspace() {
    row_10(Mode::Userspace);
}
