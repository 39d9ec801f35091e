//! Row 4: the address outside changes under running calls.

use std::net::SocketAddr;
use std::time::Duration;

use towpath_tests::clock;
use towpath_tests::lab::Role;

use super::super::stage::{LAN, LIMIT, Mode, Stage, assert_whole};
use super::{OUTSIDE, PACKETS, PRIVATE, PUBLIC, behind_a_router, heard, names, port_map, told};

/// The address outside after the provider changed it.
const MOVED: &str = "198.51.100.2";

/// Row 4: the address outside changes. The next SDP carries the new one, the running call loses
/// nothing, and nothing is restarted.
fn row_4(mode: Mode) {
    let map = port_map(false);
    let stage = behind_a_router(mode, map, &[LAN, OUTSIDE]);
    let (inside, second) = (
        stage.phone(Role::C3, "1003"),
        stage.second_lan_phone("1004"),
    );
    let outside = stage.phone(Role::Outside, "1007");
    let host = stage.lab.namespace(Role::Outside).unwrap();
    host.addresses("eth0", &["198.51.100.8/24"]).unwrap();
    let running = stage.call(&outside, &inside, mode.path());
    let talk = running.talk();
    talk.hear(PACKETS, LIMIT).unwrap();
    stage.lab.move_port_map(&map, "198.51.100.2/24").unwrap();
    let late = stage.ua(Role::Outside, "1008", "198.51.100.8", MOVED);
    late.register().unwrap();
    // Read at start only, as it once was: the new address is told to nobody.
    let before = stage.set_up(&second, &late);
    assert_eq!(told(&before), [PRIVATE, PUBLIC], "before the change");
    assert_eq!(heard(&before)[1], 0);
    before.hang_up();

    reload(
        &stage,
        "advertise = \"198.51.100.2\"\naddress_change = \"ignore\"\n",
    );
    stage.advertises("outside", MOVED);
    // A mistake changes nothing of that.
    reload(&stage, "advertise = \"198.51.100\"\n");
    clock::until("the mistake to be refused", LIMIT, || {
        let status = stage.towpath.get("/api/v1/status")?;
        let refused = &status["config"]["refused"];
        Ok((!refused.is_null()).then_some(()))
    })
    .unwrap();
    assert_eq!(stage.number("config.generation"), 2);
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

/// Gives the network outside other lines and has the daemon read them.
fn reload(stage: &Stage, more: &'static str) {
    let mut config = stage.config.clone();
    config.networks[1].more = more;
    stage.towpath.configure(&config.toml()).unwrap();
    stage.towpath.reload().unwrap();
}

/// Row 4 again: those in a call are told too, and go on at the new address.
fn row_4_told(mode: Mode) {
    let map = port_map(false);
    let stage = behind_a_router(mode, map, &[LAN, OUTSIDE]);
    let inside = stage.phone(Role::C3, "1003");
    let outside = stage.phone(Role::Outside, "1007");
    let mut call = stage.call(&outside, &inside, mode.path());
    stage.lab.move_port_map(&map, "198.51.100.2/24").unwrap();
    reload(
        &stage,
        "advertise = \"198.51.100.2\"\naddress_change = \"reinvite\"\n",
    );
    let offer = outside.reoffered(&call.dialog.id).unwrap();
    let port = call.dialog.caller_sends_to.port();
    call.dialog.caller_sends_to = SocketAddr::new(MOVED.parse().unwrap(), port);
    assert_eq!(offer.media(), Some(call.dialog.caller_sends_to));
    // The router's standing mappings may take the phone's ports away from it: reports then come
    // back as after a rebinding, and they are rare, so that it takes a while.
    clock::until("reports both ways", REPORTS_LIMIT, || {
        let talk = call.talk();
        talk.hear(PACKETS, LIMIT)?;
        let heard = talk.finish()?;
        Ok(heard.iter().all(|h| h.reports.heard > 0).then_some(()))
    })
    .unwrap();
    stage.carries(&call, PACKETS, mode.path());
}

/// RTCP is taken to have moved after 12 s of silence.
const REPORTS_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn row_4_those_in_a_call_are_told_the_new_address_in_the_kernel() {
    row_4_told(Mode::Xdp);
}

#[test]
fn row_4_those_in_a_call_are_told_the_new_address_in_userspace() {
    row_4_told(Mode::Userspace);
}
