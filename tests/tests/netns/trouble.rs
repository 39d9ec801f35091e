//! The trouble book: what once went wrong at a site, row by row. Each scenario runs twice, with
//! what solves it and without; without it the trouble must appear.

#[path = "trouble/change.rs"]
mod change;
#[path = "trouble/floor.rs"]
mod floor;
#[path = "trouble/media.rs"]
mod media;

use std::net::SocketAddr;
use std::time::Duration;

use towpath_tests::demo::config::DOMAIN;
use towpath_tests::lab::{Parts, PortMap, Role, plan};
use towpath_tests::ua::{Message, Ua};

use super::stage::{Between, CORE, LAN, Mode, Net, Stage, WAN};

/// Packets each way that have to arrive, each once.
const PACKETS: u64 = 100;

/// Long enough for a packet that gets through at all.
const SILENCE: Duration = Duration::from_millis(600);

/// What the router maps, port by port.
const MAPPED: (u16, u16) = (21_000, 21_199);

/// The LAN's own address, and the one outside.
const PRIVATE: &str = plan::EDGE_LAN;
const PUBLIC: &str = "198.51.100.1";

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

/// Row 11: does the address in SDP decide with what an account is registered, or the packet's? Does
/// a router's setting decide whom a request belongs to? `explain` answers for what is registered
/// now, and the answer changes with the rule. (`explain` has the whole chain.)
fn row_11(mode: Mode) {
    let raise = |outside| behind_a_router(mode, port_map(true), &[LAN, outside]);
    let explained = |stage: &Stage, aor: &str| {
        let path = format!("/api/v1/registrations/{aor}@{DOMAIN}/explain");
        let answer = stage.towpath.get(&path).unwrap();
        let words = answer["bindings"][0]["answer"].to_string();
        let steps = answer["bindings"][0]["steps"].as_array().unwrap();
        let step = steps.iter().find(|step| step["topic"] == "network");
        (words, step.unwrap().clone())
    };
    let router = plan::ip(plan::PORT_MAP_LAN);
    let stage = raise(Net {
        more: "advertise = \"198.51.100.1\"\nsource_rewriting_gateways = [\"10.1.0.254\"]\n",
        ..OUTSIDE
    });
    let (inside, _outside) = (
        stage.phone(Role::C3, "1003"),
        stage.phone(Role::Outside, "1007"),
    );
    let (words, network) = explained(&stage, "1007");
    let from = format!("is registered with {router}:");
    for said in [&from, "198.51.100.7:5060", "SDP has no part", PUBLIC] {
        assert!(words.contains(said), "{said} in {words}");
    }
    assert_eq!(network["decision"], "outside", "{network}");
    let (words, network) = explained(&stage, "1003");
    let from = format!("is registered with {}", inside.media.ip());
    for said in [&from, PRIVATE] {
        assert!(words.contains(said), "{said} in {words}");
    }
    assert_eq!(network["decision"], "lan", "{network}");
    assert_eq!(network["losers"][0]["network"], "outside", "{network}");
    drop(stage);

    // The same packets, by another rule.
    let stage = raise(OUTSIDE);
    let _outside = stage.phone(Role::Outside, "1007");
    let (words, network) = explained(&stage, "1007");
    assert!(!words.contains(PUBLIC), "{words}");
    assert_eq!(network["decision"], "lan", "{network}");
    let rule = network["rule"].as_str().unwrap();
    assert!(rule.contains("10.1.0.0/24"), "{network}");
}

#[test]
fn row_11_why_an_address_is_what_it_is_can_be_asked_in_the_kernel() {
    row_11(Mode::Xdp);
}

#[test]
fn row_11_why_an_address_is_what_it_is_can_be_asked_in_userspace() {
    row_11(Mode::Userspace);
}
