//! Calls come and go: hold, many in a row, and nothing left of them.

use std::fs;

use towpath_tests::calls::Flow;
use towpath_tests::clock;
use towpath_tests::demo::config::DOMAIN;
use towpath_tests::lab::{Parts, Role, plan};
use towpath_tests::observer::Observer;
use towpath_tests::phone::{Phone, Settings};

use super::stage::{LIMIT, Mode, Stage};

/// Calls one after the other.
const CALLS: usize = 50;

fn parts() -> Parts {
    Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    }
}

/// Descriptors the daemon has open.
fn descriptors(stage: &Stage) -> usize {
    let id = stage.towpath.id().unwrap();
    fs::read_dir(format!("/proc/{id}/fd")).unwrap().count()
}

fn calls_in_a_row(mode: Mode) {
    let stage = Stage::raise(mode, &parts());
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    stage.call(&c3, &c1, mode.path()).hang_up();
    stage.is_empty();
    let before = descriptors(&stage);
    for number in 0..CALLS {
        let (caller, callee) = if number % 2 == 0 {
            (&c3, &c1)
        } else {
            (&c1, &c3)
        };
        // Media in one of ten; set-up and end in all.
        if number % 10 == 0 {
            stage.call(caller, callee, mode.path()).hang_up();
        } else {
            let mut dialog = caller.call(callee).unwrap();
            caller.hang_up(callee, &mut dialog).unwrap();
        }
    }
    stage.is_empty();
    // The last clients of the API may still be on their way out; fifty calls would not be.
    let mut left = 0;
    clock::until("descriptors closed", LIMIT, || {
        left = descriptors(&stage);
        Ok((left <= before).then_some(()))
    })
    .unwrap_or_else(|e| panic!("{e:#}: {left} open, {before} before"));
    let answer = stage.towpath.get("/api/v1/networks").unwrap();
    let networks = answer["networks"].as_array().unwrap();
    assert_eq!(networks.len(), 3);
    for network in networks {
        assert_eq!(network["pairs_used"], 0, "{network}");
    }
}

#[test]
fn fifty_calls_leave_nothing_behind_in_the_kernel() {
    calls_in_a_row(Mode::Xdp);
}

#[test]
fn fifty_calls_leave_nothing_behind_in_userspace() {
    calls_in_a_row(Mode::Userspace);
}

fn real_phone(stage: &Stage, role: Role, user: &str, edge: &str, auto_answer: bool) -> Phone {
    let settings = Settings {
        user: user.to_owned(),
        domain: DOMAIN.to_owned(),
        outbound: Some(format!("sip:{edge}:5060")),
        password: Some("not asked for".to_owned()),
        auto_answer,
        tone_hz: 440,
        video: None,
        srtp: false,
        ca: None,
    };
    let namespace = stage.lab.namespace(role).unwrap();
    let directory = stage.lab.directory(role.name()).unwrap();
    let phone = Phone::start(namespace, &directory, &settings).unwrap();
    phone.registered(LIMIT).unwrap();
    phone
}

fn hold_and_resume(mode: Mode) {
    let stage = Stage::raise(mode, &parts());
    let c1 = real_phone(&stage, Role::C1, "1001", plan::EDGE_WAN, true);
    let c3 = real_phone(&stage, Role::C3, "1003", plan::EDGE_LAN, false);
    let heard_by_c1 = Observer::start(stage.lab.namespace(Role::C1).unwrap(), "eth0").unwrap();
    let arrived = || -> u64 {
        let media = heard_by_c1.received().into_iter();
        media.map(|s| s.judgement.packets).sum()
    };
    let flows = || -> Vec<Flow> {
        let calls = stage.towpath.calls().unwrap().into_iter();
        calls.flat_map(|c| c.flows).filter(Flow::is_media).collect()
    };
    let flowing = |what: &str| {
        let before = arrived();
        clock::until(what, LIMIT, || {
            let placed = flows().len() == 2 && flows().iter().all(|f| f.path == mode.path());
            Ok((placed && arrived() > before + 25).then_some(()))
        })
        .unwrap_or_else(|e| panic!("{e:#}: {:#?}", flows()));
    };
    c3.call(&format!("sip:1001@{DOMAIN}"), LIMIT).unwrap();
    flowing("media after the answer");
    let ports: Vec<String> = flows().into_iter().map(|f| f.at).collect();
    for _ in 0..2 {
        c3.forget_events();
        c3.hold().unwrap();
        c3.remote_sdp(LIMIT).unwrap();
        // The one on hold hears no more of the other.
        let mut last = arrived();
        let mut quiet_since = clock::now();
        clock::until("silence", LIMIT, || {
            let now = arrived();
            if now != last {
                (last, quiet_since) = (now, clock::now());
            }
            Ok((quiet_since.elapsed().as_millis() > 300).then_some(()))
        })
        .unwrap();
        c3.forget_events();
        c3.resume().unwrap();
        c3.remote_sdp(LIMIT).unwrap();
        flowing("media after hold");
    }
    let after: Vec<String> = flows().into_iter().map(|f| f.at).collect();
    assert_eq!(after, ports, "a re-INVITE moved the ports");
    c3.hangup().unwrap();
    c1.closed(LIMIT).unwrap();
    stage.is_empty();
}

#[test]
fn hold_and_resume_keep_ports_and_path_in_the_kernel() {
    hold_and_resume(Mode::Xdp);
}

#[test]
fn hold_and_resume_keep_ports_and_path_in_userspace() {
    hold_and_resume(Mode::Userspace);
}
