//! One build of the kernel program follows another under live media, and a bad one does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::programs::links::{FdLink, PinnedLink};
use common::flow::Flow;
use common::map::{ABI, FLOWS_DEFAULT};
use control::shell::kernel::{Attach, Interface, Kernel};
use towpath_tests::lab::{Lab, Parts, Role};
use towpath_tests::{clock, process};

use super::stage::{CORE, Config, LIMIT, Mode, Stage, assert_whole};

/// Restarts with another build.
const UPGRADES: usize = 20;
/// Times a link gets another program: there are three links.
const LINK_UPDATES: usize = 102;
const LINKS: usize = 3;
/// A hundred packets a second each way: a stream outlasts the verifier on a busy machine.
const EVERY: Duration = Duration::from_millis(10);
/// Packets each way after every change.
const PHASE: u64 = 25;

fn parts() -> Parts {
    Parts {
        nat: true,
        c3: true,
        ..Parts::default()
    }
}

/// The program of `cargo xtask ebpf --variants` with that name.
fn variant(name: &str) -> PathBuf {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf-variants");
    let object = base.join(format!("{name}.o"));
    assert!(
        object.exists(),
        "{}: missing; run `cargo xtask ebpf --variants`",
        object.display()
    );
    object
}

/// The ids of the programs in the pinned links, by link.
fn programs(config: &Config) -> Vec<(String, u32)> {
    let mut programs = Vec::new();
    for pin in fs::read_dir(config.pin_dir.join(format!("abi-{ABI}"))).unwrap() {
        let pin = pin.unwrap();
        let name = pin.file_name().into_string().unwrap();
        if name.starts_with("link-") {
            let link = FdLink::from(PinnedLink::from_pin(pin.path()).unwrap());
            programs.push((name, link.info().unwrap().program_id()));
        }
    }
    programs.sort();
    programs
}

fn restart_with(stage: &mut Stage, object: PathBuf) {
    stage.config.object = Some(object);
    stage.towpath.configure(&stage.config.toml()).unwrap();
    stage.restart();
}

#[test]
fn upgrades_and_downgrades_lose_nothing() {
    let mut stage = Stage::raise(Mode::Xdp, &parts());
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, "xdp");
    let talk = call.talk_every(EVERY);
    let builds = [variant("other"), process::object().unwrap()];
    let mut before = programs(&stage.config);
    for build in builds.iter().cycle().take(UPGRADES) {
        restart_with(&mut stage, build.clone());
        talk.hear(PHASE, LIMIT).unwrap();
        let now = programs(&stage.config);
        let changed = std::iter::zip(&before, &now).all(|(b, n)| b.0 == n.0 && b.1 != n.1);
        assert!(changed, "{before:?} {now:?}");
        before = now;
    }
    let heard = talk.finish().unwrap();
    assert_whole(&heard);
    eprintln!("{} packets each way, none lost", heard[0].sent);
}

#[test]
fn a_hundred_link_updates_lose_nothing() {
    let mut stage = Stage::raise(Mode::Xdp, &parts());
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, "xdp");
    let talk = call.talk_every(EVERY);
    stage.towpath.kill().unwrap();
    let objects = [variant("other"), process::object().unwrap()].map(|o| fs::read(o).unwrap());
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    edge.enter(|| replace(&stage.config, &objects)).unwrap();
    talk.hear(PHASE, LIMIT).unwrap();
    stage.restart();
    talk.hear(PHASE, LIMIT).unwrap();
    let heard = talk.finish().unwrap();
    assert_whole(&heard);
    eprintln!("{} packets each way, none lost", heard[0].sent);
}

/// Puts one object and the other into the links, as often as it takes.
fn replace(config: &Config, objects: &[Vec<u8>; 2]) {
    let interfaces: Vec<Interface> = config
        .networks
        .iter()
        .map(|network| Interface {
            name: network.interface.to_owned(),
            index: nix::net::if_::if_nametoindex(network.interface).unwrap(),
        })
        .collect();
    let locals = config.networks.iter().map(|n| n.address.parse().unwrap());
    let locals: Vec<_> = locals.collect();
    for object in objects.iter().cycle().take(LINK_UPDATES / LINKS) {
        let attach = Attach {
            object,
            pin_dir: &config.pin_dir,
            interfaces: &interfaces,
            native: true,
            flows_max: config.flows,
            locals: &locals,
        };
        let (kernel, adopted) = Kernel::start(&attach, clock::now()).unwrap();
        assert!(kernel.refused().is_none());
        assert!(adopted.len() >= 2, "{adopted:?}");
        assert_eq!(kernel.attached().count(), LINKS);
    }
}

#[test]
fn a_program_that_does_not_pass_its_test_does_not_take_over() {
    let mut stage = Stage::raise(Mode::Xdp, &parts());
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, "xdp");
    let talk = call.talk_every(EVERY);
    let before = programs(&stage.config);
    restart_with(&mut stage, variant("broken"));
    assert_eq!(programs(&stage.config), before);
    let status = stage.towpath.get("/api/v1/status").unwrap();
    assert_eq!(status["state"], "degraded");
    let warning = status["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("the kernel program that ran before goes on: the kernel program does not")
            && warning.contains("media: byte 22 comes out wrong"),
        "{warning}"
    );
    talk.hear(PHASE, LIMIT).unwrap();
    // The old program is still ours to command: a new call goes through it.
    let (c2, other) = (
        stage.phone(Role::C2, "1002"),
        stage.second_lan_phone("1004"),
    );
    let second = stage.call(&c2, &other, "xdp");
    stage.carries(&second, PHASE, "xdp");
    restart_with(&mut stage, variant("other"));
    talk.hear(PHASE, LIMIT).unwrap();
    assert_ne!(programs(&stage.config), before);
    let status = stage.towpath.get("/api/v1/status").unwrap();
    assert_eq!(status["state"], "ok");
    assert_whole(&talk.finish().unwrap());
}

#[test]
fn a_program_that_does_not_pass_its_test_is_no_first_one() {
    let stage = Stage::raise(Mode::Userspace, &Parts::default());
    let mut config = stage.config.clone();
    config.mode = "xdp";
    config.object = Some(variant("broken"));
    config.sip_port = 5062;
    let refusal = stage.refusal(&config, &[], None);
    assert_eq!(refusal.code, Some(69), "{}", refusal.said);
    assert!(
        refusal
            .said
            .contains("does not do in this kernel what it should"),
        "{}",
        refusal.said
    );
}

#[test]
fn a_program_of_another_abi_is_refused_and_media_goes_on() {
    let mut stage = Stage::raise(Mode::Xdp, &parts());
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, "xdp");
    let talk = call.talk_every(EVERY);
    let before = programs(&stage.config);
    stage.towpath.kill().unwrap();
    let mut config = stage.config.clone();
    config.object = Some(of_another_abi(&stage.lab));
    let refusal = stage.refusal(&config, &[], None);
    assert_eq!(refusal.code, Some(69), "{}", refusal.said);
    let expected = format!("its map FLOWS is not that of ABI {ABI}");
    assert!(refusal.said.contains(&expected), "{}", refusal.said);
    assert_eq!(programs(&stage.config), before);
    talk.hear(PHASE, LIMIT).unwrap();
    stage.restart();
    talk.hear(PHASE, LIMIT).unwrap();
    assert_whole(&talk.finish().unwrap());
}

/// The program with flows of four bytes more, as its map's definition says.
fn of_another_abi(lab: &Lab) -> PathBuf {
    let mut object = fs::read(process::object().unwrap()).unwrap();
    let bytes = u32::try_from(size_of::<Flow>()).unwrap();
    // Array, key, value, capacity (linux/bpf.h, `bpf_map_type`; the object's map definitions).
    let definition = |value: u32| [2, 4, value, FLOWS_DEFAULT].map(u32::to_le_bytes).concat();
    let (was, becomes) = (definition(bytes), definition(bytes + 4));
    let at = object.windows(was.len()).position(|w| w == was).unwrap();
    object[at..at + was.len()].copy_from_slice(&becomes);
    let path = lab.directory("objects").unwrap().join("another-abi.o");
    fs::write(&path, object).unwrap();
    path
}

/// Two of three interfaces have the new program when the third refuses it.
#[test]
fn a_takeover_that_stops_half_way_is_taken_back() {
    let mut stage = Stage::with(Mode::Xdp, &parts(), |config| config.networks.truncate(2));
    let (c1, c3) = (stage.phone(Role::C1, "1001"), stage.phone(Role::C3, "1003"));
    let call = stage.call(&c3, &c1, "xdp");
    let talk = call.talk_every(EVERY);
    let before = programs(&stage.config);
    assert_eq!(before.len(), 2);
    stage.towpath.kill().unwrap();
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    edge.accept_xdp("core").unwrap();
    let mut config = stage.config.clone();
    config.networks.push(CORE);
    config.object = Some(variant("other"));
    let refusal = stage.refusal(&config, &[], None);
    assert_eq!(refusal.code, Some(69), "{}", refusal.said);
    let expected = "interface core: another XDP program is attached";
    assert!(refusal.said.contains(expected), "{}", refusal.said);
    assert_eq!(programs(&stage.config), before);
    talk.hear(PHASE, LIMIT).unwrap();
    stage.restart();
    assert!(stage.known_flows() >= 2);
    talk.hear(PHASE, LIMIT).unwrap();
    assert_whole(&talk.finish().unwrap());
}
