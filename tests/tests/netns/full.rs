//! Tables filled to the brim, and asked for more.

use towpath_tests::crowd::Crowd;
use towpath_tests::lab::Role;

use super::soak::{assert_whole, calls, parts};
use super::stage::{LIMIT, Mode, Stage};
use std::time::Duration;

/// What the kernel has room for, in calls of four flows.
const CALLS: usize = 20;
const MORE: usize = CALLS / 5;
const EVERY: Duration = Duration::from_millis(50);

/// What does not fit the kernel's table goes on in userspace and says why; what is in it is not
/// touched.
#[test]
fn a_full_flow_table_touches_nobody() {
    let stage = Stage::with(Mode::Xdp, &parts(), |config| {
        config.flows = u32::try_from(CALLS * 4).unwrap();
    });
    let (c3, mcu) = (
        stage.phone(Role::C3, "1003"),
        stage.phone(Role::Mcu, "9001"),
    );
    let live = calls(&stage, &c3, &mcu, CALLS);
    let crowd = Crowd::start(&c3, &mcu, &live, EVERY).unwrap();
    crowd.hear(5, LIMIT).unwrap();
    let late: Vec<_> = (0..MORE).map(|_| c3.call(&mcu).unwrap()).collect();
    crowd.hear(10, LIMIT).unwrap();
    assert_whole(crowd.finish().unwrap());
    // Userspace carries the others.
    let crowd = Crowd::start(&c3, &mcu, &late, EVERY).unwrap();
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
    assert!(user >= MORE * 2, "{user}");
}

/// Every port pair of a network is taken: the next calls are refused, and say so.
#[test]
fn a_call_without_ports_is_refused_and_touches_nobody() {
    let stage = Stage::with(Mode::Xdp, &parts(), |config| {
        for network in &mut config.networks {
            network.ports.1 = network.ports.0 + u16::try_from(CALLS * 2).unwrap() - 1;
        }
    });
    let (c3, mcu) = (
        stage.phone(Role::C3, "1003"),
        stage.phone(Role::Mcu, "9001"),
    );
    let live = calls(&stage, &c3, &mcu, CALLS);
    let crowd = Crowd::start(&c3, &mcu, &live, EVERY).unwrap();
    crowd.hear(5, LIMIT).unwrap();
    for _ in 0..MORE {
        c3.send(&c3.invite("9001")).unwrap();
        let answer = c3.response("INVITE", 1).unwrap();
        assert_eq!(answer.status(), Some(503), "{}", answer.start);
    }
    crowd.hear(10, LIMIT).unwrap();
    assert_whole(crowd.finish().unwrap());
    let status = stage.towpath.get("/api/v1/status").unwrap();
    assert_eq!(status["state"], "degraded");
    let warnings = status["warnings"].to_string();
    assert!(
        warnings.contains("20 of 20 port pairs are in use"),
        "{warnings}"
    );
}
