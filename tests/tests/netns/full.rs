//! Tables filled to the brim, and asked for more.

use towpath_tests::clock;
use towpath_tests::crowd::Crowd;
use towpath_tests::lab::Role;

use super::soak::{assert_whole, calls, parts, whole};
use super::stage::{LIMIT, Mode, Stage};
use std::time::Duration;

/// What there is room for, in calls of four flows.
fn calls_max() -> usize {
    if whole() { 500 } else { 20 }
}

/// And how many are asked for beyond: a fifth.
fn more() -> usize {
    calls_max() / 5
}

/// Ports of a network, as there may be more calls than it has pairs for.
const PORTS: (u16, u16) = (20_000, 59_999);

const EVERY: Duration = Duration::from_millis(50);

/// As many packets a second, however many streams there are.
fn every() -> Duration {
    if whole() { EVERY * 4 } else { EVERY }
}

/// What does not fit the kernel's table goes on in userspace and says why; what is in it is not
/// touched.
#[test]
fn a_full_flow_table_touches_nobody() {
    let stage = Stage::with(Mode::Xdp, &parts(), |config| {
        config.flows = u32::try_from(calls_max() * 4).unwrap();
        for network in &mut config.networks {
            network.ports = PORTS;
        }
    });
    let (c3, mcu) = (
        stage.phone(Role::C3, "1003"),
        stage.phone(Role::Mcu, "9001"),
    );
    let mut live = calls(&stage, &c3, &mcu, calls_max());
    let crowd = Crowd::start(&c3, &mcu, &live, every()).unwrap();
    crowd.hear(5, LIMIT).unwrap();
    // Not one slot is left.
    assert_eq!(stage.number("flows.kernel"), calls_max() as u64 * 4);
    let late: Vec<_> = (0..more()).map(|_| c3.call(&mcu).unwrap()).collect();
    crowd.hear(10, LIMIT).unwrap();
    assert_eq!(stage.number("flows.kernel"), calls_max() as u64 * 4);
    let sum = crowd.finish().unwrap();
    eprintln!("{} calls live, {} more: {sum:?}", live.len(), late.len());
    assert_whole(sum);
    // Userspace carries the others.
    let crowd = Crowd::start(&c3, &mcu, &late, every()).unwrap();
    crowd.hear(10, LIMIT).unwrap();
    crowd.finish().unwrap();
    let mut user = 0;
    for flow in stage.towpath.get("/api/v1/calls").unwrap()["calls"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|call| call["flows"].as_array().unwrap())
        .filter(|flow| flow["path"] == "user")
    {
        assert_eq!(
            flow["why"], "the flow table is full: raise datapath.flows",
            "{flow}"
        );
        user += 1;
    }
    assert!(user >= more() * 2, "{user}");
    let said = "the kernel takes no more flows";
    let log = std::fs::read_to_string(stage.towpath.log()).unwrap();
    assert_eq!(log.matches(said).count(), 1, "{log}");
    let status = stage.towpath.get("/api/v1/status").unwrap();
    let warning = format!("{user} flows are in userspace, as the flow table is full; raise ");
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains(&warning), "{warnings}");
    // Who waits for a place takes it when another call ends.
    for dialog in live.iter_mut().take(more()) {
        c3.hang_up(&mcu, dialog).unwrap();
    }
    let all = calls_max() as u64 * 4;
    clock::until("every flow in the kernel", LIMIT, || {
        Ok((stage.number("flows.kernel") == all && stage.number("flows.user") == 0).then_some(()))
    })
    .unwrap();
    assert_eq!(stage.towpath.get("/api/v1/status").unwrap()["state"], "ok");
}

/// So few that one shard has them all: where several share a range, the first to run out refuses.
const PAIRS: usize = 20;

/// Every port pair of a network is taken: the next calls are refused, and say so.
#[test]
fn a_call_without_ports_is_refused_and_touches_nobody() {
    let stage = Stage::with(Mode::Xdp, &parts(), |config| {
        for network in &mut config.networks {
            network.ports.1 = network.ports.0 + u16::try_from(PAIRS * 2).unwrap() - 1;
        }
    });
    let (c3, mcu) = (
        stage.phone(Role::C3, "1003"),
        stage.phone(Role::Mcu, "9001"),
    );
    let live = calls(&stage, &c3, &mcu, PAIRS);
    let crowd = Crowd::start(&c3, &mcu, &live, EVERY).unwrap();
    crowd.hear(5, LIMIT).unwrap();
    for _ in 0..PAIRS / 5 {
        c3.send(&c3.invite("9001")).unwrap();
        let answer = c3.response("INVITE", 1).unwrap();
        assert_eq!(answer.status(), Some(503), "{}", answer.start);
    }
    crowd.hear(10, LIMIT).unwrap();
    assert_whole(crowd.finish().unwrap());
    let status = stage.towpath.get("/api/v1/status").unwrap();
    assert_eq!(status["state"], "degraded");
    let warnings = status["warnings"].to_string();
    let expected = format!("{PAIRS} of {PAIRS} port pairs are in use");
    assert!(warnings.contains(&expected), "{warnings}");
}
