//! The kernel path was asked for and cannot be had: refused, or done without and said so.

use std::path::PathBuf;

use towpath_tests::lab::{Lab, Parts, Role};
use towpath_tests::process::{self, Towpath};

use super::stage::{Config, Mode, Stage};

/// A command that takes away what loading and attaching need.
const POWERLESS: &[&str] = &[
    "setpriv",
    "--bounding-set=-sys_admin,-net_admin,-bpf,-perfmon",
    "--inh-caps=-sys_admin,-net_admin,-bpf,-perfmon",
];

type Situation = (
    &'static str,
    &'static [&'static str],
    fn(&mut Config),
    &'static str,
);

/// What stands in the way, and what the daemon must say about it.
const SITUATIONS: [Situation; 4] = [
    ("no object", &[], |c| c.object = None, "datapath.object"),
    (
        "a missing object",
        &[],
        |c| c.object = Some("/nonexistent/relay".into()),
        "/nonexistent/relay",
    ),
    ("no permission", POWERLESS, |_| {}, "CAP_BPF"),
    (
        "no BPF file system",
        &[],
        |c| c.pin_dir = PathBuf::from("/tmp/towpath-not-bpf"),
        "datapath.pin_dir /tmp/towpath-not-bpf: not on a BPF file system",
    ),
];

#[test]
fn xdp_that_cannot_be_had_is_refused() {
    let stage = Stage::raise(Mode::Userspace, &Parts::default());
    for (situation, under, change, expected) in SITUATIONS {
        let mut config = Config::new(&stage.lab, Mode::Xdp);
        config.sip_port = 5070; // the stage's own daemon has the other one
        change(&mut config);
        let refusal = stage.refusal(&config, under, None);
        let code = if under.is_empty() { 69 } else { 77 };
        assert_eq!(refusal.code, Some(code), "{situation}: {}", refusal.said);
        for text in [
            expected,
            "towpath.toml:",
            "the kernel path cannot be had",
            "= help: ",
        ] {
            assert!(refusal.said.contains(text), "{situation}: {}", refusal.said);
        }
    }
}

#[test]
fn auto_does_without_and_says_why() {
    for (situation, under, change, expected) in SITUATIONS {
        let parts = Parts {
            nat: true,
            c3: true,
            ..Parts::default()
        };
        let lab = Lab::raise(&parts).unwrap();
        let mut config = Config::new(&lab, Mode::Xdp);
        config.mode = "auto";
        change(&mut config);
        let directory = lab.directory("towpath").unwrap();
        let edge = lab.namespace(Role::Edge).unwrap();
        let binary = process::binary().unwrap();
        let towpath =
            Towpath::start_under(edge, under, &binary, &directory, &config.toml()).unwrap();
        let status = towpath.client(edge, &["status"]).unwrap();
        let said = String::from_utf8(status.stdout).unwrap();
        assert_eq!(status.status.code(), Some(1), "{situation}: {said}");
        for text in ["DEGRADED", expected] {
            assert!(said.contains(text), "{situation}: {said}");
        }
        let stage = Stage {
            towpath,
            lab,
            mode: Mode::Userspace,
            config,
        };
        let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
        let call = stage.call(&c3, &c1, "user");
        stage.carries(&call, 50, "user");
        call.hang_up();
        stage.is_empty();
    }
}

#[test]
fn a_missing_interface_is_a_mistake_in_the_file_in_every_mode() {
    let lab = Lab::raise(&Parts::default()).unwrap();
    for mode in ["xdp", "auto", "userspace"] {
        let mut config = Config::new(&lab, Mode::Xdp);
        config.mode = mode;
        config.networks[1].interface = "lann";
        let directory = lab.directory("towpath").unwrap();
        let edge = lab.namespace(Role::Edge).unwrap();
        let binary = process::binary().unwrap();
        let refusal =
            Towpath::refusal(edge, &[], &binary, &directory, &config.toml(), None).unwrap();
        assert_eq!(refusal.code, Some(78), "{mode}: {}", refusal.said);
        for text in ["towpath.toml:", "`lann`", "lan"] {
            assert!(refusal.said.contains(text), "{mode}: {}", refusal.said);
        }
    }
}

/// Everything a second daemon may have in common with the first.
#[test]
fn a_second_daemon_is_refused_and_harms_nothing() {
    let parts = Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    };
    let stage = Stage::raise(Mode::Xdp, &parts);
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, "xdp");
    let talk = call.talk();
    // One network less: were its kernel path set up, the call's flows would be gone.
    let mut other = stage.config.clone();
    other.networks.remove(0);
    let ours = stage.towpath.socket();
    let mut elsewhere = other.clone();
    elsewhere.sip_port = 5070;
    for (what, config, socket, expected) in [
        (
            "the same socket",
            &elsewhere,
            Some(ours),
            "another towpath is running",
        ),
        ("the same SIP port", &other, None, "cannot listen on udp:"),
        ("the same pins", &elsewhere, None, "datapath.pin_dir"),
    ] {
        let refusal = stage.refusal(config, &[], socket);
        assert_eq!(refusal.code, Some(69), "{what}: {}", refusal.said);
        assert!(refusal.said.contains(expected), "{what}: {}", refusal.said);
        talk.hear(100, super::stage::LIMIT).unwrap();
    }
    super::stage::assert_whole(&talk.finish().unwrap());
    stage.carries(&call, 100, "xdp");
    call.hang_up();
    stage.is_empty();
}
