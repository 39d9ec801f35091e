//! The daemon dies or is stopped, and media goes on.

use std::collections::BTreeSet;

use towpath_tests::calls::Flow;
use towpath_tests::lab::{Parts, Role};
use towpath_tests::process::{self, Towpath};

use super::stage::{Config, LIMIT, Mode, Stage, assert_whole};

/// Packets each way in every phase: before, while nobody watches, and after.
const PHASE: u64 = 400;

/// Two pairs of media ports in every network: the second call has to take the other one.
fn two_pairs(config: &mut Config) {
    config.media_timeout = "3s";
    for network in &mut config.networks {
        network.ports.1 = network.ports.0 + 3;
    }
}

fn ports(flows: &[Flow]) -> BTreeSet<String> {
    flows.iter().map(|f| f.at.clone()).collect()
}

fn media_outlives(end: fn(&mut Towpath)) {
    let parts = Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    };
    let mut stage = Stage::with(Mode::Xdp, &parts, two_pairs);
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let first = stage.call(&c3, &c1, "xdp");
    let taken = ports(&stage.flows(&first));
    let talk = first.talk();
    talk.hear(PHASE, LIMIT).unwrap();
    end(&mut stage.towpath);
    talk.hear(PHASE, LIMIT).unwrap();
    stage.restart();
    talk.hear(PHASE, LIMIT).unwrap();
    // They belong to their call again.
    assert_eq!(stage.number("flows.adopted"), 0);
    assert_eq!(stage.number("calls.now"), 1);

    // A new call gets none of the ports, although it has no others to choose from than one pair.
    let (c2, other) = (
        stage.phone(Role::C2, "1002"),
        stage.second_lan_phone("1004"),
    );
    let second = stage.call(&c2, &other, "xdp");
    let given = ports(&stage.flows(&second));
    assert_eq!(given.len(), 2);
    assert!(given.is_disjoint(&taken), "{given:?} and {taken:?}");
    stage.carries(&second, PHASE, "xdp");
    second.hang_up();

    let heard = talk.finish().unwrap();
    assert_whole(&heard);
    eprintln!("{} packets each way, none lost", heard.map(|h| h.sent)[0]);
    // Silent now: nobody hangs up.
    stage.becomes("calls.now", 0);
    stage.is_empty();
}

#[test]
fn media_outlives_sigkill() {
    media_outlives(|towpath| towpath.kill().unwrap());
}

#[test]
fn media_outlives_sigterm() {
    media_outlives(|towpath| towpath.stop().unwrap());
}

/// What is changed, how, and what the daemon must say.
type Case = (&'static str, fn(&mut Config), &'static str);

/// Starts the daemon with each change while media runs through what its predecessor left.
fn refuses_and_harms_nothing(cases: &[Case]) {
    let parts = Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    };
    let mut stage = Stage::raise(Mode::Xdp, &parts);
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, "xdp");
    let talk = call.talk();
    stage.towpath.kill().unwrap();
    for (case, change, expected) in cases {
        let mut config = stage.config.clone();
        change(&mut config);
        let refusal = stage.refusal(&config, &[], None);
        assert_eq!(refusal.code, Some(69), "{case}: {}", refusal.said);
        assert!(refusal.said.contains(expected), "{case}: {}", refusal.said);
        talk.hear(100, LIMIT).unwrap();
    }
    stage.restart();
    assert!(stage.known_flows() >= 2);
    talk.hear(100, LIMIT).unwrap();
    assert_whole(&talk.finish().unwrap());
}

#[test]
fn what_does_not_fit_the_running_maps_is_refused_and_media_goes_on() {
    refuses_and_harms_nothing(&[
        ("capacity", |c| c.flows = 2048, "(datapath.flows)"),
        (
            "object of something else",
            |c| c.object = Some(process::binary().unwrap()),
            "datapath.object",
        ),
        (
            "another directory",
            |c| c.pin_dir = c.pin_dir.with_file_name("other"),
            "another XDP program is attached",
        ),
    ]);
}
